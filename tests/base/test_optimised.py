"""Guards hold under ``python -O``, which switches every assert off."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from helpers.command_line import ROOT, script_environment

PACKAGES = ("probe", "analysis", "figures", "layerprobe")
GUARDS = {
    "a speaker trains and tests": """
        from layerprobe.probe.splits import Split, assert_disjoint
        assert_disjoint(Split("x", np.array([0, 2]), np.array([1]), np.array([0, 1])), np.array([0, 0, 1]))
    """,
    "a speaker is in two inner folds": """
        from layerprobe.probe.splits import Split, assert_disjoint
        assert_disjoint(Split("x", np.array([0, 1]), np.array([2]), np.array([0, 1])), np.array([0, 0, 1]))
    """,
    "dsytrd of LAPACK failed: info is -4": """
        from layerprobe.probe.solvers.tridiagonal import _check_info
        _check_info(-4, "dsytrd")
    """,
    "a code is no class": """
        from layerprobe.probe.solvers.logistic import nested_logistic
        from layerprobe.probe.splits import fold_splits
        rng, groups = np.random.default_rng(0), np.arange(40) // 4
        splits = fold_splits(groups, n_folds=3, n_inner_folds=2, rng=rng)
        x, codes = rng.normal(size=(40, 3)), np.arange(40) % 3 - 1
        nested_logistic(x, codes, n_classes=2, splits=splits, penalties=(1.0,))
    """,
}


@pytest.mark.parametrize("message", GUARDS)
def test_a_guard_holds_without_asserts(message):
    lines = ["import numpy as np", *(line.strip() for line in GUARDS[message].strip().splitlines())]
    done = subprocess.run(
        [sys.executable, "-O", "-c", "\n".join(lines)], capture_output=True, text=True, env=script_environment()
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(message)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_guard_is_an_assert(package):
    found = [
        f"{path}:{node.lineno}"
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
