"""Stage: a run folder becomes findings and one self-contained HTML page, readable from disk without a network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

from analysis.findings import NAMES, Finding, find, headlines, warn, write_findings
from analysis.relevance import DEFAULT_METRIC, METRIC_NAMES
from figures.draw import draw
from probe.score_table import Run, read_run


def write_report(folder: Path | str, *, metric: str = DEFAULT_METRIC) -> Path:
    """Draw, find, and write ``findings.json`` and ``report.html`` into the run folder; return the page.

    Raises:
        InputError: if ``folder`` is no run folder, or the metric is unknown
    """
    folder = Path(folder)
    heatmap, curves = (draw(picture, [folder], metric=metric)[-1] for picture in ("heatmap", "curves"))
    run = read_run(folder)
    findings = find(run.scores, metric=metric)
    write_findings(folder / "findings.json", findings, fingerprint=run.fingerprint)
    page = folder / "report.html"
    page.write_text(report_html(run, findings, metric=metric, heatmap=heatmap, curves=curves), encoding="utf-8")
    return page


def report_html(run: Run, findings: list[Finding], *, metric: str, heatmap: Path, curves: Path) -> str:
    """The page; whatever comes from a manifest is escaped.

    Args:
        run: the tables and the plan
        findings: whose sentences are the headline
        metric: a key of `METRIC_NAMES`
        heatmap: an SVG, which the page takes in whole
        curves: an SVG, likewise
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
        metric=METRIC_NAMES[metric],
        heatmap=_embedded(heatmap),
        curves=_embedded(curves),
        quarantine=run.quarantine.to_dict("records"),
        encoders=[
            {"name": e["name"], "control": control, "fields": [(k, _text(v)) for k, v in e.items() if k != "name"]}
            for e, control in described
        ],
    )


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
