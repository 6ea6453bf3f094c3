"""What every verb of the command line shares: options, lines on the terminal, errors in one sentence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_store_error, place

if TYPE_CHECKING:
    import pandas as pd

Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
NoSpeakers = Annotated[bool, typer.Option("--no-speakers", help="Talkers are unknown; scores may be too good.")]
ManifestPath = Annotated[Path, typer.Argument(help="A .csv or .parquet table with a .toml header beside it.")]
EncoderName = Annotated[
    str, typer.Option("--encoder", help="A hub name with an optional @revision, a local folder, embedded, or acoustic.")
]
RandomInit = Annotated[
    int | None, typer.Option(min=0, help="Seed of untrained weights for the same architecture, the control.")
]
Adapter = Annotated[Path | None, typer.Option(help="A file whose FAMILY takes an unknown architecture apart.")]
Precision = Annotated[
    str, typer.Option(help="float32, bfloat16, or float16 (GPU); auto: 16 bits where the hardware multiplies them.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one.")]
RunPath = Annotated[Path, typer.Argument(help="A run folder that sweep made.")]
RunPaths = Annotated[list[Path], typer.Argument(help="Run folders; several are drawn side by side.")]
Metric = Annotated[
    str | None, typer.Option(help="ccc_matched (if none), ccc, pearson, rmse, r2; of classes uar (if none), macro_f1.")
]

Width = Annotated[str | None, typer.Option(help="column (3.5 inches) or double (7.2); the natural one if none.")]


def cache_place(where: str) -> Path:
    """A cache as it is named on the command line: a folder, or a URL."""
    try:
        return place(where)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def reported(verb: Callable[..., None]) -> Callable[..., None]:
    """Turn what a user can mend into one sentence and exit code 2, and Ctrl-C into 130."""

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            typer.echo("Interrupted. What was finished is kept; run the same command to go on.", err=True)
            raise typer.Exit(130) from interrupt
        except (InputError, OSError) as error:
            if kwargs.get("debug"):
                raise
            typer.echo(error_text(error), err=True)
            raise typer.Exit(2) from error
        except Exception as error:
            if kwargs.get("debug") or not is_store_error(error):
                raise
            typer.echo(
                f"Error: the object store failed ({type(error).__name__}: {error}). What was finished is kept; run the "
                "same command again when it answers.",
                err=True,
            )
            raise typer.Exit(2) from error

    return run


def error_text(error: InputError | OSError) -> str:
    """One sentence with the mend."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"Error: {where}{error.strerror}. Mend that (free some space, allow writing) and run the same command "
            "again; what was finished is kept."
        )
    return f"Error: {error}"


def say_quarantined(quarantine: pd.DataFrame, *, quiet: bool, file: Path | None = None) -> None:
    """The first ten utterances that could not be used, each with its reason, and where the others are."""
    for row in quarantine.head(10).to_dict("records"):
        say(f"  {row['utterance_id']}: {row['reason']}", quiet=quiet)
    if len(quarantine) > 10 and file is not None:
        say(f"  … all {len(quarantine)} in {file}", quiet=quiet)


def say(text: str, *, quiet: bool) -> None:
    """A line on standard output."""
    if not quiet:
        typer.echo(text)
