"""The command line ``layerprobe COMMAND``; each group of commands has a module in this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli import (
    cache,
    compare,
    cost,
    deploy,
    explain,
    extract,
    figures,
    manifest,
    predict,
    pretrain,
    push_pull,
    regressor,
    serve,
    sweep,
    transcripts,
)
from layerprobe.cli.completion import complete_values
from layerprobe.cli.errors import as_input_error, error_message, print_error
from layerprobe.cli.help import PanelGroup, assign_panels
from layerprobe.cli.options import Output, interrupted_code, user_command
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.interrupts import (
    BROKEN_PIPE,
    flush_output,
    heed_signals,
    received_signal,
    silence_closed_outputs,
)
from layerprobe.probe.system import wait_passively
from layerprobe.probe.toml import check_encodable
from layerprobe.probe.version import layerprobe_version

PROGRAM = "layerprobe"  # also for python -m layerprobe, so that shells complete the command that they know
TRUST_OPTIONS = ("--trust-pickle", "--trust-remote-code")
app = typer.Typer(cls=PanelGroup, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(manifest.app, name="manifest")
app.add_typer(cache.app, name="cache")
for _group in (
    transcripts, extract, sweep, compare, cost, figures, regressor, deploy, predict, serve, pretrain, push_pull,
    explain,
):  # fmt: skip
    app.registered_commands += _group.app.registered_commands


@app.command(epilog="Example: layerprobe demo --out demo")
@user_command
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, caches, run and predictor.")] = Path("demo"),
    *,
    output: Output,
) -> None:
    """Run every stage on a small synthetic corpus whose answer is known, from audio to a report and a predictor."""
    from layerprobe.demo import run_demo

    run_demo(out, log=output.print, progress=output.progress)


assign_panels(app)
complete_values(app)


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
    """Run the command line; ``--trust-pickle`` and ``--trust-remote-code`` are accepted after the command, too.

    The exit code is 0, 2 after an error of the user's input, 128 and the number of the signal that ended the command,
    or 141 where the reader of its output has ended.
    """
    wait_passively()
    heed_signals()
    arguments = sys.argv[1:]
    try:
        check_encodable(arguments)  # for every command records what it was given
    except InputError as error:
        _print(error)
        sys.exit(2)
    try:
        app(
            [a for a in arguments if a in TRUST_OPTIONS] + [a for a in arguments if a not in TRUST_OPTIONS],
            prog_name=PROGRAM,
        )
    except KeyboardInterrupt:
        sys.exit(interrupted_code())
    except SystemExit as end:
        sys.exit(_exit_code(end))
    except OSError as error:  # of the output, such as on a full disk, where no command runs: --help
        _print(error)
        sys.exit(2)


def _print(error: InputError | OSError) -> None:
    if (reported := as_input_error(error)) is not None:
        print_error(error_message(reported))


def _exit_code(end: SystemExit) -> int | str | None:
    """Return the exit code of an ending by Typer, which knows neither signals nor pipes."""
    if end.code and received_signal() is not None:
        return interrupted_code()
    broken = isinstance(end.__context__, BrokenPipeError)  # click and rich end with code 1
    try:
        flush_output()
    except BrokenPipeError:
        broken = True
    except OSError as error:
        _print(error)
        return 2
    if broken:
        silence_closed_outputs()
    return BROKEN_PIPE if broken else end.code
