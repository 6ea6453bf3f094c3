"""Hearing: in order, several at once, to the same bits; memory that runs out is met with fewer at once."""

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
from layerprobe.probe.extraction.workers import ConcurrencyLimiter, _is_out_of_memory, embed, embed_in_order
from layerprobe.probe.system import cores

POOLINGS = ("mean", "std", "normed_mean")
SOUNDS = AudioReader(AudioHashes(), sampling_rate=16_000)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Twelve utterances of 0.4 to 2 s, in a table."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(12):
        soundfile.write(folder / f"{i}.flac", voice(0.4 + 0.15 * i, pitch=90 + 7 * i, seed=i), 16_000)
    return pd.DataFrame(
        {"utterance_id": [f"u{i}" for i in range(12)], "path": [f"{folder}/{i}.flac" for i in range(12)]}
    )


def heard(table, encoder, *, jobs=1, loaders=1):
    rows = embed_in_order(table, encoder, SOUNDS, poolings=POOLINGS, jobs=jobs, loaders=loaders)
    return {row.row["utterance_id"]: row.embeddings for row in rows}


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "wavlm", "sew", "wav2vec2-bert", "whisper"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "bfloat16 plain"])
def test_workers_order_and_company_change_no_bit(sounds, folders, kind, precision, monkeypatch):
    if precision.endswith("plain"):  # as on a processor with AVX2 alone
        monkeypatch.setattr("layerprobe.probe.encoders.linear_kernels.processor_multiplies_bfloat16", lambda: False)
    encoder = load_audio_encoder(str(folders[kind]), precision=precision.removesuffix(" plain"))
    alone = heard(sounds, encoder)
    assert list(alone) == sounds["utterance_id"].tolist()
    shuffled = sounds.sample(frac=1, random_state=3)
    for table, jobs, loaders in ((shuffled, 1, 4), (sounds[::-1][:7], 4, 1), (shuffled[5:], 2, 4)):
        others = heard(table, encoder, jobs=jobs, loaders=loaders)
        assert list(others) == table["utterance_id"].tolist()
        for name, embeddings in others.items():
            np.testing.assert_array_equal(embeddings, alone[name])


def test_an_utterance_among_many_is_the_encoder_alone_on_it_in_float32(sounds, folders):
    """Within 1e-5 relative at every layer, of transformers' own pass over this utterance, group norm or not."""
    for kind in ("hubert", "hubert-pre-norm", "wavlm"):
        encoder = load_exact(folders[kind])
        rows = heard(sounds, encoder, jobs=4, loaders=4)
        for i in (0, 5, 11):
            states = encoder.reference_states(read_audio_file(sounds["path"][i], sampling_rate=16_000))
            for k, layer in enumerate(states):
                expected = torch.stack([layer.double().mean(0), layer.double().std(0, correction=0)]).numpy()
                error = np.linalg.norm(rows[f"u{i}"][k, :2] - expected) / np.linalg.norm(expected)
                assert error < 1e-5


def test_the_process_keeps_its_threads(sounds, folders):
    before = torch.get_num_threads()
    heard(sounds[:3], load_exact(folders["hubert"]), jobs=3)
    assert torch.get_num_threads() == before
    assert 1 <= cores() <= 4096


def test_stopping_early_leaves_no_thread_at_work(sounds, folders):
    rows = embed_in_order(
        sounds, load_exact(folders["hubert"]), SOUNDS, poolings=POOLINGS, jobs=2, loaders=2
    )  # fmt: skip
    next(rows)
    rows.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


class Cramped:
    """An encoder in whose memory only so many utterances have room at once, and none that is too long."""

    def __init__(self, encoder, *, room, longest=10**9):
        self._encoder, self._room, self._longest = encoder, room, longest
        self._lock, self._inside = threading.Lock(), 0
        self.refusals = 0

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def frame_chunks(self, waveform):
        with self._lock:
            self._inside += 1
            full = self._inside > self._room or len(waveform) > self._longest
            self.refusals += full
        try:
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            time.sleep(0.01)
            yield from self._encoder.frame_chunks(waveform)
        finally:
            with self._lock:
                self._inside -= 1


def test_where_memory_runs_out_fewer_are_heard_at_once_and_none_is_lost(sounds, folders):
    encoder = load_exact(folders["hubert"])
    alone = heard(sounds, encoder)
    cramped = Cramped(encoder, room=1)
    others = heard(sounds, cramped, jobs=4)
    assert cramped.refusals >= 1
    for name, embeddings in alone.items():
        np.testing.assert_array_equal(others[name], embeddings)


def test_what_does_not_fit_alone_is_refused_with_its_length_and_the_rest_goes_on(sounds, folders):
    cramped = Cramped(load_exact(folders["hubert"]), room=4, longest=30_000)  # the last is 2.05 s
    rows = embed_in_order(sounds, cramped, SOUNDS, poolings=POOLINGS, jobs=4, loaders=2)
    reasons = {row.row["utterance_id"]: row.reason for row in rows}
    assert reasons.pop("u11") == (
        "2 s need more memory than there is even alone; cut it into spans with start and end"
    )  # fmt: skip
    assert reasons.pop("u10").startswith("2 s need more memory")
    assert set(reasons.values()) == {""}


def test_a_real_failure_to_allocate_is_known_as_one():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**52)
    assert _is_out_of_memory(failure.value)
    assert _is_out_of_memory(MemoryError())
    assert not _is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_another_error_of_the_encoder_is_not_swallowed(sounds, folders):
    class Broken(Cramped):
        def frame_chunks(self, waveform):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        heard(sounds, Broken(load_exact(folders["hubert"]), room=1))


def test_room_halves_down_to_one_and_once_for_all_that_ran_out_together():
    room, seen = ConcurrencyLimiter(6), []
    for jobs in (6, 6, 6, 3, 3, 1):
        room.halve(jobs)
        seen.append(room.jobs)
    assert seen == [3, 3, 3, 1, 1, 1]


def test_two_that_run_out_together_are_both_heard_again(sounds, folders):
    """Neither was alone, so neither may be refused."""

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
    others = heard(sounds, Crowded(encoder, room=2), jobs=2)
    for name, embeddings in heard(sounds, encoder).items():
        np.testing.assert_array_equal(others[name], embeddings)


def test_an_answer_that_is_not_finite_is_refused(folders):
    encoder = load_exact(folders["hubert"])
    with torch.no_grad():
        encoder.blocks[1].feed_forward.output_dense.weight[0, 0] = float("inf")
    with pytest.raises(InvalidAudioError, match=r"^the encoder's answer is not finite$"):
        embed(encoder, voice(0.5), poolings=("mean",))
