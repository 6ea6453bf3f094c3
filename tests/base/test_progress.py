"""How long work reports itself."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from layerprobe.probe.progress import BarProgress, LogProgress, NullProgress, make_progress


def test_lines_come_after_two_seconds_and_every_ten_with_rate_and_time_left():
    now = [0.0]
    out = io.StringIO()
    lines = LogProgress(out, clock=lambda: now[0])
    lines.begin("extract", 100, "utterances")
    for second in range(1, 14):
        now[0] = float(second)
        lines.advance(2, "1 quarantined")
    assert out.getvalue().splitlines() == [
        "extract: 4/100 utterances, 2.0/s, 48 s left, 1 quarantined",
        "extract: 24/100 utterances, 2.0/s, 38 s left, 1 quarantined",
    ]


def test_work_under_two_seconds_prints_nothing():
    out = io.StringIO()
    lines = LogProgress(out, clock=lambda: 0.0)
    lines.begin("quick", 3, "things")
    for _ in range(3):
        lines.advance()
    lines.end()
    assert out.getvalue() == ""


def test_a_bar_shows_count_rate_and_note_once_the_work_is_long(monkeypatch):
    monkeypatch.setattr("layerprobe.probe.progress.SECONDS_BEFORE_SHOWING", -1.0)
    out = io.StringIO()
    bar = BarProgress(Console(file=out, force_terminal=True, width=120))
    bar.begin("extract", 4, "utterances")
    bar.advance(1)
    bar.advance(1, "1 quarantined")
    bar.end()
    assert "2/4 utterances" in out.getvalue()
    assert "1 quarantined" in out.getvalue()


def test_quiet_is_silent_and_no_terminal_means_lines(capsys):
    assert type(make_progress(quiet=True)) is NullProgress
    assert isinstance(make_progress(quiet=False), LogProgress)


@pytest.mark.parametrize(("seconds", "shown"), [(90.4, "1 min 30 s left"), (-1.0, "estimating the time left")])
def test_a_bar_shows_no_zero_seconds_once_the_estimate_has_run_out(seconds, shown):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    bar = BarProgress(console)
    bar.begin("sweep", 4, "steps")
    bar.set_time_left(seconds)
    bar.advance()
    task = bar._bar.tasks[0]
    assert str(bar._bar.columns[3].render(task)) == shown
    bar.end()
