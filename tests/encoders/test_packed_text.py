"""Texts that run together are encoded as if each were alone."""

from __future__ import annotations

import pytest
import torch
from helpers.largest_tensor import LargestTensor
from helpers.pooled_packs import largest_difference, pooled_together
from helpers.pretended_gpu import pretended_gpu
from helpers.text_models import SENTENCES, TEXT_KINDS, save_text_model, small_text_model

from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.forward.packed.text import has_packed_text
from layerprobe.probe.forward.pooling import pool_frame_chunks
from layerprobe.probe.forward.stream import attention, kernels

POOLINGS = ("mean", "std", "first_token")
EQUAL = 1e-6  # relative, of a pooled layer in float32
LONG = " ".join(SENTENCES * 3)  # several windows
TEXTS = ("", "the", "kind", SENTENCES[0], LONG, "[PAD] the [PAD] letter", SENTENCES[2], "dinner [UNK] evening")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    return {kind: save_text_model(kind, root / kind) for kind in TEXT_KINDS}


@pytest.fixture(scope="module", params=TEXT_KINDS)
def encoders(request, folders):
    """One that encodes texts singly, by transformers, and one that packs them."""
    return tuple(load_text_encoder(str(folders[request.param]), forward=way) for way in ("single", "packed"))


def together(encoder, texts):
    return pooled_together(encoder, texts, POOLINGS)


def alone(encoder, text):
    return pool_frame_chunks(encoder.frame_chunks(text), poolings=POOLINGS)


def test_a_pack_of_texts_gives_what_transformers_gives_of_each_alone(encoders):
    single, packed = encoders
    assert (single.forward, packed.forward) == ("transformers", "packed")
    assert len(packed.input_chunks(LONG)) > 2
    rows = together(packed, TEXTS)
    assert rows.shape == (len(TEXTS), len(packed.layers), len(POOLINGS), packed.dim)
    for row, text in zip(rows, TEXTS, strict=True):
        assert largest_difference(row, alone(single, text)) < EQUAL


def test_order_and_composition_change_nothing(encoders, rng):
    _, packed = encoders
    rows = together(packed, TEXTS)
    order = rng.permutation(len(TEXTS))[:5]
    for k, row in zip(order, together(packed, [TEXTS[k] for k in order]), strict=True):
        assert largest_difference(row, rows[k]) < EQUAL
    for row, text in zip(rows, TEXTS, strict=True):
        assert largest_difference(alone(packed, text), row) < EQUAL


CHANGES = {
    "another activation": lambda model: model.encoder.layer[1].intermediate.__setattr__(
        "intermediate_act_fn", torch.nn.ReLU()
    ),
    "a wrapped layer": lambda model: model.encoder.layer[0].output.__setattr__("dense", torch.nn.Identity()),
    "relative positions": lambda model: setattr(model.config, "position_embedding_type", "relative_key"),
    "a decoder": lambda model: setattr(model.config, "is_decoder", True),
    "a hook": lambda model: model.encoder.layer[2].register_forward_hook(lambda *_: None),
    "16 bits": lambda model: model.half(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_not_packed(change):
    model = small_text_model("bert")
    assert has_packed_text(model)
    CHANGES[change](model)
    assert not has_packed_text(model)


def test_what_is_not_packed_runs_in_masked_batches(folders, monkeypatch):
    monkeypatch.setattr("layerprobe.probe.forward.packed.choose.OWN_PASSES", ())
    single = load_text_encoder(str(folders["roberta"]), forward="single")
    masked = load_text_encoder(str(folders["roberta"]), forward="packed")
    assert masked.forward == "masked"
    texts = [text for text in TEXTS if "[PAD]" not in text]
    for row, text in zip(together(masked, texts), texts, strict=True):
        assert largest_difference(row, alone(single, text)) < EQUAL


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_on_a_gpu_the_host_waits_for_nothing(folders, kind, monkeypatch):
    on_the_cpu = together(load_text_encoder(str(folders[kind]), forward="packed"), TEXTS)
    monkeypatch.setattr(attention, "_has_flash_attention", lambda _: False)
    monkeypatch.setattr(kernels, "available", lambda _: False)
    with pretended_gpu() as gpu:
        encoder = load_text_encoder(str(folders[kind]), device="cuda", forward="packed")
        windows = [encoder.input_chunks(text) for text in TEXTS]
        gpu.waits.clear()
        pooled = encoder.embed_pack(windows, poolings=POOLINGS)
        assert not gpu.waits
    for row, expected in zip(pooled.values, on_the_cpu, strict=True):
        assert largest_difference(row, expected) < EQUAL


def test_a_bias_by_distance_is_not_laid_out_by_query_and_key(folders):
    packed = load_text_encoder(str(folders["mpnet"]), forward="packed").packed
    spans = attention.Spans.upload([5, 500], device="cpu")
    with LargestTensor() as made:
        bias = packed._bias(spans)
    assert bias.by_distance.shape == (packed._stack.heads, 2 * 500 - 1)
    assert made.n_values <= bias.by_distance.numel()
