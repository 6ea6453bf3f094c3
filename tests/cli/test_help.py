"""The help of every command: panels, an example, and sentences that stand alone."""

from __future__ import annotations

import re

import pytest
from helpers.command_line import run
from typer.main import get_command

from layerprobe.cli.app import app
from layerprobe.cli.help import ALIASES, PANELS
from layerprobe.probe.version import layerprobe_version

WIDTH = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
TOP = get_command(app)


def walk(command, *names):
    """Every command of the program by what is typed for it."""
    if not hasattr(command, "commands"):
        return {" ".join(names): command}
    return {typed: c for name, below in command.commands.items() for typed, c in walk(below, *names, name).items()}


COMMANDS = walk(TOP)


def is_sentence(text):
    return len(text.split()) >= 3 and text[0].isupper() and text.endswith(".")


@pytest.mark.parametrize("typed", COMMANDS)
def test_every_command_and_option_explains_itself(typed):
    command = COMMANDS[typed]
    assert is_sentence(command.help), command.help
    named = ALIASES.get(typed, typed)
    assert re.match(rf"Example: layerprobe {named} ", command.epilog + " ")
    for parameter in command.params:
        assert is_sentence(parameter.help or ""), f"{typed}: {parameter.name}: {parameter.help}"
        assert not re.search(r"\b(likewise|the same of|if none|of them)\b", parameter.help.lower()), parameter.name
        assert not parameter.secondary_opts, f"{typed}: {parameter.name} has a negative form"


@pytest.mark.parametrize("typed", ["", "manifest", "cache", *COMMANDS])
def test_help_fits_80_columns_and_shows_flags_without_a_type(typed, monkeypatch):
    for name, value in WIDTH.items():
        monkeypatch.setenv(name, value)
    result = run(*typed.split(), "--help")
    assert result.exit_code == 0, result.output
    assert "--help" in result.stdout
    assert "<bool>" not in result.stdout
    assert "BOOLEAN" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    cut = re.findall(r"│ [^│]*…\s+│", result.stdout)
    assert not [line for line in cut if "s3://" not in line], "a column is too narrow for its option"


def test_every_command_is_in_one_panel_and_panels_keep_their_order():
    listed = [name for names in PANELS.values() for name in names]
    assert sorted([*listed, *ALIASES]) == sorted(TOP.commands)
    shown = run("--help").stdout
    titles = re.findall(r"─ (\w+) ─", shown)
    assert titles == ["Options", *PANELS]
    commands = re.findall(r"^│ ([a-z][a-z-]+) ", shown, flags=re.MULTILINE)
    assert commands == listed


def test_an_american_spelling_runs_the_same_command_and_is_not_listed():
    for alias, name in ALIASES.items():
        assert [p.opts for p in TOP.commands[alias].params] == [p.opts for p in TOP.commands[name].params]
        assert TOP.commands[alias].hidden
        shown = run(alias, "--help")
        assert shown.exit_code == 0
        assert f"layerprobe {name} " in " ".join(shown.stdout.split())  # its example
        assert alias not in run("--help").stdout


def test_the_version_is_printed():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"layerprobe {layerprobe_version()}\n")
