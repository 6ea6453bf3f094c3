"""What an import loads, and how long files are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("module", "banned"),
    [("layerprobe.analysis.findings.records", ("torch", "zarr")), ("layerprobe.cli.app", ("torch",))],
)
def test_heavy_libraries_are_not_loaded(module, banned):
    code = f"import sys, {module}; print([b for b in {banned} if b in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_no_file_is_a_surprise():
    lengths = {p: len(p.read_text().splitlines()) for p in ROOT.glob("**/*.py") if ".venv" not in p.parts}
    assert {str(p): n for p, n in lengths.items() if n > 350} == {}
