"""Targets that follow exactly from others, from the transcript, or are constant up to rounding: none is scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.checks import objections
from helpers.planted import Log, quick, store

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.study import study
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.sweep import sweep

SIZE, NAMES = 80, ("arousal", "valence", "dominance")
RELATIONS = {
    "a copy": lambda a, _: a,
    "8 minus it": lambda a, _: 8 - a,
    "a sum": lambda a, v: 0.3 * a + 0.7 * v - 1,
    "a copy in other units": lambda a, _: 1000 + a / 7,
    "a copy with noise of a thousandth": lambda a, _: a + 3e-4 * np.sin(100 * a),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    x = np.random.default_rng(0).normal(size=(SIZE, 2, 3)).astype(np.float32)
    return store(tmp_path_factory.mktemp("exact") / "a.zarr", x, layers=("0", "1"))


def manifest_with(cache, **columns):
    x, rng = cache.read_layer("1", np.arange(SIZE)), np.random.default_rng(1)
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(SIZE)], "path": "x.wav"})
    table["speaker_id"] = [f"s{i % 10}" for i in range(SIZE)]
    for k, name in enumerate(NAMES):
        table[name] = 4 + x[:, k] + 0.3 * rng.normal(size=SIZE)
    header = Header("exact", "1", "none", {t: Target(-2000, 2000) for t in NAMES})
    return Manifest(cache.path.parent / "my.csv", header, table.assign(**columns))


def swept(cache, manifest, out, **options):
    log = Log()
    plan = quick(manifest, permutations=2, folds=3, **options)
    return sweep([cache], manifest, replace(plan, mixes=()), out=out, jobs=1, progress=log), log.lines


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_target_that_follows_from_others_has_no_residual(cache, tmp_path, relation):
    manifest = manifest_with(cache)
    table = manifest.table
    dominance = RELATIONS[relation](table["arousal"], table["valence"])
    run, lines = swept(cache, replace(manifest, table=table.assign(dominance=dominance)), tmp_path / "run")
    assert set(run.scores["target"]) == set(NAMES)
    assert run.targets == list(NAMES)
    reason = "dominance follows from arousal and valence: what they leave of it is rounding"
    assert run.plan["left_out"] == [{"target": "dominance_residual", "reason": reason}]
    assert f"dominance_residual is left out: {reason}." in lines


def test_a_report_states_what_was_not_scored_and_claims_nothing_of_it(cache, tmp_path):
    manifest = manifest_with(cache)
    copied = replace(manifest, table=manifest.table.assign(dominance=8 - manifest.table["arousal"]))
    swept(cache, copied, tmp_path / "run")
    assert read_run(tmp_path / "run").targets == list(NAMES)
    shown = study(tmp_path / "run")
    assert not {f.target for f in collect_findings(shown)} & {"dominance_residual"}
    expected = "dominance residual was not scored: dominance follows from arousal and valence: what they leave of it is"
    assert any(text.startswith(expected) for text in objections(shown))


def test_a_target_that_others_leave_something_of_keeps_its_residual(cache, tmp_path):
    manifest = manifest_with(cache)
    noise = np.random.default_rng(2).normal(size=SIZE)
    nearly = replace(manifest, table=manifest.table.assign(dominance=manifest.table["arousal"] + 0.01 * noise))
    run, _ = swept(cache, nearly, tmp_path / "run")
    assert run.targets == [*NAMES, "dominance_residual"]
    assert "dominance_residual" in set(run.scores["target"])


def test_a_target_that_follows_from_the_transcript_has_no_text_residual(cache, tmp_path):
    texts = ["red", "green", "blue"]
    which = np.arange(SIZE) // 10 % 3  # every speaker reads all of them
    manifest = manifest_with(cache, transcript=[texts[k] for k in which], valence=1.0 + which)
    run, lines = swept(cache, manifest, tmp_path / "run", residualize_text=True)
    assert "valence_text_residual" not in set(run.scores["target"])
    assert {"arousal_text_residual", "dominance_text_residual"} <= set(run.scores["target"])
    assert run.targets == [*NAMES, "dominance_residual", "arousal_text_residual", "dominance_text_residual"]
    assert any(
        line.startswith("valence_text_residual is left out: valence follows from the transcript") for line in lines
    )


def test_ratings_that_differ_by_rounding_alone_are_refused_as_constant(cache, tmp_path):
    rng = np.random.default_rng(3)
    manifest = manifest_with(cache, valence=4 + 1e-12 * rng.normal(size=SIZE))
    with pytest.raises(InputError, match=r"^valence has one value only in the training speakers"):
        swept(cache, manifest, tmp_path / "run")


def test_a_layer_of_rounding_scores_as_a_constant_one(tmp_path):
    """The last digits of the layer repeat the ratings: standardised, they would predict them."""
    rng = np.random.default_rng(4)
    ratings = 4 + rng.normal(size=SIZE)
    ulp = np.float32(6.1e-5) * np.sign(ratings - 4).astype(np.float32)
    scores = {}
    for name, layer in (("constant", np.zeros(SIZE, dtype=np.float32)), ("rounding", ulp)):
        x = np.float32(1000) + np.broadcast_to(layer[:, None, None], (SIZE, 2, 3)).astype(np.float32)
        cache = store(tmp_path / f"{name}.zarr", x, layers=("0", "1"))
        assert (np.ptp(x) > 0) == (name == "rounding")
        manifest = manifest_with(cache, arousal=ratings)
        run, _ = swept(cache, manifest, tmp_path / name, targets=("arousal",), controls=())
        rows = run.scores[(run.scores["fold"] == "pooled") & (run.scores["probe"] == "ridge")]
        scores[name] = rows.set_index(["layer", "metric"])["value"]
    pd.testing.assert_series_equal(scores["rounding"], scores["constant"], rtol=1e-4, atol=1e-6)
    assert scores["rounding"]["1", "ccc_matched"] < 0.1
