"""A target that is only weaker seems to lie elsewhere by centres of gravity, and does not by the shift.

Corpora of 60 speakers and an encoder of 12 blocks; valence has the profile of arousal over layers with a weaker signal,
or the same one block deeper.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.analysis.layers.depth import score_centre
from layerprobe.analysis.layers.shift import on_both_scales, shifts, signal_to_noise
from layerprobe.analysis.statistics.bootstrap import pearson, resample_speakers, speaker_sums, without_each_speaker
from layerprobe.analysis.statistics.estimates import BootstrapSample

N_SPEAKERS, EACH, N_BLOCKS, N_CORPORA, N_RESAMPLES = 60, 12, 12, 40, 300
DEPTH = np.linspace(0, 1, N_BLOCKS + 1)
GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)
WEAKER = 0.2  # signal-to-noise ratio of valence relative to that of arousal


def profile(blocks_deeper: float, signal: float) -> np.ndarray:
    """Return true correlations of all layers: a hump in the middle of the encoder."""
    r = 0.35 + 0.4 * np.exp(-0.5 * ((DEPTH - blocks_deeper / N_BLOCKS - 0.4) / 0.2) ** 2)
    ratio = signal * signal_to_noise(r)
    return np.asarray(np.sqrt(ratio / (1 + ratio)))


def noise(*size: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of variance 1, 30 % of which is the speaker's."""
    of_speaker = rng.normal(size=(N_SPEAKERS, *size))[GROUPS]
    return np.sqrt(0.3) * of_speaker + np.sqrt(0.7) * rng.normal(size=(len(GROUPS), *size))


def scores(r: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> BootstrapSample:
    """Return the scores of all layers for one target."""
    rating, error = noise(1, rng=rng), noise(1, rng=rng)
    predicted = r * rating + np.sqrt(1 - r**2) * (np.sqrt(0.9) * error + np.sqrt(0.1) * noise(len(r), rng=rng))
    sums = speaker_sums(np.repeat(rating, len(r), axis=1), predicted, GROUPS)
    whole = sums.resampled(np.ones((1, N_SPEAKERS)))
    return BootstrapSample(pearson(whole)[0], pearson(sums.resampled(counts)), pearson(without_each_speaker(sums)))


def tested(blocks_deeper: float, rng: np.random.Generator) -> tuple[list[float], list[bool]]:
    """Return the difference of depths by centres and by the shift, and whether each is significant."""
    counts = resample_speakers(N_SPEAKERS, n_resamples=N_RESAMPLES, rng=rng)
    valence = scores(profile(blocks_deeper, WEAKER), counts, rng)
    arousal = scores(profile(0.0, 1.0), counts, rng)
    centres = (valence.map(lambda s: score_centre(s, DEPTH)) - arousal.map(lambda s: score_centre(s, DEPTH))).one()
    shift = on_both_scales(shifts(valence, arousal))
    both = (centres, shift)
    return [e.estimate * N_BLOCKS for e in both], [e.ci_low > 0 or e.ci_high < 0 for e in both]


rng = np.random.default_rng(0)
found = {deeper: [tested(deeper, rng) for _ in range(N_CORPORA)] for deeper in (0, 1, 2)}

print(f"{N_CORPORA} corpora each; significant, and mean difference in blocks")
for deeper, results in found.items():
    blocks = np.mean([estimates for estimates, _ in results], axis=0)
    n = np.sum([significant for _, significant in results], axis=0)
    print(f"valence {deeper} blocks deeper: centres {n[0]} ({blocks[0]:+.1f}), shift {n[1]} ({blocks[1]:+.1f})")

figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained", width_ratios=(1.1, 1))
for name, r, colour in (
    ("arousal", profile(0, 1), "#1b6ca8"), ("valence", profile(0, WEAKER), "#d1702f"),
):  # fmt: skip
    left.plot(DEPTH * N_BLOCKS, r, color=colour)
    left.text(N_BLOCKS - 2, r[-3] + 0.04, name, color=colour)
left.set(xlabel="layer", ylabel="true correlation", title="equal profiles, weaker valence", ylim=(0, 0.85))
for k, (name, colour) in enumerate((("centres", "#7a7a7a"), ("shift", "#1b6ca8"))):
    fractions = [np.mean([significant[k] for _, significant in found[d]]) for d in found]
    right.plot(list(found), fractions, "o-", color=colour, label=name)
right.axhline(0.05, color="0.75", lw=1)
right.set(xlabel="valence deeper by … blocks", ylabel="fraction significant", xticks=list(found), ylim=(0, 1.02))
right.legend(frameon=False)
