"""Processes for tests, forked from one that has imported what takes seconds: torch, transformers, zarr, layerprobe.

The server imports and computes nothing, so that it has no thread which a fork would lose. A case that is forked from
it becomes Python's main program as after ``python -c`` or ``python -m``: exit codes and signals are an interpreter's.
What is read of the environment by an import, like ``HF_HUB_CACHE``, is the server's own.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "torch", "torchaudio", "transformers", "zarr", "s3fs", "pandas", "scipy.stats", "matplotlib.pyplot",
    "layerprobe.cli.app", "layerprobe.figures.report.report", "layerprobe.probe.encoders.loading",
    "layerprobe.probe.extraction.extract", "layerprobe.probe.sweep.sweep", "helpers.speech_models",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Arguments, folder and environment of a ``python -c code`` or ``python -m module``."""

    code: str | None
    module: str | None
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    new_session: bool

    def main(self) -> None:
        """Run the case as this process's main program."""
        if self.module is not None:
            sys.argv[1:] = self.arguments
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *self.arguments]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(str(self.code), "<string>", "exec"), vars(sys.modules["__main__"]))


class Forked:
    """A process that was forked, with what a test needs of `subprocess.Popen`."""

    def __init__(self, case: Case, report: IO[str], output: IO[bytes], errors: IO[bytes]):
        self._case, self._report, self._output, self._errors = case, report, output, errors
        pid = report.readline()
        if not pid:
            raise RuntimeError("the fork server has ended; what it wrote is among the captured errors")
        self.pid = int(pid)

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end and return its output and exit code, negative after a signal.

        Raises:
            subprocess.TimeoutExpired: if it has not ended after so many seconds; it is killed
        """
        ended, _, _ = select.select([self._report], [], [], timeout)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(self._case.arguments, timeout)
        with self._report, self._output, self._errors:
            code = os.waitstatus_to_exitcode(int(self._report.readline()))
            self._output.seek(0)
            self._errors.seek(0)
            return subprocess.CompletedProcess(
                self._case.arguments, code, self._output.read().decode(), self._errors.read().decode()
            )


class ForkServer:
    """A process that has imported all and forks a process for each case; it ends with its context."""

    def __init__(self, **environment: str):
        self._here, there = socket.socketpair()
        with there:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "helpers.fork_server", str(there.fileno())],
                pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT, env=_environment() | environment,
            )  # fmt: skip

    def start(
        self,
        *arguments: object,
        code: str | None = None,
        module: str | None = None,
        folder: Path = ROOT,
        environment: dict[str, str] | None = None,
        new_session: bool = False,
    ) -> Forked:
        """Start ``python -c code *arguments`` or ``python -m module *arguments``.

        Args:
            arguments: what follows on the command line
            code: for ``-c``
            module: for ``-m``
            folder: the working directory
            environment: what differs from this process's
            new_session: whether a signal to its process group reaches it and its children alone
        """
        variables = _environment() | (environment or {})
        case = Case(code, module, list(map(str, arguments)), str(folder), variables, new_session)
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - `Forked` closes them
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as message, os.fdopen(writing, "wb"):
            message.write(json.dumps(asdict(case)).encode())
            message.flush()
            socket.send_fds(self._here, [b"."], [message.fileno(), output.fileno(), errors.fileno(), writing])
        return Forked(case, os.fdopen(reading, "r"), output, errors)

    def run(self, *arguments: object, timeout: float = 300, **case: Any) -> subprocess.CompletedProcess[str]:
        """Run to the end what `start` starts."""
        return self.start(*arguments, **case).wait(timeout)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._server.wait(timeout=60)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def serve(there: socket.socket) -> Case | None:
    """Fork for each case that comes; returns in a process that is forked, with its case, and at the end with none."""
    while True:
        byte, files, *_ = socket.recv_fds(there, 1, 4)
        if not byte:
            return None
        if os.fork() == 0:
            there.close()
            return _run_reported(*files)
        for file in files:
            os.close(file)


def _run_reported(message: int, output: int, errors: int, report: int) -> Case:
    """Fork the case itself, whose end this process waits for and reports."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # what a child leaves is waited for
    child = os.fork()
    if child:
        os.write(report, f"{child}\n".encode())
        with suppress(BrokenPipeError):  # the test no longer waits for it
            os.write(report, f"{os.waitpid(child, 0)[1]}\n".encode())
        os._exit(0)
    with os.fdopen(message, "rb") as file:
        file.seek(0)
        case = Case(**json.load(file))
    if case.new_session:
        os.setsid()
    os.dup2(output, sys.stdout.fileno())
    os.dup2(errors, sys.stderr.fileno())
    for file in (output, errors, report):
        os.close(file)
    os.chdir(case.folder)
    os.environ.clear()
    os.environ.update(case.environment)
    tempfile.tempdir = None  # chosen anew from the environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return case


def main() -> None:
    """Import, then serve at the socket whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no forked process is left as a zombie
    for name in PRELOADED:
        import_module(name)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]  # none known but on Linux
    assert len([t for t in threads if t != "jemalloc_bg_thd"]) <= 1, threads  # pyarrow's allocator heeds forks itself
    case = serve(socket.socket(fileno=int(sys.argv[1])))
    if case is not None:
        case.main()


if __name__ == "__main__":
    main()
