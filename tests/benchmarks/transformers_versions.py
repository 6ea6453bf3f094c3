"""The layers of every architecture that the tests know, on transformers 4.57 and on the installed one.

The small models of the tests are saved by the installed version. Two processes, one for each version, load them by
`load_audio_encoder` and encode the same waveform in float32. Printed is the norm of the difference over the
norm, the greatest of all layers: ``layers`` are what layerprobe gives, ``hooked`` what hooks read of transformers' own
forward pass. Exits with 1 if one exceeds the tolerance or layers have other names, which counts as infinite.

The second table has what transformers itself calls its last hidden state where a final norm follows the blocks, and
which of the layers that is in either version: the reason for hooks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.loading import load_audio_encoder

REPOSITORY = Path(__file__).resolve().parents[2]
# transformers 4.57, and of what it needs all that the installed environment lacks or has too new
OLDER = (
    "transformers==4.57.6",
    "huggingface_hub==0.36.2",
    "tokenizers==0.22.2",
    "requests==2.32.5",
    "urllib3==2.5.0",
    "charset-normalizer==3.4.4",
    "certifi==2025.11.12",
)
TOLERANCE = 1e-5
OURS = ("layers", "hooked")

States = dict[str, np.ndarray]


def save_models(folder: Path) -> list[str]:
    """One folder for each kind of the tests, saved by the installed transformers."""
    from helpers.speech_models import KINDS, save_model, small_model  # here, because 4.57 names other classes

    for kind in KINDS:
        save_model(small_model(kind), folder / kind)
    return list(KINDS)


def waveform() -> np.ndarray:
    """Two seconds of a buzz with some noise, ``(n_samples,)`` float32 at 16 kHz."""
    time = np.arange(32_000) / 16_000
    buzz = np.sum([np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12)], axis=0)
    noise = np.random.default_rng(0).normal(size=len(time))
    return np.asarray(0.1 * buzz * (0.6 + 0.4 * np.sin(6 * np.pi * time)) + 0.01 * noise, dtype=np.float32)


@torch.inference_mode()
def own_last_state(folder: Path) -> np.ndarray:
    """What transformers gives as the last of its ``hidden_states``, ``(n_frames, dim)``."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    family = ARCHITECTURES[model.config.model_type]
    input_chunk = next(family.input_chunks(waveform(), extractor, model.config))
    outputs: Any = family.encoder(model)(**input_chunk.inputs, output_hidden_states=True)
    return np.asarray(outputs.hidden_states[-1][0, input_chunk.counted])


def dump(models: Path, out: Path) -> None:
    """Write this process's version of transformers, and for each model a file of every state that it gives."""
    (out / "version").write_text(transformers.__version__)
    for folder in sorted(models.iterdir()):
        encoder = load_audio_encoder(str(folder), precision="float32", device="cpu")
        pairs = zip(OURS, (encoder.hidden_states(waveform()), encoder.reference_states(waveform())), strict=True)
        states = {f"{how} {k}": x.numpy() for how, layers in pairs for k, x in zip(encoder.layers, layers, strict=True)}
        np.savez(out / folder.name, allow_pickle=False, own=own_last_state(folder), **states)


def dumped(models: Path, out: Path, *, packages: list[Path]) -> Path:
    """The folder that `dump` fills in a process of its own, which finds ``packages`` before the installed ones."""
    out.mkdir()
    path = os.pathsep.join(map(str, [*packages, REPOSITORY]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, __file__, "--dump", models, out], env=environment, check=True)
    return out


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Norm of the difference over the norm of ``b``; infinite if the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float)))


def greatest_difference(older: States, installed: States, how: str) -> float:
    if list(older) != list(installed):
        return float("inf")
    return float(np.max([difference(older[name], installed[name]) for name in installed if name.startswith(how)]))


def layer_of_own(states: States) -> str:
    """Which of the hooked layers transformers' own last state is."""
    hooked = [name for name in states if name.startswith("hooked")]
    return next((k.split()[1] for k in hooked if difference(states["own"], states[k]) <= TOLERANCE), "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dump", nargs=2, type=Path, metavar=("MODELS", "OUT"), help="what the two processes run")
    options = parser.parse_args()
    logging.disable_progress_bar()
    if options.dump:
        return dump(*options.dump)
    with tempfile.TemporaryDirectory() as name:
        root, packages, models = Path(name), Path(name) / "packages", Path(name) / "models"
        install = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(packages), *OLDER]
        subprocess.run(install, check=True)
        kinds = save_models(models)
        folders = [
            dumped(models, root / "older", packages=[packages]),
            dumped(models, root / "installed", packages=[]),
        ]
        versions = [(folder / "version").read_text() for folder in folders]
        older, installed = ({kind: dict(np.load(d / f"{kind}.npz")) for kind in kinds} for d in folders)
    print(f"transformers {versions[0]} against {versions[1]}, greatest relative difference")
    print(f"{'':24}{'n_layers':>10}{'layers':>10}{'hooked':>10}")
    failed = versions[0] == versions[1]
    for kind in kinds:
        n_layers = sum(name.startswith("layers") for name in installed[kind])
        worst = [greatest_difference(older[kind], installed[kind], how) for how in OURS]
        failed |= not all(value <= TOLERANCE for value in worst)
        print(f"{kind:24}{n_layers:10}", *(f"{value:10.1e}" for value in worst), sep="")
    print(f"\n{'own last hidden state':24}{'difference':>14}", *(f"{'layer in ' + v:>18}" for v in versions), sep="")
    for kind in kinds:
        if "hooked final" in installed[kind]:
            moved = difference(older[kind]["own"], installed[kind]["own"])
            layers = layer_of_own(older[kind]), layer_of_own(installed[kind])
            print(f"{kind:24}{moved:14.1e}", *(f"{layer:>18}" for layer in layers), sep="")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
