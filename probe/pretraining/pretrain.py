"""Stage: unlabelled sound becomes a small HuBERT, by masked prediction of units (Hsu et al., 2021).

The first round predicts clusters of MFCC; a second, clusters of a middle layer of the encoder that the first made.
Each is a run of its own. A killed run goes on at its last saved step, on the CPU to the same weights bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import HubertConfig

from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.audio_memory import FULL_SCALE, InMemoryAudio, read_into_memory
from layerprobe.probe.pretraining.masked_prediction import MaskedPrediction, cropped
from layerprobe.probe.pretraining.plans import MFCC, PretrainPlan
from layerprobe.probe.pretraining.units import HOP, N_MFCC, RATE, WINDOW, UnitClusters, span_mask
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores, torch_threads
from layerprobe.probe.training.encoder_folder import (
    STATE,
    TrainedEncoder,
    checked_folder,
    claim_folder,
    complete_folder,
    hold_out,
    save_encoder,
    some_of,
)
from layerprobe.probe.training.loop import LoopPlan, run_loop
from layerprobe.probe.training.schedules import schedule

PLAN, HELD_OUT = "pretrain.json", "validation.csv"
FRAMES_EACH = 200  # of an utterance, on which k-means is fitted
_Batch = tuple[Tensor, ...]  # sounds int16, their levels, their frames' units, and which of those are hidden
FramesOf = Callable[[np.ndarray], np.ndarray]  # a sound (n_samples,) -> (n_frames, n_features), one every 20 ms


def pretrain(
    table: pd.DataFrame, plan: PretrainPlan, frames_of: FramesOf, *, out: Path | str, extractor: Any,
    device: str = "cpu", progress: NullProgress | None = None, stop_after: int | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Pre-train and write a transformers folder that `extract` takes; an interrupted run goes on where it was.

    All sounds are held in memory, 115 MB an hour of them.

    Args:
        table: of a manifest, whose ratings are not read
        plan: what to do
        frames_of: gives the frames of a sound that are clustered, `probe.pretraining.units.MfccFrames` or
            `layer_frames`
        out: the folder
        extractor: transformers' feature extractor, which normalises each sound as a whole if it says so
        device: cpu or cuda
        progress: receives the progress
        stop_after: steps after which it is left as a kill would leave it, for tests of that

    Raises:
        InputError: if no sound can be used, speakers are too few, or ``out`` holds something else
    """
    progress, out = progress or NullProgress(), Path(out)
    fingerprint = checked_folder(out, PLAN, plan, table, kind="pre-training")
    with torch.random.fork_rng(devices=[]):
        sounds = read_into_memory(table.sort_values("utterance_id"), extractor, progress=progress)
        run = _Run(sounds, plan, frames_of, out=out, device=device, progress=progress)
        claim_folder(out, PLAN, plan, fingerprint)
        log, quarantine = run.train(out / STATE, stop_after), run.sounds.quarantine
        if stop_after is not None and stop_after < plan.steps:
            return TrainedEncoder(out, log, quarantine)
        run.judged().to_csv(out / HELD_OUT, index=False, lineterminator="\n")
        halves = {name: tensor.half() for name, tensor in run.model.encoder.state_dict().items()}
        save_encoder(run.model.encoder.config, extractor, halves, out)
    return complete_folder(TrainedEncoder(out, log, quarantine))


