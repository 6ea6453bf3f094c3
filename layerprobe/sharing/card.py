"""README.md of a shared run or cache, written like a model card: what it is, of what corpus, with which results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.methods import references
from layerprobe.analysis.findings.records import FINDINGS, Finding, read_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.formatting import NONE, layer_ranges, ranged, shown_name
from layerprobe.analysis.model_comparison import compare
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.metrics import METRIC_NAMES
from layerprobe.probe.results.run_files import PREDICTIONS
from layerprobe.probe.results.run_folder import PEAK_SPANS, Run
from layerprobe.probe.time.bins import LABEL
from layerprobe.probe.version import layerprobe_version
from layerprobe.sharing.contents import CACHE_FILES, RUN_FILES, WITH_PREDICTIONS, WITH_TRANSCRIPTS, rule_of
from layerprobe.sharing.source import RUN, TRAINED, Source, n_labels

FIGURES = ("figures/heatmap.png", "figures/curves.png")  # shown in the README where the run has them
DESCRIBED = (WITH_PREDICTIONS, WITH_TRANSCRIPTS)  # what is worth a line where it was left out


def card(source: Source, repository: str) -> str:
    """Return README.md in Markdown, with the header that the hub reads.

    Args:
        source: what is pushed
        repository: its name, for the commands that pull it
    """
    opened, findings = source.opened, None
    of_cache = isinstance(opened, Cache)
    if isinstance(opened, Cache):
        parts = _of_cache(source, opened)
    else:
        findings = _findings(source, opened) if source.kind == RUN else None
        parts = _of_run(source, opened, findings)
    tags = ["layerprobe", "speech-emotion-recognition", "embeddings" if of_cache else "probing"]
    # configs: without one the hub takes every table for one data set
    data = "" if of_cache or source.kind == TRAINED else _viewer(source)
    head = "---\ntags:\n" + "".join(f"- {tag}\n" for tag in tags) + data + "---\n"
    return head + "\n\n".join([*parts, *_files(source), *_use(source, repository), *_cite(findings or [])]) + "\n"


def _viewer(source: Source) -> str:
    names = {file.path for file in source.files}
    if "scores.parquet" not in names:
        return ""
    return "configs:\n- config_name: scores\n  data_files: scores.parquet\n"


def _of_run(source: Source, run: Run, findings: list[Finding] | None) -> Iterator[str]:
    corpus = run.plan["corpus"]
    title = "Regressor of ratings" if source.kind == TRAINED else "Layer-wise probing"
    name = " ".join(filter(None, [corpus["name"], corpus.get("version")]))
    yield f"# {title}: {source.name}"
    what = (
        "Speech and text encoders fine-tuned to predict ratings, scored on speakers that they were not trained on"
        if source.kind == TRAINED
        else "Scores of every layer of the encoders below, with speaker-independent cross-validation and control tasks"
    )
    yield (
        f"{what}. Made by layerprobe {run.plan['layerprobe_version']}; fingerprint of the run `{run.fingerprint}`. "
        + _private(source, run)
    )
    yield "## Corpus"
    counts = f"{corpus['n_utterances']} utterances of {corpus['n_speakers']} speakers"
    held_out = f", {corpus['n_held_out']} of them held out" if corpus["n_held_out"] != corpus["n_utterances"] else ""
    yield f"{_escaped(name)}: {counts}{held_out}. Targets: {', '.join(map(shown_name, _targets(run)))}."
    if corpus.get("notes"):
        yield _escaped(corpus["notes"])
    yield "## Encoders"
    yield _encoders(run)
    yield "## Results"
    yield from _results(source, run, findings)


def _private(source: Source, run: Run) -> str:
    labels = run.plan.get("time", {}).get("kind") == LABEL
    files = {file.path: file.content for file in source.files}
    if PREDICTIONS in files:
        peaks = isinstance(files.get(PEAK_SPANS), Path)  # as it is, with labels
        has = " and which labels of spans each utterance has" if labels else ""
        of_peaks = f"; `{PEAK_SPANS}` holds labels of spans" if peaks else ""
        parts = "Audio is" if labels or peaks else "Audio and transcripts are"
        held = f"`{PREDICTIONS}` holds ratings{',' if labels else ' and'} ids of speakers{has}"
        return f"{parts} not part of it; {held}{of_peaks}."
    named = " The bins of its scores are labels of spans, without the utterances that have them." if labels else ""
    return f"Audio, transcripts, ratings, and ids of utterances and speakers are not part of it.{named}"


def _targets(run: Run) -> list[str]:
    return [*run.targets, *run.nominal_targets]


def _encoders(run: Run) -> str:
    keys = [run.plan[kind] for kind in ("audio", "text") if kind in run.plan]
    rows = [
        (e.get("name", ""), _at(e), e.get("architecture", ""), str(len(e.get("layers", []))) if "layers" in e else "")
        for e in [*run.plan["encoders"], *run.plan.get("random_weights", []), *keys]
    ]
    return _table(("name", "weights", "architecture", "layers"), rows)


def _at(encoder: dict[str, Any]) -> str:
    """Return an encoder's name on the hub with its commit, and the hash of its weights."""
    revision = f"@{encoder['revision'][:12]}" if encoder.get("revision") else ""
    seed = encoder.get("random_init")
    found = f"{encoder.get('upstream', '')}{revision}" + (f", random weights {seed}" if seed is not None else "")
    return found + (f" (hash {encoder['weights']})" if encoder.get("weights") else "")


