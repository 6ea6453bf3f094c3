"""Stage: caches, ratings and a plan become scores, held-out predictions and layer weights."""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probe.cache import Cache
from probe.controls import CONTROLS, DEFAULT_CONTROLS
from probe.errors import InputError
from probe.manifest import Manifest
from probe.plan import SweepPlan, combined_fingerprint
from probe.progress import Silent
from probe.ridge import DEFAULT_ALPHAS
from probe.score_table import WEIGHT_COLUMNS, Run, refuse_other_run, write_run
from probe.scoring import Column, SweepData, held_out_predictions, mix_columns, ridge_columns
from probe.splits import fold_splits, manifest_split, speaker_groups
from probe.unfinished import Unfinished
from probe.weighted_sum import DEFAULT_PENALTIES

DEFAULT_FOLDS = 5
DEFAULT_INNER_FOLDS = 4  # where the outer ones can't serve


def plan_sweep(
    manifest: Manifest,
    *,
    targets: tuple[str, ...] = (),
    folds: int | None = None,
    test: str | None = None,
    mix_seeds: int = 3,
    seed: int = 0,
    controls: tuple[str, ...] = DEFAULT_CONTROLS,
    speakers: bool = True,
) -> SweepPlan:
    """Settle the choices that depend on the manifest.

    Args:
        manifest: what was rated
        targets: those to sweep; all of the manifest's if empty
        folds: outer speaker-disjoint folds; None takes the manifest's split where it has one, else 5 folds
        test: the split that is held out; None takes ``test``, else ``test1``, else ``development``
        mix_seeds: of the weighted sum, which 0 leaves out
        seed: of folds and permutations
        controls: keys of `probe.controls.CONTROLS`
        speakers: False where every utterance counts as its own speaker

    Raises:
        InputError: if a target or control is unknown, or the split that is to be held out is not there
    """
    strange = [c for c in controls if c not in CONTROLS]
    if strange:
        raise InputError(f"control {strange[0]!r} is unknown; choose all, or some of {', '.join(CONTROLS)}.")
    needs_speakers = [c for c in controls if c != "permuted"]
    if needs_speakers and not speakers:
        raise InputError(f"control {needs_speakers[0]!r} needs speakers. Leave it out, or name them in the manifest.")
    unknown = [t for t in targets if t not in manifest.targets]
    if unknown:
        raise InputError(
            f"{manifest.path} has no target {unknown[0]!r}; its header describes {', '.join(manifest.targets)}."
        )
    if test is not None and folds is not None:
        raise InputError("--folds and --test exclude each other: folds hold every speaker out in turn.")
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    if folds is None and (present or test is not None):
        candidates = [test] if test is not None else ["test", "test1", "development"]
        test = next((t for t in candidates if t in present), None)
        if test is None:
            raise InputError(f"{manifest.path} has no split {' or '.join(map(str, candidates))}. Use --folds 5.")
    else:
        folds = DEFAULT_FOLDS if folds is None else folds
    return SweepPlan(
        targets=targets or manifest.targets,
        n_folds=folds,
        test=test,
        n_inner_folds=folds - 1 if folds is not None and folds > 2 else DEFAULT_INNER_FOLDS,
        alphas=DEFAULT_ALPHAS,
        controls=controls,
        n_permutations=5,
        weighted_sum_seeds=tuple(range(mix_seeds)),
        mix_penalties=DEFAULT_PENALTIES,
        mix_iterations=60,
        seed=seed,
        speakers=speakers,
    )


