"""The costs of encoders up to each layer: counted from their configurations, measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cost.layers import count_layers, last_layer
from layerprobe.probe.cost.parameter_count import count_tokens, load_model_spec
from layerprobe.probe.cost.settings import COSTS, Measuring
from layerprobe.probe.cost.timing import real_time_factors_of_layers
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.loading import ACOUSTIC, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.settings import encoder_name_in, gone_text
from layerprobe.probe.layer_names import describe_layers
from layerprobe.probe.model_size import BYTES
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import usable_memory

TRAINED, RANDOM = "trained", "random"  # weights with which the time was measured, on which it does not depend
ON_THE_CPU = ("float32", "bfloat16")  # precisions
ADVICE = "Name its folder by --encoder"


@dataclass(frozen=True)
class EncoderSource:
    """An encoder whose cost is wanted, and by which name it is found."""

    name: str
    layers: tuple[str, ...]  # in the run; empty where the run does not name them
    found_as: str  # name or folder that `load_encoder` takes; empty where it is not known
    precision: str = "float32"
    has_weights: bool = True  # whether weights are looked for
    reads: str = ""  # "audio" or "text"; empty where it is not known
    reason: str = ""  # why it can't be found

    @classmethod
    def of_cache(cls, name: str, plan: Mapping[str, Any], folder: Path | str | None = None) -> EncoderSource:
        """Return the source of an encoder by its table in a run's plan.toml.

        Args:
            name: under which it is shown
            plan: the table
            folder: where it is, if not where it was
        """
        known = {key: value for key, value in plan.items() if key in ExtractionPlan.__dataclass_fields__}
        absent = {"random_init": None, "text_column": None}  # TOML has no null
        cache_plan, recorded = ExtractionPlan.from_json(absent | known), _recorded_folder(plan)
        found_as = str(folder) if folder is not None else encoder_name_in(cache_plan, recorded)
        precision = cache_plan.precision if cache_plan.precision in ON_THE_CPU else "float32"
        reason = "" if found_as else f"{name} {gone_text(cache_plan, recorded)}. {ADVICE} {name}=FOLDER."
        if cache_plan.adapter:
            found_as, reason = "", f"{name} is described by an adapter of its own, whose cost can't be counted."
        reads = "text" if cache_plan.text_column else "audio"
        return cls(name, tuple(cache_plan.layers), found_as, precision, reads=reads, reason=reason)


@dataclass(frozen=True)
class EncoderCost:
    """The costs of an encoder up to each of its layers, ``(n_layers,)`` each; NaN where one is not known."""

    layers: tuple[str, ...]
    multiply_adds: np.ndarray  # per second of audio
    parameters: np.ndarray
    real_time_factor: np.ndarray  # of the time of the audio
    precision: str = ""  # empty where nothing was measured
    forward: str = ""  # which forward pass ran
    weights: str = ""  # `TRAINED` or `RANDOM`
    reason: str = ""  # why one is not known

    def at(self, layer: str) -> dict[str, float]:
        """Return the `COSTS` up to a layer, or up to what a mix (``all``) or a regressor (``last``, ``mix``) needs."""
        if not self.layers:
            return dict.fromkeys(COSTS, float("nan"))
        k = self.layers.index(last_layer(layer, self.layers))
        return {cost: float(getattr(self, cost)[k]) for cost in COSTS}


def _recorded_folder(plan: Mapping[str, Any]) -> str:
    """Return the folder that the encoder was loaded from, as the plan or the cache records it; empty if none is."""
    if "encoder_folder" in plan or not plan.get("path"):
        return str(plan.get("encoder_folder", ""))
    from layerprobe.probe.cache.store import open_cache  # zarr is loaded where a cache is read

    try:
        return open_cache(plan["path"]).encoder_folder
    except (InputError, OSError):
        return ""


@dataclass(frozen=True)
class _Loaded:
    """An encoder to measure, or why there is none."""

    encoder: AnyEncoder | None
    weights: str = ""
    reason: str = ""


def find_costs(
    sources: Sequence[EncoderSource], measuring: Measuring, *, progress: NullProgress | None = None
) -> dict[str, EncoderCost]:
    """Return the cost of each encoder by its name; of one that can't be found, NaN with the reason.

    Args:
        sources: encoders with unique names; those that are the same model are measured once
        measuring: how costs are counted and measured
        progress: receives a message for each step
    """
    progress, free = progress or NullProgress(), usable_memory()
    costs, loaded = dict[str, EncoderCost](), dict[tuple[str, str], _Loaded]()
    for source in sources:
        costs[source.name] = cost = _counted(source, measuring)
        key = source.found_as, source.precision
        if measuring.is_timed and source.found_as and key not in loaded:
            progress.log(f"Loading {source.name} …")
            needed = BYTES * float(np.nan_to_num(cost.parameters).max(initial=0.0))
            loaded[key] = _load(source) if needed <= free else _too_large(source, needed)
            free -= needed
    encoders = {key: one.encoder for key, one in loaded.items() if one.encoder is not None}
    if encoders:
        progress.log(f"Measuring {len(encoders)} encoder{'s' * (len(encoders) > 1)} …")
    n_tokens = count_tokens(measuring.seconds, measuring.tokens_per_second)
    factors = real_time_factors_of_layers(
        list(encoders.values()), seconds=measuring.seconds, n_tokens=n_tokens, threads=measuring.threads
    )
    times = dict(zip(encoders, factors, strict=True))
    for source in sources:
        key = source.found_as, source.precision
        if key in loaded:
            costs[source.name] = _timed(costs[source.name], source, loaded[key], times.get(key))
    return costs


def _counted(source: EncoderSource, measuring: Measuring) -> EncoderCost:
    n = len(source.layers)
    multiply_adds, parameters, factor = (np.full(n, np.nan) for _ in COSTS)
    unknown = EncoderCost(source.layers, multiply_adds, parameters, factor, reason=source.reason)
    if source.found_as == ACOUSTIC:
        return replace(unknown, parameters=np.zeros(n))
    if not source.found_as:
        return unknown
    try:
        model = load_model_spec(source.found_as)
        counts = count_layers(model, seconds=measuring.seconds, tokens_per_second=measuring.tokens_per_second)
    except InputError as error:
        return replace(unknown, reason=error.message)
    if reason := _other(source, counts.layers, reads="text" if model.is_text else "audio"):
        return replace(unknown, reason=reason)
    no_time = np.full(len(counts.layers), np.nan)
    return EncoderCost(counts.layers, counts.multiply_adds, counts.parameters.astype(float), no_time)


def _load(source: EncoderSource) -> _Loaded:
    """Load an encoder with its weights, or with random ones where they are not at hand."""
    if source.found_as == ACOUSTIC:
        return _Loaded(load_encoder(ACOUSTIC))
    reason = ""
    for weights, seed in ((TRAINED, None), (RANDOM, 0)) if source.has_weights else ((RANDOM, 0),):
        try:
            encoder = load_encoder(
                source.found_as, random_init=seed, device="cpu", precision=source.precision, show_download=False
            )
            return _Loaded(encoder, weights)
        except InputError as error:
            reason = reason or error.message
    return _Loaded(None, reason=reason)


def _timed(cost: EncoderCost, source: EncoderSource, loaded: _Loaded, times: np.ndarray | None) -> EncoderCost:
    """Return the cost with what was measured."""
    encoder = loaded.encoder
    if encoder is None or times is None:
        return replace(cost, reason=cost.reason or loaded.reason)
    if reason := _other(source, encoder.layers, reads=encoder.reads):
        return replace(cost, reason=cost.reason or reason)
    return replace(
        cost, real_time_factor=times, precision=encoder.precision, forward=encoder.forward, weights=loaded.weights
    )


def _other(source: EncoderSource, layers: tuple[str, ...], *, reads: str) -> str:
    """Return why what was found is another encoder than that of the run; empty where it may be the same."""
    advice = f"{ADVICE} {source.name}=…"
    if source.reads not in ("", reads):
        return f"{source.found_as} reads {reads}, and {source.name} in the run {source.reads}. {advice}"
    if source.layers not in ((), layers):
        has, wanted = describe_layers(layers), describe_layers(source.layers)
        return f"{source.found_as} has the layers {has}, and {source.name} in the run {wanted}. {advice}"
    return ""


def _too_large(source: EncoderSource, needed: float) -> _Loaded:
    text = f"{source.name} needs {needed / 1e9:.1f} GB, more than is free next to the other encoders."
    return _Loaded(None, reason=f"{text} Measure its run alone.")
