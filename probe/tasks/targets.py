"""Targets of a probe: ratings, classes as codes, residuals, and all of them under control tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from layerprobe.probe.splits import Split
from layerprobe.probe.tasks.controls import CONTROLS, classes_by_speaker, random_class_per_speaker
from layerprobe.probe.tasks.span_controls import span_control

RESIDUAL_OF = {"dominance": ("arousal", "valence")}  # listeners rate dominance much as they rate arousal
RESIDUAL_CONTROLS = ("permuted", "permuted_by_speaker")  # those with residuals: those that are chance


@dataclass(frozen=True)
class FittedTarget:
    """One target, under one control and seed, with the columns of ``y`` that are fitted for it."""

    target: str
    control: str  # "none" for the ratings themselves
    seed: int  # of the control
    columns: np.ndarray  # one, or one for each class, or one for each split
    truth: np.ndarray  # (n_utterances,) ratings that predictions are compared with; codes of a nominal target
    n_classes: int = 0  # 0 for a rated target
    by_split: bool = False  # whether each split has a separate column


@dataclass(frozen=True)
class ProbeTargets:
    """All columns of ratings and codes that one layer is fitted to."""

    y: np.ndarray  # (n_utterances, n_columns)
    shared: np.ndarray  # (n_columns,), columns with the same number have one penalty
    of_split: np.ndarray  # (n_columns,), the only split in which a column is fitted, -1 for all splits
    fitted: list[FittedTarget]

    def take(self, rows: np.ndarray) -> ProbeTargets:
        """Return the same columns for some rows, ``(n_rows,)`` numbers."""
        fitted = [replace(target, truth=target.truth[rows]) for target in self.fitted]
        return replace(self, y=np.asfortranarray(self.y[rows]), fitted=fitted)


def residual_targets(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Return the targets that also have residuals after other targets.

    >>> residual_targets(("arousal", "dominance")), residual_targets(("arousal", "valence", "dominance"))
    ((), ('dominance',))
    """
    return tuple(t for t, others in RESIDUAL_OF.items() if t in targets and set(others) <= set(targets))


