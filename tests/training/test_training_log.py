"""Events of a training reach its JSON lines, TensorBoard and trackers once each, however often it was interrupted."""

from __future__ import annotations

import json
import math
import struct
import sys
import warnings
from pathlib import Path

import pytest
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.loop import LoopPlan, run_loop
from layerprobe.probe.training.trackers import TRACKERS
from layerprobe.probe.training.training_log import LOG_LINES, TENSORBOARD, read_events, training_log

STEPS, EVERY = 70, 30  # losses are logged after 20, 40 and 60 steps, evaluations before, after 30, 60 and 70
EXPECTED = [
    ("evaluation", 0), ("train", 20), ("evaluation", 30), ("train", 40), ("train", 60), ("evaluation", 60),
    ("evaluation", 70),
]  # fmt: skip


class Quadratic:
    """A training of one number towards 3, whose losses depend on every step before."""

    def __init__(self):
        self.x = torch.nn.Parameter(torch.zeros(()))
        self.optimiser = torch.optim.AdamW([self.x], lr=0.1)

    def parameters(self):
        return {"x": self.x}

    def steps(self, begin):
        for _ in range(begin, STEPS):
            self.optimiser.zero_grad()
            loss = (self.x - 3) ** 2 + 0.1 * torch.rand(())
            loss.backward()
            self.optimiser.step()
            yield loss.detach()

    def evaluate(self):
        return {"distance": abs(self.x.item() - 3)}

    def note(self, row):
        return ""

    def values(self):
        return {}

    def resume(self, values):
        pass


def train(folder, *, stop_after=None, log_to=None):
    torch.manual_seed(0)
    training = Quadratic()
    state = folder / "partial"
    plan = LoopPlan("train", STEPS, EVERY, state, "cpu", evaluate_first=True, stop_after=stop_after)
    with training_log(folder, log_to=log_to, name="quadratic", settings={"lr": 0.1}) as events:
        return run_loop(training, training.optimiser, plan, events=events)


def lines(folder):
    return [json.loads(line) for line in (folder / LOG_LINES).read_text().splitlines()]


def numbers(folder):
    return [(e.event, e.step, e.values) for e in read_events(folder / LOG_LINES)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_every_event_has_its_line(whole):
    found = lines(whole)
    assert [(line["event"], line["step"]) for line in found] == EXPECTED
    assert {line["format_version"] for line in found} == {1}
    assert "loss" not in found[0]["values"]  # there was none before the first step, and JSON has no NaN
    assert found[1]["values"]["learning_rate"] == 0.1
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)


@pytest.mark.parametrize("stops", [(5,), (45,), (25, 65), (30,), (59, 61)])
def test_an_interrupted_training_has_each_event_once(whole, tmp_path, stops):
    for stop in stops:
        train(tmp_path, stop_after=stop)
    with (tmp_path / LOG_LINES).open("a") as file:
        file.write('{"format_version": 1, "event": "tra')  # as a kill leaves it
    train(tmp_path)
    assert numbers(tmp_path) == numbers(whole)


