"""Utterances that run together are encoded as if each were alone, whatever the family and whoever is beside them."""

from __future__ import annotations

import pytest
import torch
from helpers.speech_models import KINDS, load_exact
from helpers.voices import voice

from layerprobe.probe.encoders.pooling import pool_layers

POOLINGS = ("mean", "std")
EQUAL = 1e-6  # relative, of a pooled layer in float32
ROUNDED = 2e-6  # the same where sums are those of our own convolutions, in another order than transformers'
CHOSEN = {kind: "packed" for kind in KINDS} | {"sew": "equal lengths", "wav2vec2-bert": "masked"}


def ragged(encoder):
    """Utterances of other lengths, of equal frames and other samples, of equal samples, and the shortest there is."""
    audio = voice(2.0, seed=4)
    lengths = [encoder.minimum_samples, 7840, 8000, 8160, 8320, 8000, 20_011, 31_000]
    return [audio[k * 50 :][:n] for k, n in enumerate(lengths)]


def together(encoder, waveforms):
    return encoder.embed_pack([encoder.input_chunks(w) for w in waveforms], poolings=POOLINGS)


def alone(encoder, waveform):
    return pool_layers(encoder.reference_states(waveform), poolings=POOLINGS)


def difference(ours, theirs):
    """Maximum over layers of the difference of (mean, std), ``(n_layers, n_poolings, dim)``."""
    ours, theirs = ours.flatten(1), theirs.flatten(1)
    return float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max())


def tolerance(encoder):
    return ROUNDED if encoder.forward == "packed" and encoder.reads_waveforms else EQUAL


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, folders):
    return load_exact(folders[request.param], forward="packed")


@pytest.mark.parametrize("kind", KINDS)
def test_each_family_has_the_fastest_pass_that_is_exact(folders, kind):
    assert load_exact(folders[kind], forward="packed").forward == CHOSEN[kind]
    assert load_exact(folders[kind], forward="single").forward in ("native", "transformers")


def test_a_ragged_pack_gives_what_transformers_gives_of_each_utterance_alone(encoder):
    waveforms = ragged(encoder)
    rows = together(encoder, waveforms)
    assert rows.shape == (len(waveforms), len(encoder.layers), 2, encoder.dim)
    for row, waveform in zip(rows, waveforms, strict=True):
        assert difference(row, alone(encoder, waveform)) < tolerance(encoder)


def test_order_and_composition_change_nothing(encoder, rng):
    waveforms = ragged(encoder)
    rows = together(encoder, waveforms)
    order = rng.permutation(len(waveforms))[:5]
    for k, row in zip(order, together(encoder, [waveforms[k] for k in order]), strict=True):
        assert difference(row, rows[k]) < tolerance(encoder)
    for row, waveform in zip(rows, waveforms, strict=True):
        assert difference(together(encoder, [waveform])[0], row) < tolerance(encoder)
        assert difference(pool_layers(encoder.hidden_states(waveform), poolings=POOLINGS), row) < tolerance(encoder)


def test_long_audio_in_chunks_is_packed(encoder, monkeypatch):
    monkeypatch.setattr("layerprobe.probe.encoders.architectures.LONGEST_CHUNK", 1.0)
    monkeypatch.setattr("layerprobe.probe.encoders.architectures.CONTEXT", 0.2)
    seconds = 31.0 if "Whisper" in encoder.architecture else 2.9
    waveforms = [voice(seconds, seed=1), voice(0.7, seed=2)]
    assert len(encoder.input_chunks(waveforms[0])) > 1
    for row, waveform in zip(together(encoder, waveforms), waveforms, strict=True):
        assert difference(row, alone(encoder, waveform)) < tolerance(encoder)


def test_the_model_is_left_as_it_was(folders):
    encoder = load_exact(folders["sew"], forward="packed")
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in encoder.modules()]
    own = [set(vars(m)) for m in encoder.modules()]
    waveform = ragged(encoder)[3]
    before = encoder.reference_states(waveform)
    together(encoder, ragged(encoder))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in encoder.modules()]
    assert own == [set(vars(m)) for m in encoder.modules()]
    assert all(map(torch.equal, before, encoder.reference_states(waveform)))
