"""Sweeps with erasure: a planted concept is found and removed, an absent one is not, and nothing leaks."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.cache_rows import PLAN
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions, read_run
from layerprobe.probe.solvers.erased_ridge import SplitRidge
from layerprobe.probe.splits import Split, fold_splits
from layerprobe.probe.sweep.data.concepts import parse_erasures
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.tasks.concepts import MOST_DIRECTIONS, Concept, principal_components

N, DIM = 120, 12
QUICK = {"permutations": 2, "weighted_sum_seeds": 0, "controls": ("permuted",)}


def store(path, values, layers, poolings, **plan):
    """Write a cache of ``(n, n_layers, n_poolings, dim)``."""
    with CacheWriter(path, replace(PLAN, layers=layers, poolings=poolings, **plan), dim=values.shape[-1]) as writer:
        for k, row in enumerate(values):
            writer.append(f"u{k:03d}", f"hash {k}", row)
    return open_cache(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Arousal is loudness and a rest, valence the rest alone; both are in layer 0, the rest in layer 1."""
    folder, rng = tmp_path_factory.mktemp("erasure"), np.random.default_rng(1)
    loudness, rest = rng.normal(size=(2, N))
    noise = 0.5 * rng.normal(size=(N, 2, DIM))
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    layers = noise + (rest[:, None, None] * axes[1])
    layers[:, 0] += loudness[:, None] * axes[0]
    speech = store(folder / "speech.zarr", layers[:, :, None].astype(np.float32), ("0", "1"), ("mean",))
    acoustic = np.zeros((N, 3, 2, 4), dtype=np.float32)
    acoustic[:, 1, 0, 0], acoustic[:, 1, 1, 0] = 10 * loudness - 30, rng.normal(size=N)
    acoustic[4:, 0, 0, 2] = 0.6  # the voiced fraction; the first four utterances have no F0
    acoustic[:, 0, :, 0], acoustic[:, 2, 0, 0] = rng.normal(size=(N, 2)), rng.normal(size=N)
    kind = {"upstream": "acoustic"}
    acoustic = store(folder / "acoustic.zarr", acoustic, ("f0", "loudness", "duration"), ("mean", "std"), **kind)
    text = rng.normal(size=(N, 2, 1, 30)).astype(np.float32)
    text = store(folder / "text.zarr", text, ("0", "1"), ("mean",), upstream="text", text_column="transcript")
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{k:03d}" for k in range(N)], "path": "x.wav",
            "speaker_id": [f"s{k % 24}" for k in range(N)], "gender": ["", *("fm"[k % 24 % 2] for k in range(1, N))],
            "arousal": loudness + 0.5 * rest, "valence": rest,
            "transcript": [f"word {'a' * (k % 9)}" for k in range(N)],
        }
    )  # fmt: skip
    header = Header("planted", "1", "none", {t: Target(-100, 100) for t in ("arousal", "valence")})
    return folder, [speech], [acoustic, text], Manifest(folder / "m.csv", header, table)


WITHOUT = ["loudness,loudness+f0+speech_rate", "gender", "text,speaker,duration"]


@pytest.fixture(scope="module")
def run(corpus):
    folder, caches, concepts, manifest = corpus
    plan = plan_sweep(manifest, **QUICK)
    return sweep(caches, manifest, plan, out=folder / "run", without=WITHOUT, concepts=concepts, jobs=1)


def score(run, erased, target, layer="0", metric="r2", **keys):
    rows = run.scores[(run.scores["fold"] == "pooled") & (run.scores["control"] == "none")]
    for name, value in {"erased": erased, "target": target, "layer": layer, "metric": metric, "probe": "ridge"}.items():
        rows = rows[rows[name] == value]
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    return float(rows["value"].iloc[0])


def test_a_planted_concept_is_removed_and_the_rest_stays(run):
    assert score(run, "", "arousal") > 0.6
    assert score(run, "loudness", "arousal") < 0.35
    assert score(run, "", "valence") - score(run, "loudness", "valence") < 0.1
    randoms = [score(run, f"random {k} of loudness", "arousal") for k in range(5)]
    assert min(randoms) > score(run, "loudness", "arousal")
    assert abs(score(run, "", "valence", layer="1") - score(run, "loudness", "valence", layer="1")) < 0.1


