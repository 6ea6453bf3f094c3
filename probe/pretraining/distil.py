"""Stage: an encoder and unlabelled sound become a smaller encoder that says what chosen layers of the large one say."""

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
from layerprobe.probe.encoders.hooks import HookedEncoder
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import layer_names
from layerprobe.probe.pretraining.plans import DistilPlan
from layerprobe.probe.pretraining.student import Heads, distillation_loss, make_student, save_student
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.training.branches import FRONT_END, AudioBranch, Prepared, named_parts
from layerprobe.probe.training.encoder_folder import (
    STATE,
    TrainedEncoder,
    checked_folder,
    claim_folder,
    complete_folder,
    hold_out,
    some_of,
)
from layerprobe.probe.training.loop import LoopPlan, run_loop
from layerprobe.probe.training.schedules import schedule

PLAN = "distil.json"
LOADERS = 2  # threads that decode


def distil(
    table: pd.DataFrame, teacher: LoadedModel, plan: DistilPlan, *, out: Path | str, device: str = "cpu",
    progress: NullProgress | None = None, stop_after: int | None = None,
) -> TrainedEncoder:  # fmt: skip
    """Train a student and write it to ``out`` as a transformers folder; an interrupted run goes on where it was.

    Args:
        table: of a manifest, whose ratings are not read
        teacher: as `probe.encoders.loading.load_model` loads it
        plan: what to do
        out: the folder
        device: cpu or cuda
        progress: receives the progress
        stop_after: steps after which it is left as a kill would leave it, for tests of that

    Raises:
        InputError: if a layer is unknown, no sound can be used, or ``out`` holds another distillation
    """
    progress, out = progress or NullProgress(), Path(out)
    fingerprint = checked_folder(out, PLAN, plan, table, kind="distillation")
    with torch.random.fork_rng(devices=[]):
        run = _Run(table.sort_values("utterance_id"), teacher, plan, device)
        claim_folder(out, PLAN, plan, fingerprint)
        log = run.train(out / STATE, progress, stop_after)
        if stop_after is not None and stop_after < plan.steps:
            return TrainedEncoder(out, log, run.refused())
        save_student(run.student, teacher, out)
    return complete_folder(TrainedEncoder(out, log, run.refused()))


