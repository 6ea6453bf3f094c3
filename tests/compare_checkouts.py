"""Run the same work in two checkouts and compare, byte by byte, every number and table that it leaves behind.

``python tests/compare_checkouts.py ../before . --work /somewhere``; each checkout has its environment (``make env``).
The work is the demo and, where there is real speech (LAYERPROBE_REAL_DATA), a run on it. Compared are caches, scores,
weights, predictions, findings and the tables behind figures; paths of the work folder and the version that made
a file are left out. Exits with 1 if anything differs or is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.measured_targets import LIBRISPEECH, WHISPER, write_measured_manifest

MADE_BY = re.compile(r'^(layerprobe_version|command) = .*\n|"layerprobe_version": "[^"]*",?', re.MULTILINE)
TABLES = {".csv", ".json", ".toml", ".jsonl"}
N_UTTERANCES = 60  # of real speech
SLEEPING = os.environ | {
    "OMP_WAIT_POLICY": "passive"
}  # on a busy machine threads that spin take minutes; no bit changes


def work(checkout: Path, folder: Path, manifest: Path | None) -> None:
    """Run the demo, and on real speech an extraction, a sweep with all its options, and the figures."""
    command = checkout / ".venv" / "bin" / "layerprobe"

    def run(*arguments: object) -> None:
        print(checkout.name, *arguments, flush=True)
        subprocess.run([command, *map(str, arguments), "--quiet"], check=True, cwd=folder, env=SLEEPING)

    folder.mkdir(parents=True)
    run("demo", "--out", "demo")
    for figure in ("curves", "layer-weights", "depth", "best-layer", "gain-over-random", "similarity"):
        run(figure, "demo/runs/first")
    if manifest is None:
        return
    run("extract", manifest, "--encoder", WHISPER, "--precision", "float32", "--out", "whisper.zarr")
    run("extract", manifest, "--encoder", "acoustic", "--out", "acoustic.zarr")
    options = ("--layer-mixes", "all", "--weighted-sum-seeds", 2, "--probe", "mlp", "--probe", "mdl")
    run("sweep", "whisper.zarr", "acoustic.zarr", manifest, "--permutations", 19, *options, "--out", "runs/real")
    run("report", "runs/real")


def content(file: Path, root: Path) -> object:
    """What of a file is compared: arrays by name, texts without the folder that they lie in, anything else as bytes."""
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: (str(arrays[name].dtype), arrays[name].shape, arrays[name].tobytes()) for name in arrays}
    if file.suffix in TABLES and "c" not in file.parts:
        text = MADE_BY.sub("", file.read_text(encoding="utf-8").replace(str(root), "FOLDER"))
        return json.loads(text) if file.suffix == ".json" else text
    return file.read_bytes()


def compared_files(root: Path) -> list[Path]:
    """Relative paths of caches' chunks, tables and predictions; figures and pages are judged by their tables."""
    files = [f.relative_to(root) for f in root.rglob("*") if f.is_file()]
    chunks = [f for f in files if ".zarr" in str(f) and ("c" in f.parts or f.name == "zarr.json")]
    tables = [f for f in files if ".zarr" not in str(f) and f.suffix in TABLES | {".npz", ".wav"}]
    return sorted([*chunks, *tables])


def differences(old: Path, new: Path) -> list[str]:
    """One line for each file that is missing on one side or differs."""
    ours, theirs = set(compared_files(new)), set(compared_files(old))
    lines = [f"only in {side}: {f}" for side, names in (("old", theirs - ours), ("new", ours - theirs)) for f in names]
    lines += [f"differs: {f}" for f in ours & theirs if content(old / f, old) != content(new / f, new)]
    return sorted(lines)


def main() -> int:
    """Do the work twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for what both make")
    parser.add_argument("--again", action="store_true", help="keep what --work has of the old checkout")
    options = parser.parse_args()
    root = options.work.resolve()
    root.mkdir(parents=True, exist_ok=True)
    manifest = root / "real.csv"
    if LIBRISPEECH.exists() and WHISPER.exists():
        if not manifest.exists():
            write_measured_manifest(manifest, n_utterances=N_UTTERANCES)
    else:
        print(f"no real speech at {LIBRISPEECH}: the demo alone is compared")
    real = manifest if manifest.exists() else None
    if not (options.again and (root / "old").exists()):
        work(options.old.resolve(), root / "old", real)
    work(options.new.resolve(), root / "new", real)
    found = differences(root / "old", root / "new")
    print("\n".join(found) or f"all {len(compared_files(root / 'new'))} files are the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
