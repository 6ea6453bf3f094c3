"""Extraction by a packed pass: rows as of single utterances, in the manifest's order, whatever interrupts it."""

from __future__ import annotations

import errno
import os
import re
import signal

import numpy as np
import pytest
import torch
from helpers.command_line import run
from helpers.speech_models import load_exact
from helpers.voices import manifest_of, write_table

from layerprobe.probe.cache.plan import PACKED_FORWARDS
from layerprobe.probe.cache.store import CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.encoders.loading import EncoderSettings, load_audio_encoder, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob, extract_in_processes
from layerprobe.probe.extraction.encoding.workers import embed_in_order
from layerprobe.probe.extraction.estimate import frames_of
from layerprobe.probe.extraction.extract import extract, plan_extraction, run_extraction
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.progress import LogProgress, NullProgress


@pytest.fixture
def corpus(write_audio):
    """Twelve recordings of 0.3 to 1.1 s, several of equal length, none in the order of lengths."""
    rows = []
    for k in range(12):
        write_audio(f"s{k}.wav", 0.3 + 0.2 * (5 * k % 5 if k % 3 else 7 * k % 4), pitch=90 + 10 * k)
        rows.append({"utterance_id": f"u{k}", "path": f"s{k}.wav", "speaker_id": f"t{k % 4}", "arousal": 1 + k % 5})
    return rows


class Together:
    """A packed pass whose packs are formed as another pass would ask, and whose memory holds only so many frames."""

    def __init__(self, forward, together, *, capacity=10**9):
        self._forward, self.together, self.capacity = forward, together, capacity
        self.sizes = []  # frames and utterances of each pack that ran

    def __getattr__(self, name):
        return getattr(self._forward, name)

    def states(self, pack):
        if pack.n_frames > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.sizes.append((pack.n_frames, pack.n_utterances))
        yield from self._forward.states(pack)


def packed(folders, together="any", kind="hubert", **choices):
    encoder = load_audio_encoder(str(folders[kind]), precision="float32", forward="packed")
    encoder.packed = Together(encoder.packed, together, **choices)
    return encoder


class Lines(NullProgress):
    """Keeps what is logged, and lets memory be scarce from the extraction on, after what is measured before."""

    def __init__(self, forward, *, capacity=10**9):
        self.lines, self._forward, self._capacity = [], forward, capacity

    def begin(self, task, total, unit):
        self._forward.sizes.clear()
        if task == "extract":
            self._forward.capacity = self._capacity

    def log(self, line):
        self.lines.append(line)


def assert_equal_rows(path, single):
    """The rows of two caches differ by at most 1e-6 relative in each pooled vector, in the same order."""
    ours, alone = open_cache(path), open_cache(single)
    assert ours.utterance_ids.tolist() == alone.utterance_ids.tolist()
    assert ours.audio_hashes.tolist() == alone.audio_hashes.tolist()
    found, expected = (cache.read_rows(np.arange(cache.n_utterances)) for cache in (ours, alone))
    error = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert error.max() <= 1e-6


@pytest.fixture
def single(corpus, folders, tmp_path):
    """The cache of utterances encoded one by one."""
    extract(manifest_of(tmp_path, corpus), load_exact(folders["hubert"]), tmp_path / "single.zarr")
    return tmp_path / "single.zarr"


@pytest.mark.parametrize("together", ["any", "equal", "similar"])
@pytest.mark.parametrize("frames", [1, 70, 100_000])
def test_rows_are_those_of_single_utterances_whatever_the_budget(corpus, folders, single, tmp_path, together, frames):
    encoder = packed(folders, together)
    progress = Lines(encoder.packed)
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", batch_frames=frames, progress=progress)
    assert_equal_rows(tmp_path / "a.zarr", single)
    n_together = [n for _, n in encoder.packed.sizes]
    assert max(n_together) == {1: 1, 70: max(n_together), 100_000: 12}[frames]
    assert max(n_together) > 1 or frames == 1


