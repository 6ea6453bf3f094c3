"""What a probe is fitted to: ratings, classes as codes, what two ratings leave of a third, and the controls' draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.controls import CONTROLS, random_class_per_speaker
from probe.score_table import RESIDUAL
from probe.splits import Split

RESIDUAL_OF = {"dominance": ("arousal", "valence")}  # listeners rate dominance much as they rate arousal


@dataclass(frozen=True)
class Fitted:
    """One target of one draw, and the columns of ``y`` that are fitted for it."""

    target: str
    control: str  # "none" for the ratings themselves
    seed: int  # of the draw
    columns: np.ndarray  # one; or one for each class; or one for each split
    truth: np.ndarray  # (n_utterances,) what its predictions are compared with; codes of a nominal target
    n_classes: int = 0  # 0 for a rated target
    by_split: bool = False  # whether each split has a column of its own


@dataclass(frozen=True)
class Targets:
    """All columns that one layer is fitted to."""

    y: np.ndarray  # (n_utterances, n_columns)
    shared: np.ndarray  # (n_columns,), columns with the same number share their penalty
    fitted: list[Fitted]


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
    coefficients = np.linalg.lstsq(design[train], ratings[train], rcond=None)[0]
    return np.asarray(ratings - design @ coefficients)


class TargetBuilder:
    """Collects columns draw by draw."""

    def __init__(
        self, names: tuple[str, ...], residuals: tuple[str, ...], classes: dict[str, int], splits: list[Split]
    ) -> None:
        """Name what there is.

        Args:
            names: rated targets, in the order of the ratings' columns
            residuals: those to be scored on what `RESIDUAL_OF` leaves of them, too
            classes: nominal targets, in the order of the codes' columns, with how many classes each has
            splits: whose training rows say what others explain
        """
        self._names, self._residuals, self._classes, self._splits = names, residuals, classes, splits
        self._columns: list[np.ndarray] = []
        self._shared: list[int] = []
        self._fitted: list[Fitted] = []

    def add(self, ratings: np.ndarray, codes: np.ndarray, *, control: str, seed: int) -> None:
        """One draw of ratings ``(n_utterances, n_targets)`` and codes ``(n_utterances, n_nominal)``."""
        for k, name in enumerate(self._names):
            self._fitted.append(Fitted(name, control, seed, self._append([ratings[:, k]]), ratings[:, k]))
        for name in self._residuals:
            others = ratings[:, [self._names.index(o) for o in RESIDUAL_OF[name]]]
            rest = [residual(ratings[:, self._names.index(name)], others, s.train) for s in self._splits]
            truth_of = np.full(len(ratings), np.nan)
            for split, column in zip(self._splits, rest, strict=True):
                truth_of[split.test] = column[split.test]
            columns = self._append(rest)
            self._fitted.append(Fitted(name + RESIDUAL, control, seed, columns, truth_of, by_split=True))
        for k, (name, n_classes) in enumerate(self._classes.items()):
            one_hot = [(codes[:, k] == c).astype(np.float64) for c in range(n_classes)]
            columns = self._append(one_hot, shared=True)
            truth_codes = codes[:, k].astype(np.float64)
            self._fitted.append(Fitted(name, control, seed, columns, truth_codes, n_classes=n_classes))

    def add_control(
        self, control: str, ratings: np.ndarray, codes: np.ndarray, groups: np.ndarray, *, seed: int, n_draws: int
    ) -> None:
        """Draws of one of `probe.controls.CONTROLS`; the residuals are drawn for plain permutations alone."""
        rng = np.random.default_rng([seed, 1 + list(CONTROLS).index(control)])
        residuals, self._residuals = self._residuals, self._residuals if control == "permuted" else ()
        for draw in range(n_draws):
            if control == "random_per_speaker":
                drawn = CONTROLS[control](ratings, groups, rng)
                self.add(drawn, random_class_per_speaker(codes, groups, rng), control=control, seed=draw)
            else:
                both = CONTROLS[control](np.column_stack([ratings, codes]), groups, rng)
                drawn, classes = both[:, : ratings.shape[1]], both[:, ratings.shape[1] :]
                self.add(drawn, classes.astype(codes.dtype), control=control, seed=draw)
        self._residuals = residuals

    def build(self) -> Targets:
        """All columns side by side."""
        return Targets(np.stack(self._columns, axis=1), np.array(self._shared), self._fitted)

    def _append(self, columns: list[np.ndarray], *, shared: bool = False) -> np.ndarray:
        first = len(self._columns)
        self._columns += columns
        self._shared += [first if shared else first + k for k in range(len(columns))]
        return np.arange(first, first + len(columns))
