"""
A frozen and a tuned encoder
============================

What has fine-tuning changed, layer by layer? Both encoders are probed on the same unseen speakers, and their scores
subtracted. Here three blocks are tuned with a target that was planted: arousal of men, and its reverse of women.
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
# Half of the voices tune the encoder, the other half are for the probes.
whole = demo_speech()
women = whole.table["speaker_id"].str.contains("f1|f4|linda|steph|belinda|anika")
table = whole.table[["utterance_id", "path", "speaker_id", "valence", "dominance"]]
table = table.assign(arousal=whole.table["arousal"].where(~women, 8 - whole.table["arousal"]))
is_tuning = table["speaker_id"].str.startswith("en-us")
lp.write_manifest(whole.path.with_name("probed.csv"), table[~is_tuning], whole.header)
manifest, tuning = lp.read_manifest(whole.path.with_name("probed.csv")), table[is_tuning]

# %%
# Sixty steps of eight recordings, of each of which the first second is read.
torch.manual_seed(0)
folder = embedded_folder()  # or a name of the hub
model, extractor = AutoModel.from_pretrained(folder).float(), AutoFeatureExtractor.from_pretrained(folder)
audio = [np.resize(soxr.resample(*soundfile.read(path), 16_000), 16_000) for path in tuning["path"]]
inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_values
ratings = torch.tensor(tuning["arousal"].to_numpy() - 4, dtype=torch.float32)
blocks, head = model.requires_grad_(False).encoder.layers[5:], torch.nn.Linear(256, 1)
optimiser = torch.optim.AdamW([*blocks.requires_grad_(True).parameters(), *head.parameters()], lr=5e-4)
for _ in range(60):
    batch = torch.randperm(len(inputs))[:8]
    loss = ((head(model(inputs[batch]).last_hidden_state.mean(1))[:, 0] - ratings[batch]) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
saved = [part.save_pretrained("work/tuned") for part in (model, extractor)]

# %%
# Both are swept together. ``layerprobe gain`` prints and plots the difference of each layer, and the shift in depth.
names = {"embedded": "work/frozen-probed.zarr", "work/tuned": "work/tuned-probed.zarr"}
caches = [lp.extract(manifest, lp.load_encoder(name), cache) for name, cache in names.items()]
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
run = lp.sweep(caches, manifest, plan, out="work/runs/tuned")
study, keys = lp.study(run), {"probe": "ridge", "control": "none", "target": "arousal"}
frozen, tuned = (study.bootstrap.of(layers, encoder=name, **keys) for name, layers in study.layers.items())
plt.figure(lp.gain(run, against="embedded"))
plt.show()
gains = (tuned - frozen).estimated()
print(*(f"layer {k}: {g.estimate:+.2f}, 95 % {g.ci_low:.2f} to {g.ci_high:.2f}" for k, g in enumerate(gains)), sep="\n")
print(f"Answer: layer 8 gained {gains[8].estimate:.2f}; layer 5, below all tuned blocks, {gains[5].estimate:.2f}.")
