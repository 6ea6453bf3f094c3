"""Sweeps with erasure of unusual data: few rows, rare classes, missing values, sessions, float16, interruptions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.planted import store

from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

N, DIM = 72, 90  # fewer utterances than features
WITHOUT = ["duration,gender", "duration+gender"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sessions of two speakers; one speaker alone is of a third gender; women alone have ratings of dominance."""
    folder, rng = tmp_path_factory.mktemp("cases"), np.random.default_rng(0)
    speaker = np.arange(N) % 12
    gender = np.where(speaker == 0, "other", np.where(speaker % 2 == 0, "female", "male"))
    duration = rng.normal(size=N)
    x = rng.normal(size=(N, 2, DIM)) + 0.6 * np.outer(duration, rng.normal(size=DIM))[:, None]
    x[:, 1, -1] = 0.1  # does not vary
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(N)], "path": "x.wav"}).assign(
        speaker_id=[f"s{s}" for s in speaker],
        session=[f"session {s // 2}" for s in speaker],
        gender=np.where(np.arange(N) % 7 == 3, "", gender),
        arousal=duration + 0.3 * rng.normal(size=N),
        dominance=np.where(gender == "female", rng.normal(size=N), np.nan),
    )
    header = Header("cases", "1", "none", {t: Target(-100, 100) for t in ("arousal", "dominance")})
    values = np.stack([duration, duration**2], axis=1)[:, :, None]
    acoustic = store(folder / "acoustic.zarr", values, layers=("duration", "loudness"), upstream="acoustic")
    return folder, x, acoustic, Manifest(folder / "m.csv", header, table)


def swept(corpus, name, *, storage_dtype="float32", jobs=1, progress=None, **options):
    folder, x, acoustic, manifest = corpus
    path = folder / f"{storage_dtype}.zarr"
    cache = path if path.exists() else store(path, x, layers=("0", "1"), storage_dtype=storage_dtype)
    plan = plan_sweep(manifest, permutations=1, weighted_sum_seeds=0, controls=("permuted",), folds=3, **options)
    given = {"without": WITHOUT, "concepts": [acoustic], "jobs": jobs, "progress": progress}
    return sweep([cache], manifest, plan, out=folder / name, **given)


@pytest.fixture(scope="module")
def run(corpus):
    return swept(corpus, "run", group_by="session")


def values_of(run, metric, **keys):
    rows = run.scores[(run.scores["metric"] == metric) & (run.scores["control"] == "none")]
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    return rows["value"].to_numpy()


def test_nothing_of_a_concept_is_left_in_any_fold(run):
    for concept in ("duration", "gender"):
        before, after = (values_of(run, m, target=concept) for m in ("concept_r_before", "concept_r"))
        assert len(after) == len(before) > 0
        assert np.abs(after).max() <= 0.02
    assert values_of(run, "concept_r_before", target="duration", layer="0", fold="pooled").max() > 0.5


def test_a_target_of_one_gender_keeps_its_score_without_gender(run):
    kept = read_predictions(run.path)
    own, predictions = (kept.columns["target"] == "dominance") & (kept.columns["layer"] == "0"), []
    for erased in ("gender", "random 0 of gender"):
        (column,) = kept.prediction[:, (own & (kept.columns["erased"] == erased)).to_numpy()].T
        assert np.isfinite(column).sum() == np.isfinite(kept.ratings[:, 1]).sum() < N
        predictions.append(column)
    np.testing.assert_array_equal(*predictions)  # among women gender is constant, so that no direction is erased


def test_each_score_stands_once_though_targets_are_rated_on_different_utterances(run, corpus):
    assert not run.scores.duplicated([c for c in run.scores.columns if c != "value"]).any()
    alone = swept(corpus, "arousal", group_by="session", targets=("arousal",))
    for metric in ("concept_r_before", "concept_r_refit", "concept_rank"):  # of all utterances, which rate arousal
        np.testing.assert_array_equal(values_of(run, metric), values_of(alone, metric))
        assert len(values_of(run, metric)) > 0


def test_the_planted_concept_is_removed_with_fewer_rows_than_features(run):
    plain, erased, random = (
        values_of(run, "pearson", target="arousal", layer="0", erased=e, fold="pooled", probe="ridge", baseline="")[0]
        for e in ("", "duration", "random 0 of duration")
    )
    assert plain > 0.4
    assert random > 0.4
    assert erased < 0.2


def test_float16_caches_give_nearly_the_same_scores(run, corpus):
    short = swept(corpus, "float16", storage_dtype="float16", group_by="session")
    found = [values_of(r, "rmse", target="arousal", fold="pooled", layer="1") for r in (run, short)]
    np.testing.assert_allclose(*found, rtol=0.02)
    assert np.abs(values_of(short, "concept_r")).max() <= 0.02


class Impatient(NullProgress):
    """Interrupts once a layer without concepts is done."""

    def advance(self, amount=1.0, note=""):
        if note.endswith("layer 0, erasures"):
            raise KeyboardInterrupt


def test_an_interrupted_sweep_resumes_to_the_same_bits_in_several_processes(run, corpus):
    folder = corpus[0]
    with pytest.raises(KeyboardInterrupt):
        swept(corpus, "resumed", group_by="session", progress=Impatient())
    saved = [path.name for path in (folder / "resumed" / "partial").glob("*.npz")]
    assert sum("erased" in name for name in saved) == 1
    swept(corpus, "resumed", group_by="session", jobs=2)
    for name in ("scores.csv", "predictions.npz"):
        assert (folder / "resumed" / name).read_bytes() == (run.path / name).read_bytes(), name
