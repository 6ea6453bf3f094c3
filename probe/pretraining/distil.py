"""Stage: distil a smaller encoder that predicts chosen layers of a large one on unlabelled audio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import AudioHashes, Row
from layerprobe.probe.data.audio_reader import Quarantine, decode_waveform, read_audio
from layerprobe.probe.data.inputs import MAX_DURATION, AudioReader
from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.encoders.loading import check_forward, load_model
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.hooks import HookedEncoder
from layerprobe.probe.layer_names import layer_names
from layerprobe.probe.lease import leased_folder
from layerprobe.probe.pretraining.plans import DistilPlan, plan_distillation
from layerprobe.probe.pretraining.settings import DistilOptions
from layerprobe.probe.pretraining.student import Heads, distillation_loss, make_student, save_student
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.training.branches import FRONT_END, AudioBranch, Prepared, named_parts
from layerprobe.probe.training.checkpoints import forked_rng
from layerprobe.probe.training.encoder_folder import (
    STATE,
    TrainedEncoder,
    check_folder,
    claim_folder,
    complete_folder,
    evenly_chosen,
    hold_out_speakers,
)
from layerprobe.probe.training.loop import LoopPlan, run_loop
from layerprobe.probe.training.schedules import schedule

PLAN = "distil.json"
LOADERS = 2  # threads that decode audio


def distil(
    table: pd.DataFrame | Path | str, teacher: str, options: DistilOptions, *, out: Path | str, device: str = "cpu",
    progress: NullProgress | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Distil a small student from a speech encoder: it learns to predict the teacher's layers on unlabelled audio.

    The method is DistilHuBERT's (Chang, Yang and Lee, 2022). An interrupted distillation is resumed.

    Args:
        table: file (.csv, .parquet), or its content, with ``utterance_id`` and ``path``; ratings are not read
        teacher: hub name with an optional @revision, or a folder
        options: the student's blocks, the teacher's layers, and the training
        out: transformers folder to write, which `load_encoder` reads
        device: cpu or cuda
        progress: receives the progress

    Returns:
        the folder, the log (step, loss and validation loss) and the quarantine

    Raises:
        InputError: if a layer is unknown, no audio can be used, or ``out`` holds another distillation
    """
    if not isinstance(table, pd.DataFrame):
        table = read_utterances(table)
    (progress or NullProgress()).log(f"Loading {teacher} …")
    loaded = load_model(teacher, show_download=progress is not None)
    check_forward(loaded, teacher)
    if loaded.preprocessing_note:
        (progress or NullProgress()).log(loaded.preprocessing_note)
    plan = plan_distillation(loaded, options)
    return run_distillation(table, loaded, plan, out=out, device=device, progress=progress)


