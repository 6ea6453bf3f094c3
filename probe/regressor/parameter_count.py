"""The parameter account: what a model is made of, what of it is trained under each rule, and what a second of it costs.

Models are built from their configurations alone, without weights and without memory for them. A model's parts are its
convolutional front end, what follows it before the first block (projection and positions), text embeddings, blocks,
whatever is left (norms, biases of positions), and a head.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.text import NEVER_READ, TEXT_ARCHITECTURES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import hub_commit, quiet_transformers, loading_error_message

PARTS = ("front_end", "projection", "embeddings", "blocks", "rest", "head")
FRONT_END = ("feature_extractor", "conv1", "conv2")
PROJECTION = ("feature_projection", "masked_spec_embed", "embed_positions", "pos_conv_embed")
RULES = {  # what is trained, and which parts are not
    "everything": (),
    "front end frozen": ("front_end",),
    "front end and embeddings frozen": ("front_end", "embeddings"),
}
USUAL = "front end frozen"  # the rule under which a share is taken of another model
HIDDEN = 256  # features of the plain head
ROUNDS = 5


@dataclass(frozen=True)
class ParameterCount:
    """One model's parameters by part; a joined model is the sum of its branches and a head."""

    name: str
    parts: dict[str, int]  # by `PARTS`
    multiply_adds: float  # of the sound or text that was asked for; NaN where it is not counted

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    def trained(self, rule: str) -> int:
        """Those that learn under one of `RULES`."""
        return sum(n for part, n in self.parts.items() if part not in RULES[rule])

    def share_of(self, other: ParameterCount, rule: str) -> float:
        """Trained parameters over those of another model under `USUAL`."""
        return self.trained(rule) / other.trained(USUAL)


@dataclass(frozen=True)
class ModelSpec:
    """A model as its configuration describes it."""

    name: str
    config: Any
    is_text: bool

    def build(self) -> Any:
        """What is called, with weights drawn; on the device that is in force."""
        from transformers import AutoModel

        model = AutoModel.from_config(self.config, attn_implementation="eager").eval()
        if self.is_text:
            if getattr(model, "pooler", None) is not None:
                model.pooler = None  # it stands above the states
            return model
        return ARCHITECTURES[self.config.model_type].encoder(model)

    def blocks(self, model: Any) -> nn.ModuleList:
        """In order."""
        if self.is_text:
            return TEXT_ARCHITECTURES[self.config.model_type].blocks(model)
        return ARCHITECTURES[self.config.model_type].blocks(model)

    def inputs(self, amount: int) -> dict[str, torch.Tensor]:
        """Seconds of sound, or tokens, of no content."""
        if self.is_text:
            return {"input_ids": torch.zeros(1, amount, dtype=torch.long)}
        kind = self.config.model_type
        if kind == "whisper":
            return {"input_features": torch.zeros(1, self.config.num_mel_bins, 2 * self.config.max_source_positions)}
        if kind == "wav2vec2-bert":
            return {"input_features": torch.zeros(1, 50 * amount, self.config.feature_projection_input_dim)}
        return {"input_values": torch.zeros(1, 16_000 * amount)}


def describe(name: str) -> ModelSpec:
    """Read a model's configuration from a folder or the hub; nothing else of it.

    Raises:
        InputError: if there is none, or the architecture is unknown
    """
    from transformers import AutoConfig

    folder = Path(name)
    with quiet_transformers(bars=False):
        try:
            source, revision = (str(folder), None) if folder.is_dir() else hub_commit(name)
            config = AutoConfig.from_pretrained(source, revision=revision)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(loading_error_message(name, folder, error)) from error
    if config.model_type not in (*ARCHITECTURES, *TEXT_ARCHITECTURES):
        known = ", ".join(sorted((*ARCHITECTURES, *TEXT_ARCHITECTURES)))
        raise InputError(f"{name} is a {config.model_type!r} model; an account can be made of {known}.")
    shown = folder.resolve().name if folder.is_dir() else source
    return ModelSpec(shown, config, config.model_type in TEXT_ARCHITECTURES)


