"""The command line ``layerprobe COMMAND``; each group of commands has a module in this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli import (
    cache,
    compare,
    extract,
    figures,
    manifest,
    pretrain,
    regressor,
    sweep,
    transcripts,
)
from layerprobe.cli.help import PanelGroup, assign_panels
from layerprobe.cli.options import Output, user_command
from layerprobe.probe.version import layerprobe_version

TRUST_OPTIONS = ("--trust-pickle", "--trust-remote-code")
app = typer.Typer(cls=PanelGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(manifest.app, name="manifest")
app.add_typer(cache.app, name="cache")
for _group in (transcripts, extract, sweep, compare, figures, regressor, pretrain):
    app.registered_commands += _group.app.registered_commands


@app.command(epilog="Example: layerprobe demo --out demo")
@user_command
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the caches and the run.")] = Path("demo"),
    *,
    output: Output,
) -> None:
    """Run every stage on a small synthetic corpus whose answer is known, from audio to report."""
    from layerprobe.demo import run_demo

    run_demo(out, log=output.print, progress=output.progress)


assign_panels(app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"layerprobe {layerprobe_version()}")
        raise typer.Exit


@app.callback()
def program(
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load checkpoints that are pickles, which can run code.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that a model's folder asks to run.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """Layer-wise probing of speech and text encoders: find which layer encodes what."""
    from layerprobe.probe.hub import trust

    del version  # has been printed
    for permission, granted in (("pickle", trust_pickle), ("remote_code", trust_remote_code)):
        if granted:
            trust(permission)


def main() -> None:
    """Run the command line; ``--trust-pickle`` and ``--trust-remote-code`` are accepted after the command, too."""
    arguments = sys.argv[1:]
    app([a for a in arguments if a in TRUST_OPTIONS] + [a for a in arguments if a not in TRUST_OPTIONS])
