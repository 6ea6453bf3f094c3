"""Code of the documentation's pages, run as it is written there, in a folder of its own."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from helpers.command_line import ROOT, run

FENCE = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """Code of a page, with the output that the page shows for it."""

    language: str
    code: str
    note: str  # of a comment before it
    output: str


def blocks(name: str) -> Iterator[Block]:
    """Yield the blocks of a page; a ``text`` block that follows code directly is its output."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    for block, following in zip(found, [*found[1:], None], strict=True):
        shown = (
            following is not None
            and following["language"] == "text"
            and not text[block.end() : following.start()].strip()
        )
        yield Block(
            block["language"], block["code"], block["note"] or "", following["code"] if shown and following else ""
        )


def run_block(block: Block) -> str:
    """Run the code of a block in the working folder and return what it prints.

    Raises:
        AssertionError: if a command fails, or the block has one that is not known here
    """
    if block.note.startswith("file: "):
        Path(block.note.removeprefix("file: ")).write_text(block.code, encoding="utf-8")
        return ""
    if block.language == "python":
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block.code, "page", "exec"), {"__name__": "__main__"})
        return printed.getvalue()
    return (
        "".join(_run_line(line) for line in block.code.replace("\\\n", "").splitlines() if line.strip())
        if block.language == "bash"
        else ""
    )


def _run_line(line: str) -> str:
    command, *arguments = shlex.split(line, comments=True)
    if command == "cp":
        shutil.copy(*arguments)
        return ""
    assert command == "layerprobe", f"this command is not known here: {line}"
    result = run(*arguments)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return str(result.output)


def missing_lines(block: Block, printed: str) -> list[str]:
    """Return the lines of the page's output that were not printed; numbers and names under three letters may differ."""
    there = {_letters(line) for line in printed.splitlines()}
    return [line for line in block.output.splitlines() if line.strip() != "…" and _letters(line) not in there]


def _letters(line: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z]{3,}", line))
