"""Commands and lines of Python on the site's pages run as they are written, and print what the page shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.command_line import ROOT, run
from helpers.corpus_trees import iemocap
from helpers.pages import Block, blocks, missing_lines, run_block
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice, write_table

from layerprobe.cli.figures import app as figures_app


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with the demo's layout: thirty utterances of ten speakers, and the user's own table of them."""
    folder, rng, rows = tmp_path_factory.mktemp("pages"), np.random.default_rng(3), []
    corpus = folder / "demo" / "corpus"
    (corpus / "wav").mkdir(parents=True)
    for i in range(30):
        speaker, arousal = i // 3, float(np.clip(1 + 3 * (i % 3) + rng.uniform(-0.3, 0.3), 1, 7))
        soundfile.write(corpus / f"wav/{i}.wav", voice(0.4, pitch=90 + 15 * arousal + speaker, seed=i), 16_000)
        rows.append(
            {"utterance_id": f"u{i}", "path": f"wav/{i}.wav", "speaker_id": f"s{speaker}", "arousal": round(arousal, 4),
             "valence": round(rng.uniform(1.3, 6.6), 4), "gender": ("female", "male")[speaker % 2],
             "session": 1 + speaker // 2}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table.drop(columns=["gender", "session"]).to_csv(corpus / "demo.csv", index=False)
    table.assign(path="demo/corpus/" + table["path"]).to_csv(folder / "my.csv", index=False)
    return folder


@pytest.fixture
def folder(recordings, tmp_path, monkeypatch):
    """The working folder: what a reader has before the page."""
    shutil.copytree(recordings, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


def extract(out, *options):
    assert run("manifest", "init", "my.csv").exit_code == 0
    assert run("extract", "my.csv", "--encoder", "embedded", "--out", out, *options, "--quiet").exit_code == 0


def run_page(name):
    ran = []
    for block in blocks(name):
        if block.note.startswith("not run"):
            continue
        printed = run_block(block)
        assert missing_lines(block, printed) == [], printed
        ran.append(block.language)
    return ran


def test_getting_started(folder):
    ran = run_page("getting-started.md")
    assert ran.count("bash") == 8
    assert ran.count("python") == 3
    assert (folder / "runs/first/report.html").exists()


def test_manifests(folder):
    iemocap(folder)
    extract("caches/embedded.zarr")
    (folder / "my.toml").unlink()
    labels = pd.read_csv("my.csv").rename(columns={"speaker_id": "spk", "arousal": "EmoAct"})
    labels["file"] = labels.pop("path").map(lambda path: Path(path).name)
    labels[["file", "spk", "EmoAct"]].to_csv("labels.csv", index=False)
    shutil.copytree("demo/corpus/wav", "wav")
    assert run_page("manifests.md").count("bash") == 5
    imported = pd.read_csv("my.csv", dtype={"utterance_id": str})  # the last of the page's commands writes it anew
    assert imported["utterance_id"].tolist() == labels["file"].str.removesuffix(".wav").tolist()
    assert imported["arousal"].tolist() == labels["EmoAct"].tolist()
    assert set(pd.read_csv("female.csv")["gender"]) == {"female"}
    female = np.load("runs/female/predictions.npz", allow_pickle=False)
    assert len(female["utterance_id"]) == 15


def test_encoders(folder):
    assert run_page("encoders.md") == ["bash"]


def test_adding_an_architecture(folder):
    assert run("manifest", "init", "my.csv").exit_code == 0
    run_page("adding-an-architecture.md")


def test_caching(folder):
    extract("caches/random.zarr", "--random-init", "0")
    ran = run_page("caching.md")
    assert ran.count("python") == 4
    assert (folder / "layer6.parquet").exists()


@pytest.mark.long
def test_figures_and_report(folder):
    extract("caches/embedded.zarr")
    swept = run("sweep", "caches/embedded.zarr", "my.csv", "--out", "runs/first", "--permutations", "3", "--quiet")
    assert swept.exit_code == 0
    assert run_page("figures-and-report.md") == ["bash"]
    assert "\\toprule" in (folder / "table.tex").read_text(encoding="utf-8")
    assert {path.stem for path in (folder / "runs/first/figures").iterdir()} >= {"heatmap", "curves", "similarity"}


@pytest.mark.long
def test_erasure_time_and_voice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    (tmp_path / "corpus").mkdir()
    for i in range(36):
        speaker, arousal = i // 3, 1 + 2.6 * (i % 3)
        soundfile.write(f"corpus/{i}.wav", voice(1.3, pitch=90 + 15 * arousal + speaker, seed=i), 16_000)
        row = {"utterance_id": f"u{i}", "path": f"{i}.wav", "speaker_id": f"en+{'fm'[speaker % 2]}{speaker}"}
        row |= {"transcript": " ".join(SENTENCES[i % 4].split()[i % 3 :]), "valence": 1 + (7 * i) % 13 / 2}
        rows.append(row | {"arousal": arousal + (i % 7) / 10})
    table = write_table(tmp_path / "corpus", rows, targets=("arousal", "valence"))
    for path in (table, table.with_suffix(".toml")):
        path.rename(path.with_stem("demo"))
    save_text_model("bert", tmp_path / "all-MiniLM-L6-v2")
    for encoder, name in {
        "embedded": "embedded",
        "acoustic": "acoustic",
        "all-MiniLM-L6-v2": "all-MiniLM-L6-v2",
    }.items():
        made = run("extract", "corpus/demo.csv", "--encoder", encoder, "--out", f"caches/{name}.zarr", "--quiet")
        assert made.exit_code == 0, made.output
    ran = run_page("erasure-time-voice.md")
    assert ran.count("bash") == 4
    assert {path.name for path in Path("runs").glob("*/figures/*.png")} >= {"time-map.png", "erasure.png"}


def test_the_page_of_figures_names_every_command():
    text = (ROOT / "docs" / "figures-and-report.md").read_text(encoding="utf-8")
    commands = {command.name or command.callback.__name__ for command in figures_app.registered_commands}
    assert commands >= {"heatmap", "gain", "table", "report"}
    assert [name for name in commands if f"| `{name}` |" not in text] == []


def test_no_code_of_a_page_takes_the_weights_from_the_folder_of_the_package():
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "gallery").glob("*.py"), ROOT / "README.md"]
    from_package = re.compile(r"__(?:file|path)__.*embedded")  # where they lie in a checkout alone
    assert [p.name for p in pages if from_package.search(p.read_text(encoding="utf-8"))] == []


def test_an_output_that_differs_is_found():
    block = Block("bash", "", "", "12 utterances, 3 speakers: valid.\nNext: layerprobe extract\n")
    printed = "384 utterances, 24 speakers: valid.\nNext: layerprobe sweep\n"
    assert missing_lines(block, printed) == ["Next: layerprobe extract"]
