"""The messages with a code that the packages can print, read from their source."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (
    "probe",
    "analysis",
    "figures",
    "layerprobe/cli",
    "layerprobe/deployment",
    "layerprobe/serving",
    "layerprobe/sharing",
    "layerprobe/demo.py",
)
CODE = re.compile(r"LP\d{3}")
CODED = (
    "InputError", "InvalidAudioError", "CacheDamagedError", "NothingToPlotError", "AnnotationConflictError", "Problem",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A call whose first argument is a code, such as ``InputError("LP104", f"{path} …")``, or should be one."""

    where: str  # file and line
    code: str | None  # None where the first argument is no code
    pattern: str | None  # matches what the call prints; None where its message is made elsewhere


@dataclass(frozen=True)
class Sentence:
    """A sentence that a check of a study can report."""

    state: str  # Issue or Tip
    pattern: str | None  # None where its text is made elsewhere


def sites() -> list[Site]:
    """Return every call with a code in the packages, and every error of the user's input without one."""
    return [
        Site(f"{path.relative_to(ROOT)}:{call.lineno}", _code(call), _pattern(call))
        for name in SOURCES
        for path in _files(ROOT / name)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and (_code(call) or ast.unparse(call.func).split(".")[-1] in CODED)
        if not _passes_on(call)
    ]


def sentences(check: str) -> list[Sentence]:
    """Return each issue and tip that a function of analysis/checks, or those that it calls there, can report."""
    parsed = [ast.parse(path.read_text(encoding="utf-8")) for path in _files(ROOT / "analysis/checks")]
    functions = {node.name: node for tree in parsed for node in tree.body if isinstance(node, ast.FunctionDef)}
    found, to_read, done = [], [check], set()
    while to_read:
        done.add(name := to_read.pop())
        for call in ast.walk(functions[name]):
            called = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if called in ("issue", "tip"):
                found.append(Sentence(called.capitalize(), _message_pattern(call.args[0])))
            elif called in functions and called not in done:
                to_read.append(called)
    return found


def one_line(text: str) -> str:
    """Return a text with single spaces in place of line breaks and indentation."""
    return " ".join(text.split())


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _code(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    is_code = isinstance(first, ast.Constant) and isinstance(first.value, str) and CODE.fullmatch(first.value)
    return first.value if is_code else None


def _passes_on(call: ast.Call) -> bool:
    """Return whether the code is that of another error or problem, as in ``InvalidAudioError(one.code, one.text)``."""
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Attribute) and first.attr == "code"


def _pattern(call: ast.Call) -> str | None:
    return _message_pattern(call.args[1]) if len(call.args) > 1 else None


def _message_pattern(message: ast.expr) -> str | None:
    """Return a pattern of a message, in which whatever is filled in matches any text; None if little is known."""
    parts = _parts(message)
    literal = "".join(part for part in parts if part is not None)
    if len(literal.split()) < 3:
        return None
    return "".join(r".*?" if part is None else re.escape(part) for part in _single_spaced(parts))


def _parts(message: ast.expr) -> list[str | None]:
    """Return the literal parts of a message; None for each part that is filled in."""
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return [message.value]
    if isinstance(message, ast.JoinedStr):
        return [p for value in message.values for p in _parts(value)]
    if isinstance(message, ast.BinOp) and isinstance(message.op, ast.Add):
        return _parts(message.left) + _parts(message.right)
    return [None]


def _single_spaced(parts: list[str | None]) -> list[str | None]:
    return [None if part is None else re.sub(r"\s+", " ", part) for part in parts]
