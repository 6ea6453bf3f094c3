"""Make the annotated heatmaps of docs/reading-a-heatmap.md: three runs, one image each.

    PYTHONPATH=tests python docs/images/make.py demo few-speakers             # without a network
    PYTHONPATH=tests python docs/images/make.py three-encoders --speech DATA  # real speech, not committed

DATA is a folder with ``librispeech_mini`` and ``whisper-tiny-en-encoder`` (`tests/helpers/measured_targets.py`). The
table of each run (`layerprobe table`) is printed, as the page quotes it. Caches and runs that exist are used again.

``cost.png`` and ``trace.png`` are what the commands of docs/deploying.md write, ``page.png`` is what `layerprobe serve`
shows; their colours are reduced to 96.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import layerprobe as lp
from layerprobe.demo import run_demo
from layerprobe.figures.layout.mark_ids import Mark, parse_mark_id

HERE = Path(__file__).parent
ACCENT = "#c2185b"
DPI = 130


@dataclass(frozen=True)
class Note:
    """A number at a cell; the page explains it."""

    number: int
    encoder: str
    target: str
    column: str  # a layer, or the name of a slim column such as ``chance``


def demo(work: Path) -> Path:
    """Return the run of ``layerprobe demo``."""
    run = work / "demo" / "runs" / "first"
    if not (run / "plan.toml").exists():
        run_demo(work / "demo", log=print)
    return run


def few_speakers(work: Path) -> Path:
    """Return a run on 48 utterances of six speakers of the demo's corpus."""
    root = demo(work).parents[1]
    out = work / "few-speakers"
    if not (out / "plan.toml").exists():
        manifest = lp.read_manifest(root / "corpus" / "demo.csv")
        speakers = sorted(manifest.table["speaker_id"].unique())[::4]
        table = manifest.table[manifest.table["speaker_id"].isin(speakers)].groupby("speaker_id").head(8)
        small = replace(manifest, table=table.reset_index(drop=True))
        caches = [lp.open_cache(root / "caches" / f"{name}.zarr") for name in ("embedded", "acoustic")]
        control = lp.open_cache(root / "caches" / "embedded-random-0.zarr")
        lp.sweep(caches, small, lp.plan_sweep(small), out=out, random_weights=[control])
    return out


def three_encoders(work: Path) -> Path:
    """Return a run of Whisper tiny.en, the embedded encoder and acoustic features on real read speech."""
    from helpers.measured_targets import WHISPER, write_measured_manifest

    out = work / "three-encoders"
    if not (out / "plan.toml").exists():
        out.mkdir(parents=True, exist_ok=True)
        manifest = lp.read_manifest(write_measured_manifest(work / "speech.csv"))
        names = {"whisper-tiny-en-encoder": str(WHISPER), "embedded": "embedded", "acoustic": "acoustic"}
        caches = [lp.extract(manifest, lp.load_encoder(e), work / f"{name}.zarr") for name, e in names.items()]
        plan = lp.plan_sweep(manifest, targets=("pitch", "rate"), weighted_sum_seeds=1)
        lp.sweep(caches, manifest, plan, out=out)
    return out


FIGURES: dict[str, tuple[Callable[[Path], Path], list[Note]]] = {
    "demo": (
        demo,
        [
            Note(1, "embedded", "arousal", "0"), Note(2, "embedded", "arousal", "5"),
            Note(3, "embedded", "valence", "8"),
            Note(4, "embedded", "arousal", "random_init"), Note(5, "embedded", "valence", "chance"),
            Note(6, "all-MiniLM-L6-v2", "valence", "3"), Note(7, "acoustic", "arousal", "loudness"),
            Note(8, "embedded", "dominance_residual", "4"),
        ],
    ),
    "few-speakers": (
        few_speakers,
        [
            Note(1, "embedded", "arousal", "chance"), Note(2, "embedded", "valence", "3"),
            Note(3, "embedded", "dominance", "5"), Note(4, "embedded", "dominance_residual", "5"),
            Note(5, "acoustic", "arousal", "loudness"), Note(6, "acoustic", "dominance", "mfcc"),
        ],
    ),
    "three-encoders": (
        three_encoders,
        [
            Note(1, "whisper-tiny-en-encoder", "pitch", "0"), Note(2, "embedded", "pitch", "8"),
            Note(3, "whisper-tiny-en-encoder", "rate", "final"), Note(4, "acoustic", "pitch", "f0"),
            Note(5, "acoustic", "rate", "chance"),
        ],
    ),
}  # fmt: skip


def cells(figure: Figure) -> dict[tuple[str, str, str], Rectangle]:
    """Return the cells of a heatmap by encoder, target and layer, or name of the slim column."""
    found: dict[tuple[str, str, str], Rectangle] = {}
    for box in figure.findobj(Rectangle):
        mark: Mark | None = parse_mark_id(box.get_gid() or "")
        if mark is not None:
            slim = str(box.get_gid()).startswith("reference-")
            found[mark.encoder, mark.target, mark.control if slim else mark.layer] = box
    return found


def annotate(figure: Figure, notes: list[Note]) -> Figure:
    """Put the notes' numbers at the upper left corners of their cells."""
    boxes = cells(figure)
    for note in notes:
        box = boxes[note.encoder, note.target, note.column]
        corner = (box.get_x(), box.get_y())
        inside = (3, -3) if note.column.isdigit() or note.encoder == "acoustic" else (0, 0)  # slim cells are full
        box.axes.annotate(
            str(note.number), corner, xytext=inside, textcoords="offset points", ha="center", va="center",
            fontsize=7.5, weight="bold", color="white", zorder=20, annotation_clip=False,
            bbox={"boxstyle": "circle,pad=0.2", "fc": ACCENT, "ec": "white", "lw": 0.8},
        )  # fmt: skip
    return figure


def main() -> None:
    """Parse the arguments, make the runs, and write their images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(FIGURES))
    parser.add_argument("--work", type=Path, default=Path("images-work"), help="folder for caches and runs")
    parser.add_argument("--speech", type=Path, help="folder with librispeech_mini and whisper-tiny-en-encoder")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the images")
    arguments = parser.parse_args()
    if arguments.speech:
        os.environ["LAYERPROBE_REAL_DATA"] = str(arguments.speech)  # before helpers.measured_targets is imported
    for name in arguments.names:
        make, notes = FIGURES[name]
        run = make(arguments.work)
        figure = annotate(lp.heatmap(run), notes)
        figure.savefig(arguments.out / f"{name}.png", dpi=DPI)
        plt.close(figure)
        print(f"\n{name}: {run}", flush=True)
        subprocess.run([sys.executable, "-m", "layerprobe", "table", str(run)], check=True)


if __name__ == "__main__":
    main()
