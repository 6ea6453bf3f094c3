"""Time and memory of the import of 100,000 recordings, compared with one walk over the folder."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAD = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
SPLITS = ("Train", "Train", "Train", "Development", "Test1", "Test2")


def make_tree(root: Path, n: int, raters: int) -> Path:
    """An MSP-Podcast of ``n`` empty files, in which each was rated by so many."""
    folder = root / "MSP-PODCAST-1.11"
    (folder / "Audios").mkdir(parents=True)
    (folder / "Labels").mkdir()
    with (
        (folder / "Labels" / "labels_consensus.csv").open("w") as labels,
        (folder / "Labels" / "labels.txt").open("w") as detailed,
    ):
        labels.write(HEAD + "\n")
        for k in range(n):
            name = f"MSP-PODCAST_{k // 1000:04d}_{k % 1000:04d}.wav"
            (folder / "Audios" / name).touch()
            labels.write(f"{name},N,{2 + k % 5},4.0,{3 + k % 3},{k % 2000},Male,{SPLITS[k % 6]}\n")
            detailed.write(f"{name}; N; A:2.0; V:4.0; D:3.0;\n")
            for r in range(raters):
                detailed.write(f"WORKER{(k + 37 * r) % 9000:08d}; Neutral; Neutral; A:{1 + r % 7}.0; V:4.0; D:3.0;\n")
            detailed.write("\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--raters", type=int, default=5)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        from layerprobe.probe.data.importers.base import write_imported
        from layerprobe.probe.data.importers.registry import import_corpus

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        imported = import_corpus("msp-podcast", options.child)
        write_imported(imported, options.child.parent / "my.csv")
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{len(imported.table)} recordings: {seconds:.1f} s, memory rose by {(after - before) / 1024:.0f} MiB")
        return
    with tempfile.TemporaryDirectory() as root:
        for n in (options.n // 4, options.n):
            folder = make_tree(Path(root) / str(n), n, options.raters)
            began = time.perf_counter()
            walked = sum(len(files) for _, _, files in os.walk(folder))
            print(f"a walk over {walked} files: {time.perf_counter() - began:.2f} s", flush=True)
            subprocess.run([sys.executable, __file__, "--child", str(folder)], check=True)


if __name__ == "__main__":
    main()
