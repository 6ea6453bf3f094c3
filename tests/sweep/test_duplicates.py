"""The same audio under several ids is found by hashes, and by embeddings that the audio files confirm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from helpers.planted import store
from helpers.speech_models import load_exact
from helpers.voices import manifest_of, voice

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.shared_audio import copies, count_shared
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.sweep.data import duplicates
from layerprobe.probe.sweep.data.duplicates import CLOSE, close_rows, recordings_of

RATE = 16_000


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, folders):
    """Twelve voices; copies of the first ones as other files, spans of one file, and one voice with other noise."""
    folder = tmp_path_factory.mktemp("copies")
    for i in range(12):
        soundfile.write(folder / f"v{i}.wav", voice(1.0, pitch=90 + 17 * i, seed=i), RATE)
    first = [voice(1.0, pitch=90 + 17 * i, seed=i) for i in range(6)]
    soundfile.write(folder / "v0 copy.wav", first[0], RATE)
    soundfile.write(folder / "v1.flac", first[1], RATE)  # 16 bits, rounded otherwise than the WAV
    soundfile.write(folder / "v2 stereo.wav", np.stack([first[2]] * 2, axis=1), RATE)
    soundfile.write(folder / "v3 44100.wav", soxr.resample(first[3], RATE, 44_100), 44_100, subtype="FLOAT")
    soundfile.write(folder / "v4 float.wav", first[4], RATE, subtype="FLOAT")
    soundfile.write(folder / "noise.wav", voice(1.0, pitch=90 + 17 * 5, seed=99), RATE)
    time = np.arange(4 * RATE) / RATE
    soundfile.write(folder / "hum.wav", 0.1 * np.sin(2 * np.pi * 125 * time), RATE)  # each second as any other
    names = [*(f"v{i}.wav" for i in range(12)), "v0 copy.wav", "v1.flac", "v2 stereo.wav", "v3 44100.wav"]
    rows = [{"utterance_id": n, "path": n} for n in [*names, "v4 float.wav", "noise.wav"]]
    rows += [{"utterance_id": f"hum {k}", "path": "hum.wav", "start": k, "end": k + 1} for k in range(3)]
    rows += [{"utterance_id": "hum again", "path": "hum.wav", "start": 2, "end": 3.0001}]
    manifest = manifest_of(folder, [row | {"speaker_id": f"s{k}", "arousal": 4} for k, row in enumerate(rows)])
    extract(manifest, load_exact(folders["hubert"]), folder / "a.zarr")
    return open_cache(folder / "a.zarr"), manifest.table.sort_values("utterance_id")


def same(recordings, rows):
    return {tuple(rows["utterance_id"].iloc[k]) for k in copies(recordings)}


def test_copies_in_other_files_and_formats_are_the_same_audio_and_spans_are_not(extracted):
    cache, rows = extracted
    assert same(recordings_of([cache], rows), rows) == {
        ("v0 copy.wav", "v0.wav"),
        ("v1.flac", "v1.wav"),
        ("v2 stereo.wav", "v2.wav"),
        ("v3 44100.wav", "v3.wav"),
        ("v4 float.wav", "v4.wav"),
        ("hum 2", "hum again"),
    }


def test_where_files_are_gone_equal_hashes_and_equal_embeddings_remain(extracted):
    cache, rows = extracted
    gone = rows.assign(path="/nowhere/" + rows["utterance_id"])
    assert same(recordings_of([cache], gone), gone) >= {("v0 copy.wav", "v0.wav"), ("v2 stereo.wav", "v2.wav")}
    assert ("noise.wav", "v5.wav") not in same(recordings_of([cache], gone), gone)


def test_the_same_transcript_twice_is_no_audio_and_a_text_cache_is_not_read(tmp_path, rng):
    x = np.repeat(rng.normal(size=(10, 2, 8)), 2, axis=0)
    text = store(tmp_path / "t.zarr", x, layers=("0", "1"), text_column="transcript")
    rows = manifest_rows(20)
    assert recordings_of([text], rows) is None
    audio = store(tmp_path / "a.zarr", rng.normal(size=(20, 2, 8)), layers=("0", "1"))
    assert same(recordings_of([text, audio], rows), rows) == set()


def test_what_one_encoder_distinguishes_is_not_the_same_audio(tmp_path, rng):
    x = rng.normal(size=(20, 2, 8))
    x[7], y = x[3], rng.normal(size=(20, 2, 8))
    deaf, other = (store(tmp_path / f"{k}.zarr", values, layers=("0", "1")) for k, values in enumerate((x, y)))
    rows = manifest_rows(20)
    assert same(recordings_of([deaf], rows), rows) == {("u3", "u7")}
    assert same(recordings_of([deaf, other], rows), rows) == same(recordings_of([other, deaf], rows), rows) == set()


def manifest_rows(n):
    return pd.DataFrame({"utterance_id": [f"u{i}" for i in range(n)], "path": [f"/nowhere/{i}.wav" for i in range(n)]})


def test_close_rows_are_those_of_all_pairs(rng):
    layer = rng.normal(size=(400, 30)).astype(np.float32) * np.geomspace(10, 0.1, 30, dtype=np.float32) + 3
    for k in range(40):  # copies from the same bits to clearly different
        layer[200 + k] = layer[k] + 0.01 * k * layer.std(axis=0) * rng.normal(size=30)
    layer[300], layer[301] = layer[7], layer[7]
    z = (layer - layer.mean(axis=0)) / layer.std(axis=0)
    distances = np.sqrt(np.mean((z[:, None] - z) ** 2, axis=2))
    a, b = np.nonzero(np.triu(distances <= CLOSE, 1))
    found = close_rows(layer)
    # those with the same bits are paired with the first of them alone
    expected = {(int(i), int(j)) for i, j in zip(a, b, strict=True) if not {300, 301} & {i, j}}
    assert set(found) == expected | {(7, 300), (7, 301)}
    assert len(expected) > 10
    assert found[7, 300] == found[7, 301] == 0.0
    assert close_rows(np.ones((30, 8), dtype=np.float32)) == {}  # a layer that distinguishes nothing


def test_pairs_in_memory_are_bounded_and_the_closest_are_kept(rng, monkeypatch):
    layer = rng.normal(size=(2, 8))[np.arange(600) % 2] + 0.01 * rng.normal(size=(600, 8))
    layer[500] = layer[0] + 1e-6
    layer = layer.astype(np.float32)
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 100)
    found = close_rows(layer)
    assert 0 < len(found) <= 100
    assert min(found, key=found.__getitem__) == (0, 500)


def test_acoustic_features_are_too_few_to_compare(tmp_path, rng):
    x = rng.integers(2, size=(40, 2, 1)).astype(np.float64)
    cache = store(tmp_path / "f.zarr", x, layers=("f0", "loudness"), upstream="acoustic")
    rows = manifest_rows(40)
    assert same(recordings_of([cache], rows), rows) == set()


def test_counts_of_copies_by_hand():
    recordings = np.array([0, 1, 0, 2, 1, 0, 3])
    ids = np.array(list("abcdefg"), dtype=object)
    speakers = np.array([0, 1, 0, 2, 2, 0, 3])
    ratings = np.array([[1.0], [2.0], [np.nan], [3.0], [2.0], [4.0], [5.0]])
    found = count_shared(recordings, ids, speakers, ratings)
    assert (found.n_utterances, found.n_recordings, found.n_across_speakers, found.n_other_ratings) == (5, 2, 2, 3)
    assert found.examples == ("b and e", "a and c")
    assert count_shared(np.arange(7), ids, speakers, ratings) is None
