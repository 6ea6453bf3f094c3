"""Numerical errors of an encoder on a sample of the corpus: measured before a run, logged and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.cache.journal import FILES
from layerprobe.probe.data.audio_hashes import records
from layerprobe.probe.data.inputs import TextReader
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.diagnostics import NetworkEncoder, precision_error, precision_summary
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.encoders.text import TranscriptEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.embedding import is_out_of_memory
from layerprobe.probe.extraction.estimate import N_SAMPLES, sample_waveforms
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.forward.linear_kernels import products_used
from layerprobe.probe.forward.stream.kernels import kernels_used
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.version import CACHE_FORMAT_VERSION

PRECISION = f"{FILES}/precision_error.csv"  # in the cache
# Of pooled layers, by the other utterances of a pack. Exact arithmetic would give 0: a sum's order moves the last bits.
MAX_COMPOSITION_ERROR = {"float32": 1e-5, "tf32": 1e-2, "bfloat16": 1e-2, "float16": 1e-2}
SHORTEST_SECONDS = 0.2  # of audio on which something is measured where memory is scarce
Sample = Sequence[np.ndarray | str]  # waveforms (n_samples,), or texts
T = TypeVar("T")


@dataclass(frozen=True)
class NumericalErrors:
    """What `measure_errors` found on a sample of a corpus."""

    table: pd.DataFrame  # of `probe.encoders.diagnostics.precision_error`
    summary: str  # the same in one sentence

    def keep(self, cache: Path, progress: NullProgress) -> None:
        """Write the table into a cache and log the summary."""
        marked = self.table.assign(format_version=CACHE_FORMAT_VERSION)
        replace_file(cache / PRECISION, marked.to_csv(index=False, lineterminator="\n"))
        progress.log(f"{self.summary}, see {cache / PRECISION}.")


def measure_errors(encoder: AnyEncoder, table: pd.DataFrame, settings: ExtractionSettings) -> NumericalErrors | None:
    """Measure the errors of an encoder's products, and of its packs, on a sample of a corpus.

    Where memory runs out, they are measured on the first halves of its utterances, as the summary then states.

    Args:
        encoder: of audio or text
        table: rows of a manifest
        settings: what is read of a recording, and the column of texts

    Returns:
        None where utterances are encoded singly in float32, or none of the sample can be read

    Raises:
        InputError: if other utterances of a pack move a layer by more than `MAX_COMPOSITION_ERROR`, or memory does not
            suffice for short utterances either
    """
    if not isinstance(encoder, NetworkEncoder) or (encoder.precision == "float32" and encoder.packed is None):
        return None
    sample = _sample(encoder, table, settings)
    if not sample:
        return None
    errors, held = within_memory(lambda some: precision_error(encoder, some), encoder, sample)
    check_composition(encoder, errors)
    summary = precision_summary(errors, encoder, n_sampled=len(sample))
    if held is not sample:
        n = max(map(len, held))
        size = f"{n / encoder.sampling_rate:.1f} s" if isinstance(encoder, SpeechEncoder) else f"{n} characters"
        summary += f"; of each the first {size} at most, because memory ran out with more"
    return NumericalErrors(errors, summary)


def within_memory(measure: Callable[[Sample], T], encoder: NetworkEncoder, sample: Sample) -> tuple[T, Sample]:
    """Measure something on a sample; where memory runs out, on the first halves of it, as often as is needed.

    Args:
        measure: is called with the sample, or with what is left of it
        encoder: that is measured
        sample: of its inputs

    Returns:
        what was measured, and the sample on which it was

    Raises:
        InputError: if memory does not suffice for one character or `SHORTEST_SECONDS` of each either
    """
    while True:
        try:
            return measure(sample), sample
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        shorter = _first_halves(encoder, sample)
        if list(map(len, shorter)) == list(map(len, sample)):
            raise InputError(
                "LP350",
                f"{encoder.upstream}: the memory of {encoder.device} does not suffice to encode short utterances. "
                "Nothing was written. End what else takes memory there, or name another --device.",
            )
        sample = shorter


def _first_halves(encoder: NetworkEncoder, sample: Sample) -> Sample:
    shortest = 1
    if isinstance(encoder, SpeechEncoder):
        shortest = max(encoder.minimum_samples, int(SHORTEST_SECONDS * encoder.sampling_rate))
    return [data[: max(shortest, len(data) // 2)] for data in sample]


def check_composition(encoder: NetworkEncoder, errors: pd.DataFrame) -> None:
    """Check that an utterance's layers do not depend on what it is encoded together with.

    Args:
        encoder: of audio or text
        errors: of `probe.encoders.diagnostics.precision_error`

    Raises:
        InputError: if a layer moves by more than `MAX_COMPOSITION_ERROR` of the encoder's precision
    """
    moved, limit = errors["composition_error"].to_numpy(), MAX_COMPOSITION_ERROR[encoder.precision]
    worst = worst_layer(moved, limit)
    if worst is None:
        return
    raise InputError(
        "LP353",
        f"{encoder.upstream}: layer {encoder.layers[worst]} of an utterance changes by {moved[worst]:.1e} (relative) "
        f"with what it is encoded together with, in the {encoder.forward} forward pass in {encoder.precision}; up to "
        f"{limit:.0e} is accepted. Nothing was written. Use --forward single, and report the encoder with what "
        "layerprobe check-encoder prints.",
    )


def worst_layer(errors: Sequence[float] | np.ndarray, limit: float) -> int | None:
    """Return the index of the layer whose error is the largest, NaN the largest of all; None if none exceeds a limit.

    >>> worst_layer([0.1, 0.3, 0.2], 0.2), worst_layer([0.1, 0.3, float("nan")], 0.2), worst_layer([0.1, 0.2], 0.2)
    (1, 2, None)
    """
    if all(error <= limit for error in errors):  # False for NaN
        return None
    return int(np.argmax(np.nan_to_num(errors, nan=np.inf)))


def log_numerics(encoder: AnyEncoder, progress: NullProgress) -> None:
    """Log why utterances run singly, what runs between products, an assumed extractor, and how 16-bit products run.

    The first is logged where packing was wanted, the second of this package's packed pass on a GPU, and 16-bit products
    of a processor.
    """
    if isinstance(encoder, NetworkEncoder) and encoder.packing_note:
        progress.log(encoder.packing_note)
    if isinstance(encoder, NetworkEncoder) and encoder.forward == "packed" and encoder.device != "cpu":
        progress.log(kernels_used(encoder.device))
    if not isinstance(encoder, SpeechEncoder):
        return
    if encoder.preprocessing_note:
        progress.log(encoder.preprocessing_note)
    if encoder.precision == "bfloat16" and encoder.device == "cpu":
        progress.log(products_used())


def _sample(encoder: NetworkEncoder, table: pd.DataFrame, settings: ExtractionSettings) -> list[np.ndarray] | list[str]:
    if isinstance(encoder, TranscriptEncoder):
        return sample_texts(table, settings.text_column)
    return sample_waveforms(table, encoder, reading=settings.reading)


def sample_texts(table: pd.DataFrame, column: str) -> list[str]:
    """Return a few evenly spaced transcripts of a manifest, at most `N_SAMPLES`, none of them empty."""
    if column not in table:
        return []
    reader = TextReader(column)
    texts = [text for row in records(table) if (text := str(reader.read(row).data))]
    n = min(len(texts), N_SAMPLES)
    return [texts[k * len(texts) // n] for k in range(n)]
