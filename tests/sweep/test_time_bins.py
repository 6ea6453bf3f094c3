"""Bins of time: edges, names, centres, labels, and options that exclude each other."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.sweep.data.in_time import TimeOptions, time_choice
from layerprobe.probe.time.bins import BinPlan, divide, plan_bins, read_label_classes


def spans_of(starts, ends, labels=None, duration=4.0):
    n = len(starts)
    labels = [""] * n if labels is None else labels
    names = np.array(["u"] * n, dtype=object), np.array(labels, dtype=object)
    durations = np.full(n, duration) if np.isscalar(duration) else np.asarray(duration, dtype=float)
    return Spans(names[0], np.asarray(starts, dtype=float), np.asarray(ends, dtype=float), names[1], durations)


def test_a_centre_belongs_to_the_bin_whose_lower_edge_it_reaches():
    # centres .1, .4, 1.2 (= .3 of 4 s, an edge of tenths that .3 * 10 misses by rounding), 3.9, and the end itself
    spans = spans_of([0.0, 0.3, 1.1, 3.8, 4.0], [0.2, 0.5, 1.3, 4.0, 4.0])
    found = divide(spans, plan_bins("position"))
    assert found.of_span.tolist() == [0, 1, 3, 9, 9]
    assert [one.name for one in found.bins][:4] == ["0.00–0.10", "0.10–0.20", "0.20–0.30", "0.30–0.40"]
    assert (found.bins[3].low, found.bins[3].high) == (0.3, 0.4)


def test_onsets_are_seconds_and_have_as_many_bins_as_the_last_span_needs():
    found = divide(spans_of([0.0, 0.6, 2.0], [1.0, 0.9, 3.0]), plan_bins("onset", bin_width=0.5))
    assert found.of_span.tolist() == [1, 1, 5]
    assert [one.name for one in found.bins] == ["0.0–0.5", "0.5–1.0", "1.0–1.5", "1.5–2.0", "2.0–2.5", "2.5–3.0"]


def test_names_of_narrow_bins_differ():
    for plan in (plan_bins("position", bins=100), plan_bins("onset", bin_width=0.125)):
        names = [one.name for one in divide(spans_of([0.0, 3.9], [0.1, 4.0]), plan).bins]
        assert len(set(names)) == len(names)


def test_labels_are_bins_by_falling_number_and_case_does_not_count():
    spans = spans_of([0] * 6, [1] * 6, ["b", "a", "B ", "", "c", "a"])
    found = divide(spans, plan_bins("label"))
    assert [one.name for one in found.bins] == ["a", "b", "c"]
    assert found.of_span.tolist() == [1, 0, 1, -1, 2, 0]


def test_classes_of_labels_are_bins_and_other_labels_are_in_none(tmp_path):
    (tmp_path / "classes.csv").write_text("label,class\nHappy,emotional\nawful,emotional\nthe,function\n")
    plan = plan_bins("label", classes=read_label_classes(tmp_path / "classes.csv"))
    found = divide(spans_of([0] * 4, [1] * 4, ["the", "happy", "cat", "AWFUL"]), plan)
    assert [one.name for one in found.bins] == ["emotional", "function"]
    assert found.of_span.tolist() == [1, 0, -1, 0]
    assert BinPlan.from_toml(plan.to_toml()) == plan


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("time", {}, "--by time is unknown; choose from position, onset, label. [LP574]"),
        ("onset", {"bins": 3}, "--bins goes with --by position, not with --by onset. Leave it out. [LP574]"),
        ("position", {"bins": 0}, "--bins 0 is outside 2 to 100. Choose a number in this range. [LP574]"),
        ("position", {"bins": 1}, "--bins 1 is outside 2 to 100. Choose a number in this range. [LP574]"),
        (
            "onset",
            {"bin_width": 1e-5},
            "--bin-width 1e-05 is no number of seconds of 0.01 or more. Choose one such as 0.5. [LP574]",
        ),
        (
            "onset",
            {"bin_width": 0.0},
            "--bin-width 0.0 is no number of seconds of 0.01 or more. Choose one such as 0.5. [LP574]",
        ),
    ],
)
def test_a_choice_that_can_not_be_is_refused(kind, options, message):
    with pytest.raises(InputError) as error:
        plan_bins(kind, **options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TimeOptions(by="onset", spans="x.csv"), "--by and --spans exclude each other"),
        (TimeOptions(by="onset", lag=1.0), "--lag goes with --spans"),
        (TimeOptions(bins=3), "--bins goes with --by position. Add it"),
        (TimeOptions(lag=1.0), "--lag goes with --spans, which has ratings of spans. Add it, or leave it out"),
    ],
)
def test_options_of_time_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        time_choice(options, None)


def test_a_recorded_choice_is_taken_again_and_options_replace_parts_of_it():
    recorded = plan_bins("position", bins=4).to_toml()
    assert time_choice(TimeOptions(), None, recorded) == plan_bins("position", bins=4)
    assert time_choice(TimeOptions(bins=6), None, recorded) == plan_bins("position", bins=6)
    assert time_choice(TimeOptions(by="onset"), None, recorded) == plan_bins("onset")
    assert time_choice(TimeOptions(), None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label\na\n", "has no column class"),
        ("label,class\na,\n", "row 2: the class is empty"),
        ("label,class\na,b\nA,c\n", "row 3: a has the classes b and c"),
    ],
)
def test_a_table_of_classes_with_a_fault_is_refused(text, message, tmp_path):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_label_classes(tmp_path / "c.csv")
