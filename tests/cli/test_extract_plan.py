"""extract --plan: a cache's plan gives the same bytes again; options of the command line take precedence."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
from helpers.cache_rows import content_hash
from helpers.command_line import refused, refused_without_code, run
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.encoders.loading import ACOUSTIC
from layerprobe.probe.extraction.settings import encoder_name_in


@pytest.fixture(scope="module")
def first(ten_voices, tmp_path_factory):
    """A cache of the embedded encoder in which no option has its default."""
    path = tmp_path_factory.mktemp("first") / "a.zarr"
    result = run(
        "extract", ten_voices.path, "--encoder", "embedded", "--random-init", 3, "--precision", "bfloat16", "--pooling",
        "max", "--pooling", "mean", "--storage-dtype", "float16", "--channel", "loudest", "--trim-silence", "--device",
        "cpu", "--out", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return path


def test_a_plan_gives_the_same_bytes(ten_voices, first, tmp_path):
    result = run("extract", ten_voices.path, "--plan", first, "--device", "cpu", "--out", tmp_path / "b.zarr")
    assert result.exit_code == 0, result.output
    assert f"Plan of {first}.\n" in result.stdout
    assert "differs" not in result.stdout
    assert open_cache(tmp_path / "b.zarr").plan == open_cache(first).plan
    assert content_hash(tmp_path / "b.zarr") == content_hash(first)


def test_options_of_the_command_line_win_and_are_named(ten_voices, first, tmp_path):
    result = run(
        "extract", ten_voices.path, "--plan", first, "--pooling", "min", "--precision", "float32", "--device", "cpu",
        "--out", tmp_path / "b.zarr",
    )  # fmt: skip
    assert f"Plan of {first}; --precision, --pooling of the command line instead of its own.\n" in result.stdout
    line = "The plan differs from that of --plan: poolings min, not max, mean; precision 'float32', not 'bfloat16'.\n"
    assert line in result.stdout
    plan = open_cache(tmp_path / "b.zarr").plan
    assert (plan.poolings, plan.precision) == (("min",), "float32")
    assert (plan.random_init, plan.storage_dtype) == (3, "float16")


def test_a_default_that_is_named_wins_too(ten_voices, first, tmp_path):
    result = run(
        "extract", ten_voices.path, "--plan", first, "--storage-dtype", "float32", "--dry-run", "--out",
        tmp_path / "b.zarr", "--device", "cpu",
    )  # fmt: skip
    assert "--storage-dtype of the command line" in result.stdout
    assert "storage_dtype: float32\n" in result.stdout
    assert "poolings: max, mean\n" in result.stdout


def test_other_versions_of_libraries_are_named(ten_voices, first, tmp_path):
    """A plan made elsewhere: what can't be had again is named before anything is encoded."""
    copy = tmp_path / "elsewhere.zarr"
    made = run("extract", ten_voices.path, "--plan", first, "--device", "cpu", "--out", copy)
    assert made.exit_code == 0, made.output
    group = json.loads((copy / "zarr.json").read_text())
    text = json.dumps(group).replace("torch 2.", "torch 1.")
    (copy / "zarr.json").write_text(text)
    result = run(
        "extract", ten_voices.path, "--plan", copy, "--device", "cpu", "--dry-run", "--out", tmp_path / "b.zarr"
    )
    assert "The plan differs from that of --plan: libraries 'torch 2." in result.stdout, result.output
    assert ", not 'torch 1." in result.stdout


def test_processes_take_the_plan_too(ten_voices, first, tmp_path):
    result = run(
        "extract", ten_voices.path, "--plan", first, "--processes", 1, "--device", "cpu", "--out", tmp_path / "b.zarr"
    )
    assert result.exit_code == 0, result.output
    assert content_hash(tmp_path / "b.zarr") == content_hash(first)


def test_a_folder_is_found_again_and_is_to_be_named_where_it_is_gone(ten_voices, folders, tmp_path):
    path, moved = tmp_path / "a.zarr", tmp_path / "models" / "hubert"
    shutil.copytree(folders["hubert"], moved)
    arguments = ("extract", ten_voices.path, "--encoder", moved, "--precision", "float32", "--out", path)
    assert run(*arguments).exit_code == 0
    assert open_cache(path).encoder_folder == str(moved.resolve())
    assert run("extract", ten_voices.path, "--plan", path, "--out", tmp_path / "c.zarr").exit_code == 0
    assert content_hash(tmp_path / "c.zarr") == content_hash(path)
    moved.rename(tmp_path / "elsewhere")
    message = refused("extract", ten_voices.path, "--plan", path, "--out", tmp_path / "b.zarr")
    assert f"{path} was extracted from a folder called hubert, which is no longer at {moved}. Name it with" in message
    again = ("extract", ten_voices.path, "--plan", path, "--encoder", folders["hubert"], "--out", tmp_path / "b.zarr")
    result = run(*again)
    assert "--encoder of the command line" in result.stdout
    assert content_hash(tmp_path / "b.zarr") == content_hash(path)


