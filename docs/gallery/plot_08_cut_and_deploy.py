"""
Cut and deploy
==============

How do I deploy the layer that is enough, without the blocks above it? ``lp.deploy`` cuts the encoder at the lowest
layer that is not significantly worse than the best, fits a head for each rating on all speakers, and calibrates the
prediction intervals; ``lp.load_predictor`` rates a waveform with it (:doc:`/deploying`).
"""

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import soxr
from demo_speech import demo_speech

import layerprobe as lp

# %%
# A sweep in float32. Prosody, on which dominance depends in this corpus, is encoded before the first block, so it may
# be that one block, the fewest that an encoder can have, is enough.
manifest = demo_speech()
cache = lp.extract(manifest, lp.load_encoder("embedded", precision="float32"), "work/embedded-float32.zarr")
plan = lp.plan_sweep(manifest, targets=("dominance",), controls=(), weighted_sum_seeds=0)
run = lp.sweep([cache], manifest, plan, out="work/runs/deploy")
plt.figure(lp.best_layer(run))
plt.show()

# %%
# The predictor, a folder of its own, with its reason for the layer and the score of the same probe on unseen speakers.
deployed = lp.deploy(run, "work/models/dominance")
layer, score = deployed.chosen[0], deployed.scores[0]
kept, whole = deployed.parameters
print(f"layer {layer.layer}, {layer.reason}; {score['estimate']:.2f} ({score['ci_low']:.2f} to {score['ci_high']:.2f})")

# %%
# What is deployed equals what was probed: the embeddings of recordings of the cache are the same.
predictor = lp.load_predictor("work/models/dominance", device="cpu")
probed = cache.read_layer(layer.layer, np.arange(10))
paths = manifest.table.set_index("utterance_id").loc[cache.utterance_ids[:10], "path"]
again = [predictor.embed(soxr.resample(*soundfile.read(path, dtype="float32"), 16_000))[layer.layer] for path in paths]
difference = np.abs(np.stack(again) - probed).max()

# %%
# It rates a recording that no step before has read. From the command line the same is
# ``layerprobe predict work/models/dominance recording.wav --out ratings.csv``.
value, low, high = predictor(*soundfile.read("work/demo/wav/en-us_m1_01.wav"))["dominance"]
blocks = f"{deployed.plan.n_blocks} of {deployed.plan.n_blocks_of_whole} blocks"
print(f"Answer: {blocks} and {kept:,} of {whole:,} parameters are deployed.")
print(f"The largest difference from the cache is {difference:.0e}.")
print(f"A new recording is rated {value:.1f} ({low:.1f} to {high:.1f} in {100 * deployed.plan.level:.0f} %).")