def test_the_concept_alone_is_scored(run):
    assert score(run, "loudness", "arousal", layer="", baseline="concept_only") > 0.6
    assert score(run, "loudness", "valence", layer="", baseline="concept_only") < 0.1


def test_what_remains_of_concepts_is_scored(run):
    assert score(run, "loudness", "loudness", metric="concept_r_before") > 0.3
    for erased, concept in (("loudness", "loudness"), ("loudness+f0+speech_rate", "f0"), ("gender", "gender")):
        assert abs(score(run, erased, concept, metric="concept_r")) <= 0.02
    assert score(run, "loudness", "loudness", metric="concept_rank") == 2
    assert score(run, "loudness+f0+speech_rate", "f0", metric="concept_rank") == 5
    assert score(run, "loudness", "loudness", metric="concept_r_refit") < score(
        run, "loudness", "loudness", metric="concept_r_refit_before"
    )


def test_predictions_have_a_column_for_each_erasure(run):
    columns = read_predictions(run.path).columns
    names = {"loudness", "loudness+f0+speech_rate", "gender", "text", "speaker", "duration"}
    assert set(columns["erased"]) == {"", *names, *(f"random {k} of {name}" for name in names for k in range(5))}


def test_the_plan_states_what_was_erased(run):
    table = read_run(run.path).erasure
    assert [e["name"] for e in table["erasures"]] == ",".join(WITHOUT).split(",")
    known = {c["name"]: (c["kind"], c["n_known"]) for c in table["concepts"]}
    assert known["gender"] == ("classes", N - 1)
    assert known["loudness"] == ("numbers", N)
    assert known["f0"] == ("numbers", N - 4)  # without a voiced frame there is no F0
    assert len(table["caches"]) == 2
    (speakers,) = (c for c in table["concepts"] if c["name"] == "speaker")
    assert (speakers["kind"], speakers["columns"]) == ("classes", [])  # a run names no person in its plan
    assert not re.search(r"\bs\d+\b", (run.path / "plan.toml").read_text())


def test_plain_rows_are_those_of_a_sweep_without_erasure(run, corpus):
    folder, caches, _, manifest = corpus
    plain = sweep(caches, manifest, plan_sweep(manifest, **QUICK), out=folder / "plain", jobs=1)
    kept = run.scores[run.scores["erased"] == ""].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, plain.scores)
    assert plain.fingerprint != run.fingerprint
    assert plain.erasure == {}


def test_several_processes_give_the_same_scores(run, corpus):
    folder, caches, concepts, manifest = corpus
    plan = plan_sweep(manifest, **QUICK)
    again = sweep(caches, manifest, plan, out=folder / "jobs", without=WITHOUT, concepts=concepts, jobs=2)
    pd.testing.assert_frame_equal(again.scores, run.scores)


def test_the_ratings_of_held_out_speakers_change_no_prediction_of_them(run, corpus):
    folder, caches, concepts, manifest = corpus
    fold = read_predictions(run.path).fold == "0"
    table = manifest.table.copy()
    table.loc[fold, "arousal"] = table.loc[fold, "arousal"].to_numpy()[::-1]
    moved = replace(manifest, table=table)
    plan = plan_sweep(moved, **QUICK)
    other = sweep(caches, moved, plan, out=folder / "moved", without=["loudness"], concepts=concepts, jobs=1)
    found = []
    for one in (run, other):
        kept = read_predictions(one.path)
        columns = kept.columns
        (k,) = np.flatnonzero(
            (columns["erased"] == "loudness") & (columns["layer"] == "0") & (columns["target"] == "arousal")
        )
        found.append(kept.prediction[fold, k])
    np.testing.assert_array_equal(*found)


def test_components_of_the_text_are_those_of_the_training_rows(rng):
    x, train = rng.normal(size=(40, 60)), np.arange(30)
    moved = x.copy()
    moved[30:] *= 9
    np.testing.assert_array_equal(principal_components(x, train, 5)[:30], principal_components(moved, train, 5)[:30])
    centred = x[train] - x[train].mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[1][:5]
    np.testing.assert_allclose(np.linalg.norm(principal_components(x, train, 5)[:30], axis=0), expected)


