"""Counts of parameters by part, of trainable parameters under each freezing rule, and of multiply-adds.

Models are built from their configurations alone, without weights and without memory for them. A model's parts are its
convolutional front end, the projection and positions between it and the first block, text embeddings, blocks, the rest
(norms, biases of positions), and a head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.embedded import OWN, embedded_folder
from layerprobe.probe.encoders.text import NEVER_READ, TEXT_ARCHITECTURES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_size import check_model_size, model_from_config
from layerprobe.probe.pretrained import CONFIGURATION, find_pretrained

PARTS = ("front_end", "projection", "embeddings", "blocks", "rest", "head")
FRONT_END = ("feature_extractor", "conv1", "conv2")
PROJECTION = ("feature_projection", "masked_spec_embed", "embed_positions", "pos_conv_embed")
RULES = {  # name of a freezing rule: the parts that it freezes
    "everything": (),
    "front end frozen": ("front_end",),
    "front end and embeddings frozen": ("front_end", "embeddings"),
}
REFERENCE_RULE = "front end frozen"  # under which trainable parameters of a reference model are counted
ROUNDS = 5  # of timing


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model by part; those of a combined model are the sum of its branches and a head."""

    name: str
    parts: dict[str, int]  # by `PARTS`
    multiply_adds: float  # for the given audio or text; NaN if not counted

    @property
    def total(self) -> int:
        """Total number of parameters."""
        return sum(self.parts.values())

    def trainable(self, rule: str) -> int:
        """Return the number of trainable parameters under one of `RULES`."""
        return sum(n for part, n in self.parts.items() if part not in RULES[rule])

    def fraction_of(self, other: ParameterCount, rule: str) -> float:
        """Return trainable parameters as a fraction of another model's under `REFERENCE_RULE`."""
        return self.trainable(rule) / other.trainable(REFERENCE_RULE)


@dataclass(frozen=True)
class ModelSpec:
    """A model described by its configuration, without weights."""

    name: str
    config: Any
    is_text: bool

    def build(self) -> Any:
        """Return the model with random weights, on torch's current device."""
        model = model_from_config(self.config, attn_implementation="eager").eval()
        if self.is_text:
            if getattr(model, "pooler", None) is not None:
                model.pooler = None  # it comes after the last hidden state
            return model
        return ARCHITECTURES[self.config.model_type].encoder(model)

    def blocks(self, model: Any) -> nn.ModuleList:
        """Return the transformer blocks of a built model, in order."""
        if self.is_text:
            return TEXT_ARCHITECTURES[self.config.model_type].blocks(model)
        return ARCHITECTURES[self.config.model_type].blocks(model)

    def final_norm(self, model: Any) -> nn.Module | None:
        """Return the norm after the last block of a built model, None where each block ends with its own."""
        return None if self.is_text else ARCHITECTURES[self.config.model_type].final_norm(model)

    def inputs(self, amount: int) -> dict[str, torch.Tensor]:
        """Return zeros as inputs for ``amount`` seconds of audio or tokens of text."""
        if self.is_text:
            return {"input_ids": torch.zeros(1, amount, dtype=torch.long)}
        kind = self.config.model_type
        if kind == "whisper":
            return {"input_features": torch.zeros(1, self.config.num_mel_bins, 2 * self.config.max_source_positions)}
        if kind == "wav2vec2-bert":
            return {"input_features": torch.zeros(1, 50 * amount, self.config.feature_projection_input_dim)}
        return {"input_values": torch.zeros(1, 16_000 * amount)}


def load_model_spec(name: str) -> ModelSpec:
    """Read a model's configuration, and nothing else of it, from a folder or the hub.

    Raises:
        InputError: if there is no configuration, it describes too large a model, or the architecture is unknown
    """
    found = find_pretrained(name, CONFIGURATION, folder=embedded_folder(trained=False) if name == OWN else None)
    config = found.config()
    if config.model_type not in (*ARCHITECTURES, *TEXT_ARCHITECTURES):
        known = ", ".join(sorted((*ARCHITECTURES, *TEXT_ARCHITECTURES)))
        raise InputError("LP744", f"{name} is a {config.model_type!r} model; parameters can be counted for {known}.")
    found.check_size(config, in_memory=False)
    return ModelSpec(found.upstream, config, config.model_type in TEXT_ARCHITECTURES)


