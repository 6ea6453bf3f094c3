"""The weights of an encoder in a run: found where they were extracted from, or where they are now, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.encoders.embedded import OWN
from layerprobe.probe.encoders.foreign_names import BUNDLE
from layerprobe.probe.encoders.identity import model_hash
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.speech import NEVER_READ, LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.predictors.swept import SweptData


def recorded_source(name: str, cache: Cache) -> str:
    """Return the hub name or the folder that the encoder of a cache was loaded from.

    Args:
        name: of the encoder in the run
        cache: of its embeddings

    Raises:
        InputError: if it is a folder that is gone, or that the cache does not state
    """
    plan, folder = cache.plan, cache.encoder_folder
    if plan.revision:
        return f"{plan.upstream}@{plan.revision}"
    if plan.upstream == OWN or plan.upstream.startswith(BUNDLE):
        return plan.upstream
    if not folder or not Path(folder).exists():
        where = f"{folder}, which is gone" if folder else "a folder that the cache does not state"
        raise InputError(
            "LP924",
            f"The weights of {name} were loaded from {where}. Name the folder where they are now: --encoder FOLDER.",
        )
    return folder


def load_whole(place: str) -> tuple[LoadedModel, str]:
    """Load an encoder with all its blocks, and return it with the hash that a cache records of its weights."""
    loaded = load_model(place)
    encoder: Any = loaded.family.encoder(loaded.model)
    return loaded, loaded.weights or model_hash(encoder.float(), never_read=NEVER_READ)


def check_same(loaded: LoadedModel, weights: str, *, name: str, cache: Cache, place: str) -> None:
    """Check that loaded weights are those that a cache was extracted with.

    Raises:
        InputError: stating what differs
    """
    found = type(loaded.family.encoder(loaded.model)).__name__
    if weights == cache.plan.weights:
        return
    other = f"is {found}, not {cache.plan.architecture}" if found != cache.plan.architecture else "has other weights"
    raise InputError(
        "LP925",
        f"{place} {other}: its hash is {weights}, and the embeddings of {name} were extracted with "
        f"{cache.plan.weights}. Name the weights that the run was made with.",
    )


def encoder_with(weights: str, swept: SweptData, place: str) -> str:
    """Return the name of the encoder in a run whose embeddings were extracted with some weights.

    Raises:
        InputError: if there is none
    """
    for name, cache in swept.caches.items():
        if cache.plan.weights == weights and cache.plan.random_init is None:
            return name
    known = ", ".join(f"{name} ({cache.plan.weights})" for name, cache in swept.caches.items())
    raise InputError(
        "LP925",
        f"{place} has other weights than each encoder of {swept.run.path}: its hash is {weights}, and the run has "
        f"{known}. Name the weights that the run was made with.",
    )