def tensorboard_scalars(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = accumulator.EventAccumulator(str(folder / TENSORBOARD), purge_orphaned_data=False).Reload()
        return {
            (tag, event.step, round(event.wall_time, 3)): event.value
            for tag in found.Tags()["scalars"]
            for event in found.Scalars(tag)
        }, sum(len(found.Scalars(tag)) for tag in found.Tags()["scalars"])


def test_tensorboard_shows_the_lines_and_nothing_twice(tmp_path):
    for stop in (45, 65, None):
        train(tmp_path, stop_after=stop)
    shown, n = tensorboard_scalars(tmp_path)
    expected = {
        (f"{line['event']}/{name}", line["step"], round(line["time"], 3)): value
        for line in lines(tmp_path)
        for name, value in line["values"].items()
    }
    assert n == len(expected)
    assert shown.keys() == expected.keys()
    assert all(math.isclose(shown[key], expected[key], rel_tol=1e-6) for key in expected)  # float32 there


def test_without_tensorboard_the_lines_are_the_same(whole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(tmp_path)
    assert not (tmp_path / TENSORBOARD).exists()
    assert numbers(tmp_path) == numbers(whole)


def wandb_records(content):
    """Yield the records of an offline file of Weights & Biases: LevelDB's log format after a header of seven bytes."""
    position, parts = 7, []
    while position + 7 <= len(content):
        if 32_768 - position % 32_768 < 7:  # no record begins at the end of a block
            position += 32_768 - position % 32_768
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def wandb_history(folder):
    """Return the steps and values in the offline files of Weights & Biases."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in sorted(Path(folder).glob("wandb/offline-run-*/*.wandb")):
        for content in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                rows.append({("/".join(i.nested_key) or i.key): json.loads(i.value_json) for i in record.history.item})
    return rows


def test_weights_and_biases_gets_each_event_once(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(tmp_path, stop_after=45, log_to="wandb")
        train(tmp_path, log_to="wandb")
    found = [
        (name, row["_step"], value)
        for row in wandb_history(tmp_path)
        for name, value in row.items()
        if name.startswith(("train/", "evaluation/"))
    ]
    expected = [
        (f"{kind}/{name}", step, value) for kind, step, values in numbers(tmp_path) for name, value in values.items()
    ]
    assert sorted(found) == sorted(expected)
    run = json.loads((tmp_path / "tracker-wandb.json").read_text())["run"]
    assert {path.name.rsplit("-", 1)[1] for path in (tmp_path / "wandb").glob("offline-run-*")} == {run}


def test_mlflow_gets_each_event_once(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", minversion="3", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # in maintenance, and the one that needs no database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    from mlflow import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(tmp_path / "run", stop_after=45, log_to="mlflow")
        train(tmp_path / "run", stop_after=65, log_to="mlflow")
        train(tmp_path / "run", log_to="mlflow")
        client = MlflowClient()
        run = json.loads((tmp_path / "run" / "tracker-mlflow.json").read_text())["run"]
        names = client.get_run(run).data.metrics
        found = [(name, m.step, m.value) for name in names for m in client.get_metric_history(run, name)]
        assert (client.get_run(run).info.status, client.get_run(run).data.params["lr"]) == ("FINISHED", "0.1")
    expected = [
        (f"{kind}/{name}", step, value)
        for kind, step, values in numbers(tmp_path / "run")
        for name, value in values.items()
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("fails", ["send", "close"])
def test_a_tracker_that_fails_ends_no_training(whole, tmp_path, monkeypatch, caplog, fails):
    class Unreachable:
        run = "1"

        def __init__(self, *_):
            pass

        def send(self, key, *_, **__):
            if fails == "send" and key == ("train", 40):
                raise ConnectionError("HTTP 503\nat host")

        def close(self, **_):
            if fails == "close":
                raise ConnectionError("HTTP 503\nat host")

    monkeypatch.setitem(TRACKERS, "mlflow", (Unreachable, "mlflow-skinny"))
    monkeypatch.setitem(sys.modules, "mlflow", sys)
    train(tmp_path, log_to="mlflow")
    assert numbers(tmp_path) == numbers(whole)
    (sentence,) = [record.getMessage() for record in caplog.records if record.name.startswith("layerprobe")]
    assert sentence.startswith("--log-to mlflow failed (HTTP 503")
    assert sentence.endswith("log.jsonl has the same numbers.")
    assert "\n" not in sentence


def test_an_unknown_or_missing_tracker_is_refused_before_the_training(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^--log-to comet is unknown; choose one of: wandb, mlflow\. \[LP889\]$"):
        train(tmp_path, log_to="comet")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"^--log-to wandb needs a package .*: pip install 'layerprobe\[wandb\]'\."):
        train(tmp_path, log_to="wandb")


def test_a_tracker_that_is_installed_and_fails_to_import_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text("from json import service")  # as of another version of what it needs
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(InputError, match=r"can't import its package \(.*'service'.*\)\. Update it: pip") as e:
        train(tmp_path / "run", log_to="wandb")
    assert "not installed" not in str(e.value)
