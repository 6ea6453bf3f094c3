"""The section of a report on targets with classes: ridge and logistic regression by layer, and what they confuse."""

from __future__ import annotations

from layerprobe.analysis.formatting import NONE, layer_text, number_text, shown_name
from layerprobe.analysis.study import Study
from layerprobe.figures.report.tables import Section, Table
from layerprobe.probe.metrics import CLASS_METRICS, METRIC_NAMES


def classes_section(study: Study) -> Section:
    """Return the section, which has no content where the metric is not one of classes."""
    if study.metric not in CLASS_METRICS:
        return Section("Classes")
    text = [
        "A confusion matrix counts, for each class, the held-out utterances by the class that was predicted for them, "
        "at the layer selected by cross-validation."
    ]
    return Section("Classes", text, tables=[*_confusion_tables(study), _layer_table(study)])


def _confusion_tables(study: Study) -> list[Table]:
    """A row for each class, with the predicted classes as columns."""
    tables = []
    groups = study.confusion.groupby(["encoder", "probe", "target", "layer"], sort=False)
    for (encoder, probe, target, layer), rows in groups:
        names = list(dict.fromkeys(rows["class"]))
        header = ["encoder", "probe", "target", "layer", "class", *(f"predicted {name}" for name in names), "recall"]
        cells = []
        for name in names:
            own = rows[rows["class"] == name].set_index("predicted")
            counts = [str(int(own["n"][k])) for k in names]
            labels = [str(encoder), str(probe), shown_name(target), layer_text(layer), name]
            cells.append([*labels, *counts, number_text(float(own["fraction"][name]))])
        tables.append(Table(header, cells))
    return tables


def _layer_table(study: Study) -> Table:
    """Scores of each layer by ridge and, where it was fitted, by logistic regression."""
    own = study.table[(study.table["control"] == "none") & study.table["probe"].isin(["ridge", "logistic"])]
    own = own[own["encoder"] != ""]
    if "logistic" not in set(own["probe"]):
        return Table([], [])
    rows = []
    for (encoder, target, layer), part in own.groupby(["encoder", "target", "layer"], sort=False):
        value = part.set_index("probe")["value"]
        cells = [number_text(float(value[p]), digits=3) if p in value else NONE for p in ("ridge", "logistic")]
        rows.append([str(encoder), shown_name(target), str(layer), *cells])
    name = METRIC_NAMES[study.metric]
    header = ["encoder", "target", "layer", f"{name}, ridge", f"{name}, logistic"]
    return Table(header, rows, is_folded=len(rows) > 30)
