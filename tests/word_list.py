"""Check that text and code use the terms of the field: ``python tests/word_list.py [FILES]``; all files if none.

Prints ``file:line: word -> term`` for each word of word_list.toml that no entry of its allow-list covers, and exits
with 1 where there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENDINGS = {".py", ".md", ".html", ".toml", ".yml", ".yaml", ".slurm", ".cff"}


def load_list() -> tuple[list[tuple[re.Pattern[str], str]], list[dict[str, str]]]:
    """Return the patterns with their terms, and the allow-list.

    Raises:
        ValueError: if an entry of the allow-list lacks its reason, or covers everything
    """
    content = tomllib.loads((ROOT / "tests" / "word_list.toml").read_text(encoding="utf-8"))
    # A word ends at anything but a letter, so that the parts of snake_case and CamelCase names count.
    words = [
        (re.compile(rf"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:{pattern})(?![a-z])"), term)
        for pattern, term in content["words"].items()
    ]
    for entry in content["allow"]:
        if not entry.get("reason") or not (entry.get("path") or entry.get("text")):
            raise ValueError(f"{entry} of word_list.toml needs a reason, and a path or a text")
    return words, content["allow"]


def findings(name: str, text: str) -> Iterator[str]:
    """Yield a line of output for each word in a file's text that is not allowed."""
    words, allowed = load_list()
    allowed = [entry for entry in allowed if fnmatch(name, entry.get("path", "*"))]
    if any("text" not in entry for entry in allowed):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if any(re.search(entry["text"], line) for entry in allowed):
            continue
        for pattern, term in words:
            for found in pattern.findall(line):
                yield f"{name}:{number}: {found} -> {term}"


def tracked_files() -> list[str]:
    """Names of the text files under version control; links into the same folders are left out."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [n for n in names if is_checked(n)]


def is_checked(name: str) -> bool:
    """Return whether a file has text of this project; the links into the same folders have not."""
    return (Path(name).suffix in ENDINGS or Path(name).name == "Makefile") and not (ROOT / name).is_symlink()


if __name__ == "__main__":
    lines = [
        line
        for name in sys.argv[1:] or tracked_files()
        if is_checked(name)
        for line in findings(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    print("\n".join(lines))
    sys.exit(bool(lines))
