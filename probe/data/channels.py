"""Channels of a recording become one; what their mean cancels is measured.

Channels of opposite phase (a cable or a plug-in with swapped polarity, a side signal) cancel in the mean, in part or
altogether, and what is left is noise. In each second the energy of the channels' sum is compared with the sum of the
channels' energies: their ratio is 1 for channels without relation, and for one that sounds beside silent ones, up to
the number of channels where these agree, and 0 where they cancel. What a ratio below 1 lacks is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK_SECONDS = 1.0
# Fractions of the energy that the mean keeps. Under a quarter (6 dB lost) little but noise may be left; with two
# channels of equal level that takes a correlation below -0.75, which two microphones in one room do not reach over a
# second of speech. Over three quarters is what such rooms cost.
KEPT_AT_LEAST = 0.25
KEPT_USUALLY = 0.75


@dataclass(frozen=True)
class ChannelEnergy:
    """Energies of the channels of a recording, and what is left of them in the mean."""

    of_channels: np.ndarray  # (n_channels,) sums of squared samples, without each second's constant
    kept: float  # fraction of the channels' energy that their mean keeps, 0 to 1; 1 where all are silent

    @property
    def loudest(self) -> int:
        """The channel with the highest energy, the first of several."""
        return int(self.of_channels.argmax())


def channel_energy(channels: np.ndarray, rate: int) -> ChannelEnergy:
    """Measure channels ``(n_samples, n_channels)`` at ``rate`` Hz, a second at a time."""
    n_channels = channels.shape[1]
    of_channels, kept = np.zeros(n_channels), 0.0
    step = max(1, round(BLOCK_SECONDS * rate))
    for begin in range(0, len(channels), step):
        block = channels[begin : begin + step].astype(np.float64)
        block -= block.mean(axis=0)
        energies = np.einsum("nc,nc->c", block, block)
        summed = block.sum(axis=1)
        of_channels += energies
        kept += min(float(summed @ summed), float(energies.sum()))
    total = float(of_channels.sum())
    return ChannelEnergy(of_channels, kept / total if total else 1.0)


def cancelling(kept: float, n_channels: int) -> str:
    """Return why the mean of channels that keeps so little of their energy can't be used; "" where it can.

    >>> cancelling(1.0, 2)
    ''
    """
    if kept >= KEPT_AT_LEAST:
        return ""
    return (
        f"its {n_channels} channels cancel (opposite phase): their mean keeps {100 * kept:.1f} % of their energy; read "
        "one with --channel first or --channel loudest, or accept the mean with --channel mean"
    )
