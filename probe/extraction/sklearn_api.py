"""A frozen encoder as a scikit-learn transformer: audio becomes the pooled embeddings of one layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import Tags
    from sklearn.utils.validation import check_is_fitted
except ImportError as missing:
    raise ImportError(
        "LayerEmbedder needs scikit-learn; install it with pip install 'layerprobe[sklearn]'."
    ) from missing

from layerprobe.probe.data.audio import InvalidAudioError, read_recording
from layerprobe.probe.data.audio_hashes import Row
from layerprobe.probe.data.inputs import MAX_DURATION, ModelInput
from layerprobe.probe.data.reading import ReadingOptions, Recording, make_recording
from layerprobe.probe.data.remarks import MISSTATED_LENGTH, Remark, remark_sentences
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.workers import embed_in_order
from layerprobe.probe.extraction.first_utterance import SECONDS, check_forward_pass
from layerprobe.probe.forward.pooling import pooling_named
from layerprobe.probe.problem import Problem

NO_AUDIO = "LayerEmbedder takes a list with one path or one waveform of shape (n_samples,) per utterance"


class LayerEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pooled embeddings of one layer of a frozen speech encoder, ``(n_utterances, n_poolings * dim)`` float32.

    The embeddings are those that `extract` writes into a cache for the same audio, encoder and poolings. Nothing is
    learnt from data: `fit` loads the encoder and checks the parameters. `transform` encodes every utterance each
    time; give a ``Pipeline`` its ``memory``, or use a cache, where the same audio is embedded often. A clone uses the
    same encoder if it was given loaded. If the encoder was given by name, a pickle holds the name and not the weights.

    Args:
        encoder: a folder, a name on the hub with an optional ``@revision``, ``"embedded"`` (the small encoder that the
            package carries), ``"acoustic"``, or an encoder that `load_encoder` has loaded
        layer: a name or number of a layer, counted from 0; None for the encoder's last
        poolings: names of poolings, which are put side by side in this order; None for the encoder's default
        sampling_rate: of waveforms that are given as arrays, Hz; files state their own
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one. Not used for a loaded encoder
        precision: as of `load_encoder`. Not used for a loaded encoder
        forward: as of `load_encoder`. Not used for a loaded encoder
        n_jobs: utterances encoded in parallel; None for one per core, or one on a GPU
        channel: of files with several channels, as of `extract`
        trim_silence: whether digital silence at the ends is left out

    Attributes:
        encoder_: the loaded encoder
        layer_: the name of the layer
        poolings_: names of the poolings
    """

    def __init__(  # noqa: PLR0913 - each is a parameter that a search can set
        self,
        encoder: str | Path | AnyEncoder = "embedded",
        layer: int | str | None = None,
        poolings: tuple[str, ...] | None = None,
        *,
        sampling_rate: int = 16_000,
        device: str | None = None,
        precision: str = "auto",
        forward: str = "auto",
        n_jobs: int | None = None,
        channel: str | None = None,
        trim_silence: bool = False,
    ) -> None:
        self.encoder = encoder
        self.layer = layer
        self.poolings = poolings
        self.sampling_rate = sampling_rate
        self.device = device
        self.precision = precision
        self.forward = forward
        self.n_jobs = n_jobs
        self.channel = channel
        self.trim_silence = trim_silence

    def fit(self, X: Sequence[Any], y: Any = None) -> LayerEmbedder:  # noqa: N803
        """Load the encoder and check the parameters; the audio is not read.

        Args:
            X: as for `transform`
            y: not used

        Raises:
            InputError: if the encoder can't be loaded or reads text, if it has no such layer, if another parameter is
                wrong, or if X is not one path or waveform per utterance
        """
        del y
        recordings = _recordings(X)
        encoder = self._load()
        names = list(encoder.layers)
        layer = names[-1] if self.layer is None else str(self.layer)
        if layer not in names:
            raise InputError("LP345", f"{encoder.upstream} has no layer {layer!r}; it has {', '.join(names)}.")
        if not self.sampling_rate > 0:
            raise InputError(
                "LP361", f"sampling_rate is {self.sampling_rate}; give the waveforms' rate in Hz, e.g. 16000."
            )
        poolings = encoder.default_poolings if self.poolings is None else tuple(self.poolings)
        if self.n_jobs is not None and self.n_jobs < 1:
            raise InputError("LP361", f"n_jobs is {self.n_jobs}; give 1 or more, or None for one per core.")
        if isinstance(self.poolings, str) or not poolings:
            raise InputError("LP361", f"poolings is {self.poolings!r}; give a tuple of names, e.g. ('mean', 'std').")
        for name in poolings:
            pooling_named(name)
        self._compare_forward_passes(encoder, recordings[0])
        self.encoder_, self.layer_, self.poolings_ = encoder, layer, poolings
        return self

    def transform(self, X: Sequence[Any]) -> np.ndarray:  # noqa: N803
        """Return the embeddings ``(n_utterances, n_poolings * dim)`` float32, one row per utterance.

        Args:
            X: one path of an audio file, or one waveform ``(n_samples,)`` at ``sampling_rate``, full scale -1 to 1, per
                utterance

        Raises:
            InputError: if an utterance can't be used (missing, silent, too short, not finite, beyond full scale,
                channels that cancel), with its position
        """
        check_is_fitted(self, "layer_")
        recordings = _recordings(X)
        encoder = self._fitted_encoder()
        table = pd.DataFrame({"position": np.arange(len(recordings))})
        reading = ReadingOptions(self.channel, self.trim_silence)
        reader = _RecordingReader(recordings, self.sampling_rate, encoder.sampling_rate, reading)
        layer, vectors = encoder.layers.index(self.layer_), []
        misstated: list[tuple[str, Remark]] = []
        # closed, for a notebook keeps the traceback of an error, with torch's number of threads as it is while encoding
        with closing(embed_in_order(table, encoder, reader, poolings=self.poolings_, jobs=self.n_jobs)) as in_order:
            for k, embedded in enumerate(in_order):
                if embedded.embeddings is None:
                    name = f" ({recordings[k]})" if isinstance(recordings[k], str | Path) else ""
                    raise InputError("LP364", f"utterance {k}{name}: {embedded.reason}. Leave it out, or repair it.")
                vectors.append(embedded.embeddings[layer].ravel())
                misstated += [(str(recordings[k]), one) for one in embedded.remarks if one.name == MISSTATED_LENGTH]
        for sentence in remark_sentences(misstated):
            warnings.warn(sentence, stacklevel=2)
        return np.stack(vectors)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a name per column, ``(n_poolings * dim,)``, such as ``layer6_mean_0``; the argument is not used."""
        del input_features
        check_is_fitted(self, "layer_")
        dim = range(self._fitted_encoder().dim)
        return np.array([f"layer{self.layer_}_{p}_{k}" for p in self.poolings_ for k in dim], dtype=object)

    def _compare_forward_passes(self, encoder: Any, recording: Any) -> None:
        """Compare the forward pass on a recording with that of transformers; `transform` names one that is unusable."""
        reading = ReadingOptions(self.channel, self.trim_silence)
        if not isinstance(encoder, SpeechEncoder) or encoder.is_reference:
            return
        reader = _RecordingReader([recording], self.sampling_rate, encoder.sampling_rate, reading)
        first = reader.read({"position": 0})
        waveform = np.asarray(first.data)[: int(SECONDS * encoder.sampling_rate)]
        if not first.reason and len(waveform) >= encoder.minimum_samples:
            check_forward_pass(encoder, "the first recording", waveform)

    def _load(self) -> Any:
        encoder: Any = self.encoder
        if isinstance(encoder, str | Path):
            encoder = load_encoder(str(encoder), device=self.device, precision=self.precision, forward=self.forward)
        if not hasattr(encoder, "frame_chunks"):
            raise InputError(
                "LP362", f"encoder is a {type(encoder).__name__}; give a name, a folder, or a loaded encoder."
            )
        if encoder.reads != "audio":
            raise InputError("LP362", f"{encoder.upstream} reads text; LayerEmbedder takes encoders of audio.")
        return encoder

    def _fitted_encoder(self) -> Any:
        """Return the encoder of `fit`, which is loaded again after unpickling.

        Raises:
            InputError: if its name now stands for other weights
        """
        if not hasattr(self, "encoder_"):
            encoder = self._load()
            if encoder.weights_hash() != self._weights_hash:
                raise InputError("LP366", f"{self.encoder} has other weights than when this was fitted. Fit it again.")
            self.encoder_ = encoder
        return self.encoder_

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if isinstance(self.encoder, str | Path) and "encoder_" in state:
            state["_weights_hash"] = state.pop("encoder_").weights_hash()
        return state

    def __sklearn_clone__(self) -> LayerEmbedder:
        """Return an unfitted estimator with the same parameters; a loaded encoder is frozen, so it is shared."""
        clone = type(self)(**self.get_params(deep=False))
        for name in ("_sklearn_output_config", "_metadata_request"):
            if hasattr(self, name):
                setattr(clone, name, getattr(self, name))
        return clone

    def __sklearn_tags__(self) -> Tags:
        """State that the input is no table of features and that data teaches nothing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
        return tags