class _Run:
    """Teacher, student, heads and sounds of one distillation; see `probe.training.loop.Trainable`."""

    def __init__(self, table: pd.DataFrame, teacher: LoadedModel, plan: DistilPlan, device: str) -> None:
        self.plan, self.device = plan, device
        encoder: Any = teacher.family.encoder(teacher.model)
        blocks, final_norm = teacher.family.blocks(encoder), teacher.family.final_norm(encoder)
        names = layer_names(len(blocks), final_norm=final_norm is not None)
        unknown = [name for name in plan.layers if name not in names]
        if unknown or not plan.layers:
            raise InputError(f"the teacher has no layer {unknown[0] if unknown else ''!r}; it has {', '.join(names)}.")
        self._wanted = [names.index(name) for name in plan.layers]
        torch.manual_seed(plan.seed)
        self.student: AudioBranch = make_student(teacher, n_blocks=plan.n_blocks, random_init=plan.random_init)
        self.heads = Heads(self.student.dim, n_layers=len(plan.layers), teacher_dim=int(encoder.config.hidden_size))
        self._teacher = HookedEncoder(encoder.eval().requires_grad_(False).to(device), blocks, final_norm)
        for part, parameter in named_parts(self.student):
            frozen = plan.freeze_student or (part == FRONT_END and not plan.train_front_end)
            parameter.requires_grad_(not frozen)
        self.student.to(device)
        self.heads.to(device)
        self._learnt = [p for p in (*self.student.parameters(), *self.heads.parameters()) if p.requires_grad]
        rate = int(teacher.extractor.sampling_rate)
        self._sounds = AudioReader(AudioHashes(), sampling_rate=rate, max_duration=MAX_DURATION)
        self._rows: list[Row] = table.to_dict("records")
        held_out, self._heard = hold_out(table["speaker_id"].tolist(), share=plan.held_out, seed=plan.seed)
        held_out = some_of(held_out)
        self._held_out: list[int] = held_out.tolist()
        self._quarantine = Quarantine()

    def train(self, state: Path, progress: NullProgress, stop_after: int | None) -> pd.DataFrame:
        self._optimiser = torch.optim.AdamW(self._learnt, lr=self.plan.learning_rate)
        plan = LoopPlan(
            "distil",
            self.plan.steps,
            self.plan.eval_every,
            state,
            self.device,
            evaluate_first=True,
            stop_after=stop_after,
        )
        return run_loop(self, self._optimiser, plan, progress=progress)

    def refused(self) -> pd.DataFrame:
        return self._quarantine.table().sort_values("utterance_id", ignore_index=True)

    def parameters(self) -> dict[str, Tensor]:
        both = {"student": self.student, "heads": self.heads}
        return {f"{k}.{n}": p for k, module in both.items() for n, p in module.named_parameters() if p.requires_grad}

    def steps(self, begin: int) -> Iterator[float]:
        yield from map(self._step, range(begin, self.plan.steps))

    def evaluate(self) -> dict[str, float]:
        """The loss on utterances of other speakers, from the middle of each."""
        self.student.encoder.eval()
        with torch.no_grad():
            losses = [float(self._loss(one)) for one in self._load(self._held_out, None)]
        return {"held_out": float(np.mean(losses)) if losses else float("nan")}

    def note(self, row: dict[str, Any]) -> str:
        return f"held out {row['held_out']:.3f}"

    def values(self) -> dict[str, Any]:
        return {"refused": self._quarantine.refused}

    def resume(self, values: dict[str, Any]) -> None:
        self._quarantine.refused = {name: (path, reason) for name, (path, reason) in values["refused"].items()}

    def _step(self, step: int) -> float:
        rng = np.random.default_rng([self.plan.seed, 1, step])
        chosen = rng.choice(self._heard, size=min(self.plan.batch_size, len(self._heard)), replace=False)
        heard = self._load(chosen.tolist(), [np.random.default_rng([self.plan.seed, 2, step, int(k)]) for k in chosen])
        optimiser = self._optimiser
        optimiser.param_groups[0]["lr"] = self.plan.learning_rate * schedule(
            step, n_steps=self.plan.steps, warmup=self.plan.warmup
        )
        optimiser.zero_grad(set_to_none=True)
        self.student.encoder.train(not self.plan.freeze_student)
        total = 0.0
        for one in heard:
            loss = self._loss(one) / len(heard)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if heard:
            torch.nn.utils.clip_grad_norm_(self._learnt, self.plan.max_grad_norm, error_if_nonfinite=True)
            optimiser.step()
        return total

    def _loss(self, one: Prepared) -> Tensor:
        with torch.no_grad():
            states = self._teacher.states(one.inputs)
        told = [states[k][0, one.counted] for k in self._wanted]
        own = self.student.told(one.inputs)[0, one.counted]
        return distillation_loss(self.heads(own), told, cosine_weight=self.plan.cosine_weight)

    def _load(self, places: list[int], rngs: list[np.random.Generator] | None) -> list[Prepared]:
        rows, heard = [self._rows[k] for k in places], []
        found = read_audio(
            rows, lambda row: decode_waveform(self._sounds.read(row)), quarantine=self._quarantine, threads=LOADERS
        )
        for k, waveform in found:
            try:
                heard.append(self.student.prepare(self._cropped(waveform, None if rngs is None else rngs[k])))
            except InvalidAudioError as error:
                self._quarantine.refuse(rows[k], str(error))
        return heard

    def _cropped(self, waveform: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        n = round(self.plan.crop_seconds * self.student.sampling_rate)
        if len(waveform) <= n:
            return waveform
        begin = (len(waveform) - n) // 2 if rng is None else int(rng.integers(len(waveform) - n + 1))
        return waveform[begin : begin + n]
