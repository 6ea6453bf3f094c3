"""Word error rate of ASR transcripts, with an interval over speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES, resample_speakers
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate
from layerprobe.probe.data.word_errors import WORD_ERRORS
from layerprobe.probe.results.run_folder import read_run_table
from layerprobe.probe.splits import speaker_groups

SEED = 0  # of the resamples
KINDS = ("substitutions", "deletions", "insertions")


def error_rates(table: pd.DataFrame, *, n_resamples: int = N_RESAMPLES) -> dict[str, Estimate]:
    """Return the word error rate and the rate of each kind of error, with 95 % intervals over speakers.

    Args:
        table: as `probe.data.word_errors.word_error_table` returns it
        n_resamples: number of bootstrap resamples of the speakers
    """
    groups = speaker_groups(table["speaker_id"].to_numpy(dtype=object))
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    counts = np.stack([table[k].to_numpy(dtype=float) for k in ("n_words", *KINDS)], axis=1)
    sums = np.zeros((n_groups, counts.shape[1]))
    np.add.at(sums, groups, counts)
    resamples = resample_speakers(n_groups, n_resamples=n_resamples, rng=np.random.default_rng(SEED)) @ sums
    total = sums.sum(axis=0)
    every = BootstrapSample(total, resamples, total - sums)

    def rates(values: np.ndarray) -> np.ndarray:
        errors = values[..., 1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.concatenate([errors.sum(axis=-1, keepdims=True), errors], axis=-1) / values[..., :1])

    return dict(zip(("word error rate", *KINDS), every.map(rates).estimated(), strict=True))


def read_word_errors(folder: Path, fingerprint: str) -> pd.DataFrame | None:
    """Return the word errors of a run, or None where its manifest has no human and ASR transcripts.

    Raises:
        InputError: if the file is missing, damaged, changed or of another run
    """
    return read_run_table(folder, WORD_ERRORS, fingerprint)
