"""
Cut and deploy
==============

How do I deploy the layer that is enough, without the blocks above it? transformers loads as many blocks as its
configuration states, ``LayerRidge`` fits the probe on all speakers, and the rating of new audio is one product.
"""

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import soxr
import torch
from demo_speech import demo_speech
from transformers import AutoFeatureExtractor, AutoModel

import layerprobe as lp
from layerprobe.probe.encoders.embedded import embedded_folder

# %%
# The lowest layer that is not significantly worse than the best, in float32. Prosody, on which dominance depends in
# this corpus, is encoded before the first block, so it may be that no block is needed.
manifest = demo_speech()
cache = lp.extract(manifest, lp.load_encoder("embedded", precision="float32"), "work/embedded-float32.zarr")
plan = lp.plan_sweep(manifest, targets=("dominance",), controls=(), weighted_sum_seeds=0)
run = lp.sweep([cache], manifest, plan, out="work/runs/deploy")
plt.figure(lp.best_layer(run))
plt.show()
layer = int(lp.study(run).answers[0].best_set[0])

# %%
# The encoder up to that layer (:doc:`/deploying`). In encoders that normalise before each block, replace the final
# norm by ``torch.nn.Identity()``: the layers of a cache are those before it.
folder = embedded_folder()  # or a name of the hub
cut = AutoModel.from_pretrained(folder, num_hidden_layers=layer).float().eval()
whole = AutoModel.from_pretrained(folder)
extractor = AutoFeatureExtractor.from_pretrained(folder)
sizes = [sum(p.numel() for p in model.parameters()) for model in (cut, whole)]

# %%
# The probe: all speakers train it, and its penalty is chosen on folds of speakers. It has seen the means over time.
table = manifest.table.set_index("utterance_id").loc[cache.utterance_ids]
probe = lp.LayerRidge().fit(cache.read_layer(layer, pooling="mean"), table["dominance"], groups=table["speaker_id"])
np.savez("work/probe.npz", coefficients=probe.coef_, intercept=probe.intercept_)


def embed(path):
    """Return the mean over time of the cut encoder's last layer, (dim,)."""
    inputs = extractor(soxr.resample(*soundfile.read(path), 16_000), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return cut(**inputs).last_hidden_state.mean(1)[0].numpy()


# %%
# What is deployed equals what was probed, and rates a recording that no step before has read.
known = np.stack([embed(path) for path in table["path"][:10]])
difference = np.abs(known - cache.read_layer(layer, np.arange(10), pooling="mean")).max()
rating = embed("work/demo/wav/en-us_m1_01.wav") @ probe.coef_ + probe.intercept_
print(f"Answer: {layer} of {len(cache.layers) - 1} blocks and {sizes[0]:,} of {sizes[1]:,} parameters are deployed.")
print(f"The largest difference from the cache is {difference:.0e}; the dominance of a new recording is {rating:.1f}.")
