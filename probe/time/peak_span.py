"""The span of each utterance whose held-out prediction stands out most, with a threshold from permuted ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONSISTENT = 1.4826  # of the median absolute deviation to the standard deviation of a normal distribution
FEWEST_SPANS = 2  # of an utterance with a peak


@dataclass(frozen=True)
class PeakSpans:
    """One span for each utterance with two spans or more."""

    span: np.ndarray  # (n_utterances,) row of the span
    utterance: np.ndarray  # (n_utterances,) the number of the utterance
    n_spans: np.ndarray  # (n_utterances,)
    value: np.ndarray  # (n_utterances,) prediction of the span
    deviation: np.ndarray  # (n_utterances,) from the median of the utterance, in robust standard deviations
    p_value: np.ndarray  # (n_utterances,) of as large a deviation where ratings are permuted; NaN without permutations


def peak_span(prediction: np.ndarray, permuted: np.ndarray, utterance: np.ndarray) -> PeakSpans:
    """Return for each utterance the span with the highest held-out prediction relative to the utterance's other spans.

    A prediction deviates from the median over the spans of its utterance, so that what the whole utterance has in
    common (voice, level, channel) counts for nothing. The p-value of an utterance is the fraction of permutations of
    the ratings, the observed ones counted as one, in which its largest deviation is as large (Phipson and Smyth, 2010),
    in the unit of the ratings: where nothing can be predicted, predictions are near the mean, and a fraction of .05 of
    the utterances has a p-value up to .05. Where something can be predicted, utterances in which nothing happens vary
    more than that, too; ``deviation`` compares a peak with all spans of the observed predictions.

    Args:
        prediction: held out, ``(n_spans,)``; NaN for spans that are not used
        permuted: the same for permutations of the ratings, ``(n_spans, n_permutations)``; may have no column
        utterance: ``(n_spans,)`` a number per utterance

    Returns:
        the peaks, by rising numbers of utterances
    """
    used = np.flatnonzero(np.isfinite(prediction))
    order = used[np.argsort(utterance[used], kind="stable")]
    numbers, first, counts = np.unique(utterance[order], return_index=True, return_counts=True)
    kept = counts >= FEWEST_SPANS
    if not kept.any():
        none = np.empty(0)
        return PeakSpans(none.astype(int), none.astype(int), none.astype(int), none, none, none)
    rows = [order[begin : begin + n] for begin, n in zip(first[kept], counts[kept], strict=True)]
    every = np.column_stack([prediction, permuted])
    deviations = np.concatenate([every[of] - np.median(every[of], axis=0) for of in rows])
    scale = CONSISTENT * float(np.median(np.abs(deviations[:, 0]))) or float(deviations[:, 0].std())
    begins = np.cumsum([0, *map(len, rows)])[:-1]
    largest = np.maximum.reduceat(deviations, begins, axis=0)  # (n_utterances, 1 + n_permutations)
    span = np.array([of[np.argmax(prediction[of])] for of in rows])
    n = permuted.shape[1]
    p = (1 + (largest[:, 1:] >= largest[:, :1]).sum(axis=1)) / (1 + n) if n else np.full(len(rows), np.nan)
    relative = largest[:, 0] / scale if scale > 0 else np.zeros(len(rows))
    return PeakSpans(span, numbers[kept], counts[kept], prediction[span], relative, p)
