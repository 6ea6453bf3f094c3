"""The demo's corpus: synthetic speech whose ratings depend on prosody and text in a known way.

Arousal determines pitch, pitch range, rate and loudness. Valence lies in the text alone: positive, negative and neutral
adjectives, half of them negated, so that no single word decides. Dominance is a weighted sum of both. Three simulated
raters add noise to each rating. So the truth is known: prosody carries arousal, text carries valence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.synthesis.espeak import Utterance, synthesise

NAME = "demo"
UTTERANCES_PER_VOICE = 16
LANGUAGES = ("en-us", "en-gb-scotland")
# Half male, half female, and none with "breath", whose noise differs in every process.
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

AROUSAL_WEIGHT, VALENCE_WEIGHT = 0.7, 0.5  # dominance = 0.7 arousal + 0.5 valence, before the raters
POINTS_PER_SD = 1.2  # points of the scale per standard deviation of a target, around its middle
RATER_NOISE = 0.8  # standard deviation of one rater, in points
N_RATERS = 3
SCALE = (1, 7)

HEADER = Header(
    corpus="layerprobe demo",
    version="1",
    licence="Apache-2.0; spoken by espeak-ng",
    notes=(
        "Synthetic, so the truth is known: arousal was planted in pitch, pitch range, rate and loudness, valence in "
        "the text alone (with negation, so that no single word decides), dominance is 0.7 arousal + 0.5 valence. "
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
    """The corpus before synthesis: its table, and the utterance of each row."""

    table: pd.DataFrame
    utterances: list[Utterance]


def plan_corpus(seed: int = 0) -> PlannedCorpus:
    """Sample sentences, prosody and ratings; equal seeds give equal corpora."""
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
                "dominance": AROUSAL_WEIGHT * arousal + VALENCE_WEIGHT * valence / np.sqrt(2 / 3),
            }
            utterance_id = f"{voice.replace('+', '_')}_{k:02d}"
            row = {
                "utterance_id": utterance_id,
                "path": f"wav/{utterance_id}.wav",
                "speaker_id": voice,
                "transcript": text,
            }
            rows.append({**row, **_ratings(targets, rng)})
            utterances.append(utterance_of_arousal(text, voice, arousal, rng))
    return PlannedCorpus(pd.DataFrame(rows), utterances)


def write_corpus(folder: Path, *, seed: int = 0, progress: NullProgress | None = None) -> Path:
    """Synthesise the corpus into ``folder`` and return the path of its manifest, ``demo.csv``.

    Equal seeds give equal bytes.

    Raises:
        InputError: if no synthesiser is installed
    """
    progress = progress or NullProgress()
    planned = plan_corpus(seed)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    progress.begin("synthesise", len(planned.utterances), "utterances")
    try:
        speech = synthesise(planned.utterances)
        for path, (samples, rate) in zip(planned.table["path"], speech, strict=True):
            soundfile.write(folder / path, samples, rate, subtype="PCM_16")
            progress.advance()
    finally:
        progress.end()
    manifest = folder / f"{NAME}.csv"
    write_manifest(manifest, planned.table, HEADER)
    return manifest


def _sentence(valence: int, rng: np.random.Generator) -> str:
    """Return a sentence of that valence; the adjectives of a negated one have the opposite valence."""
    negated = bool(rng.integers(2))
    frames = NEGATED if negated else PLAIN
    adjectives = ADJECTIVES[-valence if negated else valence]
    a, b = rng.choice(len(adjectives), size=2, replace=False)
    frame, noun = frames[rng.integers(len(frames))], NOUNS[rng.integers(len(NOUNS))]
    return frame.format(noun=noun, a=adjectives[a], b=adjectives[b])


def _ratings(targets: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Return each rater's rating, whole points on the scale, and their mean."""
    low, high = SCALE
    ratings: dict[str, float] = {}
    for name, value in targets.items():
        perceived = (low + high) / 2 + POINTS_PER_SD * value + rng.normal(scale=RATER_NOISE, size=N_RATERS)
        points = np.clip(np.rint(perceived), low, high).astype(int)
        ratings[name] = round(float(points.mean()), 4)
        ratings |= {f"{name}_r{r}": int(p) for r, p in enumerate(points, start=1)}
    return ratings


def utterance_of_arousal(text: str, voice: str, arousal: float, rng: np.random.Generator) -> Utterance:
    """Return an utterance whose prosody expresses arousal, with random variation."""

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
