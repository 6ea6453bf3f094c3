"""The plan of a sweep: every choice that can change a score, frozen."""

from __future__ import annotations

from dataclasses import dataclass

from layerprobe.probe.fingerprints import plan_fingerprint


@dataclass(frozen=True)
class SweepPlan:
    """Which utterances train, which test, and what is fitted; equal plans on equal caches mean equal scores."""

    targets: tuple[str, ...]
    n_folds: int | None  # outer speaker-disjoint folds; None where the manifest's split decides
    test_split: str | None  # the split that is held out where n_folds is None
    # Speaker-disjoint folds inside the training speakers, which choose alpha: the other outer folds where there are
    # three or more; else dealt anew, at most one a speaker.
    n_inner_folds: int
    alphas: tuple[float, ...]  # ridge penalties, relative to the mean eigenvalue of what is fitted
    controls: tuple[str, ...]  # keys of `probe.tasks.controls.CONTROLS`
    n_permutations: int  # draws of each
    nominal: tuple[str, ...]  # targets with classes
    classes: tuple[tuple[str, ...], ...]  # of each
    residuals: tuple[str, ...]  # targets that are also scored on what others leave unexplained (`probe.tasks.targets`)
    text_residuals: tuple[
        str, ...
    ]  # targets that are also scored on what the words leave (`probe.tasks.text_residuals`)
    cross_corpus: bool  # whether each corpus of the manifest also trains alone (`probe.tasks.cross_corpus`)
    fused: bool  # whether all encoders are heard together, too (`probe.sweep.fusion`)
    probes: tuple[str, ...]  # beside ridge: mlp, logistic, mdl
    mixes: tuple[str, ...]  # keys of `probe.sweep.mix_probes.MIXES`
    weighted_sum_seeds: tuple[int, ...]
    mix_penalties: tuple[float, ...]  # of the weighted sum's head, relative likewise
    mix_iterations: int
    seed: int  # of the folds and the permutations
    speakers: bool  # False: no speakers are known, every utterance counts as its own
    device: str  # where matrices are multiplied: cpu or cuda

    @property
    def classes_of(self) -> dict[str, tuple[str, ...]]:
        """The classes of each nominal target."""
        return dict(zip(self.nominal, self.classes, strict=True))

    def fingerprint(self) -> str:
        """Twelve hex digits; see `ExtractionPlan.fingerprint`."""
        return plan_fingerprint(self)
