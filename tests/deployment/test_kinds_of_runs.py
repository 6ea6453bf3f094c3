"""Predictors of runs of all kinds: few speakers, sessions, a test split, unknown speakers, several encoders, chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import refused, run
from helpers.speech_models import load_exact, save_model, small_model
from helpers.swept_voices import swept_voices, write_voices
from helpers.text_models import save_text_model

import layerprobe as lp
from layerprobe.deployment.deploy import deploy
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.predictors.folder import read_predictor
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep


def test_few_speakers_have_intervals_of_a_lower_level(tmp_path: Path) -> None:
    own = swept_voices(tmp_path, table=write_voices(tmp_path / "corpus", n_speakers=6, each=4), folds=3)
    result = run("deploy", own.run.path, "--out", tmp_path / "p", "--layer", 1)
    assert read_predictor(tmp_path / "p").plan.level == pytest.approx(6 / 7)
    assert "Intervals have a level of 86 %, the highest that 6 speakers can show; 90 % takes 9." in result.stdout
    assert "86 % of the time" in (tmp_path / "p" / "README.md").read_text()


def test_sessions_that_were_held_out_are_what_intervals_are_for(tmp_path: Path) -> None:
    table = write_voices(tmp_path / "corpus", n_speakers=20, each=2, session=lambda speaker, k: f"s{speaker // 2}")
    own = swept_voices(tmp_path, table=table, group_by="session")
    plan = deploy(own.run, tmp_path / "p", layers=1).plan
    assert (plan.interval_unit, plan.n_calibrated, plan.n_speakers) == ("session", 10, 20)
    assert "the rating of an utterance of a new session" in (tmp_path / "p" / "README.md").read_text()


def test_a_test_split_calibrates_on_its_speakers(tmp_path: Path) -> None:
    table = write_voices(
        tmp_path / "corpus", n_speakers=14, each=2, split=lambda speaker, k: "test" if speaker < 4 else "train"
    )
    own = swept_voices(tmp_path, table=table, test_split="test")
    done = deploy(own.run, tmp_path / "p", layers=1)
    assert (done.plan.n_calibrated, done.plan.level, done.plan.n_speakers) == (4, pytest.approx(0.8), 14)
    assert np.isfinite([head.half_width for head in done.heads]).all()


def test_unknown_speakers_have_intervals_for_utterances(tmp_path: Path) -> None:
    table = write_voices(tmp_path / "corpus", speaker_id=lambda speaker, k: "")
    own = swept_voices(tmp_path, table=table, speakers=False, controls=("permuted",))
    plan = deploy(own.run, tmp_path / "p", layers=1).plan
    text = (tmp_path / "p" / "README.md").read_text()
    assert (plan.interval_unit, plan.n_calibrated) == ("utterance", 25)  # that rate valence
    assert "the rating of a new utterance of the same speakers" in text
    assert "its scores may be too optimistic" in text


@pytest.mark.long
def test_of_several_encoders_the_best_is_taken_and_others_are_explained(tmp_path: Path) -> None:
    own = swept_voices(tmp_path, table=write_voices(tmp_path / "corpus", transcript=lambda s, k: f"word {k}"))
    text = extract(
        own.manifest, load_encoder(str(save_text_model("distilbert", tmp_path / "text"))), tmp_path / "t.zarr"
    )
    acoustic = extract(own.manifest, load_encoder("acoustic"), tmp_path / "a.zarr")
    plain = extract(own.manifest, load_exact(own.encoder, random_init=0), tmp_path / "r.zarr")
    plan = plan_sweep(own.manifest, folds=3, controls=(), permutations=1, weighted_sum_seeds=0)
    two = sweep([own.cache, text, acoustic, plain], own.manifest, plan, out=tmp_path / "several")
    result = run("deploy", two.path, "--out", tmp_path / "p")
    assert result.exit_code == 0, result.output
    assert "hubert is the only encoder of the run that can be deployed." in result.stdout
    for name, reason in (
        ("text", "text reads text, and a predictor reads audio: train an audio-text regressor"),
        ("acoustic", "acoustic has features and no blocks to cut: use LayerEmbedder and LayerRidge"),
        ("hubert (untrained 0)", "has untrained weights, which are a control"),
    ):
        assert reason in refused("deploy", two.path, "--out", tmp_path / "q", "--encoder", name)
    wavlm = extract(own.manifest, load_exact(save_model(small_model("wavlm"), tmp_path / "wavlm")), tmp_path / "w.zarr")
    both = sweep([own.cache, wavlm], own.manifest, plan, out=tmp_path / "both")
    done = deploy(both, tmp_path / "b")
    table = lp.study(both).table
    rows = table[(table["probe"] == "ridge") & (table["control"] == "none")]
    best = rows.groupby(["encoder", "target"])["value"].max().groupby("encoder").mean()
    assert done.plan.upstream == best.idxmax()
    assert f"{best.idxmax()} has the highest mean moment-matched CCC of the best layers" in done.notes[0]


def test_a_target_that_is_not_above_chance_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = write_voices(tmp_path / "corpus", luck=lambda speaker, k: rng.uniform(1, 7))
    header = table.with_suffix(".toml")
    header.write_text(f"{header.read_text()}\n[targets.luck]\nminimum = 1\nmaximum = 7\n")
    own = swept_voices(tmp_path, table=table, controls=("permuted",), permutations=79)
    tested = {answer.target: answer.above_chance for answer in lp.study(own.run).answers}
    notes = deploy(own.run, tmp_path / "p", layers=1).notes
    assert tested["luck"] is False
    assert [note.split(":")[0] for note in notes] == [target for target, above in tested.items() if above is False]
    assert "luck: hubert is not above chance in this run" in " ".join(notes)
