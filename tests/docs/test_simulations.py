"""The simulations of the documentation run, and the pages quote every line that they print."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = sorted((DOCS / "simulations").glob("*.py"))


def pages_with(name: str) -> list[str]:
    """Texts of the pages that plot a script."""
    pages = [page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))]
    return [page for page in pages if f".. plot:: simulations/{name}" in page]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_page_plots_the_simulation_and_quotes_what_it_prints(script, capsys):
    (page,) = pages_with(script.name)
    before = plt.get_fignums()
    try:
        runpy.run_path(str(script), run_name="__main__")
        figures = [n for n in plt.get_fignums() if n not in before]
        assert len(figures) == 1
    finally:
        plt.close("all")
    printed = capsys.readouterr().out.rstrip()
    assert printed
    assert f"```text\n{printed}\n```" in page, f"put the output of {script.name} into the page:\n{printed}"


def test_every_plotted_simulation_exists():
    plotted = {
        name
        for page in DOCS.glob("*.md")
        for name in re.findall(r"\.\. plot:: simulations/(\S+)", page.read_text(encoding="utf-8"))
    }
    assert plotted == {script.name for script in SCRIPTS}
    assert len(SCRIPTS) >= 7
