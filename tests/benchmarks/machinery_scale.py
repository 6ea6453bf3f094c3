"""What extraction's own machinery costs: an upstream that costs nothing, and very many utterances.

Everything but the encoder is the real thing: the manifest's rows, threads, pooling, blocks, checksums, digests, the
journal. Milliseconds an utterance and greatest memory; then the same command again on the whole cache. Each size is a
process of its own. The disk it needs is 1 KB an utterance.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from benchmarks.costless_encoder import CostlessEncoder

from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.extraction.extract import extract

HEADER = Header("many", "1", "none", {"arousal": Target(1, 7, "none")})


def measure(n: int, out: Path) -> None:
    """Print seconds and memory as JSON."""
    ids = [f"MSP-PODCAST_{i:08d}" for i in range(n)]
    same = {"speaker_id": "s", "transcript": "some text", "path": "", "arousal": 1.0}
    table = pd.DataFrame({"utterance_id": ids, **same})
    manifest = Manifest(Path("many.csv"), HEADER, table)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {}
    for name in ("first", "again"):
        began = time.perf_counter()
        extract(manifest, CostlessEncoder("text"), out)
        figures[name] = time.perf_counter() - began
    figures["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(figures))


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--one", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.out)
        return
    print("utterances  ms each  again, s  memory above the manifest's, MB")
    for n in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [sys.executable, __file__, "--one", str(n), "--out", f"{folder}/a.zarr"]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{n:10d}  {1e3 * found['first'] / n:7.3f}  {found['again']:8.1f}  {found['megabytes']:.0f}", flush=True)


if __name__ == "__main__":
    main()
