"""Check a release before it is tagged: build it, install it, and try the README from what was installed.

    make release-check                        in empty environments, into which pip installs every dependency
    make release-check RELEASE_SITE=.venv     … which find the dependencies in that environment instead: minutes sooner

Of the last commit it builds a source distribution and a wheel of layerprobe and of layerprobe-embedded, and checks
them with ``twine check --strict``, their sizes, and that all files state one version. It installs both of layerprobe,
each with the weights of the other package, into environments of their own, and runs the README's commands and Python
there, in an empty folder, without a network: everything must succeed, and print what README shows. Figures in the
output may differ, as processors round differently; such lines are printed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MEGABYTES = {"layerprobe": 2, "layerprobe_embedded": 14}  # of a wheel or a source distribution
NUMBER = re.compile(r"(?:\d+ h )?(?:\d+ min )?[−-]?\d*\.?\d+(?:e-?\d+)?")  # or a duration such as "1 min 53 s"
PARTS = {"layerprobe": ".", "layerprobe_embedded": "probe/embedded"}  # folders that are built, by distribution
FIGURE = re.compile(r"^!\[[^\]]*\]\((?!https?://)[^)]*\)\n\n(?:\*[^*\s](?:.|\n(?!\n))*\*\n\n)?", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s]+)\)")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
OUTPUT = "# "  # begins a line of a command's output in the README's blocks


@dataclass(frozen=True)
class Example:
    """Something that the README has people type, and what it shows as printed."""

    code: str  # one command, or a block of Python
    shown: tuple[str, ...]  # lines of its output


def main() -> None:
    """Run all steps, and end with exit code 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="environment whose packages are used as the dependencies")
    parser.add_argument("--only", choices=["wheel", "sdist"], help="try one of the two")
    parser.add_argument("--keep", type=Path, help="new folder in which everything is kept, the distributions in dist")
    options = parser.parse_args()
    version = agreed_version(stated_versions(ROOT))
    print(f"Version {version} in all files; last commit {_output('git', 'log', '-1', '--format=%h %s')}", flush=True)
    if _output("git", "status", "--porcelain", "--untracked-files=no"):
        print("Changes that are not committed are not in what is checked.")
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = (options.keep or Path(name)).resolve()
        folder.mkdir(exist_ok=True)
        built = build(folder)
        for path in built["layerprobe"]:
            kind = "wheel" if path.suffix == ".whl" else "sdist"
            if options.only in (None, kind):
                commands = install((path, built["layerprobe_embedded"][0]), folder / kind, options.site)
                try_readme(commands, folder / f"{kind}-work", version)
    print(f"{version} can be released.")


def stated_versions(root: Path) -> dict[str, str]:
    """Return what each file states as the version, and as the day of its release, by file and name."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (root / "docs" / "install" / "recipe.yaml").read_text(encoding="utf-8")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return {
        "pyproject.toml version": project["version"],
        "CITATION.cff version": _first(r"^version: (\S+)$", citation),
        "recipe.yaml version": _first(r"^  version: (\S+)$", recipe),
        "CHANGELOG.md version": _first(r"^## (\d\S*) \(", changelog),
        "CITATION.cff day": _first(r"^date-released: (\S+)$", citation),
        "CHANGELOG.md day": _first(r"^## \d\S* \((\d{4}-\d\d-\d\d)\)$", changelog),
    }


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def agreed_version(stated: dict[str, str]) -> str:
    """Return the version that all files state; exit where versions or days differ."""
    for what in ("version", "day"):
        found = {name: text for name, text in stated.items() if name.endswith(what)}
        if len(set(found.values())) > 1:
            raise SystemExit(f"Files differ in the {what} of the release: {found}. Make them equal.")
    return stated["pyproject.toml version"]


def build(folder: Path) -> dict[str, list[Path]]:
    """Build the last commit, with a README whose links hold on an index page, and check the distributions.

    Returns:
        of each of `PARTS`, the wheel and the source distribution, in this order
    """
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    check_classifiers(project["classifiers"])
    repository = project.get("urls", {}).get("Repository", "")
    readme = source / "README.md"
    readme.write_text(for_index(readme.read_text(encoding="utf-8"), repository, f"v{project['version']}"))
    if not repository:
        print("pyproject.toml has no URL of a Repository: the index page shows README without figures and links.")
    found = {}
    for name, part in PARTS.items():
        command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source / part)
        _run(*command, quiet=True, env=None)
        found[name] = sorted((folder / "dist").glob(f"{name}-*"), key=lambda path: path.suffix != ".whl")
        for path in found[name]:
            megabytes = path.stat().st_size / 1e6
            print(f"{path.name}: {megabytes:.1f} MB", flush=True)
            if megabytes > MOST_MEGABYTES[name]:
                raise SystemExit(f"{path.name} has over {MOST_MEGABYTES[name]} MB. Find what should not be in it.")
    _run(sys.executable, "-m", "twine", "check", "--strict", *(p for paths in found.values() for p in paths), env=None)
    return found


def check_classifiers(stated: list[str]) -> None:
    """Exit where the package index does not know a classifier: it refuses the upload."""
    from trove_classifiers import classifiers

    if unknown := sorted(set(stated) - classifiers):
        raise SystemExit(f"pyproject.toml states unknown classifiers: {', '.join(unknown)}. Correct them.")


def for_index(readme: str, repository: str, tag: str) -> str:
    """Return a README whose links to files of the repository hold elsewhere: absolute, or plain text without a URL.

    Without a URL, a figure that is a paragraph of its own is left out, with the caption in italics that follows it.

    >>> text = "![a figure](docs/a.png) [a page](docs/a.md) [a site](https://example.org)"
    >>> for_index(text, "https://example.org/us/it", "v1.0")[:64]
    '![a figure](https://example.org/us/it/raw/v1.0/docs/a.png) [a pa'
    >>> for_index(text, "", "v1.0")
    'a figure a page [a site](https://example.org)'
    >>> for_index("Before.\\n\\n![a figure](docs/a.png)\\n\\n*Its caption.*\\n\\nAfter.", "", "v1.0")
    'Before.\\n\\nAfter.'
    """

    def absolute(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        return f"{mark}[{text}]({repository}/{'raw' if mark else 'blob'}/{tag}/{path})" if repository else text

    return LINK.sub(absolute, readme if repository else FIGURE.sub("", readme))


def install(distributions: tuple[Path, Path], folder: Path, site: Path | None) -> Path:
    """Install layerprobe with its extra ``demo`` into a new environment, and return the folder of its commands.

    Args:
        distributions: of layerprobe, and of layerprobe-embedded, which the extra needs
        folder: of the environment, a new one
        site: environment that holds the dependencies, or None

    With ``site`` pip installs no dependency: the environment finds those of another one, behind its own packages.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    if site is None:
        _run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", f"{distributions[0]}[demo]",
             distributions[1])  # fmt: skip
    else:
        (there,) = site.resolve().glob("lib/python*/site-packages")
        (here,) = folder.glob("lib/python*/site-packages")
        (here / "dependencies.pth").write_text(f"{there}\n")  # searched last; its own .pth files are not read
        _run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed",
             *distributions)  # fmt: skip
    return folder / "bin"


