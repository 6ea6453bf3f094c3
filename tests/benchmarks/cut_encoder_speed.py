"""Whether the time of a cut encoder is that of its front end and the blocks that it keeps.

Run from the root: ``python tests/benchmarks/cut_encoder_speed.py [--kind hubert|whisper] [--rounds 12]``. An encoder of
base size with random weights is saved whole and cut at some blocks. In each round all of them encode the same audio in
turn, so that what else the machine does affects them alike, and the whole one is stamped when each of its layers is
there. The expected ratio is the stamp of the layer that a cut one ends at, over that of the last; the measured one is
the time of the cut encoder over that of the whole. Times are of the processor, with one thread; ratios are medians over
rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from helpers.speech_models import load_exact, save_model
from transformers import HubertConfig, HubertModel, WhisperConfig, WhisperModel

from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.predictors.cut import cut_encoder, save_encoder

MODELS = {
    "hubert": lambda: HubertModel(HubertConfig()),
    "whisper": lambda: WhisperModel(
        WhisperConfig(
            d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, decoder_attention_heads=8
        )
    ),  # the encoder of Whisper base
}


def seconds(encoder: SpeechEncoder, waveform: np.ndarray) -> float:
    """Processor time of one pass."""
    start = time.process_time()
    encoder.hidden_states(waveform)
    return time.process_time() - start


def stamps(encoder: SpeechEncoder, waveform: np.ndarray) -> list[float]:
    """Processor time from the beginning of a pass to each layer 0, 1, …, and to the end of the pass."""
    found: list[float] = []
    start = time.process_time()
    if encoder.forward == "native":
        for chunk in encoder.frame_chunks(waveform):
            found += [time.process_time() - start for _ in chunk.layers]
        return found
    before = encoder.blocks[0].register_forward_pre_hook(lambda *_: found.append(time.process_time() - start))
    hooks = [
        block.register_forward_hook(lambda *_: found.append(time.process_time() - start)) for block in encoder.blocks
    ]
    encoder.hidden_states(waveform)
    for hook in (before, *hooks):
        hook.remove()
    return [*found, time.process_time() - start]


def main() -> None:
    """Print expected and measured ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=MODELS, default="hubert")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    choices = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    waveform = example_waveform(choices.seconds, sampling_rate=16_000)
    with tempfile.TemporaryDirectory() as root:
        folder = save_model(MODELS[choices.kind]().eval(), Path(root) / "whole")
        whole = load_exact(folder)
        n_blocks = len(whole.blocks)
        kept = sorted({1, n_blocks // 4 or 1, n_blocks // 2, 3 * n_blocks // 4, n_blocks})
        encoders = {}
        for k in kept:
            loaded = load_model(str(folder))
            cut_encoder(loaded, k)
            save_encoder(loaded, Path(root) / str(k))
            encoders[k] = load_exact(Path(root) / str(k))
    expected: dict[int, list[float]] = {k: [] for k in kept}
    measured: dict[int, list[float]] = {k: [] for k in kept}
    for round_ in range(choices.rounds + 1):  # the first warms up
        at = stamps(whole, waveform)
        of_whole = seconds(whole, waveform)
        for k, encoder in encoders.items():
            ratio = seconds(encoder, waveform) / of_whole
            if round_:
                expected[k].append(at[k] / at[-1])
                measured[k].append(ratio)
    print(
        f"{choices.kind}, {n_blocks} blocks, {choices.seconds:g} s of audio, {choices.rounds} rounds; {whole.forward}"
    )
    print("blocks kept   expected   measured   measured / expected")
    for k in kept:
        wanted, found = np.median(expected[k]), np.median(measured[k])
        print(f"{k:11d} {wanted:10.3f} {found:10.3f} {found / wanted:21.3f}")


if __name__ == "__main__":
    main()
