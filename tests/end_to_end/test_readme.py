"""README is short, it links every page, its tables are complete, and what it has people type prints what it shows.

The corpus is a small one here, at the path of README's; ``make release-check`` runs the same lines on the demo's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import soundfile
from helpers.command_line import COMMAND, ROOT, run, script_environment
from helpers.voices import voice, write_table
from release_check import LINK, commands_of, for_index, python_of, report

from layerprobe.probe.data.importers.registry import IMPORTERS, SOURCES
from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS, PYTHON = list(commands_of(README)), python_of(README)
DEMO = COMMANDS[0]  # a minute: the small corpus takes its place here
AS_README_WRITES = {"wav2vec2": "wav2vec 2.0", "wav2vec2-bert": "w2v-BERT 2.0"}


def test_it_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 150
    assert [len(c.shown) for c in COMMANDS] == [1] * 5 + [0, 0, 1, 0, 1]  # the last of when and of through what
    assert DEMO.code == "layerprobe demo --out demo"
    assert len(PYTHON.code.splitlines()) <= 10


def test_it_lists_every_page_for_users():
    of_the_project = {"index.md", "changelog.md", "releasing.md", "tasks.md"}
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name not in of_the_project}
    assert pages - {link[2] for link in LINK.findall(README)} == set()


def test_on_an_index_page_no_link_is_relative():
    for repository in ("https://example.org/us/it", ""):
        page = for_index(README, repository, "v1.0")
        assert LINK.findall(page) == []
        assert page.count(f"{repository}/raw/v1.0/") == (1 if repository else page.count("/raw/v1.0/"))
    assert "data_manifests/demo_heatmap.png" not in for_index(README, "", "v1.0")


def bare(text):
    return re.sub(r"[^a-z0-9|\n]", "", text.lower())


@pytest.mark.parametrize("name", [*ARCHITECTURES, *TEXT_ARCHITECTURES])
def test_its_table_has_every_architecture(name):
    families = [row.split("|")[1] for row in README.splitlines() if row.startswith("| ")]
    assert any(bare(AS_README_WRITES.get(name, name)) in map(bare, family.split(",")) for family in families), name


@pytest.mark.parametrize("name", [*IMPORTERS, *SOURCES])
def test_its_table_has_every_importer(name):
    assert any(row.startswith("|") and f"`{name}`" in row.split("|")[1] for row in README.splitlines())


def test_it_states_the_size_of_the_encoder_in_the_package():
    config = json.loads((ROOT / "probe" / "embedded" / "config.json").read_text())
    layers, width = config["num_hidden_layers"] + 1, config["hidden_size"]
    assert f"| `embedded` | `embedded` | {layers} | {width} |" in README


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """An empty folder, but for a corpus of twenty speakers and its features where the demo would have put its own."""
    folder = tmp_path_factory.mktemp("readme")
    corpus, rows = folder / "demo" / "corpus", []
    corpus.mkdir(parents=True)
    for i in range(40):
        soundfile.write(corpus / f"s{i}.wav", voice(0.9, pitch=80 + 4 * i, seed=i), 16_000)
        row = {"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 20}", "arousal": 1 + i * 6 / 39}
        row |= {"transcript": "so many letters are spoken"[: 8 + 3 * (i % 7)]}
        rows.append(row | {"valence": 1 + (i * 7) % 13 / 2, "dominance": 1 + (i * 5) % 11 / 2})
    table = write_table(corpus, rows, targets=("arousal", "valence", "dominance"))
    for path in (table, table.with_suffix(".toml")):
        path.rename(path.with_stem("demo"))
    acoustic = ("--encoder", "acoustic", "--out", folder / "demo/caches/acoustic.zarr", "--quiet")
    assert run("extract", corpus / "demo.csv", *acoustic).exit_code == 0
    return folder


def printed(folder, *command):
    done = subprocess.run(command, cwd=folder, env=script_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_its_commands_and_its_python_print_what_it_shows(work):
    for example in COMMANDS:
        if example != DEMO:
            report(example, printed(work, *COMMAND, *example.code.split()[1:]))
    report(PYTHON, printed(work, sys.executable, "-c", PYTHON.code))
    assert (work / "heatmap.png").exists()
