"""Stage: synthesise sentences in many voices, as audio for the pre-training of small encoders.

The voices are espeak-ng's, without those of the demo, so that the demo's voices are unseen in pre-training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.lease import leased_folder
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.synthesis.demo_corpus import VARIANTS as DEMO_VARIANTS
from layerprobe.probe.synthesis.espeak import Utterance, synthesise, variants

NAME = "speech"
LANGUAGES = ("en-us", "en-gb-scotland", "en-gb-x-rp")
EXCLUDED = ("Demonic",)  # espeak-ng 1.52 crashes on it at some pitches
RATES, PITCHES, RANGES, VOLUMES = (110, 260), (15, 85), (10, 90), (40, 140)  # ranges of uniform distributions
CHARACTERS = (15, 160)  # minimum and maximum number of characters of a sentence

HEADER = Header(
    corpus="layerprobe speech",
    version="1",
    licence="of the sentences; spoken by espeak-ng",
    notes="Synthetic: each sentence in a voice, rate, pitch, pitch range and loudness chosen at random.",
    targets={},
)


def voices() -> list[str]:
    """Return every voice, language and variant, except the variants of the demo's corpus."""
    return [f"{language}+{v}" for v in variants() if v not in DEMO_VARIANTS + EXCLUDED for language in LANGUAGES]


def plan_speech(sentences: list[str], *, times: int = 1, seed: int = 0) -> tuple[pd.DataFrame, list[Utterance]]:
    """Choose voice and prosody of each sentence at random; equal seeds and sentences give equal plans.

    Args:
        sentences: texts; those with too few or too many `CHARACTERS`, without letters or repeated are left out
        times: number of times each is synthesised, in a new voice each time
        seed: random seed

    Returns:
        a manifest's table and the utterances of its rows

    Raises:
        InputError: if no sentence can be synthesised
    """
    usable = [s for s in dict.fromkeys(t.strip() for t in sentences) if _is_usable(s)]
    if not usable:
        raise InputError(
            "LP762",
            f"No sentence can be synthesised: each needs {CHARACTERS[0]} to {CHARACTERS[1]} characters, with letters.",
        )
    rng = np.random.default_rng(seed)
    all_voices = voices()
    rows: list[dict[str, str]] = []
    utterances: list[Utterance] = []
    for k in np.concatenate([rng.permutation(len(usable)) for _ in range(times)]):
        voice = all_voices[rng.integers(len(all_voices))]
        utterance_id = f"utt_{len(rows):06d}"
        rows.append(
            {
                "utterance_id": utterance_id,
                "path": f"wav/{utterance_id}.wav",
                "speaker_id": voice,
                "transcript": usable[k],
            }
        )
        rate, pitch, pitch_range, volume = (
            int(rng.integers(*b, endpoint=True)) for b in (RATES, PITCHES, RANGES, VOLUMES)
        )
        utterances.append(Utterance(usable[k], voice, rate=rate, pitch=pitch, pitch_range=pitch_range, volume=volume))
    return pd.DataFrame(rows), utterances


def write_speech_corpus(
    sentences: list[str], folder: Path, *, times: int = 1, seed: int = 0, progress: NullProgress | None = None
) -> Path:
    """Synthesise sentences into ``folder`` and return the path of the manifest, ``speech.csv``.

    Raises:
        InputError: if no synthesiser is installed, no sentence can be synthesised, or another process writes there
    """
    progress = progress or NullProgress()
    table, utterances = plan_speech(sentences, times=times, seed=seed)
    manifest = folder / f"{NAME}.csv"
    with leased_folder(folder):
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        progress.begin("synthesise", len(utterances), "utterances")
        try:
            for path, (samples, rate) in zip(table["path"], synthesise(utterances), strict=True):
                soundfile.write(folder / path, samples, rate, subtype="PCM_16")
                progress.advance()
        finally:
            progress.end()
        write_manifest(manifest, table, HEADER)
    return manifest


def _is_usable(sentence: str) -> bool:
    return CHARACTERS[0] <= len(sentence) <= CHARACTERS[1] and any(c.isalpha() for c in sentence)
