"""Acoustic features against slow implementations of their definitions, and signals of known pitch and level."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.voices import voice, write_table
from scipy.fft import dct

from layerprobe.probe.cache.store import CacheMismatchError, open_cache
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders import acoustic
from layerprobe.probe.encoders.acoustic import AcousticEncoder, AcousticSettings
from layerprobe.probe.extraction.encoding.embedding import embed
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.forward.pooling import POOLINGS

ENCODER = AcousticEncoder()
LAYERS = ("log_mel", "mfcc", "f0", "loudness", "duration")
SILENCE = np.zeros(16_000, np.float32)


def frames(layer, waveform, width):
    """The columns that a layer fills, ``(n_frames, width)`` float64."""
    states = ENCODER.hidden_states(waveform)[LAYERS.index(layer)].double().numpy()
    assert not states[:, width:].any()
    return states[:, :width]


def noise(n_samples, amplitude=0.1):
    return (amplitude * np.random.default_rng(0).normal(size=n_samples)).astype(np.float32)


def harmonics(pitch, tilt=1.0):
    """A voice whose F0 in Hz is ``pitch``, one value a sample, with all its harmonics under 8 kHz."""
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    orders = np.arange(1, 7_900 // pitch.max() + 1)
    return (0.1 * sum(np.sin(k * phase + k * k) / k**tilt for k in orders)).astype(np.float32)


def windows(waveform):
    """Windows of 25 ms every 10 ms, the mean taken off, ``(n_frames, 400)``."""
    centred = waveform.astype(float) - waveform.mean(dtype=float)
    return np.array([centred[k : k + 400] for k in range(0, len(waveform) - 399, 160)])


def slow_deltas(x):
    """Regression over two frames on either side, the ends repeated."""
    padded = np.concatenate([x[:1], x[:1], x, x[-1:], x[-1:]])
    return np.stack([sum(n * (padded[t + n] - padded[t - n]) for n in (1, 2)) / 10 for t in range(2, len(x) + 2)])


def test_log_mel_and_mfcc_with_both_deltas_equal_their_definitions_written_out():
    waveform = noise(4_000) + np.float32(0.05)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    lowest, highest = 2595 * np.log10(1 + np.array([20, 8_000]) / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, 82) / 2595) - 1)
    triangles = [np.interp(np.arange(257) * 31.25, edges[k : k + 3], [0, 1, 0]) for k in range(80)]
    power = np.abs(np.fft.rfft(windows(waveform) * hann, 512)) ** 2
    np.testing.assert_allclose(frames("log_mel", waveform, 80), np.log(power @ np.transpose(triangles)), atol=1e-4)
    np.testing.assert_allclose(frames("log_mel", SILENCE, 80), np.log(1e-10), rtol=1e-6)
    cepstrum = dct(frames("log_mel", waveform, 80), type=2, norm="ortho")[:, :13]
    expected = np.concatenate([cepstrum, slow_deltas(cepstrum), slow_deltas(slow_deltas(cepstrum))], axis=1)
    np.testing.assert_allclose(frames("mfcc", waveform, 39), expected, atol=1e-4)


@pytest.mark.parametrize("tilt", [1.0, 0.5])
@pytest.mark.parametrize("pitch", [80, 101, 143.7, 200, 249, 333, 395, 400])
def test_f0_of_a_harmonic_voice_is_found_in_every_frame(pitch, tilt):
    log_pitch, slope, voiced_fraction = frames("f0", harmonics(np.full(8_000, pitch), tilt), 3).T
    np.testing.assert_array_equal(voiced_fraction, 1)
    np.testing.assert_allclose(2**log_pitch, pitch, rtol=0.001)  # lags differ by up to 1.2 %: it takes the parabola
    assert slope.mean() < 0.01


def test_slope_is_octaves_per_second_up_or_down_between_adjacent_voiced_frames():
    for octaves in (1.0, -1.0):
        glide = harmonics(150 * 2 ** (octaves * np.arange(16_000) / 16_000))
        np.testing.assert_allclose(frames("f0", glide, 3)[2:-2, 1], 1, atol=0.05)
    pitch = torch.tensor([np.nan, 128, 256, np.nan, 128, np.nan])  # an octave in 10 ms, and a single frame
    voiced = acoustic._voiced_frames(pitch, AcousticSettings())
    np.testing.assert_allclose(voiced, [[7, 100, 0.5], [8, 100, 0.5], [7, 0, 0.5]], rtol=1e-6)


def test_what_is_periodic_is_voiced_and_noise_is_not():
    for unvoiced in (noise(32_000), noise(400), SILENCE, noise(16_000) + np.linspace(0, 0.4, 16_000, dtype=np.float32)):
        np.testing.assert_allclose(frames("f0", unvoiced, 3), [[np.log2(np.sqrt(75 * 600)), 0, 0]], rtol=1e-6)
    voice_140, voice_85 = harmonics(np.full(16_000, 140.0)), harmonics(np.full(32_000, 85.0))
    spoken = frames("f0", np.concatenate([voice_140, noise(16_000), 0.1 * voice_140, 0.01 * voice_140]), 3)
    np.testing.assert_allclose(spoken[:, 2], len(spoken) / 398, rtol=1e-6)
    assert len(spoken) == pytest.approx(199, abs=4)  # at 1 % it is silence; a window that holds both may be either
    np.testing.assert_allclose(2 ** np.median(spoken[:, 0]), 140, rtol=0.001)
    for amplitude, voiced_fraction in (
        (0.7, 1),
        (2, 0),
    ):  # 0.67 and 0.20 of the power are periodic, on either side of 0.45
        noisy = voice_85 + noise(32_000, amplitude * voice_85.std())
        assert frames("f0", noisy, 3)[0, 2] == pytest.approx(voiced_fraction, abs=0.05)


def test_the_best_path_is_the_best_of_all(rng):
    for _ in range(10):
        strengths, octaves = rng.uniform(0.3, 0.9, size=(6, 3)), rng.uniform(6, 9, size=(6, 3))
        octaves[:, 0] = np.nan  # the unvoiced candidate
        worth = {}
        for path in itertools.product(range(3), repeat=6):
            costs = 0.35 * np.abs(np.diff(octaves[range(6), path])), 0.14 * np.diff(np.array(path) > 0)
            worth[path] = strengths[range(6), path].sum() - np.nansum(costs)
        assert tuple(acoustic._best_path(octaves, strengths, AcousticSettings())) == max(worth, key=worth.get)


def test_loudness_is_the_level_of_each_window_and_a_tenth_is_20_db_lower():
    waveform = noise(16_000) * np.linspace(0.1, 1, 16_000, dtype=np.float32)
    level = 10 * np.log10((windows(waveform) ** 2).mean(axis=1))
    expected = np.stack([level, slow_deltas(level)], axis=1)
    np.testing.assert_allclose(frames("loudness", waveform, 2), expected, atol=1e-4)
    np.testing.assert_allclose(frames("loudness", waveform * np.float32(0.1), 2), expected - [20, 0], atol=1e-4)
    np.testing.assert_array_equal(frames("loudness", noise(800, 1e-7), 2), [[-100, 0]] * 3)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(400, 1), (480, 1), (559, 1), (560, 2), (16_000, 98)])
def test_every_layer_has_its_frames_and_finite_embeddings(n_samples, n_frames):
    waveform = voice(n_samples / 16_000)
    assert [len(frames(name, waveform, 80)) for name in ("log_mel", "mfcc", "loudness")] == [n_frames] * 3
    assert 1 <= len(frames("f0", waveform, 3)) <= n_frames
    np.testing.assert_allclose(frames("duration", waveform, 1), [[np.log(n_samples / 16_000)]], rtol=1e-6)
    for samples in (waveform, noise(n_samples, 1e-6), SILENCE[:n_samples]):  # refused if it were not finite
        assert embed(ENCODER, samples, poolings=tuple(POOLINGS)).shape == (5, len(POOLINGS), 80)


def test_audio_too_short_is_refused():
    with pytest.raises(ValueError, match=r"waveform \(399,\) is not \(n_samples,\) with at least 400"):
        ENCODER.hidden_states(noise(399))


def test_small_blocks_give_the_same_features(monkeypatch):
    whole = ENCODER.hidden_states(voice(1.0))
    monkeypatch.setattr(acoustic, "BLOCK", 7)
    for k, states in enumerate(ENCODER.hidden_states(voice(1.0))):
        np.testing.assert_allclose(states, whole[k], atol=1e-3)


def test_a_cache_has_the_same_bits_from_four_threads_and_refuses_another_definition(write_audio, tmp_path, monkeypatch):
    paths = [write_audio(f"s{i}.wav", 0.5 + 0.2 * i, pitch=90 + 40 * i) for i in range(8)]
    rows = [{"utterance_id": p.stem, "path": p.name, "speaker_id": p.stem, "arousal": 2} for p in paths]
    manifest = read_manifest(write_table(tmp_path, rows))
    assert [len(extract(manifest, ENCODER, tmp_path / f"{n}.zarr", jobs=n)) for n in (1, 4)] == [8, 8]
    alone, cache = open_cache(tmp_path / "1.zarr"), open_cache(tmp_path / "4.zarr")
    waveforms = [read_audio_file(p, sampling_rate=16_000) for p in paths]
    for layer, width in zip(LAYERS, (80, 39, 3, 2, 1), strict=True):
        expected = [frames(layer, x, width).mean(axis=0) for x in waveforms]
        np.testing.assert_allclose(cache.read_layer(layer)[:, :width], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(cache.read_layer(layer), alone.read_layer(layer))
    np.testing.assert_allclose(2 ** cache.read_layer("f0")[:, 0], range(90, 410, 40), rtol=0.01)
    with pytest.raises(CacheMismatchError, match=r"weights '\w+', not '\w+'; preprocessing"):
        extract(manifest, AcousticEncoder(AcousticSettings(n_mfcc=12)), tmp_path / "1.zarr")
    monkeypatch.setattr(acoustic, "DEFINITION", 2)
    with pytest.raises(CacheMismatchError, match=r"with weights '\w+', not '\w+'\."):
        extract(manifest, ENCODER, tmp_path / "1.zarr")
