"""
Random initialisation
=====================

How much of a score comes from what the encoder has learnt, and how much from its architecture alone? The same
network with random weights sees the same audio. What it scores is due to the audio, the architecture and the probe.
"""

import matplotlib.pyplot as plt
from demo_speech import demo_speech

import layerprobe as lp

# %%
# Two caches: of the trained weights, and of random ones (seed 0) of the same architecture.
manifest = demo_speech()
trained = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
random = lp.extract(manifest, lp.load_encoder("embedded", random_init=0), "work/embedded-random.zarr")

# %%
# One sweep probes both on the same folds, so that their difference is paired (:doc:`/controls`).
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
run = lp.sweep([trained], manifest, plan, random_weights=[random], out="work/runs/random")
plt.figure(lp.gain_over_random(run))
plt.show()

# %%
# The same as a table: the gain of each layer, with a 95 % interval over speakers.
study = lp.study(run)
gains = study.gain_over_random
print(gains.round(3).to_string(index=False))

# %%
# The highest-scoring layers of both, which may lie at different depths, are compared in a table of its own.
best = study.gain_over_best_random.set_index("target").loc["arousal"]
scores = study.table[(study.table["probe"] == "ridge") & (study.table["target"] == "arousal")]
untrained = scores[scores["control"] == "random_init"]["value"].max()
print(f"Answer: for arousal the best layer with random weights scores {untrained:.2f}. The best trained layer")
print(f"({best['layer']}) is better by {best['value']:.2f}, 95 % {best['ci_low']:.2f} to {best['ci_high']:.2f}.")
