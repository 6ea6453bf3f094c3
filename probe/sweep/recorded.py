"""A sweep as its plan.toml records it, so that it can be run again with the same results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, resolve
from layerprobe.probe.results.run_folder import PLAN, read_plan
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.concepts import ConceptCache
from layerprobe.probe.sweep.data.covariates import Covariate, LayerCovariate, TranscriptCovariate

FIELDS = {  # of a plan that each argument of `probe.sweep.settings.plan_sweep` decides
    "targets": ("targets", "nominal", "classes", "residuals", "text_residuals"),
    "folds": ("n_folds", "test_split", "n_inner_folds", "inner_selection"),
    "test_split": ("n_folds", "test_split", "n_inner_folds", "inner_selection"),
    "leave_one_out": ("n_folds", "test_split", "n_inner_folds", "inner_selection"),
    "group_by": ("group_by", "n_folds", "test_split", "n_inner_folds", "inner_selection"),
    "allow_shared_speakers": ("shared_speakers",),
    "duplicates": ("duplicates",),
    "weighted_sum_seeds": ("weighted_sum_seeds", "mixes"),
    "mixes": ("mixes",),
    "probes": ("probes",),
    "seed": ("seed",),
    "controls": ("controls",),
    "permutations": ("n_permutations",),
    "residualize_text": ("text_residuals",),
    "cross_corpus": ("cross_corpus",),
    "speakers": ("speakers",),
    "same_speaker": ("same_speaker",),
    "device": ("device",),
}


@dataclass(frozen=True)
class RecordedSweep:
    """The plan of a run, and the files that it was made from."""

    path: Path  # of plan.toml
    plan: SweepPlan
    manifest: Path
    content: str  # hash of the manifest's ratings
    encoders: list[dict[str, Any]]  # tables of plan.toml
    random_weights: list[dict[str, Any]]
    covariates: list[dict[str, Any]]
    time: dict[str, Any] = field(default_factory=dict)  # bins of time or ratings of spans; empty without
    erasure: dict[str, Any] = field(default_factory=dict)  # the table of plan.toml; empty where nothing is erased

    @property
    def without(self) -> tuple[str, ...]:
        """The erasures, as `probe.sweep.data.concepts.parse_erasures` takes them."""
        return tuple(erasure["name"] for erasure in self.erasure.get("erasures", ()))

    def open_concepts(self) -> list[ConceptCache]:
        """Open the caches of concepts.

        Raises:
            InputError: if one is no longer at its path
        """
        tables = self.erasure.get("caches", ())
        return [ConceptCache(self._open(table, "--concepts"), table["layer"]) for table in tables]

    def open_encoders(self) -> list[Cache]:
        """Open the caches under study.

        Raises:
            InputError: if one is no longer at its path
        """
        return [self._open(table) for table in self.encoders]

    def open_random_weights(self) -> list[Cache]:
        """Open the caches with random weights.

        Raises:
            InputError: if one is no longer at its path
        """
        return [self._open(table, "--random-weights") for table in self.random_weights]

    def open_covariates(self) -> list[Covariate]:
        """Open the covariates.

        Raises:
            InputError: if the cache of one is no longer at its path
        """
        return [
            LayerCovariate(self._open(table, "--covariate"), table["layer"])
            if "layer" in table
            else TranscriptCovariate()
            for table in self.covariates
        ]

    def check_manifest(self) -> Path:
        """Return the path of the manifest.

        Raises:
            InputError: if there is no file
        """
        if not self.manifest.exists():
            raise InputError(
                "LP550", f"{self.path} names the manifest {self.manifest}, which is gone. Give MANIFEST, too."
            )
        return self.manifest

    def changes(self, manifest: Manifest, caches: Iterable[Cache]) -> list[str]:
        """Return a sentence for each file at a recorded path whose content is not what the run was made from."""
        found = []
        if (
            manifest.path.absolute() == self.manifest
            and (content := manifest.content_hash(self.plan.group_by)) != self.content
        ):
            found.append(
                f"Warning: {manifest.path} has changed since {self.path} was written "
                f"(content {content}, then {self.content}), so scores will differ."
            )
        tables = {t["path"]: t for t in self._tables if "path" in t}
        for cache in caches:
            table = tables.get(str(cache.path.absolute()), {})
            same = table.get("fingerprint") == cache.plan.fingerprint()
            if table and not (same and table.get("rows_fingerprint") == cache.rows_fingerprint()):
                found.append(
                    f"Warning: {cache.path} has changed since {self.path} was written ({len(cache.utterance_ids)} "
                    f"utterances, then {table.get('n_utterances')}), so scores may differ."
                )
        return found

    @property
    def _tables(self) -> list[dict[str, Any]]:
        return [*self.encoders, *self.random_weights, *self.covariates, *self.erasure.get("caches", ())]

    def _open(self, table: dict[str, Any], argument: str = "CACHES") -> Cache:
        path = resolve(str(table["path"]))
        if not is_remote(path) and not path.exists():
            raise InputError(
                "LP550", f"{self.path} names the cache {path} of {table['name']}, which is gone. Give {argument}, too."
            )
        return open_cache(path)


def read_recorded(path: Path | str) -> RecordedSweep:
    """Read the plan of a run: a plan.toml, or the run folder that holds one.

    Raises:
        InputError: if there is none, it has another format version, or it is not of a sweep
    """
    path = Path(path)
    path = path / PLAN if path.is_dir() else path
    if not path.exists():
        raise InputError("LP551", f"{path} does not exist. Give the plan.toml of a run folder.")
    content = read_plan(path)
    missing = [name for name in ("manifest", "corpus", "sweep", "encoders") if name not in content]
    if missing:
        raise InputError("LP552", f"{path} is no plan of layerprobe sweep: it has no {missing[0]}.")
    plan = SweepPlan.from_toml(content["sweep"], path)
    controls, covariates = (list(content.get(name, [])) for name in ("random_weights", "covariates"))
    manifest = resolve(str(content["manifest"]))
    return RecordedSweep(
        path,
        plan,
        manifest,
        content["corpus"].get("content", ""),
        content["encoders"],
        controls,
        covariates,
        content.get("time", {}),
        content.get("erasure", {}),
    )


def plan_arguments(plan: SweepPlan) -> dict[str, Any]:
    """Return the arguments of `probe.sweep.settings.plan_sweep` that give a plan like this one."""
    return {
        "targets": (*plan.targets, *plan.nominal),
        "folds": plan.n_folds,
        "test_split": plan.test_split,
        "group_by": plan.group_by or None,
        "allow_shared_speakers": plan.shared_speakers,
        "duplicates": plan.duplicates,
        "weighted_sum_seeds": len(plan.weighted_sum_seeds),
        "mixes": plan.mixes,
        "probes": plan.probes,
        "seed": plan.seed,
        "controls": plan.controls,
        "permutations": plan.n_permutations,
        "residualize_text": bool(plan.text_residuals),
        "cross_corpus": plan.cross_corpus,
        "fused": plan.fused,
        "speakers": plan.speakers,
        "same_speaker": plan.same_speaker,
        "device": plan.device,
    }


def override(recorded: SweepPlan, changed: SweepPlan, arguments: Iterable[str]) -> SweepPlan:
    """Return the recorded plan with the fields that some arguments decide taken from another plan.

    Args:
        recorded: with fields that no argument decides, such as the penalties
        changed: as `probe.sweep.settings.plan_sweep` makes it of `plan_arguments` and those that replace them
        arguments: names of the replaced ones, keys of `FIELDS`
    """
    names = {field for argument in arguments for field in FIELDS[argument]}
    return replace(recorded, **{name: getattr(changed, name) for name in names})


def overridden(recorded: SweepPlan, plan: SweepPlan, path: Path) -> list[str]:
    """Return a sentence for each field of the recorded plan that another value replaces."""
    pairs = [(f.name, getattr(recorded, f.name), getattr(plan, f.name)) for f in fields(SweepPlan)]
    return [f"{name} is {_shown(new)}, in place of {_shown(old)} in {path}" for name, old, new in pairs if old != new]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
