"""Print the table of packages that CONTRIBUTING.md shows, from the code itself; with --write, put it there.

A package's sentence is the first line of its ``__init__.py``; what it imports is read from the import graph, and what
follows from the packages listed is left out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- make house -->\n", "<!-- end -->\n"
NAME = "layerprobe"
LINES = 3  # the column of lines, which a test does not compare


def table() -> str:
    """The Markdown table, packages in the order of their imports."""
    modules, imports = _packages()
    rows = [["package", "what is there", "modules", "lines", "imports from"], ["---", "---", "---:", "---:", "---"]]
    for package in _in_order(imports):
        paths = [_path(module) for module in modules[package]]
        n_lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        sentence = ast.get_docstring(ast.parse((_path(package) / "__init__.py").read_text(encoding="utf-8"))) or ""
        nearest = ", ".join(f"`{_shown(p)}`" for p in _nearest(package, imports))
        rows.append(
            [f"`{_shown(package)}`", sentence.splitlines()[0], str(len(paths)), f"{n_lines:,}", nearest or "nothing"]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells(markdown: str) -> list[list[str]]:
    """The rows of a table without the number of lines, which changes daily."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in markdown.splitlines()]
    return [row[:LINES] + row[LINES + 1 :] for row in rows]


def shown_table(document: str) -> str:
    """The table as a document shows it."""
    return document.partition(BEGIN)[2].partition(END)[0]


def _packages() -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """The modules of each package, and the packages that they import from."""
    graph = grimp.build_graph(NAME, cache_dir=None)
    modules: dict[str, list[str]] = {}
    imports: dict[str, set[str]] = {}
    for module in sorted(m for m in graph.modules if _path(m).is_file()):
        package = module.rpartition(".")[0]
        modules.setdefault(package, []).append(module)
        found = imports.setdefault(package, set())
        for imported in graph.find_modules_directly_imported_by(module):
            found.add(imported.rpartition(".")[0] if _path(imported).is_file() else imported)
        found -= {package}
    return modules, imports


def _in_order(imports: dict[str, set[str]]) -> Iterator[str]:
    """Packages after those that they import; the front door, whose modules import each other's, last."""
    sorter = TopologicalSorter({package: found - {NAME} for package, found in imports.items()})
    sorter.prepare()
    while ready := sorted(sorter.get_ready()):
        yield from ready
        sorter.done(*ready)


def _nearest(package: str, imports: dict[str, set[str]]) -> list[str]:
    """The packages imported, without those that these import in their turn."""
    found = imports[package] - {NAME}
    return sorted(p for p in found if not any(p in _below(q, imports) for q in found if q != p))


def _below(package: str, imports: dict[str, set[str]]) -> set[str]:
    found = imports.get(package, set()) - {NAME}
    return found.union(*(_below(p, imports) for p in found))


def _path(module: str) -> Path:
    """The file of a module, the folder of a package, with no link in it."""
    folder = ROOT / "/".join(module.split("."))
    return (folder if folder.is_dir() else folder.with_suffix(".py")).resolve()


def _shown(package: str) -> str:
    """As its folder is called in the repository."""
    return str(_path(package).relative_to(ROOT.resolve()))


if __name__ == "__main__":
    made = table()
    print(made, end="")
    if "--write" in sys.argv[1:]:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")
