"""The folder of a predictor: ``predictor.toml``, ``heads.safetensors``, and the cut encoder in ``encoder``.

The encoder's folder is one of transformers, so that other tools and ``layerprobe extract`` read it as well. Weights are
safetensors and everything else is text: nothing in the folder is run as code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file, replacing
from layerprobe.probe.foreign_files import damage_of
from layerprobe.probe.predictors.heads import Head
from layerprobe.probe.toml import toml_document

PREDICTOR, HEADS, ENCODER = "predictor.toml", "heads.safetensors", "encoder"
FORMAT_VERSION = 1
AGAIN = "Deploy it again with layerprobe deploy."


@dataclass(frozen=True)
class PredictorPlan:
    """How a predictor reads a recording, and what it was made from."""

    fingerprint: str  # twelve hex digits of the run, the weights, the layers of each target and this plan
    run: str  # fingerprint of the sweep
    upstream: str  # the encoder's name
    revision: str  # the hub's commit; "" for a folder
    weights: str  # hash of the whole encoder
    architecture: str  # "HubertModel"
    n_blocks: int  # that are kept
    n_blocks_of_whole: int
    poolings: tuple[str, ...]
    precision: str  # of the encoder's matrix products
    audio_channels: str  # as in `probe.cache.plan.ExtractionPlan`
    end_silence: str
    sampling_rate: int  # Hz
    level: float  # of the prediction intervals, in (0, 1)
    corpus: str  # that the heads were fitted on
    n_speakers: int
    n_utterances: int
    interval_unit: str = "speaker"  # of which a new one is assumed: speaker, utterance, or a column such as session
    n_calibrated: int = 0  # such units that intervals were calibrated on, of the target that has the fewest


@dataclass(frozen=True)
class SavedPredictor:
    """The content of a predictor's folder, but for the encoder."""

    folder: Path
    plan: PredictorPlan
    heads: tuple[Head, ...]
    scales: dict[str, tuple[float, float]]  # lowest and highest possible rating of each target
    scores: list[dict[str, Any]]  # tables that `layerprobe deploy` adds: what each head scored on unseen speakers


def write_predictor(
    folder: Path,
    plan: PredictorPlan,
    heads: tuple[Head, ...],
    *,
    scales: Mapping[str, tuple[float, float]],
    scores: list[dict[str, Any]] | None = None,
) -> None:
    """Write heads and ``predictor.toml``, the latter last, so that a folder without it is not whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / HEADS) as file:
        file.write(save({head.target: np.ascontiguousarray(head.coefficients) for head in heads}))
    targets = [
        {
            "name": head.target,
            "layers": list(head.layers),
            "intercept": head.intercept,
            "half_width": head.half_width,
            "lowest": float(scales[head.target][0]),
            "highest": float(scales[head.target][1]),
        }
        for head in heads
    ]
    content = {"format_version": FORMAT_VERSION, **asdict(plan), "targets": targets, "scores": scores or []}
    replace_file(folder / PREDICTOR, toml_document(content), durable=True)


def is_predictor(folder: Path | str) -> bool:
    """Return whether a folder has the file of a predictor."""
    return (Path(folder) / PREDICTOR).is_file()


def read_predictor(folder: Path | str) -> SavedPredictor:
    """Read a predictor's folder, but for the encoder.

    Raises:
        InputError: if it holds no predictor, one of another format version, or a damaged one
    """
    folder = Path(folder)
    path = folder / PREDICTOR
    if not path.is_file():
        raise InputError(
            "LP906", f"{folder} holds no predictor: it has no {PREDICTOR}. Make one with layerprobe deploy."
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("LP907", f"{path} {damage_of(path, error)}. {AGAIN}") from error
    if (version := content.get("format_version")) != FORMAT_VERSION:
        raise InputError(
            "LP908", f"{path} has the format version {version}, and this layerprobe reads {FORMAT_VERSION}. {AGAIN}"
        )
    try:
        tensors = load_file(folder / HEADS)
        heads = tuple(
            Head(
                str(table["name"]),
                tuple(table["layers"]),
                tensors[table["name"]].astype(np.float64),
                float(table["intercept"]),
                float(table["half_width"]),
            )
            for table in content["targets"]
        )
        scales = {str(t["name"]): (float(t["lowest"]), float(t["highest"])) for t in content["targets"]}
        values = {f.name: content[f.name] for f in fields(PredictorPlan)}
        plan = PredictorPlan(**{**values, "poolings": tuple(content["poolings"])})
    except Exception as error:  # of a damaged file, whichever part of it is damaged
        raise InputError(
            "LP907",
            f"{folder} is damaged: {HEADS} and {PREDICTOR} do not fit ({type(error).__name__}: {error}). {AGAIN}",
        ) from error
    return SavedPredictor(folder, plan, heads, scales, list(content.get("scores", [])))
