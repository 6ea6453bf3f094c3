"""
A frozen and a tuned encoder
============================

What has fine-tuning changed, layer by layer? Two encoders of the same layers are probed on the same unseen speakers,
and their scores subtracted layer by layer. Here the last three blocks of a copy are tuned for a few steps, with a
planted target that no layer encodes linearly: arousal of men, and its reverse of women.
"""

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from demo_speech import demo_speech
from transformers import AutoFeatureExtractor, AutoModel

import layerprobe as lp

# %%
# Half of the voices tune the encoder, the other half are for the probes.
whole = demo_speech()
women = whole.table["speaker_id"].str.contains("f1|f4|linda|steph|belinda|anika")
table = whole.table.assign(arousal=whole.table["arousal"].where(~women, 8 - whole.table["arousal"]))
is_tuning = table["speaker_id"].str.startswith("en-us")
lp.write_manifest(whole.path.with_name("probed.csv"), table[~is_tuning], whole.header)
manifest, tuning = lp.read_manifest(whole.path.with_name("probed.csv")), table[is_tuning]

# %%
# Ninety steps of eight recordings, of which the first 1.3 s are read.
torch.manual_seed(0)
folder = f"{lp.__path__[0]}/probe/embedded"  # of the small encoder that comes with the package
model, extractor = AutoModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
audio = [soundfile.read(path, frames=28_665)[0] for path in tuning["path"]]  # at 22,050 Hz
short = np.stack([np.interp(np.arange(20_800) * 22_050 / 16_000, np.arange(len(a)), a, right=0) for a in audio])
inputs = extractor(list(short), sampling_rate=16_000, return_tensors="pt").input_values
ratings = torch.tensor(tuning["arousal"].to_numpy() - 4, dtype=torch.float32)
blocks, head = model.requires_grad_(False).encoder.layers[5:].requires_grad_(True), torch.nn.Linear(256, 1)
optimiser = torch.optim.AdamW([*blocks.parameters(), *head.parameters()], lr=5e-4)
for _ in range(90):
    batch = torch.randperm(len(inputs))[:8]
    loss = ((head(model(inputs[batch]).last_hidden_state.mean(1))[:, 0] - ratings[batch]) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
model.save_pretrained("work/tuned")
extractor.save_pretrained("work/tuned")

# %%
# Both are swept together, and the difference is taken within each bootstrap resample of the speakers.
caches = [lp.extract(manifest, lp.load_encoder(name), f"work/{name[-8:]}-probed.zarr") for name in ("embedded", "work/tuned")]
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
study = lp.study(lp.sweep(caches, manifest, plan, out="work/runs/tuned"))
frozen, tuned = (study.bootstrap.of(study.layers[e], encoder=e, control="none", probe="ridge", target="arousal") for e in study.layers)
differences = (tuned - frozen).estimated()
for layer, found in enumerate(differences):
    print(f"layer {layer}: {found.estimate:+.2f}, 95 % {found.ci_low:.2f} to {found.ci_high:.2f}")
