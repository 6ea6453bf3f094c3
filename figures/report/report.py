"""Stage: a run folder becomes findings and one self-contained HTML page, readable from disk without a network."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.limitations import limitations
from layerprobe.analysis.findings.methods import methods_paragraph, references
from layerprobe.analysis.findings.records import Finding, write_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.similarity.compare_layers import can_be_compared, compare_layers
from layerprobe.analysis.study import SIMILARITY, Study, study
from layerprobe.figures.draw import PLOTS, NothingToPlotError, file_name
from layerprobe.figures.layout.style import save
from layerprobe.figures.plots.heatmap import cell_order
from layerprobe.figures.report.sections import Section, all_findings, cell_texts, sections_of
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_CLASS_METRIC, METRIC_NAMES
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import Run, read_run


@dataclass(frozen=True)
class Page:
    """What one metric shows."""

    study: Study
    findings: list[Finding]
    sections: list[Section]
    pictures: dict[str, Path]  # SVG of each picture that there is something to draw of


def write_report(folder: Path | str, *, metric: str | None = None, progress: NullProgress | None = None) -> Path:
    """Draw, find, and write ``findings.json`` and ``report.html`` into the run folder; return the page.

    Layers are compared with one another (`analysis.similarity.compare_layers`) if that was not done and the
    caches are where the sweep found them.

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
    first = study([folder], metric=metric)
    studies = [first]
    if run.nominal_targets and first.metric not in CLASS_METRICS:
        studies.append(study([folder], metric=DEFAULT_CLASS_METRIC))  # rated and nominal targets are drawn apart
    pages = [make_page(s) for s in studies]
    findings = [finding for page in pages for finding in page.findings]
    write_findings(folder / "findings.json", findings, fingerprint=run.fingerprint)
    report = folder / "report.html"
    report.write_text(report_html(run, pages), encoding="utf-8")
    return report


def make_page(of: Study) -> Page:
    """Draw every picture that a study has something for, and say what it shows."""
    pictures = {}
    for name, picture in PLOTS.items():
        try:
            drawn = picture(of, None)
        except NothingToPlotError:
            continue  # its section is left out, or says so
        paths = save(
            drawn.figure,
            of.folders[0] / "figures",
            file_name(name, of),
            fingerprint=of.fingerprint,
            table=drawn.table,
        )
        pictures[name] = next(p for p in paths if p.suffix == ".svg")
    findings = collect_findings(of)
    sections = [s for s in sections_of(of, findings) if s.rows or s.picture in pictures]
    return Page(of, findings, sections, pictures)


def report_html(run: Run, pages: list[Page]) -> str:
    """The page; whatever comes from a manifest is escaped.

    Args:
        run: the tables and the plan
        pages: of each metric that is shown, the first of which gives warnings and methods
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    methods = methods_paragraph(pages[0].study)
    described = [(e, False) for e in run.plan["encoders"]] + [(e, True) for e in run.plan["random_weights"]]
    sweep = run.plan["sweep"]
    split = f"over {sweep['n_folds']} speaker-disjoint folds" if "n_folds" in sweep else f"in the split {sweep['test']}"
    return environment.get_template("report.html").render(
        fingerprint=run.fingerprint,
        corpus=run.plan["corpus"],
        split=split,
        warnings=limitations(pages[0].study),
        sentences=[sentence for page in pages for sentence in headlines(page.findings)],
        pages=[
            {
                "metric": METRIC_NAMES[page.study.metric],
                "heatmap": _inline(page.pictures["heatmap"], f"m{k}"),
                "cells": _script_json(_cells(page.study)),
                "prefix": f"m{k}",
                "sections": page.sections,
                "pictures": {name: _embedded(path) for name, path in page.pictures.items()},
            }
            for k, page in enumerate(pages)
        ],
        all_findings=all_findings([f for page in pages for f in page.findings]),
        methods=methods,
        references=references(methods),
        quarantine=run.quarantine.to_dict("records"),
        commands=commands(run),
        encoders=[
            {"name": e["name"], "control": control, "fields": [(k, _text(v)) for k, v in e.items() if k != "name"]}
            for e, control in described
        ],
        sweep=[(k, _text(v)) for k, v in sweep.items()],
    )


def commands(run: Run) -> list[str]:
    """What to type to make the run again, as far as it knows: extractions, and the sweep as it was typed."""
    manifest = run.plan.get("manifest", "MANIFEST.csv")
    lines = []
    for encoder in [*run.plan["encoders"], *run.plan["random_weights"]]:
        name = encoder["upstream"] + (f"@{encoder['revision']}" if encoder.get("revision") else "")
        words = f"layerprobe extract {manifest} --encoder {name} --precision {encoder['precision']}"
        if encoder.get("random_init") is not None:
            words += f" --random-init {encoder['random_init']}"
        words += "".join(f" --pooling {p}" for p in encoder["poolings"])
        if column := encoder.get("text_column"):
            words += f" --text-column {column}"
        lines.append(f"{words} --out {encoder.get('path', 'CACHE.zarr')}")
    if run.plan.get("command"):
        lines.append(run.plan["command"])
    return lines


def _cells(of: Study) -> list[str]:
    table = of.table[(of.table["probe"] == "ridge") & (of.table["encoder"] != "")]
    return cell_texts(cell_order(table, layers=of.layers, targets=of.targets), table, of.metric)


def _inline(svg: Path, prefix: str) -> str:
    """An SVG as an element of the page, whose names are its own."""
    text = svg.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    return re.sub(r"url\(#", f"url(#{prefix}-", text)


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _script_json(value: Any) -> str:
    """JSON that can't end the script it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
