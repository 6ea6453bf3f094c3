"""Stage: sentences become speech in many synthetic voices, for the pre-training of small encoders.

The voices are espeak-ng's, without the demo's, so that an encoder that learns from this has never heard the demo.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from layerprobe.probe.data.schema import Header
from layerprobe.probe.data.write import write_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.synthesis.demo_corpus import VARIANTS as DEMO_VARIANTS
from layerprobe.probe.synthesis.espeak import Utterance, speak, variants

NAME = "speech"
LANGUAGES = ("en-us", "en-gb-scotland", "en-gb-x-rp")
LEFT_OUT = ("Demonic",)  # espeak-ng 1.52 dies of it at some pitches
RATES, PITCHES, RANGES, VOLUMES = (110, 260), (15, 85), (10, 90), (40, 140)  # each drawn evenly
LETTERS = (15, 160)  # of a sentence that is said

HEADER = Header(
    corpus="layerprobe speech",
    version="1",
    licence="of the sentences; spoken by espeak-ng",
    notes="Synthetic: each sentence in a voice, rate, pitch, pitch range and loudness drawn by chance.",
    targets={},
)


def voices() -> list[str]:
    """Every language and variant that may be heard, none of them a variant of the demo's corpus."""
    return [f"{language}+{v}" for v in variants() if v not in DEMO_VARIANTS + LEFT_OUT for language in LANGUAGES]


def plan_speech(sentences: list[str], *, times: int = 1, seed: int = 0) -> tuple[pd.DataFrame, list[Utterance]]:
    """Draw how each sentence is said; equal seeds on equal sentences give equal plans.

    Args:
        sentences: of any kind; those out of `LETTERS` or without a letter are left out, and so are repetitions
        times: how often each is said, in a voice drawn anew
        seed: of the draws

    Returns:
        a manifest's table and the utterances of its rows

    Raises:
        InputError: if no sentence can be said
    """
    kept = [s for s in dict.fromkeys(t.strip() for t in sentences) if _sayable(s)]
    if not kept:
        raise InputError(f"No sentence can be said: each needs {LETTERS[0]} to {LETTERS[1]} characters, with letters.")
    rng = np.random.default_rng(seed)
    every = voices()
    rows: list[dict[str, str]] = []
    utterances: list[Utterance] = []
    for k in np.concatenate([rng.permutation(len(kept)) for _ in range(times)]):
        voice = every[rng.integers(len(every))]
        utterance_id = f"said_{len(rows):06d}"
        rows.append(
            {
                "utterance_id": utterance_id,
                "path": f"wav/{utterance_id}.wav",
                "speaker_id": voice,
                "transcript": kept[k],
            }
        )
        rate, pitch, spread, volume = (int(rng.integers(*b, endpoint=True)) for b in (RATES, PITCHES, RANGES, VOLUMES))
        utterances.append(Utterance(kept[k], voice, rate=rate, pitch=pitch, pitch_range=spread, volume=volume))
    return pd.DataFrame(rows), utterances


def write_speech_corpus(
    sentences: list[str], folder: Path, *, times: int = 1, seed: int = 0, progress: NullProgress | None = None
) -> Path:
    """Speak the sentences into ``folder`` and return the manifest, ``speech.csv``.

    Raises:
        InputError: if there is no synthesiser, or no sentence can be said
    """
    progress = progress or NullProgress()
    table, utterances = plan_speech(sentences, times=times, seed=seed)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    progress.begin("speak", len(utterances), "utterances")
    try:
        for path, (samples, rate) in zip(table["path"], speak(utterances), strict=True):
            soundfile.write(folder / path, samples, rate, subtype="PCM_16")
            progress.advance()
    finally:
        progress.end()
    manifest = folder / f"{NAME}.csv"
    write_manifest(manifest, table, HEADER)
    return manifest


def _sayable(sentence: str) -> bool:
    return LETTERS[0] <= len(sentence) <= LETTERS[1] and any(c.isalpha() for c in sentence)
