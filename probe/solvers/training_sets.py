"""Outer and inner training sets of nested cross-validation, over rows sorted so that each is a few slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.solvers.gram import assign_cells
from layerprobe.probe.splits import Split


@dataclass(frozen=True)
class TrainingSets:
    """Training sets as unions of cells; splits that train on the same rows have one in common."""

    order: np.ndarray  # (n_kept,) row numbers, sorted by cell
    cells: dict[int, slice]  # positions in ``order`` of each cell's rows; -1 holds rows that no split trains on
    members: list[frozenset[int]]  # cells of each set
    outer: list[int]  # for each split the set of all its training rows
    inner: list[list[tuple[int, frozenset[int]]]]  # by split and inner fold: the set without the fold, and its cells

    @classmethod
    def from_splits(cls, splits: list[Split], n_rows: int) -> TrainingSets:
        """Return the training sets of splits, with the rows that any split uses sorted by cell."""
        cell_of_row, folds_of_splits = assign_cells(splits, n_rows)
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

    def positions(self, cells: frozenset[int]) -> np.ndarray:
        """Return the positions in ``order`` of the rows of some cells, ``(n,)``."""
        return np.concatenate([np.arange(self.cells[c].start, self.cells[c].stop) for c in sorted(cells)])

    def thinned(self, n_rows: int) -> tuple[TrainingSets, np.ndarray]:
        """Return the sets with about ``n_rows`` evenly chosen rows of each cell, and their positions in ``order``."""
        step = max(1, len(self.order) // n_rows)
        positions = [np.arange(s.start, s.stop)[::step] for s in self.cells.values()]
        ends = np.cumsum([len(p) for p in positions]).tolist()
        cells = {c: slice(e - len(p), e) for c, p, e in zip(self.cells, positions, ends, strict=True)}
        kept = np.concatenate(positions)
        return TrainingSets(self.order[kept], cells, self.members, self.outer, self.inner), kept