def _results(source: Source, run: Run, findings: list[Finding] | None) -> Iterator[str]:
    if source.kind == TRAINED:
        yield from _trained_results(source, run)
        return
    if findings is None:
        yield "This copy has no held-out predictions, from which intervals are computed; see `scores.parquet`."
        return
    rows = []
    for best in (f for f in findings if f.name in ("cv_selected_layer", "logistic", "weighted_sum", "fusion")):
        sets = [f for f in findings if f.name == "best_set" and (f.encoder, f.target) == (best.encoder, best.target)]
        layers = layer_ranges(sets[0].layers or ()) if sets and best.name == "cv_selected_layer" else ""
        kind = {"cv_selected_layer": "layer selected by cross-validation"}.get(best.name, shown_name(best.name))
        value = ranged({"estimate": best.estimate, "ci_low": best.ci_low, "ci_high": best.ci_high})
        rows.append((best.encoder, shown_name(best.target), kind, METRIC_NAMES[best.metric], value, layers))
    if rows:
        yield "Scores on held-out speakers, with 95 % confidence intervals over speakers."
        yield _table(("encoder", "target", "probe", "metric", "score", "95 % set of best layers"), rows)
    names = {file.path for file in source.files}
    if images := [f"![{name}]({name})" for name in FIGURES if name in names]:
        yield "\n\n".join(images)
    yield "### In sentences"
    yield "\n".join(f"- {_escaped(sentence)}" for sentence in headlines(findings))


def _trained_results(source: Source, run: Run) -> Iterator[str]:
    if not (source.path / PREDICTIONS).is_file():
        yield "This copy has no held-out predictions, from which intervals are computed; see `scores.parquet`."
        return
    rows = [
        (shown_name(row["target"]), METRIC_NAMES["ccc"], ranged(row), str(row["n_utterances"]), str(row["n_speakers"]))
        for row in compare([source.path], metric="ccc").to_dict("records")
    ]
    yield "Scores on held-out speakers, with 95 % confidence intervals over speakers."
    yield _table(("target", "metric", "score", "utterances", "speakers"), rows)
    parameters = run.plan["parameters"]
    yield f"{parameters['trainable']:,} of {parameters['total']:,} parameters were trained."


