"""What a sweep is given, put in order: encoders' names, controls' partners, utterances that all hold, splits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probe.cache import Cache, open_cache
from probe.columns import SweepData
from probe.errors import InputError
from probe.manifest import Manifest
from probe.plan import SweepPlan, combined_fingerprint
from probe.splits import fold_splits, manifest_split, speaker_groups


@dataclass(frozen=True)
class Band:
    """One layer of a cache that every layer under study is fitted beside."""

    cache: Cache
    layer: str

    @property
    def name(self) -> str:
        """Encoder and layer."""
        return f"{self.cache.plan.upstream.rsplit('/', 1)[-1]} {self.layer}"


def band_named(name: str) -> Band:
    """The band that ``CACHE@LAYER`` names.

    Raises:
        InputError: if there is no such cache or layer
    """
    path, _, layer = name.rpartition("@")
    if not path:
        raise InputError(f"{name!r} names no layer. Write CACHE.zarr@LAYER.")
    cache = open_cache(path)
    if layer not in cache.plan.layers:
        raise InputError(f"{path} has no layer {layer!r}; it has {', '.join(cache.plan.layers)}.")
    return Band(cache, layer)


@dataclass(frozen=True)
class Used:
    """What of the manifest is swept, and what is left out."""

    data: SweepData
    rows: pd.DataFrame  # of the manifest, in the order of their ids
    counts: dict[str, int]


def data_of(caches: list[Cache], manifest: Manifest, plan: SweepPlan) -> Used:
    """Utterances that every cache holds and every target rates, in the order of their ids, dealt into splits.

    Raises:
        InputError: if none is left, or nothing can be learnt of a target
    """
    table = manifest.table
    cached = set(caches[0].utterance_ids).intersection(*(c.utterance_ids for c in caches[1:]))
    in_cache = table["utterance_id"].isin(list(cached)).to_numpy()
    rated = table[list(plan.targets)].notna().all(axis=1).to_numpy()
    rated = rated & (table[list(plan.nominal)] != "").all(axis=1).to_numpy()
    if not in_cache.any():
        raise InputError(
            f"None of the utterances of {', '.join(str(c.path) for c in caches)} is in {manifest.path}, so there are "
            "no ratings to sweep. Give the manifest that the cache was extracted from."
        )
    if not (in_cache & rated).any():
        raise InputError(
            f"{manifest.path} rates no cached utterance for all of {', '.join([*plan.targets, *plan.nominal])}."
        )
    kept = table[in_cache & rated].sort_values("utterance_id")  # so that the order of rows changes nothing
    groups = speaker_groups(kept["speaker_id"].to_numpy())
    rng = np.random.default_rng(plan.seed)
    if plan.n_folds is None:
        splits = manifest_split(
            groups,
            kept["split"].to_numpy(),
            kept["speaker_id"].to_numpy(),
            test=str(plan.test),
            n_inner_folds=plan.n_inner_folds,
            rng=rng,
        )
    else:
        splits = fold_splits(groups, n_folds=plan.n_folds, n_inner_folds=plan.n_inner_folds, rng=rng)
    ratings = kept[list(plan.targets)].to_numpy(dtype=np.float64)
    codes = np.empty((len(kept), len(plan.nominal)), dtype=np.int64)
    for k, (name, classes) in enumerate(plan.classes_of.items()):
        codes[:, k] = pd.Index(classes).get_indexer(pd.Index(kept[name]))
    both = np.column_stack([ratings, codes])
    for split in splits:
        constant = np.flatnonzero(np.ptp(both[split.train], axis=0) == 0)
        if len(constant):
            name = (*plan.targets, *plan.nominal)[constant[0]]
            raise InputError(f"{name} has one value only in the training speakers; nothing can be learnt of it.")
    counts = {
        "n_utterances": len(kept),
        "n_speakers": len(np.unique(groups)),
        "n_not_cached": int((~in_cache).sum()),
        "n_not_rated": int((in_cache & ~rated).sum()),
    }
    speaker_ids = kept["speaker_id"].to_numpy(dtype=object)
    ids = kept["utterance_id"].to_numpy(dtype=object)
    return Used(SweepData(ids, speaker_ids, groups, ratings, codes, splits), kept, counts)


def names_of(caches: list[Cache]) -> list[str]:
    """A short name per cache: the upstream's last part, with whatever tells two of the same apart."""
    full = [
        c.plan.upstream + (f" (untrained {c.plan.random_init})" if c.plan.random_init is not None else "")
        for c in caches
    ]
    short = [name.rsplit("/", 1)[-1] for name in full]
    names = [s if short.count(s) == 1 else f for s, f in zip(short, full, strict=True)]
    if len(set(names)) < len(names):
        repeated = [c.path.stem for c in caches]
        if len(set(repeated)) < len(repeated):
            raise InputError("Two caches have the same encoder and the same name. Rename one of them.")
        return repeated
    return names


def partner_of(control: Cache, caches: list[Cache], names: list[str]) -> str:
    """The encoder that a random-weight cache is the control of."""
    if control.plan.random_init is None:
        raise InputError(f"{control.path} has trained weights. Extract a control with --random-init SEED.")
    same = [
        name
        for cache, name in zip(caches, names, strict=True)
        if cache.plan.upstream == control.plan.upstream
        and replace(cache.plan, weights="", revision="", random_init=None, libraries="")
        == replace(control.plan, weights="", revision="", random_init=None, libraries="")
    ]
    if not same:
        raise InputError(
            f"{control.path} is no control of any cache given: it is {control.plan.upstream} with "
            f"{len(control.plan.layers)} layers. Extract it with the same encoder and settings and --random-init."
        )
    return same[0]


def rows_fingerprint(cache: Cache) -> str:
    """Of the utterances that a cache holds, and the sounds that they were made from."""
    return combined_fingerprint(*sorted(f"{i} {s}" for i, s in zip(cache.utterance_ids, cache.sounds, strict=True)))


def provenance(
    caches: list[Cache],
    controls: list[Cache],
    names: list[str],
    partners: list[str],
    manifest: Manifest,
    plan: SweepPlan,
    used: Used,
    bands: list[Band],
) -> dict[str, Any]:
    """The content of plan.toml: what was asked, of whom, by which weights."""

    def described(cache: Cache, name: str) -> dict[str, Any]:
        return {"name": name, **cache.plan.to_json(), "fingerprint": cache.plan.fingerprint()}

    return {
        "corpus": {
            "name": manifest.header.corpus,
            "version": manifest.header.version,
            "notes": manifest.header.notes,
            "content": manifest.content_hash(),
            **used.counts,
            "n_held_out": sum(len(s.test) for s in used.data.splits),
        },
        "sweep": {
            **{k: v for k, v in asdict(plan).items() if v is not None},
            "fingerprint": plan.fingerprint(),
        },
        "encoders": [described(c, n) for c, n in zip(caches, names, strict=True)],
        "beside": [{**described(b.cache, b.name), "layer": b.layer} for b in bands],
        "random_weights": [described(c, n) for c, n in zip(controls, partners, strict=True)],
    }


def quarantine_of(caches: list[Cache], names: list[str]) -> pd.DataFrame:
    """Refused utterances of all caches with the encoder's name."""
    tables = [c.quarantine.assign(encoder=n) for c, n in zip(caches, names, strict=True)]
    return pd.concat(tables)[["encoder", "utterance_id", "path", "reason"]]
