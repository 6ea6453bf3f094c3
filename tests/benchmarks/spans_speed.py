"""Time of an extraction with spans over one of whole utterances, interleaved; the limit is 1.15.

    python tests/benchmarks/spans_speed.py [--encoders embedded acoustic hubert-base] [--utterances 40] [--repeats 3]

Utterances are synthetic voices of 3 to 8 s; spans are windows of 1 s every 0.5 s, and intervals of 0.3 s as of an
aligner. Loading is not counted; decoding, pooling and writing are. The ratio of the processor's time, over all threads,
is steadier than that of the clock where other processes run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import soundfile
from helpers.voices import manifest_of, voice
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import size_of

LIMIT = 1.15
INTERVAL = 0.3  # seconds


def corpus(folder: Path, n: int) -> Manifest:
    """Utterances of 3 to 8 s, 5.5 s in the mean."""
    rng, rows, intervals = np.random.default_rng(0), [], []
    for k in range(n):
        seconds = float(np.round(rng.uniform(3, 8), 2))
        soundfile.write(folder / f"{k}.wav", voice(seconds, pitch=90 + k % 60), 16_000)
        rows.append({"utterance_id": f"u{k}", "path": f"{k}.wav", "speaker_id": f"s{k % 5}", "arousal": 1 + k % 5})
        starts = np.arange(0, seconds - INTERVAL, INTERVAL)
        intervals += [(f"u{k}", round(s, 3), round(s + INTERVAL, 3), "w") for s in starts]
    pd.DataFrame(intervals, columns=["utterance_id", "start", "end", "label"]).to_csv(folder / "spans.csv", index=False)
    return manifest_of(folder, rows)


def load(name: str, folder: Path) -> AnyEncoder:
    """The encoder of that name; a random model of the size of HuBERT-base."""
    if name != "hubert-base":
        return load_encoder(name)
    HubertModel(HubertConfig()).save_pretrained(folder / name)
    Wav2Vec2FeatureExtractor().save_pretrained(folder / name)
    return load_encoder(str(folder / name))


def ratio(times: list[float], of_utterances: list[float]) -> str:
    """The median of the ratios of runs that followed each other, and their range."""
    ratios = [t / u for t, u in zip(times, of_utterances, strict=True)]
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["embedded", "acoustic", "hubert-base"])
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = corpus(folder, options.utterances)
        kinds = {
            "utterances": None,
            "windows": SpanOptions(every=0.5, window=1.0),
            "intervals": SpanOptions(folder / "spans.csv"),
        }
        for encoder_name in options.encoders:
            encoder = load(encoder_name, folder)
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            of_processor: dict[str, list[float]] = {kind: [] for kind in kinds}
            sizes = {}
            for k in range(options.repeats + 1):
                for kind, spans in kinds.items():
                    out = folder / f"{encoder_name}-{kind}-{k}.zarr"
                    began, worked = time.perf_counter(), time.process_time()
                    done = run_extraction(manifest, encoder, out, ExtractionSettings(spans=spans))
                    if k:  # the first warms up
                        seconds[kind].append(time.perf_counter() - began)
                        of_processor[kind].append(time.process_time() - worked)
                    sizes[kind] = done.n_spans or len(open_cache(out)), size_of(out) / 1e6
            for kind, times in seconds.items():
                rows, megabytes = sizes[kind]
                print(
                    f"{encoder_name:12} {kind:11} {rows:5} rows {megabytes:7.1f} MB {median(times):7.2f} s, "
                    f"{ratio(times, seconds['utterances'])} of whole utterances by the clock, "
                    f"{ratio(of_processor[kind], of_processor['utterances'])} by the processor's time",
                    flush=True,
                )


if __name__ == "__main__":
    main()
