"""Write the findings of a run and its report, one self-contained HTML page that opens without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from layerprobe.analysis.answer_formats import latex_table
from layerprobe.analysis.answer_html import answers_html, notes_text
from layerprobe.analysis.answers import DepthAnswer, depth_answers, depth_sentence
from layerprobe.analysis.checks.run import run_checks
from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.methods import methods_paragraph, references
from layerprobe.analysis.findings.records import FINDINGS, Finding, write_findings
from layerprobe.analysis.formatting import number_text
from layerprobe.analysis.layers.depth import MEASURES, SHIFT
from layerprobe.analysis.layers.shift import REACH
from layerprobe.analysis.similarity.compare_layers import can_be_compared, compare_layers
from layerprobe.analysis.study import SIMILARITY, Study, study
from layerprobe.analysis.time.bins import scored_rows
from layerprobe.figures.captions import resampled_units
from layerprobe.figures.draw import PLOTS, NothingToPlotError, file_name, plot
from layerprobe.figures.layout.style import save
from layerprobe.figures.report.bibtex import bibtex
from layerprobe.figures.report.depth_svg import depth_svg
from layerprobe.figures.report.explorer import explorer_data
from layerprobe.figures.report.sections import make_sections
from layerprobe.figures.report.statements import Statement, statement_groups
from layerprobe.figures.report.svg import image_address, inline_svg
from layerprobe.figures.report.tables import Section, Table, findings_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_CLASS_METRIC, METRIC_NAMES
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import Run, read_run

HERE = Path(__file__).parent  # of the template, its style and its script
OPEN = ("time-map", "erasure")  # figures that a run is made for, whose sections are open from the start


@dataclass(frozen=True)
class Page:
    """The part of a report on one metric."""

    study: Study
    findings: list[Finding]
    sections: list[Section]
    figures: dict[str, Path]  # SVG file of each figure that the run has data for
    captions: dict[str, str]  # of each figure


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
    figures, captions = {}, {}
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
        captions[name] = plotted.caption
    findings = collect_findings(of)
    sections = [s for s in make_sections(of, findings) if s.tables or s.figure in figures]
    return Page(of, findings, sections, figures, captions)


def report_html(run: Run, pages: list[Page]) -> str:
    """Return the report as HTML; text from a manifest is escaped.

    Args:
        run: the run folder's tables and plan
        pages: one for each metric that is shown; depth, checks and methods are those of the first
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    first, script = pages[0].study, (HERE / "page.js").read_text(encoding="utf-8")
    methods, sweep = methods_paragraph(first), run.plan["sweep"]
    encoders = [(e, False) for e in run.plan["encoders"]] + [(e, True) for e in run.plan["random_weights"]]
    views = [_view(page, f"m{k}") for k, page in enumerate(pages)]
    checks, depths = run_checks(first), depth_answers(first, first.answers)
    return environment.get_template("report.html").render(
        fingerprint=run.fingerprint,
        corpus=run.plan["corpus"],
        scored_rows=scored_rows(run.plan),
        split=_split(sweep),
        units=resampled_units(first),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=_script_json([explorer_data(page.study, f"m{k}") for k, page in enumerate(pages)]),
        pages=views,
        contents=_contents(views),
        depth_sentence=depth_sentence(depths),
        depth_figure=depth_svg(depths),
        depth_caption=depth_caption(depths),
        n_issues=sum(check.state == "issue" for check in checks),
        checks=checks,
        checks_folded=[check for check in checks if check.state not in ("issue", "tip")],
        groups=_groups(pages, views),
        all_findings=findings_table([f for page in pages for f in page.findings]),
        methods=methods,
        references=references(methods),
        bibtex=bibtex(references(methods)),
        captions=[caption for view in views for caption in view["captions"]],
        latex="\n".join(latex_table(page.study.answers) for page in pages),
        quarantine=_quarantine(run),
        commands=commands(run),
        encoders=[
            {"name": e["name"], "control": control, "fields": [(k, _text(v)) for k, v in e.items() if k != "name"]}
            for e, control in encoders
        ],
        sweep=[(k, _text(v)) for k, v in sweep.items()],
    )


