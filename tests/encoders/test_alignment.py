"""Weights of the same values give the same bits, wherever in a file they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.speech_models import KINDS, load_exact
from helpers.text_models import save_text_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.model_alignment import align_weights

WEIGHTS = "model.safetensors"
AUDIO = np.random.default_rng(0).normal(size=8000).astype(np.float32)


def offset(path: Path) -> int:
    """At which byte of a file of safetensors its tensors begin: eight bytes with the header's length, the header."""
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def moved(folder: Path, out: Path) -> Path:
    """The model with a header so long that its tensors begin 8 bytes later, of every 64."""
    shutil.copytree(folder, out)
    before = offset(out / WEIGHTS)
    with safe_open(out / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(out / WEIGHTS)
    for n in range(200):
        save_file(tensors, out / WEIGHTS, {**metadata, "note": "x" * n})
        if (offset(out / WEIGHTS) - before) % 64 == 8:
            return out
    raise AssertionError("no header is as long")


def begins(model: nn.Module) -> set[int]:
    return {tensor.data_ptr() % 64 for tensor in [*model.parameters(), *model.buffers()]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_header_of_the_file_of_a_speech_encoder_changes_no_bit(folders, tmp_path, kind):
    encoders = [load_exact(folder) for folder in (folders[kind], moved(folders[kind], tmp_path / "moved"))]
    assert [begins(nn.ModuleList(encoder.modules())) for encoder in encoders] == [{0}, {0}]
    for samples in (AUDIO, AUDIO[: encoders[0].minimum_samples]):  # of one frame, products are those of a vector
        for first, second in zip(*(encoder.hidden_states(samples) for encoder in encoders), strict=True):
            assert torch.equal(first, second)


def test_a_longer_header_of_the_file_of_a_text_encoder_changes_no_bit(tmp_path):
    folder = save_text_model("bert", tmp_path / "bert")
    encoders = [load_text_encoder(str(path)) for path in (folder, moved(folder, tmp_path / "moved"))]
    assert [begins(encoder.hooked.blocks) for encoder in encoders] == [{0}, {0}]
    for first, second in zip(*(encoder.hidden_states("a b") for encoder in encoders), strict=True):
        assert torch.equal(first, second)


def test_tensors_keep_their_values_their_order_in_memory_and_their_ties():
    model = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])
    model[1].weight = model[0].weight
    model[0].weight.data = torch.arange(16.0)[1:].view(5, 3).T
    values = model[0].weight.detach().clone()
    align_weights(model)
    assert torch.equal(model[0].weight, values)
    assert model[0].weight.stride() == (1, 3)
    assert model[1].weight is model[0].weight
    assert begins(model) == {0}


def test_what_is_aligned_is_not_copied():
    model = nn.Linear(5, 3)
    before = model.weight.data_ptr()
    align_weights(model)
    assert model.weight.data_ptr() == before
