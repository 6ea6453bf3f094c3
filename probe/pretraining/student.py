"""A student of an encoder: its front end and first blocks, and heads that say what deeper layers of the teacher say.

The loss is that of DistilHuBERT (Chang, Yang and Lee, 2022): for each teacher layer the mean absolute difference, and
less the log of the sigmoid of the cosine, over the frames of the sound.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.branches import AudioBranch
from layerprobe.probe.training.encoder_folder import save_encoder


def make_student(teacher: LoadedModel, *, n_blocks: int, random_init: int | None = None) -> AudioBranch:
    """An encoder of the teacher's architecture with its first blocks, and everything else but the blocks above them.

    A final norm, where encoders have one, begins as the teacher's; that of the positions and the front end likewise.

    Args:
        teacher: as `probe.encoders.loading.load_model` loads it
        n_blocks: of the student, at least 1 and fewer than the teacher has
        random_init: seed for weights drawn instead of the teacher's, the control

    Raises:
        InputError: if there are not so many blocks
    """
    encoder = teacher.family.encoder(teacher.model)
    n_teacher = len(teacher.family.blocks(encoder))
    if not 1 <= n_blocks < n_teacher:
        raise InputError(f"the teacher has {n_teacher} blocks; a student has 1 to {n_teacher - 1}, not {n_blocks}.")
    if random_init is None:
        own = copy.deepcopy(encoder)
    else:
        from transformers import AutoModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_init)
            own = teacher.family.encoder(AutoModel.from_config(copy.deepcopy(teacher.model.config)))
    return AudioBranch(own, teacher.family, teacher.extractor, layer=str(n_blocks))


class Heads(nn.Module):
    """A linear head for each teacher layer, on the student's last state."""

    def __init__(self, dim: int, *, n_layers: int, teacher_dim: int) -> None:
        """Draw them by torch's chance."""
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(dim, teacher_dim) for _ in range(n_layers))

    def forward(self, states: Tensor) -> list[Tensor]:
        """States ``(n_frames, dim)`` -> for each layer ``(n_frames, teacher_dim)``."""
        return [head(states) for head in self.heads]


def distillation_loss(predicted: list[Tensor], told: list[Tensor], *, cosine_weight: float) -> Tensor:
    """The mean over layers and frames of L1 and ``cosine_weight`` times minus the log sigmoid of the cosine.

    Args:
        predicted: of each layer ``(n_frames, dim)``
        told: by the teacher, the same
        cosine_weight: 1 in the paper
    """
    losses = []
    for ours, theirs in zip(predicted, told, strict=True):
        near = nn.functional.l1_loss(ours, theirs)
        cosine = nn.functional.cosine_similarity(ours, theirs, dim=-1)
        losses.append(near - cosine_weight * nn.functional.logsigmoid(cosine).mean())
    return torch.stack(losses).mean()


def save_student(student: AudioBranch, teacher: LoadedModel, folder: Path) -> None:
    """A transformers folder that `extract` and `train` take like any other: configuration, preprocessor, weights."""
    config: Any = copy.deepcopy(teacher.model.config)
    config.num_hidden_layers = student.n_blocks
    tensors = {teacher.family.tensors + name: tensor for name, tensor in student.encoder.state_dict().items()}
    save_encoder(config, teacher.extractor, tensors, folder)
