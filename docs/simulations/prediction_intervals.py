"""How often a prediction interval of 90 % holds the rating of a new speaker's utterance: over speakers or utterances.

Each simulated speaker has a scale of errors and a bias of its own; those who talk most err least, as in corpora in
which a few trained voices speak half of all utterances. ``tests/benchmarks/interval_coverage.py`` has other
kinds of speakers, another way to weight them, and heads that are refitted on all speakers.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from layerprobe.probe.predictors.conformal import half_width, reachable_level

N_CORPORA, N_NEW, SPEAKERS = 300, 400, (5, 9, 12, 24, 50)


def speakers(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bias, the scale of errors and the number of utterances of n speakers."""
    size = rng.normal(size=n)
    counts = np.maximum(2, np.rint(np.exp(2.5 + 1.2 * size))).astype(int)
    return np.sqrt(0.1) * rng.normal(size=n), np.sqrt(0.9) * np.exp(-0.8 * size), counts


def coverage(width: float, rng: np.random.Generator) -> float:
    """Return the probability that the error of a new speaker's utterance is within a half-width."""
    bias, scale, _ = speakers(N_NEW, rng)
    return float(np.mean(norm.cdf((width - bias) / scale) - norm.cdf((-width - bias) / scale)))


def coverages(n: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the coverage of one corpus, calibrated over speakers and over utterances."""
    bias, scale, counts = speakers(n, rng)
    of_row, level = np.repeat(np.arange(n), counts), reachable_level(n)
    errors = bias[of_row] + scale[of_row] * rng.normal(size=len(of_row))
    pooled = np.sort(np.abs(errors))[min(len(errors), int(np.ceil((len(errors) + 1) * level))) - 1]
    return coverage(half_width(errors, of_row, level=level, rng=rng), rng), coverage(float(pooled), rng)


rng = np.random.default_rng(0)
found = np.array([np.mean([coverages(n, rng) for _ in range(N_CORPORA)], axis=0) for n in SPEAKERS])
levels = np.array([reachable_level(n) for n in SPEAKERS])

print(f"ratings of new speakers that the interval holds, in percent; {N_CORPORA} corpora each")
print("speakers   level   over speakers   over utterances")
for n, level, (ours, pooled) in zip(SPEAKERS, levels, found, strict=True):
    print(f"{n:8d}{100 * level:8.0f}{100 * ours:16.0f}{100 * pooled:18.0f}")

figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
ax.plot(SPEAKERS, levels, color="0.6", lw=1, ls="--")
for values, name, colour in zip(found.T, ("over speakers", "over utterances"), ("#1b6ca8", "#d1702f"), strict=True):
    ax.plot(SPEAKERS, values, "o-", color=colour)
    ax.text(SPEAKERS[-1], values[-1] - 0.015, name, color=colour, ha="right", va="top")
ax.text(SPEAKERS[-1], levels[-1] + 0.01, "stated level", color="0.45", ha="right", va="bottom")
ax.set(xlabel="speakers that intervals are calibrated on", ylabel="ratings of new speakers held", ylim=(0.5, 1))
