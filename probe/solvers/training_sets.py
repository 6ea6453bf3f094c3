"""The training sets of a nested search, outer and inner, over rows that are sorted so that each is a few slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.solvers.gram import cells_of
from layerprobe.probe.splits import Split


@dataclass(frozen=True)
class TrainingSets:
    """Training sets as unions of cells; two splits that train on the same rows share one."""

    order: np.ndarray  # (n_kept,) row numbers, sorted by cell
    cells: dict[int, slice]  # places in ``order`` of the rows of each cell; -1 is what no split trains on
    members: list[frozenset[int]]  # the cells of each set
    outer: list[int]  # for each split its set of all training rows
    inner: list[list[tuple[int, frozenset[int]]]]  # for each split and inner fold: the set without it, its cells

    @classmethod
    def of(cls, splits: list[Split], n_rows: int) -> TrainingSets:
        """Sort the rows that any split uses, and name every set once."""
        cell_of_row, folds_of_splits = cells_of(splits, n_rows)
        used = np.zeros(n_rows, dtype=bool)
        for split in splits:
            used[split.train] = used[split.test] = True
        order = np.flatnonzero(used)[np.argsort(cell_of_row[used], kind="stable")]
        numbers, begins = np.unique(cell_of_row[order], return_index=True)
        ends = [*begins[1:].tolist(), len(order)]
        cells = {int(c): slice(int(b), int(e)) for c, b, e in zip(numbers, begins, ends, strict=True)}
        members: dict[frozenset[int], int] = {}
        outer, inner = [], []
        for folds in folds_of_splits:
            everything = frozenset(set().union(*folds))
            outer.append(members.setdefault(everything, len(members)))
            inner.append([(members.setdefault(everything - f, len(members)), frozenset(f)) for f in folds])
        return cls(order, cells, list(members), outer, inner)

    def places(self, cells: frozenset[int]) -> np.ndarray:
        """Places in ``order`` of the rows of some cells, ``(n,)``."""
        return np.concatenate([np.arange(self.cells[c].start, self.cells[c].stop) for c in sorted(cells)])

    def thinned(self, n_rows: int) -> tuple[TrainingSets, np.ndarray]:
        """The same sets with about ``n_rows`` rows, spread evenly over each cell, and their places in ``order``."""
        every = max(1, len(self.order) // n_rows)
        places = [np.arange(s.start, s.stop)[::every] for s in self.cells.values()]
        ends = np.cumsum([len(p) for p in places]).tolist()
        cells = {c: slice(e - len(p), e) for c, p, e in zip(self.cells, places, ends, strict=True)}
        kept = np.concatenate(places)
        return TrainingSets(self.order[kept], cells, self.members, self.outer, self.inner), kept
