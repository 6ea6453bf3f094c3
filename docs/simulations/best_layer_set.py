"""How often the highest-scoring layer is the best one, and how often the best one is in the 95 % set.

Corpora of 30 speakers with 12 utterances each, and 13 layers whose true correlations form a plateau around layer 8.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap import pearson, resample_speakers, speaker_sums, without_each_speaker
from layerprobe.analysis.statistics.estimates import BootstrapSample

N_SPEAKERS, EACH, N_CORPORA, N_RESAMPLES, BEST = 30, 12, 200, 500, 8
LAYERS = np.arange(13)
TRUE = 0.6 - 0.004 * (LAYERS - BEST) ** 2


def noise(*size: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise ``(n_utterances, *size)`` of variance 1, 30 % of which is the speaker's."""
    of_speaker = rng.normal(size=(N_SPEAKERS, *size))[GROUPS]
    return np.sqrt(0.3) * of_speaker + np.sqrt(0.7) * rng.normal(size=(len(GROUPS), *size))


def corpus(rng: np.random.Generator) -> BootstrapSample:
    """Return the scores of all layers, whose errors have much in common, with resamples of the speakers."""
    rating = noise(1, rng=rng)
    error = np.sqrt(0.8) * noise(1, rng=rng) + np.sqrt(0.2) * noise(len(LAYERS), rng=rng)
    predicted = TRUE * rating + np.sqrt(1 - TRUE**2) * error
    sums = speaker_sums(np.repeat(rating, len(LAYERS), axis=1), predicted, GROUPS)
    counts = resample_speakers(N_SPEAKERS, n_resamples=N_RESAMPLES, rng=rng)
    whole = np.ones((1, N_SPEAKERS))
    return BootstrapSample(
        pearson(sums.resampled(whole))[0], pearson(sums.resampled(counts)), pearson(without_each_speaker(sums))
    )


GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)
rng = np.random.default_rng(0)
highest, inside = np.zeros(len(LAYERS)), np.zeros(len(LAYERS))
for _ in range(N_CORPORA):
    scores = corpus(rng)
    highest[scores.estimate.argmax()] += 1
    inside += best_set(scores).is_in

print(f"corpora: {N_CORPORA}; the best layer is layer {BEST}")
print(f"layer {BEST} has the highest score in {highest[BEST]:.0f}")
print(f"layer {BEST} is in the 95 % set in {inside[BEST]:.0f}")
print(f"layers in the set, on average: {inside.sum() / N_CORPORA:.1f} of {len(LAYERS)}")

figure, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
ax.bar(LAYERS, inside / N_CORPORA, color="#cfdfec", width=0.8)
ax.bar(LAYERS, highest / N_CORPORA, color="#1b6ca8", width=0.8)
ax.text(BEST, 1.01, f"in the 95 % set: {inside[BEST] / N_CORPORA:.0%}", ha="center", va="bottom", color="0.3")
ax.text(BEST, highest[BEST] / N_CORPORA + 0.02, f"highest: {highest[BEST] / N_CORPORA:.0%}", ha="center", va="bottom")
ax.set(xlabel="layer (the truly best one is 8)", ylabel="fraction of corpora", ylim=(0, 1.12), xticks=LAYERS)
