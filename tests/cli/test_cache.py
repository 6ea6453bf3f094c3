"""Commands that inspect and maintain caches."""

from __future__ import annotations

import re

from helpers.command_line import run as command

from layerprobe.probe.cache.store import block_file, open_cache
from layerprobe.probe.filesystem import size_of


def test_the_commands_report_what_they_find(ten_voices, folders, tmp_path):
    path = tmp_path / "a.zarr"
    arguments = ("extract", ten_voices.path, "--encoder", folders["hubert"], "--out", path, "--precision", "float32")
    dry = command(*arguments, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert not path.exists()
    assert "poolings: mean, std" in dry.stdout
    assert "10 utterances to extract, " in dry.stdout
    assert command(*arguments).exit_code == 0
    assert "nothing to extract" in command(*arguments, "--dry-run").stdout
    shown = command("cache", "info", path, "--manifest", ten_voices.path).stdout
    assert f"{path}: 10 utterances, {size_of(path) / 1e6:.1f} MB" in shown
    assert (
        "10 of 10 utterances are cached, 0 quarantined; 0 rows of the cache are of utterances outside the manifest."
        in shown
    )
    assert "  poolings: mean, std" in shown
    loss = command("cache", "info", path, "--manifest", ten_voices.path, "--precision-loss")
    assert "error" in loss.stdout, loss.output
    assert command("cache", "info", path, "--precision-loss").exit_code == 2
    assert command("cache", "verify", path).stdout == f"{path} is intact.\n"
    assert "have the same content" in command("cache", "diff", path, path).stdout
    block_file(path, "audio_hash", 0).unlink()
    broken = command("cache", "verify", path)
    assert broken.exit_code == 2
    assert "block 0, audio_hash: the file is missing; u0, u1, u2 and 7 more" in broken.stdout
    assert "1 files are damaged, of 10 utterances" in broken.output
    repaired = command("cache", "repair", path, *arguments[1:4], "--precision", "float32")
    assert "1 damaged files, 10 utterances encoded again" in repaired.stdout, repaired.output
    few = tmp_path / "few.csv"
    lines = ten_voices.path.read_text().splitlines(keepends=True)[:7]
    few.write_text(re.sub(r",(s\d)", rf",{ten_voices.path.parent}/\1", "".join(lines)))
    few.with_suffix(".toml").write_text(ten_voices.path.with_suffix(".toml").read_text())
    pruned = command("extract", few, *arguments[2:], "--prune")
    assert "4 rows removed" in pruned.output
    assert "4 rows were removed" in command("cache", "info", path).stdout
    assert "of disk space were freed" in command("cache", "compact", path).stdout
    assert len(open_cache(path).utterance_ids) == 6
