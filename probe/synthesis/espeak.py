"""Speech synthesis by espeak-ng in process, reproducible byte for byte.

espeak-ng (GPL) is an optional dependency that is called and never bundled: the package espeakng-loader contains its
library and voices. Its noise depends on all utterances before, so `synthesise` starts a new process for each block of
utterances, and the same list gives the same audio on any number of cores.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.system import cores

SYNCHRONOUS_OUTPUT = 2  # espeak_AUDIO_OUTPUT: AUDIO_OUTPUT_SYNCHRONOUS
UTF8 = 1  # espeakCHARS_UTF8
RATE, VOLUME, PITCH, PITCH_RANGE = 1, 2, 3, 4  # espeak_PARAMETER
CHUNK = 32  # utterances between two updates of the progress
BLOCK = 512  # utterances per process


@dataclass(frozen=True)
class Utterance:
    """A text to synthesise, with voice and prosody."""

    text: str
    voice: str  # "en-us+f2": a language of espeak-ng and one of its variants
    rate: int = 170  # speaking rate of espeak-ng, 80 to 450 per minute
    pitch: int = 50  # 0 to 100, relative to the voice
    pitch_range: int = 50  # 0 (monotone) to 100
    volume: int = 100  # 0 to 200


def synthesise(utterances: list[Utterance]) -> Iterator[tuple[np.ndarray, int]]:
    """Synthesise utterances in order.

    Yields:
        samples ``(n_samples,)`` int16 and sampling rate in Hz of each utterance

    Raises:
        InputError: if espeakng-loader is not installed, a voice is unknown, or espeak-ng crashes on an utterance
    """
    _loader()
    begins = range(0, len(utterances), BLOCK)
    if len(begins) == 1:  # yielded one by one, not after the last
        yield from _block(utterances, 0)
        return
    with ThreadPoolExecutor(cores()) as threads:
        for first in range(0, len(begins), cores()):  # no more blocks are held than run in parallel
            current = begins[first : first + cores()]
            for block in threads.map(lambda begin: list(_block(utterances, begin)), current):
                yield from block


def _block(utterances: list[Utterance], begin: int) -> Iterator[tuple[np.ndarray, int]]:
    block, done = utterances[begin : begin + BLOCK], 0
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        try:
            for speech in fresh.map(_synthesise, block, chunksize=CHUNK):
                yield speech
                done += 1
        except BrokenProcessPool as error:
            voices = sorted({utterance.voice for utterance in block[done : done + CHUNK]})
            raise InputError(
                "LP760",
                f"espeak-ng crashed on one of the {CHUNK} utterances after the first {begin + done}. Leave out the "
                f"voice that causes it, one of {', '.join(voices)}.",
            ) from error


def variants() -> list[str]:
    """Return the names of the voice variants of the installed espeak-ng, without those that contain a blank.

    Raises:
        InputError: if espeakng-loader is not installed
    """
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    return sorted(path.name for path in folder.iterdir() if " " not in path.name)


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError(
            "LP820", "No speech synthesiser is installed. Install one: pip install espeakng-loader."
        ) from error
    return espeakng_loader


class _Synthesiser:
    """The espeak-ng library, initialised once per process."""

    _only: _Synthesiser | None = None

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._chunks: list[np.ndarray] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._collect)  # kept alive as long as the library may call it
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self._library.espeak_Initialize(SYNCHRONOUS_OUTPUT, 0, data, 0))
        if self.rate <= 0:
            raise RuntimeError("espeak-ng could not be initialised")
        self._library.espeak_SetSynthCallback(self._callback)

    @classmethod
    def only(cls) -> _Synthesiser:
        """Return the process's only instance, since the library keeps its state in globals."""
        if cls._only is None:
            cls._only = cls()
        return cls._only

    def synthesise(self, utterance: Utterance) -> np.ndarray:
        self._chunks = []
        # an unknown voice would silently be spoken in the one before
        if self._library.espeak_SetVoiceByName(utterance.voice.encode()):
            raise InputError(
                "LP761", f"espeak-ng has no voice {utterance.voice!r}. Write LANGUAGE+VARIANT, such as en-us+m3."
            )
        for parameter, value in (
            (RATE, utterance.rate),
            (VOLUME, utterance.volume),
            (PITCH, utterance.pitch),
            (PITCH_RANGE, utterance.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = utterance.text.encode()
        if self._library.espeak_Synth(text, len(text) + 1, 0, 0, 0, UTF8, None, None):
            raise RuntimeError(f"espeak-ng could not synthesise {utterance.text!r}")
        return np.concatenate(self._chunks)

    def _collect(self, samples: Any, n_samples: int, _: Any) -> int:
        if n_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        return 0


def _synthesise(utterance: Utterance) -> tuple[np.ndarray, int]:
    synthesiser = _Synthesiser.only()
    return synthesiser.synthesise(utterance), synthesiser.rate
