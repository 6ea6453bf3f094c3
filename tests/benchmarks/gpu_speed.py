"""Seconds of audio that one GPU encodes in a second, every layer pooled: by transformers' usual ways and by ours.

    PYTHONPATH=tests python tests/benchmarks/gpu_speed.py               on a GPU, at most six minutes
    PYTHONPATH=tests python tests/benchmarks/gpu_speed.py --rehearse    tiny models on the CPU, about a minute
    PYTHONPATH=tests python tests/benchmarks/gpu_speed.py --show JSON   the report of an earlier run

HuBERT-base and -large from their configurations, with random weights; coloured noise of natural lengths, 1 to 12 s.
Items take turns, and rates are medians over rounds; the first run of each, on lengths that no library has met before,
has a column of its own. All pool the mean and the standard deviation of every layer's valid frames.

* of peak: operations of the audio's own frames (two for each multiply-add of convolutions, linear layers and attention,
  `gpu_peers.flops`) over the rate of a square bfloat16 product, which is measured before and after
* GB: the peak on the device above what was allocated before the item, so without the models' weights
* error: norm of the difference over the norm, of mean and standard deviation, against one utterance at a time in
  float32 without TF32: the worst utterance of the worst layer. All layers are in the JSON.
* extract: from FLAC files into a cache. What is done once (hashing weights, estimates, errors of precision) is known
  from two sizes of corpus, and the rows "without once" leave it out; loading is in the JSON.
* scores: the largest difference of a CCC between a sweep, or a training, on the GPU and on the CPU

After --limit seconds no further item begins, and what is missing is named.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from benchmarks import gpu_material as material, gpu_ours as ours, gpu_peers as peers, gpu_table
from benchmarks.gpu_scores import sweep_differences, train_differences
from torch import Tensor

from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.system import cores

ROUNDS, EXTRACTION_ROUNDS = 3, 2
RESAMPLED = 44_100
FOR_MODELS = 0.85  # of the limit; the rest is for scores


@dataclass
class Item:
    """One way to encode, and what was measured of it."""

    name: str
    seconds: float  # of audio in a run
    run: Callable[[], Tensor | None]  # returns vectors of the first utterances or more, (n, n_layers, 2, dim)
    rounds: int = ROUNDS  # after the first run
    rates: list[float] = field(default_factory=list)  # seconds of audio per second, in each round
    first: float | None = None  # of the first run
    memory: int = 0  # bytes
    errors: list[list[float]] = field(default_factory=list)  # of each layer, mean and std
    notes: list[str] = field(default_factory=list)  # of extractions, what bound each

    def facts(self) -> dict[str, Any]:
        rate = statistics.median(self.rates) if self.rates else self.first
        return {k: v for k, v in self.__dict__.items() if k != "run"} | {"rate": rate}

    def measure(self, device: str, exact: Tensor) -> None:
        """Run once more and note the rate; of the first run also memory and errors."""
        on_card, is_first = device == "cuda", self.first is None
        if on_card and is_first:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if on_card else 0
        taken, found = timed(self.run, device)
        if not is_first:
            self.rates.append(self.seconds / taken)
            return
        self.first = self.seconds / taken
        self.memory = torch.cuda.max_memory_allocated() - before if on_card else 0
        if found is not None:
            self.errors = peers.errors(found, exact).tolist()


class Clock:
    """Time that is left, and the items that failed or were left out."""

    def __init__(self, limit: float) -> None:
        self.began, self.limit = time.perf_counter(), limit
        self.failed: list[str] = []
        self.left_out: list[str] = []

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def guard(self, name: str, run: Callable[[], Any], *, until: float = 1.0) -> Any:
        """Run unless that fraction of the limit is over; after a failure, which the report names, the rest follows."""
        if self.seconds > until * self.limit:
            self.left_out.append(name)
            return None
        try:
            return run()
        except Exception:  # the time on a card is short, and one item should not cost the others
            traceback.print_exc()
            self.failed.append(name)
            return None


def timed(run: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds until the device has finished, and what was returned."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    found = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def matrix_rate(device: str, n: int) -> float:
    """Operations per second of a product of two square bfloat16 matrices."""
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    times = [timed(lambda: [a @ b for _ in range(4)], device)[0] for _ in range(8)]
    return 4 * 2 * n**3 / statistics.median(times)


@dataclass(frozen=True)
class Bench:
    """One model, by every way."""

    name: str
    folder: Path
    device: str
    sizes: material.Sizes
    tiny: bool
    waveforms: list[np.ndarray]
    corpora: dict[int, Manifest]  # by sampling rate

    def items(self, facts: dict[str, Any]) -> tuple[list[Item], Tensor]:
        """Return every item, and the exact vectors of the first utterances; other figures go into ``facts``."""
        path = material.save_model(self.name, self.folder, tiny=self.tiny)
        theirs, exact = self.theirs(path, facts)
        return [*theirs, *self.ours(path, facts)], exact

    def theirs(self, path: Path, facts: dict[str, Any]) -> tuple[list[Item], Tensor]:
        model = material.load_peer(path, self.device)
        half = copy.deepcopy(model).to(torch.bfloat16)
        ready = [peers.normalised(waveform) for waveform in self.waveforms[: self.sizes.many]]
        few, some = ready[: self.sizes.few], ready[: 4 * self.sizes.few]
        facts["operations_per_s"] = sum(peers.flops(model.config, len(w)) for w in ready) / _seconds(ready)
        facts["s_per_utterance"] = _seconds(ready) / len(ready)
        random = peers.random_groups(len(some), size=8)
        by_length = peers.sorted_groups(model.config, [len(w) for w in ready], budget=self.sizes.budget)

        def loop(encoder: Any, precision: str) -> Tensor:
            with peers.convolutions(precision):
                return peers.one_by_one(encoder, few)

        items = [
            Item(gpu_table.LOOP, _seconds(few), functools.partial(loop, model, "ieee")),
            Item("loop, torch's defaults (TF32)", _seconds(few), functools.partial(loop, model, "tf32")),
            Item("loop, bfloat16", _seconds(few), functools.partial(loop, half, "tf32")),
            Item("random batches of 8, bfloat16", _seconds(some), functools.partial(peers.padded, half, some, random)),
            Item("sorted batches, bfloat16", _seconds(ready), functools.partial(peers.padded, half, ready, by_length)),
        ]
        return items, peers.reference(model, few)

    def ours(self, path: Path, facts: dict[str, Any]) -> list[Item]:
        many, few = self.waveforms[: self.sizes.many], self.waveforms[: self.sizes.few]
        items, loaded = list[Item](), {}
        for precision in ("float32", "bfloat16"):
            load = functools.partial(
                load_audio_encoder, str(path), device=self.device, precision=precision, forward="packed"
            )
            facts[f"loading, {precision}"], encoder = timed(load, self.device)
            loaded[precision] = encoder
            shape = len(many), len(encoder.layers), len(ours.POOLINGS), encoder.dim
            packs = ours.in_packs(encoder, [encoder.input_chunks(waveform) for waveform in many], self.sizes.budget)
            run = functools.partial(
                ours.packed_pass, encoder, packs, torch.empty(shape, pin_memory=self.device == "cuda")
            )
            items.append(Item(f"ours, packed pass, {precision}", _seconds(many), run))
        encoder, corpus = loaded["bfloat16"], self.corpora[material.RATE]
        facts |= {
            "pass": encoder.forward,
            "bytes_per_utterance": 2 * len(encoder.layers) * len(ours.POOLINGS) * encoder.dim,
            "decoding": material.decoding_rate(encoder, corpus),
            "writing": material.writing_rate(
                encoder, self.folder / "w.zarr", dtype="float16", n=self.sizes.files[1] // 2
            ),
        }
        single = load_audio_encoder(str(path), device=self.device, precision="bfloat16", forward="single")
        items.append(Item("ours, single, bfloat16", _seconds(few), functools.partial(ours.single_pass, single, few)))
        for dtype in gpu_table.DTYPES:
            items += [self.extraction(encoder, corpus, dtype, n) for n in self.sizes.files]
        if RESAMPLED in self.corpora:
            other, note = self.corpora[RESAMPLED], f", {RESAMPLED / 1000:g} kHz"
            items.append(self.extraction(encoder, other, "float16", len(other.table), note=note))
        return items

    def extraction(self, encoder: SpeechEncoder, corpus: Manifest, dtype: str, n: int, *, note: str = "") -> Item:
        n_rows = 0 if note else min(self.sizes.few, n)  # resampled audio is other audio
        notes: list[str] = []
        cache, some = self.folder / "c.zarr", material.first_of(corpus, n)
        run = functools.partial(ours.extract, encoder, some, cache, dtype, n_rows, notes)
        name, seconds = gpu_table.extraction_name(dtype, n, note), _seconds(self.waveforms[:n])
        return Item(name, seconds, run, rounds=EXTRACTION_ROUNDS, notes=notes)


def _seconds(waveforms: list[np.ndarray]) -> float:
    return sum(map(len, waveforms)) / material.RATE


def compare(bench: Bench, clock: Clock, until: float, save: Callable[[dict[str, Any]], None]) -> None:
    """Measure the items of one model in turn, and hand what is known to ``save`` after each."""
    facts: dict[str, Any] = {"model": bench.name}
    built = clock.guard(bench.name, lambda: bench.items(facts), until=until)
    if built is None:
        return
    items, exact = built
    for number in range(2 if bench.tiny else 1 + ROUNDS):
        for item in items:
            if number == 0 or (item.first is not None and number <= item.rounds):
                name = f"{bench.name}, {item.name}, {'first run' if number == 0 else f'round {number}'}"
                clock.guard(name, functools.partial(item.measure, bench.device, exact), until=until)
            known = [one.facts() for one in items]
            save(facts | {"items": known, "without_once": gpu_table.without_once(known, bench.sizes.files)})
        print(f"  {bench.name}, {f'round {number}' if number else 'first runs'}: {clock.seconds:.0f} s", flush=True)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything, and return the content of the JSON, which is written after each item."""
    clock, device = Clock(options.limit), "cpu" if options.rehearse else "cuda"
    sizes = material.REHEARSAL if options.rehearse else material.CARD
    found: dict[str, Any] = {
        "about": {
            "device": "CPU" if device == "cpu" else torch.cuda.get_device_name(),
            "cores": cores(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peak": matrix_rate(device, sizes.square),
        },
        "models": {},
        "scores": {},
    }

    def save() -> None:
        found.update(failed=clock.failed, left_out=clock.left_out)
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")

    def save_model(facts: dict[str, Any]) -> None:
        found["models"][facts["model"]] = facts
        save()

    waveforms = material.make_waveforms(sizes.files[1], longest=sizes.longest)
    corpora = {material.RATE: material.write_corpus(folder / "audio", waveforms)}
    if options.resample:
        some = material.make_waveforms(sizes.files[0], longest=sizes.longest, rate=RESAMPLED)
        corpora[RESAMPLED] = material.write_corpus(folder / "resampled", some, rate=RESAMPLED)
    print(f"  audio of {_seconds(waveforms):,.0f} s written: {clock.seconds:.0f} s", flush=True)
    names = [*options.models.split(","), *(["wavlm-large"] if options.wavlm else [])]
    for k, name in enumerate(names):
        bench = Bench(name, folder, device, sizes, options.rehearse, waveforms, corpora)
        compare(bench, clock, FOR_MODELS * (k + 1) / len(names), save_model)
        del bench
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    n = 240 if options.rehearse else 600
    for kind, measure in (
        ("sweep", functools.partial(sweep_differences, folder / "sweep", device, n=n, n_layers=4, dim=n // 15)),
        ("train", functools.partial(train_differences, folder / "train", device, n=40)),
    ):
        found["scores"][kind] = clock.guard(kind, measure) or {}
        save()
    found["about"]["peak_after"] = matrix_rate(device, sizes.square)
    found["about"]["seconds"] = clock.seconds
    save()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="large,base")
    parser.add_argument("--limit", type=float, default=330.0, help="seconds after which no further item begins")
    parser.add_argument("--wavlm", action="store_true", help="WavLM-large as well")
    parser.add_argument("--resample", action="store_true", help="a corpus of 44.1 kHz as well")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--json", type=Path, default=Path("gpu_speed.json"), help="file for all figures")
    parser.add_argument("--show", type=Path, help="print the report of this file alone")
    options = parser.parse_args()
    if options.show:
        print("\n".join(gpu_table.report(json.loads(options.show.read_text(encoding="utf-8")))))
        return
    if not (torch.cuda.is_available() or options.rehearse):
        print("There is no GPU, which is what this benchmark measures; --rehearse runs it with tiny models on the CPU.")
        return
    warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        found = run(options, Path(name))
    print("\n".join(gpu_table.report(found)))
    sys.exit(1 if found["failed"] else 0)


if __name__ == "__main__":
    main()
