"""What an import loads, and how long files are."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import layerprobe

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("layerprobe.analysis.findings.records", ("torch", "zarr")),
        ("layerprobe.cli.app", ("torch",)),
        ("layerprobe", ("torch", "numpy", "pandas")),
    ],
)
def test_heavy_libraries_are_not_loaded(module, banned):
    code = f"import sys, {module}; print([b for b in {banned} if b in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_no_file_is_a_surprise():
    lengths = {
        p: len(p.read_text().splitlines())
        for p in ROOT.glob("**/*.py")
        if not any(part.startswith(".venv") for part in p.parts)
    }
    assert {str(p): n for p, n in lengths.items() if n > 350} == {}


def test_the_public_interface_is_what_it_names():
    assert set(layerprobe.__all__) == {*layerprobe._MODULE_OF, "__version__", "metrics"}
    for name in layerprobe.__all__:
        assert getattr(layerprobe, name) is not None
        assert name in dir(layerprobe)
    assert layerprobe.metrics.ccc is import_module("layerprobe.probe.metrics").ccc
    with pytest.raises(AttributeError, match=r"^module 'layerprobe' has no attribute 'no_such'$"):
        layerprobe.no_such  # noqa: B018
