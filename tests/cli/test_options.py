"""Options of dataclasses on the command line: defaults are the dataclass's, and what is typed arrives there."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import typer
from helpers.command_line import run
from helpers.voices import write_table
from typer.main import get_command
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.cli.options import Output, user_command
from layerprobe.probe.data.inputs import TRANSCRIPT
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.settings import DistilOptions, PretrainOptions
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.training.options import option, read_options

TRAIN = (EncoderOptions, HeadOptions, OptimiserOptions)
ALL = [*(("train", kind) for kind in TRAIN), ("distil", DistilOptions), ("pretrain", PretrainOptions)]


@pytest.mark.parametrize(("command", "kind"), ALL)
def test_each_field_is_an_option_with_the_fields_default_range_and_help(command, kind):
    shown = {p.name: p for p in get_command(app).commands[command].params}
    for field in fields(kind):
        parameter, described = shown[field.name], read_options(kind)[field.name]
        assert parameter.opts == [f"--{(described.name or field.name).replace('_', '-')}"]
        assert parameter.required == (field.default is MISSING)
        if field.default is not MISSING:
            # typer shows no default of a flag or a repeated option
            assert (parameter.default or False) == (field.default or False)
        assert (parameter.help, parameter.min, parameter.max) == (described.help, described.low, described.high)


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "a.wav").touch()
    return write_table(tmp_path, [{"utterance_id": "a", "path": "a.wav", "speaker_id": "s", "arousal": 1.0}])


@pytest.fixture
def planned(monkeypatch):
    """What `plan_training` was called with; it stops there."""
    got = {}

    def stop(manifest, **given):
        got.update(given)
        raise InputError("LP000", "enough")

    monkeypatch.setattr("layerprobe.probe.regressor.plan.plan_training", stop)
    return got


def test_without_options_a_training_has_the_defaults_of_the_dataclasses(manifest, planned, tmp_path):
    assert "enough" in run("train", manifest, "--out", tmp_path / "r").output
    assert (planned["encoders"], planned["head"], planned["optimiser"]) == tuple(kind() for kind in TRAIN)
    assert planned["encoders"].text_column == TRANSCRIPT


def other(field, described, kind):
    """Return a value that is not the default, and the arguments that set it."""
    flag = f"--{(described.name or field.name).replace('_', '-')}"
    if kind is bool:
        return True, [flag]
    if kind == tuple[float, ...]:
        return (0.25, 4.0), [flag, 0.25, flag, 4.0]
    if kind == tuple[str, ...]:
        return ("b", "a"), [flag, "b", flag, "a"]
    if kind in (int, int | None):
        value = int(described.low or 0) + 41
        return value, [flag, value]
    if kind is float:
        value = 0.125 if described.high is not None else 7.5
        return value, [flag, value]
    return f"my {field.name}", [flag, f"my {field.name}"]


def test_every_option_of_a_training_arrives_in_its_own_field(manifest, planned, tmp_path):
    expected, arguments = {}, []
    for kind in TRAIN:
        hints, values = get_type_hints(kind), {}
        for field in fields(kind):
            values[field.name], typed = other(field, read_options(kind)[field.name], hints[field.name])
            assert values[field.name] != field.default
            arguments += typed
        expected[kind] = kind(**values)
    assert "enough" in run("train", manifest, "--out", tmp_path / "r", *arguments).output
    assert [planned["encoders"], planned["head"], planned["optimiser"]] == [expected[kind] for kind in TRAIN]


@pytest.mark.parametrize(("arguments", "least"), [(("--batch-size", 1), "2"), (("--dropout", 0.99), "0.95")])
def test_a_number_out_of_its_range_is_refused(manifest, planned, tmp_path, arguments, least):
    result = run("train", manifest, "--out", tmp_path / "r", *arguments)
    assert (result.exit_code, planned) == (2, {})
    assert least in result.output


@dataclass(frozen=True)
class Choices:
    """As a stage would have them."""

    layers: tuple[int, ...] = option((), name="layer", help="Layers to take.")
    folder: Path | None = option(None, help="Folder to write to.")


def test_a_command_takes_dataclasses_and_an_output_and_gets_quiet_and_debug():
    own, got = typer.Typer(), SimpleNamespace()

    @own.command()
    @user_command
    def choose(name: str, choices: Choices, *, output: Output) -> None:
        """Choose some layers."""
        got.name, got.choices = name, choices
        output.print(f"chosen by {name}")
        if name == "none":
            raise InputError("LP123", "no one chooses")

    loud = CliRunner().invoke(own, ["me", "--layer", "3", "--layer", "1", "--folder", "x"])
    assert (loud.exit_code, loud.stdout) == (0, "chosen by me\n")
    assert (got.name, got.choices) == ("me", Choices(layers=(3, 1), folder=Path("x")))
    assert CliRunner().invoke(own, ["me", "--quiet"]).stdout == ""
    assert got.choices == Choices()
    refused = CliRunner().invoke(own, ["none"])
    assert (refused.exit_code, refused.stderr) == (
        2,
        "Error: no one chooses [LP123]\nlayerprobe explain LP123 states the cause and what to do.\n",
    )
    assert isinstance(CliRunner().invoke(own, ["none", "--debug"]).exception, InputError)
