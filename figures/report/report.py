"""Write the findings of a run and its report, one self-contained HTML page that opens without a network."""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from layerprobe.analysis.checks.run import run_checks
from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.methods import methods_paragraph, references
from layerprobe.analysis.findings.records import FINDINGS, Finding, write_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.formatting import plural
from layerprobe.analysis.similarity.compare_layers import can_be_compared, compare_layers
from layerprobe.analysis.study import SIMILARITY, Study, study
from layerprobe.figures.draw import PLOTS, NothingToPlotError, file_name, plot
from layerprobe.figures.layout.style import save
from layerprobe.figures.plots.heatmap import cell_order
from layerprobe.figures.report.sections import make_sections
from layerprobe.figures.report.tables import Section, cell_texts, findings_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_CLASS_METRIC, METRIC_NAMES
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import Run, read_run


@dataclass(frozen=True)
class Page:
    """The part of a report on one metric."""

    study: Study
    findings: list[Finding]
    sections: list[Section]
    figures: dict[str, Path]  # SVG file of each figure that the run has data for


def write_report(folder: Path | str, *, metric: str | None = None, progress: NullProgress | None = None) -> Path:
    """Write ``findings.json``, ``report.html`` and the figures of a run into its folder, and return the report's path.

    ``similarity.csv`` is computed first (`analysis.similarity.compare_layers`) if it is missing and the caches are at
    the paths in the run's plan.

    Args:
        folder: a run folder
        metric: a key of `METRIC_NAMES`; by default as in `analysis.study.study`
        progress: receives a message for each step

    Raises:
        InputError: if ``folder`` is no run folder, or the metric is unknown
    """
    folder, progress = Path(folder), progress or NullProgress()
    run = read_run(folder)
    if not (folder / SIMILARITY).exists() and run.targets and can_be_compared(run):
        progress.log("Comparing layers …")
        try:
            compare_layers(folder)
        except InputError as error:
            progress.log(f"No similarity: {error}")
    progress.log("Drawing and writing …")
    first = study([run], metric=metric)
    studies = [first]
    if run.nominal_targets and first.metric not in CLASS_METRICS:
        studies.append(study([run], metric=DEFAULT_CLASS_METRIC))  # nominal targets have their own figures
    pages = [make_page(s) for s in studies]
    findings = [finding for page in pages for finding in page.findings]
    write_findings(folder / FINDINGS, findings, fingerprint=run.fingerprint)
    report = folder / "report.html"
    replace_file(report, report_html(run, pages))
    return report


def make_page(of: Study) -> Page:
    """Draw every figure that a study has data for, and return them with its findings and sections."""
    figures = {}
    for name in PLOTS:
        try:
            plotted = plot(name, of)
        except NothingToPlotError:
            continue  # its section has no figure
        paths = save(
            plotted.figure,
            of.folders[0] / "figures",
            file_name(name, of),
            fingerprint=of.fingerprint,
            table=plotted.table,
        )
        figures[name] = next(p for p in paths if p.suffix == ".svg")
    findings = collect_findings(of)
    sections = [s for s in make_sections(of, findings) if s.tables or s.figure in figures]
    return Page(of, findings, sections, figures)


def report_html(run: Run, pages: list[Page]) -> str:
    """Return the report as HTML; text from a manifest is escaped.

    Args:
        run: the run folder's tables and plan
        pages: one for each metric that is shown; limitations and methods are those of the first
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    methods = methods_paragraph(pages[0].study)
    encoders = [(e, False) for e in run.plan["encoders"]] + [(e, True) for e in run.plan["random_weights"]]
    sweep = run.plan["sweep"]
    unit = sweep["group_by"] or "speaker"
    split = (
        f"over {sweep['n_folds']} {unit}-disjoint folds"
        if "n_folds" in sweep
        else f"in the split {sweep['test_split']}"
    )
    return environment.get_template("report.html").render(
        fingerprint=run.fingerprint,
        corpus=run.plan["corpus"],
        split=split,
        units=plural(unit),
        limitations=[c.sentence for c in run_checks(pages[0].study) if c.state in ("issue", "tip")],
        sentences=[sentence for page in pages for sentence in headlines(page.findings)],
        pages=[
            {
                "metric": METRIC_NAMES[page.study.metric],
                "heatmap": _inline(page.figures["heatmap"], f"m{k}"),
                "cells": _script_json(_cells(page.study)),
                "prefix": f"m{k}",
                "sections": page.sections,
                "figures": {name: _embedded(path) for name, path in page.figures.items()},
            }
            for k, page in enumerate(pages)
        ],
        all_findings=findings_table([f for page in pages for f in page.findings]),
        methods=methods,
        references=references(methods),
        quarantine=run.quarantine.to_dict("records"),
        commands=commands(run),
        encoders=[
            {"name": e["name"], "control": control, "fields": [(k, _text(v)) for k, v in e.items() if k != "name"]}
            for e, control in encoders
        ],
        sweep=[(k, _text(v)) for k, v in sweep.items()],
    )


def commands(run: Run) -> list[str]:
    """Return the command lines that make the run again: extractions from its plan, and the sweep as it was typed."""
    manifest = shlex.quote(run.plan.get("manifest", "MANIFEST.csv"))
    lines = []
    for encoder in [*run.plan["encoders"], *run.plan["random_weights"]]:
        name = encoder["upstream"] + (f"@{encoder['revision']}" if encoder.get("revision") else "")
        name = shlex.quote(encoder.get("encoder_folder") or name)
        line = f"layerprobe extract {manifest} --encoder {name} --precision {encoder['precision']}"
        if encoder.get("random_init") is not None:
            line += f" --random-init {encoder['random_init']}"
        line += " --adapter ADAPTER.py" if encoder.get("adapter") else ""  # of which the plan has the hash
        line += "".join(f" --pooling {p}" for p in encoder["poolings"])
        if column := encoder.get("text_column"):
            line += f" --text-column {shlex.quote(column)}"
        lines.append(f"{line} --out {shlex.quote(encoder.get('path', 'CACHE.zarr'))}")
    if run.plan.get("command"):
        lines.append(run.plan["command"])
    return lines


def _cells(of: Study) -> list[str]:
    table = of.table[(of.table["probe"] == "ridge") & (of.table["encoder"] != "")]
    return cell_texts(cell_order(table, layers=of.layers, targets=of.targets), table, of.metric)


def _inline(svg: Path, prefix: str) -> str:
    """Return an SVG as an element of the page, with a prefix to its ids so that they are unique."""
    text = svg.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    return re.sub(r"url\(#", f"url(#{prefix}-", text)


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _script_json(value: Any) -> str:
    """Return JSON without characters that could end the script element around it."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
