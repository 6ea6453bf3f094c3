"""Ratings over time: a line at the middle of windows, a band between their bounds, gaps where nothing is rated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable
from matplotlib.figure import Figure

from layerprobe.figures.plots.trace import plot_trace, trace_figure
from layerprobe.figures.traces import write_traces
from layerprobe.probe.prediction.predict import Prediction


def trace(targets: list[str], n: int, *, hop: float = 1.0, window: float = 5.0) -> pd.DataFrame:
    rng, starts = np.random.default_rng(0), np.arange(n) * hop
    table = pd.DataFrame({"utterance_id": "a/talk.wav", "start": starts, "end": starts + window, "reason": ""})
    for target in targets:
        value = 4 + rng.normal(size=n)
        table = table.assign(**{target: value, f"{target}_low": value - 1, f"{target}_high": value + 1.5})
    return table


def without(table: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    table = table.copy()
    table.loc[rows, [c for c in table if c.startswith("arousal")]] = np.nan
    table.loc[rows, "reason"] = "silent"
    return table


def test_the_line_is_at_the_middle_of_windows_and_the_band_between_the_bounds() -> None:
    rows = without(trace(["arousal"], 6, hop=2.0), [2, 4])
    ax = plot_trace(rows, Figure().add_subplot(), target="arousal", colour="blue")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), rows["start"] + 2.5)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), rows["arousal"])  # NaN where nothing is rated: a gap
    band = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    assert set(np.round(band[:, 0], 6)) == {2.5, 4.5, 8.5, 12.5}
    first = band[band[:, 0] < 5, 1]
    assert first.min() == pytest.approx(rows["arousal_low"][:2].min())
    assert first.max() == pytest.approx(rows["arousal_high"][:2].max())
    alone = [3, 5]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rows["arousal"][alone])
    bars = [segment.tolist() for segment in ax.collections[1].get_segments()]
    assert bars == [[[2.5 + 2 * k, rows["arousal_low"][k]], [2.5 + 2 * k, rows["arousal_high"][k]]] for k in alone]


@pytest.mark.parametrize(
    ("seconds", "unit", "label"), [(60, "s", "40"), (600, "min:s", "2:00"), (7_200, "h:min", "0:30")]
)
def test_the_axis_counts_in_a_unit_that_fits_the_length(seconds: int, unit: str, label: str) -> None:
    figure = trace_figure(trace(["arousal", "valence"], seconds // 5, hop=5.0), ["arousal", "valence"], level=0.9)
    assert [ax.get_xlabel() for ax in figure.axes] == ["", f"time ({unit})"]
    assert label in {text.get_text() for text in figure.axes[-1].get_xticklabels()}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["90 % prediction interval"]


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("targets", [TARGETS[0], TARGETS[2]])
def test_no_text_lies_over_another(width: float | None, targets: list[str]) -> None:
    name = "sessions/2026-11/a-recording-with-a-long-name-of-its-own.flac"
    assert_readable(trace_figure(trace(targets, 30), targets, level=0.9, title=name, width=width), width)


def test_a_recording_without_any_rating_has_no_figure(tmp_path: Path) -> None:
    other = without(trace(["arousal"], 3), [0, 1, 2]).assign(utterance_id="b.wav")
    again = trace(["arousal"], 1).assign(utterance_id="a-talk.wav")
    table = pd.concat([trace(["arousal"], 3), other, again])
    found = Prediction(table, ("arousal",), 0.9, "0123456789ab", 3, 0)
    written = write_traces(found, tmp_path / "t.svg")
    assert written == [tmp_path / "t-a-talk.wav.svg", tmp_path / "t-a-talk.wav-2.svg"]
    long = [f"https://example.org/{'ü' * 300}/{k}.wav" for k in range(2)]
    table = pd.concat([trace(["arousal"], 3).assign(utterance_id=name) for name in long])
    cut = write_traces(Prediction(table, ("arousal",), 0.9, "0123456789ab", 2, 0), tmp_path / "t.svg")
    assert len({file.name for file in cut if file.is_file()}) == 2
    assert all(b"<svg" in file.read_bytes() for file in written)
