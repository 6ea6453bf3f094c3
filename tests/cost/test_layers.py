"""Multiply-adds, parameters and times up to each layer: by hand, against whole models, and against what runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.speech_models import KINDS
from helpers.text_models import TEXT_KINDS, small_text_model
from transformers import HubertConfig, Wav2Vec2BertConfig

from layerprobe.probe.cost.layers import count_layers, last_layer
from layerprobe.probe.cost.parameter_count import ModelSpec, count_parameters, count_tokens
from layerprobe.probe.cost.timing import processor_name, real_time_factors_of_layers, text_of
from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES
from layerprobe.probe.layer_names import FINAL

KINDS_OF_ALL = [*KINDS, *TEXT_KINDS]


def described(kind):
    if kind in TEXT_KINDS:
        return ModelSpec(kind, small_text_model(kind).config, True)
    return ModelSpec(kind, KINDS[kind][0], False)


def test_hubert_base_by_hand():
    """Ten seconds, counted once with paper: seven convolutions, the projection, positions, and blocks.

    The convolutions give 31999, 15999, 7999, 3999, 1999, 999 and 499 frames of 512 channels. A block of width 768 has
    four projections, two products of attention between 499 frames, and two layers of 3072 features.
    """
    found = count_layers(ModelSpec("hubert-base", HubertConfig(), False), seconds=10)
    frames = 499
    convolutions = 31_999 * 512 * 10 + (15_999 + 7_999 + 3_999 + 1_999) * 512 * 512 * 3 + (999 + frames) * 512 * 512 * 2
    projection = frames * 512 * 768
    positions = (frames + 1) * 768 * 48 * 128  # 16 groups; the even kernel makes one frame more, which is dropped
    block = 4 * frames * 768 * 768 + 2 * frames * frames * 768 + 2 * frames * 768 * 3072
    assert block == 1_177_288_704 + 382_465_536 + 2_354_577_408
    by_hand = [(convolutions + projection + positions + k * block) / 10 for k in range(13)]
    np.testing.assert_array_equal(found.multiply_adds, by_hand)
    assert found.layers == tuple(map(str, range(13)))
    # published: 94.4 M parameters; a block has 7,087,872, by its sizes
    of_block = 4 * (768 * 768 + 768) + 768 * 3072 + 3072 + 3072 * 768 + 768 + 4 * 768
    np.testing.assert_array_equal(np.diff(found.parameters), [of_block] * 12)
    assert found.parameters[-1] == 94_371_712


def test_every_architecture_is_tried():
    types = {described(kind).config.model_type for kind in KINDS_OF_ALL}
    assert set(ARCHITECTURES) | set(TEXT_ARCHITECTURES) == types | {"unispeech"}  # wav2vec 2.0 in all but name


@pytest.mark.parametrize("kind", KINDS_OF_ALL)
def test_the_last_layer_needs_the_whole_model(kind):
    model = described(kind)
    found = count_layers(model, seconds=2)
    whole = count_parameters(model, amount=count_tokens(2, 3.5) if model.is_text else 2)
    # SEW doubles its frames again after the blocks, which no layer needs: 49 frames of 32 times 64 features
    upsampled = {"sew": (49 * 32 * 64, 32 * 64 + 64)}.get(kind, (0, 0))
    assert found.multiply_adds[-1] == (whole.multiply_adds - upsampled[0]) / 2
    assert found.parameters[-1] == whole.total - upsampled[1]
    assert (FINAL in found.layers) == (kind.endswith("pre-norm") or kind == "whisper")
    assert (np.diff(found.multiply_adds) >= 0).all()
    assert (np.diff(found.parameters) > 0).all()


@pytest.mark.parametrize("kind", KINDS_OF_ALL)
def test_a_layer_has_the_parameters_of_a_model_that_was_cut_there(kind):
    """The state dict of a model without the blocks above, and without the final norm."""
    model = described(kind)
    built = model.build()
    blocks, norm = model.blocks(built), model.final_norm(built)
    found = count_layers(model, seconds=1)
    without_norm = 0 if norm is None else sum(v.numel() for v in norm.state_dict().values())
    for k in reversed(range(len(blocks))):
        del blocks[k]
        kept = {p.data_ptr(): p for n, p in built.named_parameters() if "pooler." not in n and "upsample." not in n}
        assert found.parameters[k] == sum(p.numel() for p in kept.values()) - without_norm


def test_adapters_after_the_blocks_are_no_part_of_any_layer():
    kind = Wav2Vec2BertConfig(**{**KINDS["wav2vec2-bert"][0].to_diff_dict(), "add_adapter": True})
    plain = count_layers(described("wav2vec2-bert"), seconds=1)
    np.testing.assert_array_equal(count_layers(ModelSpec("a", kind, False), seconds=1).parameters, plain.parameters)


def test_whisper_encodes_thirty_seconds_whatever_it_is_given():
    model = described("whisper")
    one, ten = (count_layers(model, seconds=n).multiply_adds * n for n in (1, 10))
    np.testing.assert_allclose(one, ten)


@pytest.mark.parametrize(
    ("layer", "needed"), [("all", "2"), ("last", "final"), ("mix", "final"), ("1", "1"), ("final", "final")]
)
def test_a_mix_needs_all_blocks_and_a_regressor_its_layer(layer, needed):
    assert last_layer(layer, ("0", "1", "2", "final")) == needed


class Clock:
    """A clock that ticks once whenever it is read."""

    def __init__(self):
        self.ticks = itertools.count()

    def __call__(self):
        return float(next(self.ticks))


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "wavlm", "whisper"])
def test_every_layer_has_a_time_from_the_same_pass(folders, kind):
    """By a clock that ticks when it is read, layer k is read k + 1 ticks after the begin."""
    encoder = load_encoder(str(folders[kind]), device="cpu", precision="float32")
    (times,) = real_time_factors_of_layers([encoder], seconds=2, n_tokens=9, rounds=3, clock=Clock())
    native = encoder.forward == "native"
    expected = np.arange(1, len(encoder.layers) + 1) / 2
    assert native == (kind.startswith("hubert"))
    np.testing.assert_array_equal(times, expected)
    hooks = sum(len(b._forward_hooks) + len(b._forward_pre_hooks) for b in encoder.hooked.blocks)
    assert hooks == len(encoder.hooked.blocks) + 1  # those of the encoder, as before


def test_text_and_features_are_timed_too(tmp_path):
    from helpers.text_models import save_text_model

    text = load_encoder(str(save_text_model("bert", tmp_path / "bert")), device="cpu")
    features = load_encoder("acoustic")
    found = real_time_factors_of_layers([text, features], seconds=2, n_tokens=9, rounds=2, clock=Clock())
    np.testing.assert_array_equal(found[0], [0.5, 1.0, 1.5, 2.0])
    example = text_of(text, 60)
    assert len(text.tokens(example)) in (59, 60)
    n_windows = len(text.input_chunks(example))  # several, since the encoder takes 40 tokens
    assert n_windows > 1
    (of_windows,) = real_time_factors_of_layers([text], seconds=2, n_tokens=60, rounds=2, clock=Clock())
    np.testing.assert_array_equal(of_windows, n_windows * found[0])
    # a tick for each feature; mfcc is made from log_mel, which takes one as well
    assert dict(zip(features.layers, found[1], strict=True)) == {
        "log_mel": 0.5, "mfcc": 1.0, "f0": 0.5, "loudness": 0.5, "duration": 0.5,
    }  # fmt: skip


def test_a_real_clock_finds_that_more_blocks_take_longer(folders):
    before = torch.get_num_threads()
    encoder = load_encoder(str(folders["wavlm"]), device="cpu", precision="float32")
    (times,) = real_time_factors_of_layers([encoder], seconds=1, n_tokens=9, rounds=3, threads=1)
    assert (np.diff(times) > 0).all()
    assert times[0] > 0
    assert torch.get_num_threads() == before
    assert processor_name()
