"""The README's example in a notebook: it runs, and its objects are shown as tables, quickly."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
import soundfile
from helpers.command_line import ROOT
from helpers.voices import voice, write_table
from nbclient import NotebookClient
from release_check import python_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, folders):
    """A folder as a user has it: a manifest, audio files, an encoder."""
    folder, rows = tmp_path_factory.mktemp("notebook"), []
    for i in range(20):
        soundfile.write(folder / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i // 2}", "arousal": 1 + i / 4})
    write_table(folder, rows)
    return folder


def test_the_readmes_example_runs_in_a_notebook(corpus, folders):
    example = python_of((ROOT / "README.md").read_text(encoding="utf-8")).code
    example = example.replace('"embedded"', repr(str(folders["hubert"]))).replace("demo/corpus/demo.csv", "my.csv")
    statements = [ast.get_source_segment(example, node) for node in ast.parse(example).body]
    cells = [*statements, "manifest", "cache", "run", "lp.study(run)"]
    timed = "import time; _t = time.process_time(); [x._repr_html_() for x in (manifest, cache, run, lp.study(run))]"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells if c])
    notebook.cells.append(nbformat.v4.new_code_cell(f"{timed}\nprint(time.process_time() - _t)"))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(corpus)}}
    ).execute()
    shown = {cell.source: cell.outputs for cell in notebook.cells}
    for name in ("manifest", "cache", "run", "lp.study(run)"):
        html = "".join(out["data"].get("text/html", "") for out in shown[name] if "data" in out)
        assert "<table" in html, name
        assert "<script" not in html
    figures = [out for out in shown['lp.heatmap(run, out="heatmap.png")'] if "image/png" in out.get("data", {})]
    assert len(figures) == 1
    # processor time, which a busy machine does not lengthen: 0.05 s for all four, so a margin of 20
    assert float(notebook.cells[-1].outputs[-1]["text"]) < 1.0
    assert (Path(corpus) / "runs" / "first" / "scores.parquet").exists()
