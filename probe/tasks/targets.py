"""What a probe is fitted to: ratings, classes as codes, what two ratings leave of a third, and the controls' draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.splits import Split
from layerprobe.probe.tasks.controls import CONTROLS, classes_by_speaker, random_class_per_speaker

RESIDUAL_OF = {"dominance": ("arousal", "valence")}  # listeners rate dominance much as they rate arousal
RESIDUAL_CONTROLS = ("permuted", "permuted_by_speaker")  # whose draws have residuals: those that are chance


@dataclass(frozen=True)
class FittedTarget:
    """One target of one draw, and the columns of ``y`` that are fitted for it."""

    target: str
    control: str  # "none" for the ratings themselves
    seed: int  # of the draw
    columns: np.ndarray  # one; or one for each class; or one for each split
    truth: np.ndarray  # (n_utterances,) what its predictions are compared with; codes of a nominal target
    n_classes: int = 0  # 0 for a rated target
    by_split: bool = False  # whether each split has a column of its own


@dataclass(frozen=True)
class ProbeTargets:
    """All columns that one layer is fitted to."""

    y: np.ndarray  # (n_utterances, n_columns)
    shared: np.ndarray  # (n_columns,), columns with the same number share their penalty
    of_split: np.ndarray  # (n_columns,), the only split that a column is for, -1 if it is for all
    fitted: list[FittedTarget]


def residual_targets(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Targets that can also be scored on what others leave unexplained.

    >>> residual_targets(("arousal", "dominance")), residual_targets(("arousal", "valence", "dominance"))
    ((), ('dominance',))
    """
    return tuple(t for t, others in RESIDUAL_OF.items() if t in targets and set(others) <= set(targets))


def residual(ratings: np.ndarray, others: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Ratings less what the other ratings predict of them, by least squares on the training rows.

    Args:
        ratings: ``(n_utterances,)``
        others: ``(n_utterances, n_others)``
        train: ``(n_train,)`` row numbers

    Returns:
        ``(n_utterances,)``
    """
    design = np.column_stack([np.ones(len(ratings)), others])
    known = design[train]  # the normal equations: few columns, well apart, and done anew for each draw
    coefficients = np.linalg.lstsq(known.T @ known, known.T @ ratings[train], rcond=None)[0]
    return np.asarray(ratings - design @ coefficients)


class TargetBuilder:
    """Collects columns draw by draw."""

    def __init__(
        self,
        names: tuple[str, ...],
        residuals: tuple[str, ...],
        classes: dict[str, int],
        splits: list[Split],
        *,
        text_residuals: tuple[str, ...] = (),
    ) -> None:
        """Name what there is.

        Args:
            names: rated targets, in the order of the ratings' columns
            residuals: those to be scored on what `RESIDUAL_OF` leaves of them, too
            classes: nominal targets, in the order of the codes' columns, with how many classes each has
            splits: whose training rows say what others explain
            text_residuals: rated targets to be scored on what the words leave of them, too
        """
        self._names, self._residuals, self._classes, self._splits = names, residuals, classes, splits
        self._text_residuals = text_residuals
        self._columns: list[np.ndarray] = []
        self._shared: list[int] = []
        self._of_split: list[int] = []
        self._fitted: list[FittedTarget] = []

    @property
    def n_columns(self) -> int:
        """How many there are so far."""
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
        """One draw of ratings ``(n_utterances, n_targets)`` and codes ``(n_utterances, n_nominal)``.

        Args:
            ratings: of the rated targets
            codes: of the nominal ones
            control: "none" for the ratings themselves
            seed: of the draw
            text_residuals: ``(n_utterances, n_splits, n_targets)``, as `probe.tasks.text_residuals` makes them, if they
                are wanted
            residuals: whether the draw has any
        """
        for k, name in enumerate(self._names):
            columns = self._append([ratings[:, k]], [-1])
            self._fitted.append(FittedTarget(name, control, seed, columns, ratings[:, k]))
        for name in self._residuals if residuals else ():
            others = ratings[:, [self._names.index(o) for o in RESIDUAL_OF[name]]]
            rest = [residual(ratings[:, self._names.index(name)], others, s.train) for s in self._splits]
            self._add_by_split(name + RESIDUAL, rest, control, seed)
        for k, name in enumerate(self._text_residuals if text_residuals is not None else ()):
            assert text_residuals is not None
            self._add_by_split(name + TEXT_RESIDUAL, list(text_residuals[:, :, k].T), control, seed)
        for k, (name, n_classes) in enumerate(self._classes.items()):
            one_hot = [(codes[:, k] == c).astype(np.float64) for c in range(n_classes)]
            columns = self._append(one_hot, [-1] * n_classes, shared=True)
            truth_codes = codes[:, k].astype(np.float64)
            self._fitted.append(FittedTarget(name, control, seed, columns, truth_codes, n_classes=n_classes))

    def add_draw(
        self,
        control: str,
        ratings: np.ndarray,
        codes: np.ndarray,
        groups: np.ndarray,
        *,
        rng: np.random.Generator,
        seed: int,
        text_residuals: np.ndarray | None = None,
    ) -> None:
        """The next draw of one of `probe.tasks.controls.CONTROLS`; `RESIDUAL_CONTROLS` alone have residuals.

        What the words leave is dealt as it is, like ratings: residuals of a model without the layer are what is
        exchangeable where the words predict and the layer does not (Freedman and Lane, 1983). Arguments as of `add`.
        """
        residuals = control in RESIDUAL_CONTROLS
        rest = np.empty((len(ratings), 0)) if text_residuals is None or not residuals else text_residuals
        rated = np.column_stack([ratings, rest.reshape(len(ratings), -1)])
        if control in ("random_per_speaker", "permuted_by_speaker"):
            drawn = CONTROLS[control](rated, groups, rng)
            if control == "random_per_speaker":
                classes = random_class_per_speaker(codes, groups, rng)
            else:
                classes = classes_by_speaker(codes, groups, rng) if codes.shape[1] else codes
        else:
            both = CONTROLS[control](np.column_stack([rated, codes]), groups, rng)
            drawn, classes = both[:, : rated.shape[1]], both[:, rated.shape[1] :].astype(codes.dtype)
        n_targets = ratings.shape[1]
        dealt = drawn[:, n_targets:].reshape(rest.shape) if rest.ndim == 3 else None
        self.add(drawn[:, :n_targets], classes, control=control, seed=seed, text_residuals=dealt, residuals=residuals)

    def build(self) -> ProbeTargets:
        """All columns side by side."""
        shared, of_split = np.array(self._shared), np.array(self._of_split)
        return ProbeTargets(
            np.stack(self._columns).T, shared, of_split, self._fitted
        )  # each column in one piece of memory

    def _add_by_split(self, target: str, rest: list[np.ndarray], control: str, seed: int) -> None:
        """A target with a column for each split, which is compared with the rows that the split holds out."""
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
    """What draws a control, the same for every layer and encoder."""
    return np.random.default_rng([seed, 1 + list(CONTROLS).index(control)])


RESIDUAL = "_residual"  # the ending of a target that is scored on what others leave of it


TEXT_RESIDUAL = "_text_residual"  # the same of what the transcript's words leave
