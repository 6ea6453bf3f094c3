"""Manifests: read with their header, every row checked, all problems named together."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from helpers.voices import write_table

from layerprobe.probe.data.manifest.read import read_manifest, read_numbered_manifest
from layerprobe.probe.data.manifest.schema import Header, Manifest, ManifestError, Nominal, Target, rater_columns
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError


@pytest.fixture
def rows(write_audio):
    write_audio("a.wav")
    return [
        {"utterance_id": "007", "path": "a.wav", "speaker_id": "01", "arousal": 3.5, "arousal_r1": 3, "arousal_r2": 4},
        {"utterance_id": "008", "path": "a.wav", "speaker_id": "s2", "arousal": 1, "arousal_r1": "", "arousal_r2": 1},
    ]


def problems(path, **options):
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return [problem.text for problem in caught.value.problems]


def test_ids_and_speakers_stay_text_and_paths_start_at_the_manifest(rows, tmp_path):
    manifest = read_manifest(write_table(tmp_path, rows))
    assert manifest.table["utterance_id"].tolist() == ["007", "008"]
    assert manifest.table["speaker_id"].tolist() == ["01", "s2"]
    assert manifest.table["path"].tolist() == [str(tmp_path / "a.wav")] * 2
    assert manifest.table["arousal"].tolist() == [3.5, 1.0]
    assert np.isnan(manifest.table["arousal_r1"][1])


def test_parquet_gives_the_same_table(rows, tmp_path):
    from_csv = read_manifest(write_table(tmp_path, rows)).table
    typed = pd.DataFrame(rows).assign(arousal_r1=[3.0, None])
    typed.to_parquet(tmp_path / "my.parquet")
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "my.parquet").table, from_csv)


def test_all_problems_are_named_together_with_their_rows(rows, tmp_path):
    bad = [
        {"start": "0", "end": "1", "split": "train"},
        {"utterance_id": "007", "start": "2", "end": "1", "split": "train"},
        {"utterance_id": "009", "path": "gone.wav", "arousal": 9, "start": "", "end": "", "split": "Train"},
        {"utterance_id": "", "speaker_id": " ", "arousal": "high", "arousal_r2": 0, "start": "-1", "split": "test"},
    ]
    path = write_table(tmp_path, [rows[0] | extra for extra in bad])
    assert problems(path) == [
        "row 3: end 1 s is not after start 2 s",
        "row 3: utterance_id '007' is also in row 2",
        "row 4: arousal is 9, outside the scale 1..7 of my.toml",
        f"row 4: no file at {tmp_path / 'gone.wav'}",
        "row 4: split 'Train' is unknown; choose one of train, development, test, test1, test2, test3",
        "row 5: arousal is 'high', not a number",
        "row 5: arousal_r2 is 0, outside the scale 1..7 of my.toml",
        "row 5: start is -1 s, before the recording starts",
        "row 5: utterance_id is empty",
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_a_rating_that_is_not_finite_is_no_number(rows, tmp_path, value):
    assert problems(write_table(tmp_path, [rows[0] | {"arousal": value}])) == [
        f"row 2: arousal is {value!r}, not a number"
    ]


def test_an_empty_rating_is_no_problem(rows, tmp_path):
    assert np.isnan(read_manifest(write_table(tmp_path, [rows[0] | {"arousal": ""}])).table["arousal"][0])


def test_missing_columns_are_named_together(tmp_path):
    path = write_table(tmp_path, [{"utterance_id": "a", "path": "x.wav"}])
    assert problems(path) == [
        "column speaker_id is missing (--no-speakers runs without it; scores may then be too optimistic)",
        "column arousal is missing, but my.toml describes it as a target",
    ]


def test_without_speakers_every_speaker_is_unknown(rows, tmp_path):
    for row in rows:
        del row["speaker_id"]
    manifest = read_manifest(write_table(tmp_path, rows), speakers=False)
    assert set(manifest.table["speaker_id"]) == {"Unknown"}


def test_a_missing_manifest_or_header_is_one_sentence(rows, tmp_path):
    with pytest.raises(InputError, match=r"^.*no.csv does not exist. Give the path of a manifest"):
        read_manifest(tmp_path / "no.csv")
    path = write_table(tmp_path, rows)
    path.with_suffix(".toml").unlink()
    with pytest.raises(InputError, match=r"my.csv has no header: .*my.toml does not exist. layerprobe manifest init "):
        read_manifest(path)


def with_classes(rows, tmp_path, classes='["calm", "glad"]'):
    path = write_table(tmp_path, [row | {"emotion": "calm"} for row in rows])
    header = path.with_suffix(".toml")
    header.write_text(header.read_text() + f"\n[targets.emotion]\nclasses = {classes}\n")
    return path


def test_a_target_may_have_classes(rows, tmp_path):
    rows[0]["emotion"] = "glad"
    manifest = read_manifest(with_classes(rows, tmp_path))
    assert manifest.header.nominal == {"emotion": Nominal(("calm", "glad"))}
    assert manifest.targets == ("arousal",)
    write_manifest(tmp_path / "out.csv", manifest.table, manifest.header)
    assert read_manifest(tmp_path / "out.csv").header == manifest.header


def test_a_class_that_the_header_does_not_name_is_named_with_its_row(rows, tmp_path):
    path = with_classes(rows, tmp_path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, "emotion"] = "Calm"
    table.loc[1:, "emotion"] = ""
    table.to_csv(path, index=False)
    assert problems(path) == ["row 2: emotion is 'Calm', none of the classes calm, glad of my.toml"]
    for wrong in ('["calm"]', '["calm", "calm"]', '"calm"', "[1, 2]"):
        assert problems(with_classes(rows, tmp_path, wrong)) == [
            "[targets.emotion] needs classes, a list of two or more different names"
        ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b'a,b\n"open'])
def test_a_broken_table_is_one_sentence(rows, tmp_path, content):
    path = write_table(tmp_path, rows)
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1 cut PAR1"])
def test_a_broken_parquet_file_is_one_sentence(rows, tmp_path, content):
    write_table(tmp_path, rows)
    (tmp_path / "my.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"my\.parquet can't be read as a table: .*\. Save it again"):
        read_manifest(tmp_path / "my.parquet")


def test_rows_longer_than_the_header_are_one_sentence(rows, tmp_path):
    path = write_table(tmp_path, rows)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header.rpartition(",")[0], *lines]))
    with pytest.raises(InputError, match=r"my.csv: its rows have more cells than its header has names\. Name every"):
        read_manifest(path)


def test_raters_are_ordered_by_number():
    table = pd.DataFrame(columns=["arousal_r10", "arousal_r2", "arousal", "arousal_rx", "valence_r1"])
    assert rater_columns(table, "arousal") == ["arousal_r2", "arousal_r10"]


def test_written_manifests_read_back(rows, tmp_path):
    header = Header('c "q"', "1", "l", {"arousal": Target(1, 7, "calm\nactive")}, notes="a\\b")
    write_manifest(tmp_path / "out.csv", pd.DataFrame(rows), header)
    assert read_manifest(tmp_path / "out.csv").header == header


def test_the_content_hash_follows_ratings_and_not_the_folder(rows, tmp_path):
    first = read_manifest(write_table(tmp_path, rows)).content_hash()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "a.wav").rename(elsewhere / "a.wav")
    assert read_manifest(write_table(elsewhere, rows)).content_hash() == first
    rows[0]["arousal"] = 4
    assert read_manifest(write_table(elsewhere, rows)).content_hash() != first


@pytest.mark.parametrize("column", ["split", "transcript", "gender", "corpus"])
def test_the_content_hash_follows_a_column_that_may_be_there(rows, tmp_path, column):
    (tmp_path / "b.wav").touch()

    def hashed(*values):
        texts = [{column: value} for value in values] if values else [{}, {}]
        two = [row | text for row, text in zip(rows[:2], texts, strict=True)]
        return read_manifest(write_table(tmp_path, two)).content_hash()

    hashes = [hashed(), hashed("train", "test"), hashed("train", "train"), hashed("test", "train")]
    assert len(set(hashes)) == 4
    assert hashed("train", "test") == hashes[1]


def test_blank_rows_are_left_out_and_rows_below_them_keep_the_number_of_a_spreadsheet(rows, tmp_path):
    path = write_table(tmp_path, [rows[0], rows[1] | {"arousal": 9}])
    header, first, second = path.read_text().splitlines()
    blank = "," * header.count(",")
    path.write_text("\n".join(["", header, "", first, blank, "", second, ""]))
    assert problems(path) == ["row 7: arousal is 9, outside the scale 1..7 of my.toml"]
    path.write_text(path.read_text().replace(second, second.replace(",9.0,", ",2,")))
    numbered = read_numbered_manifest(path)
    assert numbered.row_numbers.tolist() == [4, 7]
    assert numbered.manifest.table["arousal"].tolist() == [3.5, 2.0]


def test_rows_of_parquet_and_of_cells_with_several_lines_are_counted_alike(rows, tmp_path):
    wrong = [rows[0] | {"transcript": "one\n\ntwo"}, rows[1] | {"arousal": 9, "transcript": ""}]
    expected = ["row 3: arousal is 9, outside the scale 1..7 of my.toml"]
    assert problems(write_table(tmp_path, wrong)) == expected
    pd.DataFrame(wrong).astype(str).to_parquet(tmp_path / "my.parquet")
    assert problems(tmp_path / "my.parquet") == expected


def test_an_error_states_how_rows_are_counted(rows, tmp_path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(write_table(tmp_path, [rows[0] | {"arousal": 9}]))
    assert str(caught.value).splitlines()[1:] == [
        "  row 2: arousal is 9, outside the scale 1..7 of my.toml [LP148]",
        "Rows are counted as a spreadsheet shows them: the header is row 1. Correct them and run the command again. "
        "[LP100]",
    ]


def test_the_repr_names_file_counts_and_scales_and_not_the_table(rows, tmp_path):
    rows.append(rows[1] | {"utterance_id": "009", "speaker_id": "Unknown"})
    manifest = read_manifest(with_classes(rows, tmp_path))
    assert repr(manifest) == (
        "<Manifest my.csv: corpus 'test', 3 utterances, 2 speakers; arousal 1 to 7, emotion (2 classes)>"
    )
    assert str(manifest) == repr(manifest)


def test_the_table_for_notebooks_is_small_and_escaped(rows, tmp_path):
    table = pd.DataFrame(rows).assign(split=["train", "test"])
    header = Header("<b>&", version="2", targets={"arousal": Target(1, 7)})
    html = Manifest(tmp_path / "<i>.csv", header, table)._repr_html_()
    cells = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", html)
    assert cells == [
        ("corpus", "&lt;b&gt;&amp; 2"), ("utterances", "2"), ("speakers", "2"), ("split", "train 1, test 1"),
        ("arousal", "1 to 7, 2 ratings"),
    ]  # fmt: skip
    assert "<caption>Manifest &lt;i&gt;.csv</caption>" in html
    assert "007" not in html


def test_a_long_list_of_problems_is_cut_with_its_count(rows, tmp_path):
    path = write_table(tmp_path, [rows[0] | {"utterance_id": str(i), "arousal": 8} for i in range(30)])
    with pytest.raises(ManifestError, match=r"my.csv has 30 problems:") as caught:
        read_manifest(path)
    assert "… and 10 more" in str(caught.value)
    assert len(caught.value.problems) == 30
