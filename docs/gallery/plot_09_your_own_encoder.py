"""
Your own encoder
================

How do I probe an architecture that layerprobe does not know? An adapter states where the model keeps its blocks and how
a waveform becomes its input. Here it is a wav2vec 2.0 conformer with random weights, made from its configuration.
"""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from demo_speech import demo_speech
from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2ConformerConfig, Wav2Vec2FeatureExtractor

import layerprobe as lp

# %%
# The model, as ``save_pretrained`` writes it.
torch.manual_seed(0)
config = Wav2Vec2ConformerConfig(
    hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, conv_dim=(32,) * 7
)
AutoModel.from_config(config).save_pretrained("work/conformer")
Wav2Vec2FeatureExtractor().save_pretrained("work/conformer")

# %%
# The adapter. A conformer normalises before each block, so it has a final norm, whose output is the layer ``final``.
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
cache = lp.extract(
    manifest, lp.load_encoder("work/conformer", adapter="work/conformer_adapter.py"), "work/conformer.zarr"
)
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
lp.curves(lp.sweep([cache], manifest, plan, out="work/runs/conformer"))

# %%
# Layer 2 of an utterance by transformers alone; ``layerprobe check-encoder`` compares all layers in this way.
samples, rate = soundfile.read(manifest.table["path"][0], dtype="float32")
inputs = AutoFeatureExtractor.from_pretrained("work/conformer")(
    soxr.resample(samples, rate, 16_000), sampling_rate=16_000, return_tensors="pt"
)
with torch.inference_mode():
    states = AutoModel.from_pretrained("work/conformer").eval()(**inputs, output_hidden_states=True).hidden_states
row = np.flatnonzero(cache.utterance_ids == manifest.table["utterance_id"][0])
difference = np.abs(cache.read_layer(2, row, pooling="mean") - states[2].mean(1).numpy()).max()
print(f"Answer: the cache has the layers {', '.join(cache.layers)}; layer 2 differs from transformers' by {difference:.0e}.")
