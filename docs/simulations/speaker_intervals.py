"""How often a 95 % interval holds the true score: over utterances, over speakers, and as layerprobe computes it.

Corpora in which 30 % of the variance of ratings and of errors is the speaker's; the true correlation is .6.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.analysis.statistics.bootstrap import (
    bca_interval,
    pearson,
    resample_speakers,
    speaker_sums,
    without_each_speaker,
)

SPEAKERS, EACH, N_CORPORA, N_RESAMPLES, TRUE = (5, 10, 20, 40), 12, 500, 1000, 0.6
WAYS = ("utterances", "speakers, textbook BCa", "speakers, expanded BCa")


def coverage(n_speakers: int, rng: np.random.Generator) -> list[float]:
    """Return how often each way's interval holds the true correlation; corpora are columns."""
    groups = np.repeat(np.arange(n_speakers), EACH)

    def noise() -> np.ndarray:
        of_speaker = rng.normal(size=(n_speakers, N_CORPORA))[groups]
        return np.sqrt(0.3) * of_speaker + np.sqrt(0.7) * rng.normal(size=(len(groups), N_CORPORA))

    rating = noise()
    predicted = TRUE * rating + np.sqrt(1 - TRUE**2) * noise()
    held = []
    for way in WAYS:
        units = np.arange(len(groups)) if way == "utterances" else groups
        n_units = int(units.max()) + 1
        sums = speaker_sums(rating, predicted, units)
        counts = resample_speakers(n_units, n_resamples=N_RESAMPLES, rng=rng)
        estimate = pearson(sums.resampled(np.ones((1, n_units))))[0]
        resamples, left_out = pearson(sums.resampled(counts)), pearson(without_each_speaker(sums))
        expanded = None if way == WAYS[2] else float(10**9)
        interval = bca_interval(estimate, resamples, left_out, n_speakers=expanded)
        held.append(float(np.mean((interval.ci_low <= TRUE) & (interval.ci_high >= TRUE))))
    return held


rng = np.random.default_rng(0)
found = np.array([coverage(n, rng) for n in SPEAKERS])

print(f"percentage of {N_CORPORA} corpora whose 95 % interval holds the true score")
print("resampled units          " + "".join(f"{n:3d} speakers" for n in SPEAKERS))
for way, row in zip(WAYS, found.T, strict=True):
    print(f"{way:25s}" + "".join(f"{100 * value:10.0f} %" for value in row))

figure, ax = plt.subplots(figsize=(5.6, 3.5), layout="constrained")
ax.axhline(0.95, color="0.75", lw=1)
for way, row, colour in zip(WAYS, found.T, ("#d1702f", "#7a7a7a", "#1b6ca8"), strict=True):
    ax.plot(SPEAKERS, row, "o-", color=colour, label=way)
ax.legend(frameon=False, loc="lower right")
ax.set(xscale="log", xticks=SPEAKERS, xlabel="speakers", ylabel="fraction of intervals that hold the true score")
ax.set_xticks(SPEAKERS, [str(n) for n in SPEAKERS])
ax.set_xticks([], minor=True)
ax.set_ylim(0.7, 1.0)
