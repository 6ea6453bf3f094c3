"""The inputs of a sweep: utterances that all caches hold, their splits, and the names of encoders and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.results.run_folder import LABELS
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.splits import Split, assert_disjoint, check_speakers_known, fold_splits, manifest_split
from layerprobe.probe.sweep.data.held_out import HeldOutUnits, HoldOut, hold_out
from layerprobe.probe.sweep.data.rated_parts import (
    LeftOut,
    RatedPart,
    rated_parts,
    with_text_residuals as text_residual_parts,
)


@dataclass(frozen=True)
class SweepDataset:
    """The utterances of the manifest that are probed, and how many are not."""

    data: SweepData
    rows: pd.DataFrame  # of the manifest, in the order of their ids
    counts: dict[str, int]
    parts: list[RatedPart]  # targets with the utterances that rate them, which are what is fitted
    left_out: list[LeftOut]  # derived targets that are not
    units: dict[str, Any] = field(default_factory=dict)  # tables of plan.toml on what is held out together
    notes: tuple[str, ...] = ()  # the same in sentences


def open_caches(caches: Sequence[Cache | Path | str]) -> list[Cache]:
    """Return caches that are given as such or by their paths.

    Raises:
        InputError: if there is none at a path
    """
    if isinstance(caches, Cache | Path | str):
        caches = [caches]
    return [c if isinstance(c, Cache) else open_cache(c) for c in caches]


def usable_rows(
    table: pd.DataFrame, caches: Sequence[Cache], targets: Sequence[str], nominal: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which utterances every cache holds, and which have a rating of any target, both ``(n_utterances,)`` bool.

    Args:
        table: the manifest's
        caches: none if all utterances count as cached
        targets: rated ones
        nominal: those with classes
    """
    rated = table[list(targets)].notna().any(axis=1).to_numpy()
    rated = rated | (table[list(nominal)] != "").any(axis=1).to_numpy()
    if not caches:
        return np.ones(len(table), dtype=bool), rated
    cached = set(caches[0].utterance_ids).intersection(*(c.utterance_ids for c in caches[1:]))
    return table["utterance_id"].isin(list(cached)).to_numpy(), rated


def make_dataset(caches: list[Cache], manifest: Manifest, plan: SweepPlan) -> SweepDataset:
    """Return the utterances that every cache holds and any target rates, in the order of their ids, with splits.

    Raises:
        InputError: if none is left, or nothing can be learnt of a target
    """
    table = manifest.table
    in_cache, rated = usable_rows(table, caches, plan.targets, plan.nominal)
    if not in_cache.any():
        raise InputError(
            "LP500",
            f"None of the utterances of {', '.join(str(c.path) for c in caches)} is in {manifest.path}, so there are "
            "no ratings to sweep. Give the manifest that the cache was extracted from.",
        )
    if not (in_cache & rated).any():
        raise InputError(
            "LP501",
            f"{manifest.path} rates no cached utterance for any of {', '.join([*plan.targets, *plan.nominal])}. "
            "Name targets that it rates with --target, or extract the utterances that are rated.",
        )
    kept = table[in_cache & rated].sort_values("utterance_id")  # so that the order of rows changes nothing
    if plan.speakers:
        check_speakers_known(kept["speaker_id"].to_numpy())
    held_out = hold_out(kept, caches, _choice(plan))
    held_out.check_folds(plan.n_folds)
    kept, groups = held_out.rows, held_out.speakers
    splits = _splits(held_out, plan)
    ratings = kept[list(plan.targets)].to_numpy(dtype=np.float64)
    codes = np.empty((len(kept), len(plan.nominal)), dtype=np.int64)
    for k, (name, classes) in enumerate(plan.classes_of.items()):
        codes[:, k] = pd.Index(classes).get_indexer(pd.Index(kept[name]))
    counts = {
        "n_utterances": len(kept),
        "n_speakers": len(np.unique(groups)),
        "n_not_cached": int((~in_cache).sum()),
        "n_not_rated": int((in_cache & ~rated).sum()),
    }
    speaker_ids = kept["speaker_id"].to_numpy(dtype=object)
    ids = kept["utterance_id"].to_numpy(dtype=object)
    labels = {name: kept[name].to_numpy(dtype=object).astype(str) for name in LABELS if name in kept}
    units = held_out.units if plan.group_by or held_out.joined_by else None
    data = SweepData(ids, speaker_ids, groups, ratings, codes, splits, labels, units=units)
    parts, left_out = rated_parts(data, plan)
    notes = tuple(held_out.notes(plan.duplicates))
    return SweepDataset(data, kept, counts, parts, left_out, held_out.to_toml(plan.duplicates), notes)