def test_long_audio_is_packed_by_its_chunks_and_alone_beyond_the_budget(folders, write_audio, tmp_path):
    write_audio("long.wav", 64.0)
    write_audio("short.wav", 0.5)
    rows = [{"utterance_id": n, "path": f"{n}.wav", "speaker_id": "t", "arousal": 2} for n in ("long", "short")]
    manifest = manifest_of(tmp_path, rows)
    extract(manifest, load_exact(folders["hubert"]), tmp_path / "single.zarr")
    for frames in (500, 100_000):
        extract(manifest, packed(folders), tmp_path / f"{frames}.zarr", batch_frames=frames)
        assert_equal_rows(tmp_path / f"{frames}.zarr", tmp_path / "single.zarr")


def test_texts_are_packed(corpus, tmp_path):
    from helpers.text_models import SENTENCES, save_text_model

    rows = [row | {"transcript": SENTENCES[k % len(SENTENCES)] * (1 + k % 3)} for k, row in enumerate(corpus)]
    rows[4]["transcript"] = ""
    manifest, folder = manifest_of(tmp_path, rows), str(save_text_model("bert", tmp_path / "bert"))
    for forward in ("single", "packed"):
        frames = 40 if forward == "packed" else None
        extract(manifest, load_encoder(folder, forward=forward), tmp_path / f"{forward}.zarr", batch_frames=frames)
    assert_equal_rows(tmp_path / "packed.zarr", tmp_path / "single.zarr")


def test_bad_files_in_packs_are_quarantined_and_the_rest_is_encoded(corpus, folders, single, tmp_path):
    (tmp_path / "s3.wav").write_bytes(b"")
    (tmp_path / "s7.wav").write_bytes(b"no audio" * 100)
    done = run_extraction(manifest_of(tmp_path, corpus), packed(folders, "equal"), tmp_path / "a.zarr")
    assert done.quarantine["utterance_id"].tolist() == ["u3", "u7"]
    assert done.quarantine["reason"][0].startswith("empty: it holds no bytes [LP")
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == [f"u{k}" for k in range(12) if k not in (3, 7)]


def test_rows_that_are_not_finite_are_quarantined_and_no_other_of_their_pack(corpus, folders, single, tmp_path):
    class Spoilt(Together):
        def states(self, pack):
            longest = pack.spans()[-1]
            for frames in super().states(pack):
                spoilt = frames.clone()
                spoilt[longest[0] : longest[1]] = float("nan")
                yield spoilt

    encoder = packed(folders)
    encoder.packed = Spoilt(encoder.packed, "any")
    rows = embedded(encoder, manifest_of(tmp_path, corpus), frames=100_000)
    assert [row.reason for row in rows if row.reason] == ["the encoder returned values that are not finite [LP460]"]
    assert [row.row["utterance_id"] for row in rows] == [f"u{k}" for k in range(12)]
    assert sum(row.embeddings is not None for row in rows) == 11


def embedded(encoder, manifest, *, frames, log=lambda line: None):
    reader = make_input_reader(encoder, manifest.table, AudioHashes(), ExtractionSettings())
    return list(embed_in_order(manifest.table, encoder, reader, poolings=("mean",), batch_frames=frames, log=log))


