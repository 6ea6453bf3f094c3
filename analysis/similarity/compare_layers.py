"""Compute the similarity of all layers of a run from its caches and write similarity.csv."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from layerprobe.analysis.runs import SIMILARITY, SIMILARITY_VERSION
from layerprobe.analysis.similarity.table import similarity_table
from layerprobe.analysis.time.bins import scored_rows
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import resolve, write_csv
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.results.run_folder import Run, read_predictions, read_run

SEED = 0


def compare_layers(folder: Path | str) -> Path:
    """Compare every layer of a run's encoders with every other and with the ratings, and write ``similarity.csv``.

    The caches are read from the paths in the run's plan. Encoders whose layers are not stacked, such as acoustic
    features, are left out.

    Returns:
        the path of ``similarity.csv``: the columns of `similarity_table` with ``fingerprint`` and ``format_version``

    Raises:
        InputError: if ``folder`` is no run, a cache is gone or holds other embeddings, or there is too little of it
    """
    folder = Path(folder)
    run = read_run(folder)
    predictions = read_predictions(folder, run.fingerprint)
    encoders = {e["name"]: e for e in run.plan["encoders"] if is_stack(list(e["layers"]))}
    encoders |= {e["name"]: e for e in run.plan.get("covariates", []) if "layers" in e and e["name"] not in encoders}
    if not encoders:
        raise InputError(
            "LP630",
            f"{folder} has no encoder with stacked layers, so there is nothing to compare. Sweep the cache of one.",
        )
    names = [t for t in run.targets if t in run.plan["sweep"]["targets"]]
    places = [list(map(str, predictions.targets)).index(t) for t in names]
    rated = np.isfinite(predictions.ratings[:, places]).all(axis=1)  # since ratings are compared with the layers, too
    if not rated.any():
        raise InputError(
            "LP630",
            f"{folder} has no utterance with a rating of every target, so there is nothing to compare. "
            "Sweep the targets that the same utterances rate.",
        )
    means = scored_rows(run.plan) == "utterances"
    ids = predictions.utterance_id
    sources = {name: (list(e["layers"]), _reader(e, ids, rated, means=means)) for name, e in encoders.items()}
    ratings = pd.DataFrame(predictions.ratings[rated][:, places], columns=names)
    try:
        with threadpool_limits(1):  # as fast as two on quiet cores, and several times as fast on busy ones
            table = similarity_table(sources, ratings, predictions.speaker_id[rated], seed=SEED)
    except ValueError as error:
        raise InputError("LP631", f"{folder}: its layers can't be compared: {error}.") from error
    path = folder / SIMILARITY
    marked = table.assign(fingerprint=run.fingerprint, format_version=SIMILARITY_VERSION)
    write_csv(path, marked)
    return path


def can_be_compared(run: Run) -> bool:
    """Whether a run has encoders with stacked layers, and their caches are at the paths in its plan."""
    stacks = [e for e in run.plan["encoders"] if is_stack(list(e["layers"]))]
    return bool(stacks) and all(e.get("path") and resolve(e["path"]).exists() for e in stacks)


def _reader(
    encoder: dict[str, Any], held_out: np.ndarray, rated: np.ndarray, *, means: bool
) -> Callable[[str, np.ndarray], np.ndarray]:
    """Return a function that reads rows of a layer, numbered among the rated ones of the held-out utterances.

    Args:
        encoder: its table in plan.toml
        held_out: ids of all held-out utterances of the run, ``(n_utterances,)``, whose audio is checked
        rated: those that are compared, ``(n_utterances,)`` bool
        means: whether rows of the run are utterances, which a cache of spans holds as means over their spans
    """
    from layerprobe.probe.cache.store import open_cache  # zarr is loaded where a cache is read
    from layerprobe.probe.time.span_means import utterance_means

    if not encoder.get("path") or not resolve(encoder["path"]).exists():
        where = encoder.get("path") or "its cache"
        raise InputError("LP632", f"{encoder['name']}: {where} is missing. Move the cache back there, or sweep again.")
    cache = utterance_means(open_cache(encoder["path"])) if means else open_cache(encoder["path"])
    if cache.plan.fingerprint() != encoder["fingerprint"]:
        raise InputError("LP633", f"{encoder['path']} holds other embeddings than the run was made from. Sweep again.")
    rows = pd.Index(cache.utterance_ids).get_indexer(pd.Index(held_out))
    if (rows < 0).any():
        raise InputError(
            "LP633", f"{encoder['path']} lacks {int((rows < 0).sum())} utterances of the run. Extract them again."
        )
    if cache.rows_fingerprint(held_out) != encoder["held_out_fingerprint"]:
        raise InputError(
            "LP633", f"{encoder['path']} was extracted from other recordings or texts than the run. Sweep again."
        )
    rows = rows[rated]
    return lambda layer, wanted: cache.read_layer(layer, rows[wanted])
