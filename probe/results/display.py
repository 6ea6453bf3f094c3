"""How a run shows itself: a line of text, and a small table for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.metrics import DEFAULT_CLASS_METRIC, DEFAULT_METRIC, METRIC_NAMES
from layerprobe.probe.results.pending import pending_work
from layerprobe.probe.results.score_table import is_plain

LAYER_PROBES = ("ridge", "trained")
METRICS = (DEFAULT_METRIC, DEFAULT_CLASS_METRIC)
ROWS_SHOWN = 40


def run_text(path: Path, plan: dict[str, Any], encoders: Sequence[str], targets: Sequence[str]) -> str:
    """Return a line with a run's path, corpus, encoders, targets, numbers of utterances, speakers and folds.

    What is pending is named, too.
    """
    corpus = plan.get("corpus", {})
    parts = [
        f"corpus {corpus.get('name', '')!r}",
        f"encoders {', '.join(encoders) or 'trained with the regressor'}",
        f"targets {', '.join(targets)}",
        f"{corpus.get('n_utterances', 0)} utterances of {corpus.get('n_speakers', 0)} speakers",
    ]
    if plan.get("folds"):
        n_folds = len(plan["folds"])
        parts.append(f"{n_folds} folds" if n_folds > 1 else f"split {plan['folds'][0]['name']!r} held out")
    if pending := pending_work(plan):
        parts.append(f"pending: {', '.join(pending)}")
    return f"Run({str(path)!r}: {'; '.join(parts)})"


def run_html(text: str, scores: pd.DataFrame) -> str:
    """Return HTML: the line of text, and each target's highest-scoring layer of each encoder.

    Args:
        text: of `run_text`
        scores: the run's, `probe.results.score_table.SCORE_COLUMNS`
    """
    best = best_layers(scores)
    heads = ("target", "encoder", "highest-scoring layer", "metric", "score")
    lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in heads) + "</tr>"]
    for row in best.head(ROWS_SHOWN).to_dict("records"):
        cells = (row["target"], row["encoder"], row["layer"], METRIC_NAMES[row["metric"]], f"{row['value']:.3f}")
        lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    more = f"<p>… {len(best) - ROWS_SHOWN} more rows</p>" if len(best) > ROWS_SHOWN else ""
    return f"<div><p>{escape(text)}</p><table>{''.join(lines)}</table>{more}</div>"


def best_layers(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the highest-scoring layer of each target and encoder on all held-out utterances.

    The layer is chosen by the score that is shown, which is optimistic; `layerprobe compare` scores a layer that was
    chosen inside the training speakers.

    Returns:
        rows of ``scores``, one for each target and encoder: of ridge probes on one layer (of a trained regressor its
        predictions, the mean over its seeds), by the moment-matched CCC or, for classes, the unweighted average recall
    """
    plain = is_plain(scores) & (scores["control"] == "none") & (scores["fold"] == "pooled") & (scores["baseline"] == "")
    plain &= (scores["train_corpus"] == "") & scores["probe"].isin(LAYER_PROBES) & scores["metric"].isin(METRICS)
    keys = ["target", "encoder", "layer", "metric"]
    means = scores[plain].groupby(keys, sort=False)["value"].mean().dropna().reset_index()
    return means.loc[means.groupby(["target", "encoder"], sort=False)["value"].idxmax()]
