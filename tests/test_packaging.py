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
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
EMBEDDED = tomllib.loads((ROOT / "probe" / "embedded" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALL = ROOT / "docs" / "install"
TO_CONDA = {  # names that differ on conda-forge
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "soundfile": "pysoundfile",
    "soxr": "soxr-python",
    "torch": "pytorch",
}
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
    assert stated["CITATION.cff version"] == stated["recipe.yaml version"] == PROJECT["version"]
    if ".dev" in PROJECT["version"]:  # between releases
        assert stated["CITATION.cff day"] == ""
    else:
        assert agreed_version(stated) == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["description"].lower() in citation["title"].lower()


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ("pyproject.toml version", "version"),
        ("recipe.yaml version", "version"),
        ("CHANGELOG.md version", "version"),
        ("CITATION.cff day", "day"),
    ],
)
def test_a_release_whose_files_differ_is_refused(changed, word):
    agreed = {name: "1.2.3" for name in stated_versions(ROOT)}
    assert agreed_version(agreed) == "1.2.3"
    with pytest.raises(SystemExit, match=f"Files differ in the {word} of the release"):
        agreed_version(agreed | {changed: "1.2.4"})


def test_the_conda_recipe_needs_what_the_project_needs():
    recipe = yaml.safe_load((INSTALL / "recipe.yaml").read_text(encoding="utf-8"))
    run = {o["package"]["name"]: o["requirements"]["run"] for o in recipe["outputs"]}
    needed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["embedded"]]
    assert requirements(
        f"{TO_CONDA.get(r.name, r.name)}{r.specifier}" for r in map(Requirement, needed)
    ) == requirements(text for text in run["layerprobe"] if not text.startswith("python "))
    for output in recipe["outputs"]:
        assert f"python {PROJECT['requires-python']}" in run[output["package"]["name"]]
        assert requirements(output["requirements"]["host"][2:]) == requirements(BUILD)
    assert recipe["context"]["weights_version"] == EMBEDDED["version"]
    (command,) = recipe["outputs"][1]["build"]["python"]["entry_points"]
    assert command == "layerprobe = " + PROJECT["scripts"]["layerprobe"]


def requirements(texts):
    """The specifiers of requirements by name; a recipe writes a blank before them."""
    return {r.name: set(r.specifier) for r in (Requirement(text.replace(" ", "")) for text in texts)}


def test_the_weights_of_the_embedded_encoder_satisfy_what_asks_for_them():
    for extra in ("embedded", "demo"):
        (needed,) = [r for r in map(Requirement, PROJECT["optional-dependencies"][extra]) if r.name == EMBEDDED["name"]]
        assert needed.specifier.contains(EMBEDDED["version"])
    assert PROJECT["optional-dependencies"]["embedded"][0] in PROJECT["optional-dependencies"]["demo"]
    # the demo ends with the command that starts the page
    assert set(PROJECT["optional-dependencies"]["serve"]) < set(PROJECT["optional-dependencies"]["demo"])


def test_the_page_on_installing_lists_every_extra():
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| ", page.partition("| extra |")[2].partition("\n\n")[0], re.MULTILINE)
    assert set(listed) == set(PROJECT["optional-dependencies"]) - {"dev", "docs", "release"}


def test_the_image_is_built_from_files_and_extras_that_exist():
    dockerfile = (INSTALL / "Dockerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", dockerfile, re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    sent = re.findall(r"^!(.+)$", (INSTALL / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert [path for path in sent if not (ROOT / path).exists()] == []
    assert set(re.findall(r"^COPY (?!\.|--)(\S+)", dockerfile, re.MULTILINE)) <= set(sent)
    assert {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"} <= set(sent)  # read by the build
    (python,) = re.findall(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


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
    signatures = re.findall(r"^\.\. auto\w+:: layerprobe\.(?:probe\.)?(\w+)$", page, flags=re.MULTILINE)
    assert sorted([*signatures, "__version__"]) == sorted(layerprobe.__all__)


def test_tests_that_the_oldest_versions_leave_out_exist():
    named = re.findall(r"(\w+/test_\w+\.py)::(test_\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(named) > 3
    missing = [
        pair for pair in named if f"def {pair[1]}(" not in (ROOT / "tests" / pair[0]).read_text(encoding="utf-8")
    ]
    assert missing == []
