"""Distillation: a student starts as the teacher's first blocks, learns deeper layers, and survives a kill."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.command_line import run as command
from helpers.measured_targets import LIBRISPEECH, WHISPER, write_measured_manifest
from helpers.speech_models import load_exact
from helpers.training_events import events_of
from helpers.voices import voice
from safetensors.torch import load_file

from layerprobe.analysis.similarity.cka import debiased_cka
from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.embedding import embed
from layerprobe.probe.pretraining.distil import run_distillation
from layerprobe.probe.pretraining.plans import DistilPlan, default_layers, plan_distillation
from layerprobe.probe.pretraining.settings import DistilOptions
from layerprobe.probe.pretraining.student import distillation_loss, make_student
from layerprobe.probe.training.encoder_folder import LOG, STATE
from layerprobe.probe.training.loop import LoopControl
from layerprobe.probe.version import layerprobe_version

PLAN = DistilPlan(
    teacher="t", revision="", weights="w", n_blocks=1, layers=("1", "3"), random_init=None, freeze_student=False,
    train_front_end=False, cosine_weight=1.0, steps=8, batch_size=3, crop_seconds=0.4, learning_rate=3e-3, warmup=0.1,
    max_grad_norm=1.0, held_out=0.2, eval_every=3, seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for k in range(20):
        soundfile.write(folder / f"u{k:02d}.wav", voice(0.3 + 0.02 * k, pitch=90 + 7 * k, seed=k), 16_000)
        rows.append({"utterance_id": f"u{k:02d}", "path": str(folder / f"u{k:02d}.wav"), "speaker_id": f"s{k % 10}"})
    return pd.DataFrame(rows)


def test_the_loss_by_hand():
    ours, theirs = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    # L1: (0 + 0 + 2 + 2) / 4; cosines 1 and 0
    cosine = -(math.log(1 / (1 + math.exp(-1))) + math.log(0.5)) / 2
    for weight in (0.0, 1.0, 2.0):
        found = distillation_loss([ours], [theirs], cosine_weight=weight)
        assert found.item() == pytest.approx(1 + weight * cosine, rel=1e-6)
    both = distillation_loss([ours, theirs], [theirs, theirs], cosine_weight=0.0)
    assert both.item() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "wavlm", "data2vec-audio", "whisper", "wav2vec2-bert"])
def test_a_student_begins_as_the_teachers_first_blocks(folders, tmp_path, kind):
    """Saved at once, it is an encoder whose layers are the teacher's, as far as it goes."""
    from layerprobe.probe.pretraining.student import save_student

    teacher = load_model(str(folders[kind]))
    save_student(make_student(teacher, n_blocks=2), teacher, tmp_path)
    small, large = load_exact(tmp_path), load_exact(folders[kind])
    waveform = voice(0.7)
    assert small.layers == tuple(name for name in large.layers if name != "3")
    for k in range(3):
        np.testing.assert_allclose(small.hidden_states(waveform)[k], large.hidden_states(waveform)[k], atol=1e-5)


def without_dropout(folder):
    """The tests' encoders drop half of everything, to show that reading them does not; learning needs more."""
    loaded = load_model(str(folder))
    for module in loaded.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return loaded


def test_held_out_speakers_show_that_it_learns_and_the_front_end_stays(corpus, folders, tmp_path):
    plan = replace(PLAN, steps=60, eval_every=20)
    done = run_distillation(corpus, without_dropout(folders["hubert"]), plan, out=tmp_path / "student")
    heads = run_distillation(
        corpus, without_dropout(folders["hubert"]), replace(plan, freeze_student=True), out=tmp_path / "heads"
    )  # fmt: skip
    assert done.log["step"].tolist() == [0, 20, 40, 60]
    assert done.log["validation_loss"].is_monotonic_decreasing
    # the fair comparison: heads that learnt as long on the student as it began
    assert (
        done.log["validation_loss"].iloc[-1]
        < heads.log["validation_loss"].iloc[-1]
        < heads.log["validation_loss"].iloc[0]
    )
    own, theirs = (
        load_file(tmp_path / "student" / "model.safetensors"),
        load_file(folders["hubert"] / "model.safetensors"),
    )
    for name, tensor in own.items():
        if name.startswith("feature_extractor."):
            assert torch.equal(tensor, theirs[name]), name
    assert not torch.equal(
        own["encoder.layers.0.attention.k_proj.weight"], theirs["encoder.layers.0.attention.k_proj.weight"]
    )
    as_it_began = load_file(tmp_path / "heads" / "model.safetensors")
    assert all(torch.equal(t, theirs[n]) for n, t in as_it_began.items())
    assert not any("heads" in name for name in own)


@pytest.fixture(scope="module")
def whole(corpus, folders, tmp_path_factory):
    """A distillation that nothing stops."""
    out = tmp_path_factory.mktemp("unstopped") / "whole"
    run_distillation(corpus, load_model(str(folders["hubert"])), PLAN, out=out)
    return out


@pytest.mark.parametrize("stop_after", [2, 4, 7])
def test_a_killed_distillation_resumes_to_the_same_student_bit_for_bit(whole, corpus, folders, tmp_path, stop_after):
    cut, control = tmp_path / "cut", LoopControl(stop_after=stop_after)
    run_distillation(corpus, load_model(str(folders["hubert"])), PLAN, out=cut, control=control)
    assert not (cut / "model.safetensors").exists()
    assert (cut / STATE).exists() == (stop_after > 3)  # a state is kept at every third step
    run_distillation(corpus, load_model(str(folders["hubert"])), PLAN, out=cut)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    assert pd.read_csv(whole / LOG)["validation_loss"].tolist() == pd.read_csv(cut / LOG)["validation_loss"].tolist()
    assert [(kind, step) for kind, step, _ in events_of(whole)][:2] == [("evaluation", 0), ("evaluation", 3)]
    assert events_of(cut) == events_of(whole)
    assert not (cut / STATE).exists()


