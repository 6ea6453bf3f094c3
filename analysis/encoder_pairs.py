"""Encoders of a study that have the same layers, and how one differs from the other: frozen and tuned, clean and noisy.

A comparison of layers needs encoders whose layer k is the same place of the same architecture. Of several such encoders
in a study the first is the reference of the others, unless a reference is named: by its name, or by its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.analysis.layers.encoder_gains import SHIFT_COLUMNS, EncoderPair, encoder_gains, encoder_shifts
from layerprobe.analysis.runs import shown_names
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.analysis.study import Study
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, resolve
from layerprobe.probe.layer_names import describe_layers, is_stack
from layerprobe.probe.metrics import CLASS_METRICS


@dataclass(frozen=True)
class EncoderComparison:
    """Pairs of encoders with the gains of their layers and the shifts of depth between them."""

    pairs: list[EncoderPair]
    gains: pd.DataFrame  # rows of `GAIN_COLUMNS`
    shifts: pd.DataFrame  # rows of `SHIFT_COLUMNS`; none of classes


def compare_encoders(study: Study, pairs: Sequence[EncoderPair] | None = None) -> EncoderComparison:
    """Return the gains and shifts between pairs of encoders; those of `default_pairs` if None."""
    pairs = default_pairs(study) if pairs is None else list(pairs)
    same: dict[str, Any] = {"layers": study.layers, "targets": study.targets}
    folds = study.runs[0].plan["folds"]
    sizes = ([fold[f"n_{part}_speakers"] for fold in folds] for part in ("test", "train"))
    inflation = training_inflation(*sizes)
    shifts = pd.DataFrame(columns=SHIFT_COLUMNS)
    if not pairs:
        return EncoderComparison([], encoder_gains(study.bootstrap, [], **same, inflation=inflation), shifts)
    choices: dict[str, Any] = {"inflation": inflation, "lower_is_better": study.lower_is_better}
    gains = encoder_gains(study.bootstrap, pairs, **same, **choices)
    if study.metric not in CLASS_METRICS:
        shifts = encoder_shifts(study.correlation_bootstrap, pairs, **same)
    return EncoderComparison(pairs, gains, shifts)


def default_pairs(study: Study) -> list[EncoderPair]:
    """Return each encoder with the first one of the same architecture and layers, except that one itself."""
    first: dict[tuple[object, ...], str] = {}
    pairs = []
    for encoder, table in _tables(study).items():
        if not is_stack(study.layers[encoder]):
            continue
        reference = first.setdefault(_kind(study, encoder, table), encoder)
        if reference != encoder:
            pairs.append(EncoderPair(encoder, reference))
    return pairs


def chosen_pairs(
    study: Study, *, against: str | Path | None = None, encoder: str | Path | None = None
) -> list[EncoderPair]:
    """Return one encoder, or all others of the same architecture and layers, with a reference.

    Args:
        study: of one or several runs
        against: the reference: name of an encoder of the study, or path of the cache that was probed; the first one of
            the same architecture and layers if None
        encoder: name or cache of the encoder whose gain is shown; all others with the same layers if None

    Raises:
        InputError: if an encoder is unknown or a cache was not probed, or their layers differ
    """
    if against is None:
        chosen = None if encoder is None else find_encoder(study, encoder)
        found = [pair for pair in default_pairs(study) if chosen in (None, pair.encoder)]
        if chosen is not None and not found:
            raise InputError(
                "LP691",
                f"{_folders(study)} has no encoder before {chosen} with its architecture and layers. Name the "
                "reference by --against.",
            )
        return found
    reference = find_encoder(study, against)
    if encoder is None:
        tables = _tables(study)
        kinds = {name: _kind(study, name, table) for name, table in tables.items()}
        others = [name for name, kind in kinds.items() if kind == kinds[reference] and name != reference]
        if not others:
            raise InputError(
                "LP691",
                f"{_folders(study)} has no other encoder with the architecture and the layers of {reference}. Sweep "
                "the cache of one too, or name an encoder with as many layers by --encoder.",
            )
        return [EncoderPair(name, reference) for name in others]
    chosen = find_encoder(study, encoder)
    if chosen == reference:
        raise InputError("LP692", f"{chosen} can't be compared with itself. Name two encoders of the run.")
    if study.layers[chosen] != study.layers[reference]:
        of_each = " and ".join(
            f"{name} has layers {describe_layers(study.layers[name])}" for name in (chosen, reference)
        )
        raise InputError(
            "LP693",
            f"{of_each}, so that they can't be compared layer by layer. Compare their best layers with layerprobe "
            "report.",
        )
    return [EncoderPair(chosen, reference)]


def find_encoder(study: Study, given: str | Path) -> str:
    """Return the name of the encoder of a study that is given by its name or by its cache.

    Raises:
        InputError: if the study has no such encoder, and its cache was not probed
    """
    tables, text = _tables(study), str(given)
    if text in tables:
        return text
    path = resolve(text)
    if not is_remote(path) and not path.exists():
        raise InputError(
            "LP690",
            f"{text} is neither an encoder of {_folders(study)} nor a cache. Choose one of {', '.join(tables)}, or the "
            "path of a cache.",
        )
    place = str(path) if is_remote(path) else str(path.absolute())
    at_path = [name for name, table in tables.items() if str(table.get("path", "")) == place]
    found = at_path or [name for name, table in tables.items() if _is_cache(path, table)]
    if found:
        return found[0]
    run = study.folders[0]
    raise InputError(
        "LP694",
        f"{text} was not probed in {_folders(study)}. Probe it with the same folds and settings, layerprobe sweep "
        f"{text} --plan {run / 'plan.toml'} --out {run.parent / path.stem}, and name that run, too.",
    )


def _tables(study: Study) -> dict[str, dict[str, Any]]:
    """Return what the plans record of each encoder, by the name it is shown under."""
    found: dict[str, dict[str, Any]] = {}
    for path, run in zip(study.folders, study.runs, strict=True):
        names = shown_names(run.encoders, path, taken=found)
        found |= {names[table["name"]]: table for table in run.plan["encoders"]}
    return found


def _kind(study: Study, encoder: str, table: dict[str, Any]) -> tuple[object, ...]:
    return table.get("architecture", ""), tuple(study.layers[encoder])


def _is_cache(path: Path, table: dict[str, Any]) -> bool:
    """Return whether a cache that has moved holds the embeddings of a recorded encoder."""
    from layerprobe.probe.cache.store import open_cache  # zarr is loaded where a cache is read
    from layerprobe.probe.time.span_means import utterance_means

    cache = utterance_means(open_cache(path))  # whose rows a plan records, of spans as well
    same = cache.plan.fingerprint() == table.get("fingerprint")
    return same and cache.rows_fingerprint() == table.get("rows_fingerprint")


def _folders(study: Study) -> str:
    return " and ".join(map(str, study.folders))
