"""Folder of an encoder trained on unlabelled audio: its plan, its held-out speakers and the encoder's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE, replace_file
from layerprobe.probe.fingerprints import text_fingerprint
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.splits import speaker_groups
from layerprobe.probe.training.checkpoints import FORMAT_VERSION, check_format_version, read_json, write_table
from layerprobe.probe.version import layerprobe_version

STATE, LOG = "partial", "log.csv"
MAX_VALIDATION = 64  # utterances that are evaluated during a training


@dataclass(frozen=True)
class TrainedEncoder:
    """Result of a training: the encoder's folder, the log and the quarantine."""

    folder: Path
    log: pd.DataFrame  # one row per evaluation on held-out speakers
    quarantine: pd.DataFrame  # utterance_id, path, reason


def check_folder(out: Path, name: str, plan: Any, table: pd.DataFrame, *, kind: str) -> str:
    """Check that ``out`` is free or belongs to this training, and return the training's fingerprint.

    Args:
        out: the folder
        name: name of the plan's file
        plan: the plan, a dataclass
        table: the manifest's table, whose utterance ids count towards the fingerprint
        kind: kind of training, for the error message

    Raises:
        InputError: if ``out`` is a file, belongs to another training or another version of the format, holds a model,
            or its plan can't be read
    """
    text = json.dumps(asdict(plan), sort_keys=True) + "\n".join(sorted(map(str, table["utterance_id"])))
    fingerprint = text_fingerprint(text)
    if out.exists() and not out.is_dir():
        raise InputError("LP707", f"{out} is a file. Name a folder as --out.")
    path = out / name
    if path.exists():
        content = read_json(path, advice="Delete it, or name another --out.")
        check_format_version(content, path)
        if (found := content.get("fingerprint")) != fingerprint:
            raise InputError(
                "LP705",
                f"{out} holds another {kind} ({found}, not {fingerprint}): other utterances, encoders or settings. "
                "Name another --out.",
            )
    if not path.exists() and (out / "config.json").exists():
        raise InputError("LP706", f"{out} holds a model already. Name another --out.")
    return fingerprint


def claim_folder(out: Path, name: str, plan: Any, fingerprint: str) -> None:
    """Create ``out`` with the training's plan in the file ``name``."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "layerprobe_version": layerprobe_version(),
        **asdict(plan),
    }
    replace_file(out / name, json.dumps(content, indent=1) + "\n")


def hold_out_speakers(
    speakers: Sequence[str], *, fraction: float, seed: int, transcripts: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row indices of held-out speakers' utterances and of those to train on.

    Args:
        speakers: speaker of each utterance, empty where unknown
        fraction: fraction of the speakers to hold out, 0 to 1
        seed: random seed of that choice
        transcripts: text of each utterance; a text of a held-out speaker is excluded from training for all speakers

    Raises:
        InputError: if no utterance would be left to train on
    """
    groups = speaker_groups(np.array(speakers, dtype=object))
    shuffled = np.random.default_rng([seed, 0]).permutation(np.unique(groups))
    n = max(1, round(fraction * len(shuffled)))
    if len(shuffled) <= n:
        raise InputError("LP710", f"{len(shuffled)} speakers are too few to hold {n} out. Give a larger manifest.")
    out = np.isin(groups, shuffled[:n])
    excluded = {text for text, held_out in zip(transcripts or (), out, strict=False) if held_out and text.strip()}
    known = np.array([text in excluded for text in transcripts or [""] * len(out)], dtype=bool)
    if (out | known).all():
        raise InputError("LP711", "Every transcript is also one of a held-out speaker. Give a larger manifest.")
    return np.flatnonzero(out), np.flatnonzero(~out & ~known)


def evenly_chosen(rows: np.ndarray) -> np.ndarray:
    """Return at most `MAX_VALIDATION` of the row indices, evenly spaced."""
    few = np.linspace(0, len(rows) - 1, min(len(rows), MAX_VALIDATION)).astype(int)
    return np.asarray(rows[few])


def save_encoder(config: Any, extractor: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write a transformers folder that `extract` and `train` read like any other; its weights are written last."""
    with quiet_transformers(bars=False):
        config.save_pretrained(folder)
        extractor.save_pretrained(folder)
    temporary = folder / "model.safetensors.new"
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(on_cpu, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")


def complete_folder(trained: TrainedEncoder) -> TrainedEncoder:
    """Write the log and the quarantine, and remove the checkpoint that an interrupted training would have resumed."""
    write_table(trained.log, trained.folder / LOG)
    write_table(trained.quarantine, trained.folder / QUARANTINE)
    shutil.rmtree(trained.folder / STATE, ignore_errors=True)
    return trained