class _RecordingReader:
    """Input of the encoder by position: decoded from a file, or resampled from an array."""

    def __init__(self, recordings: list[Any], rate: int, encoder_rate: int, reading: ReadingOptions) -> None:
        self._recordings, self._rate, self._encoder_rate, self._reading = recordings, rate, encoder_rate, reading

    def content(self, row: Row) -> str:
        """Return nothing: these embeddings are not cached."""
        del row
        return ""

    def read(self, row: Row) -> ModelInput:
        """Return the waveform at the encoder's rate, or the reason why there is none."""
        recording = self._recordings[int(row["position"])]
        try:
            if isinstance(recording, str | Path):
                read = read_recording(
                    recording, sampling_rate=self._encoder_rate, max_duration=MAX_DURATION, reading=self._reading
                )
            else:
                read = self._resampled(np.asarray(recording))
        except InvalidAudioError as error:
            return ModelInput("", np.empty(0, dtype=np.float32), problem=Problem(error.code, error.message))
        return ModelInput("", read.waveform, len(read.waveform) / self._encoder_rate, remarks=read.remarks)

    def _resampled(self, waveform: np.ndarray) -> Recording:
        if waveform.ndim != 1:
            raise InvalidAudioError("LP365", f"a waveform of shape {waveform.shape}; give one channel, (n_samples,)")
        if waveform.dtype.kind != "f":
            raise InvalidAudioError(
                "LP365", f"a waveform of {waveform.dtype}; give floating-point samples from -1 to 1"
            )
        if len(waveform) == 0:
            raise InvalidAudioError("LP365", "empty: it holds no samples")
        samples = waveform.astype(np.float32, copy=False)[:, None]
        return make_recording(samples, self._rate, sampling_rate=self._encoder_rate, reading=self._reading)


def _recordings(given: Any) -> list[Any]:
    """Return one path or waveform per utterance."""
    if isinstance(given, str | Path | bytes) or not hasattr(given, "__len__"):
        raise InputError("LP363", f"{NO_AUDIO}; this is a {type(given).__name__}.")
    is_table = hasattr(given, "columns") or (
        isinstance(given, np.ndarray) and given.ndim > 1 and given.dtype.kind != "f"
    )
    if is_table:
        raise InputError("LP363", f"{NO_AUDIO}; this has shape {given.shape}. Give one column, e.g. frame['path'].")
    if len(given) == 0:
        raise InputError("LP363", f"{NO_AUDIO}; this is empty.")
    return list(given)