def sweep(
    caches: list[Cache],
    manifest: Manifest,
    plan: SweepPlan,
    *,
    out: Path | str,
    random_weights: list[Cache] | None = None,
    watch: Silent | None = None,
) -> Run:
    """Score every layer of every cache for every target on speakers never heard, with two controls; write ``out``.

    An interrupted sweep goes on at the layer it was in.

    The ridge is fitted on the ratings and on permuted ratings; ``random_weights`` are caches of the same
    architectures with untrained weights. All caches are scored on the utterances that every one of them holds.

    Raises:
        InputError: if caches and manifest share too little, or ``out`` holds another run
    """
    watch = watch or Silent()
    controls = random_weights or []
    names = _names(caches)
    partners = [_partner(cache, caches, names) for cache in controls]
    fingerprint = combined_fingerprint(
        plan.fingerprint(),
        manifest.content_hash(),
        *(c.plan.fingerprint() for c in [*caches, *controls]),
        *(_rows_fingerprint(c) for c in [*caches, *controls]),
    )
    refuse_other_run(Path(out), fingerprint)
    data, used = _data([*caches, *controls], manifest, plan)
    if plan.weighted_sum_seeds:
        _refuse_too_large(caches + controls, len(data.utterance_ids))
    columns: list[Column] = []
    scores: list[dict[str, Any]] = []
    weights: list[dict[str, Any]] = []
    n_units = sum(len(c.plan.layers) + len(plan.weighted_sum_seeds) for c in [*caches, *controls])
    unfinished = Unfinished(Path(out), fingerprint)
    watch.begin("sweep", n_units, "layers and mixes")
    try:
        for cache, name, control in [
            *((c, n, "none") for c, n in zip(caches, names, strict=True)),
            *((c, n, "random_init") for c, n in zip(controls, partners, strict=True)),
        ]:
            rows = pd.Index(cache.utterance_ids).get_indexer(pd.Index(data.utterance_ids))
            keys = {"encoder": name, "control": control}
            shared = (rows, data, plan, keys)
            for layer in cache.plan.layers:
                work = functools.partial(ridge_columns, cache, layer, *shared)
                done = unfinished.unit(f"{name}-{control}-layer-{layer}", work)
                columns, scores = columns + done.columns, scores + done.scores
                watch.advance(1, f"{name} layer {layer}")
            for seed in plan.weighted_sum_seeds:
                work = functools.partial(mix_columns, cache, seed, *shared)
                done = unfinished.unit(f"{name}-{control}-mix-{seed}", work)
                columns, scores = columns + done.columns, scores + done.scores
                weights += done.weights
                watch.advance(1, f"{name} weighted sum, seed {seed}")
    finally:
        watch.end()
    run = Run(
        fingerprint,
        _provenance(caches, controls, names, partners, manifest, plan, data, used),
        pd.DataFrame(scores),
        pd.DataFrame(weights, columns=list(WEIGHT_COLUMNS)),
        _quarantine(caches, names),
    )
    write_run(Path(out), run, held_out_predictions(columns, data, plan))
    unfinished.clear()
    return run


def _data(caches: list[Cache], manifest: Manifest, plan: SweepPlan) -> tuple[SweepData, dict[str, int]]:
    """Utterances that every cache holds and every target rates, in the order of their ids, dealt into splits."""
    table = manifest.table
    cached = set(caches[0].utterance_ids).intersection(*(c.utterance_ids for c in caches[1:]))
    in_cache = table["utterance_id"].isin(list(cached)).to_numpy()
    rated = table[list(plan.targets)].notna().all(axis=1).to_numpy()
    if not in_cache.any():
        raise InputError(
            f"None of the utterances of {', '.join(str(c.path) for c in caches)} is in {manifest.path}, so there are "
            "no ratings to sweep. Give the manifest that the cache was extracted from."
        )
    if not (in_cache & rated).any():
        raise InputError(f"{manifest.path} rates no cached utterance for all of {', '.join(plan.targets)}.")
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
    for split in splits:
        constant = np.flatnonzero(np.ptp(ratings[split.train], axis=0) == 0)
        if len(constant):
            name = plan.targets[constant[0]]
            raise InputError(f"{name} has one value only in the training speakers; nothing can be learnt of it.")
    used = {
        "n_utterances": len(kept),
        "n_speakers": len(np.unique(groups)),
        "n_not_cached": int((~in_cache).sum()),
        "n_not_rated": int((in_cache & ~rated).sum()),
    }
    speaker_ids = kept["speaker_id"].to_numpy(dtype=object)
    return SweepData(kept["utterance_id"].to_numpy(dtype=object), speaker_ids, ratings, splits), used


def _names(caches: list[Cache]) -> list[str]:
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


def _partner(control: Cache, caches: list[Cache], names: list[str]) -> str:
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


def _refuse_too_large(caches: list[Cache], n_utterances: int) -> None:
    """The mix holds all layers of an encoder in memory, twice: say so before the work, not at its end."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")
    for cache in caches:
        needed = 2 * n_utterances * cache.values_per_utterance * np.dtype(np.float32).itemsize
        if needed > 0.9 * present:
            raise InputError(
                f"The weighted sum over {cache.path} needs {needed / 2**30:.0f} GiB of memory, and there are "
                f"{present / 2**30:.0f}. Leave it out with --mix-seeds 0."
            )


def _rows_fingerprint(cache: Cache) -> str:
    return combined_fingerprint(*sorted(f"{i} {s}" for i, s in zip(cache.utterance_ids, cache.sounds, strict=True)))


def _provenance(
    caches: list[Cache],
    controls: list[Cache],
    names: list[str],
    partners: list[str],
    manifest: Manifest,
    plan: SweepPlan,
    data: SweepData,
    used: dict[str, int],
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
            **used,
            "n_held_out": sum(len(s.test) for s in data.splits),
        },
        "sweep": {
            **{k: v for k, v in asdict(plan).items() if v is not None},
            "fingerprint": plan.fingerprint(),
        },
        "encoders": [described(c, n) for c, n in zip(caches, names, strict=True)],
        "random_weights": [described(c, n) for c, n in zip(controls, partners, strict=True)],
    }


def _quarantine(caches: list[Cache], names: list[str]) -> pd.DataFrame:
    tables = [c.quarantine.assign(encoder=n) for c, n in zip(caches, names, strict=True)]
    return pd.concat(tables)[["encoder", "utterance_id", "path", "reason"]]
