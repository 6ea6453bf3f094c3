"""A sweep writes the scores of the ratings first, as a run whose controls and other work are pending."""

from __future__ import annotations

import json
import re
import tomllib

import numpy as np
import pytest
from helpers.checks import objections
from helpers.command_line import run as run_command
from helpers.documented_formats import differences
from helpers.planted import DIM, N, manifest_of, quick, store

from layerprobe.analysis.study import study
from layerprobe.figures.draw import draw
from layerprobe.figures.report.report import write_report
from layerprobe.figures.tables import NothingToPlotError
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import read_predictions, read_run
from layerprobe.probe.sweep.sweep import sweep

LAYERS = ("0", "1", "2")
FILES = ("scores.csv", "scores.parquet", "layer_weights.csv", "predictions.npz", "quarantine.csv")


class Steps(NullProgress):
    """Notes the steps of a sweep and what it logs, and interrupts it after some."""

    def __init__(self, stop_after=None):
        self.steps, self.lines, self.left, self._stop = [], [], [], stop_after

    def advance(self, amount=1.0, note=""):
        self.steps.append(note)
        if len(self.steps) == self._stop:
            raise KeyboardInterrupt

    def set_time_left(self, seconds):
        self.left.append(seconds)

    def log(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A cache with a signal in layer 1, one with random weights, and a manifest."""
    folder, rng = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    x = rng.normal(size=(N, len(LAYERS), DIM))
    manifest = manifest_of(x[:, 1, :2], folder / "my.csv")
    cache = store(folder / "a.zarr", x, layers=LAYERS)
    control = store(folder / "r.zarr", rng.normal(size=x.shape), layers=LAYERS, random_init=0)
    return cache, control, manifest


@pytest.fixture
def swept(planted, monkeypatch):
    """A function that sweeps into a folder, with the passes over a layer as tasks of their own, as in a long sweep."""
    monkeypatch.setattr("layerprobe.probe.sweep.sweep.AT_ONCE", 0.0)
    cache, control, manifest = planted

    def run(out, progress=None, **choices):
        plan = quick(manifest, targets=("arousal",), permutations=3)
        return sweep([cache], manifest, plan, out=out, random_weights=[control], progress=progress, jobs=1, **choices)

    return run


@pytest.fixture
def pending(swept, tmp_path):
    """A run that was interrupted after its first layer of permutations."""
    progress = Steps(stop_after=8)
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "run", progress)
    return tmp_path / "run", progress


def test_the_ratings_of_all_layers_come_first_then_what_is_cheap(swept, tmp_path):
    progress = Steps()
    swept(tmp_path / "run", progress)
    assert progress.steps == [
        *(f"test layer {k}" for k in LAYERS),
        *(f"test, random weights, layer {k}" for k in LAYERS),
        "baselines",
        *(f"test layer {k}, permutations" for k in LAYERS),
        "test weighted sum, uniform mix",
        "test, random weights, weighted sum, uniform mix",
    ]


def test_an_interrupted_sweep_leaves_a_run_that_lists_what_is_pending(pending):
    folder, progress = pending
    run = read_run(folder)
    assert run.pending == (
        "random_init", "baselines", "permuted", "permuted_by_speaker", "weighted_sum", "uniform_mix",
    )  # fmt: skip
    assert set(run.scores["control"]) == {"none"}
    assert set(run.scores["layer"]) == set(LAYERS)
    pooled = run.scores.query("metric == 'ccc_matched' and fold == 'pooled'")
    assert pooled.set_index("layer")["value"].idxmax() == "1"
    assert read_predictions(folder, run.fingerprint).prediction.shape == (N, len(LAYERS))
    stated = f"{folder} has the scores of all layers on the ratings; pending: random_init, "
    assert any(line.startswith(stated) for line in progress.lines)
    plan = tomllib.loads((folder / "plan.toml").read_text())
    assert differences("RUN/plan.toml", list(plan))["undocumented"] == []


def test_its_figures_are_marked_and_its_report_names_what_is_pending(pending):
    folder, _ = pending
    svg = draw("heatmap", [folder])[2]
    assert "controls pending" in svg.read_text()
    (stated,) = [line for line in objections(study([folder])) if "pending" in line]
    assert stated.startswith("The sweep is unfinished; pending: random init, baselines, permuted, ")
    assert "no score can be compared with chance" in stated
    page = write_report(folder).read_text()
    assert "controls pending" in page
    assert "The sweep is unfinished" in page
    answers = page[page.index('class="answer"') :]
    assert not re.search("[✓✗?] <", answers[: answers.index("</tbody>")])  # no mark of what is above chance
    assert "; pending: random_init, baselines, " in repr(read_run(folder))
    names = {finding["name"] for finding in json.loads((folder / "findings.json").read_text())["findings"]}
    assert "chance" not in names


def test_the_same_command_completes_it_with_what_is_saved(pending, swept, tmp_path, monkeypatch):
    folder, _ = pending
    fitted = []
    monkeypatch.setattr(
        "layerprobe.probe.sweep.fits.workers.do_task",
        lambda task, inputs: (fitted.append(task.name), task.work(inputs))[1],
    )
    run = swept(folder)
    assert len(fitted) == 4  # of twelve: two layers' permutations and two groups of mixes
    assert run.pending == read_run(folder).pending == ()
    monkeypatch.undo()
    swept(tmp_path / "once")
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name
    assert "pending" not in draw("heatmap", [folder])[2].read_text()
    assert not (folder / "partial").exists()


def test_a_report_of_the_pending_run_can_be_written_again_in_the_end(pending, swept):
    folder, _ = pending
    write_report(folder)
    similarity = (folder / "similarity.csv").read_bytes()
    swept(folder)
    assert "pending" not in write_report(folder).read_text()
    assert (folder / "similarity.csv").read_bytes() == similarity


@pytest.mark.parametrize(
    ("figure", "lacking"), [("layer-weights", "weighted_sum"), ("gain-over-random", "random_init")]
)
def test_a_figure_of_what_is_pending_is_refused_with_that_reason(pending, figure, lacking):
    folder, _ = pending
    with pytest.raises(NothingToPlotError, match=f"run has no {lacking} yet: its sweep is unfinished"):
        draw(figure, [folder])


def test_a_comparison_names_the_regressors_that_are_pending(pending):
    folder, _ = pending
    done = run_command("compare", folder)
    assert done.exit_code == 0, done.output
    stated = f"{folder} has no random_init, baselines, permuted, permuted_by_speaker, weighted_sum, uniform_mix yet: "
    assert stated in done.stderr


def test_a_reader_of_the_pending_run_learns_that_it_was_replaced(pending, swept):
    folder, _ = pending
    before = read_run(folder)
    after = swept(folder)
    assert before.fingerprint != after.fingerprint
    with pytest.raises(InputError, match=f"was replaced by another run .{after.fingerprint}, not {before.fingerprint}"):
        read_predictions(folder, before.fingerprint)


def test_a_complete_run_is_never_replaced_by_a_part_of_itself(swept, tmp_path):
    whole = swept(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "run", Steps(stop_after=8))
    assert read_run(tmp_path / "run").fingerprint == whole.fingerprint
    assert read_run(tmp_path / "run").pending == ()


def test_a_pending_run_is_another_run_for_other_settings(pending, planted, monkeypatch):
    folder, _ = pending
    cache, _, manifest = planted
    with pytest.raises(InputError, match=r"holds another run .*: sweep.seed is 0 there, 1 here"):
        sweep([cache], manifest, quick(manifest, targets=("arousal",), permutations=3, seed=1), out=folder)


def test_a_sweep_of_seconds_has_no_pending_run(planted, tmp_path):
    cache, _, manifest = planted
    with pytest.raises(KeyboardInterrupt):
        sweep([cache], manifest, quick(manifest), out=tmp_path / "run", progress=Steps(stop_after=3), jobs=1)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "partial"]
