"""Everything that a sweep is given, opened and checked: anew, or as a plan.toml records it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.concepts import ConceptCache, open_concept_caches
from layerprobe.probe.sweep.data.covariates import Covariate
from layerprobe.probe.sweep.data.in_time import (
    NOT_IN_TIME,
    InTime,
    TimeOptions,
    changed_time,
    check_caches,
    check_text,
    time_choice,
)
from layerprobe.probe.sweep.fits.mix_probes import DEFAULT_MIXES
from layerprobe.probe.sweep.recorded import RecordedSweep, overridden, override, plan_arguments
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.time.span_means import utterance_means
from layerprobe.probe.time.span_ratings import SpanRatings


@dataclass(frozen=True)
class ErasureOptions:
    """What is erased, as it is given on the command line."""

    without: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()  # paths of caches


NO_ERASURE = ErasureOptions()


@dataclass(frozen=True)
class PreparedSweep:
    """The inputs of a sweep and its plan, with the lines that a command prints about them."""

    caches: list[Cache]
    manifest: Manifest
    plan: SweepPlan
    random_weights: list[Cache]
    covariates: list[Covariate]
    notes: list[str]
    time: InTime | None = None
    without: tuple[str, ...] = ()  # erasures, as `probe.sweep.data.concepts.parse_erasures` takes them
    concepts: Sequence[ConceptCache] = ()


def prepare(
    caches: list[Cache],
    manifest: Path,
    random_weights: list[Cache],
    covariates: list[Covariate],
    arguments: dict[str, Any],
    time: TimeOptions = NOT_IN_TIME,
    *,
    erasure: ErasureOptions = NO_ERASURE,
) -> PreparedSweep:
    """Return the inputs as they are given, and their plan.

    Args:
        caches: of the encoders under study
        manifest: path of the ratings
        random_weights: caches of controls
        covariates: of every layer
        arguments: of `probe.sweep.settings.plan_sweep`
        time: bins of time, or ratings of spans
        erasure: what is erased

    Raises:
        InputError: if the manifest can't be read, or has no plan with these arguments
    """
    read = _read(manifest, arguments)
    in_time = time_choice(time, read)
    check_caches([*caches, *random_weights], in_time=in_time is not None)
    check_text(in_time, covariates, residualize_text=bool(arguments["residualize_text"]))
    checked = in_time.manifest(read) if isinstance(in_time, SpanRatings) else read
    concepts = open_concept_caches(erasure.concepts)
    used = [*_all_caches(caches, random_weights, covariates), *(one.cache for one in concepts)]
    plan, notes = plan_sweep(checked, **arguments, caches=used), _split_notes(checked, arguments)
    return PreparedSweep(caches, checked, plan, random_weights, covariates, notes, in_time, erasure.without, concepts)


def prepare_recorded(
    recorded: RecordedSweep,
    caches: list[Cache],
    manifest: Path | None,
    random_weights: list[Cache],
    covariates: list[Covariate],
    changed: dict[str, Any],
    time: TimeOptions = NOT_IN_TIME,
    *,
    erasure: ErasureOptions = NO_ERASURE,
) -> PreparedSweep:
    """Return the inputs of a recorded sweep, with those that are given in their place; notes name the latter.

    Args:
        recorded: the sweep, from its plan.toml
        caches: of the encoders under study; if empty, the recorded ones
        manifest: path of the ratings; if None, the recorded one
        random_weights: caches of controls; if empty, the recorded ones
        covariates: of every layer; if empty, the recorded ones
        changed: arguments of `probe.sweep.settings.plan_sweep` that replace recorded settings
        time: bins of time, or ratings of spans, that replace the recorded ones
        erasure: what is erased; if empty, as recorded

    Raises:
        InputError: if a recorded file is gone, or the manifest has no plan with these arguments
    """
    notes = [
        f"{name} of the command line, in place of those in {recorded.path}"
        for name, replaced in (
            ("CACHES", caches and recorded.encoders),
            ("MANIFEST", manifest is not None and manifest.absolute() != recorded.manifest),
            ("--random-weights", random_weights and recorded.random_weights),
            ("--covariate", covariates and recorded.covariates),
            ("--without", erasure.without and recorded.without),
            ("--concepts", erasure.concepts and recorded.erasure.get("caches")),
        )
        if replaced
    ]
    caches = caches or recorded.open_encoders()
    random_weights = random_weights or recorded.open_random_weights()
    covariates = covariates or recorded.open_covariates()
    without = erasure.without or recorded.without
    concepts = open_concept_caches(erasure.concepts) or recorded.open_concepts()
    arguments = plan_arguments(recorded.plan) | changed
    if changed.keys() & {"folds", "test_split", "leave_one_out"}:  # one replaces the other
        arguments |= {"folds": changed.get("folds"), "test_split": changed.get("test_split")}
    elif "group_by" in changed:  # as many folds as there are groups to make them of
        arguments |= {"folds": None, "test_split": None}
    if "weighted_sum_seeds" in changed:
        arguments["mixes"] = arguments["mixes"] or DEFAULT_MIXES
    read = _read(manifest or recorded.check_manifest(), arguments)
    in_time = time_choice(time, read, recorded.time)
    check_caches([*caches, *random_weights], in_time=in_time is not None)
    check_text(in_time, covariates, residualize_text=bool(arguments["residualize_text"]))
    checked = in_time.manifest(read) if isinstance(in_time, SpanRatings) else read
    used = [*_all_caches(caches, random_weights, covariates), *(one.cache for one in concepts)]
    same = checked.content_hash(recorded.plan.group_by) == recorded.content
    other = set() if same else {"targets"}  # its classes may be others
    plan = override(recorded.plan, plan_sweep(checked, **arguments, caches=used), {*changed, *other})
    notes += overridden(recorded.plan, plan, recorded.path) + recorded.changes(checked, used)
    notes += changed_time(recorded.time, in_time, recorded.path) + _split_notes(checked, changed)
    return PreparedSweep(caches, checked, plan, random_weights, covariates, notes, in_time, without, concepts)


def _read(manifest: Path, arguments: dict[str, Any]) -> Manifest:
    groups = [name for name in (arguments.get("group_by"),) if name]
    return read_manifest(
        manifest, speakers=arguments["speakers"], same_speaker=arguments["same_speaker"], groups=groups
    )


def _all_caches(
    caches: Sequence[Cache], random_weights: Sequence[Cache], covariates: Sequence[Covariate]
) -> list[Cache]:
    every = [*caches, *random_weights, *(cache for covariate in covariates for cache in covariate.caches)]
    return [utterance_means(cache) for cache in every]


def _split_notes(manifest: Manifest, arguments: dict[str, Any]) -> list[str]:
    """Return a line if folds take the place of the manifest's split; arguments as of `prepare`."""
    folds, group_by = arguments.get("folds"), arguments.get("group_by")
    options = {f"--folds {folds}": folds is not None, f"--group-by {group_by}": bool(group_by)}
    options["--leave-one-out"] = bool(arguments.get("leave_one_out"))
    given = [option for option, is_given in options.items() if is_given]
    if not given or "split" not in manifest.table:
        return []
    names = ", ".join(sorted(set(manifest.table["split"]) - {""}))
    return [f"{given[0]} replaces the split in {manifest.path} ({names})."] if names else []
