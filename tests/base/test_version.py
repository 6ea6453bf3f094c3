"""The version: a checkout names its commit, an installed copy does not, and no git is started for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cache_rows import DIM, PLAN, rows

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.version import commit_of, layerprobe_version

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "1a" * 20, "2b" * 20
PRINT = "from layerprobe.probe.version import layerprobe_version; print(layerprobe_version())"


def checkout(folder, *, head, files=()):
    """A ``.git`` by hand, so that the test needs no git either."""
    for name, text in (("HEAD", head), *files):
        path = folder / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_commit_of_a_branch_a_packed_branch_and_a_detached_head(tmp_path):
    ref, packed = "ref: refs/heads/main\n", f"# pack-refs with: peeled\n{SECOND} refs/heads/main\n^{FIRST}\n"
    loose = checkout(tmp_path / "a", head=ref, files=[("refs/heads/main", FIRST + "\n"), ("packed-refs", packed)])
    assert commit_of(loose) == FIRST  # a loose file is newer than the pack
    assert commit_of(checkout(tmp_path / "b", head=ref, files=[("packed-refs", packed)])) == SECOND
    assert commit_of(checkout(tmp_path / "c", head=FIRST + "\n")) == FIRST


def test_the_commit_of_a_worktree_is_that_of_its_own_branch(tmp_path):
    main = checkout(
        tmp_path / "main", head="ref: refs/heads/main\n",
        files=[
            ("refs/heads/main", FIRST), ("refs/heads/other", SECOND),
            ("worktrees/w/HEAD", "ref: refs/heads/other\n"), ("worktrees/w/commondir", "../..\n"),
        ],
    )  # fmt: skip
    worktree = tmp_path / "w"
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {main / '.git' / 'worktrees' / 'w'}\n")
    assert commit_of(worktree) == SECOND
    submodule = main / "sub"
    submodule.mkdir()
    (submodule / ".git").write_text("gitdir: ../.git\n")  # relative, as of a submodule
    assert commit_of(submodule) == FIRST


@pytest.mark.parametrize("files", [(), [("packed-refs", "no commit refs/heads/main")]])
def test_what_can_not_be_read_is_no_commit(tmp_path, files):
    assert commit_of(tmp_path) == ""
    assert commit_of(checkout(tmp_path, head="ref: refs/heads/main\n", files=files)) == ""


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no git checkout here")
def test_here_it_is_gits_commit():
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("git does not read this checkout")
    assert commit_of(ROOT) == done.stdout.strip()
    assert layerprobe_version().endswith(f"+g{done.stdout[:7]}")


def test_an_installed_copy_has_a_number_alone_also_in_an_environment_within_a_checkout(tmp_path):
    site = checkout(tmp_path, head=FIRST) / ".venv" / "site-packages"
    for name in ("layerprobe/__init__.py", "layerprobe/probe/__init__.py", "layerprobe/probe/version.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, site / name)
    metadata = site / "layerprobe-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: layerprobe\nVersion: 9.8.7\n")
    done = subprocess.run(
        [sys.executable, "-c", PRINT], capture_output=True, text=True, check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.stdout == "9.8.7\n"


def test_a_cache_records_the_version_that_made_it_and_opens_without(tmp_path):
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        for row in rows(3):
            writer.append(*row)
    attributes = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert attributes["attributes"].pop("layerprobe_version") == layerprobe_version()
    assert attributes["attributes"]["fingerprint"] == PLAN.fingerprint()
    assert layerprobe_version() not in json.dumps(attributes["attributes"]["plan"])
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(attributes))  # as older versions made it
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == [name for name, *_ in rows(3)]
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        assert writer.n_rows == 3
