"""Manifests in Parquet: needed columns are read by their types, and others do no harm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError


@pytest.fixture
def folder(tmp_path):
    """A folder with the audio file and the header."""
    (tmp_path / "x.wav").touch()
    (tmp_path / "my.toml").write_text('corpus = "c"\n[targets.arousal]\nminimum = 1\nmaximum = 7\n')
    return tmp_path


def test_columns_of_parquet_are_read_by_their_types_and_those_not_needed_do_no_harm(folder):
    columns = {
        "utterance_id": pa.array([17, 18, 19]),
        "path": pa.array([b"x.wav"] * 3),
        "speaker_id": pa.array([1.0, 2.0, None]),
        "start": pa.array([0.1, None, None], pa.float32()),
        "arousal": pa.array([3, None, 7], pa.int8()),
        "arousal_r1": pa.array([b"3", b"", b"6.5"]),
        "gender": pa.array(["f", "m", "f"]).dictionary_encode(),
        "session": pa.array([4, None, 5]),
        "recorded": pa.array([0, 1, 2], pa.timestamp("s")),
        "audio": pa.array([{"bytes": b"\xff", "path": "x"}] * 3),
        "embedding": pa.array([[1.0], [2.0], None]),
        "blob": pa.array([b"\xff\xfe"] * 3),
    }
    pq.write_table(pa.table(columns), folder / "my.parquet")
    table = read_manifest(folder / "my.parquet").table
    assert list(table) == ["utterance_id", "path", "speaker_id", "start", "arousal", "arousal_r1", "gender", "session"]
    assert table["utterance_id"].tolist() == ["17", "18", "19"]
    assert table["path"].tolist() == [str(folder / "x.wav")] * 3
    assert table["speaker_id"].tolist() == ["1", "2", "Unknown"]
    assert table["session"].tolist() == ["4", "", "5"]
    assert table["gender"].tolist() == ["f", "m", "f"]
    np.testing.assert_array_equal(table["start"], [float(np.float32(0.1)), np.nan, np.nan])
    np.testing.assert_array_equal(table["arousal"], [3, np.nan, 7])
    np.testing.assert_array_equal(table["arousal_r1"], [3, np.nan, 6.5])


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("speaker_id", pa.array([b"\xe9"]), r"column speaker_id holds bytes that are not UTF-8 text \(0xe9\)"),
        ("speaker_id", pa.array([["a"]]), r"column speaker_id holds list<.*>, not texts or numbers"),
        ("arousal", pa.array([0], pa.timestamp("s")), r"column arousal holds timestamp\[.*\], not texts or numbers"),
        ("path", pa.array([{"path": "x.wav"}]), r"column path holds struct<.*>, not texts or numbers"),
        ("mood", pa.array([b"\xff"]), r"column mood holds bytes that are not UTF-8 text"),
    ],
)
def test_a_needed_column_of_another_type_is_refused(folder, column, values, message):
    columns = {"utterance_id": ["a"], "path": ["x.wav"], "speaker_id": ["s"], "arousal": [3.5]} | {column: values}
    pq.write_table(pa.table(columns), folder / "my.parquet")
    with pytest.raises(InputError, match=message):
        read_manifest(folder / "my.parquet", columns=("mood",))


def test_an_index_of_pandas_is_a_column_if_it_has_a_name(folder):
    frame = pd.DataFrame({"path": "x.wav", "speaker_id": ["a", "b"], "arousal": [1, 2]})
    frame.set_index(pd.Index(["u1", "u2"], name="utterance_id")).to_parquet(folder / "my.parquet")
    assert read_manifest(folder / "my.parquet").table["utterance_id"].tolist() == ["u1", "u2"]
    frame.assign(utterance_id=["u1", "u2"]).set_index(pd.Index([5, 9])).to_parquet(folder / "my.parquet")
    assert "__index_level_0__" not in read_manifest(folder / "my.parquet").table
