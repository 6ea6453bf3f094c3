"""extract with options of spans: what is written and printed, and what is refused before anything is encoded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import refused, refused_without_code, run
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import write_table

from layerprobe.probe.cache.layout import block_file
from layerprobe.probe.cache.store import open_cache

ACOUSTIC = ("--encoder", "acoustic")
WINDOWS = ("--every", 0.1, "--window", 0.2)  # two of an utterance of 0.3 s


@pytest.fixture(scope="module")
def windows(ten_voices, tmp_path_factory):
    """A cache of windows of acoustic features, and what was printed."""
    path = tmp_path_factory.mktemp("windows") / "w.zarr"
    result = run("extract", ten_voices.path, *ACOUSTIC, *WINDOWS, "--out", path)
    assert result.exit_code == 0, result.output
    return path, result


def textgrids(folder, names, *, end=0.3):
    folder.mkdir()
    for name in names:
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", 0, end, "<exists>", 2]
        for tier, labels in (("words", ("ja", "nein")), ("phones", ("a", ""))):
            lines += ['"IntervalTier"', f'"{tier}"', 0, end, 2, 0, 0.1, f'"{labels[0]}"', 0.1, end, f'"{labels[1]}"']
        (folder / f"{name}.TextGrid").write_text("\n".join(map(str, lines)))
    return folder


def extracted(manifest, *options):
    result = run("extract", manifest.path, *ACOUSTIC, *options)
    assert result.exit_code == 0, result.output
    return result


def test_windows_are_rows_and_the_next_command_sweeps_them(ten_voices, windows):
    path, result = windows
    assert "10 utterances to extract, about 20 spans, " in result.stderr
    assert f"{path}: 10 utterances extracted in " in result.stdout
    assert ", 20 spans, 0 were cached before, 0 quarantined.\n" in result.stdout
    assert f"Next: layerprobe sweep {path} {ten_voices.path} --by position --out runs/first\n" in result.stdout
    spans = open_cache(path).spans
    assert spans.parent.tolist() == [f"u{k}" for k in range(10) for _ in range(2)]
    np.testing.assert_allclose(spans.start, [0, 0.1] * 10)
    np.testing.assert_allclose(spans.end, [0.2, 0.3] * 10)
    again = extracted(ten_voices, *WINDOWS, "--out", path)
    assert "All 10 utterances of the manifest are cached already; nothing to extract." in again.stderr
    assert run("cache", "verify", path).stdout == f"{path} is intact.\n"
    info = run("cache", "info", path, "--manifest", ten_voices.path).stdout
    assert f"{path}: 20 spans of 10 utterances, " in info
    assert "spans: windows of 0.2 s every 0.1 s; frames with their centre inside\n" in info
    assert (
        f"{ten_voices.path}: 10 of 10 utterances are cached, 0 quarantined; 0 utterances of the cache are outside "
        in info
    )


def test_a_dry_run_states_the_spans_and_writes_nothing(ten_voices, tmp_path):
    result = extracted(ten_voices, *WINDOWS, "--dry-run", "--out", tmp_path / "w.zarr")
    assert "spans: windows of 0.2 s every 0.1 s; frames with their centre inside\n" in result.stdout
    assert "10 utterances to extract, about 20 spans, " in result.stdout
    pd.DataFrame({"utterance_id": ["u0", "u1", "q"], "start": 0, "end": 0.1}).to_csv(tmp_path / "s.csv", index=False)
    result = extracted(ten_voices, "--spans", tmp_path / "s.csv", "--dry-run", "--out", tmp_path / "w.zarr")
    assert f"8 utterances have no span in {tmp_path / 's.csv'}.\n" in result.stdout
    assert f"1 entry of {tmp_path / 's.csv'} is of no utterance of the manifest (first: q).\n" in result.stdout
    assert "\n2 utterances to extract, about 2 spans, " in result.stdout
    assert not (tmp_path / "w.zarr").exists()


def test_a_tier_of_textgrids_is_chosen_and_utterances_without_one_are_quarantined(ten_voices, tmp_path):
    folder, out = textgrids(tmp_path / "grids", ["u0", "s1", "u77"]), tmp_path / "w.zarr"  # s1.wav is of u1
    result = extracted(ten_voices, "--spans", folder, "--out", out)
    assert ", 4 spans, 0 were cached before, 8 quarantined.\n" in result.stdout
    assert f"{folder} has no span of it [LP264]" in result.stdout
    assert f"1 entry of {folder} is of no utterance of the manifest (first: u77).\n" in result.stdout
    assert open_cache(out).spans.label.tolist() == ["ja", "nein", "ja", "nein"]
    message = refused("extract", ten_voices.path, *ACOUSTIC, "--spans", folder, "--tier", "phones", "--out", out)
    assert "spans 'given intervals; frames" in message
    assert "of tier phones; frames" in message
    extracted(ten_voices, "--spans", folder, "--tier", "phones", "--out", tmp_path / "p.zarr")
    assert open_cache(tmp_path / "p.zarr").spans.label.tolist() == ["a", "a"]  # a silence is no span
    assert "no tier has the name 'syllables'" in refused(
        "extract", ten_voices.path, *ACOUSTIC, "--spans", folder, "--tier", "syllables", "--out", tmp_path / "q.zarr"
    )
    assert not (tmp_path / "q.zarr").exists()
    again = extracted(ten_voices, "--spans", folder, "--out", out)
    assert "All 2 utterances of the manifest that have spans are cached already; nothing to extract." in again.stderr


def test_processes_write_the_bytes_of_one(ten_voices, windows, tmp_path):
    result = extracted(ten_voices, *WINDOWS, "--processes", 1, "--out", tmp_path / "p.zarr")
    assert f"{tmp_path / 'p.zarr'}: 20 spans extracted by 1 processes, 0 quarantined.\n" in result.stdout
    assert f"sweep {tmp_path / 'p.zarr'} {ten_voices.path} --by position --out" in result.stdout
    for name in ("embeddings", "utterance_id", "parent", "start", "end", "label", "duration", "audio_hash"):
        one = block_file(windows[0], name, 0).read_bytes()
        assert block_file(tmp_path / "p.zarr", name, 0).read_bytes() == one


def test_a_plan_has_its_windows_and_needs_the_file_of_given_intervals(ten_voices, windows, tmp_path):
    result = run("extract", ten_voices.path, "--plan", windows[0], "--out", tmp_path / "b.zarr")
    assert result.exit_code == 0, result.output
    assert open_cache(tmp_path / "b.zarr").plan == open_cache(windows[0]).plan
    given = tmp_path / "s.csv"
    pd.DataFrame({"utterance_id": [f"u{k}" for k in range(10)], "start": 0, "end": 0.1}).to_csv(given, index=False)
    extracted(ten_voices, "--spans", given, "--out", tmp_path / "g.zarr")
    again = ("extract", ten_voices.path, "--plan", tmp_path / "g.zarr", "--out", tmp_path / "h.zarr")
    assert "Name it with --spans." in refused(*again)
    assert run(*again, "--spans", given).exit_code == 0
    assert len(open_cache(tmp_path / "h.zarr").spans) == 10


def test_a_repair_takes_the_spans_of_the_extraction(ten_voices, tmp_path):
    given, out = tmp_path / "s.csv", tmp_path / "g.zarr"
    pd.DataFrame({"utterance_id": [f"u{k}" for k in range(10)], "start": 0, "end": 0.1}).to_csv(given, index=False)
    extracted(ten_voices, "--spans", given, "--out", out)
    before = open_cache(out).read_rows(np.arange(10))
    file = block_file(out, "embeddings", 0)
    file.write_bytes(file.read_bytes()[:-9])
    assert f"repair {out} MANIFEST --encoder ENCODER --spans" in refused("cache", "verify", out)
    repair = ("cache", "repair", out, ten_voices.path, *ACOUSTIC)
    assert "Name it with --spans." in refused(*repair)
    result = run(*repair, "--spans", given)
    assert result.exit_code == 0, result.output
    assert ": 1 damaged files, 10 utterances encoded again.\n" in result.stdout
    after = open_cache(out)
    order = [after.utterance_ids.tolist().index(f"u{k}#0000") for k in range(10)]
    np.testing.assert_array_equal(after.read_rows(np.array(order)), before)


@pytest.mark.parametrize(
    "options",
    [("--every", 0.5), ("--window", 1), ("--every", -1, "--window", 1), ("--tier", "words"), (*WINDOWS, "--tier", "w")],
)
def test_windows_need_both_of_their_options_and_no_tier(ten_voices, tmp_path, options):
    message = refused("extract", ten_voices.path, *ACOUSTIC, *options, "--out", tmp_path / "w.zarr")
    assert "[LP260]" in message
    assert not (tmp_path / "w.zarr").exists()


def test_what_has_no_spans_is_refused_before_anything_is_written(ten_voices, tmp_path):
    out = ("--out", tmp_path / "w.zarr")
    both = refused("extract", ten_voices.path, *ACOUSTIC, "--spans", "s.csv", *WINDOWS, *out)
    assert "spans are either those of a file or windows." in both
    trimmed = refused("extract", ten_voices.path, *ACOUSTIC, *WINDOWS, "--trim-silence", *out)
    assert "--trim-silence moves the beginning of an utterance" in trimmed
    missing = refused_without_code("extract", ten_voices.path, *ACOUSTIC, "--spans", "grids", *out)
    assert "\nError: grids does not exist. Give a .TextGrid, a folder of these" in missing
    save_text_model("distilbert", tmp_path / "text")
    rows = [{"utterance_id": "u0", "path": str(ten_voices.table["path"][0]), "transcript": SENTENCES[0]}]
    manifest = write_table(tmp_path, [row | {"speaker_id": "t", "arousal": 1} for row in rows])
    text = refused("extract", manifest, "--encoder", tmp_path / "text", *WINDOWS, *out)
    assert "reads text, whose tokens have no times, so that it has no spans." in text
    assert not (tmp_path / "w.zarr").exists()


def test_info_of_spans_counts_utterances_and_names_no_loss(ten_voices, windows, tmp_path):
    few = write_table(tmp_path, ten_voices.table.head(3).to_dict("records"))
    info = run("cache", "info", windows[0], "--manifest", few).stdout
    assert "3 of 3 utterances are cached, 0 quarantined; 7 utterances of the cache are outside the manifest.\n" in info
    loss = refused("cache", "info", windows[0], "--manifest", few, "--precision-loss")
    assert "--precision-loss sweeps whole utterances, and the rows of " in loss
    extracted(ten_voices, "--out", tmp_path / "u.zarr")
    others = write_table(
        tmp_path, [row | {"utterance_id": f"q{row['utterance_id']}"} for row in [*pd.read_csv(few).to_dict("records")]]
    )
    none = refused("cache", "info", tmp_path / "u.zarr", "--manifest", others, "--precision-loss")
    assert f"{tmp_path / 'u.zarr'} has no utterance of {others}. Name the manifest" in none


def test_diff_states_other_times_and_labels_of_spans(ten_voices, tmp_path):
    table = pd.DataFrame({"utterance_id": [f"u{k}" for k in range(10)], "start": 0.0, "end": 0.1, "label": "a"})
    caches = []
    for name, change in (("a", {}), ("b", {"label": "b"}), ("c", {"end": 0.2})):
        table.assign(**change).to_csv(tmp_path / f"{name}.csv", index=False)
        caches.append(tmp_path / f"{name}.zarr")
        extracted(ten_voices, "--spans", tmp_path / f"{name}.csv", "--out", caches[-1])
    assert run("cache", "diff", *caches[:2]).stdout == "10 spans have other labels (first: u0#0000)\n"
    lines = run("cache", "diff", caches[0], caches[2]).stdout.splitlines()
    assert lines[0] == "10 spans have other times (first: u0#0000)"
    assert lines[1].startswith("layer ")
    table.head(9).to_csv(tmp_path / "d.csv", index=False)
    extracted(ten_voices, "--spans", tmp_path / "d.csv", "--out", tmp_path / "d.zarr")
    fewer = run("cache", "diff", caches[0], tmp_path / "d.zarr").stdout
    assert fewer == f"1 spans are only in {caches[0]} (first: u9#0000)\n"
