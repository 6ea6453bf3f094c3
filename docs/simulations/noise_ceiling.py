"""The highest correlation with the mean of k raters, and the ceiling that is estimated from their ratings.

1,000 utterances; one rater's rating is the true score and an error, with a reliability ICC(1) of .3.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.probe.metrics import pearson
from layerprobe.probe.tasks.agreement import intraclass_correlation

N_UTTERANCES, RELIABILITY, RATERS = 1000, 0.3, (2, 3, 5, 8, 12)

rng = np.random.default_rng(0)
true_score = np.sqrt(RELIABILITY) * rng.normal(size=N_UTTERANCES)
ratings = true_score[:, None] + np.sqrt(1 - RELIABILITY) * rng.normal(size=(N_UTTERANCES, max(RATERS)))
reached = [pearson(ratings[:, :k].mean(axis=1), true_score) for k in RATERS]
estimated = []
for k in RATERS:
    agreement = intraclass_correlation(ratings[:, :k])
    estimated.append(agreement.ceiling if agreement else np.nan)

print("raters   correlation of the true score with their mean   estimated ceiling")
for k, r, ceiling in zip(RATERS, reached, estimated, strict=True):
    print(f"{k:6d} {r:47.2f} {ceiling:19.2f}")

k = np.linspace(1, max(RATERS), 100)
figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
ax.plot(k, np.sqrt(k * RELIABILITY / (1 + (k - 1) * RELIABILITY)), color="0.75", lw=1)
ax.plot(RATERS, reached, "o", color="#1b6ca8")
ax.plot(RATERS, estimated, "x", color="#d1702f", ms=8)
ax.text(12, 0.66, "● the true score, correlated with the mean rating", color="#1b6ca8", ha="right")
ax.text(12, 0.61, "× ceiling estimated from the ratings alone", color="#d1702f", ha="right")
ax.text(12, 0.56, "— theory", color="0.5", ha="right")
ax.set(xlabel="raters of each utterance", ylabel="correlation", ylim=(0.5, 1))
