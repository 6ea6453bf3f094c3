"""What trainings of encoders on unlabelled sound share: whose folder it is, who is held out, the encoder's files."""

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
from layerprobe.probe.filesystem import QUARANTINE
from layerprobe.probe.fingerprints import text_fingerprint
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.splits import speaker_groups
from layerprobe.probe.version import layerprobe_version

STATE, LOG = "partial", "log.csv"
AT_MOST_HELD_OUT = 64  # utterances on which it is told how far a training is


@dataclass(frozen=True)
class TrainedEncoder:
    """What a training came to."""

    folder: Path
    log: pd.DataFrame  # a row for each look at the held-out speakers
    quarantine: pd.DataFrame  # utterance_id, path, reason


def checked_folder(out: Path, name: str, plan: Any, table: pd.DataFrame, *, kind: str) -> str:
    """See that ``out`` is free or this training's already; returns the training's fingerprint.

    Args:
        out: the folder
        name: of the plan's file
        plan: a dataclass
        table: of the manifest; its utterances belong to the training
        kind: of training, for the error

    Raises:
        InputError: if ``out`` is a file, another training's folder or a model's
    """
    text = json.dumps(asdict(plan), sort_keys=True) + "\n".join(sorted(map(str, table["utterance_id"])))
    fingerprint = text_fingerprint(text)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Name a folder as --out.")
    path = out / name
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8")).get("fingerprint")) != fingerprint:
        raise InputError(
            f"{out} holds another {kind} ({found}, not {fingerprint}): other sounds, encoders or settings. "
            "Name another --out."
        )
    if not path.exists() and (out / "config.json").exists():
        raise InputError(f"{out} holds a model already. Name another --out.")
    return fingerprint


def claim_folder(out: Path, name: str, plan: Any, fingerprint: str) -> None:
    """Make ``out`` the training's, with its plan in the file ``name``."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"fingerprint": fingerprint, "layerprobe_version": layerprobe_version(), **asdict(plan)}
    (out / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def hold_out(
    speakers: Sequence[str], *, share: float, seed: int, words: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the held-out speakers' utterances, and of those that are heard.

    Args:
        speakers: of each utterance, empty where unknown
        share: of speakers to hold out
        seed: chooses them
        words: of each utterance; what a held-out speaker says is not heard from others either

    Raises:
        InputError: if nobody would be left to hear
    """
    groups = speaker_groups(np.array(speakers, dtype=object))
    drawn = np.random.default_rng([seed, 0]).permutation(np.unique(groups))
    n = max(1, round(share * len(drawn)))
    if len(drawn) <= n:
        raise InputError(f"{len(drawn)} speakers are too few to hold {n} out. Give a larger manifest.")
    out = np.isin(groups, drawn[:n])
    said = {text for text, held in zip(words or (), out, strict=False) if held and text.strip()}
    known = np.array([text in said for text in words], dtype=bool) if words else np.zeros(len(out), dtype=bool)
    if (out | known).all():
        raise InputError("Held-out speakers say all that the others say. Give a larger manifest.")
    return np.flatnonzero(out), np.flatnonzero(~out & ~known)


def some_of(places: np.ndarray) -> np.ndarray:
    """At most `AT_MOST_HELD_OUT` of them, evenly chosen."""
    few = np.linspace(0, len(places) - 1, min(len(places), AT_MOST_HELD_OUT)).astype(int)
    return np.asarray(places[few])


def save_encoder(config: Any, extractor: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """A transformers folder that `extract` and `train` take like any other, its weights whole or not there."""
    with quiet_transformers(bars=False):
        config.save_pretrained(folder)
        extractor.save_pretrained(folder)
    temporary = folder / "model.safetensors.new"
    ours = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(ours, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")


def complete_folder(made: TrainedEncoder) -> TrainedEncoder:
    """Write the log and the quarantine, and drop the state that a killed training would have gone on from."""
    made.log.to_csv(made.folder / LOG, index=False, lineterminator="\n")
    made.quarantine.to_csv(made.folder / QUARANTINE, index=False, lineterminator="\n")
    shutil.rmtree(made.folder / STATE, ignore_errors=True)
    return made