def count_parameters(model: ModelSpec, *, amount: int | None = None) -> ParameterCount:
    """Count a model's parameters, and its multiply-adds for ``amount`` seconds of audio or tokens of text.

    Multiply-adds are those of convolutions and matrix products, including attention, without norms and activations.
    """
    with torch.device("meta"):
        built = model.build()
        in_blocks = {id(p) for block in model.blocks(built) for p in block.parameters()}
        parts = dict.fromkeys(PARTS, 0)
        for name, parameter in built.named_parameters():
            if not name.startswith(NEVER_READ):
                parts["blocks" if id(parameter) in in_blocks else _part_name(name)] += parameter.numel()
        cost = float("nan") if amount is None else multiply_adds(built, model.inputs(amount))
    return ParameterCount(model.name, parts, cost)


def combined(audio: ParameterCount | None, text: ParameterCount | None, head: nn.Module | None) -> ParameterCount:
    """Return the count of a regressor of one or two branches with a head, or without one."""
    branches = [a for a in (audio, text) if a is not None]
    parts = {part: sum(b.parts[part] for b in branches) for part in PARTS}
    if head is not None:
        parts["head"] += sum(p.numel() for p in head.parameters())
    return ParameterCount(" + ".join(b.name for b in branches), parts, sum(b.multiply_adds for b in branches))


def multiply_adds(model: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Return the multiply-adds of one forward pass; a model on the meta device is not executed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return float(counter.get_total_flops()) / 2


def parameter_table(counts: list[ParameterCount], references: list[ParameterCount]) -> pd.DataFrame:
    """Return one row per model and part or freezing rule.

    Columns are ``model``, ``part`` (one of `PARTS`, or ``trainable, RULE``), ``parameters``, and for each reference
    ``fraction of NAME``, empty for parts.
    """
    rows: list[dict[str, Any]] = []
    for one in counts:
        label = {"model": one.name}
        rows += [{**label, "part": part, "parameters": n} for part, n in one.parts.items() if n]
        for rule in RULES:
            fractions = {f"fraction of {other.name}": one.fraction_of(other, rule) for other in references}
            rows.append({**label, "part": f"trainable, {rule}", "parameters": one.trainable(rule), **fractions})
    return pd.DataFrame(rows)


def real_time_factors(
    models: list[tuple[ModelSpec, int]], *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return real-time factors: seconds of a forward pass per second of audio, in float32 with random weights.

    Models take turns; a factor is the median over rounds.

    Args:
        models: each with its seconds of audio or tokens of text
        seconds: duration of the audio
        clock: returns the time in seconds

    Raises:
        InputError: if one does not fit this machine's memory
    """
    for m, _ in models:
        check_model_size(f"encoder {m.name}", m.config)

    def timed(model: Any, inputs: dict[str, torch.Tensor]) -> Callable[[], float]:
        def passed() -> float:
            began = clock()
            model(**inputs)
            return clock() - began

        return passed

    with torch.inference_mode():
        found = interleaved([timed(m.build(), m.inputs(amount)) for m, amount in models])
    return [float(time) / seconds for time in found]


def interleaved(passes: Sequence[Callable[[], Any]], *, rounds: int = ROUNDS) -> list[np.ndarray]:
    """Return the median over rounds of what each pass returns, a number or an array; passes take turns.

    The first pass of each is slower, and does not count.
    """
    for one in passes:
        one()
    found = [[one() for one in passes] for _ in range(rounds)]
    return [np.median(np.array(values), axis=0) for values in zip(*found, strict=True)]


def count_tokens(seconds: float, tokens_per_second: float) -> int:
    """Return the number of tokens of a transcript of that duration, including the two special tokens."""
    return int(np.ceil(seconds * tokens_per_second)) + 2


def _part_name(name: str) -> str:
    modules = name.split(".")
    if modules[0] in FRONT_END:
        return "front_end"
    if modules[0] == "embeddings":
        return "embeddings"
    return "projection" if any(p in PROJECTION for p in modules) else "rest"
