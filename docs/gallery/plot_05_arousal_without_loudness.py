"""
Arousal without loudness
========================

What does an encoder encode of arousal beyond loudness? Each layer is fitted together with the loudness
features of the acoustic cache, which are the covariate. What both explain, minus what loudness explains alone, is the
variance that is unique to the layer.
"""

import matplotlib.pyplot as plt
from demo_speech import demo_speech

import layerprobe as lp

# %%
# The acoustic features have named groups in place of layers.
manifest = demo_speech()
cache = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
acoustic = lp.extract(manifest, lp.load_encoder("acoustic"), "work/acoustic.zarr")
print("Groups of acoustic features:", ", ".join(acoustic.layers))

# %%
# A covariate is a layer of a cache, named as CACHE@LAYER. Layer and covariate have a penalty each (banded ridge).
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
run = lp.sweep([cache], manifest, plan, covariates=[f"{acoustic.path}@loudness"], out="work/runs/loudness")
parts = lp.study(run).variance_partition
print(parts[["layer", "layer_alone", "covariates_only", "unique_layer", "shared"]].round(3).to_string(index=False))

# %%
# The height of a column is what layer and loudness explain together.
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bottom = 0
for part, label, color in [
    ("unique_covariates", "loudness alone", "0.8"),
    ("shared", "both", "0.6"),
    ("unique_layer", "the layer alone", "C0"),
]:
    ax.bar(parts["layer"].astype(int), parts[part], bottom=bottom, label=label, color=color)
    bottom = bottom + parts[part]
ax.set(xlabel="layer", ylabel="explained variance of arousal (R²)", ylim=(0, 1))
ax.legend(ncols=3, loc="upper center", frameon=False)
plt.show()

# %%
best = parts.loc[parts["unique_layer"].idxmax()]
print(f"Answer: loudness alone explains {best['covariates_only']:.2f} of arousal's variance. Layer {best['layer']}")
print(f"adds {best['unique_layer']:.2f}, 95 % {best['unique_layer_ci_low']:.2f} to {best['unique_layer_ci_high']:.2f},")
print("the most of all layers; a maximum over layers is optimistic.")
