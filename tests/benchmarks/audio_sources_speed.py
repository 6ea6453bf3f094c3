"""What it costs to read audio where it lies: 10,000 utterances from files, a tar archive, Parquet and Arrow tables.

The encoder costs nothing, so that time is that of reading, hashing, decoding and extraction's own machinery; WAV is
what is decoded fastest, so that the ratio to files is the greatest. Sources are measured in turn, each measurement in
a process of its own: milliseconds an utterance (the median of the rounds), its ratio to files, and greatest memory
above that before. The check of the manifest and a second run on the complete cache are measured, too. The disk it
needs is 0.3 MB an utterance.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from benchmarks.costless_encoder import RATE, CostlessEncoder

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.data.stored.locations import row_address, tar_address
from layerprobe.probe.extraction.extract import extract

HEADER = Header("sources", "1", "none", {"arousal": Target(1, 7, "none")})
SECONDS = 2.0
SOURCES = ("files", "tar", "parquet", "arrow")
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
GROUP = 1_000  # rows of a row group, about 64 MB; `datasets` writes at most 100 MB, without compression


def write_sources(folder: Path, n: int) -> None:
    """Write the audio into each source, and a manifest of each."""
    rng = np.random.default_rng(0)
    (folder / "wav").mkdir()
    files = [folder / "wav" / f"u{k:06d}.wav" for k in range(n)]
    for file in files:
        soundfile.write(file, 0.1 * rng.standard_normal(round(RATE * SECONDS), dtype=np.float32), RATE)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for file in files:
            archive.add(file, arcname=file.name)
    schema = pa.schema([("audio", AUDIO)])
    with (
        pq.ParquetWriter(folder / "t.parquet", schema, compression="none", use_dictionary=False) as parquet,
        pa.OSFile(str(folder / "t.arrow"), "wb") as opened,
        pa.ipc.new_stream(opened, schema) as arrow,
    ):
        for begin in range(0, n, GROUP):
            part = [{"bytes": f.read_bytes(), "path": f.name} for f in files[begin : begin + GROUP]]
            table = pa.table({"audio": pa.array(part, type=AUDIO)})
            parquet.write_table(table)
            arrow.write_table(table)
    paths = {
        "files": [f"wav/{file.name}" for file in files],
        "tar": [tar_address("a.tar", file.name) for file in files],
        "parquet": [row_address("t.parquet", k) for k in range(n)],
        "arrow": [row_address("t.arrow", k) for k in range(n)],
    }
    for source, column in paths.items():
        ids = [f"u{k:06d}" for k in range(n)]
        table = pd.DataFrame({"utterance_id": ids, "path": column, "speaker_id": "s", "arousal": 1.0})
        write_manifest(folder / f"{source}.csv", table, HEADER)


def measure(manifest: Path, out: Path) -> None:
    """Print seconds and memory as JSON."""
    read_manifest(manifest)  # once for the imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {}
    began = time.perf_counter()
    checked = read_manifest(manifest)
    figures["check"] = time.perf_counter() - began
    for name in ("first", "again"):
        began, worked = time.perf_counter(), time.process_time()
        cache = extract(checked, CostlessEncoder("audio"), out)
        figures[name] = time.perf_counter() - began
        figures[f"{name} cpu"] = time.process_time() - worked
    assert len(cache.utterance_ids) == len(checked.table)
    figures["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(figures))


def main() -> None:
    """Measure each source and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=Path, nargs=2)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write:
        write_sources(options.write, options.number)
        return
    if options.one:
        measure(*options.one)
        return
    found: dict[str, list[dict[str, float]]] = {source: [] for source in SOURCES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = [sys.executable, __file__, "--write", name, "--number", str(options.number)]
        subprocess.run(written, check=True)  # a process begins with the greatest memory of the one that starts it
        for k in range(options.rounds):
            for source in SOURCES:
                arguments = [str(folder / f"{source}.csv"), str(folder / f"{source}-{k}.zarr")]
                done = subprocess.run(
                    [sys.executable, __file__, "--one", *arguments], capture_output=True, text=True, check=True
                )
                found[source].append(json.loads(done.stdout.splitlines()[-1]))
    print("source   ms each  ratio  CPU ms each  ratio  check, s  again, s  memory, MB")
    medians = {
        source: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for source, rounds in found.items()
    }
    for source, median in medians.items():
        ratio, of_cpu = (median[key] / medians["files"][key] for key in ("first", "first cpu"))
        each, cpu = (1e3 * median[key] / options.number for key in ("first", "first cpu"))
        rest = f"{median['check']:8.2f}  {median['again']:8.2f}  {median['megabytes']:10.0f}"
        print(f"{source:8s} {each:7.3f} {ratio:6.2f} {cpu:12.3f} {of_cpu:6.2f}  {rest}")


if __name__ == "__main__":
    main()
