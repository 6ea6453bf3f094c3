"""Dataset of a regressor: utterances of a manifest, checked once, loaded ahead, with states of a frozen encoder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.audio_hashes import AudioHashes, Row
from layerprobe.probe.data.audio_reader import Quarantine, decode_waveform, read_audio
from layerprobe.probe.data.inputs import AudioReader, TextReader
from layerprobe.probe.forward.precision import multiplying_in
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.freezing import is_frozen
from layerprobe.probe.regressor.model import AudioTextRegressor, Utterance
from layerprobe.probe.regressor.plan import TrainPlan, autocast
from layerprobe.probe.training.branches import AudioBranch, Prepared, TextBranch

LOADERS = 2  # threads that decode audio


class UtteranceDataset:
    """The usable utterances of a manifest, in its order; `quarantine` lists the others with the reason."""

    def __init__(
        self,
        table: pd.DataFrame,
        regressor: AudioTextRegressor,
        *,
        plan: TrainPlan,
        progress: NullProgress,
    ) -> None:
        """Load every utterance once to check that it can be used.

        Args:
            table: the manifest's table
            regressor: its branches prepare audio and text
            plan: the column with the transcripts, what is read of recordings, and how long one may be
            progress: receives the progress
        """
        self._audio, self._text = regressor.audio, regressor.text
        rate = 0 if self._audio is None else self._audio.sampling_rate
        self._audio_reader = AudioReader(
            AudioHashes(), sampling_rate=rate, max_duration=plan.max_duration, reading=plan.reading
        )
        self._text_reader = TextReader(plan.text_column)
        self._frozen_states: _StatesFile | None = None
        candidates: list[Row] = table.to_dict("records")
        quarantine = Quarantine()
        usable = read_audio(
            candidates,
            self._check,
            quarantine=quarantine,
            threads=LOADERS,
            task="check every utterance",
            progress=progress,
        )
        self._rows = [candidates[k] for k, _ in usable]
        self._audio_reader.log_remarks(progress)
        self.table = pd.DataFrame(self._rows, columns=table.columns)
        self.quarantine = quarantine.table()

    def __len__(self) -> int:
        """Number of usable utterances."""
        return len(self._rows)

    def close(self) -> None:
        """Delete the file of `save_frozen_states`."""
        if self._frozen_states is not None:
            self._frozen_states.close()
            self._frozen_states = None

    def save_frozen_states(self, folder: Path, plan: TrainPlan, *, progress: NullProgress) -> None:
        """Encode every recording once if the audio encoder is frozen, and store its states in a temporary file.

        The file has no name where the system allows that, so that a kill leaves nothing behind.
        """
        branch = self._audio
        if branch is None or not is_frozen(branch):
            return
        folder.mkdir(parents=True, exist_ok=True)
        states_file = _StatesFile(folder, branch.dim)
        progress.begin("encode with the frozen encoder", len(self._rows), "utterances")
        try:
            for k in range(len(self._rows)):
                prepared = self._prepare_audio(self._rows[k])
                if prepared is None:
                    raise RuntimeError("the regressor has no audio encoder")
                device = next(branch.encoder.parameters()).device
                with torch.no_grad(), multiplying_in(plan.precision), autocast(plan, device):
                    states, _ = branch([prepared])
                states_file.add(states[0].float().cpu().numpy(), prepared)
                progress.advance()
        finally:
            progress.end()
        self._frozen_states = states_file

    def load(self, k: int) -> Utterance:
        """Return one utterance's inputs; raises InvalidAudioError only if its file changed since it was checked."""
        row = self._rows[k]
        saved = self._frozen_states
        audio = self._prepare_audio(row) if saved is None else saved.read(k)
        return Utterance(audio, self._prepare_text(row))

    def load_ahead(self, batches: Sequence[np.ndarray]) -> Iterator[list[Utterance]]:
        """Yield batches of utterances in order; the next is loaded while one is processed."""
        with ThreadPoolExecutor(LOADERS) as pool:
            pending: list[list[Future[Utterance]]] = []
            for batch in batches:
                pending.append([pool.submit(self.load, int(k)) for k in batch])
                if len(pending) > 1:
                    yield [future.result() for future in pending.pop(0)]
            while pending:
                yield [future.result() for future in pending.pop(0)]

    def _check(self, row: Row) -> None:
        """Prepare an utterance as a batch would; InvalidAudioError where that fails."""
        self._prepare_audio(row)
        self._prepare_text(row)

    def _prepare_audio(self, row: Row) -> Prepared | None:
        if not isinstance(self._audio, AudioBranch):
            return None
        return self._audio.prepare(decode_waveform(self._audio_reader.read(row)))

    def _prepare_text(self, row: Row) -> Prepared | None:
        if not isinstance(self._text, TextBranch):
            return None
        return self._text.prepare(str(self._text_reader.read(row).data))


class _StatesFile:
    """Temporary file with the states of all utterances, float32, one after another."""

    def __init__(self, folder: Path, dim: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this does
        self._dim, self._ends, self._inputs = dim, [0], list[Prepared]()

    def add(self, states: np.ndarray, prepared: Prepared) -> None:
        self._file.write(np.ascontiguousarray(states, dtype=np.float32).tobytes())
        self._ends.append(self._ends[-1] + len(states))
        self._inputs.append(replace(prepared, inputs={}))

    def close(self) -> None:
        self._file.close()

    def read(self, k: int) -> Prepared:
        self._file.flush()
        begin, end = self._ends[k], self._ends[k + 1]
        size = 4 * self._dim
        content = os.pread(self._file.fileno(), (end - begin) * size, begin * size)
        states = np.frombuffer(content, dtype=np.float32).reshape(end - begin, self._dim)
        return replace(self._inputs[k], states=torch.from_numpy(states.copy()))


def batches(n: int, *, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return random batches of ``n`` utterances, each of about ``size`` and none smaller than half of it.

    Batches are random, not sorted by length, so that a batch's CCC estimates that of the corpus.

    >>> [len(b) for b in batches(10, size=4, rng=np.random.default_rng(0))]
    [5, 5]
    """
    order = rng.permutation(n)
    return np.array_split(order, max(1, round(n / size)))


def split_by_budget(n_frames: Sequence[int], *, budget: int) -> list[np.ndarray]:
    """Split a batch, sorted by length, into parts that pad to at most ``budget`` frames, or hold one utterance.

    Args:
        n_frames: frames and tokens of each utterance of the batch
        budget: maximum of a part's longest utterance times its number of utterances

    Returns:
        positions in the batch, one array per part

    >>> [p.tolist() for p in split_by_budget([5, 1, 4, 1], budget=8)]
    [[0], [2, 1], [3]]
    """
    order = sorted(range(len(n_frames)), key=lambda k: (-n_frames[k], k))
    split: list[list[int]] = []
    for position in order:
        if split and n_frames[split[-1][0]] * (len(split[-1]) + 1) <= budget:
            split[-1].append(position)
        else:
            split.append([position])
    return [np.array(part) for part in split]
