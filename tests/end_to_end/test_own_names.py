"""Folders in which users' own files have the names of our folders: nothing of theirs is imported, nothing changes.

Tried from the installation that the tests run in (editable) and from a wheel in an environment of its own.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.command_line import ROOT
from helpers.every_command import make_material
from release_check import python_of

OURS = {"analysis", "figures", "probe"}
THEIRS = {  # files of users; each folder holds all of one line
    "nothing": (),
    "modules": ("analysis.py", "probe.py", "figures.py"),
    "packages": (
        "analysis/__init__.py",
        "analysis/runs.py",
        "figures/__init__.py",
        "figures/style.py",
        "probe/__init__.py",
        "probe/metrics.py",
        "probe/data/manifest.py",
    ),
    "folders": ("analysis/runs.py", "figures/style.py", "probe/metrics.py", "runs/mine.py", "metrics.py", "tests/a.py"),
}
BOOBY_TRAP = "raise RuntimeError(f'a file of the user was imported: {__file__}')\n"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A source distribution and a wheel, built from a copy of the tree by the build backend itself."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("probe", "analysis", "figures", "layerprobe"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    build = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.suffix: path for path in (root / "dist").iterdir()}


@pytest.fixture(scope="module")
def from_wheel(distributions, tmp_path_factory):
    """The interpreter of an environment that holds the wheel and finds the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(distributions[".whl"]) as wheel:
        wheel.extractall(site)  # which is what installing a wheel of pure Python does
    # a path that is named here is searched last, and its own .pth files (an editable installation) are not read
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def interpreters(from_wheel):
    return {"editable": Path(sys.executable), "wheel": from_wheel}


@pytest.fixture(scope="module")
def material(folders, tmp_path_factory):
    return make_material(tmp_path_factory.mktemp("material"), folders["hubert"])


def users_folder(path, files):
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(BOOBY_TRAP)
    return path


def ran(interpreter, folder, *arguments):
    """What a process prints that runs in a user's folder, which is first on its path, as in a notebook."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(folder)}
    command = [str(interpreter), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("how", "files", "quick"),
    [
        pytest.param("wheel", "packages", (), marks=pytest.mark.long),  # every command
        pytest.param("wheel", "packages", ("--quick",), marks=pytest.mark.long),
        pytest.param("wheel", "folders", ("--quick",), marks=pytest.mark.long),  # those of the README
        pytest.param("editable", "packages", ("--quick",), marks=pytest.mark.long),
        ("editable", "modules", ("--quick",)),
    ],
)
def test_commands_and_modules_run_in_a_users_folder(how, files, quick, interpreters, material, tmp_path):
    folder = users_folder(tmp_path, THEIRS[files])
    output = ran(interpreters[how], folder, ROOT / "tests" / "helpers" / "every_command.py", material, *quick)
    assert "every command ran" in output
    assert ("site-packages" in output.splitlines()[0]) == (how == "wheel")
    assert int(re.search(r"(\d+) modules", output)[1]) > 100


@pytest.mark.parametrize("how", ["editable", pytest.param("wheel", marks=pytest.mark.long)])
def test_the_module_itself_starts_and_prints_the_same_numbers(how, interpreters, material, tmp_path):
    """``python -m layerprobe``, whose first path is the working folder: a user's own CCC was once printed."""
    output = {}
    for files in ("nothing", "folders"):
        (tmp_path / files).mkdir()
        folder = users_folder(tmp_path / files, THEIRS[files])
        output[files] = ran(interpreters[how], folder, "-m", "layerprobe", "manifest", "describe", material / "my.csv")
    assert "arousal" in output["nothing"]
    assert output["folders"] == output["nothing"]


@pytest.mark.parametrize("how", ["editable", pytest.param("wheel", marks=pytest.mark.long)])
def test_the_readmes_python_example_runs_in_a_users_folder(how, interpreters, material, tmp_path):
    folder = users_folder(tmp_path, THEIRS["packages"])
    example = python_of((ROOT / "README.md").read_text(encoding="utf-8")).code
    example = example.replace('"demo/corpus/demo.csv"', repr(str(material / "my.csv")))
    example = example.replace('"embedded"', repr(str(material / "speech")))
    (folder / "notebook.py").write_text(example)
    ran(interpreters[how], folder, "notebook.py")
    assert (folder / "runs" / "first" / "scores.parquet").exists()
    assert (folder / "heatmap.png").exists()


def test_an_installation_brings_one_name_and_everything_that_is_read_at_run_time(distributions):
    with zipfile.ZipFile(distributions[".whl"]) as wheel:
        files = [name for name in wheel.namelist() if ".dist-info/" not in name]
        tops = next(n for n in wheel.namelist() if n.endswith("top_level.txt"))
        assert wheel.read(tops).decode().split() == ["layerprobe"]
    assert {name.split("/")[0] for name in files} == {"layerprobe"}
    for needed in ("py.typed", "probe/embedded/model.safetensors", "figures/report/report.html", "cli/app.py"):
        assert f"layerprobe/{needed}" in files
    ours = {f"{p.relative_to(ROOT)}" for name in OURS for p in (ROOT / name).rglob("*.py")}
    assert {f"layerprobe/{name}" for name in ours} <= set(files)
    with tarfile.open(distributions[".gz"]) as source:
        inside = {name.split("/")[1] for name in source.getnames() if name.count("/") > 1}
        assert inside == {"layerprobe", "layerprobe.egg-info"}


def bare_imports(source):
    """Imports of our folders by a name that a user's file could have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found += [name for name in names if name.split(".")[0] in OURS]
    return found


def test_nothing_is_imported_by_a_name_that_is_not_ours():
    assert bare_imports("import probe.metrics\nfrom figures.draw import draw\nfrom layerprobe.probe import hub") == [
        "probe.metrics",
        "figures.draw",
    ]
    paths = [p for name in (*sorted(OURS), "layerprobe/cli", "tests") for p in (ROOT / name).rglob("*.py")]
    assert {str(p): found for p in paths if (found := bare_imports(p.read_text()))} == {}


def test_the_links_lead_to_the_folders_of_the_checkout():
    """A checkout that has text files in their place (Windows without core.symlinks) can't import anything."""
    for name in OURS:
        link = ROOT / "layerprobe" / name
        assert link.is_symlink(), f"{link} is no link: check out again with git config core.symlinks true"
        assert link.resolve() == ROOT / name
