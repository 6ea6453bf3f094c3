"""Synthetic utterances of single words with known times, of which some hold one word in an excited voice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from helpers.planted import quick

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.results.run_folder import PEAK_SPANS, Run, read_run_table
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.synthesis.demo_corpus import VOICES
from layerprobe.probe.synthesis.espeak import Utterance, synthesise
from layerprobe.probe.time.span_ratings import read_span_ratings

VOCABULARY = (
    "garden letter window morning table river number yellow seven paper winter corner market simple evening people "
    "between another music station orange monday coffee little picture summer doctor basket silver country kitchen "
    "twenty mountain bottle ticket water"
).split()
N_WORDS, GAP = 8, 0.06  # of an utterance; seconds of silence after each word
PLAIN_PITCH, PLAIN_VOLUME = 40, 90  # of espeak-ng, with a jitter of up to 5
EXCITED_PITCH, EXCITED_RANGE, EXCITED_VOLUME = 75, 80, 150
SCALE = (0.0, 1.0)


@dataclass(frozen=True)
class PlantedWords:
    """A corpus on disk."""

    manifest: Path
    spans: Path  # utterance_id, start, end, label and the target ``excited``: 1 for a planted word, else 0
    planted: dict[str, tuple[float, float]]  # start and end of the word, of utterances that have one


def planted_words(folder: Path, *, n: int, rng: np.random.Generator, fraction: float = 0.5) -> PlantedWords:
    """Write a corpus.

    Args:
        folder: of the manifest, the table of spans and the audio
        n: number of utterances, of as many speakers as the demo has voices
        rng: of words, voices' prosody and planted words
        fraction: of the utterances that have a planted word
    """
    tokens: list[Utterance] = []
    has_word = rng.permutation(n) < round(fraction * n)
    place = rng.integers(N_WORDS, size=n)
    for k in range(n):
        chosen = rng.choice(VOCABULARY, size=N_WORDS, replace=False)
        for j, word in enumerate(chosen):
            excited = has_word[k] and j == place[k]
            pitch, volume = (EXCITED_PITCH, EXCITED_VOLUME) if excited else (PLAIN_PITCH, PLAIN_VOLUME)
            jitter = rng.integers(-5, 6, size=2)
            tokens.append(
                Utterance(
                    str(word),
                    VOICES[k % len(VOICES)],
                    rate=int(170 + rng.integers(-10, 11)),
                    pitch=int(pitch + jitter[0]),
                    pitch_range=EXCITED_RANGE if excited else 50,
                    volume=int(volume + jitter[1]),
                )
            )
    rows, spans, planted = [], [], {}
    speech = iter(synthesise(tokens))
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for k in range(n):
        name, chunks, at = f"u{k:03d}", [], 0.0
        for j in range(N_WORDS):
            samples, rate = next(speech)
            samples = _trimmed(samples)
            end = at + len(samples) / rate
            excited = bool(has_word[k] and j == place[k])
            label = tokens[k * N_WORDS + j].text
            spans.append({"utterance_id": name, "start": at, "end": end, "label": label, "excited": float(excited)})
            if excited:
                planted[name] = (at, end)
            silence = np.zeros(round(GAP * rate), dtype=np.int16)
            chunks += [samples, silence]
            at = end + len(silence) / rate
        soundfile.write(folder / "audio" / f"{name}.wav", np.concatenate(chunks), rate, subtype="PCM_16")
        speaker = VOICES[k % len(VOICES)]
        rows.append(
            {"utterance_id": name, "path": f"audio/{name}.wav", "speaker_id": speaker, "excited": float(has_word[k])}
        )
    header = Header("planted words", "1", "none", {"excited": Target(*SCALE)})
    write_manifest(folder / "words.csv", pd.DataFrame(rows), header)
    pd.DataFrame(spans).to_csv(folder / "spans.csv", index=False)
    return PlantedWords(folder / "words.csv", folder / "spans.csv", planted)


def _trimmed(samples: np.ndarray) -> np.ndarray:
    """Return a word without the near-silence at its ends, so that its span is where it can be perceived."""
    loud = np.flatnonzero(np.abs(samples.astype(float)) > 0.02 * np.abs(samples.astype(float)).max())
    return samples[loud[0] : loud[-1] + 1]


def hit_rate(peaks: pd.DataFrame, planted: dict[str, tuple[float, float]], *, within: float = 0.1) -> float:
    """Return the fraction of planted words whose middle is at most so many seconds from that of the peak."""
    middle = dict(zip(peaks["utterance_id"], (peaks["start"] + peaks["end"]) / 2, strict=True))
    return float(np.mean([abs(middle[name] - (a + b) / 2) <= within for name, (a, b) in planted.items()]))


def extracted(corpus: PlantedWords, encoder: str, out: Path, windows: tuple[float, float] | None) -> Cache:
    """The span cache of a corpus by one encoder."""
    spans = SpanOptions(path=corpus.spans) if windows is None else SpanOptions(every=windows[0], window=windows[1])
    manifest = read_manifest(corpus.manifest)
    run_extraction(manifest, load_encoder(encoder), out, ExtractionSettings(spans=spans))
    return open_cache(out)


def swept(cache: Cache, corpus: PlantedWords, table: Path, out: Path) -> Run:
    """A sweep over ratings of spans with 19 permutations."""
    manifest = read_manifest(corpus.manifest)
    ratings = read_span_ratings(table, manifest)
    plan = quick(ratings.manifest(manifest), permutations=19, weighted_sum_seeds=0, mixes=())
    return sweep([cache], manifest, plan, out=out, time=ratings)


def peaks_of(run: Run) -> pd.DataFrame:
    """The peaks of a run."""
    return read_run_table(run.path, PEAK_SPANS, run.fingerprint)
