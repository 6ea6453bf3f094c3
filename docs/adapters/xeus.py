"""Adapter of layerprobe for XEUS (Chen et al., 2024) and other encoders of ESPnet's SSL task: pip install espnet."""

import torch
from transformers import PreTrainedConfig, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import (
    Architecture,
    convolutions_give,
    convolutions_need,
    overlapping,
    waveform_chunks,
)


class Xeus(torch.nn.Module):
    """ESPnet's model, called with a waveform alone and without masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self._encode = getattr(model, "inference_encode", None) or model.encode  # by the version of ESPnet
        self.config = PreTrainedConfig(
            hidden_size=model.encoder.output_size(), conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5] + [2] * 6
        )

    def forward(self, input_values):
        """Encode one waveform, ``(1, n_samples)``."""
        lengths = torch.tensor([input_values.shape[1]], device=input_values.device)
        return self._encode(input_values, lengths, use_mask=False, use_final_output=True)


def load(path):
    """Return the model of a checkpoint (xeus_checkpoint.pth), whose config.yaml lies next to it."""
    from espnet2.tasks.ssl import SSLTask

    model, _ = SSLTask.build_model_from_file(str(path.with_name("config.yaml")), str(path), "cpu")
    return Xeus(model), Wav2Vec2FeatureExtractor(do_normalize=False)  # ESPnet's model normalises the waveform itself


ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.model.encoder.encoders,
    final_norm=lambda encoder: getattr(encoder.model.encoder, "after_norm", None),
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=convolutions_give,
    load=load,
)
