"""What is read of recordings is a choice of the plan, and what is remarkable about them is kept in the cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.cache_rows import PLAN
from helpers.voices import manifest_of, voice

from layerprobe.probe.cache.store import CacheMismatchError, open_cache
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.encoders.loading import ACOUSTIC, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.control_caches import control_caches
from layerprobe.probe.extraction.distributed.shards import Shard, extract_shard, merge
from layerprobe.probe.extraction.extract import extract, plan_extraction, run_extraction
from layerprobe.probe.extraction.remarks import AUDIO_REMARKS, AudioRemarks
from layerprobe.probe.extraction.repair import repair
from layerprobe.probe.extraction.settings import ExtractionSettings, extraction_plan, settings_in
from layerprobe.probe.progress import LogProgress

RATE = 16_000
LOW, HIGH = voice(1.0, pitch=110), voice(1.0, pitch=170, seed=1)
LONG_TAIL = (
    "1 utterance has long digital silence at an end (longest 3.0 s: tail), which counts in the pooling; --trim-silence "
    "leaves it out."
)


@pytest.fixture
def mixed(tmp_path):
    """Recordings whose channels cancel, that end in silence, or are in order; and each as it is cut by hand."""
    recordings = {
        "opposite": np.stack([LOW, -LOW], axis=1),
        "tail": np.concatenate([HIGH, np.zeros(3 * RATE)]),
        "plain": np.stack([LOW, HIGH], axis=1),
    }
    cut = {"opposite": LOW, "tail": HIGH, "plain": LOW}  # the first channels
    rows = []
    for number, (name, waveform) in enumerate(recordings.items()):
        soundfile.write(tmp_path / f"{name}.wav", waveform, RATE, subtype="FLOAT")
        soundfile.write(tmp_path / f"cut-{name}.wav", cut[name], RATE, subtype="FLOAT")
        rows.append({"utterance_id": name, "path": f"{name}.wav", "speaker_id": f"s{number}", "arousal": 1 + number})
    return rows


def by_hand(rows):
    return [row | {"path": f"cut-{row['path']}"} for row in rows]


def test_the_default_quarantines_what_cancels_and_reports_what_is_silent(mixed, encoder, tmp_path, capsys):
    cache = extract(manifest_of(tmp_path, mixed), encoder, tmp_path / "a.zarr", progress=LogProgress())
    assert cache.utterance_ids.tolist() == ["tail", "plain"]
    (reason,) = cache.quarantine["reason"]
    assert reason.startswith(
        "its 2 channels cancel in their mean (opposite phase), in 100 % of the recording; read one with --channel "
        "first or --channel loudest, or accept the mean with --channel mean [LP"
    )
    assert LONG_TAIL in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "a.zarr" / AUDIO_REMARKS)
    assert table.to_dict("records") == [
        {"utterance_id": "tail", "remark": "silence-at-ends", "value": 3.0, "format_version": 2}
    ]


@pytest.mark.parametrize("name", ["hubert", ACOUSTIC])
def test_rows_are_those_of_files_cut_by_hand(mixed, encoder, tmp_path, name):
    encoder = encoder if name == "hubert" else load_encoder(ACOUSTIC)
    reading = {"channel": "first", "trim_silence": True}
    found = extract(manifest_of(tmp_path, mixed), encoder, tmp_path / "a.zarr", **reading)
    expected = extract(manifest_of(tmp_path, by_hand(mixed)), encoder, tmp_path / "b.zarr")
    assert found.utterance_ids.tolist() == expected.utterance_ids.tolist() == ["opposite", "tail", "plain"]
    np.testing.assert_array_equal(found.read_rows(np.arange(3)), expected.read_rows(np.arange(3)))
    whole = extract(manifest_of(tmp_path, mixed[1:]), encoder, tmp_path / "c.zarr")
    assert not np.array_equal(whole.read_rows(np.arange(1)), expected.read_rows(np.arange(1, 2)))


def test_the_hash_is_that_of_the_file_whatever_is_read_of_it(mixed, encoder, tmp_path):
    manifest = manifest_of(tmp_path, mixed)
    cache = extract(manifest, encoder, tmp_path / "a.zarr", channel="loudest", trim_silence=True)
    assert cache.audio_hashes.tolist() == [AudioHashes().hash_file(path) for path in manifest.table["path"]]


def test_every_choice_is_a_plan_of_its_own_and_found_again_in_it(encoder):
    choices = [ReadingOptions(c, t) for c in (None, "mean", "first", "loudest") for t in (False, True)]
    plans = [extraction_plan(encoder, ExtractionSettings(reading=reading)) for reading in choices]
    assert len({plan.fingerprint() for plan in plans}) == len(choices)
    assert [settings_in(plan).reading for plan in plans] == choices
    assert (plans[0].audio_channels, plans[0].end_silence) == ("mean", "kept")


def test_another_choice_does_not_resume_a_cache(mixed, encoder, tmp_path):
    manifest = manifest_of(tmp_path, mixed)
    extract(manifest, encoder, tmp_path / "a.zarr")
    with pytest.raises(CacheMismatchError, match="end_silence"):
        extract(manifest, encoder, tmp_path / "a.zarr", trim_silence=True)
    with pytest.raises(CacheMismatchError, match="audio_channels"):
        plan_extraction(manifest, encoder, tmp_path / "a.zarr", ExtractionSettings(reading=ReadingOptions("mean")))
    with pytest.raises(InputError, match="channel 'right' is unknown"):
        extract(manifest, encoder, tmp_path / "b.zarr", channel="right")
    assert not (tmp_path / "b.zarr").exists()


def test_the_estimate_reads_what_the_extraction_reads(mixed, encoder, tmp_path):
    first = ExtractionSettings(reading=ReadingOptions("first"))
    assert "; about" in plan_extraction(manifest_of(tmp_path, mixed), encoder, tmp_path / "a.zarr", first)[-1]


def test_remarks_of_a_cache_follow_its_utterances(mixed, encoder, tmp_path):
    manifest, out = manifest_of(tmp_path, mixed), tmp_path / "a.zarr"
    assert run_extraction(manifest, encoder, out).remarks == [LONG_TAIL]
    assert run_extraction(manifest, encoder, out).remarks == [LONG_TAIL]  # resumed: nothing is read again
    soundfile.write(tmp_path / "tail.wav", HIGH, RATE, subtype="FLOAT")
    assert run_extraction(manifest, encoder, out).remarks == []
    assert AudioRemarks(out).sentences() == []


def test_remarks_of_pruned_utterances_are_removed(mixed, encoder, tmp_path):
    out = tmp_path / "a.zarr"
    run_extraction(manifest_of(tmp_path, mixed), encoder, out)
    assert run_extraction(manifest_of(tmp_path, mixed[2:]), encoder, out, prune=True).remarks == []


@pytest.mark.parametrize(
    "content", ["", "rubbish", "a,b\n1,2\n", "utterance_id,remark,value,format_version\nu,r,x,2\n"]
)
def test_a_damaged_file_of_remarks_is_named_with_what_to_do(mixed, encoder, tmp_path, content):
    out = tmp_path / "a.zarr"
    extract(manifest_of(tmp_path, mixed), encoder, out)
    (out / AUDIO_REMARKS).write_text(content)
    with pytest.raises(
        InputError, match=r"audio_remarks\.csv can't be read .* Delete it; no embedding depends on it\."
    ):
        extract(manifest_of(tmp_path, mixed), encoder, out)


def test_shards_take_the_choice_along_and_their_remarks_are_merged(mixed, encoder, tmp_path):
    manifest, settings = manifest_of(tmp_path, mixed), ExtractionSettings(reading=ReadingOptions("loudest"))
    run_extraction(manifest, encoder, tmp_path / "one.zarr", settings)
    for number in (1, 2):
        extract_shard(manifest, encoder, tmp_path / "many.zarr", Shard(number, 2), settings)
    merge(tmp_path / "many.zarr", manifest)
    one, many = open_cache(tmp_path / "one.zarr"), open_cache(tmp_path / "many.zarr")
    assert one.plan == many.plan
    np.testing.assert_array_equal(one.read_rows(np.arange(3)), many.read_rows(np.arange(3)))
    assert AudioRemarks(tmp_path / "many.zarr").sentences() == [LONG_TAIL]
    soundfile.write(tmp_path / "tail.wav", HIGH, RATE, subtype="FLOAT")
    for number in (1, 2):
        extract_shard(manifest, encoder, tmp_path / "many.zarr", Shard(number, 2), settings)
    merge(tmp_path / "many.zarr", manifest)
    assert AudioRemarks(tmp_path / "many.zarr").sentences() == []


def test_remarks_are_written_before_the_rows_of_their_block(mixed, encoder, tmp_path, monkeypatch):
    """A kill after a block was written, here of two rows, loses no remark on it."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("layerprobe.probe.extraction.row_writer.BLOCK", 2)
    monkeypatch.setattr(AudioRemarks, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        extract(manifest_of(tmp_path, mixed), encoder, tmp_path / "a.zarr")
    assert AudioRemarks(tmp_path / "a.zarr").sentences() == [LONG_TAIL]


def test_a_repair_reads_what_the_extraction_read(mixed, encoder, tmp_path):
    manifest, out = manifest_of(tmp_path, mixed), tmp_path / "a.zarr"
    before = extract(manifest, encoder, out, channel="first", trim_silence=True).read_rows(np.arange(3))
    block = max((file for file in (out / "embeddings").rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    block.write_bytes(b"damaged")
    done = repair(out, manifest, encoder)
    assert (done.n_encoded, len(done.lost)) == (3, 0)
    np.testing.assert_array_equal(open_cache(out).read_rows(np.arange(3)), before)


def test_controls_read_what_the_encoders_under_study_read(mixed, tmp_path):
    manifest, encoder = manifest_of(tmp_path, mixed), load_encoder("embedded", precision="float32")
    cache = extract(manifest, encoder, tmp_path / "a.zarr", channel="first", trim_silence=True)
    controls = control_caches([cache], manifest, random_weights=[])
    for control in (*controls.random_weights, *controls.acoustic):
        assert settings_in(control.plan).reading == ReadingOptions("first", trim_silence=True)
        assert control.n_utterances == 3


def test_the_plan_of_a_text_encoder_states_nothing_of_audio():
    plan = replace(PLAN, audio_channels="", end_silence="", text_column="transcript")
    assert settings_in(plan).reading == ReadingOptions()
