"""A small corpus of synthetic voices, extracted with a small encoder and swept: what deploying begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from helpers.speech_models import load_exact, save_model, small_model
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import Run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

RATE = 22_050  # Hz, so that reading resamples


@dataclass(frozen=True)
class SweptVoices:
    """The files of a run, from audio to scores."""

    manifest: Manifest
    encoder: Path  # folder of transformers
    cache: Cache
    run: Run


def write_voices(folder: Path, *, n_speakers: int = 10, each: int = 3, **columns: Any) -> Path:
    """A manifest of voices whose pitch and loudness are rated as arousal and valence; some lack valence.

    ``columns`` are functions of the number of the speaker and of the utterance.
    """
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n_speakers * each):
        speaker, pitch, level = k // each, rng.uniform(90, 250), rng.uniform(0.4, 1.4)
        recording = level * voice(rng.uniform(0.4, 0.9), rate=RATE, pitch=pitch, seed=k)
        soundfile.write(folder / f"u{k:02d}.wav", np.stack([recording, 0.9 * recording], axis=1), RATE)
        noise = rng.normal(size=2) / 4
        row = {"utterance_id": f"u{k:02d}", "path": f"u{k:02d}.wav", "speaker_id": f"anna-{speaker}"}
        row |= {"arousal": 1 + 6 * (pitch - 90) / 160, "valence": 1 + 6 * (level - 0.4) if k % 7 else ""}
        row |= {"gender": "female" if speaker % 2 else "male"}
        row["arousal"] = float(np.clip(row["arousal"] + noise[0], 1, 7))
        row["valence"] = float(np.clip(row["valence"] + noise[1], 1, 7)) if row["valence"] != "" else ""
        rows.append(row | {name: value(speaker, k % each) for name, value in columns.items()})
    return write_table(folder, rows, targets=("arousal", "valence"))


def swept_voices(
    folder: Path, *, encoder: Path | None = None, kind: str = "hubert", table: Path | None = None,
    adapter: Path | None = None, **plan: Any,
) -> SweptVoices:  # fmt: skip
    """Extract and sweep voices with an encoder, or one of a kind of `speech_models`."""
    manifest = read_manifest(table or write_voices(folder / "corpus"), speakers=plan.get("speakers", True))
    place = encoder if encoder is not None else save_model(small_model(kind), folder / "models" / kind)
    cache = extract(manifest, load_exact(place, adapter=adapter), folder / "h.zarr")
    choices = {"folds": 5, "controls": (), "permutations": 1, "weighted_sum_seeds": 0} | plan
    choices["folds"] = None if "test_split" in plan else choices["folds"]
    run = sweep([cache], manifest, plan_sweep(manifest, **choices), out=folder / "run")
    return SweptVoices(manifest, place, cache, run)
