"""Common parts of all commands: options from dataclasses, output, and errors in one sentence."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from layerprobe.cli.errors import as_input_error, error_message, print_error
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import resolve
from layerprobe.probe.interrupts import BROKEN_PIPE, received_signal, silence_closed_outputs
from layerprobe.probe.progress import NullProgress, make_progress
from layerprobe.probe.training.options import channel_option, option, read_options, trim_silence_option

if TYPE_CHECKING:
    import pandas as pd

    from layerprobe.probe.data.reading import ReadingOptions
    from layerprobe.probe.encoders.loading import EncoderSettings

NoSpeakers = Annotated[
    bool, typer.Option("--no-speakers", help="Accept unknown speakers; scores may then be too optimistic.")
]
SameSpeaker = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A=B|all|none",
        help="Two names of one speaker (repeatable), or all or none for all names that differ only in case, blanks, "
        "Unicode form, a decimal .0 or leading zeros.",
    ),
]
Device = Annotated[str | None, typer.Option(help="Device to run on: cpu or cuda; a GPU by default where there is one.")]
RunPath = Annotated[Path, typer.Argument(help="Run folder that sweep made.")]
RunPaths = Annotated[list[Path], typer.Argument(help="Run folders; several are plotted side by side.")]
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
Style = Annotated[
    str | None,
    typer.Option(
        help="Style preset: interspeech, ieee, nature or slides, each with its own column and double width (default: "
        "double)."
    ),
]
Controls = Annotated[
    str, typer.Option(help="Controls: condensed into slim columns, or full, with a row for each control and target.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Utterances encoded in parallel; one per core by default.")]


@dataclass(frozen=True)
class UpstreamOptions:
    """Options of the encoder whose layers are extracted."""

    encoder: str = option(
        help="Encoder: a hub name with an optional @revision or a local folder, of a model or a PEFT adapter; a "
        "checkpoint's file (.pt, .pth), torchaudio:NAME, embedded, or acoustic (features)."
    )
    random_init: int | None = option(
        None, low=0, help="Seed of random weights for the same architecture, as a control."
    )
    adapter: Path | None = option(
        None,
        help="Python file whose ARCHITECTURE describes an unknown architecture, or the name of one that an installed "
        "package ships.",
    )
    device: str | None = option(None, help="Device to run on: cpu or cuda; a GPU by default where there is one.")
    precision: str = option(
        "auto",
        help="Precision: float32, tf32 (GPU), bfloat16, float16 (GPU), or auto (16 bits where the hardware supports "
        "it).",
    )
    forward: str = option(
        "auto",
        help="Forward pass: packed (utterances together, each as if it were alone), single (one by one), or auto "
        "(packed on a GPU).",
    )

    def settings(self) -> EncoderSettings:
        """Return the options as settings, which load the encoder."""
        from layerprobe.probe.encoders.loading import EncoderSettings

        return EncoderSettings(self.encoder, self.random_init, self.device, self.adapter, self.precision, self.forward)


@dataclass(frozen=True)
class ExecutionOptions:
    """Where a training runs and what it logs to."""

    device: str | None = option(None, help="Device to run on: cpu or cuda; a GPU by default where there is one.")
    log_to: str | None = option(
        None, help="Tracker to log to, in addition to log.jsonl and TensorBoard.", metavar="wandb|mlflow"
    )


@dataclass(frozen=True)
class AudioOptions:
    """What is read of recordings."""

    channel: str | None = channel_option()
    trim_silence: bool = trim_silence_option()

    def reading(self) -> ReadingOptions:
        """Return the options as those of reading.

        Raises:
            InputError: if the channel is unknown
        """
        from layerprobe.probe.data.reading import ReadingOptions

        return ReadingOptions(self.channel, self.trim_silence)


@dataclass(frozen=True)
class Output:
    """Output of a command: results on standard output, progress on standard error, nothing if quiet."""

    quiet: bool = option(False, help="Print nothing but errors.")

    @functools.cached_property
    def progress(self) -> NullProgress:
        """The progress of the command's stages."""
        return make_progress(quiet=self.quiet)

    def print(self, text: str) -> None:
        """Print a line on standard output."""
        if not self.quiet:
            typer.echo(text)

    def print_quarantined(self, quarantine: pd.DataFrame, *, file: Path | None = None) -> None:
        """Print the first ten quarantined utterances, each with its reason, and the file that lists all."""
        for row in quarantine.head(10).to_dict("records"):
            self.print(f"  {row['utterance_id']}: {row['reason']}")
        if len(quarantine) > 10 and file is not None:
            self.print(f"  … all {len(quarantine)} in {file}")


