"""Data that the report's script plots and links: scores, controls, best layers and weights of encoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.study import Study
from layerprobe.figures.layout.style import encoder_colours
from layerprobe.figures.plots.heatmap import cell_order
from layerprobe.figures.report.tables import cell_texts
from layerprobe.probe.layer_names import is_stack, relative_depth
from layerprobe.probe.metrics import METRIC_NAMES
from layerprobe.probe.tasks.controls import CHANCE

CONTROLS = {"none": "", "random_init": "random initialisation", **dict.fromkeys(CHANCE, "chance level")}
DASHES = ("none", "7 3", "2 2", "8 3 2 3", "12 3", "1 3")  # so that lines do not rely on colour


def explorer_data(study: Study, prefix: str) -> dict[str, Any]:
    """Return the data of one metric, for JSON; numbers have three decimals, and null stands for one that is not known.

    Args:
        study: of one or several runs
        prefix: of the ids of the heatmap's cells in the page

    Returns:
        ``prefix, metric, targets, controls``; ``encoders``, each with ``name, colour, dash, layers, depths`` and for
        each target ``scores``, lists with an entry per layer; and ``cells`` of the heatmap in the order of their ids,
        each with the index of its encoder, control, target, layer and text
    """
    ridge = study.table[(study.table["probe"] == "ridge") & study.table["encoder"].isin(list(study.layers))]
    ridge = ridge[ridge["train_corpus"] == ""]
    cells = cell_order(ridge, layers=study.layers, targets=study.targets)
    texts = cell_texts(cells, ridge, study.metric)
    colours, names = encoder_colours(list(study.layers)), list(study.layers)
    chance = {(a.encoder, a.target): a.chance for a in study.answers}
    encoders = []
    for k, (name, layers) in enumerate(study.layers.items()):
        scores = {shown_name(t): _scores(study, ridge, name, t, chance.get((name, t), np.nan)) for t in study.targets}
        look = {"name": name, "colour": to_hex(colours[name]), "dash": DASHES[k % len(DASHES)], "layers": layers}
        depths = _numbers(relative_depth(layers)) if is_stack(layers) else None
        encoders.append({**look, "depths": depths, "scores": {t: s for t, s in scores.items() if s is not None}})
    rows = [
        [names.index(r["encoder"]), _control(r["control"]), shown_name(r["target"]), r["layer"], text]
        for r, text in zip(cells.to_dict("records"), texts, strict=True)
    ]
    controls = dict.fromkeys(_control(c) for c in ridge["control"])
    return {
        "prefix": prefix,
        "metric": METRIC_NAMES[study.metric],
        "targets": list(map(shown_name, study.targets)),
        "controls": [c for c in controls if c],
        "encoders": encoders,
        "cells": rows,
    }


def _scores(study: Study, ridge: pd.DataFrame, encoder: str, target: str, chance: float) -> dict[str, Any] | None:
    """Return the lists of one encoder and target; None where it was not scored."""
    names = study.layers[encoder]
    rows = ridge[(ridge["encoder"] == encoder) & (ridge["target"] == target)]
    own, untrained = (rows[rows["control"] == c].set_index("layer").reindex(names) for c in ("none", "random_init"))
    if own["value"].isna().all():
        return None
    table = study.weights_table
    if len(table):
        table = table[(table["encoder"] == encoder) & (table["target"] == target) & table["weight"].notna()]
    weights = table.set_index("layer")["weight"].reindex(names) if len(table) else None
    return {
        "value": _numbers(own["value"]),
        "low": _numbers(own["ci_low"]),
        "high": _numbers(own["ci_high"]),
        "best": [int(v) for v in own["in_best_set"].eq(True)],
        "random": _numbers(untrained["value"]) if untrained["value"].notna().any() else None,
        "chance": _numbers([chance])[0],
        "weight": None if weights is None else _numbers(weights),
    }


def _control(name: str) -> str:
    return CONTROLS.get(name, shown_name(name))


def _numbers(values: Any) -> list[float | None]:
    return [round(float(v), 3) if np.isfinite(v) else None for v in values]
