"""How much longer a sweep, an extraction and a pre-training take where other processes want the same cores.

The competitors, two for each core, multiply matrices of their own until they are ended, also after an error or Ctrl-C.
With four of them on two cores, the two processes of a sweep get a third of the machine, so 3 times the quiet time is
what a fair scheduler gives. Threads that hold a core while they wait for each other would need more. CPU seconds show
the difference: work takes about the same number of them in company (caches and memory are contended for), waiting more.

--demo times ``layerprobe demo`` the same way, once each, instead of its parts.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from helpers.voices import voice, write_table

from layerprobe.probe.system import PASSIVE_WAITING, THREADS_OF_BLAS, cores

LIMIT = 3.0  # times the quiet time
NEVER = 10.0
N_SPEAKERS, N_EACH, SECONDS = 10, 8, 3.0  # of the recordings
TARGETS = ("arousal", "valence", "dominance")
COMPETITOR = "import numpy as np; a = np.random.default_rng(0).normal(size=(256, 256))\nwhile True: a @ a"


@dataclass(frozen=True)
class Measured:
    """Wall and CPU seconds of a command with all its processes."""

    wall: float
    cpu: float


@contextmanager
def competitors(n: int) -> Iterator[None]:
    """Let processes of one thread compute until the context ends."""
    environment = os.environ | {name: "1" for name in THREADS_OF_BLAS}
    running = []
    try:
        for _ in range(n):
            running.append(subprocess.Popen([sys.executable, "-c", COMPETITOR], env=environment))
        time.sleep(1.0 if n else 0.0)  # until they multiply
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def run(arguments: list[str | Path]) -> Measured:
    """Run a command of layerprobe as a user does, without this shell's settings of threads."""
    ours = {*PASSIVE_WAITING, *THREADS_OF_BLAS, "MKL_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "layerprobe", *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(time.perf_counter() - began, cpu)


def write_corpus(folder: Path) -> Path:
    """Voices whose pitch is the rating of every target, with noise."""
    rng, rows = np.random.default_rng(0), []
    for k in range(N_SPEAKERS * N_EACH):
        rating = float(rng.uniform(1, 7))
        soundfile.write(folder / f"s{k}.wav", voice(SECONDS, pitch=90 + 10 * rating, seed=k), 16_000)
        ratings = {target: float(np.clip(rating + rng.normal(), 1, 7)) for target in TARGETS}
        rows.append({"utterance_id": f"u{k}", "path": f"s{k}.wav", "speaker_id": f"t{k % N_SPEAKERS}", **ratings})
    return write_table(folder, rows, targets=TARGETS)


def commands(folder: Path, name: str) -> dict[str, list[str | Path]]:
    """Return the command of each kind of work; what it writes carries ``name``."""
    manifest = folder / "my.csv"
    return {
        "extract": ["extract", manifest, "--encoder", "embedded", "--device", "cpu", "--out", folder / f"{name}.zarr"],
        "sweep": ["sweep", folder / "first.zarr", manifest, "--out", folder / f"{name}-run"],
        "pretrain": [
            "pretrain", manifest, "--out", folder / f"{name}-encoder", "--device", "cpu",
            "--steps", "12", "--batch-size", "4", "--units", "20", "--eval-every", "12",
        ],
    }  # fmt: skip


def compare(works: dict[str, list[list[str | Path]]], n_competitors: int) -> bool:
    """Run every work quiet and alongside competitors, in turn; print both and whether the limit holds."""
    all_hold = True
    print(f"{cores()} cores, {n_competitors} competitors; a fair scheduler gives {LIMIT:g} times the quiet time")
    for work, repeats in works.items():
        quiet, busy = [], []
        for k, command in enumerate(repeats):
            with competitors(n_competitors if k % 2 else 0):
                (busy if k % 2 else quiet).append(run(command))
        walls, cpus = ([[getattr(m, unit) for m in side] for side in (quiet, busy)] for unit in ("wall", "cpu"))
        wall, cpu = (statistics.median(b / q for q, b in zip(*both, strict=True)) for both in (walls, cpus))
        median = [statistics.median(values) for values in (*walls, *cpus)]
        held = wall <= LIMIT
        all_hold &= held
        verdict = f"at most {LIMIT:g} times" if held else f"MORE THAN {NEVER if wall > NEVER else LIMIT:g} TIMES"
        print(
            f"{work}: wall {median[0]:.1f} s quiet, {median[1]:.1f} s busy, {wall:.2f} times ({verdict}); "
            f"CPU {median[2]:.1f} s quiet, {median[3]:.1f} s busy, {cpu:.2f} times",
            flush=True,
        )
    return all_hold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competitors", type=int, default=2 * cores(), help="two for each core")
    parser.add_argument("--repeats", type=int, default=1, help="of each work, quiet and busy")
    parser.add_argument("--demo", action="store_true", help="takes minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.demo:
            works = {"demo": [["demo", "--out", folder / f"demo-{k}"] for k in range(2 * options.repeats)]}
        else:
            write_corpus(folder)
            run(commands(folder, "first")["extract"])
            every = [commands(folder, f"r{k}") for k in range(2 * options.repeats)]
            works = {work: [one[work] for one in every] for work in every[0]}
        if not compare(works, options.competitors):
            print("Over the limit: something else runs here, or threads wait busily (see CPU seconds).")


if __name__ == "__main__":
    main()