def residual(ratings: np.ndarray, others: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return ratings minus their least-squares prediction from other ratings, fitted on the training rows.

    Args:
        ratings: ``(n_utterances,)``
        others: ``(n_utterances, n_others)``
        train: ``(n_train,)`` row numbers

    Returns:
        ``(n_utterances,)``
    """
    design = np.column_stack([np.ones(len(ratings)), others])
    known = design[train]  # normal equations: few well-conditioned columns, solved again for each permutation
    coefficients = np.linalg.lstsq(known.T @ known, known.T @ ratings[train], rcond=None)[0]
    return np.asarray(ratings - design @ coefficients)


class TargetBuilder:
    """Builder of `ProbeTargets`: collects the columns of ratings and of each control."""

    def __init__(
        self,
        names: tuple[str, ...],
        residuals: tuple[str, ...],
        classes: dict[str, int],
        splits: list[Split],
        *,
        text_residuals: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
    ) -> None:
        """Take the names of the targets.

        Args:
            names: rated targets, in the order of the ratings' columns
            residuals: those that also have residuals after `RESIDUAL_OF`
            classes: nominal targets, in the order of the codes' columns, with the number of classes of each
            splits: whose training rows the residuals are fitted on
            text_residuals: rated targets that also have residuals after the text
            others: names of the last columns of the ratings, which residuals need and which are no targets themselves
        """
        self._others = others
        self._names, self._residuals, self._classes, self._splits = names, residuals, classes, splits
        self._text_residuals = text_residuals
        self._columns: list[np.ndarray] = []
        self._shared: list[int] = []
        self._of_split: list[int] = []
        self._fitted: list[FittedTarget] = []

    @property
    def n_columns(self) -> int:
        """Number of columns so far."""
        return len(self._columns)

    def add(
        self,
        ratings: np.ndarray,
        codes: np.ndarray,
        *,
        control: str,
        seed: int,
        text_residuals: np.ndarray | None = None,
        residuals: bool = True,
    ) -> None:
        """Add ratings ``(n_utterances, n_targets)`` and codes ``(n_utterances, n_nominal)``, observed or of a control.

        Args:
            ratings: of the rated targets
            codes: of the nominal targets
            control: "none" for the ratings themselves
            seed: of the control
            text_residuals: ``(n_utterances, n_splits, n_targets)``, from `probe.tasks.text_residuals`; None for
                none
            residuals: whether residuals are added
        """
        for k, name in enumerate(self._names):
            columns = self._append([ratings[:, k]], [-1])
            self._fitted.append(FittedTarget(name, control, seed, columns, ratings[:, k]))
        every = (*self._names, *self._others)
        for name in self._residuals if residuals else ():
            others = ratings[:, [every.index(o) for o in RESIDUAL_OF[name]]]
            rest = [residual(ratings[:, every.index(name)], others, s.train) for s in self._splits]
            self._add_by_split(name + RESIDUAL, rest, control, seed)
        if text_residuals is not None:
            for k, name in enumerate(self._text_residuals):
                self._add_by_split(name + TEXT_RESIDUAL, list(text_residuals[:, :, k].T), control, seed)
        for k, (name, n_classes) in enumerate(self._classes.items()):
            one_hot = [(codes[:, k] == c).astype(np.float64) for c in range(n_classes)]
            columns = self._append(one_hot, [-1] * n_classes, shared=True)
            truth_codes = codes[:, k].astype(np.float64)
            self._fitted.append(FittedTarget(name, control, seed, columns, truth_codes, n_classes=n_classes))

    def add_control(
        self,
        control: str,
        ratings: np.ndarray,
        codes: np.ndarray,
        groups: np.ndarray,
        *,
        rng: np.random.Generator,
        seed: int,
        text_residuals: np.ndarray | None = None,
        blocks: np.ndarray | None = None,
    ) -> None:
        """Add one sample of `probe.tasks.controls.CONTROLS`; only `RESIDUAL_CONTROLS` have residuals.

        Text residuals are permuted like ratings: the residuals of a model without the layer are exchangeable if the
        text predicts and the layer does not (Freedman and Lane, 1983). Of spans, series of whole utterances are
        permuted (`probe.tasks.span_controls`); ``blocks`` has the number of each span's utterance. Other arguments as
        of `add`.
        """
        residuals = control in RESIDUAL_CONTROLS
        ratings = ratings if residuals else ratings[:, : len(self._names)]
        rest = np.empty((len(ratings), 0)) if text_residuals is None or not residuals else text_residuals
        rated = np.column_stack([ratings, rest.reshape(len(ratings), -1)])
        if blocks is not None:
            sampled, classes = span_control(control, rated, blocks, groups, rng), codes
        elif control in ("random_per_speaker", "permuted_by_speaker"):
            sampled = CONTROLS[control](rated, groups, rng)
            if control == "random_per_speaker":
                classes = random_class_per_speaker(codes, groups, rng)
            else:
                classes = classes_by_speaker(codes, groups, rng) if codes.shape[1] else codes
        else:
            both = CONTROLS[control](np.column_stack([rated, codes]), groups, rng)
            sampled, classes = both[:, : rated.shape[1]], both[:, rated.shape[1] :].astype(codes.dtype)
        n_targets = ratings.shape[1]
        permuted_rest = sampled[:, n_targets:].reshape(rest.shape) if rest.ndim == 3 else None
        self.add(
            sampled[:, :n_targets],
            classes,
            control=control,
            seed=seed,
            text_residuals=permuted_rest,
            residuals=residuals,
        )

    def build(self) -> ProbeTargets:
        """Return all columns."""
        shared, of_split = np.array(self._shared), np.array(self._of_split)
        y = np.stack(self._columns).T  # each column contiguous in memory
        return ProbeTargets(y, shared, of_split, self._fitted)

    def _add_by_split(self, target: str, rest: list[np.ndarray], control: str, seed: int) -> None:
        """Add a target with a column for each split, whose truth is that of the rows that the split holds out."""
        truth = np.full(len(rest[0]), np.nan)
        for split, column in zip(self._splits, rest, strict=True):
            truth[split.test] = column[split.test]
        columns = self._append(rest, list(range(len(rest))))
        self._fitted.append(FittedTarget(target, control, seed, columns, truth, by_split=True))

    def _append(self, columns: list[np.ndarray], of_split: list[int], *, shared: bool = False) -> np.ndarray:
        first = len(self._columns)
        self._columns += columns
        self._shared += [first if shared else first + k for k in range(len(columns))]
        self._of_split += of_split
        return np.arange(first, first + len(columns))


def control_rng(control: str, seed: int) -> np.random.Generator:
    """Return the generator of a control, the same for every layer and encoder."""
    return np.random.default_rng([seed, 1 + list(CONTROLS).index(control)])


RESIDUAL = "_residual"  # suffix of a target that is the residual after other targets


TEXT_RESIDUAL = "_text_residual"  # suffix of a target that is the residual after the text