def test_text_has_a_component_for_five_training_rows_and_no_more_than_the_most(rng):
    values, text = rng.normal(size=(300, 60)), np.full(40, "component")
    concept = Concept("text", tuple(text[:MOST_DIRECTIONS]), "", values, components=MOST_DIRECTIONS)
    few, many = (Split("0", np.arange(n), np.arange(n, 300), np.arange(n) % 2) for n in (100, 250))
    assert [concept.of_split(split).shape[1] for split in (few, many)] == [20, MOST_DIRECTIONS]


def test_an_absent_concept_removes_no_more_than_random_directions():
    fewest = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, concept = rng.normal(size=(96, 16)), rng.normal(size=(96, 2))
        y = x[:, :1] + rng.normal(size=(96, 1))
        errors = np.zeros(6)
        for split in fold_splits(np.arange(96) // 4, n_folds=3, n_inner_folds=2, rng=rng):
            ridge = SplitRidge(x, split, alphas=(0.1, 10.0))
            erased = [ridge.leace(concept), *(ridge.random(2, rng) for _ in range(5))]
            errors += [np.square(ridge.fit(y, erased=e).prediction - y[split.test]).sum() for e in erased]
        fewest += int(errors.argmax() == 0)
    assert fewest <= 18  # of 60 at a rate of 1/6: at most 18 in .998 of all


def test_a_recorded_sweep_has_the_same_scores(run, corpus, monkeypatch):
    folder, _, _, manifest = corpus
    manifest.table.to_csv(folder / "m.csv", index=False)
    scales = [f"[targets.{t}]\nminimum = -100\nmaximum = 100" for t in ("arousal", "valence")]
    (folder / "m.toml").write_text("\n".join(['corpus = "planted"', 'version = "1"', 'licence = "none"', *scales]))
    (folder / "x.wav").touch()
    arguments = ["sweep", "--plan", str(run.path), "--out", str(folder / "again"), "--jobs", "1", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["layerprobe", *arguments])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(read_run(folder / "again").scores, run.scores)


def test_the_command_erases(corpus, monkeypatch):
    folder = corpus[0]
    caches = [str(folder / f"{name}.zarr") for name in ("speech", "acoustic")]
    arguments = ["sweep", caches[0], str(folder / "m.csv"), "--without", "duration,f0", "--concepts", caches[1]]
    arguments += ["--permutations", "2", "--weighted-sum-seeds", "0", "--out", str(folder / "command"), "--quiet"]
    monkeypatch.setattr(sys, "argv", ["layerprobe", *arguments])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {"duration", "f0"} <= set(read_run(folder / "command").scores["erased"])


def test_commas_separate_and_a_plus_joins():
    assert parse_erasures(["f0, text", "f0+text", "text"]) == (("f0",), ("text",), ("f0", "text"))


@pytest.mark.parametrize(
    ("without", "chosen", "column", "message"),
    [
        (["pitch"], [], {}, r"concept 'pitch' can't be erased.*LP590"),
        (["loudness"], [], {}, r"Erasing loudness takes acoustic features.*LP591"),
        (["text"], ["acoustic"], {}, r"Erasing text takes embeddings.*LP591"),
        (["gender"], [], {"gender": ""}, r"No utterance has a gender.*LP592"),
        (["speech_rate"], ["acoustic"], {"transcript": ""}, r"No utterance has a transcript.*LP592"),
        (["gender"], [], {"gender": "f"}, r"gender \(column gender of the manifest\) is known of .*LP593"),
        ([], ["acoustic"], {}, r"nothing is erased.*LP594"),
        (["text"], ["text.zarr@9"], {}, r"has no layer '9'.*LP594"),
    ],
)
def test_what_cannot_be_erased_is_refused(corpus, tmp_path, without, chosen, column, message):
    folder, caches, _, manifest = corpus
    concepts = [folder / (name if "." in name else f"{name}.zarr") for name in chosen]
    manifest = replace(manifest, table=manifest.table.assign(**column))
    with pytest.raises(InputError) as refused:
        sweep(caches, manifest, plan_sweep(manifest, **QUICK), out=tmp_path / "run", without=without, concepts=concepts)
    assert pd.Series([f"{refused.value.message} {refused.value.code}"]).str.contains(message).all()
