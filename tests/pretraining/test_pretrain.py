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
from helpers.voices import voice
from sklearn.cluster import KMeans
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.audio_memory import level
from layerprobe.probe.pretraining.masked_prediction import MaskedPrediction, crop
from layerprobe.probe.pretraining.plans import PretrainPlan
from layerprobe.probe.pretraining.pretrain import VALIDATION, layer_frames, run_pretraining
from layerprobe.probe.pretraining.units import HOP, RATE, WINDOW, MfccFrames, UnitClusters, span_mask
from layerprobe.probe.training.encoder_folder import LOG, STATE, hold_out_speakers

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
def sounds(tmp_path_factory):
    """Voices whose pitch steps between two: there is something to predict across a hidden span."""
    folder, rows = tmp_path_factory.mktemp("sounds"), []
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


def test_a_frame_is_told_by_its_own_25_ms():
    """A click is in the frames whose windows hold it, and in those that the deltas reach."""
    sound = np.random.default_rng(0).normal(scale=1e-3, size=RATE).astype(np.float32)
    clicked = sound.copy()
    clicked[8000:8010] += 0.5
    static = [MfccFrames(level=False)(s)[:, :13] for s in (sound, clicked)]
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


def test_frames_are_told_at_any_level_and_tied_features_share_a_spread(rng):
    sound = voice(1.0)
    np.testing.assert_allclose(MfccFrames()(sound), MfccFrames()(0.3 * sound), atol=1e-3)
    assert np.abs(MfccFrames(level=False)(sound) - MfccFrames(level=False)(0.3 * sound)).max() > 5  # decibels
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


