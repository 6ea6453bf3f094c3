"""The demo's corpus: planted, spoken and known.

Arousal moves pitch, pitch range, rate and loudness. Valence lies in the words alone: positive, negative and neutral
adjectives, half of them negated, so that no single word decides. Dominance is a stated mix of both. Three simulated
raters hear each utterance with noise. So the truth is known: prosody carries arousal, text carries valence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from layerprobe.probe.data.schema import Header, Target
from layerprobe.probe.data.write import write_manifest
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.synthesis.espeak import Utterance, speak

NAME = "demo"
UTTERANCES_PER_VOICE = 16
LANGUAGES = ("en-us", "en-gb-scotland")
# Half male, half female, and none with "breath", whose noise is another in every process.
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f4", "linda", "steph", "belinda", "anika")
VOICES = tuple(f"{language}+{variant}" for variant in VARIANTS for language in LANGUAGES)

ADJECTIVES = {
    1: ("wonderful", "lovely", "delightful", "brilliant", "kind", "joyful", "gentle", "beautiful"),
    -1: ("terrible", "awful", "horrible", "dreadful", "cruel", "miserable", "bitter", "ugly"),
    0: ("ordinary", "square", "northern", "early", "wooden", "typical", "narrow", "local"),
}
NOUNS = ("letter", "garden", "story", "meeting", "dinner", "journey", "song", "house", "answer", "evening")
PLAIN = (
    "the {noun} this morning was {a} and {b}",
    "everyone said that the {noun} was {a} and really {b}",
    "she told us about a {a} and {b} {noun}",
    "in the end we had a {a} {noun} and a {b} day",
)
NEGATED = (
    "the {noun} this morning was not {a} and never {b}",
    "nobody said that the {noun} was {a} or even {b}",
    "she never told us about a {a} or {b} {noun}",
    "in the end it was not a {a} {noun} and no {b} day",
)

DOMINANCE_OF_AROUSAL, DOMINANCE_OF_VALENCE = (
    0.7,
    0.5,
)  # dominance = 0.7 arousal + 0.5 valence, before the raters
POINTS_PER_SD = 1.2  # of a target on the scale of 1 to 7, around its middle
RATER_NOISE = 0.8  # standard deviation of one rater, in points
N_RATERS = 3
SCALE = (1, 7)

HEADER = Header(
    corpus="layerprobe demo",
    version="1",
    licence="Apache-2.0; spoken by espeak-ng",
    notes=(
        "Synthetic, so the truth is known: arousal was planted in pitch, pitch range, rate and loudness, valence in "
        "the words alone (with negation, so that single words do not decide), dominance is 0.7 arousal + 0.5 valence. "
        "Three simulated raters."
    ),
    targets={
        "arousal": Target(*SCALE, meaning="very calm to very active"),
        "valence": Target(*SCALE, meaning="very negative to very positive"),
        "dominance": Target(*SCALE, meaning="very weak to very strong"),
    },
)


@dataclass(frozen=True)
class PlannedCorpus:
    """The corpus before it is spoken: its table, and how each row is said."""

    table: pd.DataFrame
    utterances: list[Utterance]


def plan_corpus(seed: int = 0) -> PlannedCorpus:
    """Draw sentences, prosody and ratings; equal seeds give equal corpora."""
    rng = np.random.default_rng(seed)
    rows, utterances = [], []
    for voice in VOICES:
        for k in range(UTTERANCES_PER_VOICE):
            arousal = float(rng.normal())
            valence = int(rng.integers(-1, 2))
            text = _sentence(valence, rng)
            targets = {
                "arousal": arousal,
                "valence": valence / np.sqrt(2 / 3),  # unit variance, as arousal
                "dominance": DOMINANCE_OF_AROUSAL * arousal + DOMINANCE_OF_VALENCE * valence / np.sqrt(2 / 3),
            }
            utterance_id = f"{voice.replace('+', '_')}_{k:02d}"
            row = {
                "utterance_id": utterance_id,
                "path": f"wav/{utterance_id}.wav",
                "speaker_id": voice,
                "transcript": text,
            }
            rows.append({**row, **_ratings(targets, rng)})
            utterances.append(spoken(text, voice, arousal, rng))
    return PlannedCorpus(pd.DataFrame(rows), utterances)


def write_corpus(folder: Path, *, seed: int = 0, progress: NullProgress | None = None) -> Path:
    """Speak the corpus into ``folder`` and return its manifest, ``demo.csv``; equal seeds give equal bytes.

    Raises:
        InputError: if there is no synthesiser
    """
    progress = progress or NullProgress()
    planned = plan_corpus(seed)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    progress.begin("speak", len(planned.utterances), "utterances")
    try:
        spoken = speak(planned.utterances)
        for path, (samples, rate) in zip(planned.table["path"], spoken, strict=True):
            soundfile.write(folder / path, samples, rate, subtype="PCM_16")
            progress.advance()
    finally:
        progress.end()
    manifest = folder / f"{NAME}.csv"
    write_manifest(manifest, planned.table, HEADER)
    return manifest


def _sentence(valence: int, rng: np.random.Generator) -> str:
    """A sentence of that valence; where it negates, its adjectives have the opposite one."""
    negated = bool(rng.integers(2))
    frames = NEGATED if negated else PLAIN
    words = ADJECTIVES[-valence if negated else valence]
    a, b = rng.choice(len(words), size=2, replace=False)
    frame, noun = frames[rng.integers(len(frames))], NOUNS[rng.integers(len(NOUNS))]
    return frame.format(noun=noun, a=words[a], b=words[b])


def _ratings(targets: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Each rater's whole points on the scale, and their mean."""
    low, high = SCALE
    ratings: dict[str, float] = {}
    for name, value in targets.items():
        heard = (low + high) / 2 + POINTS_PER_SD * value + rng.normal(scale=RATER_NOISE, size=N_RATERS)
        points = np.clip(np.rint(heard), low, high).astype(int)
        ratings[name] = round(float(points.mean()), 4)
        ratings |= {f"{name}_r{r}": int(p) for r, p in enumerate(points, start=1)}
    return ratings


def spoken(text: str, voice: str, arousal: float, rng: np.random.Generator) -> Utterance:
    """Arousal in the prosody, with a talker's own variation around it."""

    def setting(middle: float, per_sd: float, noise: float, low: int, high: int) -> int:
        return int(np.clip(round(middle + per_sd * arousal + rng.normal(scale=noise)), low, high))

    return Utterance(
        text,
        voice,
        rate=setting(170, 22, 8, 100, 300),
        pitch=setting(45, 12, 6, 5, 95),
        pitch_range=setting(45, 12, 6, 5, 95),
        volume=setting(80, 12, 6, 20, 150),
    )
