"""Stage: a run folder becomes findings and one self-contained HTML page, readable from disk without a network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from analysis.findings import NAMES, Finding, find, headlines, warn, write_findings
from analysis.intervals import score_intervals
from analysis.partition import variance_partition
from analysis.relevance import BASELINE, CLASS_METRICS, DEFAULT_CLASS_METRIC, DEFAULT_METRIC, METRIC_NAMES, POOLED
from analysis.weights import concentration, weight_summary
from figures.curves import BASELINES
from figures.draw import default_metric, draw
from probe.score_table import Run, read_predictions, read_run


def write_report(folder: Path | str, *, metric: str | None = None) -> Path:
    """Draw, find, and write ``findings.json`` and ``report.html`` into the run folder; return the page.

    Raises:
        InputError: if ``folder`` is no run folder, or the metric is unknown
    """
    folder = Path(folder)
    run = read_run(folder)
    metrics = [metric or default_metric(run)]
    if run.nominal_targets and metrics[0] not in CLASS_METRICS:
        metrics.append(DEFAULT_CLASS_METRIC)  # rated and nominal targets are drawn apart
    pictures = [
        Pictures(METRIC_NAMES[m], *(draw(name, [folder], metric=m)[-1] for name in ("heatmap", "curves")))
        for m in metrics
    ]
    predictions = read_predictions(folder)
    findings = [
        finding
        for m in metrics
        for finding in find(run.scores, metric=m, intervals=score_intervals(predictions, metric=m))
    ]
    write_findings(folder / "findings.json", findings, fingerprint=run.fingerprint)
    page = folder / "report.html"
    page.write_text(report_html(run, findings, pictures=pictures), encoding="utf-8")
    return page


@dataclass(frozen=True)
class Pictures:
    """The SVGs of one metric, which the page takes in whole."""

    metric: str  # its name in words
    heatmap: Path
    curves: Path


def report_html(run: Run, findings: list[Finding], *, pictures: list[Pictures]) -> str:
    """The page; whatever comes from a manifest is escaped.

    Args:
        run: the tables and the plan
        findings: whose sentences are the headline
        pictures: of each metric that is shown
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    described = [(e, False) for e in run.plan["encoders"]] + [(e, True) for e in run.plan["random_weights"]]
    return environment.get_template("report.html").render(
        fingerprint=run.fingerprint,
        corpus=run.plan["corpus"],
        sweep={key: _text(value) for key, value in run.plan["sweep"].items()},
        poolings=_text(run.plan["encoders"][0]["poolings"]),
        warnings=warn(run.plan, run.scores),
        sentences=headlines(findings),
        findings=[{"name": NAMES[f.name], "finding": f} for f in findings],
        pictures=[
            {"metric": p.metric, "heatmap": _embedded(p.heatmap), "curves": _embedded(p.curves)} for p in pictures
        ],
        mixes=mix_rows(run),
        baselines=baseline_rows(run.scores),
        shares=variance_partition(run.scores).to_dict("records"),
        beside=" and ".join(band["name"] for band in run.plan.get("beside", [])),
        quarantine=run.quarantine.to_dict("records"),
        encoders=[
            {"name": e["name"], "control": control, "fields": [(k, _text(v)) for k, v in e.items() if k != "name"]}
            for e, control in described
        ],
    )


def mix_rows(run: Run) -> list[dict[str, Any]]:
    """Each mix and target with the score it reaches, its weights' entropy, and the layers that contribute the most."""
    weights = run.layer_weights
    if weights.empty:
        return []
    summary, bits = weight_summary(weights), concentration(weights)
    scores = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == DEFAULT_METRIC)]
    rows = []
    for fit in bits[bits["control"] == "none"].to_dict("records"):
        same = {key: fit[key] for key in ("encoder", "control", "probe", "target")}
        layers = _matching(summary, same).sort_values("contribution", ascending=False).head(3)
        values = _matching(scores, same)["value"]
        rows.append(
            {
                **{str(key): value for key, value in fit.items()},
                "score": values.mean(),
                "layers": [
                    {**layer, "spread": "" if np.isnan(layer["weight_spread"]) else f" ± {layer['weight_spread']:.2f}"}
                    for layer in layers.to_dict("records")
                ],
            }
        )
    return rows


def baseline_rows(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """What is reached without a layer, for each target: r, CCC and the error."""
    rows = scores[(scores["encoder"] == BASELINE) & (scores["fold"] == POOLED)]
    if rows.empty:
        return []
    means = rows.groupby(["control", "target", "metric"], sort=False)["value"].mean().unstack().reset_index()
    names = {"mean_rating": "mean of the training ratings"} | {c: name for c, (name, _) in BASELINES.items()}
    shown = [m for m in ("pearson", "ccc", "rmse", "uar") if m in means]
    return [
        {
            "name": names[str(row["control"])],
            "target": str(row["target"]),
            "scores": ", ".join(f"{METRIC_NAMES[m]} {row[m]:.2f}" for m in shown if np.isfinite(row[m])),
        }
        for row in means.to_dict("records")
    ]


def _matching(table: pd.DataFrame, same: dict[str, Any]) -> pd.DataFrame:
    chosen = np.ones(len(table), dtype=bool)
    for key, value in same.items():
        chosen &= (table[key] == value).to_numpy()
    return table[chosen]


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