def run_distillation(
    table: pd.DataFrame, teacher: LoadedModel, plan: DistilPlan, *, out: Path | str, device: str = "cpu",
    progress: NullProgress | None = None, stop_after: int | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Carry out a plan of `plan_distillation`; see `distil`.

    Args:
        table: the manifest's table
        teacher: the teacher that `load_model` loaded
        plan: every choice of the distillation
        out: transformers folder to write
        device: cpu or cuda
        progress: receives the progress
        stop_after: steps after which training stops as a kill would stop it, for tests

    Raises:
        InputError: if a layer is unknown, no audio can be used, or ``out`` holds another distillation or is being
            written by another process
    """
    progress, out = progress or NullProgress(), Path(out)
    fingerprint = check_folder(out, PLAN, plan, table, kind="distillation")
    with leased_folder(out), forked_rng(device):
        run = _Run(table.sort_values("utterance_id"), teacher, plan, device)
        claim_folder(out, PLAN, plan, fingerprint)
        log = run.train(out / STATE, progress, stop_after)
        if stop_after is not None and stop_after < plan.steps:
            return TrainedEncoder(out, log, run.quarantine())
        save_student(run.student, teacher, out)
        return complete_folder(TrainedEncoder(out, log, run.quarantine()))


class _Run:
    """Teacher, student, heads and audio of one distillation; see `probe.training.loop.Trainable`."""

    def __init__(self, table: pd.DataFrame, teacher: LoadedModel, plan: DistilPlan, device: str) -> None:
        self.plan, self.device = plan, device
        encoder: Any = teacher.family.encoder(teacher.model)
        blocks, final_norm = teacher.family.blocks(encoder), teacher.family.final_norm(encoder)
        names = layer_names(len(blocks), final_norm=final_norm is not None)
        unknown = [name for name in plan.layers if name not in names]
        if unknown or not plan.layers:
            raise InputError(
                "LP734", f"the teacher has no layer {unknown[0] if unknown else ''!r}; it has {', '.join(names)}."
            )
        self._teacher_layers = [names.index(name) for name in plan.layers]
        torch.manual_seed(plan.seed)
        self.student: AudioBranch = make_student(teacher, n_blocks=plan.n_blocks, random_init=plan.random_init)
        self.heads = Heads(self.student.dim, n_layers=len(plan.layers), teacher_dim=int(encoder.config.hidden_size))
        self._teacher = HookedEncoder(encoder.eval().requires_grad_(False).to(device), blocks, final_norm)
        for part, parameter in named_parts(self.student):
            frozen = plan.freeze_student or (part == FRONT_END and not plan.train_front_end)
            parameter.requires_grad_(not frozen)
        self.student.to(device)
        self.heads.to(device)
        self._trained = [p for p in (*self.student.parameters(), *self.heads.parameters()) if p.requires_grad]
        rate = int(teacher.extractor.sampling_rate)
        self._reader = AudioReader(AudioHashes(), sampling_rate=rate, max_duration=MAX_DURATION, reading=plan.reading)
        self._rows: list[Row] = table.to_dict("records")
        speakers = table["speaker_id"].tolist()
        held_out, self._training_rows = hold_out_speakers(speakers, fraction=plan.held_out, seed=plan.seed)
        self._validation_rows: list[int] = evenly_chosen(held_out).tolist()
        self._quarantine = Quarantine()

    def train(self, state: Path, progress: NullProgress, stop_after: int | None) -> pd.DataFrame:
        self._optimiser = torch.optim.AdamW(self._trained, lr=self.plan.learning_rate)
        plan = LoopPlan(
            "distil",
            self.plan.steps,
            self.plan.eval_every,
            state,
            self.device,
            evaluate_first=True,
            stop_after=stop_after,
        )
        losses = run_loop(self, self._optimiser, plan, progress=progress)
        self._reader.log_remarks(progress)
        return losses

    def quarantine(self) -> pd.DataFrame:
        return self._quarantine.table().sort_values("utterance_id", ignore_index=True)

    def parameters(self) -> dict[str, Tensor]:
        both = {"student": self.student, "heads": self.heads}
        return {f"{k}.{n}": p for k, module in both.items() for n, p in module.named_parameters() if p.requires_grad}

    def steps(self, begin: int) -> Iterator[float]:
        yield from map(self._step, range(begin, self.plan.steps))

    def evaluate(self) -> dict[str, float]:
        """Return the loss on held-out speakers, of the middle of each utterance."""
        self.student.encoder.eval()
        with torch.no_grad():
            losses = [float(self._loss(one)) for one in self._load(self._validation_rows, None)]
        return {"validation_loss": float(np.mean(losses)) if losses else float("nan")}

    def note(self, row: dict[str, Any]) -> str:
        return f"validation loss {row['validation_loss']:.3f}"

    def values(self) -> dict[str, Any]:
        return {"quarantine": self._quarantine.refused}

    def resume(self, values: dict[str, Any]) -> None:
        self._quarantine.refused = {name: (path, reason) for name, (path, reason) in values["quarantine"].items()}

    def _step(self, step: int) -> float:
        rng = np.random.default_rng([self.plan.seed, 1, step])
        size = min(self.plan.batch_size, len(self._training_rows))
        chosen = rng.choice(self._training_rows, size=size, replace=False)
        batch = self._load(chosen.tolist(), [np.random.default_rng([self.plan.seed, 2, step, int(k)]) for k in chosen])
        optimiser = self._optimiser
        optimiser.param_groups[0]["lr"] = self.plan.learning_rate * schedule(
            step, n_steps=self.plan.steps, warmup=self.plan.warmup
        )
        optimiser.zero_grad(set_to_none=True)
        self.student.encoder.train(not self.plan.freeze_student)
        total = 0.0
        for one in batch:
            loss = self._loss(one) / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if batch:
            torch.nn.utils.clip_grad_norm_(self._trained, self.plan.max_grad_norm, error_if_nonfinite=True)
            optimiser.step()
        return total

    def _loss(self, one: Prepared) -> Tensor:
        with torch.no_grad():
            states = self._teacher.states(one.inputs)
        targets = [states[k][0, one.counted] for k in self._teacher_layers]
        prediction = self.heads(self.student.encode(one.inputs)[0, one.counted])
        return distillation_loss(prediction, targets, cosine_weight=self.plan.cosine_weight)

    def _load(self, indices: list[int], rngs: list[np.random.Generator] | None) -> list[Prepared]:
        rows, batch = [self._rows[k] for k in indices], []
        found = read_audio(
            rows, lambda row: decode_waveform(self._reader.read(row)), quarantine=self._quarantine, threads=LOADERS
        )
        for k, waveform in found:
            try:
                batch.append(self.student.prepare(self._crop(waveform, None if rngs is None else rngs[k])))
            except InvalidAudioError as error:
                self._quarantine.refuse(rows[k], str(error))
        return batch

    def _crop(self, waveform: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        n = round(self.plan.crop_seconds * self.student.sampling_rate)
        if len(waveform) <= n:
            return waveform
        begin = (len(waveform) - n) // 2 if rng is None else int(rng.integers(len(waveform) - n + 1))
        return waveform[begin : begin + n]
