"""A manifest's utterances as a regressor takes them: looked at once, loaded ahead, frozen states kept."""

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
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.freezing import is_frozen
from layerprobe.probe.regressor.model import AudioTextRegressor, Utterance
from layerprobe.probe.regressor.plan import TrainPlan, autocast
from layerprobe.probe.training.branches import AudioBranch, Prepared, TextBranch

LOADERS = 2  # threads that decode


class UtteranceDataset:
    """Rows of a manifest, in its order; those that can't be used are left out and named in `quarantine`."""

    def __init__(
        self,
        table: pd.DataFrame,
        regressor: AudioTextRegressor,
        *,
        text_column: str,
        max_duration: float,
        progress: NullProgress,
    ) -> None:
        """Load every utterance once, to know how long it is and whether it can be used at all.

        Args:
            table: of a manifest
            regressor: whose branches say what becomes of sounds and words
            text_column: the column that is read
            max_duration: a longer sound is refused
            progress: receives the progress
        """
        self._audio, self._text = regressor.audio, regressor.text
        rate = 0 if self._audio is None else self._audio.sampling_rate
        self._sounds = AudioReader(AudioHashes(), sampling_rate=rate, max_duration=max_duration)
        self._text_reader = TextReader(text_column)
        self._kept: _KeptStates | None = None
        candidates: list[Row] = table.to_dict("records")
        quarantine = Quarantine()
        usable = read_audio(
            candidates,
            self._check,
            quarantine=quarantine,
            threads=LOADERS,
            task="look at every utterance",
            progress=progress,
        )
        self._rows = [candidates[k] for k, _ in usable]
        self.table = pd.DataFrame(self._rows, columns=table.columns)
        self.quarantine = quarantine.table()

    def __len__(self) -> int:
        """Utterances that can be used."""
        return len(self._rows)

    def close(self) -> None:
        """Let go of what `keep_frozen_states` keeps."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def keep_frozen_states(self, folder: Path, plan: TrainPlan, *, progress: NullProgress) -> None:
        """Hear every sound with an audio encoder of which nothing learns once, and keep its states in a file.

        The file has no name of its own where the system allows that, so that nothing is left behind by a kill.
        """
        branch = self._audio
        if branch is None or not is_frozen(branch):
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = _KeptStates(folder, branch.dim)
        progress.begin("hear with the frozen encoder", len(self._rows), "utterances")
        try:
            for k in range(len(self._rows)):
                sound = self._sound(self._rows[k])
                assert sound is not None
                with torch.no_grad(), autocast(plan, next(branch.encoder.parameters()).device):
                    states, _ = branch([sound])
                kept.add(states[0].float().cpu().numpy(), sound)
                progress.advance()
        finally:
            progress.end()
        self._kept = kept

    def load(self, k: int) -> Utterance:
        """One utterance; InvalidAudioError only if its file has changed since it was looked at."""
        row = self._rows[k]
        sound = self._kept.prepared(k) if self._kept is not None else self._sound(row)
        return Utterance(sound, self._read(row))

    def load_ahead(self, batches: Sequence[np.ndarray]) -> Iterator[list[Utterance]]:
        """Batches of utterances in order; the next is loaded while one is worked on."""
        with ThreadPoolExecutor(LOADERS) as pool:
            coming: list[list[Future[Utterance]]] = []
            for batch in batches:
                coming.append([pool.submit(self.load, int(k)) for k in batch])
                if len(coming) > 1:
                    yield [future.result() for future in coming.pop(0)]
            while coming:
                yield [future.result() for future in coming.pop(0)]

    def _check(self, row: Row) -> None:
        """Prepare an utterance as a batch would; InvalidAudioError where that fails."""
        self._sound(row)
        self._read(row)

    def _sound(self, row: Row) -> Prepared | None:
        if not isinstance(self._audio, AudioBranch):
            return None
        return self._audio.prepare(decode_waveform(self._sounds.read(row)))

    def _read(self, row: Row) -> Prepared | None:
        if not isinstance(self._text, TextBranch):
            return None
        return self._text.prepare(str(self._text_reader.read(row).data))


class _KeptStates:
    """States of one utterance after another in a file, float32."""

    def __init__(self, folder: Path, dim: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this does
        self._dim, self._ends, self._sounds = dim, [0], list[Prepared]()

    def add(self, states: np.ndarray, sound: Prepared) -> None:
        self._file.write(np.ascontiguousarray(states, dtype=np.float32).tobytes())
        self._ends.append(self._ends[-1] + len(states))
        self._sounds.append(replace(sound, inputs={}))

    def close(self) -> None:
        self._file.close()

    def prepared(self, k: int) -> Prepared:
        self._file.flush()
        begin, end = self._ends[k], self._ends[k + 1]
        size = 4 * self._dim
        content = os.pread(self._file.fileno(), (end - begin) * size, begin * size)
        states = np.frombuffer(content, dtype=np.float32).reshape(end - begin, self._dim)
        return replace(self._sounds[k], states=torch.from_numpy(states.copy()))


def batches(n: int, *, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All of ``n`` utterances in a random order, cut into batches of about ``size``, none of them smaller than half.

    A batch is drawn at random, not by length, so that its CCC is one of the corpus.

    >>> [len(b) for b in batches(10, size=4, rng=np.random.default_rng(0))]
    [5, 5]
    """
    order = rng.permutation(n)
    return np.array_split(order, max(1, round(n / size)))


def parts(n_frames: Sequence[int], *, budget: int) -> list[np.ndarray]:
    """Places in a batch, sorted by length and cut so that no part pads to more than ``budget`` frames; one always fits.

    Args:
        n_frames: of each utterance of the batch
        budget: the longest of a part times its utterances is at most this

    >>> [p.tolist() for p in parts([5, 1, 4, 1], budget=8)]
    [[0], [2, 1], [3]]
    """
    order = sorted(range(len(n_frames)), key=lambda k: (-n_frames[k], k))
    cut: list[list[int]] = []
    for place in order:
        if cut and n_frames[cut[-1][0]] * (len(cut[-1]) + 1) <= budget:
            cut[-1].append(place)
        else:
            cut.append([place])
    return [np.array(part) for part in cut]
