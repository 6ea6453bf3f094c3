"""The smallest sufficient layer of an encoder: the lowest that is not significantly worse than its best layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.best_set import behind_at_most
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import FEWEST_SPEAKERS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import is_stack


@dataclass(frozen=True)
class Sufficient:
    """The lowest layer of an encoder in the 95 % set of best layers of one target.

    It is not significantly worse than the best, which does not make it as good: ``behind_at_most`` bounds the loss.
    """

    layer: str  # of features without depth, which are no cheaper than each other, the highest-scoring
    score: float
    ci_low: float  # 95 % interval over speakers; NaN where there is none
    ci_high: float
    best_layer: str  # the highest-scoring
    best_score: float
    difference: float  # score of the best layer minus this one's, turned around for an error: 0 or more
    behind_at_most: float  # upper 95 % bound of how far it is behind the truly best layer, whichever that is
    p_not_best: float  # that no other layer is better, corrected for the number of layers


class Tables(Protocol):
    """What a study has that the sufficient layers are found in; see `analysis.study.Study`."""

    @property
    def layers(self) -> dict[str, list[str]]: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def targets(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def lower_is_better(self) -> bool: ...  # noqa: D102
    @property
    def best(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def table(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def bootstrap(self) -> BootstrapScores: ...  # noqa: D102


def sufficient_layers(study: Tables, encoder: str) -> dict[str, Sufficient]:
    """Return the smallest sufficient layer of an encoder for each target of the study's metric.

    Args:
        study: of one or several runs
        encoder: its name in the study

    Raises:
        InputError: if the study has no such encoder, or the best layers of a target are not known
    """
    if encoder not in study.layers:
        raise InputError("LP655", f"encoder {encoder!r} is not in the runs; choose one of {', '.join(study.layers)}.")
    return {target: _sufficient(study, encoder, target) for target in study.targets}


def _sufficient(study: Tables, encoder: str, target: str) -> Sufficient:
    names = study.layers[encoder]
    label = {"encoder": encoder, "control": "none", "probe": "ridge", "target": target}
    found, best = study.bootstrap.of(names, **label), _rows(study.best, label)
    if found is None or best.empty:
        n = study.bootstrap.n_speakers
        few = f"only {n} speaker{'s' * (n != 1)} were held out, and it needs {FEWEST_SPEAKERS}"
        raise InputError(
            "LP910",
            f"The best layers of {encoder} for {target} are not known, so that none can be called sufficient: "
            f"{few if n < FEWEST_SPEAKERS else 'a layer has no score of it'}. Choose a layer yourself.",
        )
    table = _rows(study.table, label)
    values = pd.Series(found.estimate, index=names)
    top = best_layer(values, metric=study.metric)
    layer = next(name for name in names if best["in_best_set"][name]) if is_stack(names) else top
    ends = {end: float(table[end][layer]) for end in ("ci_low", "ci_high")}
    bounds = behind_at_most(found, lower_is_better=study.lower_is_better)
    return Sufficient(
        layer,
        float(values[layer]),
        **ends,
        best_layer=top,
        best_score=float(values[top]),
        difference=float(np.abs(values[top] - values[layer])),
        behind_at_most=float(bounds[names.index(layer)]),
        p_not_best=float(best["p_not_best"][layer]),
    )


def _rows(table: pd.DataFrame, label: dict[str, str]) -> pd.DataFrame:
    """Return the rows of one encoder, control, probe and target, and of no other condition, by their layers."""
    conditions = {k: "" for k in ("baseline", "train_corpus") if k in table}
    for name, value in (label | conditions).items():
        table = table[table[name] == value]
    return table.set_index("layer", drop=False)