def test_an_encoder_of_another_kind_takes_from_a_plan_what_it_has(ten_voices, folders, tmp_path):
    """Nothing is refused that is the plan's, and what is requested is."""
    rows = ten_voices.table.assign(transcript=SENTENCES[0]).to_dict("records")
    path, text = write_table(tmp_path, rows), save_text_model("bert", tmp_path / "bert")
    given = ("--random-init", 3, "--precision", "bfloat16", "--forward", "packed", "--pooling", "max")
    made = run("extract", path, "--encoder", folders["hubert"], *given, "--device", "cpu", "--out", tmp_path / "a.zarr")
    assert made.exit_code == 0, made.output
    again = ("extract", path, "--plan", tmp_path / "a.zarr", "--device", "cpu")
    for name, encoder in ((ACOUSTIC, ACOUSTIC), ("bert", text)):
        result = run(*again, "--encoder", encoder, "--out", tmp_path / f"{name}.zarr")
        assert result.exit_code == 0, result.output
    acoustic, bert = (open_cache(tmp_path / f"{name}.zarr").plan for name in (ACOUSTIC, "bert"))
    assert acoustic.poolings == bert.poolings == ("max",)
    assert (acoustic.random_init, acoustic.forward_option) == (None, "single")
    assert (bert.random_init, bert.precision, bert.forward_option) == (3, "float32", "packed")
    for option, value in (("--random-init", 3), ("--precision", "bfloat16"), ("--forward", "packed")):
        message = refused(*again, "--encoder", ACOUSTIC, option, value, "--out", tmp_path / "no.zarr")
        assert f"acoustic features have no weights: {option}" in message
    message = refused(*again, "--encoder", text, "--precision", "bfloat16", "--out", tmp_path / "no.zarr")
    assert "is a text encoder, which runs in float32 only" in message


def test_without_encoder_and_plan_nothing_is_guessed(ten_voices, tmp_path):
    message = refused("extract", ten_voices.path, "--out", tmp_path / "a.zarr")
    assert "Name an --encoder, or a --plan whose encoder is used again." in message
    message = refused("extract", ten_voices.path, "--plan", tmp_path / "none.zarr", "--out", tmp_path / "a.zarr")
    assert "none.zarr" in message


def test_the_hub_s_encoder_is_found_by_its_commit(first):
    from dataclasses import replace

    plan = open_cache(first).plan
    assert encoder_name_in(plan) == "embedded"
    assert encoder_name_in(replace(plan, upstream="team/hubert", revision="abc")) == "team/hubert@abc"
    assert encoder_name_in(replace(plan, upstream="acoustic")) == "acoustic"
    assert encoder_name_in(replace(plan, upstream="hubert"), str(first.parent / "gone")) == ""
    assert encoder_name_in(replace(plan, upstream="hubert"), str(first.parent)) == str(first.parent)


@pytest.fixture
def opposite(tmp_path):
    """Two utterances: one whose channels cancel, and one with three seconds of zeros behind it."""
    waveform = voice(1.0)
    soundfile.write(tmp_path / "a.wav", np.stack([waveform, -waveform], axis=1), 16_000)
    soundfile.write(tmp_path / "b.wav", np.concatenate([waveform, np.zeros(48_000, dtype=np.float32)]), 16_000)
    rows = [{"utterance_id": n, "path": f"{n}.wav", "speaker_id": n, "arousal": k} for k, n in enumerate("ab", 1)]
    return write_table(tmp_path, rows)


@pytest.mark.parametrize("parallel", [(), pytest.param(("--processes", 2), marks=pytest.mark.long)])
def test_what_cancels_and_what_is_silent_is_printed_with_what_to_do(opposite, tmp_path, parallel):
    out = tmp_path / "a.zarr"
    result = run("extract", opposite, "--encoder", ACOUSTIC, "--out", out, *parallel)
    assert result.exit_code == 0, result.output
    assert (
        "  a: its 2 channels cancel in their mean (opposite phase), in 100 % of the recording; read one"
        in result.stdout
    )
    silence = "1 utterance has long digital silence at an end (longest 3.0 s: b), which counts in the pooling; --trim"
    assert f"  {silence}" in result.stdout
    assert f"\n{silence}" in run("cache", "info", out).stdout


def test_a_channel_and_trimming_are_taken_from_a_plan_and_overruled(opposite, tmp_path):
    first, second, third = (tmp_path / f"{name}.zarr" for name in ("first", "second", "third"))
    result = run("extract", opposite, "--encoder", ACOUSTIC, "--channel", "first", "--trim-silence", "--out", first)
    assert (
        "0 were cached before, 0 quarantined.\n  1 utterance has digital silence at the ends, which was"
        in result.stdout
    )
    result = run("extract", opposite, "--plan", first, "--out", second)
    assert "differs" not in result.stdout
    assert content_hash(first) == content_hash(second)
    assert open_cache(first).plan == open_cache(second).plan
    result = run("extract", opposite, "--plan", first, "--channel", "loudest", "--out", third)
    assert f"Plan of {first}; --channel of the command line instead of its own.\n" in result.stdout
    assert "The plan differs from that of --plan: audio_channels 'loudest', not 'first'.\n" in result.stdout


@pytest.mark.parametrize("command", ["extract", "check-encoder", "transcribe"])
def test_an_unknown_channel_is_refused_by_every_command_that_reads_audio(opposite, tmp_path, command):
    options = {
        "extract": (opposite, "--encoder", "embedded", "--out", tmp_path / "a.zarr"),
        "check-encoder": ("--encoder", "embedded", "--manifest", opposite),
        "transcribe": (opposite, "--asr", "none"),
    }[command]
    assert refused_without_code(command, *options, "--channel", "left") == (
        "Error: channel 'left' is unknown; choose first, loudest or mean."
    )