def test_pieces_are_whole_frames_with_their_own_units(rng):
    waveforms = [np.arange(n, dtype=np.float32) for n in (16_000, 9_000)]
    units = [np.arange((len(w) - WINDOW) // HOP + 1) for w in waveforms]
    sounds, chosen = crop(waveforms, units, n_frames=20, rng=rng)
    assert sounds.shape == (2, 19 * HOP + WINDOW)
    for sound, own in zip(sounds, chosen, strict=True):
        assert own.tolist() == list(range(own[0], own[0] + 20))
        assert sound[0] == own[0] * HOP


def test_hidden_frames_are_not_heard_and_the_loss_is_theirs_alone(rng):
    torch.manual_seed(0)
    model = MaskedPrediction(HubertConfig(**SMALL), n_units=8).eval()
    sound = torch.from_numpy(voice(1.0)[None])
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[0, 10:20] = True
    units = torch.from_numpy(rng.integers(0, 8, size=(1, 49)))
    with torch.no_grad():
        loss, right = model(sound, units, mask)
        logits = model.logits(sound, mask)
        expected = torch.nn.functional.cross_entropy(logits[0, 10:20], units[0, 10:20])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert right.item() == pytest.approx((logits[0, 10:20].argmax(-1) == units[0, 10:20]).float().mean().item())
        everything = model.logits(sound, torch.ones_like(mask))
        other = model.logits(torch.from_numpy(voice(1.0, pitch=200)[None]), torch.ones_like(mask))
        assert torch.allclose(everything, other, atol=1e-5)  # with all hidden no sound is left
        assert not torch.allclose(model.logits(sound, ~mask), everything, atol=1e-3)


def test_it_learns_to_tell_hidden_units_of_new_speakers(sounds, tmp_path):
    plan = replace(PLAN, steps=150, eval_every=50, batch_size=8)
    done = run_pretraining(sounds, plan, MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR)
    accuracy, chance = done.log["accuracy"], done.log["chance"].iloc[-1]
    assert accuracy.iloc[-1] > 1.5 * chance
    assert done.log["loss"].is_monotonic_decreasing
    encoder = load_exact(tmp_path / "own")
    assert encoder.layers == ("0", "1", "2")
    assert np.isfinite(encoder.hidden_states(voice(1.0))[-1].numpy()).all()


def test_what_held_out_speakers_say_is_heard_from_nobody(sounds, tmp_path):
    speakers = ["a", "a", "b", "b", "c", "c", "", ""]
    words = ["one", "two", "one", "", "three", " ", "two", "four"]
    for seed in range(5):
        held, heard = hold_out_speakers(speakers, fraction=0.3, seed=seed, transcripts=words)
        said = {words[k] for k in held} - {"", " "}
        assert not said & {words[k] for k in heard}
        assert not {speakers[k] for k in held} - {""} & {speakers[k] for k in heard}
        silent = [k for k in range(8) if not words[k].strip() and k not in held]
        assert set(silent) <= set(heard)  # no words are nobody's words
    with pytest.raises(InputError, match="say all that the others say"):
        hold_out_speakers(["a", "b", "c"], fraction=0.3, seed=0, transcripts=["one"] * 3)


def test_it_is_judged_on_every_held_out_utterance(sounds, tmp_path):
    done = run_pretraining(sounds, PLAN, MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR)
    found = pd.read_csv(tmp_path / "own" / VALIDATION)
    assert found["speaker_id"].nunique() == 2  # a fifth of ten
    assert len(found) == 4
    assert (found["correct_frames"] <= found["masked_frames"]).all()
    # all of them fit into the few that are looked at on the way, so the last look says the same
    assert found["correct_frames"].sum() / found["masked_frames"].sum() == pytest.approx(done.log["accuracy"].iloc[-1])


def test_sounds_are_levelled_as_transformers_extractor_levels_them(sounds):
    sound = voice(0.7, seed=3)
    mean, spread = level(sound, EXTRACTOR)
    theirs = EXTRACTOR(sound, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose((sound - mean) / spread, theirs, atol=1e-5)
    assert level(sound, Wav2Vec2FeatureExtractor(do_normalize=False)) == (0.0, 1.0)


def test_a_loss_that_is_no_number_ends_it_before_it_is_saved(sounds, tmp_path):
    with pytest.raises(InputError, match=r"The loss is not finite after 3 steps. Lower --learning-rate."):
        run_pretraining(
            sounds, replace(PLAN, learning_rate=1e30), MfccFrames(), out=tmp_path / "own", extractor=EXTRACTOR
        )
    assert not (tmp_path / "own" / STATE).exists()


@pytest.fixture(scope="module")
def whole(sounds, tmp_path_factory):
    """A pre-training that nothing stops."""
    out = tmp_path_factory.mktemp("unstopped") / "whole"
    run_pretraining(sounds, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    return out


@pytest.mark.parametrize("stop_after", [2, 4, 7])
def test_a_killed_pre_training_resumes_to_the_same_encoder_bit_for_bit(whole, sounds, tmp_path, stop_after):
    cut = tmp_path / "cut"
    run_pretraining(sounds, PLAN, MfccFrames(), out=cut, extractor=EXTRACTOR, stop_after=stop_after)
    assert not (cut / "model.safetensors").exists()
    assert (cut / STATE).exists() == (stop_after > 3)
    run_pretraining(sounds, PLAN, MfccFrames(), out=cut, extractor=EXTRACTOR)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    assert pd.read_csv(whole / LOG)["accuracy"].tolist() == pd.read_csv(cut / LOG)["accuracy"].tolist()
    assert not (cut / STATE).exists()


def test_a_pre_training_does_not_go_on_with_other_sounds(sounds, tmp_path):
    out = tmp_path / "own"
    run_pretraining(sounds, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR, stop_after=4)
    moved = sounds.copy()
    moved["path"] = [str(tmp_path / f"{name}.wav") for name in sounds["utterance_id"]]
    for k, (before, after) in enumerate(zip(sounds["path"], moved["path"], strict=True)):
        sound = soundfile.read(before)[0]
        soundfile.write(after, sound if k else 0.5 * sound, RATE)
    with pytest.raises(InputError, match="have changed"):
        run_pretraining(moved, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    soundfile.write(moved["path"][0], soundfile.read(sounds["path"][0])[0], RATE)
    assert (
        len(run_pretraining(moved, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR).log) == 3
    )  # at another place, the same


def test_a_second_round_clusters_a_layer_of_the_first(sounds, tmp_path):
    sounds.to_csv(tmp_path / "my.csv", index=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert", **SMALL}))
    few = ("--config", tmp_path / "config.json", "--steps", 3, "--batch-size", 2, "--units", 6, "--eval-every", 2)
    result = command("pretrain", tmp_path / "my.csv", "--out", tmp_path / "first", *few)
    assert result.exit_code == 0, result.output
    assert "of held-out speakers' hidden frames told right" in result.stdout
    words = ("--label-source", f"{tmp_path / 'first'}@1", "--out", tmp_path / "second")
    result = command("pretrain", tmp_path / "my.csv", *words, *few)
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "second" / "pretrain.json").read_text())
    assert plan["label_source"] == "first@1"
    assert plan["label_weights"] == load_exact(tmp_path / "first").weights_hash()
    result = command(
        "pretrain", tmp_path / "my.csv", "--label-source", f"{tmp_path / 'first'}@9", "--out", tmp_path / "x"
    )
    assert "has no layer '9'" in result.output


def test_what_can_not_be_done_is_refused_and_bad_sounds_are_named(sounds, folders, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "short.wav", voice(0.2), RATE)
    more = [{"utterance_id": n, "path": str(tmp_path / f"{n}.wav"), "speaker_id": "s1"} for n in ("bad", "short")]
    table = pd.concat([sounds, pd.DataFrame(more)])
    out = tmp_path / "own"
    done = run_pretraining(table, replace(PLAN, steps=1), MfccFrames(), out=out, extractor=EXTRACTOR)
    assert done.quarantine["utterance_id"].tolist() == ["bad", "short"]
    with pytest.raises(InputError, match="holds another pre-training"):
        run_pretraining(table, PLAN, MfccFrames(), out=out, extractor=EXTRACTOR)
    with pytest.raises(InputError, match="holds a model already"):
        run_pretraining(table, PLAN, MfccFrames(), out=folders["hubert"], extractor=EXTRACTOR)
    with pytest.raises(InputError, match="No sound can be used"):
        run_pretraining(table[-2:], PLAN, MfccFrames(), out=tmp_path / "x", extractor=EXTRACTOR)
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match=r"\d+ frames can't be 9999 units"):
        run_pretraining(sounds, replace(PLAN, n_units=9999), MfccFrames(), out=tmp_path / "y", extractor=EXTRACTOR)
    with pytest.raises(InputError, match="1 speakers are too few to hold 1 out"):
        run_pretraining(sounds.assign(speaker_id="s"), PLAN, MfccFrames(), out=tmp_path / "x", extractor=EXTRACTOR)
    with pytest.raises(InputError, match=r"gives \d+ frames a second, not 49"):
        layer_frames(load_exact(folders["sew"]), "1")


@pytest.mark.parametrize(
    ("content", "message"), [("{bad", "read as JSON"), ('{"model_type": "bert"}', "no configuration")]
)
def test_a_configuration_of_something_else_is_refused(sounds, tmp_path, content, message):
    sounds.to_csv(tmp_path / "my.csv", index=False)
    (tmp_path / "config.json").write_text(content)
    result = command("pretrain", tmp_path / "my.csv", "--config", tmp_path / "config.json", "--out", tmp_path / "own")
    assert result.exit_code == 2
    assert message in result.output
