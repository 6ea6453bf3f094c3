"""
Your own figure
===============

How do I plot a figure that layerprobe does not have? ``scores.parquet`` of a run has a row for each score, with its
conditions in columns of their own, so that pandas, polars, R or Julia make any figure of it. Here it is how much the
score of each layer varies between folds, for two targets.
"""

import matplotlib.pyplot as plt
import pandas as pd
from demo_speech import demo_speech

import layerprobe as lp

# %%
# A run.
manifest = demo_speech()
cache = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
run = lp.sweep([cache], manifest, lp.plan_sweep(manifest, controls=(), weighted_sum_seeds=0), out="work/runs/figure")

# %%
# Its scores (:doc:`/formats`). A row is of one encoder, probe, layer, target, control, fold, seed and metric.
scores = pd.read_parquet(run.path / "scores.parquet")  # of your own run: runs/first/scores.parquet
print(scores[["probe", "layer", "target", "control", "fold", "metric", "value"]].sample(5, random_state=0))

# %%
# Ridge regression on each layer, without a control; ``layer_index`` is the layer as a number.
ridge = scores.query("probe == 'ridge' and control == 'none' and baseline == '' and metric == 'pearson'")
ridge = ridge[ridge["layer_index"].notna() & ridge["target"].isin(["arousal", "valence"])]
ridge = ridge[ridge["encoder"] == "embedded"]  # a run can have several encoders
folds, pooled = ridge[ridge["fold"] != "pooled"], ridge[ridge["fold"] == "pooled"]

fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for ax, target in zip(axes, ["arousal", "valence"], strict=True):
    dots, line = folds[folds["target"] == target], pooled[pooled["target"] == target]
    ax.plot(dots["layer_index"], dots["value"], "o", color="0.7", label="one fold")
    ax.plot(line["layer_index"], line["value"], color="C0", label="all held-out utterances")
    ax.set(title=target, xlabel="layer")
axes[0].set_ylabel("Pearson's r")
axes[0].legend(frameon=False, loc="lower left")
plt.show()

# %%
ranges = folds.groupby(["target", "layer"])["value"].agg(lambda r: r.max() - r.min()).groupby("target").median()
for target, value in ranges.items():
    print(f"Answer: the correlation of {target} differs by {value:.2f} between folds, in the median layer.")
