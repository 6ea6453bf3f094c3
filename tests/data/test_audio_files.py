"""Audio files of a corpus: which are found, which are counted as skipped, how long they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.audio_bytes import with_flac_total
from helpers.corpus_trees import write

from layerprobe.probe.data.importers.audio_files import audio_files_below
from layerprobe.probe.data.importers.base import Imported
from layerprobe.probe.data.importers.durations import with_durations
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress


def test_copies_hidden_files_and_videos_are_counted_and_one_of_two_copies_is_taken(tmp_path):
    for name in (
        "a/x.wav",
        "b/x.WAV",
        "b/X.wav",
        "a/x.flac",
        "a/._x.wav",
        "__MACOSX/y.wav",
        ".cache/y.wav",
        "b/v.mp4",
        "z.txt",
    ):
        write(tmp_path / name)
    found = audio_files_below(tmp_path)
    assert list(found.paths) == ["x"]
    assert found.skipped == {
        "copy of the same name": 2, "same name with another ending": 1, "hidden file": 3, "video": 1,
    }  # fmt: skip


def test_two_files_of_one_name_and_different_content_are_refused(tmp_path):
    write(tmp_path / "a" / "x.wav", "one")
    write(tmp_path / "b" / "x.wav", "two")
    with pytest.raises(InputError, match=r"a/x\.wav and .*b/x\.wav have the same name and different content"):
        audio_files_below(tmp_path)


def test_names_are_found_in_other_case_and_unicode_form(tmp_path):
    write(tmp_path / "Cafe\u0301_1.WAV")
    found = audio_files_below(tmp_path)
    assert found.find("caf\u00e9_1") == tmp_path / "Cafe\u0301_1.WAV"
    assert found.find("other") is None
    assert found.n_other({"CAF\u00c9_1"}) == 0


def test_a_link_to_a_folder_above_it_ends(tmp_path):
    write(tmp_path / "a" / "x.wav")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert audio_files_below(tmp_path).skipped.total() == 0


def test_the_duration_of_a_segment_is_that_of_its_span(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(32_000), 16_000)
    table = pd.DataFrame(
        {"path": [str(tmp_path / "x.wav")] * 4, "start": [0, 0.5, np.nan, 3], "end": [0.5, np.nan, 9, 4]}
    )
    found = with_durations(Imported(table, Header("x")), progress=NullProgress())
    assert found.table["duration"].tolist() == [0.5, 1.5, 2, 0]
    assert found.warnings == ["0.00 h of audio; 1 at 16000 Hz", "1 segments start after the end of their file"]


def test_a_length_that_a_header_does_not_state_is_counted(tmp_path):
    soundfile.write(tmp_path / "x.flac", np.zeros(16_000), 16_000)
    with_flac_total(tmp_path / "x.flac", 0)
    assert soundfile.info(tmp_path / "x.flac").duration > 1e9  # hours, in which a corpus was forecast
    found = with_durations(
        Imported(pd.DataFrame({"path": [str(tmp_path / "x.flac")]}), Header("x")), progress=NullProgress()
    )
    assert found.table["duration"].tolist() == [1.0]
    assert found.warnings == ["0.00 h of audio; 1 at 16000 Hz"]