def count_parameters(model: ModelSpec, *, amount: int | None = None) -> ParameterCount:
    """Count a model's parameters, and its multiply-adds for ``amount`` seconds of sound or tokens.

    Multiply-adds are those of convolutions and matrix products, attention's among them; norms and activations are left
    out.
    """
    with torch.device("meta"):
        built = model.build()
        own = {id(p) for block in model.blocks(built) for p in block.parameters()}
        parts = dict.fromkeys(PARTS, 0)
        for name, parameter in built.named_parameters():
            if not name.startswith(NEVER_READ):
                parts["blocks" if id(parameter) in own else _part_of(name)] += parameter.numel()
        cost = float("nan") if amount is None else multiply_adds(built, model.inputs(amount))
    return ParameterCount(model.name, parts, cost)


def combined(audio: ParameterCount | None, text: ParameterCount | None, head: nn.Module) -> ParameterCount:
    """A regressor of one or two branches with a head."""
    branches = [a for a in (audio, text) if a is not None]
    parts = {part: sum(b.parts[part] for b in branches) for part in PARTS}
    parts["head"] += sum(p.numel() for p in head.parameters())
    return ParameterCount(" + ".join(b.name for b in branches), parts, sum(b.multiply_adds for b in branches))


def head_for(audio: ModelSpec | None, text: ModelSpec | None, *, n_targets: int = 3) -> nn.Module:
    """Poolings, fusion and head as `probe.regressor.model` has them by default."""
    from layerprobe.probe.regressor.model import AttentiveStatistics, Concatenation

    dims = [int(m.config.hidden_size) for m in (audio, text) if m is not None]
    with torch.device("meta"):
        poolings = [AttentiveStatistics(dim) for dim in dims]
        head = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, n_targets))
        return nn.ModuleList([*poolings, Concatenation([2 * dim for dim in dims], HIDDEN), head])


def multiply_adds(model: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Of one forward pass, without running it if the model lies on no device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return float(counter.get_total_flops()) / 2


def accounts_table(accounts: list[ParameterCount], against: list[ParameterCount]) -> pd.DataFrame:
    """``model, part or rule, parameters`` and a column with the share of each model in ``against``."""
    rows: list[dict[str, Any]] = []
    for one in accounts:
        label = {"model": one.name}
        rows += [{**label, "what": part, "parameters": n} for part, n in one.parts.items() if n]
        for rule in RULES:
            shares = {f"of {other.name}": one.share_of(other, rule) for other in against}
            rows.append({**label, "what": f"trained, {rule}", "parameters": one.trained(rule), **shares})
    return pd.DataFrame(rows)


def real_time_factors(
    models: list[tuple[ModelSpec, int]], *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time of a forward pass in float32 over the length of the sound, with drawn weights: the median of rounds in turn.

    Args:
        models: each with the seconds or tokens that it is given
        seconds: of sound that these belong to
        clock: tells seconds
    """
    built = [(m.build(), m.inputs(amount)) for m, amount in models]
    times: list[list[float]] = [[] for _ in built]
    with torch.inference_mode():
        for model, inputs in built:
            model(**inputs)  # the first time is slower
        for _ in range(ROUNDS):
            for k, (model, inputs) in enumerate(built):
                began = clock()
                model(**inputs)
                times[k].append(clock() - began)
    return [statistics.median(own) / seconds for own in times]


def count_tokens(seconds: float, tokens_per_second: float) -> int:
    """Tokens that a text of that much speech has, with the two around it."""
    return int(np.ceil(seconds * tokens_per_second)) + 2


def _part_of(name: str) -> str:
    input_chunks = name.split(".")
    if input_chunks[0] in FRONT_END:
        return "front_end"
    if input_chunks[0] == "embeddings":
        return "embeddings"
    return "projection" if any(p in PROJECTION for p in input_chunks) else "rest"