def _findings(source: Source, run: Run) -> list[Finding] | None:
    """Return the findings of the run's report, or compute them where the run has none; None without predictions."""
    path = source.path / FINDINGS
    if path.is_file() and json.loads(path.read_bytes()).get("fingerprint") == run.fingerprint:
        return read_findings(path)
    return collect_findings(source.path) if (source.path / PREDICTIONS).is_file() else None


def _of_cache(source: Source, cache: Cache) -> Iterator[str]:
    plan = cache.plan
    yield f"# Embeddings of all layers: {source.name}"
    n, holds = f"{cache.n_utterances} utterances", ["ids of utterances", "hashes of their audio"]
    if cache.spans is not None:
        n = f"{cache.n_utterances} spans of {cache.spans.n_parents} utterances"
        holds.append("the times of spans")
        if n_labels(cache):
            holds.append("their labels, which are the transcript where spans are of spoken text")
    yield (
        f"Pooled embeddings of {n} by every layer of {plan.upstream}: a zarr store of format 3 that layerprobe, zarr "
        f"and xarray open. Fingerprint of the plan `{plan.fingerprint()}`. It holds {', '.join(holds[:-1])} and "
        f"{holds[-1]}, and neither audio, ratings nor paths."
    )
    yield "## Encoder"
    named = (line.partition(": ") for line in plan.lines())
    yield _table(
        ("choice", "value"), [(key.replace("_", " "), value) for key, _, value in named if value not in ("", "None")]
    )


def _files(source: Source) -> Iterator[str]:
    rules = CACHE_FILES if isinstance(source.opened, Cache) else RUN_FILES
    yield "## Files"
    if rules is CACHE_FILES:
        n, size = len(source.files), sum(file.size for file in source.files) / 1e6
        yield f"`{source.name}/`: {n} files, {size:,.1f} MB. `layerprobe.json` lists each with its SHA-256."
    else:
        used = {rule_of(file.path, rules) for file in source.files}
        known = [(rule.pattern, rule.what) for rule in rules if rule in used]
        yield _table(("file", "content"), [(f"`{pattern}`", what) for pattern, what in known])
    out = {rule.pattern: rule for _, rule in source.left_out if rule.when in DESCRIBED}
    if out:
        yield "Not part of it: " + "; ".join(f"`{name}` ({rule.what})" for name, rule in out.items()) + "."


def _use(source: Source, repository: str) -> Iterator[str]:
    yield "## How to use"
    place = f"caches/{source.name}" if isinstance(source.opened, Cache) else f"runs/{source.name}"
    opens = "open_cache" if isinstance(source.opened, Cache) else "read_run"
    yield (
        f"With layerprobe {_version()} or newer installed:\n\n"
        f"```\nlayerprobe pull {repository} --out {place}\n```\n\n"
        f'```python\nimport layerprobe\n\nfound = layerprobe.{opens}("{place}")\n```'
    )


def _version() -> str:
    """Return the version without the commit of a checkout."""
    return layerprobe_version().split("+")[0]


def _cite(findings: Sequence[Finding]) -> Iterator[str]:
    yield "## How to cite"
    yield (
        "Cite the corpus and the encoders by their authors' papers, this repository by its address and commit, and "
        f"layerprobe by its version ({_version()})."
    )
    sources = "; ".join(dict.fromkeys(finding.source for finding in findings))
    if cited := references(re.sub(r" \((\d{4})\)", r", \1", sources)):
        yield "Methods:\n\n" + "\n".join(f"- {_escaped(text)}" for text in cited)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns that are empty in all rows are left out."""
    cells = [[_escaped(str(cell)).replace("|", "\\|") or NONE for cell in row] for row in rows]
    used = [k for k in range(len(names)) if any(row[k] != NONE for row in cells)]
    lines = [[names[k] for k in used], ["---"] * len(used), *([row[k] for k in used] for row in cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Return text of a corpus, such as a name, so that Markdown shows it as it is and no HTML comes of it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
