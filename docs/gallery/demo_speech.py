"""
The corpus of these examples
============================

Which speech do the examples use? 192 short sentences in 24 voices, a half of the corpus of ``layerprobe demo``.
espeak-ng speaks them. Arousal was planted in pitch, pitch range, rate and loudness, and valence in the text alone,
so that each example can be compared with a known truth. Keep this file next to the other examples: they import it.
"""

import subprocess
import sys
from pathlib import Path

from transformers.utils import logging

import layerprobe as lp
from layerprobe.probe.synthesis.demo_corpus import write_corpus

logging.disable_progress_bar()  # of transformers, which would fill the pages of the examples


def demo_speech(folder: Path = Path("work/demo")) -> lp.Manifest:
    """Return the manifest of the corpus, which is synthesised in a process of its own where it is not there yet."""
    half = folder / "half.csv"
    if not half.exists():
        subprocess.run([sys.executable, str(Path(__file__).absolute()), str(folder)], check=True)
        whole = lp.read_manifest(folder / "demo.csv")
        lp.write_manifest(half, whole.table.iloc[::2], whole.header)
    return lp.read_manifest(half)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "work/demo")
    write_corpus(target)
    print(f"Answer: {len(list(target.glob('wav/*.wav')))} recordings in {target}; the examples take every second one.")
