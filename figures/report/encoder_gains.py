"""The section of a report on encoders with the same layers: where they differ, and which targets moved."""

from __future__ import annotations

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import NONE, layer_ranges, number_text, p_cell, range_text, shown_name
from layerprobe.figures.report.tables import INTERVAL, Section, Table


def encoder_gain_section(findings: list[Finding]) -> Section:
    """Return the section with the figure of gains, a table of gains and a table of shifts.

    Args:
        findings: of a study; the section is empty where no two encoders have the same architecture and layers
    """
    gains, shifts = [], []
    for f in findings:
        names = [shown_name(f.target), f.encoder, str(f.reference)]
        if f.name == "encoder_gain":
            better, worse = (layer_ranges(layers or ()) or NONE for layers in (f.layers, f.worse_layers))
            numbers = [f.layer, number_text(f.estimate), range_text(f.ci_low, f.ci_high)]
            gains.append([*names, *numbers, p_cell(f.p_value), p_cell(f.p_adjusted), better, worse])
        elif f.name == "encoder_shift":
            n_blocks = f.n_blocks or 1
            blocks = number_text(f.estimate * n_blocks, digits=1)
            numbers = [f"{blocks} of {n_blocks}", number_text(f.estimate), range_text(f.ci_low, f.ci_high)]
            shifts.append([*names, *numbers, number_text(f.detectable), p_cell(f.p_value), p_cell(f.p_adjusted)])
    text = [
        "Encoders with the same architecture and the same layers, such as a frozen and a tuned one, are compared layer "
        "by layer with the first of them; above 0 where the encoder is better than the reference. The table of gains "
        "shows the clearest layer of each target, and all layers that differ: p is adjusted for the layers of the "
        "target, and p (all) for all layers, targets and encoders of the table, both by the maximum statistic. "
        "For these p-values a score below 0 counts as 0, because a layer that predicts nothing scores below 0 by "
        "chance; errors and metrics of classes count as they are.",
        "Whether a target moved to other layers is tested by the shift between the profiles of both encoders, which a "
        "gain of all layers alike leaves at 0; above 0 where the target lies deeper than in the reference. A shift "
        "means something only where both encoders predict the target above chance.",
    ]
    names = ["target", "encoder", "reference"]
    tables = [
        Table([*names, "clearest layer", "gain", INTERVAL, "p", "p (all)", "better layers", "worse layers"], gains),
        Table([*names, "shift (blocks)", "relative depth", INTERVAL, "detectable", "p", "p (Holm)"], shifts),
    ]
    return Section("Gain over another encoder", text, figure="gain" if gains else "", tables=tables)
