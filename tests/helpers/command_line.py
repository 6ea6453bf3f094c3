"""Run the command line in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from typer.testing import CliRunner

from layerprobe.cli.app import app

ROOT = Path(__file__).parents[2]


COMMAND = [sys.executable, "-m", "layerprobe"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments):
    """Return the error message of a command that must exit with code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip()


def script_environment() -> dict[str, str]:
    """Return the environment of a Python process that a test starts, with the project and the helpers on its path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
