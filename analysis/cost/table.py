"""One table of scores and costs, with the Pareto fronts and the candidates that suffice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from layerprobe.analysis.cost.candidates import Candidate, Candidates, candidates_of_encoder
from layerprobe.analysis.cost.front import front_rate, pareto_front
from layerprobe.analysis.statistics.best_set import BestSet, behind_at_most, best_set
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, FEWEST_SPEAKERS, BootstrapSample
from layerprobe.probe.cost.settings import COSTS, check_cost
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from layerprobe.probe.cost.encoders import EncoderCost, EncoderSource  # which import torch

COLUMNS = [
    "run", "encoder", "probe", "layer", "needs", "reads", "target", "metric", "value", "ci_low", "ci_high", "interval",
    *COSTS, *(f"on_front_{c}" for c in COSTS), *(f"front_rate_{c}" for c in COSTS),
    "in_best_set", "p_not_best", "behind_best", "behind_at_most", "cheapest_by", "is_cheapest", "is_smallest_layer",
    "n_candidates", "n_speakers", "seconds", "threads", "precision", "forward", "weights", "processor", "reason",
]  # fmt: skip


def sources_of(candidates: Candidates, folders: Mapping[str, Path | str]) -> list[EncoderSource]:
    """Return the encoders whose cost the candidates need.

    Args:
        candidates: of `read_candidates`
        folders: of encoders by name, where the run's own is gone

    Raises:
        InputError: if ``folders`` names an encoder that no run has
    """
    from layerprobe.probe.cost.encoders import EncoderSource

    for name in folders:
        if name not in candidates.origins:
            known = ", ".join(candidates.origins)
            raise InputError("LP913", f"no encoder of the runs is called {name!r}; choose one of {known}.")
    return [
        EncoderSource(name, (), str(folders.get(name, origin.folder)), has_weights=False, reads=origin.reads)
        if origin.folder is not None
        else EncoderSource.of_cache(name, {"layers": origin.layers, **origin.plan}, folders.get(name))
        for name, origin in candidates.origins.items()
    ]


def cost_table(
    candidates: Candidates, costs: Mapping[str, EncoderCost], *, by: str, measured: Mapping[str, Any]
) -> pd.DataFrame:
    """Return one row per candidate and target, with its score, its costs, and where it stands among all.

    Args:
        candidates: of `read_candidates`
        costs: of each of its encoders, as `probe.cost.encoders.find_costs` returns them
        by: cost that decides which candidate is the cheapest, a key of `COSTS`
        measured: columns that all rows have: ``seconds``, ``threads`` and ``processor``

    Returns:
        `COLUMNS`: a candidate with its score and interval over speakers; its `COSTS`, of which its encoder has those of
        the layers that it needs, and NaN stands for one that is not known, for a ``reason``; for each cost whether it
        is on the Pareto front, and the fraction of resamples in which it is; ``in_best_set`` and ``p_not_best`` of the
        95 % set of the best of all candidates, and ``behind_best``, how far it is behind the highest-scoring one, with
        an upper bound that holds for all candidates together; ``is_cheapest``, whether it is the cheapest of that set,
        and ``is_smallest_layer``, whether it is the lowest layer in the 95 % set of its own encoder

    Raises:
        InputError: if ``by`` is unknown
    """
    check_cost(by)
    intervals = candidates.bootstrap.table()
    rows = pd.DataFrame(
        [
            {
                **{name: getattr(c, name) for name in ("run", "encoder", "probe", "layer", "target")},
                "needs": " + ".join(f"{name} {layer}" for name, layer in c.parts),
                "reads": " + ".join(dict.fromkeys(candidates.origins[name].reads for name, _ in c.parts)),
                **_cost_of(c, costs),
            }
            for c in candidates.rows
        ]
    )
    rows = rows.assign(metric=candidates.metric, value=intervals["estimate"], **measured, cheapest_by=by)
    known = intervals["ci_low"].notna() & intervals["ci_high"].notna()
    rows = rows.assign(
        **{end: intervals[end].where(known) for end in ("ci_low", "ci_high")},
        interval=np.where(known, BCA_SPEAKERS, ""),
        n_speakers=candidates.bootstrap.scores.counted,
    )
    parts = [_with_standing(rows[rows["target"] == t], candidates, by=by) for t in candidates.targets]
    return pd.concat(parts).reindex(columns=COLUMNS).reset_index(drop=True)


def _cost_of(candidate: Candidate, costs: Mapping[str, EncoderCost]) -> dict[str, Any]:
    """Return the costs of a candidate: the sums over its encoders, and its head."""
    needed = [(costs[name], layer) for name, layer in candidate.parts]
    found = [cost.at(layer) for cost, layer in needed]
    sums: dict[str, Any] = {name: sum(one[name] for one in found) for name in COSTS}
    kept = sums["parameters"] + candidate.head
    sums["parameters"] = candidate.total if np.isfinite(candidate.total) else kept
    for name in ("precision", "forward", "weights"):
        sums[name] = ", ".join(dict.fromkeys(getattr(cost, name) for cost, _ in needed if getattr(cost, name)))
    sums["reason"] = " ".join(dict.fromkeys(cost.reason for cost, _ in needed if cost.reason))
    return sums


def _with_standing(rows: pd.DataFrame, candidates: Candidates, *, by: str) -> pd.DataFrame:
    """Return the rows of one target with what compares them."""
    scores, target = candidates.bootstrap.scores[rows.index.to_numpy()], str(rows["target"].iloc[0])
    lower = candidates.metric in LOWER_IS_BETTER
    sign = -1.0 if lower else 1.0
    rows = rows.assign(n_candidates=len(rows))
    for name in COSTS:
        cost = rows[name].to_numpy(dtype=float)
        rows[f"on_front_{name}"] = pareto_front(sign * scores.estimate, cost)
        rows[f"front_rate_{name}"] = front_rate(scores, cost, lower_is_better=lower)
    rows["behind_best"] = np.nanmax(sign * scores.estimate) - sign * scores.estimate
    best = _best_set(scores, lower=lower)
    if best is None:
        unknown = pd.Series(pd.NA, rows.index, dtype=object)
        rows = rows.assign(in_best_set=unknown, p_not_best=np.nan, behind_at_most=np.nan)
        return rows.assign(is_cheapest=False, is_smallest_layer=False)
    rows = rows.assign(in_best_set=best.is_in, p_not_best=best.p_not_best)
    rows["behind_at_most"] = behind_at_most(scores, lower_is_better=lower)
    inside = rows[rows["in_best_set"] & rows[by].notna()].sort_values([by, "behind_best"], kind="stable")
    rows["is_cheapest"] = rows.index.isin(inside.index[:1])
    smallest = [k for _, k in _smallest_layers(candidates, target, lower=lower)]
    return rows.assign(is_smallest_layer=rows.index.isin(smallest))


def _smallest_layers(candidates: Candidates, target: str, *, lower: bool) -> Iterator[tuple[str, int]]:
    """Yield each encoder of stacked layers with the row of the lowest layer in its own 95 % set of best layers."""
    for encoder, own in candidates_of_encoder(candidates.rows, target):
        layers = candidates.origins[encoder].layers if encoder in candidates.origins else ()
        if not is_stack(layers):
            continue
        best = _best_set(candidates.bootstrap.scores[np.array(own)], lower=lower)
        if best is not None:
            inside = [k for k, is_in in zip(own, best.is_in, strict=True) if is_in]
            yield encoder, min(inside, key=lambda k: layers.index(candidates.rows[k].layer))


def _best_set(scores: BootstrapSample, *, lower: bool) -> BestSet | None:
    """Return the 95 % set of the best, None with too few speakers or where a score is not defined."""
    if int(np.min(scores.counted)) < FEWEST_SPEAKERS or not np.isfinite(scores.estimate).all():
        return None
    return best_set(scores, lower_is_better=lower)
