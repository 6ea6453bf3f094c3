"""Adapter of layerprobe for MERT, a HuBERT of music whose folder brings its own code (--trust-remote-code)."""

from layerprobe.probe.encoders.architectures import (
    Architecture,
    convolutions_give,
    convolutions_need,
    overlapping,
    waveform_chunks,
)

ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=lambda encoder: encoder.encoder.layer_norm if encoder.config.do_stable_layer_norm else None,
    input_chunks=waveform_chunks,  # at the 24 kHz that its preprocessor_config.json states
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=convolutions_give,
)
