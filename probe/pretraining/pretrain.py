"""Stage: pre-train a small HuBERT on unlabelled audio by masked prediction of cluster units (Hsu et al., 2021).

A first round predicts clusters of MFCC, a second round clusters of a middle layer of the first round's encoder. Each is
a training of its own. A killed training resumes at its last checkpoint, on the CPU to the same weights bit for bit.
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

from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.encoders.loading import EMBEDDED, OWN, load_audio_encoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.lease import leased_folder
from layerprobe.probe.pretrained import SPEECH_ENCODER, find_pretrained
from layerprobe.probe.pretraining.audio_memory import FULL_SCALE, InMemoryAudio, read_into_memory
from layerprobe.probe.pretraining.masked_prediction import MaskedPrediction, crop
from layerprobe.probe.pretraining.plans import MFCC, PretrainPlan, plan_pretraining
from layerprobe.probe.pretraining.settings import PretrainOptions
from layerprobe.probe.pretraining.units import HOP, N_MFCC, RATE, WINDOW, MfccFrames, UnitClusters, span_mask
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores, torch_threads
from layerprobe.probe.training.checkpoints import forked_rng, write_table
from layerprobe.probe.training.encoder_folder import (
    STATE,
    TrainedEncoder,
    check_folder,
    claim_folder,
    complete_folder,
    evenly_chosen,
    hold_out_speakers,
    save_encoder,
)
from layerprobe.probe.training.loop import LoopPlan, run_loop
from layerprobe.probe.training.schedules import schedule

PLAN, VALIDATION = "pretrain.json", "validation.csv"
FRAMES_PER_UTTERANCE = 200  # on which k-means is fitted
_Batch = tuple[Tensor, ...]  # waveforms int16, their levels, their frames' units, and the mask of frames
FramesOf = Callable[[np.ndarray], np.ndarray]  # (n_samples,) -> (n_frames, n_features), a frame every 20 ms


def pretrain(
    table: pd.DataFrame | Path | str, options: PretrainOptions | None = None, *, out: Path | str, device: str = "cpu",
    progress: NullProgress | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Pre-train a small HuBERT on unlabelled audio by masked prediction of cluster units (Hsu et al., 2021).

    All audio is held in memory, 115 MB per hour. An interrupted pre-training is resumed.

    Args:
        table: file (.csv, .parquet), or its content, with ``utterance_id`` and ``path``; ratings are not read
        options: cluster units, the encoder's configuration, and the training; the defaults if None
        out: transformers folder to write, which `load_encoder` reads
        device: cpu or cuda
        progress: receives the progress

    Returns:
        the folder, the log (step, loss, accuracy and majority accuracy) and the quarantine

    Raises:
        InputError: if an option is wrong, no audio can be used, speakers are too few, or ``out`` holds something else
    """
    if not isinstance(table, pd.DataFrame):
        table = read_utterances(table)
    options = options or PretrainOptions()
    plan_pretraining(options)  # raises errors of options before an encoder is loaded
    frames_of, weights = load_label_source(options.label_source, device=device, progress=progress)
    plan = plan_pretraining(options, weights=weights)
    extractor = find_pretrained(OWN, SPEECH_ENCODER, folder=EMBEDDED).feature_extractor()
    return run_pretraining(table, plan, frames_of, out=out, extractor=extractor, device=device, progress=progress)


