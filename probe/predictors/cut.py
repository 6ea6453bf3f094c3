"""Encoders cut at a block: the blocks above it are dropped, and the rest is saved as a folder of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.layer_names import FINAL

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
    """Return how many blocks the layers need: the number of the highest, and all for the final norm.

    >>> blocks_needed(["0", "3"], n_blocks=12), blocks_needed(["final"], n_blocks=12)
    (3, 12)
    """
    return max((n_blocks if layer == FINAL else int(layer) for layer in layers), default=0)


def cut_encoder(loaded: LoadedModel, n_blocks: int) -> None:
    """Drop all blocks above the first ``n_blocks`` from a loaded model and its configuration, in place.

    Layers 0 to ``n_blocks`` stay as they are, to the bit. The final norm of encoders that normalise before each block
    stays, too, behind the last block that is kept.

    Args:
        loaded: of `probe.encoders.loading.load_model`
        n_blocks: to keep, 0 for the front end alone

    Raises:
        InputError: if the architecture is described by a user's adapter, which transformers can't load
        ValueError: if the encoder has fewer blocks
    """
    if loaded.adapter:
        raise InputError(
            "LP905",
            f"{loaded.upstream} is loaded by an adapter file, so it can't be saved as a folder that transformers "
            "loads. Deploy a layer of an encoder whose architecture layerprobe knows.",
        )
    encoder: Any = loaded.family.encoder(loaded.model)
    blocks = loaded.family.blocks(encoder)
    if not 0 <= n_blocks <= len(blocks):
        raise ValueError(f"n_blocks is {n_blocks}, and {loaded.upstream} has {len(blocks)} blocks")
    del blocks[n_blocks:]
    for config in (loaded.model.config, encoder.config):
        config.num_hidden_layers = n_blocks
        if config.model_type == WHISPER:
            config.encoder_layers = n_blocks


def save_encoder(loaded: LoadedModel, folder: Path) -> None:
    """Save a model and its feature extractor as a folder of transformers, with the encoder's tensors alone."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in loaded.model.state_dict().items()
        if name.startswith(loaded.family.tensors)
    }
    if loaded.model.config.model_type == WHISPER:
        loaded.model.config.update(WITHOUT_DECODER)
    with quiet_transformers(bars=False):
        loaded.model.save_pretrained(folder, state_dict=tensors)
        loaded.extractor.save_pretrained(folder)