def test_where_memory_runs_out_the_budget_is_halved_and_none_is_lost(corpus, folders, single, tmp_path):
    encoder = packed(folders)
    lines = Lines(encoder.packed, capacity=70)
    extract(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", batch_frames=350, progress=lines)
    assert_equal_rows(tmp_path / "a.zarr", single)
    stated = [line for line in lines.lines if line.startswith("Memory ran out")]
    found = [[int(n) for n in re.findall(r"\d+", line)] for line in stated]
    assert found == [[found[0][0], found[0][0] // 2], [found[1][0], found[1][0] // 2]]
    assert 350 >= found[0][0] > 140 >= found[1][0] > 70
    sizes = [n for n, _ in encoder.packed.sizes]
    assert max(sizes) <= 70
    assert max(n for _, n in encoder.packed.sizes) > 1  # smaller packs, not single utterances


def test_an_utterance_that_never_fits_is_quarantined_with_its_duration(corpus, folders, write_audio, tmp_path):
    write_audio("s4.wav", 3.0)
    encoder = packed(folders, capacity=100)
    rows = embedded(encoder, manifest_of(tmp_path, corpus), frames=400)
    assert {row.row["utterance_id"]: row.reason for row in rows if row.reason} == {
        "u4": "3 s need more memory than is free without other utterances, too; cut it into spans with start and end "
        "[LP462]"
    }


def test_another_error_of_the_encoder_is_not_swallowed(corpus, folders, tmp_path):
    class Broken(Together):
        def states(self, pack):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    encoder = packed(folders)
    encoder.packed = Broken(encoder.packed, "any")
    lines = Lines(encoder.packed)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        embedded(encoder, manifest_of(tmp_path, corpus), frames=100, log=lines.log)
    assert lines.lines == []  # it is not taken for a lack of memory


def test_a_full_disk_is_raised_and_the_rows_before_it_are_kept(corpus, folders, single, tmp_path, monkeypatch):
    manifest, append, left = manifest_of(tmp_path, corpus), CacheWriter.append, [5]

    def full(self, *row):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, *row)

    monkeypatch.setattr(CacheWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        extract(manifest, packed(folders), tmp_path / "a.zarr", batch_frames=100)
    monkeypatch.undo()
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == [f"u{k}" for k in range(5)]
    extract(manifest, packed(folders), tmp_path / "a.zarr", batch_frames=100)
    assert_equal_rows(tmp_path / "a.zarr", single)


# The command kills itself, or sends itself a signal, when it has appended a row so often; blocks have four rows.
SCRIPT = """
import os, sys
import layerprobe.probe.cache.store, layerprobe.probe.cache.writer, layerprobe.probe.cache.verify
import layerprobe.probe.cache.create, layerprobe.probe.extraction.row_writer
for module in ("cache.store", "cache.writer", "cache.verify", "cache.create", "extraction.row_writer"):
    sys.modules[f"layerprobe.probe.{module}"].BLOCK = 4
from layerprobe.cli.app import main
from layerprobe.probe.cache.writer import CacheWriter

number, left = int(sys.argv.pop(1)), [int(sys.argv.pop(1))]


def append(self, *row, before=CacheWriter.append):
    before(self, *row)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), number)


CacheWriter.append = append
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_extraction_is_resumed_to_the_same_rows(
    number, corpus, folders, tmp_path, single, forks
):
    path = write_table(tmp_path, corpus)
    arguments = ["extract", path, "--encoder", folders["hubert"], "--precision", "float32", "--forward", "packed"]
    arguments += ["--device", "cpu", "--out", tmp_path / "a.zarr", "--batch-frames", "90"]
    done = forks.run(int(number), 7, *arguments, code=SCRIPT)
    if number == signal.SIGKILL:
        assert done.returncode == -signal.SIGKILL, done.stderr
        kept = 4  # the complete block
    else:
        assert done.returncode == 130, done.stderr
        assert "Completed work is saved; run the same command again to resume." in done.stderr
        kept = 7  # those that were written, and such as waited
        assert not (tmp_path / "a.zarr" / "extraction" / "lease.json").exists()
    before = open_cache(tmp_path / "a.zarr").utterance_ids.tolist()
    assert kept <= len(before) < (5 if number == signal.SIGKILL else 13)
    assert before == [f"u{k}" for k in range(len(before))]
    resumed = forks.run(0, 0, *arguments, code=SCRIPT)
    assert resumed.returncode == 0, resumed.stderr
    assert len(before) == 12 or re.search(r"Bound by \w+: encoder busy \d+ %, readers ", resumed.stdout)
    ours, alone = open_cache(tmp_path / "a.zarr"), open_cache(single)
    assert ours.utterance_ids.tolist() == alone.utterance_ids.tolist()
    np.testing.assert_allclose(ours.read_rows(np.arange(12)), alone.read_rows(np.arange(12)), rtol=1e-4, atol=1e-6)


def test_several_processes_pack_too(corpus, folders, single, tmp_path, capsys):
    path = write_table(tmp_path, corpus)
    encoder = EncoderSettings(str(folders["hubert"]), device="cpu", precision="float32", forward="packed")
    job = ExtractionJob(path, True, encoder, tmp_path / "a.zarr", ExtractionSettings(batch_frames=90))
    assert extract_in_processes(job, 2, progress=LogProgress()) == 12
    assert re.search(r"^shard 1/2: Bound by \w+: encoder busy \d+ %, ", capsys.readouterr().err, re.MULTILINE)
    assert open_cache(tmp_path / "a.zarr").plan.forward in PACKED_FORWARDS
    assert_equal_rows(tmp_path / "a.zarr", single)


def test_a_packed_cache_is_repaired_by_packs(corpus, folders, single, tmp_path):
    manifest, out = manifest_of(tmp_path, corpus), tmp_path / "a.zarr"
    extract(manifest, packed(folders, "equal"), out)
    block = max((file for file in (out / "embeddings").rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    block.write_bytes(b"damaged")
    done = run("cache", "repair", out, manifest.path, "--encoder", folders["hubert"], "--precision", "float32")
    assert done.exit_code == 0, done.output
    assert "12 utterances encoded again" in done.output
    assert verify(out) == []
    assert_equal_rows(out, single)


def test_caches_of_two_passes_do_not_mix_and_a_plan_keeps_its_pass(corpus, folders, single, tmp_path):
    manifest = manifest_of(tmp_path, corpus)
    with pytest.raises(CacheMismatchError) as mismatch:
        extract(manifest, packed(folders, "equal"), single)
    assert str(mismatch.value).endswith("Its utterances were encoded one by one, which is --forward single. [LP403]")
    extract(manifest, packed(folders, "equal"), tmp_path / "a.zarr")
    with pytest.raises(CacheMismatchError, match=r"were encoded together, which is --forward packed\. \[LP\d{3}\]$"):
        extract(manifest, load_exact(folders["hubert"]), tmp_path / "a.zarr")
    again = ["extract", manifest.path, "--encoder", folders["hubert"], "--plan", tmp_path / "a.zarr"]
    done = run(*again, "--out", tmp_path / "b.zarr")
    assert done.exit_code == 0, done.output
    assert open_cache(tmp_path / "b.zarr").plan == open_cache(tmp_path / "a.zarr").plan
    done = run(*again, "--out", tmp_path / "c.zarr", "--forward", "single")
    assert open_cache(tmp_path / "c.zarr").plan.forward == "native", done.output


def test_options_without_an_effect_are_refused_before_anything_is_written(corpus, folders, tmp_path):
    manifest = manifest_of(tmp_path, corpus)
    message = (
        r"^hubert encodes utterances one at a time here \(forward pass: native\), so that --batch-frames has no eff"
    )
    with pytest.raises(InputError, match=message):
        extract(manifest, load_exact(folders["hubert"]), tmp_path / "a.zarr", batch_frames=100)
    encoder = packed(folders)
    extract(manifest, encoder, tmp_path / "a.zarr", jobs=2)
    encoder.device = "cuda:0"
    with pytest.raises(InputError, match=r"^A GPU encodes one pack of utterances after another, so that --jobs has no"):
        plan_extraction(manifest, encoder, tmp_path / "b.zarr", ExtractionSettings(jobs=2))


def test_the_estimate_of_packs_states_what_single_ones_state(corpus, folders, tmp_path):
    manifest = manifest_of(tmp_path, corpus)
    alone, together = (
        plan_extraction(manifest, encoder, tmp_path / "a.zarr")[-1]
        for encoder in (load_exact(folders["hubert"]), packed(folders))
    )
    pattern = r"(12 utterances to extract, 0\.00 h of audio, [\d.]+ kB on disk), [\d.]+ [MG]B of memory; about \d+ s\."
    assert re.fullmatch(pattern, together)[1] == re.fullmatch(pattern, alone)[1]


def test_the_estimate_counts_frames_of_which_whisper_has_as_many_of_short_audio(folders):
    n_frames = {}
    for kind in ("hubert", "whisper"):
        encoder = load_audio_encoder(str(folders[kind]), precision="float32", forward="packed")
        n_frames[kind] = [frames_of(encoder, n) for n in (16_000, 160_000)]
    assert n_frames["hubert"] == [49, 499]
    assert n_frames["whisper"][0] == n_frames["whisper"][1]
