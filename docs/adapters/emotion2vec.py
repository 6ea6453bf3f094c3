"""Adapter of layerprobe for emotion2vec (Ma et al., 2024), loaded by FunASR: pip install funasr omegaconf."""

from transformers import PreTrainedConfig, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import (
    Architecture,
    convolutions_give,
    convolutions_need,
    overlapping,
    waveform_chunks,
)
from layerprobe.probe.forward.chunks import InputChunk

EXTRA = 10  # tokens that the model puts before the frames (num_extra_tokens in its configuration)


def load(folder):
    """Return the model of a folder (config.yaml, model.pt) and what normalises its waveforms."""
    from funasr import AutoModel

    model = AutoModel(model=str(folder), device="cpu", disable_update=True).model
    model.config = PreTrainedConfig(
        hidden_size=model.cfg.embed_dim, conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2]
    )
    forward = model.forward
    model.forward = lambda input_values: forward(input_values, mask=False, features_only=True)
    return model, Wav2Vec2FeatureExtractor(do_normalize=bool(model.cfg.normalize))


def chunks(waveform, extractor, config):
    """Yield what `waveform_chunks` does, with the extra tokens before the frames left out of what counts."""
    for chunk in waveform_chunks(waveform, extractor, config):
        n = convolutions_give(chunk, config)
        start, stop, _ = chunk.counted.indices(n)
        yield InputChunk(chunk.inputs, slice(EXTRA + start, EXTRA + stop), chunk.first, chunk.total or n)


ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.blocks,
    final_norm=lambda encoder: encoder.norm,
    input_chunks=chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=lambda chunk, config: EXTRA + convolutions_give(chunk, config),
    load=load,
)
