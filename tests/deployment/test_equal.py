"""From audio to rating a predictor gives what the sweep predicted for unseen speakers, for every probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.speech_models import KINDS
from helpers.swept_voices import SweptVoices, swept_voices

from layerprobe.deployment.deploy import deploy
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.predictors.cut import blocks_needed, cut_encoder, save_encoder
from layerprobe.probe.predictors.fitting import MIXES, fit_head, read_swept
from layerprobe.probe.predictors.folder import ENCODER, read_predictor, write_predictor
from layerprobe.probe.predictors.held_out import held_out_column
from layerprobe.probe.predictors.predictor import load_predictor
from layerprobe.probe.results.run_folder import Predictions, read_predictions

WITHIN = 1e-5  # standard deviations of the ratings


@pytest.fixture(
    scope="module",
    params=["hubert", *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS if kind != "hubert")],
)
def voices(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SweptVoices:
    folder = tmp_path_factory.mktemp(request.param)
    return swept_voices(folder, kind=request.param, folds=3, mixes=MIXES, weighted_sum_seeds=2)


def ratings_from_audio(voices: SweptVoices, folder: Path) -> dict[str, dict[str, float]]:
    """Ratings of each utterance by the predictor of a folder."""
    predictor = load_predictor(folder, precision="float32")
    table = voices.manifest.table
    recordings = {u: soundfile.read(path) for u, path in zip(table["utterance_id"], table["path"], strict=True)}
    return {u: {t: r.value for t, r in predictor(*recording).items()} for u, recording in recordings.items()}


def test_each_fold_target_layer_and_mix_is_predicted_as_by_the_sweep(voices: SweptVoices, tmp_path: Path) -> None:
    swept, predictions = read_swept(voices.run), read_predictions(voices.run.path)
    (encoder,) = swept.caches
    layers = (*voices.cache.layers, *MIXES)
    plan = read_predictor(deploy(voices.run, tmp_path / "any", layers=1).folder).plan
    n_compared = 0
    for n_blocks in range(1, 4):
        needed = [k for k in layers if blocks_needed([k if k not in MIXES else "3"], n_blocks=3) == n_blocks]
        heads = {
            (target, layer, fold): fit_head(swept, encoder=encoder, target=target, layer=layer, fold=fold)
            for target in swept.plan.targets
            for layer in needed
            for fold in np.unique(predictions.fold)
        }
        folder = tmp_path / str(n_blocks)
        loaded = load_model(str(voices.encoder))
        cut_encoder(loaded, n_blocks)
        save_encoder(loaded, folder / ENCODER)
        renamed = tuple(replace(head, target=" ".join(key)) for key, head in heads.items())
        scales = {head.target: (1.0, 7.0) for head in renamed}
        write_predictor(folder, replace(plan, n_blocks=n_blocks), renamed, scales=scales)
        ratings = ratings_from_audio(voices, folder)
        for target, layer, fold in heads:
            column = held_out_column(swept, predictions, encoder=encoder, target=target, layer=layer)
            held_out, deviation = held_out_ratings(predictions, target, fold, column)
            for utterance, value in held_out.items():
                assert abs(ratings[utterance][f"{target} {layer} {fold}"] - value) < WITHIN * deviation
                n_compared += 1
    assert n_compared == len(layers) * np.isfinite(predictions.ratings).sum()


def held_out_ratings(predictions: Predictions, target: str, fold: str, column: int) -> tuple[dict[str, float], float]:
    """The sweep's predictions for the utterances of a fold, and the standard deviation of the ratings."""
    ratings = predictions.ratings[:, list(predictions.targets).index(target)]
    rows = (predictions.fold == fold) & np.isfinite(ratings)
    pairs = zip(predictions.utterance_id[rows], predictions.matched[rows, column], strict=True)
    return dict(pairs), float(np.nanstd(ratings))


def test_what_is_deployed_is_refitted_on_all_speakers(voices: SweptVoices, tmp_path: Path) -> None:
    found = deploy(voices.run, tmp_path / "p", layers={"arousal": 2, "valence": "uniform_mix"})
    swept = read_swept(voices.run)
    (encoder,) = swept.caches
    rows = {u: k for k, u in enumerate(voices.cache.utterance_ids)}
    ratings = ratings_from_audio(voices, found.folder)
    for target, layer in (("arousal", "2"), ("valence", "uniform_mix")):
        head = fit_head(swept, encoder=encoder, target=target, layer=layer)
        for utterance, row in rows.items():
            one = {k: voices.cache.read_layer(k, np.array([row])).astype(float) for k in head.layers}
            assert ratings[utterance][target] == pytest.approx(float(head(one)[0]), abs=1e-5)
