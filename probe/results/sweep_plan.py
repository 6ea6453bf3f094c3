"""The plan of a sweep: every choice that can change a score, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import plan_fingerprint


@dataclass(frozen=True)
class SweepPlan:
    """Which utterances train, which test, and what is fitted; equal plans on equal caches mean equal scores."""

    targets: tuple[str, ...]
    n_folds: int | None  # outer speaker-disjoint folds; None where the manifest's split decides
    test_split: str | None  # the split that is held out where n_folds is None
    group_by: str  # column of the manifest whose values are held out as a whole; "" for speakers alone
    shared_speakers: bool  # whether speakers of one value of group_by may be in other folds
    duplicates: str  # what happens to utterances with the same audio, a key of `probe.data.shared_audio.DUPLICATES`
    # Speaker-disjoint folds inside the training speakers, which choose alpha: the other outer folds where there are
    # three or more; else assigned anew, at most one per speaker.
    n_inner_folds: int
    inner_selection: str  # how they choose it, a key of `probe.solvers.leave_group_out.INNER_SELECTIONS`
    alphas: tuple[float, ...]  # ridge penalties, relative to the mean eigenvalue of what is fitted
    controls: tuple[str, ...]  # keys of `probe.tasks.controls.CONTROLS`
    n_permutations: int  # of the control that estimates chance; others have fewer, see `n_permutations_of`
    nominal: tuple[str, ...]  # targets with classes
    classes: tuple[tuple[str, ...], ...]  # of each nominal target
    residuals: tuple[str, ...]  # targets also scored on what other targets leave unexplained (`probe.tasks.targets`)
    text_residuals: tuple[str, ...]  # targets also scored given the transcript (`probe.tasks.text_residuals`)
    cross_corpus: bool  # whether each corpus of the manifest also trains alone (`probe.tasks.cross_corpus`)
    fused: bool  # whether all encoders are also fitted together (`probe.sweep.fits.fusion`)
    probes: tuple[str, ...]  # in addition to ridge: mlp, logistic, mdl
    mixes: tuple[str, ...]  # keys of `probe.sweep.fits.mix_probes.MIXES`
    weighted_sum_seeds: tuple[int, ...]
    mix_penalties: tuple[float, ...]  # of the head of mixes, relative as the alphas are
    mix_weight_penalties: tuple[float, ...]  # of the weights of the weighted sum, on their distance from equal ones
    mix_iterations: int
    seed: int  # of the folds and the permutations
    speakers: bool  # False: no speakers are known, every utterance counts as its own
    same_speaker: tuple[str, ...]  # decisions on names that look alike: each A=B, all or none
    device: str  # where matrices are multiplied: cpu or cuda

    @property
    def classes_of(self) -> dict[str, tuple[str, ...]]:
        """The classes of each nominal target."""
        return dict(zip(self.nominal, self.classes, strict=True))

    def fingerprint(self) -> str:
        """Return twelve hex digits; see `ExtractionPlan.fingerprint`."""
        return plan_fingerprint(self)

    def to_toml(self) -> dict[str, Any]:
        """Return the table ``[sweep]`` of plan.toml: every field that is not None, and the fingerprint."""
        return {**{k: v for k, v in asdict(self).items() if v is not None}, "fingerprint": self.fingerprint()}

    @classmethod
    def from_toml(cls, content: Mapping[str, Any], path: Path) -> SweepPlan:
        """Return the plan that `to_toml` wrote.

        Args:
            content: the table ``[sweep]``
            path: of the file, for the error

        Raises:
            InputError: if a key is missing, unknown or of another type
        """
        given = {k: _frozen(v) for k, v in content.items() if k != "fingerprint"}
        known = {f.name for f in fields(cls)}
        optional: dict[str, Any] = dict.fromkeys(("n_folds", "test_split"))
        unknown, missing = sorted(set(given) - known), sorted(known - set(given) - set(optional))
        if unknown or missing:
            fault = f"{unknown[0]} is unknown there" if unknown else f"{missing[0]} is missing there"
            raise InputError("LP552", f"[sweep] in {path} is no plan of layerprobe sweep: {fault}.")
        for field in fields(cls):
            value, kind = given.get(field.name), str(field.type)
            if not _fits(value, kind):
                raise InputError(
                    "LP552", f"{field.name} in [sweep] of {path} is {value!r}, not {kind.replace('tuple', 'list')}."
                )
        return cls(**optional | given)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _fits(value: Any, kind: str) -> bool:
    """Return whether a value is of a field's type, down to the items of a tuple."""
    if kind.endswith("| None"):
        return value is None or _fits(value, kind.removesuffix(" | None"))
    if kind.startswith("tuple["):
        item = kind.removeprefix("tuple[").removesuffix(", ...]")
        return isinstance(value, tuple) and all(_fits(v, item) for v in value)
    if kind == "bool":
        return isinstance(value, bool)
    types: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    return isinstance(value, types[kind]) and not isinstance(value, bool)
