"""Names that would lead out of the run folder: utterances, targets, classes and speakers called like paths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from helpers.voices import voice

from layerprobe.probe.data.manifest.schema import Header, Nominal, Target
from layerprobe.probe.data.manifest.write import write_manifest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys
from pathlib import Path

written = []


def note(event, args):
    opens = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if opens or event in ("os.rename", "os.mkdir"):
        if isinstance(args[0], (str, os.PathLike)):
            written.append(os.path.realpath(os.fsdecode(args[1 if event == "os.rename" else 0])))


sys.addaudithook(note)
from typer.testing import CliRunner
from layerprobe.cli.app import app

for arguments in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
print(json.dumps(sorted(set(written))))
"""
NAMES = ("../../outside", "/etc/outside", "..", "a/../../../outside", "C:\\\\outside", "~/outside")


def test_nothing_is_ever_written_outside_the_run_folder(folders, forks, tmp_path):
    rng = np.random.default_rng(0)
    table, corpus = [], tmp_path / "given" / "deep" / "corpus"
    corpus.mkdir(parents=True)
    for i in range(24):
        soundfile.write(corpus / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        table.append(
            {
                "utterance_id": f"{NAMES[i % 6]}{i}",
                "path": f"s{i}.wav",
                "speaker_id": f"{NAMES[i % 6]}",
                "transcript": "../../outside",
                "../../outside": 1 + 6 * rng.random(),
                "/outside": 1 + 6 * rng.random(),
                "../kind": NAMES[i % 2],
            }
        )
    import pandas as pd

    scale = Target(1, 7, "../../outside")
    header = Header(
        "../../outside", "../..", "..", {"../../outside": scale, "/outside": scale}, "..",
        {"../kind": Nominal(NAMES[:2], "..")},
    )  # fmt: skip
    write_manifest(corpus / "my.csv", pd.DataFrame(table), header)
    out = tmp_path / "given" / "deep" / "made"
    cache, run = out / "h.zarr", out / "run"
    commands = [
        ["extract", corpus / "my.csv", "--encoder", folders["hubert"], "--out", cache, "--device", "cpu"],
        ["sweep", cache, corpus / "my.csv", "--out", run, "--folds", 2, "--permutations", 2, "--weighted-sum-seeds", 1,
         "--probe", "logistic", "--jobs", 1],
        *([command, run] for command in ("heatmap", "curves", "layer-weights", "depth", "best-layer", "report")),
        ["manifest", "describe", corpus / "my.csv", "--out", out / "described"],
    ]  # fmt: skip
    text = json.dumps([[str(word) for word in arguments] for arguments in commands])
    done = forks.run(text, code=SCRIPT, folder=out.parent, environment={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads(done.stdout.splitlines()[-1])
    mine = [path for path in written if "outside" in path or path.startswith(str(tmp_path))]
    assert mine
    assert all(Path(path).is_relative_to(out) for path in mine), [p for p in mine if str(out) not in p]
    assert not [path for path in tmp_path.rglob("*outside*")]
    assert {path.name for path in tmp_path.iterdir()} == {"given"}
