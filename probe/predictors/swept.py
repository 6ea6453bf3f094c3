"""What a sweep was fitted on, read again: its files are where its run records them, or where they are given now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, resolve
from layerprobe.probe.results.run_folder import Run, read_predictions
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.covariates import Covariate, LayerCovariate, TranscriptCovariate
from layerprobe.probe.sweep.data.inputs import SweepDataset, encoder_names, make_dataset
from layerprobe.probe.sweep.data.rated_parts import RatedPart
from layerprobe.probe.sweep.prepared import prepare_recorded
from layerprobe.probe.sweep.recorded import RecordedSweep, read_recorded


@dataclass(frozen=True)
class SweptData:
    """What a sweep was fitted on, read again: the utterances, their folds, and the cache of each encoder."""

    run: Run
    plan: SweepPlan
    dataset: SweepDataset
    caches: dict[str, Cache]  # by the encoder's name in the run
    manifest: Path
    scales: dict[str, tuple[float, float]]  # lowest and highest possible rating of each target

    def part(self, target: str) -> RatedPart:
        """Return the utterances that rate a target.

        Raises:
            InputError: if the run did not rate it
        """
        for part in self.dataset.parts:
            if target in part.plan.targets:
                return part
        known = ", ".join(self.plan.targets) or "no rated target"
        raise InputError("LP900", f"{self.run.path} has no ratings of {target!r}; it has {known}. Name one of these.")

    def cache(self, encoder: str) -> Cache:
        """Return the cache of an encoder.

        Raises:
            InputError: if the run has no such encoder
        """
        if encoder not in self.caches:
            raise InputError(
                "LP901", f"{self.run.path} has no encoder {encoder!r}; it has {', '.join(self.caches)}. Name one."
            )
        return self.caches[encoder]


def read_swept(run: Run, *, caches: Sequence[Cache | Path | str] = (), manifest: Path | str | None = None) -> SweptData:
    """Read the manifest and the caches of a sweep's run again, and check that they are what the sweep was fitted on.

    Args:
        run: of `layerprobe sweep`
        caches: those that are no longer where the run records them
        manifest: path of the ratings; None for the recorded one

    Raises:
        InputError: if it is of another command, or a file is gone or has changed since
    """
    recorded = read_recorded(run.path)
    if recorded.time:
        raise InputError(
            "LP579",
            f"{run.path} was swept in time, on spans of utterances, and a predictor rates whole recordings. Sweep "
            "caches that were extracted without --spans and --every, and deploy that run.",
        )
    opened = _Opened(run, [c if isinstance(c, Cache) else open_cache(resolve(c)) for c in caches])
    encoders = [opened.cache(table) for table in recorded.encoders]
    random_weights = [opened.cache(table) for table in recorded.random_weights]
    covariates = [_covariate(table, opened) for table in recorded.covariates]
    corpus = run.plan["corpus"]
    all_held_out = corpus.get("n_held_out") == corpus.get("n_utterances")
    # a predictor erases nothing: caches of concepts are read where only they show which utterances were swept
    concepts = [] if all_held_out else [opened.cache(table) for table in recorded.erasure.get("caches", ())]
    opened.check_all_used()
    path = _manifest(recorded, run, manifest)
    inputs = prepare_recorded(replace(recorded, erasure={}), encoders, path, random_weights, covariates, {})
    content = inputs.manifest.content_hash(recorded.plan.group_by)
    if content != recorded.content:
        raise _changed(run, f"{path} has other ratings (content {content}, then {recorded.content})")
    others = [*random_weights, *(cache for covariate in covariates for cache in covariate.caches), *concepts]
    rated = _held_out_rows(inputs.manifest, run) if recorded.erasure and all_held_out else inputs.manifest
    dataset = make_dataset([*encoders, *others], rated, inputs.plan)
    named = dict(zip(encoder_names(encoders), encoders, strict=True))
    scales = {name: (target.minimum, target.maximum) for name, target in inputs.manifest.header.targets.items()}
    return SweptData(run, inputs.plan, dataset, named, inputs.manifest.path, scales)


class _Opened:
    """The caches of a run, opened at their recorded paths or among those that are given."""

    def __init__(self, run: Run, given: list[Cache]) -> None:
        self._run, self._given, self._unused = run, given, list(given)

    def cache(self, table: dict[str, Any]) -> Cache:
        """Return the cache of a table of plan.toml.

        Raises:
            InputError: if it is gone, or has changed
        """
        found = next((c for c in self._given if c.plan.fingerprint() == table.get("fingerprint")), None)
        if found is not None:
            self._unused = [cache for cache in self._unused if cache is not found]
        else:
            path = resolve(str(table["path"]))
            if not is_remote(path) and not path.exists():
                raise InputError(
                    "LP920",
                    f"{self._run.path} names the cache {path} of {table['name']}, which is gone. Name it where it is "
                    "now with --cache.",
                )
            found = open_cache(path)
        here = (found.plan.fingerprint(), found.rows_fingerprint())
        if here != (table.get("fingerprint"), table.get("rows_fingerprint")):
            then = table.get("n_utterances")
            raise _changed(
                self._run, f"{found.path} has changed since ({len(found.utterance_ids)} utterances, then {then})"
            )
        return found

    def check_all_used(self) -> None:
        """Check that each cache that was given is one of the run's.

        Raises:
            InputError: naming the first that is not
        """
        for cache in self._unused:
            raise InputError(
                "LP921",
                f"{cache.path} is no cache of {self._run.path}: it holds {cache.plan.upstream} with the plan "
                f"{cache.plan.fingerprint()}, which was not swept. Leave it out, or name the cache that was.",
            )


def _covariate(table: dict[str, Any], opened: _Opened) -> Covariate:
    return LayerCovariate(opened.cache(table), table["layer"]) if "layer" in table else TranscriptCovariate()


def _held_out_rows(manifest: Manifest, run: Run) -> Manifest:
    """Return a manifest with the held-out utterances of a run alone; those that a cache of concepts lacked are none."""
    held_out = read_predictions(run.path).utterance_id.tolist()
    return replace(manifest, table=manifest.table[manifest.table["utterance_id"].isin(held_out)])


def _manifest(recorded: RecordedSweep, run: Run, given: Path | str | None) -> Path:
    path = recorded.manifest if given is None else resolve(given)
    if given is None and not path.exists():
        raise InputError(
            "LP920", f"{run.path} names the manifest {path}, which is gone. Name it where it is now with --manifest."
        )
    return path


def _changed(run: Run, reason: str) -> InputError:
    return InputError(
        "LP902", f"{run.path} can't be refitted: {reason}. Run layerprobe sweep again, and deploy the new run."
    )
