"""Scores against costs: marks where the numbers are, the front as steps, one ring, nothing over anything."""

from __future__ import annotations

import re
import shutil
from html import unescape

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable
from matplotlib.figure import Figure

import layerprobe as lp
from layerprobe.analysis.study import study
from layerprobe.figures.draw import NothingToPlotError, draw
from layerprobe.figures.layout.style import encoder_looks
from layerprobe.figures.plots.cost import cost_figure, cost_limits, cost_ticks, plot_cost
from layerprobe.figures.report.cost import cost_section
from layerprobe.figures.report.tables import Section


def table(n_layers, encoders, targets, *, seed=0):
    """Each encoder's layers and a mix; the cheapest of the highest tenth has the ring; the last encoder has no cost."""
    rng = np.random.default_rng(seed)
    rows = []
    for target in targets:
        start = len(rows)
        for e, encoder in enumerate(encoders):
            for k in range(n_layers + 1):
                score, mixed = float(rng.uniform(0.2, 0.8)), k == n_layers
                cost = np.nan if e and e == len(encoders) - 1 else 1e9 * (1 + e) * (min(k, n_layers - 1) + 1)
                row = {"encoder": encoder, "probe": "weighted_sum" if mixed else "ridge", "target": target}
                row |= {"layer": "all" if mixed else str(k), "metric": "ccc_matched", "value": score}
                row |= {"ci_low": score - 0.05, "ci_high": score + 0.07, "multiply_adds": cost, "reads": "audio + text"}
                rows.append({**row, "cheapest_by": "multiply_adds", "is_cheapest": False})
        own = pd.DataFrame(rows[start:])
        best = own["value"].max()
        front = []
        for row in rows[start:]:
            better = own[(own["multiply_adds"] <= row["multiply_adds"]) & (own["value"] > row["value"])]
            row["on_front_multiply_adds"] = bool(np.isfinite(row["multiply_adds"]) and better.empty)
            row["behind_best"] = best - row["value"]
            front += [row] * row["on_front_multiply_adds"]
        min(front, key=lambda r: (r["behind_best"] > 0.2, r["multiply_adds"]))["is_cheapest"] = True
    return pd.DataFrame(rows)


def test_marks_lie_at_their_numbers_and_the_front_is_a_step_up_to_the_edge():
    rows = table(4, ["a", "b"], ["valence"])
    rows.loc[0, "multiply_adds"] = 0.0
    ax = Figure().add_subplot(xscale="log", xlim=cost_limits(rows["multiply_adds"]))
    left = ax.get_xlim()[0]
    plot_cost(rows, ax, by="multiply_adds", looks=encoder_looks(["a", "b"]))
    rows.loc[0, "multiply_adds"] = left  # what costs nothing is on the left edge
    marked = {tuple(point) for line in ax.lines for point in line.get_xydata().tolist() if line.get_marker() != "None"}
    known = rows[rows["multiply_adds"].notna()]
    assert marked == set(zip(known["multiply_adds"], known["value"], strict=True))
    (front,) = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    expected = rows[rows["on_front_multiply_adds"]].sort_values("multiply_adds")
    np.testing.assert_array_equal(front.get_xdata()[:-1], expected["multiply_adds"])
    np.testing.assert_array_equal(front.get_ydata()[:-1], expected["value"])
    assert front.get_xdata()[-1] == ax.get_xlim()[1]
    (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted.get_ydata()[0] == rows[rows["encoder"] == "b"]["value"].max()  # its cost is not known
    ends = [path.vertices[:, 1].tolist() for group in ax.collections for path in group.get_paths()]
    assert sorted(ends) == sorted([low, high] for low, high in zip(known["ci_low"], known["ci_high"], strict=True))


def test_the_ring_is_around_the_cheapest_and_names_its_layer():
    rows = table(6, ["a"], ["arousal", "valence"])
    figure = cost_figure(rows)
    for ax, target in zip(figure.axes, ("arousal", "valence"), strict=True):
        (cheapest,) = rows[rows["is_cheapest"] & (rows["target"] == target)].to_dict("records")
        (ring,) = [line for line in ax.lines if line.get_markersize() == 9.0]
        assert ring.get_xydata().tolist() == [[cheapest["multiply_adds"], cheapest["value"]]]
        (label,) = ax.texts
        assert label.get_text() == (cheapest["layer"] if cheapest["probe"] == "ridge" else "mix")
    assert len({ax.get_ylim() for ax in figure.axes}) == len({ax.get_xlim() for ax in figure.axes}) == 1
    assert "The recogniser that makes transcripts is not counted." in [t.get_text() for t in figure.texts]
    free = cost_figure(rows.assign(multiply_adds=rows["multiply_adds"].where(rows["layer"] != "0", 0.0)))
    assert "On the left edge: no cost." in free.texts[0].get_text()
    assert not [t for t in cost_figure(rows.assign(reads="audio")).texts if "recogniser" in t.get_text()]


def test_ticks_keep_off_the_ends_of_the_axis():
    assert cost_ticks(1e8, 1e9) == [2e8, 5e8]
    assert all(2e5 < tick < 5e11 for tick in cost_ticks(1e5, 1e12))


@pytest.mark.parametrize("width", [*PRINTED, 3.3])
@pytest.mark.parametrize(("n", "e", "targets"), [(3, 1, TARGETS[0]), (25, 5, TARGETS[1]), (13, 3, TARGETS[2])])
def test_no_text_lies_over_another(width, n, e, targets):
    names = [f"facebook/hubert-large-ll60k-{k}" for k in range(e)]
    assert_readable(cost_figure(table(n, names, list(targets)), width=width), width)


def test_the_report_shows_figure_sentences_and_table(reported):
    page = unescape((reported / "report.html").read_text(encoding="utf-8"))
    section = page[page.index("Score against cost</h2>") :]
    section = section[: section.index("</section>")]
    assert "Not significantly worse is not equal" in section
    assert re.search(r"arousal: (layer|the) .* of hubert \(0\.\d\d \[", section)
    assert "Times: abacus, one process, 1 thread, 10 s of audio." in section
    assert 'data-name="cost"' in section
    assert "<td>layer 1 of hubert</td>" in section


def test_a_run_without_costs_has_no_section_and_its_figure_names_the_command(reported, tmp_path):
    copy = shutil.copytree(reported, tmp_path / "copy")
    (copy / "cost.csv").unlink()
    with pytest.raises(NothingToPlotError, match=f"{copy} has no cost.csv. Run layerprobe cost {copy} --metric ccc_"):
        draw("cost", [copy])
    with pytest.raises(NothingToPlotError, match=r"has a cost\.csv of ccc_matched\. Run layerprobe cost"):
        draw("cost", [reported], metric="ccc")
    assert cost_section(study(copy)) == Section("Score against cost")
    assert callable(lp.cost)
