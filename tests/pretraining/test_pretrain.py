"""Pre-training: units of frames, hidden spans, a model that learns them, and a kill that changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.command_line import run as command
from helpers.speech_models import load_exact
from helpers.training_events import events_of
from helpers.voices import voice
from sklearn.cluster import KMeans
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.audio_memory import level, read_into_memory
from layerprobe.probe.pretraining.masked_prediction import MaskedPrediction, crop
from layerprobe.probe.pretraining.plans import PretrainPlan, plan_pretraining
from layerprobe.probe.pretraining.pretrain import VALIDATION, layer_frames, run_pretraining
from layerprobe.probe.pretraining.settings import PretrainOptions
from layerprobe.probe.pretraining.units import HOP, RATE, WINDOW, MfccFrames, UnitClusters, span_mask
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.training.encoder_folder import LOG, STATE, hold_out_speakers
from layerprobe.probe.training.loop import LoopControl

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
PLAN = PretrainPlan(
    config=json.dumps(SMALL), label_source="mfcc", label_weights="", n_units=8, steps=8, batch_size=4, crop_seconds=0.6,
    learning_rate=2e-3, warmup=0.1, max_grad_norm=1.0, mask_fraction=0.08, mask_span=10, held_out=0.2, eval_every=3,
    precision="float32", seed=0,
)  # fmt: skip
EXTRACTOR = Wav2Vec2FeatureExtractor()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Voices whose pitch steps between two: there is something to predict across a hidden span."""
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for k in range(20):
        halves = [voice(0.6, pitch=p, seed=k) for p in (100 + 3 * k, 180 + 3 * k)]
        soundfile.write(folder / f"u{k:02d}.wav", np.concatenate(halves), RATE)
        rows.append({"utterance_id": f"u{k:02d}", "path": str(folder / f"u{k:02d}.wav"), "speaker_id": f"s{k % 10}"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("n_samples", [400, 719, 720, 16_000, 21_393])
def test_frames_are_as_many_as_huberts(n_samples):
    model = HubertModel(HubertConfig(**SMALL))
    expected = model.feature_extractor(torch.zeros(1, n_samples)).shape[2]
    assert MfccFrames()(np.random.default_rng(0).normal(size=n_samples).astype(np.float32)).shape == (expected, 39)


def test_a_frame_depends_on_its_own_25_ms_alone():
    """A click is in the frames whose windows hold it, and in those that the deltas reach."""
    waveform = np.random.default_rng(0).normal(scale=1e-3, size=RATE).astype(np.float32)
    clicked = waveform.copy()
    clicked[8000:8010] += 0.5
    static = [MfccFrames(level=False)(s)[:, :13] for s in (waveform, clicked)]
    changed = np.flatnonzero(np.abs(static[0] - static[1]).max(axis=1) > 0.5)
    holds = [k for k in range(len(static[0])) if k * HOP <= 8010 and k * HOP + WINDOW > 8000]
    assert set(changed) == set(holds)


def test_units_are_nearest_centres_and_as_tight_as_another_librarys(rng):
    frames = np.concatenate([rng.normal(m, 1.0, size=(300, 5)) for m in (0, 6, 12, 18)]) * [1, 10, 1, 1, 5]
    units = UnitClusters.fit(frames, n_units=4, rng=np.random.default_rng(0))
    z = (frames - units.mean) / units.std
    distances = ((z[:, None] - units.centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(units.predict(frames), distances.argmin(axis=1))
    theirs = KMeans(4, n_init=5, random_state=0).fit(z)
    assert distances.min(axis=1).sum() == pytest.approx(theirs.inertia_, rel=0.01)
    with pytest.raises(ValueError, match="3 frames can't be 4 units"):
        UnitClusters.fit(frames[:3], n_units=4, rng=rng)


def test_frames_are_independent_of_level_and_tied_features_have_one_scale(rng):
    waveform = voice(1.0)
    np.testing.assert_allclose(MfccFrames()(waveform), MfccFrames()(0.3 * waveform), atol=1e-3)
    assert np.abs(MfccFrames(level=False)(waveform) - MfccFrames(level=False)(0.3 * waveform)).max() > 5  # decibels
    frames = rng.normal(size=(200, 6)) * [1, 2, 0.1, 0.2, 0.01, 0.02]
    tied = UnitClusters.fit(frames, n_units=4, rng=np.random.default_rng(0), tied=2)
    np.testing.assert_allclose(tied.std, np.tile(frames.std(axis=0)[:2], 3))


def test_masks_are_spans_and_hide_about_half(rng):
    mask = span_mask(200, 200, fraction=0.08, span=10, rng=rng)
    # each frame is hidden unless none of 16 spans of 10 begins in the 10 frames up to it: 1 - C(190, 16) / C(200, 16)
    assert mask.mean() == pytest.approx(0.56, abs=0.03)
    for row in mask[:20]:
        edges = np.flatnonzero(np.diff(np.r_[False, row, False].astype(int)))
        lengths = edges[1::2] - edges[::2]
        assert (lengths[:-1] >= 10).all()  # the last may be cut by the end


def test_crops_are_whole_frames_with_their_own_units(rng):
    waveforms = [np.arange(n, dtype=np.float32) for n in (16_000, 9_000)]
    units = [np.arange((len(w) - WINDOW) // HOP + 1) for w in waveforms]
    crops, chosen = crop(waveforms, units, n_frames=20, rng=rng)
    assert crops.shape == (2, 19 * HOP + WINDOW)
    for waveform, own in zip(crops, chosen, strict=True):
        assert own.tolist() == list(range(own[0], own[0] + 20))
        assert waveform[0] == own[0] * HOP


def test_masked_frames_are_not_encoded_and_the_loss_is_theirs_alone(rng):
    torch.manual_seed(0)
    model = MaskedPrediction(HubertConfig(**SMALL), n_units=8).eval()
    waveform = torch.from_numpy(voice(1.0)[None])
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[0, 10:20] = True
    units = torch.from_numpy(rng.integers(0, 8, size=(1, 49)))
    with torch.no_grad():
        loss, right = model(waveform, units, mask)
        logits = model.logits(waveform, mask)
        expected = torch.nn.functional.cross_entropy(logits[0, 10:20], units[0, 10:20])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert right.item() == pytest.approx((logits[0, 10:20].argmax(-1) == units[0, 10:20]).float().mean().item())
        everything = model.logits(waveform, torch.ones_like(mask))
        other = model.logits(torch.from_numpy(voice(1.0, pitch=200)[None]), torch.ones_like(mask))
        assert torch.allclose(everything, other, atol=1e-5)  # with all frames masked no audio is left
        assert not torch.allclose(model.logits(waveform, ~mask), everything, atol=1e-3)


def test_it_learns_to_predict_masked_units_of_unseen_speakers(corpus, tmp_path):
    plan = replace(PLAN, steps=150, eval_every=50, batch_size=8)
    done = run_pretraining(corpus, plan, MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR)
    accuracy, majority = done.log["accuracy"], done.log["majority_accuracy"].iloc[-1]
    assert accuracy.iloc[-1] > 1.5 * majority
    assert done.log["loss"].is_monotonic_decreasing
    encoder = load_exact(tmp_path / "own")
    assert encoder.layers == ("0", "1", "2")
    assert np.isfinite(encoder.hidden_states(voice(1.0))[-1].numpy()).all()


def test_transcripts_of_held_out_speakers_are_not_trained_on(corpus, tmp_path):
    speakers = ["a", "a", "b", "b", "c", "c", "", ""]
    texts = ["one", "two", "one", "", "three", " ", "two", "four"]
    for seed in range(5):
        held, training = hold_out_speakers(speakers, fraction=0.3, seed=seed, transcripts=texts)
        excluded = {texts[k] for k in held} - {"", " "}
        assert not excluded & {texts[k] for k in training}
        assert not {speakers[k] for k in held} - {""} & {speakers[k] for k in training}
        silent = [k for k in range(8) if not texts[k].strip() and k not in held]
        assert set(silent) <= set(training)  # an empty transcript excludes no one
    with pytest.raises(InputError, match="Every transcript is also one of a held-out speaker"):
        hold_out_speakers(["a", "b", "c"], fraction=0.3, seed=0, transcripts=["one"] * 3)


def test_it_is_judged_on_every_held_out_utterance(corpus, tmp_path):
    done = run_pretraining(corpus, PLAN, MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR)
    found = pd.read_csv(tmp_path / "own" / VALIDATION)
    assert found["speaker_id"].nunique() == 2  # a fifth of ten
    assert len(found) == 4
    assert (found["correct_frames"] <= found["masked_frames"]).all()
    # all of them are among those evaluated during training, so the last evaluation has the same result
    assert found["correct_frames"].sum() / found["masked_frames"].sum() == pytest.approx(done.log["accuracy"].iloc[-1])


def test_what_is_read_of_recordings_is_in_the_plan_and_overshoot_is_clipped(tmp_path):
    loud = voice(0.7, seed=3)
    loud *= 1.5 / np.abs(loud).max()
    recordings = {"opposite": np.stack([loud, -loud], axis=1), "tail": np.concatenate([loud, np.zeros(RATE)])}
    for name, waveform in recordings.items():
        soundfile.write(tmp_path / f"{name}.wav", waveform, RATE, subtype="FLOAT")
    table = pd.DataFrame({"utterance_id": list(recordings), "path": [str(tmp_path / f"{n}.wav") for n in recordings]})
    table["speaker_id"] = "s"
    plan = plan_pretraining(PretrainOptions(channel="first", trim_silence=True))
    assert plan.reading == ReadingOptions("first", trim_silence=True)
    audio = read_into_memory(table, EXTRACTOR, reading=plan.reading, progress=NullProgress())
    for k in range(2):
        np.testing.assert_allclose(audio.samples(k), np.clip(loud, -1, 1), atol=1e-4)
    by_default = read_into_memory(table, EXTRACTOR, progress=NullProgress())
    assert by_default.quarantine["utterance_id"].tolist() == ["opposite"]
    assert [len(w) for w in by_default.waveforms] == [len(loud) + RATE]


def test_recordings_are_normalised_as_by_transformers(corpus):
    waveform = voice(0.7, seed=3)
    mean, std = level(waveform, EXTRACTOR)
    theirs = EXTRACTOR(waveform, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose((waveform - mean) / std, theirs, atol=1e-5)
    assert level(waveform, Wav2Vec2FeatureExtractor(do_normalize=False)) == (0.0, 1.0)


def test_a_loss_that_is_no_number_ends_it_before_it_is_saved(corpus, tmp_path):
    with pytest.raises(InputError, match=r"The loss is not finite after 3 steps. Lower --learning-rate."):
        run_pretraining(
            corpus, replace(PLAN, learning_rate=1e30), MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR
        )
    assert not (tmp_path / "own" / STATE).exists()


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A pre-training that nothing stops."""
    out = tmp_path_factory.mktemp("unstopped") / "whole"
    run_pretraining(corpus, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    return out


@pytest.mark.parametrize("stop_after", [2, 4, 7])
def test_a_killed_pre_training_resumes_to_the_same_encoder_bit_for_bit(whole, corpus, tmp_path, stop_after):
    cut, control = tmp_path / "cut", LoopControl(stop_after=stop_after)
    run_pretraining(corpus, PLAN, MfccFrames(), out=cut, extractor=EXTRACTOR, control=control)
    assert not (cut / "model.safetensors").exists()
    assert (cut / STATE).exists() == (stop_after > 3)
    run_pretraining(corpus, PLAN, MfccFrames(), out=cut, extractor=EXTRACTOR)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    assert pd.read_csv(whole / LOG)["accuracy"].tolist() == pd.read_csv(cut / LOG)["accuracy"].tolist()
    assert [step for _, step, _ in events_of(whole)] == pd.read_csv(whole / LOG)["step"].tolist()
    assert events_of(cut) == events_of(whole)
    assert not (cut / STATE).exists()


def test_a_pre_training_does_not_resume_with_other_audio(corpus, tmp_path):
    out = tmp_path / "own"
    run_pretraining(corpus, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR, control=LoopControl(stop_after=4))
    moved = corpus.copy()
    moved["path"] = [str(tmp_path / f"{name}.wav") for name in corpus["utterance_id"]]
    for k, (before, after) in enumerate(zip(corpus["path"], moved["path"], strict=True)):
        waveform = soundfile.read(before)[0]
        soundfile.write(after, waveform if k else 0.5 * waveform, RATE)
    with pytest.raises(InputError, match="has changed"):
        run_pretraining(moved, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    soundfile.write(moved["path"][0], soundfile.read(corpus["path"][0])[0], RATE)
    assert (
        len(run_pretraining(moved, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR).log) == 3
    )  # at another place, the same


def test_a_second_round_clusters_a_layer_of_the_first(corpus, tmp_path):
    corpus.to_csv(tmp_path / "my.csv", index=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert", **SMALL}))
    few = ("--config", tmp_path / "config.json", "--steps", 3, "--batch-size", 2, "--units", 6, "--eval-every", 2)
    result = command("pretrain", tmp_path / "my.csv", "--out", tmp_path / "first", *few)
    assert result.exit_code == 0, result.output
    assert "on masked frames of held-out speakers" in result.stdout
    second = ("--label-source", f"{tmp_path / 'first'}@1", "--out", tmp_path / "second")
    result = command("pretrain", tmp_path / "my.csv", *second, *few)
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "second" / "pretrain.json").read_text())
    assert plan["label_source"] == "first@1"
    assert plan["label_weights"] == load_exact(tmp_path / "first").weights_hash()
    result = command(
        "pretrain", tmp_path / "my.csv", "--label-source", f"{tmp_path / 'first'}@9", "--out", tmp_path / "x"
    )
    assert "has no layer '9'" in result.output


def test_what_can_not_be_done_is_refused_and_bad_recordings_are_named(corpus, folders, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no waveform")
    soundfile.write(tmp_path / "short.wav", voice(0.2), RATE)
    more = [{"utterance_id": n, "path": str(tmp_path / f"{n}.wav"), "speaker_id": "s1"} for n in ("bad", "short")]
    table = pd.concat([corpus, pd.DataFrame(more)])
    out = tmp_path / "own"
    done = run_pretraining(table, replace(PLAN, steps=1), MfccFrames(), out=out, extractor=EXTRACTOR)
    assert done.quarantine["utterance_id"].tolist() == ["bad", "short"]
    with pytest.raises(InputError, match="holds another pre-training"):
        run_pretraining(table, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    with pytest.raises(InputError, match="holds a model already"):
        run_pretraining(table, PLAN, MfccFrames(), out=folders["hubert"], extractor=EXTRACTOR)
    with pytest.raises(InputError, match="No recording can be used"):
        run_pretraining(table[-2:], PLAN, MfccFrames(), out=tmp_path / "x", extractor=EXTRACTOR)
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match=r"\d+ frames can't be 9999 units"):
        run_pretraining(corpus, replace(PLAN, n_units=9999), MfccFrames(), out=tmp_path / "y", extractor=EXTRACTOR)
    with pytest.raises(InputError, match="1 speakers are too few to hold 1 out"):
        run_pretraining(corpus.assign(speaker_id="s"), PLAN, MfccFrames(), out=tmp_path / "x", extractor=EXTRACTOR)
    with pytest.raises(InputError, match=r"has \d+ frames per second, not 49"):
        layer_frames(load_exact(folders["sew"]), "1")


@pytest.mark.parametrize(
    ("content", "message"), [("{bad", "read as JSON"), ('{"model_type": "bert"}', "another model_type")]
)
def test_a_configuration_of_something_else_is_refused(corpus, tmp_path, content, message):
    corpus.to_csv(tmp_path / "my.csv", index=False)
    (tmp_path / "config.json").write_text(content)
    result = command("pretrain", tmp_path / "my.csv", "--config", tmp_path / "config.json", "--out", tmp_path / "own")
    assert result.exit_code == 2
    assert message in result.output
