"""Commands of the documentation can be typed: their options exist, and none that is required is missing."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from helpers.command_line import ROOT

from layerprobe.cli.app import TRUST_OPTIONS, app
from layerprobe.cli.errors import USAGE_ERROR

PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/codes").glob("LP*.md"), ROOT / "README.md"])
TYPED_WRONGLY = "LP81"  # begins the names of pages on errors in what is typed, which show such commands
LINE = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ )?layerprobe (.+)$", re.MULTILINE)


def commands(text):
    """The lines of a page's code that begin with ``layerprobe``, without those that leave something out by ``…``."""
    if re.match(r"# LP\d{3}: ", text):
        text = text.partition("\n## Example\n")[2]
        text = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    else:
        text = "\n".join(re.findall(r"^```(?:bash|sh)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    return [found for found in LINE.findall(text.replace("\\\n", " ")) if "…" not in found]


def fault(line):
    """What is wrong with the arguments of a command, without running it; empty if nothing is."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="layerprobe")
    arguments = [text for text in shlex.split(line, comments=True) if text not in TRUST_OPTIONS]
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        if arguments[0] not in command.commands:
            return f"{arguments[0]} is no command"
        command = command.commands[arguments.pop(0)]
    if hasattr(command, "commands") or "--help" in arguments:  # or options of the program, such as --version
        return ""
    try:
        command.make_context(line, arguments, parent=context)
    except USAGE_ERROR as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("page", [p for p in PAGES if not p.stem.startswith(TYPED_WRONGLY)], ids=lambda page: page.stem)
def test_commands_of_a_page_can_be_typed(page):
    faults = {line: fault(line) for line in commands(page.read_text(encoding="utf-8"))}
    assert {line: text for line, text in faults.items() if text} == {}


def test_most_pages_have_commands_and_what_can_not_be_typed_is_found():
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 300
    assert fault("extract my.csv --encoder embedded") == "Missing option '--out'."
    assert fault("heatmap runs/first --colour red").startswith("No such option")
    assert fault("heatmaps runs/first") == "heatmaps is no command"
    assert fault("--trust-pickle check-encoder --encoder models/mine") == ""
