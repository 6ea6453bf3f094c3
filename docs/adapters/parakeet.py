"""Adapter of layerprobe for Parakeet and other FastConformer encoders, as transformers 5 has them."""

from layerprobe.probe.encoders.architectures import Architecture, overlapping, overlapping_windows, part_of


def mel_chunks(waveform, extractor, config):
    """Yield log-mel spectrograms, which the extractor normalises over the whole utterance, in windows of 60 s."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    features, stride = inputs.input_features[:, : int(inputs.attention_mask.sum())], config.subsampling_factor
    n_frames = -(-features.shape[1] // stride)
    for encoded, counted in overlapping_windows(n_frames, frames_per_second=100 / stride):
        part = {"input_features": features[:, encoded.start * stride : encoded.stop * stride]}
        yield part_of(part, encoded, counted, n_frames)


ARCHITECTURE = Architecture(
    encoder=lambda model: getattr(model, "encoder", model),  # of a recogniser, or alone
    tensors="",
    blocks=lambda encoder: encoder.layers,
    final_norm=lambda _: None,  # each block ends with its own
    input_chunks=mel_chunks,
    minimum_samples=lambda extractor, _: 2 * extractor.hop_length,  # one spectrum has no variance to normalise by
    chunking=overlapping,
    n_frames=lambda chunk, config: -(-chunk.inputs["input_features"].shape[1] // config.subsampling_factor),
)