def run_pretraining(
    table: pd.DataFrame, plan: PretrainPlan, frames_of: FramesOf, *, out: Path | str, extractor: Any,
    device: str = "cpu", progress: NullProgress | None = None, stop_after: int | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Carry out a plan of `plan_pretraining`; see `pretrain`.

    Args:
        table: the manifest's table
        plan: every choice of the pre-training
        frames_of: returns the features of a recording that are clustered, `MfccFrames` or `layer_frames`
        out: transformers folder to write
        extractor: feature extractor of transformers, whose ``do_normalize`` decides whether recordings are normalised
        device: cpu or cuda
        progress: receives the progress
        stop_after: steps after which training stops as a kill would stop it, for tests

    Raises:
        InputError: if no audio can be used, speakers are too few, or ``out`` holds something else or is being written
            by another process
    """
    progress, out = progress or NullProgress(), Path(out)
    fingerprint = check_folder(out, PLAN, plan, table, kind="pre-training")
    with leased_folder(out), forked_rng(device):
        rows = table.sort_values("utterance_id")
        audio = read_into_memory(rows, extractor, reading=plan.reading, progress=progress)
        run = _Run(audio, plan, frames_of, out=out, device=device, progress=progress)
        claim_folder(out, PLAN, plan, fingerprint)
        log, quarantine = run.train(out / STATE, stop_after), run.audio.quarantine
        if stop_after is not None and stop_after < plan.steps:
            return TrainedEncoder(out, log, quarantine)
        write_table(run.validation_table(), out / VALIDATION)
        halves = {name: tensor.half() for name, tensor in run.model.encoder.state_dict().items()}
        save_encoder(run.model.encoder.config, extractor, halves, out)
        return complete_folder(TrainedEncoder(out, log, quarantine))


class _Run:
    """Audio, its units and the model of one pre-training; see `probe.training.loop.Trainable`."""

    def __init__(
        self,
        audio: InMemoryAudio,
        plan: PretrainPlan,
        frames_of: FramesOf,
        *,
        out: Path,
        device: str,
        progress: NullProgress,
    ) -> None:
        self.plan, self.out, self.device, self.progress = plan, out, device, progress
        self.audio, self._frames_of = audio, frames_of
        speakers, transcripts = audio.column("speaker_id"), audio.column("transcript")
        self._validation_rows, self._training_rows = hold_out_speakers(
            speakers, fraction=plan.held_out, seed=plan.seed, transcripts=transcripts
        )
        torch.manual_seed(plan.seed)
        self.model = MaskedPrediction(HubertConfig(**json.loads(plan.config)), n_units=plan.n_units).to(device)

    def train(self, state: Path, stop_after: int | None) -> pd.DataFrame:
        self._units = self._cluster()
        torch.manual_seed(self.plan.seed + 1)
        self._optimiser = torch.optim.AdamW(self.model.parameters(), lr=self.plan.learning_rate, weight_decay=0.01)
        self._majority = self._majority_accuracy()
        plan = LoopPlan("pretrain", self.plan.steps, self.plan.eval_every, state, self.device, stop_after=stop_after)
        return run_loop(self, self._optimiser, plan, progress=self.progress)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())

    def steps(self, begin: int) -> Iterator[Tensor]:
        for step, batch in enumerate(self._batches(begin), start=begin):
            yield self._step(step, batch)

    def evaluate(self) -> dict[str, float]:
        counts = self._count_correct(evenly_chosen(self._validation_rows))
        accuracy = counts["correct_frames"].sum() / counts["masked_frames"].sum()
        return {"accuracy": accuracy, "majority_accuracy": self._majority}

    def note(self, row: dict[str, Any]) -> str:
        return f"accuracy {row['accuracy']:.3f} (majority {row['majority_accuracy']:.3f})"

    def values(self) -> dict[str, Any]:
        return {"audio_hash": self.audio.content_hash()}

    def resume(self, values: dict[str, Any]) -> None:
        if values["audio_hash"] != self.audio.content_hash():
            raise InputError("LP705", f"The audio that {self.out} was started with has changed. Name another --out.")

    def validation_table(self) -> pd.DataFrame:
        """Return ``masked_frames`` and ``correct_frames`` of every held-out utterance."""
        return self._count_correct(self._validation_rows)

    def _cluster(self) -> list[np.ndarray]:
        """Return the units of every recording; k-means is fitted on frames of the training recordings."""
        rng = np.random.default_rng([self.plan.seed, 1])
        frames: list[np.ndarray] = []

        def frames_of(index: int) -> np.ndarray:
            return self._frames_of(self.audio.samples(index)).astype(np.float16)

        self.progress.begin("features of every recording", len(self.audio.rows), "recordings")
        try:
            # a thread that launches GPU work is busy with that
            jobs = cores() if self.device == "cpu" or self.plan.label_source == MFCC else 2
            with (
                torch_threads(1),
                ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            ):
                for found in pool.map(frames_of, range(len(self.audio.rows))):
                    frames.append(found)
                    self.progress.advance()
        finally:
            self.progress.end()
        training = [frames[k] for k in self._training_rows]
        sample = [f[rng.permutation(len(f))[:FRAMES_PER_UTTERANCE]].astype(np.float32) for f in training]
        n_frames = sum(map(len, sample))
        if n_frames < self.plan.n_units:
            raise InputError(
                "LP738", f"{n_frames} frames can't be {self.plan.n_units} units. Lower --units or give more audio."
            )
        self.progress.log(f"Clustering into {self.plan.n_units} units …")
        tied = N_MFCC if self.plan.label_source == MFCC else 0
        units = UnitClusters.fit(np.concatenate(sample), n_units=self.plan.n_units, rng=rng, tied=tied)
        return [units.predict(f.astype(np.float32)) for f in frames]

    def _step(self, step: int, batch: _Batch) -> Tensor:
        plan = self.plan
        scale = schedule(step, n_steps=plan.steps, warmup=plan.warmup)
        optimiser = self._optimiser
        optimiser.param_groups[0]["lr"] = plan.learning_rate * scale
        self.model.train()
        optimiser.zero_grad(set_to_none=True)
        loss = self._loss_and_accuracy(batch)[0]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), plan.max_grad_norm)
        optimiser.step()
        return loss.detach()

    def _batches(self, begin: int) -> Iterator[_Batch]:
        """Yield the batches of the steps from ``begin``; the next one is prepared while a step runs."""

        def make_batch(step: int) -> _Batch:
            rng = np.random.default_rng([self.plan.seed, 2, step])
            n = min(self.plan.batch_size, len(self._training_rows))
            return self._batch(rng.choice(self._training_rows, size=n, replace=False), rng)

        with ThreadPoolExecutor(1) as maker:
            pending = maker.submit(make_batch, begin)
            for step in range(begin + 1, self.plan.steps + 1):
                batch, pending = pending.result(), maker.submit(make_batch, step)
                yield batch

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> _Batch:
        n_frames = round(self.plan.crop_seconds * RATE / HOP)
        whole, units = [self.audio.waveforms[k] for k in chosen], [self._units[k] for k in chosen]
        waveforms, truth = crop(whole, units, n_frames=n_frames, rng=rng)
        mask = span_mask(
            len(waveforms), truth.shape[1], fraction=self.plan.mask_fraction, span=self.plan.mask_span, rng=rng
        )
        batch = tuple(torch.from_numpy(a) for a in (waveforms, self.audio.levels[chosen], truth, mask))
        return batch if self.device == "cpu" else tuple(t.pin_memory() for t in batch)

    def _loss_and_accuracy(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Return a batch's loss, and the fraction of its masked frames that are predicted correctly."""
        waveforms, levels, units, mask = (t.to(self.device, non_blocking=True) for t in batch)
        waveforms = (waveforms / FULL_SCALE - levels[:, :1]) / levels[:, 1:]
        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            return self.model(waveforms, units, mask)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _count_correct(self, indices: np.ndarray) -> pd.DataFrame:
        """Return masked and correctly predicted frames of each utterance, with the same masks at every call."""
        self.model.eval()
        rows = []
        for k in indices:
            batch = self._batch(np.array([k]), np.random.default_rng([self.plan.seed, 3, k]))
            accuracy, masked = self._loss_and_accuracy(batch)[1], int(batch[3].sum())
            row = {name: self.audio.rows[k][name] for name in ("utterance_id", "speaker_id")}
            rows.append({**row, "masked_frames": masked, "correct_frames": round(float(accuracy) * masked)})
        return pd.DataFrame(rows)

    def _majority_accuracy(self) -> float:
        """Return the accuracy on held-out frames of always predicting the most frequent training unit."""
        counts = np.bincount(np.concatenate([self._units[k] for k in self._training_rows]), minlength=self.plan.n_units)
        return float((np.concatenate([self._units[k] for k in self._validation_rows]) == counts.argmax()).mean())


def load_label_source(source: str, *, device: str | None, progress: NullProgress | None = None) -> tuple[FramesOf, str]:
    """Return the function that computes the features to cluster, and the hash of its encoder's weights ('' for MFCC).

    Args:
        source: ``mfcc``, or ENCODER@LAYER
        device: of the encoder
        progress: receives a line while the encoder is loaded, and a note if its feature extractor is a default

    Raises:
        InputError: if no layer is named, or the encoder can't be loaded
    """
    if source == MFCC:
        return MfccFrames(), ""
    name, _, layer = source.rpartition("@")
    if not name:
        raise InputError("LP735", f"{source!r} names no layer. Write ENCODER@LAYER, or mfcc.")
    (progress or NullProgress()).log(f"Loading {name} …")
    encoder = load_audio_encoder(name, device=device, precision="float32", show_download=progress is not None)
    if encoder.preprocessing_note:
        (progress or NullProgress()).log(encoder.preprocessing_note)
    return layer_frames(encoder, layer), encoder.weights_hash()


def layer_frames(encoder: SpeechEncoder, layer: str) -> FramesOf:
    """Return a function that computes a layer's frames of a recording, for a second round.

    Raises:
        InputError: if there is no such layer, or its frame period is not 20 ms
    """
    if layer not in encoder.layers:
        raise InputError("LP734", f"{encoder.upstream} has no layer {layer!r}; it has {', '.join(encoder.layers)}.")
    position = encoder.layers.index(layer)

    def frames(waveform: np.ndarray) -> np.ndarray:
        return encoder.hidden_states(waveform)[position].float().cpu().numpy()

    n, expected = len(frames(np.zeros(RATE, dtype=np.float32))), (RATE - WINDOW) // HOP + 1
    if n != expected:
        raise InputError(
            "LP736", f"{encoder.upstream} has {n} frames per second, not {expected}. Choose another encoder."
        )
    return frames