class _Run:
    """Sounds, their units and the model of one pre-training; see `probe.training.loop.Trainable`."""

    def __init__(
        self,
        sounds: InMemoryAudio,
        plan: PretrainPlan,
        frames_of: FramesOf,
        *,
        out: Path,
        device: str,
        progress: NullProgress,
    ) -> None:
        self.plan, self.out, self.device, self.progress = plan, out, device, progress
        self.sounds, self._frames_of = sounds, frames_of
        speakers, words = sounds.column("speaker_id"), sounds.column("transcript")
        self._held_out, self._heard = hold_out(speakers, share=plan.held_out, seed=plan.seed, words=words)
        torch.manual_seed(plan.seed)
        self.model = MaskedPrediction(HubertConfig(**json.loads(plan.config)), n_units=plan.n_units).to(device)

    def train(self, state: Path, stop_after: int | None) -> pd.DataFrame:
        self._units = self._clustered()
        torch.manual_seed(self.plan.seed + 1)
        self._optimiser = torch.optim.AdamW(self.model.parameters(), lr=self.plan.learning_rate, weight_decay=0.01)
        self._chance = self._most_frequent_share()
        plan = LoopPlan("pretrain", self.plan.steps, self.plan.eval_every, state, self.device, stop_after=stop_after)
        return run_loop(self, self._optimiser, plan, progress=self.progress)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())

    def steps(self, begin: int) -> Iterator[Tensor]:
        for step, batch in enumerate(self._batches(begin), start=begin):
            yield self._step(step, batch)

    def evaluate(self) -> dict[str, float]:
        few = self._told_right(some_of(self._held_out))
        return {"accuracy": few["right"].sum() / few["hidden"].sum(), "chance": self._chance}

    def note(self, row: dict[str, Any]) -> str:
        return f"accuracy {row['accuracy']:.3f} (chance {row['chance']:.3f})"

    def values(self) -> dict[str, Any]:
        return {"sounds": self.sounds.content_hash()}

    def resume(self, values: dict[str, Any]) -> None:
        if values["sounds"] != self.sounds.content_hash():
            raise InputError(f"The sounds that {self.out} began with have changed. Name another --out.")

    def judged(self) -> pd.DataFrame:
        """Every held-out utterance: how many frames were hidden, and how many of those told right."""
        return self._told_right(self._held_out)

    def _clustered(self) -> list[np.ndarray]:
        """Of every sound, by clusters of some frames of each that is heard."""
        rng = np.random.default_rng([self.plan.seed, 1])
        frames: list[np.ndarray] = []

        def frames_of(place: int) -> np.ndarray:
            return self._frames_of(self.sounds.samples(place)).astype(np.float16)

        self.progress.begin("frames of every sound", len(self.sounds.rows), "sounds")
        try:
            # a thread that launches on a GPU is kept busy by that
            jobs = cores() if self.device == "cpu" or self.plan.label_source == MFCC else 2
            with (
                torch_threads(1),
                ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            ):
                for found in pool.map(frames_of, range(len(self.sounds.rows))):
                    frames.append(found)
                    self.progress.advance()
        finally:
            self.progress.end()
        some = [f[rng.permutation(len(f))[:FRAMES_EACH]].astype(np.float32) for f in (frames[k] for k in self._heard)]
        n_frames = sum(map(len, some))
        if n_frames < self.plan.n_units:
            raise InputError(f"{n_frames} frames can't be {self.plan.n_units} units. Ask for fewer or give more sound.")
        self.progress.log(f"Clustering into {self.plan.n_units} units …")
        tied = N_MFCC if self.plan.label_source == MFCC else 0
        units = UnitClusters.fit(np.concatenate(some), n_units=self.plan.n_units, rng=rng, tied=tied)
        return [units.of(f.astype(np.float32)) for f in frames]

    def _step(self, step: int, batch: _Batch) -> Tensor:
        plan = self.plan
        scale = schedule(step, n_steps=plan.steps, warmup=plan.warmup)
        optimiser = self._optimiser
        optimiser.param_groups[0]["lr"] = plan.learning_rate * scale
        self.model.train()
        optimiser.zero_grad(set_to_none=True)
        loss = self._told(batch)[0]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), plan.max_grad_norm)
        optimiser.step()
        return loss.detach()

    def _batches(self, begin: int) -> Iterator[_Batch]:
        """Of the steps from ``begin``, each made while the one before is learnt from."""

        def made(step: int) -> _Batch:
            rng = np.random.default_rng([self.plan.seed, 2, step])
            n = min(self.plan.batch_size, len(self._heard))
            return self._batch(rng.choice(self._heard, size=n, replace=False), rng)

        with ThreadPoolExecutor(1) as maker:
            coming = maker.submit(made, begin)
            for step in range(begin + 1, self.plan.steps + 1):
                batch, coming = coming.result(), maker.submit(made, step)
                yield batch

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> _Batch:
        n_frames = round(self.plan.crop_seconds * RATE / HOP)
        whole, units = [self.sounds.waveforms[k] for k in chosen], [self._units[k] for k in chosen]
        sounds, truth = cropped(whole, units, n_frames=n_frames, rng=rng)
        mask = span_mask(len(sounds), truth.shape[1], share=self.plan.mask_share, span=self.plan.mask_span, rng=rng)
        batch = tuple(torch.from_numpy(a) for a in (sounds, self.sounds.levels[chosen], truth, mask))
        return batch if self.device == "cpu" else tuple(t.pin_memory() for t in batch)

    def _told(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the share of its hidden frames that is told right."""
        sounds, levels, units, mask = (t.to(self.device, non_blocking=True) for t in batch)
        sounds = (sounds / FULL_SCALE - levels[:, :1]) / levels[:, 1:]
        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            return self.model(sounds, units, mask)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _told_right(self, places: np.ndarray) -> pd.DataFrame:
        """Of each utterance: ``hidden`` frames and those of them told ``right``, each time with the same masks."""
        self.model.eval()
        rows = []
        for k in places:
            batch = self._batch(np.array([k]), np.random.default_rng([self.plan.seed, 3, k]))
            right, hidden = self._told(batch)[1], int(batch[3].sum())
            row = {name: self.sounds.rows[k][name] for name in ("utterance_id", "speaker_id")}
            rows.append({**row, "hidden": hidden, "right": round(float(right) * hidden)})
        return pd.DataFrame(rows)

    def _most_frequent_share(self) -> float:
        """How often a held-out frame is of the unit that is most frequent in those heard."""
        counts = np.bincount(np.concatenate([self._units[k] for k in self._heard]), minlength=self.plan.n_units)
        return float((np.concatenate([self._units[k] for k in self._held_out]) == counts.argmax()).mean())


def layer_frames(encoder: SpeechEncoder, layer: str) -> FramesOf:
    """Frames of a layer of an encoder, for a second round.

    Raises:
        InputError: if there is no such layer, or its frames are not 20 ms apart
    """
    if layer not in encoder.layers:
        raise InputError(f"{encoder.upstream} has no layer {layer!r}; it has {', '.join(encoder.layers)}.")
    place = encoder.layers.index(layer)

    def frames(waveform: np.ndarray) -> np.ndarray:
        return encoder.hidden_states(waveform)[place].float().cpu().numpy()

    n, expected = len(frames(np.zeros(RATE, dtype=np.float32))), (RATE - WINDOW) // HOP + 1
    if n != expected:
        raise InputError(f"{encoder.upstream} gives {n} frames a second, not {expected}, so they are no units here.")
    return frames
