"""Every error on the command line names its code and, in a last line, the command that explains it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from types import SimpleNamespace

import pytest
import typer
from helpers.command_line import COMMAND, refused, run, script_environment
from helpers.voices import write_table
from typer.testing import CliRunner

from layerprobe.cli import errors
from layerprobe.cli.options import user_command
from layerprobe.probe.code_pages import codes, read_page
from layerprobe.probe.exceptions import InputError

TYPED = {  # what is typed, and the code of its error
    "an unknown command": (["foo"], "LP810"),
    "an unknown command of a group": (["manifest", "validat", "my.csv"], "LP810"),
    "no command": (["--trust-pickle"], "LP810"),
    "an unknown option": (["explain", "--foo"], "LP811"),
    "an unknown option before the command": (["--foo", "explain"], "LP811"),
    "a missing option": (["sweep", "a.zarr", "my.csv"], "LP812"),
    "a missing argument": (["manifest", "validate"], "LP812"),
    "an argument that is missing by the other ones": (["sweep", "--out", "runs/a", "--quiet"], "LP812"),
    "no number": (["train", "my.csv", "--out", "m", "--seeds", "few"], "LP813"),
    "a number out of its range": (["train", "my.csv", "--out", "m", "--batch-size", "1"], "LP813"),
    "an unknown choice": (["compare", "a", "b", "--metric", "loud"], "LP813"),
    "an argument too many": (["explain", "LP001", "LP002"], "LP814"),
    "an option without its value": (["explain", "--out"], "LP811"),
    "the last option without its value": (["extract", "my.csv", "--out"], "LP815"),
    "a switch with a value": (["explain", "--quiet=3"], "LP815"),
    "options that exclude each other": (["transcribe", "my.csv"], "LP816"),
    "a code that is none": (["explain", "LP999"], "LP801"),
    "a word that is in no page": (["explain", "zebra"], "LP802"),
}


@pytest.mark.parametrize("what", TYPED)
def test_an_error_about_what_was_typed_has_a_code(what):
    arguments, code = TYPED[what]
    *_, last = refused(*arguments).splitlines()
    assert last.startswith("Error: ")
    assert last.endswith(f"[{code}]")


def test_the_usage_stands_above_an_error_about_what_was_typed():
    first, second, empty, error = refused("explain", "--foo").splitlines()
    assert first.split(" ", 1)[1].endswith(" explain [OPTIONS] [CODE]")
    assert second.startswith("Try '")
    assert (empty, error) == ("", "Error: No such option: --foo [LP811]")


def test_no_command_at_all_prints_the_help_without_an_error():
    result = run()
    assert ("Error" in result.output, "Usage" in result.output) == (False, True)


def test_an_address_of_an_unknown_store_keeps_its_code_while_it_is_parsed():
    message = refused("cache", "info", "none://a/b.zarr").splitlines()[-1]
    assert message.startswith("Error: none://a/b.zarr can't be opened (")
    assert "LP813" not in message


class StoreError(Exception):
    """As a client of an object store raises it."""


StoreError.__module__ = "botocore.exceptions"


def _system(number):
    return OSError(number, os.strerror(number), "a/b.csv")


RAISED = {  # what a command meets, and the code of its error
    "an error of the input": (InputError("LP123", "a.csv is empty. Fill it."), "LP123"),
    "a full disk": (_system(errno.ENOSPC), "LP840"),
    "a quota": (_system(errno.EDQUOT), "LP840"),
    "no permission": (_system(errno.EACCES), "LP841"),
    "a disk for reading alone": (_system(errno.EROFS), "LP841"),
    "a path that is too long": (_system(errno.ENAMETOOLONG), "LP842"),
    "a file that is gone": (_system(errno.ENOENT), "LP843"),
    "a folder in place of a file": (_system(errno.EISDIR), "LP843"),
    "too many open files": (_system(errno.EMFILE), "LP844"),
    "no memory of the system": (_system(errno.ENOMEM), "LP845"),
    "no memory for an array": (MemoryError("Unable to allocate 9 TiB"), "LP845"),
    "a broken disk": (_system(errno.EIO), "LP847"),
    "a refused connection": (_system(errno.ECONNREFUSED), "LP847"),
    "another error of the system": (_system(errno.EBUSY), "LP849"),
    "an error of the system without a number": (TimeoutError("no answer after 10 s"), "LP849"),
    "an object store": (StoreError("no endpoint"), "LP850"),
    "a name that is not UTF-8": (UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "no surrogates"), "LP830"),
    "an optional package": (ModuleNotFoundError("No module named 'extra'", name="extra"), "LP820"),
}


def met(error, *arguments):
    """Run a command that raises an error."""
    own = typer.Typer()

    @own.command()
    @user_command
    def command() -> None:
        raise error

    return CliRunner().invoke(own, [*arguments])


@pytest.mark.parametrize("what", RAISED)
def test_an_error_that_a_command_meets_has_a_code(what):
    error, code = RAISED[what]
    result = met(error)
    assert result.exit_code == 2
    message, last = result.stderr.splitlines()
    assert message.startswith("Error: ")
    assert message.endswith(f". [{code}]")
    assert last == f"layerprobe explain {code} states the cause and what to do."
    if isinstance(error, OSError):
        assert (error.strerror or str(error)) in message
        assert ("a/b.csv: " in message) == bool(error.filename)
    assert met(error, "--debug").exception is error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("of this program"), ValueError("of this program"), ModuleNotFoundError("", name="layerprobe.gone")],
)
def test_an_error_of_this_program_keeps_its_traceback_and_has_no_code(error):
    result = met(error)
    assert result.exception is error
    assert "LP" not in result.output


def test_an_interrupt_has_no_code(monkeypatch):
    monkeypatch.setattr("layerprobe.cli.options.received_signal", lambda: signal.SIGINT)
    result = met(KeyboardInterrupt())
    assert (result.exit_code, result.stderr.count("\n"), "LP" in result.stderr) == (130, 1, False)


def test_a_list_of_problems_of_one_kind_is_explained_by_their_code():
    rows = [f"my.csv has 2 problems:\n  row {k}: arousal is 9 [{code}]" for k, code in ((1, "LP120"), (2, "LP121"))]
    assert errors.explained_code(InputError("LP100", f"{rows[0]}\nCorrect them.")) == "LP120"
    assert errors.explained_code(InputError("LP100", "\n".join(rows))) == "LP100"
    assert errors.explained_code(InputError("LP100", "the reason [LP120] of a.wav. Correct it.")) == "LP100"


def test_a_manifest_without_a_usable_row_names_the_code_to_explain(tmp_path):
    table = write_table(tmp_path, [{"utterance_id": "a", "path": "none.wav", "speaker_id": "s", "arousal": 1.0}])
    result = run("manifest", "validate", table)
    assert f"row 2: no file at {table.parent / 'none.wav'} [LP143]\n" in result.stderr
    assert result.stderr.endswith("[LP100]\nlayerprobe explain LP143 states the cause and what to do.\n")


def test_the_program_as_installed_prints_the_same():
    done = subprocess.run([*COMMAND, "foo"], capture_output=True, text=True, env=script_environment())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "Error: No such command 'foo'. [LP810]",
        "layerprobe explain LP810 states the cause and what to do.",
    ]


@pytest.mark.parametrize("code", sorted({code for _, code in [*TYPED.values(), *RAISED.values()]} - {"LP123"}))
def test_the_page_of_each_of_these_codes_is_printed(code):
    assert run("explain", code.lower()).stdout == f"{read_page(code).text}\n"


def test_a_word_lists_the_codes_whose_title_or_symptom_has_it():
    listed = run("explain", "DISK").stdout
    assert "\nThe command line, the machine and the network\n  LP840  Disk that is full\n" in f"\n{listed}"
    assert "LP801" not in listed
    assert "LP812  " in run("explain", "missing option '--out'").stdout
    assert run("explain").stdout.count("\n  LP") == len(codes())


def test_the_kinds_of_click_are_those_that_typer_raises():
    assert errors.USAGE_ERROR.__name__ == "UsageError"
    unknown = SimpleNamespace(format_message=lambda: "Something new.", __cause__=None)
    assert str(errors.usage_error(unknown)) == "Something new. [LP810]"
