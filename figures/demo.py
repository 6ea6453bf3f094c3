"""Stage: the whole job on a small spoken corpus whose truth is known: sound, cache, scores, heatmap, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from figures.report import write_report
from probe.cache import open_cache
from probe.checkpoint import load_encoder
from probe.demo_corpus import write_corpus
from probe.extract import extract
from probe.manifest import read_manifest
from probe.progress import Silent
from probe.sweep import sweep
from probe.sweep_plan import plan_sweep

NEXT = """
heatmap: {heatmap}
report:  {report}

For your own corpus:
  layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr
  layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first
  layerprobe heatmap runs/first
(data_manifests/README.md says what my.csv holds.)"""


def run_demo(out: Path, *, say: Callable[[str], None], watch: Silent | None = None) -> Path:
    """Speak the corpus, extract, sweep and report; what is there already is kept.

    Args:
        out: a folder for the corpus, the caches and the run
        say: is told what begins, and at the end where the results lie
        watch: is told how far it is

    Returns:
        the report
    """
    watch = watch or Silent()
    say("Speaking the corpus …")
    manifest = read_manifest(write_corpus(out / "corpus", watch=watch))
    caches = []
    for seed in (0, 1):
        cache = out / "caches" / f"embedded-random-{seed}.zarr"
        say(f"Extracting {cache} …")
        extract(manifest, load_encoder("embedded", random_init=seed), cache, watch=watch)
        caches.append(open_cache(cache))
    say("Sweeping the layers …")
    folder = out / "runs" / "first"
    sweep(caches[:1], manifest, plan_sweep(manifest), out=folder, random_weights=caches[1:], watch=watch)
    page = write_report(folder, watch=watch)
    say(NEXT.format(heatmap=folder / "figures" / "heatmap.png", report=page))
    return page
