"""
Your own encoder
================

How do I probe an architecture that layerprobe does not know? An adapter states where the model keeps its blocks and how
a waveform becomes its input. Here it is a wav2vec 2.0 conformer with random weights, made from its configuration.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import soundfile
import soxr
import torch
from demo_speech import demo_speech
from transformers import AutoModel, Wav2Vec2ConformerConfig, Wav2Vec2FeatureExtractor

import layerprobe as lp

# %%
# The model, as ``save_pretrained`` writes it.
torch.manual_seed(0)
sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
config = Wav2Vec2ConformerConfig(**sizes, conv_dim=(32,) * 7)
model, extractor = AutoModel.from_config(config).eval(), Wav2Vec2FeatureExtractor()
extractor.save_pretrained("work/conformer")
model.save_pretrained("work/conformer")

# %%
# The adapter (:doc:`/adding-an-architecture`). After its final norm a conformer has one layer more, ``final``.
Path("work/conformer_adapter.py").write_text("""\
from layerprobe.probe.encoders.architectures import (
    Architecture, convolutions_give, convolutions_need, overlapping, waveform_chunks,
)
ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=lambda encoder: encoder.encoder.layer_norm,
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=convolutions_give,
)
""")
manifest = demo_speech()
encoder = lp.load_encoder("work/conformer", adapter="work/conformer_adapter.py")
cache = lp.extract(manifest, encoder, "work/conformer.zarr")
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
plt.figure(lp.curves(lp.sweep([cache], manifest, plan, out="work/runs/conformer")))
plt.show()

# %%
# Layer 2 of an utterance by transformers alone; ``layerprobe check-encoder`` compares all layers so.
samples, rate = soundfile.read(manifest.table["path"][0], dtype="float32")
inputs = extractor(soxr.resample(samples, rate, 16_000), sampling_rate=16_000, return_tensors="pt")
states = model(**inputs, output_hidden_states=True).hidden_states
cached = cache.frame(layer=2, pooling="mean").loc[manifest.table["utterance_id"][0]]
difference = abs(cached - states[2].mean(1)[0].detach().numpy()).max()
print(f"Answer: layers {', '.join(cache.layers)} are cached; layer 2 is transformers' within {difference:.0e}.")
