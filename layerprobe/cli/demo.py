"""The command that runs every stage on a small synthetic corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Output, reported

app = typer.Typer()


@app.command(epilog="Example: layerprobe demo --out demo")
@reported
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the caches and the run.")] = Path("demo"),
    *,
    output: Output,
) -> None:
    """Run every stage on a small synthetic corpus whose answer is known, from audio to report."""
    from layerprobe.demo import run_demo

    run_demo(out, say=output.say, watch=output.progress)
