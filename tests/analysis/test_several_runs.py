"""Runs side by side of which one alone has bins of time, or erased other concepts: nothing of a later run is lost."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from helpers.timed_run import LAYERS, NAMES

from layerprobe.analysis.study import study
from layerprobe.figures.time_tables import time_bins, time_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions, read_run, write_run


def part_of(folder, out, chosen, *, time=None):
    """Write the rows of a run that are chosen by a function of their keys, with another table ``[time]``."""
    run, kept = read_run(folder), read_predictions(folder)
    own = chosen(kept.columns).to_numpy()
    columns = kept.columns[own].reset_index(drop=True)
    predictions = replace(kept, columns=columns, prediction=kept.prediction[:, own], matched=kept.matched[:, own])
    plan = {name: table for name, table in run.plan.items() if name != "time"} | (
        {} if time is None else {"time": time}
    )
    scores = run.scores[chosen(run.scores)].reset_index(drop=True)
    write_run(replace(run, path=out, scores=scores, plan=plan), predictions)
    return out


def without_bins(folder, out):
    return part_of(folder, out, lambda rows: rows["bin"] == "")


def without_others(folder, out, concept):
    """Write what a run has without one concept, as it is, and without as many random directions."""
    return part_of(folder, out, lambda rows: rows["erased"].str.split(" of ").str[-1].isin(["", concept]))


def test_bins_of_a_later_run_are_shown(timed, tmp_path):
    alone = study(timed)
    plain = without_bins(timed, tmp_path / "plain")
    for paths in ([plain, timed], [timed, plain]):
        both = study(paths)
        (name,) = set(both.time_map["encoder"])
        pd.testing.assert_frame_equal(both.time_map.assign(encoder=alone.time_map["encoder"][0]), alone.time_map)
        assert (name in alone.layers) == (paths[0] == timed)
        assert time_bins(both).names == NAMES
        assert len(time_table(both)) == 2 * len(LAYERS) * len(NAMES)
        assert len(both.time_peak) == 2 * len(LAYERS)


def test_runs_with_other_bins_are_not_shown_side_by_side(timed, tmp_path):
    table = read_run(timed).plan["time"]
    one, other = (
        part_of(timed, tmp_path / name, lambda rows: rows["bin"] == rows["bin"], time={**table, "fingerprint": name})
        for name in ("one", "other")
    )
    plain = without_bins(timed, tmp_path / "plain")
    for paths in ([one, other], [plain, one, other]):
        with pytest.raises(InputError, match=r"other and .*one differ in their time, .* \[LP613\]"):
            study(paths)
    assert len(study([plain, other]).time_map)


def test_a_concept_that_a_later_run_alone_erased_is_scored_by_itself_too(without_concepts, tmp_path):
    alone = study(without_concepts).erasure.set_index(["target", "concept"])["concept_alone"]
    duration = without_others(without_concepts, tmp_path / "duration", "duration")
    gender = without_others(without_concepts, tmp_path / "gender", "gender")
    both = study([duration, gender, without_concepts])
    found = both.erasure.set_index(["target", "concept"])["concept_alone"]
    assert found.notna().all()
    assert found.groupby(level=[0, 1]).nunique().eq(1).all()
    assert found.groupby(level=[0, 1]).first().to_dict() == alone.groupby(level=[0, 1]).first().to_dict()
    columns = both.erased.predictions.columns
    of_concept = columns[columns["baseline"] == "concept_only"]
    assert not of_concept.duplicated(["target", "erased"]).any()
