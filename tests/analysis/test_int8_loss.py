"""What 8 bits change of a predictor's scores is measured on speakers that its heads were not fitted on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.documented_formats import differences
from helpers.predictors import write_small_predictor
from helpers.speech_models import save_model, small_model
from helpers.voices import voice, write_table

from layerprobe import extract, load_encoder, plan_sweep, read_manifest, read_run, sweep
from layerprobe.analysis.int8_loss import int8_losses, int8_sentences, measure_int8_loss
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import ccc
from layerprobe.probe.predictors import unseen
from layerprobe.probe.predictors.fitting import fit_head, read_swept
from layerprobe.probe.predictors.folder import SavedPredictor, read_predictor, write_predictor
from layerprobe.probe.predictors.onnx import ExportedFile, ExportedPredictor, export_predictor
from layerprobe.probe.predictors.unseen import (
    SampledAudio,
    UnseenRatings,
    encoder_of,
    probed_layer,
    rate_unseen,
    sample_speakers,
)
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.data.inputs import row_indices


def test_the_loss_is_the_difference_of_two_concordances() -> None:
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(12), 8)
    ratings = rng.normal(4, 1, size=96)
    better, worse = ratings + rng.normal(0, 0.5, size=96), ratings + rng.normal(0, 1.5, size=96)
    (found,) = int8_losses([UnseenRatings("arousal", ratings, speakers + 5, {"float32": better, "int8": worse})])
    assert (found["n_utterances"], found["n_speakers"]) == (96, 12)
    assert found["ccc_float32"] == pytest.approx(ccc(ratings, better))
    assert found["ccc_int8"] == pytest.approx(ccc(ratings, worse))
    assert found["difference"] == pytest.approx(ccc(ratings, worse) - ccc(ratings, better))
    assert found["low"] < found["difference"] < found["high"] < 0
    assert found["largest_change"] == pytest.approx(np.abs(worse - better).max())
    (same,) = int8_losses([UnseenRatings("arousal", ratings, speakers, {"float32": better, "int8": better})])
    assert (same["difference"], same["largest_change"]) == (0, 0)
    (sentence,) = int8_sentences({"not_measured": "", "unit": "session", "losses": [found]})
    assert "CCC 0.8" in sentence
    assert "of 12 unseen sessions" in sentence


def test_a_sample_whose_ratings_are_all_the_same_has_no_loss() -> None:
    same, files = np.full(4, 3.0), {"float32": np.full(4, 3.0), "int8": np.full(4, 3.0)}
    losses = int8_losses([UnseenRatings("arousal", same, np.arange(4), files)])
    assert [losses[0][name] for name in ("ccc_float32", "ccc_int8", "difference", "low")] == [None] * 4
    assert "NaN" not in json.dumps(losses)
    (sentence,) = int8_sentences({"not_measured": "", "unit": "session", "losses": losses})
    assert sentence.startswith("arousal: the ratings of the sample are all the same, so it has no CCC, on 4 utterances")


def test_whole_speakers_are_sampled() -> None:
    speakers = np.array([3, 3, 3, 1, 1, 2, 7, 7])
    for seed in range(20):
        rows = sample_speakers(speakers, n_utterances=5, rng=np.random.default_rng(seed))
        assert len(rows) <= 5
        for one in np.unique(speakers[rows]):
            assert np.sum(speakers[rows] == one) == np.sum(speakers == one)
        left = set(speakers) - set(speakers[rows])
        assert all(np.sum(speakers == one) > 5 - len(rows) for one in left)  # none of the others would fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a sweep over 24 recordings of twelve speakers, whose pitch is their arousal."""
    import soundfile

    folder = tmp_path_factory.mktemp("swept")
    save_model(small_model("hubert"), folder / "encoder")
    rows = []
    for i in range(24):
        soundfile.write(folder / f"s{i}.wav", voice(0.4, pitch=80 + 7 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i:02}", "path": f"s{i}.wav", "speaker_id": f"t{i % 12}", "arousal": 1 + i / 4})
    write_table(folder, rows, targets=("arousal",))
    manifest = read_manifest(folder / "my.csv")
    extract(manifest, load_encoder(str(folder / "encoder")), folder / "h.zarr")
    plan = plan_sweep(manifest, folds=3, permutations=1, weighted_sum_seeds=1, mixes=("uniform_mix",))
    sweep([folder / "h.zarr"], manifest, plan, out=folder / "run")
    return folder / "run"


def deployed(run: Path, folder: Path, layer: str) -> SavedPredictor:
    """A predictor of that run, with the head of a layer or a mix."""
    read = read_run(run)
    swept = read_swept(read)
    saved = read_predictor(write_small_predictor(folder, n_blocks=3))
    (encoder,) = swept.caches
    plan = replace(saved.plan, run=read.fingerprint, weights=swept.cache(encoder).plan.weights)
    head = fit_head(swept, encoder=encoder, target="arousal", layer=layer)
    write_predictor(saved.folder, plan, (head,), scales={"arousal": (1.0, 7.0)})
    return read_predictor(saved.folder)


@pytest.mark.parametrize("layer", ["2", "uniform_mix"])
def test_unseen_ratings_are_the_held_out_predictions_of_the_sweep(run: Path, tmp_path: Path, layer: str) -> None:
    saved, swept, held_out = deployed(run, tmp_path, layer), read_swept(read_run(run)), read_predictions(run)
    (cache,) = swept.caches.values()
    rows = np.array([1, 4, 5, 9, 20])
    vectors = np.stack([cache.read_layer(k, row_indices(cache, swept.dataset)[rows]) for k in saved.heads[0].layers], 1)
    (rated,) = rate_unseen(SampledAudio(rows, {"float32": vectors}, 0, ""), saved, swept)
    columns, probe = held_out.columns, "ridge" if layer == "2" else layer
    (column,) = columns.index[
        (columns.probe == probe)
        & (columns.control == "none")
        & columns.layer.isin([layer, "all"])
        & (columns.target == "arousal")
    ]
    order = np.argsort(rated.ratings)
    expected = held_out.matched[rows][np.argsort(held_out.ratings[rows, 0]), column]
    assert rated.predictions["float32"][order] == pytest.approx(expected, abs=1e-4)
    assert sorted(rated.ratings) == pytest.approx(sorted(held_out.ratings[rows, 0]))


def test_a_predictor_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    saved, swept = deployed(run, tmp_path, "2"), read_swept(read_run(run))
    with pytest.raises(
        InputError, match=r"is of the run 0000 and the encoder hubert .*Name that run with --run\."
    ) as one:
        encoder_of(replace(saved, plan=replace(saved.plan, run="0000")), swept)
    assert one.value.code == "LP933"
    other = replace(saved.heads[0], coefficients=1.01 * saved.heads[0].coefficients)
    with pytest.raises(InputError, match=r"the head of arousal is not the one that .* gives for layer 2") as another:
        probed_layer(other, swept, encoder=encoder_of(saved, swept))
    assert another.value.code == "LP934"


@pytest.mark.long
def test_the_loss_is_written_next_to_the_files(run: Path, tmp_path: Path) -> None:
    saved, swept = deployed(run, tmp_path, "2"), read_swept(read_run(run))
    exported = export_predictor(saved.folder, tmp_path / "avd.onnx", int8=True)
    found = measure_int8_loss(exported, swept)
    scores = read_run(run).scores
    of_layer = scores[(scores.layer == "2") & (scores.metric == "ccc_matched") & (scores.control == "none")]
    (pooled,) = of_layer[of_layer.fold == "pooled"]["value"]
    (loss,) = found["losses"]
    assert loss["ccc_float32"] == pytest.approx(pooled, abs=1e-4)
    assert 0 < abs(loss["ccc_int8"] - pooled) < 0.1
    assert (found["unit"], found["n_sampled"], found["n_unread"], found["not_measured"]) == ("speaker", 24, 0, "")
    described = json.loads(exported.description.read_text(encoding="utf-8"))
    assert described["int8"] == found
    assert differences("NAME.onnx.json", list(described)) == {"undocumented": [], "missing": []}


@pytest.mark.parametrize(
    ("swept", "reason"),
    [(False, "no run was named"), (True, r"no recording of .*my\.csv could be read \(first: u00: ")],
)
def test_a_loss_that_was_not_measured_is_stated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: bool, reason: str
) -> None:
    saved = deployed(run, tmp_path, "2")
    (tmp_path / "avd.onnx.json").write_text("{}", encoding="utf-8")
    file = ExportedFile(tmp_path / "avd.onnx", 0, 0.0, 0.0)
    exported = ExportedPredictor(file, file, tmp_path / "avd.onnx.json", saved)
    data = read_swept(read_run(run))
    data.dataset.rows["path"] = "gone.wav"
    monkeypatch.setattr(unseen, "OnnxSession", lambda _: None)  # that no recording reaches
    found = measure_int8_loss(exported, data if swept else None)
    assert re.match(reason, found["not_measured"])
    assert int8_sentences(found) == [f"The loss of CCC by 8 bits was not measured: {found['not_measured']}."]
    assert json.loads(exported.description.read_text(encoding="utf-8"))["int8"]["losses"] == []
