"""A copy of the embedded encoder that was tuned on a planted valence, and synthetic speech to tune and probe it on.

Valence is planted as a principal component of the frozen encoder's layer 2, which later layers carry less and less of:
the frozen encoder has it in layer 2. The upper blocks of the copy learn it, so that it has it in its last layers, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.embedded import EMBEDDED
from layerprobe.probe.synthesis.demo_corpus import ADJECTIVES, NOUNS, VARIANTS
from layerprobe.probe.synthesis.espeak import Utterance, synthesise

SENTENCES = ("the {n} was so {a}", "this {n} is very {a}", "a {a} {n} again")
TUNED_ON, PROBED_ON = ("en-us",), ("en-gb-scotland", "en-gb-x-rp")
PLANTED_IN = 2  # layer
COMPONENT = 18  # of that layer, counted from 0
FROZEN_BLOCKS = 2  # blocks that are not tuned
SECONDS = 1.2  # of each recording that tuning reads


@dataclass(frozen=True)
class Planted:
    """The frozen encoder and the direction of its layer that valence is planted in."""

    model: Any
    extractor: Any
    centre: np.ndarray  # (dim,)
    direction: np.ndarray  # (dim,), in which tuning utterances have a standard deviation of 1

    def valence(self, recordings: Sequence[np.ndarray]) -> np.ndarray:
        """Ratings of recordings from 1 to 7, ``(n_utterances,)``."""
        return np.clip(4 + 1.2 * (means(self, recordings) - self.centre) @ self.direction, 1, 7)


def speak(languages: tuple[str, ...], each: int, *, seed: int) -> tuple[list[str], list[np.ndarray]]:
    """Short sentences in every voice of some languages: the voice of each, and its recording at 16 kHz."""
    import soxr

    rng = np.random.default_rng(seed)
    utterances = []
    for voice in (f"{language}+{variant}" for language in languages for variant in VARIANTS):
        for _ in range(each):
            adjective = rng.choice(ADJECTIVES[int(rng.integers(-1, 2))])
            text = str(rng.choice(SENTENCES)).format(n=rng.choice(NOUNS), a=adjective)
            rate, pitch = int(rng.integers(150, 250)), int(rng.integers(20, 80))
            utterances.append(Utterance(text, voice, rate=rate, pitch=pitch))
    spoken = [soxr.resample(s.astype(np.float32) / 32768, rate, 16_000) for s, rate in synthesise(utterances)]
    return [utterance.voice for utterance in utterances], spoken


def plant(recordings: Sequence[np.ndarray]) -> Planted:
    """Choose the direction from the recordings that the copy will be tuned on."""
    from transformers import AutoFeatureExtractor, AutoModel

    model, extractor = (
        AutoModel.from_pretrained(EMBEDDED).float().eval(),
        AutoFeatureExtractor.from_pretrained(EMBEDDED),
    )
    start = Planted(model, extractor, np.empty(0), np.empty(0))
    embeddings = means(start, recordings)
    centre = embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(embeddings - centre, full_matrices=False)
    deviation = sizes[COMPONENT] / np.sqrt(len(embeddings))
    return Planted(model, extractor, centre, axes[COMPONENT] / deviation)


def means(planted: Planted, recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean frame of the layer of each recording, ``(n_utterances, dim)``."""
    import torch

    rows = []
    with torch.no_grad():
        for recording in recordings:
            values = planted.extractor(recording, sampling_rate=16_000, return_tensors="pt").input_values
            hidden_states = planted.model(values, output_hidden_states=True).hidden_states
            rows.append(hidden_states[PLANTED_IN][0].mean(dim=0).numpy())
    return np.stack(rows).astype(np.float64)


def write_speech(
    folder: Path, planted: Planted, voices: list[str], recordings: list[np.ndarray], *, seed: int
) -> Manifest:
    """Write recordings and their manifest with valence, and an arousal that is noise around their loudness."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    loudness = np.log([np.square(recording).mean() for recording in recordings])
    arousal = np.clip(4 + (loudness - loudness.mean()) / loudness.std() + 0.7 * rng.normal(size=len(voices)), 1, 7)
    rows = ["utterance_id,path,speaker_id,valence,arousal"]
    each = zip(voices, recordings, planted.valence(recordings), arousal, strict=True)
    for k, (voice, recording, *ratings) in enumerate(each):
        soundfile.write(folder / f"{k:03d}.wav", recording, 16_000)
        rows.append(f"{k:03d},{k:03d}.wav,{voice},{ratings[0]:.4f},{ratings[1]:.4f}")
    path = folder / "planted.csv"
    path.write_text("\n".join(rows) + "\n")
    scale = "minimum = 1\nmaximum = 7\n"
    path.with_suffix(".toml").write_text(
        f'corpus = "planted"\nversion = "1"\nlicence = "none"\n[targets.valence]\n{scale}[targets.arousal]\n{scale}'
    )
    return read_manifest(path)


def tune(folder: Path, planted: Planted, recordings: Sequence[np.ndarray], *, steps: int, seed: int = 0) -> Path:
    """Tune the upper blocks of a copy of the frozen encoder on the valence of recordings, and save it."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_pretrained(EMBEDDED).float().eval()
    audio = [np.resize(recording, round(16_000 * SECONDS)) for recording in recordings]
    inputs = planted.extractor(audio, sampling_rate=16_000, return_tensors="pt").input_values
    ratings = torch.tensor((planted.valence(recordings) - 4) / 1.2, dtype=torch.float32)
    with torch.no_grad():  # once, as the lower blocks are not tuned
        parts = [model(part, output_hidden_states=True).hidden_states[FROZEN_BLOCKS] for part in inputs.split(8)]
        lower = torch.cat(parts)
    blocks = model.requires_grad_(False).encoder.layers[FROZEN_BLOCKS:].requires_grad_(True)
    head = torch.nn.Linear(lower.shape[-1], 1)
    optimiser = torch.optim.AdamW([*blocks.parameters(), *head.parameters()], lr=5e-4)
    for _ in range(steps):
        batch = torch.randperm(len(lower))[:12]
        hidden = lower[batch]
        for block in blocks:
            hidden = block(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        loss = ((head(hidden.mean(1))[:, 0] - ratings[batch]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for part in (model, planted.extractor):
        part.save_pretrained(folder)
    return folder