class _StandardError(logging.Handler):
    """Handler that prints each message as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        typer.echo(self.format(record), err=True)


_LOG = logging.getLogger("layerprobe")  # on which the library logs how it read a file
_LOG.addHandler(_StandardError())


def path_or_url(name: str) -> Path:
    """Return what a path or a URL on the command line names: a cache or a manifest."""
    try:
        return resolve(name)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error  # Typer would wrap a ValueError in a sentence of its own


ManifestPath = Annotated[
    Path,
    typer.Argument(
        parser=path_or_url,
        metavar="MANIFEST",
        help="Manifest: a .csv or .parquet table with a .toml header; a path, or a URL such as s3://….",
    ),
]
UtterancesPath = Annotated[
    Path,
    typer.Argument(
        parser=path_or_url,
        metavar="TABLE",
        help="Table (.csv or .parquet) with utterance_id and path; ratings are not needed.",
    ),
]


def user_command(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a function into one that Typer registers as a command.

    Parameters that are dataclasses of options, `Output` among them, become one option per field; ``--debug`` is added.
    An error of the user's input becomes one sentence and exit code 2, and Ctrl-C exit code 130. Where the reader
    of the output has ended, as after ``| head -1``, the command ends without a message.
    """
    declared = inspect.signature(command, eval_str=True).parameters
    kinds: dict[str, Any] = {name: p.annotation for name, p in declared.items()}
    grouped: dict[str, Any] = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}

    @functools.wraps(command)
    def run(*, debug: bool = False, **values: Any) -> None:
        options = {name: fill_options(kind, values) for name, kind in grouped.items()}
        before = _LOG.level
        _LOG.setLevel(logging.ERROR if any(getattr(o, "quiet", False) for o in options.values()) else logging.WARNING)
        try:
            with _warnings_as_sentences():
                command(**{name: values[name] for name in declared if name not in options}, **options)
        except KeyboardInterrupt as interrupt:
            print_error(interrupted_message())
            raise typer.Exit(interrupted_code()) from interrupt
        except Exception as error:
            if isinstance(error, BrokenPipeError) and silence_closed_outputs():
                raise typer.Exit(BROKEN_PIPE) from error
            reported = as_input_error(error)
            if debug or reported is None:
                raise
            print_error(error_message(reported))
            raise typer.Exit(2) from error
        finally:
            _LOG.setLevel(before)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, single in declared.items()
        for parameter in (typer_parameters(grouped[name]) if name in grouped else [single])
    ]
    debug_option = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
    parameters.append(
        inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=debug_option)
    )
    run.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=None)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Print the warnings of this package as sentences on standard error, and those of others as they are."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category.__module__.startswith("layerprobe."):
            typer.echo(f"Warning: {message}", err=True)
        else:
            others(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def typer_parameters(kind: type[Any]) -> list[inspect.Parameter]:
    """Return a Typer option for each field of a dataclass of options: name, type, default, range and help."""
    hints, parameters = get_type_hints(kind), []
    for field, declared in zip(fields(kind), read_options(kind).values(), strict=True):
        repeatable = get_origin(hints[field.name]) is tuple
        annotation: Any = hints[field.name]
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        if repeatable:
            annotation, default = list[get_args(annotation)[0]] | None, None  # type: ignore[misc]
        typer_option = typer.Option(
            *(f"--{name.replace('_', '-')}" for name in (declared.name or field.name, declared.alias) if name),
            help=declared.help,
            min=declared.low,
            max=declared.high,
            metavar=declared.metavar,
            rich_help_panel=None if kind is Output else _panel(kind),
        )
        kind_of = inspect.Parameter.KEYWORD_ONLY
        parameters.append(
            inspect.Parameter(field.name, kind_of, default=default, annotation=Annotated[annotation, typer_option])
        )
    return parameters


def fill_options(kind: type[Any], arguments: dict[str, Any]) -> Any:
    """Return a dataclass of options with the command line's values; a repeatable option becomes a tuple."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        value = arguments[field.name]
        values[field.name] = tuple(value or ()) if get_origin(hints[field.name]) is tuple else value
    return kind(**values)


def _panel(kind: type[Any]) -> str:
    """Return a panel's title: ``EncoderOptions`` becomes Encoder options."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).capitalize()


def all_quarantined(file: Path, n: int) -> InputError:
    """Return the error of a command that could use no utterance at all.

    Args:
        file: the table that lists them
        n: how many there are
    """
    return InputError(
        "LP860",
        f"none of the {n} utterances could be used. Next: read the column reason of {file}, correct the audio or the "
        "manifest, and run the same command again.",
    )


def interrupted_message() -> str:
    """Return the sentence about the signal that interrupted this process."""
    number = received_signal() or signal.SIGINT
    how = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
    return f"{how}. Completed work is saved; run the same command again to resume."


def interrupted_code() -> int:
    """Return the exit code after the signal that interrupted this process: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (received_signal() or signal.SIGINT)