def try_readme(commands: Path, folder: Path, version: str) -> None:
    """Run the README's commands and Python with the programs of an environment, in a new folder without a network."""
    folder.mkdir()
    environment = ENVIRONMENT | {"PATH": f"{commands}:{ENVIRONMENT['PATH']}", "HF_HUB_OFFLINE": "1"}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    where = "import layerprobe, importlib.metadata as m; print(layerprobe.__file__, m.version('layerprobe'))"
    found = _shell([str(commands / "python"), "-c", where], folder, environment).split()
    if not found[0].startswith(str(commands.parent)) or found[1] != version:
        raise SystemExit(f"{found[0]}, version {found[1]}, was imported instead of version {version} as installed.")
    for example in commands_of(text):
        print(f"{commands.parent.name}: {example.code}", flush=True)
        report(example, _shell(["bash", "-c", example.code], folder, environment))
    example = python_of(text)
    print(f"{commands.parent.name}: the Python of README.md", flush=True)
    report(example, _shell([str(commands / "python"), "-c", example.code], folder, environment))


def commands_of(readme: str) -> Iterator[Example]:
    """Yield the commands of the README's blocks that show output, each with the lines that are shown of it."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE):
        lines = block.splitlines()
        if language not in ("", "bash") or not any(line.startswith("layerprobe ") for line in lines):
            continue
        starts = [k for k, line in enumerate(lines) if line and not line.startswith(OUTPUT)]
        for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            shown = tuple(line.removeprefix(OUTPUT) for line in lines[begin + 1 : end] if line)
            yield Example(lines[begin].strip(), shown)


def python_of(readme: str) -> Example:
    """Return the README's block of Python, with the block of output that follows it."""
    pattern = r"^```python\n(.*?)^```\n\s*^```(?:text)?\n(.*?)^```$"
    code, shown = re.search(pattern, readme, re.DOTALL | re.MULTILINE).groups()
    return Example(code, tuple(shown.splitlines()))


def report(example: Example, printed: str) -> None:
    """Print lines whose numbers differ from README's; exit where a line that README shows is not printed."""
    lines = [line.strip() for line in printed.splitlines()]
    for line in map(str.strip, example.shown):
        like = [found for found in lines if without_numbers(found) == without_numbers(line)]
        if not like:
            raise SystemExit(f"README shows a line that is not printed:\n  {line}\nPrinted was:\n{printed}")
        if line not in like:
            print(f"  README: {line}\n  here:   {like[0]}")


def without_numbers(line: str) -> str:
    """Return a line with every number, and the blanks that align it, as one sign.

    >>> without_numbers("valence   .12 of 384") == without_numbers("valence  −.09 of 384")
    True
    >>> without_numbers("extracted in 1 min 53 s"), without_numbers("in 2 min 05 s"), without_numbers("in .5 s")
    ('extracted in # s', 'in # s', 'in # s')
    """
    return " ".join(NUMBER.sub("#", line).split())


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _run(*command: object, quiet: bool = False, env: dict[str, str] | None = ENVIRONMENT) -> None:
    done = subprocess.run([*map(str, command)], capture_output=quiet, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed.\n{done.stdout or ''}{done.stderr or ''}")


def _shell(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[-1]} ended with exit code {done.returncode}.\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
