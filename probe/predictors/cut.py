"""Encoders cut at a block: the blocks above it are dropped, and the rest is saved as a folder of transformers."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.layer_names import FINAL

CONFIG_FILE = "config.json"
FEWEST_BLOCKS = 1  # that are kept, since transformers and `probe.model_size` load no encoder without any
WHISPER = "whisper"
WITHOUT_DECODER = {  # settings of Whisper's configuration that leave nothing of the decoder, which no layer depends on
    "decoder_layers": 0,
    "vocab_size": 1,
    "max_target_positions": 1,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


def blocks_needed(layers: Sequence[str], *, n_blocks: int) -> int:
    """Return how many blocks are kept for some layers: the number of the highest, at least one, all for the final norm.

    >>> blocks_needed(["0", "3"], n_blocks=12), blocks_needed(["final"], n_blocks=12), blocks_needed(["0"], n_blocks=12)
    (3, 12, 1)
    """
    return max((n_blocks if layer == FINAL else int(layer) for layer in layers), default=FEWEST_BLOCKS) or FEWEST_BLOCKS


def cut_encoder(loaded: LoadedModel, n_blocks: int) -> None:
    """Drop all blocks above the first ``n_blocks`` from a loaded model and its configuration, in place.

    Layers 0 to ``n_blocks`` stay as they are, to the bit. The final norm of encoders that normalise before each block
    stays, too, behind the last block that is kept.

    Args:
        loaded: of `probe.encoders.loading.load_model`
        n_blocks: to keep, `FEWEST_BLOCKS` or more

    Raises:
        InputError: if the architecture is described by a user's adapter, which transformers can't load
        ValueError: if the encoder has fewer blocks
    """
    if loaded.adapter:
        raise adapter_error(loaded.upstream)
    encoder: Any = loaded.family.encoder(loaded.model)
    blocks = loaded.family.blocks(encoder)
    if not FEWEST_BLOCKS <= n_blocks <= len(blocks):
        raise ValueError(f"n_blocks is {n_blocks}, and {loaded.upstream} has {len(blocks)} blocks")
    del blocks[n_blocks:]
    for config in (loaded.model.config, encoder.config):
        config.num_hidden_layers = n_blocks
        if config.model_type == WHISPER:
            config.encoder_layers = n_blocks


def adapter_error(upstream: str) -> InputError:
    """Return the error of an encoder whose architecture an adapter file describes."""
    return InputError(
        "LP905",
        f"{upstream} is loaded by an adapter file, so it can't be saved as a folder that transformers loads. Deploy a "
        "layer of an encoder whose architecture layerprobe knows.",
    )


def save_encoder(loaded: LoadedModel, folder: Path) -> None:
    """Save a model and its feature extractor as a folder of transformers, with the encoder's tensors alone."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in loaded.model.state_dict().items()
        if name.startswith(loaded.family.tensors)
    }
    if loaded.model.config.model_type == WHISPER:
        loaded.model.config.update(WITHOUT_DECODER)
        tensors |= _rest_of_decoder(loaded.model)
    with quiet_transformers(bars=False):
        loaded.model.save_pretrained(folder, state_dict=tensors)
        loaded.extractor.save_pretrained(folder)
    mode = stat.S_IMODE((folder / CONFIG_FILE).stat().st_mode)
    for file in folder.iterdir():
        file.chmod(mode)  # safetensors leaves weights readable by their owner alone


def _rest_of_decoder(model: Any) -> dict[str, Tensor]:
    """Return what of a decoder without blocks transformers wants to find: two norms' and two embeddings' rows of 0."""
    rows = {"layer_norm.weight": (), "layer_norm.bias": (), "embed_tokens.weight": (1,), "embed_positions.weight": (1,)}
    return {f"decoder.{name}": torch.zeros(*shape, model.config.d_model) for name, shape in rows.items()}
