"""Parallel encoding: in order and to the same bits; where memory runs out, fewer utterances run in parallel."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.speech_models import load_exact
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import AudioReader
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.encoding.embedding import embed, is_out_of_memory
from layerprobe.probe.extraction.encoding.workers import ConcurrencyLimiter, embed_in_order
from layerprobe.probe.system import cores

POOLINGS = ("mean", "std", "normed_mean")
READER = AudioReader(AudioHashes(), sampling_rate=16_000)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    """Twelve utterances of 0.4 to 2 s, in a table."""
    folder = tmp_path_factory.mktemp("audio")
    for i in range(12):
        soundfile.write(folder / f"{i}.flac", voice(0.4 + 0.15 * i, pitch=90 + 7 * i, seed=i), 16_000)
    return pd.DataFrame(
        {"utterance_id": [f"u{i}" for i in range(12)], "path": [f"{folder}/{i}.flac" for i in range(12)]}
    )


def embedded(table, encoder, *, jobs=1, loaders=1):
    rows = embed_in_order(table, encoder, READER, poolings=POOLINGS, jobs=jobs, loaders=loaders)
    return {row.row["utterance_id"]: row.embeddings for row in rows}


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "wavlm", "sew", "wav2vec2-bert", "whisper"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "bfloat16 plain"])
def test_workers_order_and_company_change_no_bit(utterances, folders, kind, precision, monkeypatch):
    if precision.endswith("plain"):  # as on a processor with AVX2 only
        monkeypatch.setattr("layerprobe.probe.forward.linear_kernels.processor_multiplies_bfloat16", lambda: False)
    encoder = load_audio_encoder(str(folders[kind]), precision=precision.removesuffix(" plain"))
    alone = embedded(utterances, encoder)
    assert list(alone) == utterances["utterance_id"].tolist()
    shuffled = utterances.sample(frac=1, random_state=3)
    for table, jobs, loaders in ((shuffled, 1, 4), (utterances[::-1][:7], 4, 1), (shuffled[5:], 2, 4)):
        others = embedded(table, encoder, jobs=jobs, loaders=loaders)
        assert list(others) == table["utterance_id"].tolist()
        for name, embeddings in others.items():
            np.testing.assert_array_equal(embeddings, alone[name])


def test_an_utterance_among_many_equals_a_single_one_in_float32(utterances, folders):
    """Within 1e-5 relative of transformers' own forward pass at every layer, with group norm or without."""
    for kind in ("hubert", "hubert-pre-norm", "wavlm"):
        encoder = load_exact(folders[kind])
        rows = embedded(utterances, encoder, jobs=4, loaders=4)
        for i in (0, 5, 11):
            states = encoder.reference_states(read_audio_file(utterances["path"][i], sampling_rate=16_000))
            for k, layer in enumerate(states):
                expected = torch.stack([layer.double().mean(0), layer.double().std(0, correction=0)]).numpy()
                error = np.linalg.norm(rows[f"u{i}"][k, :2] - expected) / np.linalg.norm(expected)
                assert error < 1e-5


def test_the_process_keeps_its_threads(utterances, folders):
    before = torch.get_num_threads()
    embedded(utterances[:3], load_exact(folders["hubert"]), jobs=3)
    assert torch.get_num_threads() == before
    assert 1 <= cores() <= 4096


def test_stopping_early_leaves_no_thread_at_work(utterances, folders):
    encoder, before = load_exact(folders["hubert"]), set(threading.enumerate())
    rows = embed_in_order(utterances, encoder, READER, poolings=POOLINGS, jobs=2, loaders=2)
    next(rows)
    rows.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("ThreadPoolExecutor")]


class Cramped:
    """An encoder whose memory holds only so many utterances in parallel, and none that is too long."""

    def __init__(self, encoder, *, capacity, longest=10**9):
        self._encoder, self._capacity, self._longest = encoder, capacity, longest
        self._lock, self._inside = threading.Lock(), 0
        self.refusals = 0

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def frame_chunks(self, waveform):
        with self._lock:
            self._inside += 1
            full = self._inside > self._capacity or len(waveform) > self._longest
            self.refusals += full
        try:
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            time.sleep(0.01)
            yield from self._encoder.frame_chunks(waveform)
        finally:
            with self._lock:
                self._inside -= 1


def test_where_memory_runs_out_fewer_run_in_parallel_and_none_is_lost(utterances, folders):
    encoder = load_exact(folders["hubert"])
    alone = embedded(utterances, encoder)
    cramped = Cramped(encoder, capacity=1)
    others = embedded(utterances, cramped, jobs=4)
    assert cramped.refusals >= 1
    for name, embeddings in alone.items():
        np.testing.assert_array_equal(others[name], embeddings)


def test_an_utterance_that_never_fits_is_refused_with_its_duration_and_the_rest_is_encoded(utterances, folders):
    cramped = Cramped(load_exact(folders["hubert"]), capacity=4, longest=30_000)  # the last is 2.05 s
    rows = embed_in_order(utterances, cramped, READER, poolings=POOLINGS, jobs=4, loaders=2)
    reasons = {row.row["utterance_id"]: row.reason for row in rows}
    assert reasons.pop("u11") == (
        "2 s need more memory than is free without other utterances, too; cut it into spans with start and end "
        "[LP462]"
    )  # fmt: skip
    assert reasons.pop("u10").startswith("2 s need more memory")
    assert set(reasons.values()) == {""}


def test_a_real_failure_to_allocate_is_known_as_one():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**52)
    assert is_out_of_memory(failure.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_another_error_of_the_encoder_is_not_swallowed(utterances, folders):
    class Broken(Cramped):
        def frame_chunks(self, waveform):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        embedded(utterances, Broken(load_exact(folders["hubert"]), capacity=1))


def test_the_limit_halves_down_to_one_and_once_for_all_that_ran_out_together():
    limiter, limits = ConcurrencyLimiter(6), []
    for jobs in (6, 6, 6, 3, 3, 1):
        limiter.halve(jobs)
        limits.append(limiter.jobs)
    assert limits == [3, 3, 3, 1, 1, 1]


def test_two_that_run_out_together_are_both_encoded_again(utterances, folders):
    """Neither was the only one, so neither may be refused."""

    class Crowded(Cramped):
        meeting, n_calls = threading.Barrier(2), 0

        def frame_chunks(self, waveform):
            with self._lock:
                self.n_calls += 1
                first_two = self.n_calls <= 2
            if first_two:
                self.meeting.wait()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            yield from self._encoder.frame_chunks(waveform)

    encoder = load_exact(folders["hubert"])
    others = embedded(utterances, Crowded(encoder, capacity=2), jobs=2)
    for name, embeddings in embedded(utterances, encoder).items():
        np.testing.assert_array_equal(others[name], embeddings)


def test_values_that_are_not_finite_are_refused(folders):
    encoder = load_exact(folders["hubert"])
    with torch.no_grad():
        encoder.blocks[1].feed_forward.output_dense.weight[0, 0] = float("inf")
    with pytest.raises(InvalidAudioError, match=r"^the encoder returned values that are not finite \[LP\d{3}\]$"):
        embed(encoder, voice(0.5), poolings=("mean",))
