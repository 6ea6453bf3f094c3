"""How decoded samples become the waveform that an encoder receives: channels, levels, silence and sampling rate.

Channels are averaged, unless one is chosen. soxr resamples at its HQ setting: flat to 7 kHz and aliases below -140 dB
from 44.1 to 16 kHz, where common defaults leave them at -17 to -31 dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from layerprobe.probe.data.channels import KEPT_USUALLY, ChannelEnergy, channel_energy
from layerprobe.probe.data.levels import SILENCE_DB, is_silent, level_range, over_scale
from layerprobe.probe.data.remarks import CANCELS_IN_PART, LONG_SILENCE, SILENT_CHANNEL, TRIMMED, Remark
from layerprobe.probe.data.silence import silent_ends
from layerprobe.probe.exceptions import InputError, InvalidAudioError

RESAMPLER = "soxr HQ"
# In plans. The mean that is requested differs from the default one: channels that cancel in it are read, too.
CHANNELS_IN_PLAN = {
    None: "mean",
    "mean": "mean, of channels that cancel too",
    "first": "first",
    "loudest": "loudest",
}
SILENCE_IN_PLAN = {False: "kept", True: f"trimmed below {SILENCE_DB:g} dB"}


@dataclass(frozen=True)
class ReadingOptions:
    """What of a recording an encoder receives."""

    channel: str | None = None  # mean, first or loudest; None for the mean where the channels do not cancel in it
    trim_silence: bool = False  # whether digital silence at the ends is left out

    def __post_init__(self) -> None:
        """Check the channel.

        Raises:
            InputError: if it is unknown
        """
        if self.channel not in CHANNELS_IN_PLAN:
            raise InputError("LP234", f"channel {self.channel!r} is unknown; choose first, loudest or mean.")

    @property
    def channels_in_plan(self) -> str:
        """How channels become one, as a plan states it."""
        return CHANNELS_IN_PLAN[self.channel]

    @property
    def silence_in_plan(self) -> str:
        """What becomes of digital silence at the ends, as a plan states it."""
        return SILENCE_IN_PLAN[self.trim_silence]

    @classmethod
    def from_plan(cls, channels: str, silence: str) -> ReadingOptions:
        """Return the options that a plan states; the defaults where both are "", as of a text encoder."""
        channel = next((name for name, text in CHANNELS_IN_PLAN.items() if text == channels), None)
        return cls(channel, silence == SILENCE_IN_PLAN[True])


DEFAULT_READING = ReadingOptions()


@dataclass(frozen=True)
class Recording:
    """A recording as an encoder receives it."""

    waveform: np.ndarray  # (n_samples,) float32, full scale -1 to 1
    remarks: tuple[Remark, ...] = ()


def make_recording(
    channels: np.ndarray, rate: int, *, sampling_rate: int, reading: ReadingOptions = DEFAULT_READING
) -> Recording:
    """Make one channel of several, trim it if that is requested, and resample it.

    Silence is measured and trimmed before resampling, so that the result is that of a file without it.

    Args:
        channels: ``(n_samples, n_channels)`` float32, at least one sample
        rate: of ``channels``, Hz
        sampling_rate: of the result, Hz
        reading: the channel, and whether silence is trimmed

    Raises:
        InvalidAudioError: if a sample is not finite or beyond `probe.data.levels.HIGHEST_LEVEL`, if there is nothing
            but silence, or if the channels cancel and no channel is named
    """
    if reading.channel == "first":
        channels = channels[:, :1]
    lowest, highest = level_range(channels)
    check_levels(lowest, highest)
    waveform, remarks = _one_channel(channels, rate, reading)
    if is_silent(waveform.min(), waveform.max()):
        raise InvalidAudioError(
            "LP233",
            "silent: the mean of its channels leaves nothing; read one with --channel first or --channel loudest",
        )
    ends = silent_ends(waveform, rate)
    if reading.trim_silence:
        waveform = waveform[ends.before : len(waveform) - ends.after]
        if len(waveform) < ends.n_samples:
            remarks.append(Remark(TRIMMED, (ends.n_samples - len(waveform)) / rate))
    elif ends.is_long(rate):
        remarks.append(Remark(LONG_SILENCE, max(ends.before, ends.after) / rate))
    if rate != sampling_rate:
        waveform = soxr.resample(waveform, rate, sampling_rate, quality="HQ")
    return Recording(np.ascontiguousarray(waveform, dtype=np.float32), tuple(remarks))


def check_levels(lowest: np.ndarray, highest: np.ndarray) -> None:
    """Check that channels from ``lowest`` to ``highest``, ``(n_channels,)`` each, can be used.

    Raises:
        InvalidAudioError: if a sample is not finite or beyond full scale, or there is nothing but silence
    """
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        raise InvalidAudioError("LP230", "holds samples that are not finite")
    if problem := over_scale(float(max(-lowest.min(), highest.max()))):
        raise InvalidAudioError(problem.code, problem.text)
    if (lowest == highest).all():
        raise InvalidAudioError("LP232", "silent: every sample is the same")
    if is_silent(lowest, highest).all():
        raise InvalidAudioError(
            "LP232",
            f"silent: no sample is further from a constant than {SILENCE_DB:g} dB of full scale, a step of 16 bits",
        )


def _one_channel(channels: np.ndarray, rate: int, reading: ReadingOptions) -> tuple[np.ndarray, list[Remark]]:
    """Return the waveform ``(n_samples,)`` of channels, with remarks on these."""
    if channels.shape[1] == 1:
        return channels.mean(axis=1), []
    energy = channel_energy(channels, rate)
    chosen = chosen_channel(energy, reading)
    if chosen is not None:
        return channels[:, chosen], []
    return channels.mean(axis=1), _remarks_on_channels(channels, energy)


def chosen_channel(energy: ChannelEnergy, reading: ReadingOptions) -> int | None:
    """Return the channel of several that is read; None for their mean.

    Raises:
        InvalidAudioError: if they cancel in their mean, and no channel is named
    """
    if reading.channel == "loudest":
        return energy.loudest
    if reading.channel is None and (problem := energy.problem):
        raise InvalidAudioError(problem.code, problem.text)
    return None


def _remarks_on_channels(channels: np.ndarray, energy: ChannelEnergy) -> list[Remark]:
    remarks = []
    if energy.kept < KEPT_USUALLY:
        remarks.append(Remark(CANCELS_IN_PART, energy.kept))
    n_silent = int(is_silent(*level_range(channels)).sum())
    if n_silent:
        remarks.append(Remark(SILENT_CHANNEL, n_silent))
    return remarks
