"""Errors on the command line: a sentence with a code, and the command that explains it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_store_error

CODE_AT_END = re.compile(r"\[(LP\d{3})\]$", flags=re.MULTILINE)  # of a problem in a list
# of click, which newer versions of Typer contain and older ones import
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
RESUME = "run the same command again; completed work is saved."
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
ELSEWHERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
DISCONNECTED = (
    *(errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ETIMEDOUT),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EIO, errno.ESTALE),
)


def print_error(text: str) -> None:
    """Print a line on standard error, whatever bytes its names have; nothing where the terminal has gone."""
    with suppress(OSError):
        typer.echo(text.encode("utf-8", "backslashreplace").decode(), err=True)


def error_message(error: InputError) -> str:
    """Return two lines: the error with its code, and the command that explains it."""
    return f"Error: {error}\nlayerprobe explain {explained_code(error)} states the cause and what to do."


def explained_code(error: InputError) -> str:
    """Return the code of an error, or that of the problems that it lists, if all of them have the same."""
    listed = set(CODE_AT_END.findall(error.message))
    return listed.pop() if len(listed) == 1 else error.code


def as_input_error(error: BaseException) -> InputError | None:
    """Return an error as one of the user's input, with what to do; None if it is an error of this program."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, UnicodeEncodeError):
        name = error.object[max(0, error.start - 40) : error.end + 20]
        return InputError(
            "LP830", f"a name near '{name}' has bytes that are not UTF-8. Rename the file, then run the command again."
        )
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "layerprobe":
        return InputError("LP820", f"The package {error.name} is not installed. Install it: pip install {error.name}.")
    if isinstance(error, MemoryError):
        return InputError("LP845", f"the memory is full ({error or type(error).__name__}). Lower --jobs, and {RESUME}")
    if isinstance(error, Exception) and is_store_error(error):
        return InputError(
            "LP850",
            f"the object store failed ({type(error).__name__}: {error}). Completed work is saved; run the same "
            "command again when the store answers.",
        )
    return None


def _of_the_system(error: OSError) -> InputError:
    """Return an error of the operating system by its number: what happened, and what to do."""
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    if error.errno in NO_SPACE:
        return InputError("LP840", f"{what}. Free some disk space, then {RESUME}")
    if error.errno in FORBIDDEN:
        return InputError("LP841", f"{what}. Allow reading and writing there, then {RESUME}")
    if error.errno == errno.ENAMETOOLONG:
        return InputError("LP842", f"{what}. Choose shorter names of folders and files, then run the command again.")
    if error.errno in ELSEWHERE:
        return InputError("LP843", f"{what}. Check the path, and that no other program changes the folder.")
    if error.errno in TOO_MANY_FILES:
        return InputError("LP844", f"{what}. Raise the limit with ulimit -n 4096, then {RESUME}")
    if error.errno == errno.ENOMEM:
        return InputError("LP845", f"{what}. Lower --jobs, and {RESUME}")
    if error.errno in DISCONNECTED:
        return InputError("LP847", f"{what}. Check the disk or the connection, then {RESUME}")
    return InputError("LP849", f"{what}. This is an error of the operating system. Remove its cause, then {RESUME}")


def usage_error(error: Any) -> InputError:
    """Return an error of click about what was typed as one of the user's input."""
    if isinstance(error.__cause__, InputError):
        return error.__cause__
    text, kind = error.format_message(), type(error).__name__
    if kind == "NoSuchOption":
        return InputError("LP811", text)
    if kind == "MissingParameter":
        return InputError("LP812", text)
    if kind == "BadOptionUsage":
        return InputError("LP815", text)
    if kind == "BadParameter":
        return InputError("LP813", text)
    if "unexpected extra argument" in text:
        return InputError("LP814", text)
    return InputError("LP810", text)


@contextmanager
def usage_errors_with_codes() -> Iterator[None]:
    """Print errors about what was typed as all others are printed, after the usage of the command, and exit with 2."""
    try:
        yield
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
            raise
        context = getattr(error, "ctx", None)
        if context is not None:
            print_error(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n")
        print_error(error_message(usage_error(error)))
        raise typer.Exit(2) from error