def test_bad_recordings_are_named_and_the_rest_is_used(corpus, folders, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    bad = pd.DataFrame({"utterance_id": ["a0"], "path": [str(tmp_path / "bad.wav")], "speaker_id": ["s0"]})
    done = run_distillation(
        pd.concat([bad, corpus]), load_model(str(folders["hubert"])), replace(PLAN, steps=20, batch_size=8),
        out=tmp_path / "student",
    )  # fmt: skip
    assert done.quarantine["utterance_id"].tolist() == ["a0"]
    assert np.isfinite(done.log["validation_loss"]).all()


def test_a_channel_is_read_of_recordings_whose_channels_cancel(corpus, folders, tmp_path):
    rows = corpus.copy()
    for k, path in enumerate(corpus["path"]):
        mono, rate = soundfile.read(path)
        rows.loc[k, "path"] = str(tmp_path / f"{k}.wav")
        soundfile.write(rows.loc[k, "path"], np.stack([mono, -mono], axis=1), rate)
    options, found = DistilOptions(blocks=1, steps=2, batch_size=2, channel="first"), {}
    for name, table in {"stereo": rows, "mono": corpus}.items():
        teacher = load_model(str(folders["hubert"]))
        plan = plan_distillation(teacher, options)
        found[name] = run_distillation(table, teacher, plan, out=tmp_path / name)
    assert plan.reading == ReadingOptions("first")
    assert found["stereo"].quarantine.empty
    pd.testing.assert_frame_equal(found["stereo"].log, found["mono"].log)


def test_default_layers_are_those_of_the_paper():
    assert default_layers(tuple(map(str, range(13)))) == ("4", "8", "12")
    assert default_layers(("0", "1", "2")) == ("1", "2")


def test_what_can_not_be_done_is_refused(corpus, folders, tmp_path):
    for change, message in (
        ({"n_blocks": 3}, "the teacher has 3 blocks; a student has 1 to 2, not 3"),
        ({"layers": ("9",)}, "the teacher has no layer '9'; it has 0, 1, 2, 3"),
    ):
        with pytest.raises(InputError, match=message):
            run_distillation(corpus, load_model(str(folders["hubert"])), replace(PLAN, **change), out=tmp_path / "x")
    with pytest.raises(InputError, match="1 speakers are too few to hold 1 out"):
        run_distillation(corpus.assign(speaker_id="s"), load_model(str(folders["hubert"])), PLAN, out=tmp_path / "x")
    run_distillation(corpus, load_model(str(folders["hubert"])), replace(PLAN, steps=1), out=tmp_path / "y")
    with pytest.raises(InputError, match="holds another distillation"):
        run_distillation(corpus, load_model(str(folders["hubert"])), PLAN, out=tmp_path / "y")
    with pytest.raises(InputError, match="holds a model already"):
        run_distillation(corpus, load_model(str(folders["hubert"])), PLAN, out=folders["wavlm"])


def test_the_command_makes_a_student_that_extract_takes(corpus, folders, tmp_path):
    corpus.to_csv(tmp_path / "my.csv", index=False)
    out = tmp_path / "student"
    few = ("--steps", 2, "--batch-size", 2, "--eval-every", 1)
    result = command("distil", tmp_path / "my.csv", "--teacher", folders["whisper"], "--blocks", 1, "--out", out, *few)
    assert result.exit_code == 0, result.output
    assert "1 blocks; loss on held-out speakers" in result.stdout
    plan = json.loads((out / "distil.json").read_text())
    assert plan["layers"] == ["1", "2", "3"]
    assert plan["layerprobe_version"] == layerprobe_version()
    assert load_exact(out).layers == ("0", "1", "final")


@pytest.mark.long
@pytest.mark.skipif(not (LIBRISPEECH.exists() and WHISPER.exists()), reason="no real speech here")
def test_a_student_of_the_real_encoder_tracks_its_layers(tmp_path):
    """On real speech: better than heads on the student as it began, and than a student of random weights."""
    from layerprobe.probe.data.manifest.read import read_manifest

    table = read_manifest(write_measured_manifest(tmp_path / "libri.csv", n_utterances=24)).table
    plan = replace(PLAN, layers=("2", "4"), steps=15, batch_size=2, crop_seconds=5.0, learning_rate=1e-3, eval_every=15)
    made = {
        name: run_distillation(table, load_model(str(WHISPER)), replace(plan, **change), out=tmp_path / name)
        for name, change in {"own": {}, "heads": {"freeze_student": True}, "random": {"random_init": 0}}.items()
    }
    last = {name: one.log["validation_loss"].iloc[-1] for name, one in made.items()}
    assert last["own"] < last["heads"]
    assert last["own"] < last["random"]
    encoders = {name: load_exact(one.folder) for name, one in made.items()} | {"teacher": load_exact(WHISPER)}
    from layerprobe.probe.data.audio import read_audio_file

    waveforms = [read_audio_file(p, sampling_rate=16_000)[: 5 * 16_000] for p in table["path"].iloc[:16]]
    pooled = {
        name: np.stack([embed(encoder, w, poolings=("mean",))[1 if name != "teacher" else 4, 0] for w in waveforms])
        for name, encoder in encoders.items()
    }
    alike = {name: debiased_cka(pooled[name], pooled["teacher"]) for name in ("own", "random")}
    assert alike["own"] > alike["random"]
