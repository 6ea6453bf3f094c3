"""How often a 90 % interval holds the rating of a new speaker's utterance, by the number of speakers calibrated on.

Run from the root: ``python tests/benchmarks/interval_coverage.py [N_CORPORA]``. Three ways on errors of simulated
speakers (tests/helpers/simulated_speakers.py): one utterance sampled of each speaker, averaged over samples, as
layerprobe does; all errors weighted, with the new speaker's weight at infinity (Lee, Barber and Willett, 2023); and all
utterances as if exchangeable (Lei et al., 2018). Last, ridge heads that are refitted on all speakers after the
predictions of the folds gave the interval, as deploying does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.simulated_speakers import (
    KINDS,
    SpeakerErrors,
    coverage_of_refitted_heads,
    hierarchical_half_width,
    pooled_half_width,
)

from layerprobe.probe.predictors.conformal import half_width, reachable_level

SPEAKERS = (5, 9, 12, 24, 50, 100)


def coverages(kind: str, n_speakers: int, n_corpora: int, rng: np.random.Generator) -> np.ndarray:
    """Mean coverage of each way, and the standard error of the first."""
    simulated, level, rows = SpeakerErrors(kind), reachable_level(n_speakers), []
    for _ in range(n_corpora):
        errors, speakers = simulated.draw(n_speakers, rng)
        widths = (
            half_width(errors, speakers, level=level, rng=rng),
            hierarchical_half_width(errors, speakers, level=level),
            pooled_half_width(errors, level=level),
        )
        rows.append([simulated.coverage(width, rng) for width in widths])
    return np.array([*np.mean(rows, axis=0), np.std([row[0] for row in rows]) / np.sqrt(n_corpora)])


def main(n_corpora: int = 500) -> None:
    """Print a table for each kind of speakers."""
    rng = np.random.default_rng(0)
    print(f"{n_corpora} corpora each; coverage of the stated level")
    print(f"{'speakers':22s}{'level':>7s}{'ours':>8s}{'s.e.':>7s}{'weighted':>10s}{'utterances':>12s}")
    for kind in KINDS:
        for n in SPEAKERS:
            ours, weighted, pooled, error = coverages(kind, n, n_corpora, rng)
            print(
                f"{kind:12s}{n:6d}    {reachable_level(n):7.3f}{ours:8.3f}{error:7.3f}{weighted:10.3f}{pooled:12.3f}",
                flush=True,
            )
    for n in SPEAKERS:
        found = [coverage_of_refitted_heads(n, rng) for _ in range(n_corpora // 4)]
        error = np.std(found) / np.sqrt(len(found))
        print(f"{'refitted':12s}{n:6d}    {reachable_level(n):7.3f}{np.mean(found):8.3f}{error:7.3f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
