"""What the project's files state about the code, its versions and each other is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from house_table import DOCUMENT, cells, shown_table, table
from packaging.requirements import Requirement
from release_check import agreed_version, stated_versions

import layerprobe

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS_AND_FORMS = sorted(p.name for p in (ROOT / ".github").rglob("*.yml"))


def test_the_table_of_packages_is_true():
    shown = shown_table(DOCUMENT.read_text(encoding="utf-8"))
    assert cells(shown) == cells(table()), "CONTRIBUTING.md has an old table of packages; run: make house"


def test_files_and_names_in_contributing_exist():
    text = DOCUMENT.read_text(encoding="utf-8")
    paths = {
        p for p in re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)`", text) if "NAME" not in p and not p.startswith(".venv")
    }
    assert len(paths) > 30
    assert sorted(p for p in paths if not (ROOT / p).exists()) == []
    names = re.findall(r"`(\w+)` \(`([\w/]+\.py)`\)", text)
    assert len(names) > 10
    assert [(n, p) for n, p in names if not re.search(rf"\b{n}\b", (ROOT / p).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", ["probe", "analysis", "figures"])
def test_the_package_reaches_the_folders_at_the_top_by_links(name):
    link = ROOT / "layerprobe" / name
    assert link.is_symlink(), (
        f"{link} is no symbolic link: git checked it out as a file. "
        "Clone again with: git clone -c core.symlinks=true (on Windows, with developer mode on)."
    )
    assert link.resolve() == (ROOT / name).resolve()


def test_the_oldest_supported_versions_are_the_bounds_of_the_project():
    groups = [PROJECT["dependencies"], PROJECT["optional-dependencies"]["corpora"]]
    required = [Requirement(text) for group in groups for text in group]
    bounds = {r.name: s.version for r in required for s in r.specifier if s.operator in (">=", "==")}
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("#")[0].strip().split("==") for line in lines if line.split("#")[0].strip())
    assert set(bounds) <= set(pinned)
    of_tests = {r.name: r for r in map(Requirement, PROJECT["optional-dependencies"]["dev"])}
    assert {n: v for n, v in pinned.items() if n in bounds and not _same(v, bounds[n])} == {}
    assert [n for n, v in pinned.items() if n not in bounds and not of_tests[n].specifier.contains(v)] == []


def _same(a: str, b: str) -> bool:
    """Whether two versions are one but for zeros at the end."""
    return re.sub(r"(\.0)+$", "", a) == re.sub(r"(\.0)+$", "", b)


def test_every_place_has_the_same_version():
    stated = stated_versions(ROOT)
    assert stated["CITATION.cff version"] == PROJECT["version"]
    if ".dev" in PROJECT["version"]:  # between releases
        assert stated["CITATION.cff day"] == ""
    else:
        assert agreed_version(stated) == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["description"].lower() in citation["title"].lower()


@pytest.mark.parametrize(
    ("changed", "word"),
    [("pyproject.toml version", "version"), ("CHANGELOG.md version", "version"), ("CITATION.cff day", "day")],
)
def test_a_release_whose_files_differ_is_refused(changed, word):
    agreed = {name: "1.2.3" for name in stated_versions(ROOT)}
    assert agreed_version(agreed) == "1.2.3"
    with pytest.raises(SystemExit, match=f"Files differ in the {word} of the release"):
        agreed_version(agreed | {changed: "1.2.4"})


@pytest.mark.parametrize("name", WORKFLOWS_AND_FORMS)
def test_workflows_and_forms_can_be_read(name):
    (path,) = (ROOT / ".github").rglob(name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "workflows":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        for job in content["jobs"].values():
            assert {"runs-on", "steps", "timeout-minutes"} <= job.keys()
            for step in job["steps"]:
                assert ("run" in step) != ("uses" in step)
                assert set(re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))) <= set(targets)
    elif name != "config.yml":
        kinds = [field["type"] for field in content["body"]]
        assert set(kinds) <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids))


def test_the_page_of_the_public_interface_lists_it():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = [
        n for line in page.splitlines() if line.startswith("| `") for n in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(names) == sorted(layerprobe.__all__)


def test_tests_that_the_oldest_versions_leave_out_exist():
    named = re.findall(r"(\w+/test_\w+\.py)::(test_\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(named) > 3
    missing = [
        pair for pair in named if f"def {pair[1]}(" not in (ROOT / "tests" / pair[0]).read_text(encoding="utf-8")
    ]
    assert missing == []
