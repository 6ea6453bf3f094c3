"""Run the command line in this process."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from typer.testing import CliRunner

from layerprobe.cli.app import app

ROOT = Path(__file__).parents[2]


COMMAND = [sys.executable, "-m", "layerprobe"]
EXPLANATION = re.compile(r"layerprobe explain (LP\d{3}) states the cause and what to do\.")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments):
    """Return the error message of a command that must exit with code 2 and name the page that explains it."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    *lines, last = result.stderr.strip().splitlines()
    code = EXPLANATION.fullmatch(last)
    assert code, last
    assert code[1] in "\n".join(lines)
    return "\n".join(lines)


def refused_without_code(*arguments):
    """Return what `refused` does without the code of the error."""
    return re.sub(r" \[LP\d{3}\]$", "", refused(*arguments))


def script_environment() -> dict[str, str]:
    """Return the environment of a Python process that a test starts, with the project and the helpers on its path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
