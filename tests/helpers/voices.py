"""Synthetic voices and the manifests that list them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layerprobe.probe.data.manifest.schema import Manifest


def voice(seconds: float, *, rate: int = 16_000, pitch: float = 120.0, seed: int = 0) -> np.ndarray:
    """A buzz with formant-like colour and some noise, ``(n_samples,)``, peak under full scale."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    harmonics = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 12) if pitch * k < rate / 2)
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)
    return (0.1 * envelope * harmonics + 0.01 * noise).astype(np.float32)


def write_table(folder: Path, rows: list[dict[str, object]], *, targets: tuple[str, ...] = ("arousal",)) -> Path:
    """A manifest ``my.csv`` with a header whose targets are rated from 1 to 7."""
    import pandas as pd

    path = folder / "my.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    lines = ['corpus = "test"', 'version = "1"', 'licence = "none"']
    for target in targets:
        lines += [f"[targets.{target}]", "minimum = 1", "maximum = 7"]
    path.with_suffix(".toml").write_text("\n".join(lines))
    return path


def manifest_of(folder: Path, rows: list[dict[str, object]]) -> Manifest:
    """A manifest of these rows as it is read from ``my.csv``."""
    from layerprobe.probe.data.manifest.read import read_manifest

    return read_manifest(write_table(folder, rows))
