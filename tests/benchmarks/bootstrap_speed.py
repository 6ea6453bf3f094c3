"""2,000 bootstrap resamples of speakers for 25 layers and 3 targets of 20,000 utterances, and the plain loop.

The loop gathers each resample's utterances and scores every column of them; some resamples are timed and
represent all. Both score the same resamples, and their greatest difference is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from layerprobe.analysis.statistics.bootstrap import ccc, resample_speakers, speaker_sums
from layerprobe.probe import metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--speakers", type=int, default=400)
    parser.add_argument("--columns", type=int, default=75)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--looped", type=int, default=20, help="resamples of the plain loop that are timed")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n = options.utterances
    groups = rng.integers(options.speakers, size=n)
    truth = rng.normal(4, 1, size=(n, options.columns))
    prediction = 0.5 * truth + rng.normal(size=truth.shape)
    rows_of = [np.flatnonzero(groups == s) for s in range(options.speakers)]
    ratios = []
    for repeat in range(options.repeats):
        began = time.perf_counter()
        counts = resample_speakers(options.speakers, n_resamples=options.resamples, rng=np.random.default_rng(repeat))
        scores = ccc(speaker_sums(truth, prediction, groups).resampled(counts))
        ours = time.perf_counter() - began
        began = time.perf_counter()
        looped = np.empty((options.looped, options.columns))
        for k in range(options.looped):
            rows = np.concatenate([np.repeat(r, int(c)) for r, c in zip(rows_of, counts[k], strict=True)])
            looped[k] = [metrics.ccc(truth[rows, c], prediction[rows, c]) for c in range(options.columns)]
        loop = (time.perf_counter() - began) * options.resamples / options.looped
        ratios.append(loop / ours)
        error = np.abs(looped - scores[: options.looped]).max()
        print(f"ours {ours:.3f} s, the plain loop {loop:.0f} s, greatest difference {error:.1e}", flush=True)
    print(f"the plain loop / ours: {statistics.median(ratios):.0f}")


if __name__ == "__main__":
    main()
