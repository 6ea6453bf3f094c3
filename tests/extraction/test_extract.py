"""Extraction: exact, resumable, and no utterance is dropped without a reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.cache_rows import content_hash
from helpers.speech_models import load_exact
from helpers.voices import manifest_of

from layerprobe.probe.cache.store import Cache, CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import differences, verify
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.forward.linear_kernels import products_used
from layerprobe.probe.forward.pooling import pool_layers
from layerprobe.probe.progress import LogProgress, NullProgress
from layerprobe.probe.system import torch_threads


@pytest.mark.parametrize("kind", ["hubert", "wavlm-pre-norm", "wav2vec2-bert", "whisper"])
def test_rows_equal_the_encoder_on_a_single_utterance(corpus, folders, tmp_path, kind):
    encoder = load_exact(folders[kind])
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr")
    cache = open_cache(tmp_path / "a.zarr")
    assert cache.utterance_ids.tolist() == [f"u{i}" for i in range(8)]
    for k, layer in enumerate(encoder.layers):
        rows = cache.read_layer(layer)
        for i in range(8):
            states = encoder.hidden_states(read_audio_file(tmp_path / f"s{i}.wav", sampling_rate=16_000))[k].double()
            expected = np.concatenate([states.mean(0), states.std(0, correction=0)])
            np.testing.assert_allclose(rows[i], expected, rtol=1e-4, atol=1e-6)


def test_order_and_other_utterances_change_nothing(corpus, encoder, tmp_path):
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr")
    extract(manifest_of(tmp_path, corpus[::-1][:5]), encoder, tmp_path / "b.zarr")
    a, b = open_cache(tmp_path / "a.zarr"), open_cache(tmp_path / "b.zarr")
    np.testing.assert_array_equal(a.read_layer("2")[::-1][:5], b.read_layer("2"))


def test_resumed_extraction_equals_an_uninterrupted_one(corpus, encoder, tmp_path):
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "once.zarr")
    first = run_extraction(manifest_of(tmp_path, corpus[:3]), encoder, tmp_path / "twice.zarr")
    second = run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "twice.zarr")
    third = run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "twice.zarr")
    assert [(x.n_cached_before, x.n_extracted) for x in (first, second, third)] == [(0, 3), (3, 5), (8, 0)]
    assert content_hash(tmp_path / "twice.zarr") == content_hash(tmp_path / "once.zarr")


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
def test_how_many_work_at_once_changes_no_byte(corpus, folders, tmp_path, kind):
    for jobs, loaders in ((1, 1), (4, 4), (None, 2)):
        encoder = load_audio_encoder(str(folders[kind]))
        extract(manifest_of(tmp_path, corpus), encoder, tmp_path / f"{jobs}.zarr", jobs=jobs, loaders=loaders)
    hashes = [content_hash(tmp_path / f"{jobs}.zarr") for jobs in (1, 4, None)]
    assert hashes == hashes[:1] * 3


def test_an_extraction_uses_one_thread_of_torch_and_leaves_their_number_as_it_was(corpus, encoder, tmp_path):
    numbers = []

    class ThreadCounts(NullProgress):
        def log(self, line):
            numbers.append(torch.get_num_threads())

        def begin(self, task, total, unit):
            numbers.append(torch.get_num_threads())

    with torch_threads(3):
        run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", progress=ThreadCounts())
        numbers.append(torch.get_num_threads())
    assert numbers == [*[1] * (len(numbers) - 1), 3]
    assert len(numbers) > 2


def test_the_error_of_16_bits_on_the_users_audio_is_printed_and_written_into_the_cache(
    corpus, folders, tmp_path, capsys
):
    manifest = manifest_of(tmp_path, corpus)
    encoder = load_audio_encoder(str(folders["hubert"]), precision="bfloat16")
    extract(manifest, encoder, tmp_path / "a.zarr", progress=LogProgress())
    printed = capsys.readouterr().err
    assert printed.count(products_used()) == 1
    table = pd.read_csv(tmp_path / "a.zarr" / "extraction" / "precision_error.csv", dtype={"layer": str})
    assert table["layer"].tolist() == list(encoder.layers)
    assert table["relative_error"].between(1e-5, 2e-2).all()
    assert table["cosine"].between(0.999, 1.0).all()
    highest = table["relative_error"].max()
    summary = f"to {highest:.2%} against float32 (cosine at least {table['cosine'].min():.5f}), on 4 recordings"
    assert summary in printed
    # one of the sampled recordings by hand: none is worse than the table states
    waveform = read_audio_file(tmp_path / "s0.wav", sampling_rate=16_000)
    ours, exact = (
        pool_layers(states, poolings=("mean", "std")).flatten(1)
        for states in (encoder.hidden_states(waveform), encoder.reference_states(waveform))
    )
    errors = (ours - exact).norm(dim=1) / exact.norm(dim=1)
    assert (table["relative_error"].to_numpy() >= errors.numpy() * 0.999).all()


def test_float32_has_no_table_of_precision(corpus, encoder, tmp_path):
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr" / "extraction" / "precision_error.csv").exists()


def test_extract_takes_a_text_as_path_and_returns_the_cache(corpus, encoder, tmp_path):
    (tmp_path / "s7.wav").write_bytes(b"")
    cache = extract(manifest_of(tmp_path, corpus), encoder, str(tmp_path / "a.zarr"))
    assert isinstance(cache, Cache)
    assert cache.utterance_ids.tolist() == [f"u{i}" for i in range(7)]
    assert cache.quarantine["utterance_id"].tolist() == ["u7"]
    np.testing.assert_array_equal(cache.read_layer("2"), open_cache(tmp_path / "a.zarr").read_layer("2"))


def test_a_cache_of_no_usable_utterance_can_be_opened(corpus, encoder, tmp_path):
    (tmp_path / "s0.wav").write_bytes(b"")
    cache = extract(manifest_of(tmp_path, corpus[:1]), encoder, tmp_path / "a.zarr")
    assert (len(cache.utterance_ids), len(cache.quarantine)) == (0, 1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_audio_too_short_to_be_sampled_beforehand_stops_nothing(corpus, folders, tmp_path, precision):
    soundfile.write(tmp_path / "short.wav", 0.1 * np.sin(np.arange(300)), 16_000)
    rows = [{"utterance_id": "short", "path": "short.wav", "speaker_id": "t", "arousal": 2}, *corpus[:3]]
    encoder = load_audio_encoder(str(folders["hubert"]), precision=precision)
    done = run_extraction(manifest_of(tmp_path, rows), encoder, tmp_path / "a.zarr")
    assert (done.n_extracted, done.quarantine["utterance_id"].tolist()) == (3, ["short"])


def test_a_complete_cache_is_reported_and_reads_no_audio_again(corpus, encoder, tmp_path, capsys):
    manifest = manifest_of(tmp_path, corpus)
    extract(manifest, encoder, tmp_path / "a.zarr")
    files = sorted(tmp_path.glob("*.wav"))
    for path in files:  # other bytes of the same size and time are noticed only by reading
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = run_extraction(manifest, encoder, tmp_path / "a.zarr", progress=LogProgress())
    assert (done.n_cached_before, done.n_extracted) == (8, 0)
    assert "All 8 utterances of the manifest are cached already; nothing to extract." in capsys.readouterr().err
    files[0].touch()
    before = open_cache(tmp_path / "a.zarr").read_layer("1")
    done = run_extraction(manifest, encoder, tmp_path / "a.zarr", progress=LogProgress())
    assert "1 utterances changed since they were cached (first: u0); re-encoding them." in capsys.readouterr().err
    assert done.quarantine["utterance_id"].tolist() == ["u0"]  # it is no audio any more, and its old row is outdated
    cache = open_cache(tmp_path / "a.zarr")
    assert cache.utterance_ids.tolist() == [f"u{i}" for i in range(1, 8)]
    np.testing.assert_array_equal(cache.read_layer("1"), before[1:])


def test_all_invalid_audio_is_quarantined_with_its_reason_and_the_rest_is_extracted(
    corpus, encoder, tmp_path, write_audio
):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    soundfile.write(tmp_path / "short.wav", 0.1 * np.ones(399) * np.arange(399) % 1, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan] * 4_000), 16_000, subtype="FLOAT")
    (tmp_path / "zero.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("no audio")
    whole = write_audio("cut.flac", 2.0).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    write_audio("gone.wav")
    bad = ["silent.wav", "short.wav", "nan.wav", "zero.wav", "text.mp3", "cut.flac", "gone.wav"]
    rows = [{"utterance_id": name, "path": name, "speaker_id": "t", "arousal": 2} for name in bad]
    rows.append({"utterance_id": "late", "path": "s7.wav", "speaker_id": "t", "arousal": 2, "start": 9, "end": 10})
    manifest = manifest_of(tmp_path, [*corpus[:4], *rows, *corpus[4:]])
    (tmp_path / "gone.wav").unlink()
    done = run_extraction(manifest, encoder, tmp_path / "a.zarr")
    assert done.n_extracted == 8
    assert done.quarantine["reason"].str.contains(r" \[LP\d{3}\]$").all()
    reasons = dict(zip(done.quarantine["utterance_id"], done.quarantine["reason"].str[: -len(" [LP123]")], strict=True))
    assert reasons["silent.wav"] == "silent: every sample is the same"
    assert reasons["short.wav"] == "too short: 399 samples at 16000 Hz, one frame needs 400"
    assert reasons["nan.wav"] == "holds samples that are not finite"
    assert reasons["zero.wav"] == "empty: it holds no bytes"
    assert reasons["gone.wav"] == "no such file"
    assert reasons["late"].startswith("span 9 to 10 s lies outside the recording of")
    assert "decode" in reasons["text.mp3"]
    assert "decode" in reasons["cut.flac"]
    kept = open_cache(tmp_path / "a.zarr").quarantine
    assert kept.to_dict("records") == done.quarantine.to_dict("records")


def test_a_repaired_file_is_extracted_by_the_next_run(corpus, encoder, tmp_path, write_audio):
    (tmp_path / "late.wav").write_bytes(b"")
    rows = [*corpus, {"utterance_id": "late", "path": "late.wav", "speaker_id": "t", "arousal": 2}]
    assert len(run_extraction(manifest_of(tmp_path, rows), encoder, tmp_path / "a.zarr").quarantine) == 1
    write_audio("late.wav")
    done = run_extraction(manifest_of(tmp_path, rows), encoder, tmp_path / "a.zarr")
    assert (done.n_extracted, len(done.quarantine)) == (1, 0)
    assert open_cache(tmp_path / "a.zarr").quarantine.empty


def test_spans_of_one_file_are_rows_of_their_own(encoder, tmp_path, write_audio):
    write_audio("long.flac", 4.0)
    base = {"path": "long.flac", "speaker_id": "t", "arousal": 2}
    rows = [
        base | {"utterance_id": "a", "start": 0.0, "end": 1.5},
        base | {"utterance_id": "b", "start": 1.5, "end": ""},
        base | {"utterance_id": "c", "start": "", "end": ""},
    ]
    extract(manifest_of(tmp_path, rows), encoder, tmp_path / "a.zarr")
    cache = open_cache(tmp_path / "a.zarr")
    assert len(set(cache.audio_hashes)) == 3
    states = encoder.hidden_states(read_audio_file(tmp_path / "long.flac", sampling_rate=16_000)[:24_000])
    np.testing.assert_allclose(cache.read_layer("1")[0, :32], states[1].mean(0), rtol=1e-4, atol=1e-6)


def test_spans_that_differ_by_less_than_a_millisecond_are_different_utterances(encoder, tmp_path, write_audio):
    write_audio("long.wav", 1.0)
    row = {"utterance_id": "a", "path": "long.wav", "speaker_id": "t", "arousal": 2, "start": 0.1234561, "end": 0.9}
    extract(manifest_of(tmp_path, [row]), encoder, tmp_path / "a.zarr")
    row["start"] = 0.1234564
    assert run_extraction(manifest_of(tmp_path, [row]), encoder, tmp_path / "a.zarr").n_extracted == 1


def test_changed_audio_is_never_reused_and_a_moved_file_is(corpus, encoder, tmp_path, write_audio):
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr")
    (tmp_path / "s1.wav").rename(tmp_path / "moved.wav")
    corpus[1]["path"] = "moved.wav"
    (tmp_path / "s2.wav").touch()
    assert run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr").n_extracted == 0
    write_audio("s3.wav", 1.0, pitch=300)
    corpus[4] |= {"start": 0.1, "end": 0.4}  # another span of the same file is another utterance
    assert run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr").n_extracted == 2
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "b.zarr")  # all at once, as it is now
    assert differences(open_cache(tmp_path / "a.zarr"), open_cache(tmp_path / "b.zarr")) == []
    assert verify(tmp_path / "a.zarr") == []


def test_prune_removes_what_the_manifest_no_longer_has(corpus, encoder, tmp_path, capsys):
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr")
    fewer = manifest_of(tmp_path, corpus[2:])
    extract(fewer, encoder, tmp_path / "a.zarr")
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 8
    done = run_extraction(fewer, encoder, tmp_path / "a.zarr", prune=True, progress=LogProgress())
    assert "2 rows removed that the manifest no longer has" in capsys.readouterr().err
    assert done.n_extracted == 0
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == [f"u{i}" for i in range(2, 8)]
    assert run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr").n_extracted == 2


def test_another_encoder_pooling_or_seed_is_refused_by_name(corpus, encoder, folders, tmp_path):
    manifest = manifest_of(tmp_path, corpus)
    extract(manifest, encoder, tmp_path / "a.zarr")
    with pytest.raises(CacheMismatchError, match=r"with poolings mean, std, not mean\. Name another --out"):
        extract(manifest, encoder, tmp_path / "a.zarr", poolings=("mean",))
    random = load_exact(folders["hubert"], random_init=1)
    with pytest.raises(CacheMismatchError, match=r"with weights '\w+', not '\w+'; random_init None, not 1\."):
        extract(manifest, random, tmp_path / "a.zarr")
    with pytest.raises(CacheMismatchError, match=r"with upstream 'hubert', not 'wavlm'; architecture 'HubertModel'"):
        extract(manifest, load_exact(folders["wavlm"]), tmp_path / "a.zarr")


def test_audio_over_the_maximum_duration_is_quarantined_and_not_cut(corpus, encoder, tmp_path):
    done = run_extraction(
        manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", ExtractionSettings(max_duration=1.5)
    )
    assert done.quarantine["utterance_id"].tolist() == ["u6", "u7"]
    assert done.quarantine["reason"].str.contains("cut it into spans").all()


def test_stereo_44_khz_equals_its_mono_16_khz_within_the_resamplers_error(encoder, tmp_path, write_audio):
    paths = [write_audio("a.wav", 2.0), write_audio("b.wav", 2.0, rate=44_100, channels=2)]
    rows = [{"utterance_id": p.name, "path": Path(p).name, "speaker_id": "t", "arousal": 2} for p in paths]
    extract(manifest_of(tmp_path, rows), encoder, tmp_path / "a.zarr")
    mono, stereo = open_cache(tmp_path / "a.zarr").read_layer("3")
    assert np.linalg.norm(mono - stereo) < 0.1 * np.linalg.norm(mono)
