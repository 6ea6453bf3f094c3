"""Student of an encoder: its front end and first blocks, with heads that predict deeper layers of the teacher.

The loss is that of DistilHuBERT (Chang, Yang and Lee, 2022): for each teacher layer the mean absolute difference minus
the log sigmoid of the cosine similarity, averaged over frames.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_size import model_from_config
from layerprobe.probe.training.branches import AudioBranch
from layerprobe.probe.training.encoder_folder import save_encoder


def make_student(teacher: LoadedModel, *, n_blocks: int, random_init: int | None = None) -> AudioBranch:
    """Return an encoder of the teacher's architecture with its first blocks only.

    Front end, positions and a final norm are initialised from the teacher, too.

    Args:
        teacher: as `probe.encoders.loading.load_model` loads it
        n_blocks: number of blocks of the student, at least 1 and fewer than the teacher has
        random_init: seed of random weights instead of the teacher's, as a control

    Raises:
        InputError: if the number of blocks is out of that range
    """
    encoder = teacher.family.encoder(teacher.model)
    n_teacher = len(teacher.family.blocks(encoder))
    if not 1 <= n_blocks < n_teacher:
        raise InputError(
            "LP737", f"the teacher has {n_teacher} blocks; a student has 1 to {n_teacher - 1}, not {n_blocks}."
        )
    if random_init is None:
        student = copy.deepcopy(encoder)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_init)
            student = teacher.family.encoder(model_from_config(copy.deepcopy(teacher.model.config)))
    return AudioBranch(student, teacher.family, teacher.extractor, layer=str(n_blocks))


class Heads(nn.Module):
    """Linear prediction heads on the student's last layer, one for each teacher layer."""

    def __init__(self, dim: int, *, n_layers: int, teacher_dim: int) -> None:
        """Initialise the heads from torch's random state."""
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(dim, teacher_dim) for _ in range(n_layers))

    def forward(self, states: Tensor) -> list[Tensor]:
        """Predict each teacher layer, ``(n_frames, teacher_dim)``, from states ``(n_frames, dim)``."""
        return [head(states) for head in self.heads]


def distillation_loss(predicted: list[Tensor], targets: list[Tensor], *, cosine_weight: float) -> Tensor:
    """Return the distillation loss, a scalar: L1 minus ``cosine_weight`` times the log sigmoid of the cosine.

    Args:
        predicted: predictions of the heads, for each layer ``(n_frames, dim)``
        targets: the teacher's layers, of the same shapes
        cosine_weight: weight of the cosine term, 1 in the paper
    """
    losses = []
    for prediction, target in zip(predicted, targets, strict=True):
        l1 = nn.functional.l1_loss(prediction, target)
        cosine = nn.functional.cosine_similarity(prediction, target, dim=-1)
        losses.append(l1 - cosine_weight * nn.functional.logsigmoid(cosine).mean())
    return torch.stack(losses).mean()


def save_student(student: AudioBranch, teacher: LoadedModel, folder: Path) -> None:
    """Write a student as a transformers folder: configuration, feature extractor and weights."""
    config: Any = copy.deepcopy(teacher.model.config)
    config.num_hidden_layers = student.n_blocks
    tensors = {teacher.family.tensors + name: tensor for name, tensor in student.encoder.state_dict().items()}
    save_encoder(config, teacher.extractor, tensors, folder)
