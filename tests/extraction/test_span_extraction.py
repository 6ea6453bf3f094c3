"""Extraction of spans: each holds what its frames do, a whole one what the utterance does, and nothing is half done."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.speech_models import load_exact
from helpers.voices import manifest_of

from layerprobe.probe.cache.compact import compact
from layerprobe.probe.cache.layout import block_file
from layerprobe.probe.cache.store import CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.acoustic import RATE, AcousticEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.shards import Shard, extract_shard, merge
from layerprobe.probe.extraction.extract import extract, plan_extraction, run_extraction
from layerprobe.probe.extraction.repair import repair
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import size_of
from layerprobe.probe.forward.packed import span_pooling
from layerprobe.probe.forward.pooling import POOLINGS

ALL = tuple(POOLINGS)
WINDOWS = SpanOptions(every=0.25, window=0.5)


def settings(spans, **choices):
    return ExtractionSettings(spans=spans, **choices)


@pytest.fixture
def manifest(corpus, tmp_path):
    return manifest_of(tmp_path, corpus)


def span_table(folder, rows, name="spans.csv", columns=("utterance_id", "start", "end", "label")):
    pd.DataFrame(rows, columns=list(columns)).to_csv(folder / name, index=False)
    return SpanOptions(folder / name)


def whole_spans(folder, manifest):
    """A table with one span for each utterance, from its beginning to its end."""
    durations = [soundfile.info(str(path)).duration for path in manifest.table["path"]]
    rows = [(name, 0, f"{end:.7f}", "all") for name, end in zip(manifest.table["utterance_id"], durations, strict=True)]
    return span_table(folder, rows)


def by_parent(cache, layer_rows):
    order = np.argsort(cache.spans.parent.astype(str), kind="stable")
    return layer_rows[order]


@pytest.mark.parametrize("forward", ["single", "packed"])
@pytest.mark.parametrize("kind", ["hubert", "wavlm-pre-norm", "sew", "wav2vec2-bert", "whisper"])
def test_a_span_that_is_the_utterance_holds_its_bits(tmp_path, folders, manifest, kind, forward):
    part = replace(manifest, table=manifest.table[:4])
    encoder = load_exact(folders[kind], forward=forward)
    whole = extract(part, encoder, tmp_path / "u.zarr", poolings=ALL)
    spans = extract(part, encoder, tmp_path / "s.zarr", poolings=ALL, spans=whole_spans(tmp_path, part))
    assert spans.spans.parent.tolist() == whole.utterance_ids.tolist()
    every = np.arange(4)
    np.testing.assert_array_equal(spans.read_rows(every), whole.read_rows(every))


def test_a_whole_span_of_acoustic_features_holds_the_bits_of_the_utterance(tmp_path, manifest):
    encoder = AcousticEncoder()
    whole = extract(manifest, encoder, tmp_path / "u.zarr", poolings=ALL)
    spans = extract(manifest, encoder, tmp_path / "s.zarr", poolings=ALL, spans=whole_spans(tmp_path, manifest))
    every = np.arange(len(manifest.table))
    np.testing.assert_array_equal(spans.read_rows(every), whole.read_rows(every))


@pytest.mark.parametrize("forward", ["single", "packed"])
def test_long_audio_in_chunks_has_spans_across_their_borders(tmp_path, folders, write_audio, forward, monkeypatch):
    monkeypatch.setattr(span_pooling, "HELD", 1000)  # a file without a name
    write_audio("long.wav", 130.0)  # three chunks
    rows = [{"utterance_id": "l", "path": "long.wav", "speaker_id": "s", "arousal": 1}]
    manifest = manifest_of(tmp_path, rows)
    encoder = load_exact(folders["hubert"], forward=forward)
    table = [("l", 0, 130, ""), ("l", 30, 100, ""), ("l", 1.0, 1.3, ""), ("l", 43.2, 43.5, "")]
    cache = extract(manifest, encoder, tmp_path / "s.zarr", poolings=ALL, spans=span_table(tmp_path, table))
    whole = extract(manifest, encoder, tmp_path / "u.zarr", poolings=ALL)
    at = cache.spans.end.tolist().index(130)
    np.testing.assert_array_equal(cache.read_rows(np.array([at])), whole.read_rows(np.array([0])))
    samples, _ = soundfile.read(str(manifest.table["path"][0]), dtype="float32")
    states = encoder.hidden_states(samples)
    for row in range(4):
        frames = frames_between(states, cache.spans.start[row], cache.spans.end[row], 200, 320, len(samples))
        compare(cache.read_rows(np.array([row]))[0], frames)


def frames_between(states, start, end, centre, step, n_samples):
    """The frames with their centre inside, one after the other."""
    times = [(centre + step * k) / 16_000 for k in range(len(states[0]))]
    whole = end * 16_000 >= n_samples
    chosen = [k for k, t in enumerate(times) if (start <= 0 or t >= start) and (whole or t < end)]
    if not chosen:
        chosen = [int(np.argmin([abs(t - (start + end) / 2) for t in times]))]
    return [layer[chosen] for layer in states]


def compare(found, layers, poolings=ALL):
    """Compare pooled layers with pooling one after the other in float64."""
    for layer, frames in enumerate(layers):
        frames = frames.double()
        for k, name in enumerate(poolings):
            expected = POOLINGS[name](frames).numpy()
            # sums of float32 in another order
            np.testing.assert_allclose(found[layer, k], expected, atol=2e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("kind", "forward", "centre", "step"),
    [
        ("hubert", "single", 200, 320),
        ("wavlm", "packed", 200, 320),
        ("whisper", "single", 0, 320),
        ("whisper", "packed", 0, 320),
        ("wav2vec2-bert", "single", 280, 320),
        ("sew", "single", 260, 640),
    ],
)
def test_spans_hold_the_frames_with_their_centre_inside(tmp_path, folders, manifest, kind, forward, centre, step):
    encoder = load_exact(folders[kind], forward=forward)
    if kind == "sew":  # thirteen convolutions
        centre, step = encoder.minimum_samples / 2, 320 * 2
    table = [("u4", 0.1, 0.4, "x"), ("u4", 0.0, 0.5, ""), ("u6", 0.301, 0.303, "y"), ("u6", 0.7, 9.0, "z")]
    spans = span_table(tmp_path, table)
    done = run_extraction(manifest, encoder, tmp_path / "s.zarr", settings(spans, poolings=ALL))
    remarks = done.remarks
    cache = open_cache(tmp_path / "s.zarr")
    assert len(cache.spans) == 4
    assert kind == "sew" or any("no frame has its centre (1 in all" in line for line in remarks)
    assert any("end after the audio (1 in all" in line for line in remarks)
    for row in range(4):
        path = dict(zip(manifest.table["utterance_id"], manifest.table["path"], strict=True))[cache.spans.parent[row]]
        samples, _ = soundfile.read(str(path), dtype="float32")
        states = encoder.hidden_states(samples)
        frames = frames_between(states, cache.spans.start[row], cache.spans.end[row], centre, step, len(samples))
        compare(cache.read_rows(np.array([row]))[0], frames)
        assert cache.spans.duration[row] == pytest.approx(len(samples) / 16_000)
        assert cache.spans.end[row] <= cache.spans.duration[row]


@pytest.mark.parametrize("poolings", [ALL, ("std", "mean"), ("mean",)])
def test_acoustic_features_of_a_span_are_those_of_its_frames(tmp_path, manifest, poolings):
    encoder = AcousticEncoder()
    cache = extract(manifest, encoder, tmp_path / "s.zarr", poolings=poolings, spans=WINDOWS)
    samples, _ = soundfile.read(str(manifest.table["path"][5]), dtype="float32")
    features = encoder.features(samples)
    centres = (200 + 160 * np.arange(len(features.log_mel))) / RATE
    for row in np.flatnonzero(cache.spans.parent == "u5"):
        start, end = cache.spans.start[row], cache.spans.end[row]
        last = end >= cache.spans.duration[row]
        inside = np.flatnonzero((centres >= start) & ((centres < end) | last) | ((start == 0) & (centres < end)))
        voiced = [k for k in inside if not torch.isnan(features.pitch[k])]
        slopes = encoder.features(samples).pitch.log2().diff().abs() * 100
        f0 = []
        for k in voiced:
            sides = [float(slopes[j]) for j in (k - 1, k) if 0 <= j < len(slopes) and not torch.isnan(slopes[j])]
            f0.append([float(features.pitch[k].log2()), np.mean(sides) if sides else 0.0, len(voiced) / len(inside)])
        f0 = torch.tensor(f0 or [[math.log2(75 * 600) / 2, 0.0, 0.0]])
        layers = [features.log_mel[inside], features.mfcc[inside], f0, features.loudness[inside]]
        compare(cache.read_rows(np.array([row]))[0], [encoder.padded(x) for x in layers], poolings)
        duration = cache.read_layer("duration", np.array([row]), pooling="mean")[0, 0]
        assert duration == pytest.approx(math.log(end - start), abs=1e-6)


def test_spans_are_resumed_changed_pruned_and_quarantined_by_utterance(tmp_path, encoder, corpus, manifest):
    out = tmp_path / "s.zarr"
    rows = [(f"u{k}", 0.1 * j, 0.1 * j + 0.1, "w") for k in range(7) for j in range(4)]  # u7 has none
    done = run_extraction(manifest, encoder, out, settings(span_table(tmp_path, rows)))
    assert (done.n_extracted, done.n_spans) == (7, 28)
    assert done.quarantine["reason"].tolist() == [f"{tmp_path / 'spans.csv'} has no span of it [LP264]"]
    before = open_cache(out)
    values = before.read_rows(np.arange(28))
    again = run_extraction(manifest, encoder, out, settings(span_table(tmp_path, rows)))
    assert (again.n_extracted, again.n_cached_before) == (0, 7)
    rows[0] = ("u0", 0.0, 0.15, "other")  # of one utterance
    changed = run_extraction(manifest, encoder, out, settings(span_table(tmp_path, rows[:-1])))
    assert changed.n_extracted == 2  # u6 has lost its last span
    after = open_cache(out)
    assert len(after.spans) == 27
    same = [k for k, parent in enumerate(after.spans.parent) if parent not in ("u0", "u6")]
    at = [before.utterance_ids.tolist().index(after.utterance_ids[k]) for k in same]
    np.testing.assert_array_equal(after.read_rows(np.array(same)), values[at])
    outside = [*rows[:-1], ("u5", 7.0, 7.5, "late")]
    refused = run_extraction(manifest, encoder, out, settings(span_table(tmp_path, outside)))
    assert "u5#0004 ('late') from 7 to 7.5 s" in refused.quarantine["reason"].iloc[1]
    assert "u5" not in set(open_cache(out).spans.parent)
    fewer = manifest_of(tmp_path, corpus[:3])
    run_extraction(fewer, encoder, out, settings(span_table(tmp_path, rows)), prune=True)
    assert set(open_cache(out).spans.parent) == {"u0", "u1", "u2"}
    compact(out)
    assert open_cache(out).n_rows == 12


def test_windows_need_no_encoding_again_and_never_resume_as_utterances(tmp_path, encoder, manifest):
    out = tmp_path / "s.zarr"
    done = run_extraction(manifest, encoder, out, settings(WINDOWS))
    assert done.n_spans == len(open_cache(out).spans) > 8
    assert run_extraction(manifest, encoder, out, settings(SpanOptions(every=0.25, window=0.5))).n_extracted == 0
    with pytest.raises(CacheMismatchError, match=r"spans 'windows of 0\.5 s every 0\.25 s"):
        run_extraction(manifest, encoder, out)
    with pytest.raises(CacheMismatchError):
        run_extraction(manifest, encoder, out, settings(SpanOptions(every=0.25, window=0.6)))


@pytest.mark.parametrize("forward", ["single", "packed"])
def test_a_run_that_ends_early_leaves_no_part_of_an_utterance(tmp_path, folders, manifest, forward, monkeypatch):
    encoder = load_exact(folders["hubert"], forward=forward)
    out, expected = tmp_path / "s.zarr", extract(manifest, encoder, tmp_path / "all.zarr", spans=WINDOWS)

    class Killed(BaseException):
        pass

    from layerprobe.probe.cache.writer import CacheWriter

    n_left, append = [9], CacheWriter._append

    def append_some(self, *arguments):
        n_left[0] -= 1
        if n_left[0] < 0:
            raise Killed
        append(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(CacheWriter, "_append", append_some)
        with pytest.raises(Killed):
            run_extraction(manifest, encoder, out, settings(WINDOWS))
    part = open_cache(out)
    for parent in set(part.spans.parent):
        assert (part.spans.parent == parent).sum() == (expected.spans.parent == parent).sum()
    assert 0 < len(part.spans) < 9
    done = run_extraction(manifest, encoder, out, settings(WINDOWS))
    assert done.n_cached_before == part.spans.n_parents
    found = open_cache(out)
    assert found.utterance_ids.tolist() == expected.utterance_ids.tolist()
    every = np.arange(len(found.spans))
    np.testing.assert_array_equal(found.read_rows(every), expected.read_rows(every))


def test_shards_of_spans_merge_to_what_one_process_writes(tmp_path, encoder, manifest):
    expected = extract(manifest, encoder, tmp_path / "one.zarr", spans=WINDOWS)
    for k in (1, 2, 3):
        extract_shard(manifest, encoder, tmp_path / "m.zarr", Shard(k, 3), settings(WINDOWS))
    assert merge(tmp_path / "m.zarr", manifest) == len(expected.spans)
    found = open_cache(tmp_path / "m.zarr")
    for name in ("embeddings", "parent", "start", "end", "label", "duration", "audio_hash"):
        assert block_file(found.path, name, 0).read_bytes() == block_file(expected.path, name, 0).read_bytes()


@pytest.mark.parametrize("name", ["embeddings", "label", "parent"])
def test_a_repair_encodes_the_utterances_of_damaged_blocks_again(tmp_path, encoder, manifest, name):
    rows = [(f"u{k}", 0.1 * j, 0.1 * j + 0.1, "w") for k in range(7) for j in range(3)]
    spans = span_table(tmp_path, rows)
    out = tmp_path / "s.zarr"
    run_extraction(manifest, encoder, out, settings(spans))
    before = open_cache(out)
    values = before.read_rows(np.arange(21))
    file = block_file(out, name, 0)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match="LP267"):
        repair(out, manifest, encoder)
    done = repair(out, manifest, encoder, spans=spans)
    assert done.n_encoded == 7
    assert not verify(out)
    after = open_cache(out)
    order = [after.utterance_ids.tolist().index(one) for one in before.utterance_ids]
    np.testing.assert_array_equal(after.read_rows(np.arange(21))[order], values)
    assert after.quarantine["utterance_id"].tolist() == ["u7"]


def test_disk_space_is_estimated_within_a_tenth(tmp_path, encoder, manifest):
    many = SpanOptions(every=0.002, window=0.05)
    lines = plan_extraction(manifest, encoder, tmp_path / "s.zarr", settings(many))
    done = run_extraction(manifest, encoder, tmp_path / "s.zarr", settings(many))
    stated = (
        float(lines[-1].split(" kB on disk")[0].rpartition(" ")[2]) * 1e3
        if "kB on" in lines[-1]
        else (float(lines[-1].split(" MB on disk")[0].rpartition(" ")[2]) * 1e6)
    )
    assert stated == pytest.approx(size_of(tmp_path / "s.zarr"), rel=0.1)
    assert f"about {done.n_spans:,} spans" in lines[-1]


def test_text_encoders_and_trimmed_silence_have_no_spans(tmp_path, encoder, manifest):
    from layerprobe.probe.data.reading import ReadingOptions

    with pytest.raises(InputError, match="LP266"):
        run_extraction(
            manifest, encoder, tmp_path / "s.zarr", settings(WINDOWS, reading=ReadingOptions(trim_silence=True))
        )
    encoder.reads = "text"
    with pytest.raises(InputError, match="LP265"):
        run_extraction(manifest, encoder, tmp_path / "s.zarr", settings(WINDOWS))
    assert not Path(tmp_path / "s.zarr").exists()


def test_float16_spans_are_rounded_float32_ones(tmp_path, encoder, manifest):
    exact = extract(manifest, encoder, tmp_path / "a.zarr", spans=WINDOWS)
    half = extract(manifest, encoder, tmp_path / "b.zarr", spans=WINDOWS, storage_dtype="float16")
    every = np.arange(len(exact.spans))
    np.testing.assert_array_equal(half.read_rows(every), exact.read_rows(every).astype(np.float16))
