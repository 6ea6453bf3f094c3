"""What 16-bit products do to an encoder's layers: cosine and relative error against float32, on given sounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.encoders.pooling import DEFAULT_POOLINGS, pool_layers
from layerprobe.probe.encoders.speech import SpeechEncoder


def precision_loss(encoder: SpeechEncoder, waveforms: list[np.ndarray]) -> pd.DataFrame:
    """How far pooled layers (mean and standard deviation, side by side) lie from transformers' own in float32.

    Args:
        encoder: in any precision
        waveforms: ``(n_samples,)`` each, at its rate

    Returns:
        one row a layer: ``layer``, ``cosine`` (the least over sounds), ``relative_error`` (the greatest, of norms)
    """
    cosines, errors = [], []
    for waveform in waveforms:
        ours, exact = (
            pool_layers(states, poolings=DEFAULT_POOLINGS).flatten(1).double()
            for states in (encoder.hidden_states(waveform), encoder.reference_states(waveform))
        )
        cosines.append(torch.cosine_similarity(ours, exact))
        errors.append((ours - exact).norm(dim=1) / exact.norm(dim=1))
    return pd.DataFrame(
        {
            "layer": encoder.layers,
            "cosine": torch.stack(cosines).amin(dim=0).cpu(),
            "relative_error": torch.stack(errors).amax(dim=0).cpu(),
        }
    )


def precision_words(table: pd.DataFrame, *, precision: str, n_sounds: int) -> str:
    """The table in one sentence."""
    least, greatest = table["relative_error"].min(), table["relative_error"].max()
    return (
        f"{precision} moves pooled layers by {least:.2%} to {greatest:.2%} against float32 (cosine at least "
        f"{table['cosine'].min():.5f}), on {n_sounds} sounds"
    )