def _choice(plan: SweepPlan) -> HoldOut:
    return HoldOut(
        plan.targets, plan.nominal, plan.group_by, plan.shared_speakers, plan.duplicates, test_split=plan.test_split
    )


def _splits(held_out: HeldOutUnits, plan: SweepPlan) -> list[Split]:
    kept, rng = held_out.rows, np.random.default_rng(plan.seed)
    if plan.n_folds is not None:
        splits = fold_splits(
            held_out.units,
            n_folds=plan.n_folds,
            n_inner_folds=plan.n_inner_folds,
            rng=rng,
            unit=held_out.unit,
            inner_groups=held_out.speakers if plan.shared_speakers else None,
        )
        for split in splits if not plan.shared_speakers else ():
            assert_disjoint(split, held_out.speakers)
        return splits
    if "split" not in kept:
        raise InputError(
            "LP516", f"The manifest has no column split, so there is no {plan.test_split} in it. Use --folds 5."
        )
    return manifest_split(
        held_out.units,
        kept["split"].to_numpy(),
        kept["speaker_id"].to_numpy(),
        test=str(plan.test_split),
        n_inner_folds=plan.n_inner_folds,
        rng=rng,
    )


def with_text_residuals(dataset: SweepDataset) -> SweepDataset:
    """Return the dataset with the residuals of ratings given the transcript, if the plan has any.

    Raises:
        InputError: if no utterance has a transcript
    """
    parts, left_out = text_residual_parts(dataset.parts, transcripts(dataset))
    return replace(dataset, parts=parts, left_out=[*dataset.left_out, *left_out])


def transcripts(dataset: SweepDataset) -> list[str] | None:
    """Return the transcript of each utterance, or None where the manifest has none of any."""
    texts = dataset.rows[TRANSCRIPT].tolist() if TRANSCRIPT in dataset.rows else []
    return texts if any(text.strip() for text in texts) else None


def row_indices(cache: Cache, dataset: SweepDataset) -> np.ndarray:
    """Return the rows of a cache that hold the utterances of a dataset, ``(n_utterances,)``.

    Raises:
        ValueError: if it lacks one, whose number would read another row
    """
    found = np.asarray(pd.Index(cache.utterance_ids).get_indexer(pd.Index(dataset.data.utterance_ids)))
    if (found < 0).any():
        name = dataset.data.utterance_ids[int(np.argmin(found))]
        raise ValueError(f"{cache.path} lacks {int((found < 0).sum())} of {len(found)} utterances, such as {name}")
    return found


def encoder_names(caches: list[Cache]) -> list[str]:
    """Return a short name per cache: the last part of the upstream's, or more where two would have the same.

    Raises:
        InputError: if two caches have the same encoder and the same file name
    """
    full = [
        c.plan.upstream + (f" (untrained {c.plan.random_init})" if c.plan.random_init is not None else "")
        for c in caches
    ]
    short = [name.rsplit("/", 1)[-1] for name in full]
    names = [s if short.count(s) == 1 else f for s, f in zip(short, full, strict=True)]
    if len(set(names)) < len(names):
        repeated = [c.path.stem for c in caches]
        if len(set(repeated)) < len(repeated):
            raise InputError("LP503", "Two caches have the same encoder and the same name. Rename one of them.")
        return repeated
    return names


def controlled_encoder(control: Cache, caches: list[Cache], names: list[str]) -> str:
    """Return the name of the encoder that a cache with random weights is the control of.

    Raises:
        InputError: if its weights are trained, or no cache has its architecture and settings
    """
    if control.plan.random_init is None:
        raise InputError("LP504", f"{control.path} has trained weights. Extract a control with --random-init SEED.")
    same = [
        name
        for cache, name in zip(caches, names, strict=True)
        if cache.plan.upstream == control.plan.upstream
        and replace(cache.plan, weights="", revision="", random_init=None, libraries="")
        == replace(control.plan, weights="", revision="", random_init=None, libraries="")
    ]
    if not same:
        raise InputError(
            "LP504",
            f"{control.path} is no control of any cache given: it is {control.plan.upstream} with "
            f"{len(control.plan.layers)} layers. Extract it with the same encoder and settings and --random-init.",
        )
    return same[0]
