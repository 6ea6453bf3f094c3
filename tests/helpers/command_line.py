"""The command line, run in this process, and what it refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from typer.testing import CliRunner

from layerprobe.cli.app import app

ROOT = Path(__file__).parents[2]


COMMAND = [sys.executable, "-m", "layerprobe"]


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def refused(*words):
    """The one sentence of a command that exits with 2."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip()


def script_environment() -> dict[str, str]:
    """The environment of a Python process that a test starts: it finds the project and the tests' helpers."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
