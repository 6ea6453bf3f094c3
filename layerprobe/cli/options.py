"""What every command shares: its options, what it prints, and errors in one sentence."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_store_error, place
from layerprobe.probe.progress import NullProgress, make_progress
from layerprobe.probe.training.options import option, read_options

if TYPE_CHECKING:
    import pandas as pd

NoSpeakers = Annotated[
    bool, typer.Option("--no-speakers", help="Accept unknown speakers; scores may then be too optimistic.")
]
ManifestPath = Annotated[Path, typer.Argument(help="Manifest: a .csv or .parquet table with a .toml header.")]
UtterancesPath = Annotated[
    Path, typer.Argument(help="Table (.csv or .parquet) with utterance_id and path; ratings are not needed.")
]
Device = Annotated[str | None, typer.Option(help="Device to run on: cpu or cuda; a GPU by default where there is one.")]
RunPath = Annotated[Path, typer.Argument(help="Run folder that sweep made.")]
RunPaths = Annotated[list[Path], typer.Argument(help="Run folders; several are drawn side by side.")]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Metric to show: ccc_matched (default), ccc, pearson, rmse or r2; for classes uar (default) or macro_f1."
    ),
]
Width = Annotated[
    str | None,
    typer.Option(help="Width: column (3.5 in), double (7.2 in), or a length such as 89mm; by content if omitted."),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Utterances encoded in parallel; one per core by default.")]


@dataclass(frozen=True)
class UpstreamOptions:
    """The encoder whose layers are read, and how it runs."""

    encoder: str = option(
        help="Encoder: a hub name with an optional @revision, a local folder, embedded, or acoustic (features)."
    )
    random_init: int | None = option(
        None, low=0, help="Seed of random weights for the same architecture, as a control."
    )
    adapter: Path | None = option(None, help="Python file whose ARCHITECTURE describes an unknown architecture.")
    device: str | None = option(None, help="Device to run on: cpu or cuda; a GPU by default where there is one.")
    precision: str = option(
        "auto", help="Precision: float32, bfloat16, float16 (GPU), or auto (16 bits where the hardware supports it)."
    )


@dataclass(frozen=True)
class Output:
    """What a command prints: results on standard output, progress on standard error, nothing if quiet."""

    quiet: bool = option(False, help="Print nothing but errors.")

    @functools.cached_property
    def progress(self) -> NullProgress:
        """Reports how far a stage is."""
        return make_progress(quiet=self.quiet)

    def print(self, text: str) -> None:
        """Print a line on standard output."""
        if not self.quiet:
            typer.echo(text)

    def print_quarantined(self, quarantine: pd.DataFrame, *, file: Path | None = None) -> None:
        """Print the first ten utterances that could not be used, each with its reason, and where the others are."""
        for row in quarantine.head(10).to_dict("records"):
            self.print(f"  {row['utterance_id']}: {row['reason']}")
        if len(quarantine) > 10 and file is not None:
            self.print(f"  … all {len(quarantine)} in {file}")


def cache_path(where: str) -> Path:
    """A cache as it is named on the command line: a folder, or a URL."""
    try:
        return place(where)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def choose_device(device: str | None) -> str:
    """The device that was asked for, or a GPU where there is one.

    Raises:
        InputError: if a GPU is asked for and there is none
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {device} is asked for, and torch sees no GPU. Use --device cpu.")
    return device


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Make a function what Typer registers as a command.

    Parameters that are dataclasses of options become an option for each field, `Output` among them; ``--debug`` is
    added. What a user can mend becomes one sentence and exit code 2, and Ctrl-C becomes 130.
    """
    own = inspect.signature(command, eval_str=True).parameters
    kinds: dict[str, Any] = {name: p.annotation for name, p in own.items()}
    grouped: dict[str, Any] = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}

    @functools.wraps(command)
    def run(*, debug: bool = False, **given: Any) -> None:
        options = {name: filled(kind, given) for name, kind in grouped.items()}
        try:
            command(**{name: given[name] for name in own if name not in options}, **options)
        except KeyboardInterrupt as interrupt:
            typer.echo("Interrupted. What was finished is kept; run the same command to go on.", err=True)
            raise typer.Exit(130) from interrupt
        except (InputError, OSError) as error:
            if debug:
                raise
            typer.echo(error_message(error), err=True)
            raise typer.Exit(2) from error
        except Exception as error:
            if debug or not is_store_error(error):
                raise
            typer.echo(
                f"Error: the object store failed ({type(error).__name__}: {error}). What was finished is kept; run the "
                "same command again when it answers.",
                err=True,
            )
            raise typer.Exit(2) from error

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in own.items()
        for parameter in (typer_parameters(grouped[name]) if name in grouped else [one])
    ]
    shown = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
    parameters.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=shown))
    run.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=None)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def typer_parameters(kind: type[Any]) -> list[inspect.Parameter]:
    """A Typer option for each field of a dataclass of options, with the field's name, type, default, range and help."""
    hints, made = get_type_hints(kind), []
    for field, described in zip(fields(kind), read_options(kind).values(), strict=True):
        several = get_origin(hints[field.name]) is tuple
        annotation: Any = hints[field.name]
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        if several:
            annotation, default = list[get_args(annotation)[0]] | None, None  # type: ignore[misc]
        shown = typer.Option(
            f"--{(described.name or field.name).replace('_', '-')}",
            help=described.help,
            min=described.low,
            max=described.high,
            metavar=described.metavar,
            rich_help_panel=None if kind is Output else _panel(kind),
        )
        kind_of = inspect.Parameter.KEYWORD_ONLY
        made.append(inspect.Parameter(field.name, kind_of, default=default, annotation=Annotated[annotation, shown]))
    return made


def filled(kind: type[Any], given: dict[str, Any]) -> Any:
    """The dataclass of options with what the command line gives; a repeated option becomes a tuple."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        value = given[field.name]
        values[field.name] = tuple(value or ()) if get_origin(hints[field.name]) is tuple else value
    return kind(**values)


def _panel(kind: type[Any]) -> str:
    """``EncoderOptions`` -> Encoder options."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).capitalize()


def error_message(error: InputError | OSError) -> str:
    """One sentence with the mend."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"Error: {where}{error.strerror}. Mend that (free some space, allow writing) and run the same command "
            "again; what was finished is kept."
        )
    return f"Error: {error}"