def _view(page: Page, prefix: str) -> dict[str, Any]:
    """Return what the template shows of one metric; ids begin with the prefix."""
    study, metric = page.study, METRIC_NAMES[page.study.metric]
    sections = [
        {
            **{key: getattr(section, key) for key in ("title", "text", "figure", "tables")},
            "id": f"{prefix}-{slug(section.title)}",
            "is_curves": section.figure == "curves",
            "is_open": section.figure in OPEN,
            "summary": _summary(section, page),
        }
        for section in page.sections
    ]
    return {
        "metric": metric,
        "prefix": prefix,
        "answers": answers_html(study.answers),
        "notes": notes_text(study.answers),
        "heatmap": inline_svg(page.figures["heatmap"], prefix),
        "caption_of": page.captions,
        "sections": sections,
        "figures": {
            name: _figure(path, f"{prefix}-{name}") for name, path in page.figures.items() if name != "heatmap"
        },
        "names": {name: path.stem for name, path in page.figures.items()},
        "captions": [f"{page.figures[name].stem}: {text}" for name, text in page.captions.items()],
        "depth_anchor": f"{prefix}-depth",
    }


def _figure(path: Path, prefix: str) -> dict[str, str]:
    """Return a figure as an element if its marks name their layers, which the script highlights, or as an image."""
    if 'data-layer="' in path.read_text(encoding="utf-8"):
        return {"element": inline_svg(path, prefix), "image": ""}
    return {"element": "", "image": image_address(path)}


def slug(title: str) -> str:
    """Return the part of an id that stands for a heading.

    >>> slug("Gain over random initialisation"), slug("Curves, moment-matched CCC")
    ('gain-over-random-initialisation', 'curves')
    """
    return re.sub(r"[^a-z0-9]+", "-", title.split(",")[0].lower()).strip("-")


def _summary(section: Section, page: Page) -> str:
    parts = ["Figure"] if section.figure in page.figures else []
    n_rows = sum(len(table.rows) for table in section.tables)
    return " and ".join([*parts, *([f"table of {n_rows} rows"] if n_rows else [])]).capitalize()


def _contents(views: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return id and title of each section of the page."""
    found = []
    for view in views:
        found.append((f"{view['prefix']}-heatmap", "Heatmap" if view is views[0] else f"Heatmap, {view['metric']}"))
        found += [(section["id"], section["title"].split(",")[0]) for section in view["sections"]]
    last = ("Findings", "Checks", "All findings", "Methods", "Provenance")
    return [*found, *((slug(title), title) for title in last)]


def _groups(pages: list[Page], views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups of statements of all metrics, each statement with the id of its record and its section."""
    found, first = [], 0
    for page, view in zip(pages, views, strict=True):
        ids = {slug(section["title"]): section["id"] for section in view["sections"]}
        ids |= {"heatmap": f"{view['prefix']}-heatmap"}

        def shown(statements: list[Statement], first: int = first, ids: dict[str, str] = ids) -> list[dict[str, Any]]:
            return [
                {"text": s.text, "record": first + s.record, "anchor": ids.get(slug(s.section), "")} for s in statements
            ]

        found += [
            {"title": g.title, "shown": shown(g.shown), "folded": shown(g.folded)}
            for g in statement_groups(page.findings)
        ]
        first += len(page.findings)
    return found


def depth_caption(found: list[DepthAnswer]) -> str:
    """Return the caption of the small figure: measure, interval, and what difference the corpus could detect."""
    if not found:
        return ""
    known = [a for a in found if np.isfinite(a.detectable) and not a.unknown]
    within = [f"{number_text(a.detectable)} ({a.encoder})" for a in known if a.detectable <= REACH]
    beyond = [a.encoder for a in known if a.detectable > REACH]
    power = f" Differences that would be detected with a power of .8: {', '.join(within)}." if within else ""
    if beyond:
        power += f" Even half of the encoder would be detected with a power below .8 ({', '.join(beyond)})."
    if found[0].measure == SHIFT:
        power += f" No shift beyond {number_text(REACH)} is fitted."
    return (
        f"Difference of relative depth ({MEASURES[found[0].measure]}) with its 95 % confidence interval; p-values are "
        f"adjusted by Holm's method.{power}"
    )


def _split(sweep: dict[str, Any]) -> str:
    if "n_folds" in sweep:
        return f"over {sweep['n_folds']} {sweep['group_by'] or 'speaker'}-disjoint folds"
    return f"in the split {sweep['test_split']}"


def _quarantine(run: Run) -> Table:
    columns = ["encoder", "utterance_id", "reason"]
    rows = [[str(row[c]) for c in columns] for row in run.quarantine.to_dict("records")]
    return Table(["encoder", "utterance", "reason"], rows)


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


def _script_json(value: Any) -> str:
    """Return JSON without characters that could end the script element around it."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
