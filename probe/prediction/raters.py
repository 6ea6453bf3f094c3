"""Models that rate recordings, behind one interface: predictors and trained regressors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import digest_of
from layerprobe.probe.predictors.folder import PREDICTOR, is_predictor
from layerprobe.probe.predictors.heads import Rating
from layerprobe.probe.predictors.predictor import Predictor, load_predictor
from layerprobe.probe.regressor.model import AudioTextRegressor, Utterance
from layerprobe.probe.regressor.saving import REGRESSOR, TrainedRegressor, load_regressors, read_regressor
from layerprobe.probe.regressor.trainer import predict_batch

LONGEST_SECONDS = 3600.0  # that a predictor rates as a whole; an hour is 230 MB at 16 kHz
WEIGHTS_ENDINGS = (".safetensors", ".json", ".toml")
SCORES = "scores.csv"  # of a run


class Rater(Protocol):
    """A model that rates one recording at a time, in any number of threads at once."""

    targets: tuple[str, ...]
    level: float  # of the prediction intervals, in (0, 1)
    scales: Mapping[str, tuple[float, float]]  # lowest and highest possible rating; none where they are not known
    sampling_rate: int  # Hz; 0 where no audio is read
    reading: ReadingOptions
    max_duration: float  # seconds
    text_column: str  # of transcripts; "" where no text is read
    device: str

    def rate(self, waveform: np.ndarray, text: str) -> list[Rating]:
        """Return a rating for each of `targets`.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`; empty where no audio is read
            text: transcript; "" where no text is read

        Raises:
            InvalidAudioError: if the recording can't be rated
        """


class PredictorRater:
    """A predictor; it reads audio alone."""

    text_column = ""
    max_duration = LONGEST_SECONDS

    def __init__(self, predictor: Predictor) -> None:
        """Take a loaded predictor."""
        self._predictor = predictor
        self.targets, self.level = predictor.targets, predictor.plan.level
        self.scales: Mapping[str, tuple[float, float]] = predictor.saved.scales
        self.sampling_rate, self.reading = predictor.sampling_rate, predictor.reading
        self.device = predictor.encoder.device

    def rate(self, waveform: np.ndarray, text: str) -> list[Rating]:
        """See `Rater.rate`."""
        del text
        ratings = self._predictor.rate(self._predictor.embed(waveform))
        return [ratings[target] for target in self.targets]


class RegressorRater:
    """A trained regressor: the mean over its seeds, all of which are held in memory."""

    def __init__(self, trained: TrainedRegressor, *, device: str) -> None:
        """Load the regressor of each seed.

        Raises:
            InputError: if the training has not finished, or a file is missing
        """
        if not trained.intervals:
            raise InputError(
                "LP741", f"{trained.folder}: the training has not finished. Run layerprobe train again to resume it."
            )
        plan = trained.plan
        self._plan, self._regressors = plan, list[AudioTextRegressor](load_regressors(trained, device=device))
        self._widths = [float(trained.intervals["half_width"][target]) for target in plan.targets]
        audio = self._regressors[0].audio
        self.targets, self.level = plan.targets, float(trained.intervals["level"])
        self.scales: Mapping[str, tuple[float, float]] = {}  # its plan has none
        self.sampling_rate = 0 if audio is None else audio.sampling_rate
        self.reading = DEFAULT_READING if audio is None else plan.reading
        self.max_duration = plan.max_duration
        self.text_column = "" if plan.text is None else plan.text_column
        self.device = device

    def rate(self, waveform: np.ndarray, text: str) -> list[Rating]:
        """See `Rater.rate`."""
        found = []
        with torch.inference_mode():
            for regressor in self._regressors:
                audio = None if regressor.audio is None else regressor.audio.prepare(waveform)
                prepared = None if regressor.text is None else regressor.text.prepare(text)
                found.append(predict_batch(regressor, [Utterance(audio, prepared)], self._plan)[0])
        values = np.mean(found, axis=0).tolist()
        return [Rating(v, v - width, v + width) for v, width in zip(values, self._widths, strict=True)]


def load_rater(model: Path | str, *, device: str) -> Rater:
    """Load a predictor or a trained regressor.

    Args:
        model: folder that `layerprobe deploy` or `layerprobe train` made, or its ``predictor.toml`` or
            ``regressor.json``
        device: cpu or cuda

    Raises:
        InputError: if there is none, or a file of it is missing or damaged
    """
    folder = model_folder(model)
    if is_predictor(folder):
        return PredictorRater(load_predictor(folder, device=device))
    return RegressorRater(read_regressor(folder), device=device)


def model_folder(model: Path | str) -> Path:
    """Return the folder of a predictor or a trained regressor.

    Raises:
        InputError: if it holds neither, such as the run of a sweep
    """
    folder = Path(model)
    folder = folder.parent if folder.name in (PREDICTOR, REGRESSOR) else folder
    if is_predictor(folder) or (folder / REGRESSOR).is_file():
        return folder
    if (folder / SCORES).is_file():
        raise InputError(
            "LP940",
            f"{folder} is the run of a sweep, and its probes rate no recordings. Make a predictor of it first: "
            f"layerprobe deploy {folder} --encoder NAME --out models/NAME.",
        )
    raise InputError(
        "LP941",
        f"{folder} holds no model: it has neither {PREDICTOR} nor {REGRESSOR}. Name a folder that layerprobe deploy or "
        "layerprobe train made.",
    )


def model_digest(folder: Path) -> str:
    """Return sixteen hex digits over all files of a model's folder that can change a rating."""
    total = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.suffix in WEIGHTS_ENDINGS and p.is_file()):
        total.update(f"{file.relative_to(folder)} {digest_of(file)}\n".encode())
    return total.hexdigest()[:16]
