"""Stage: an encoder and unlabelled sound become a smaller encoder that says what chosen layers of the large one say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layerprobe.probe.data.audio import UnusableSound
from layerprobe.probe.data.audio_hashes import Row, SoundHashes
from layerprobe.probe.data.inputs import LONGEST_SECONDS, SoundSource
from layerprobe.probe.encoders.hooks import HookedEncoder
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import layer_names
from layerprobe.probe.pretraining.student import Heads, distillation_loss, make_student, save_student
from layerprobe.probe.progress import Silent
from layerprobe.probe.training.branches import FRONT_END, AudioBranch, Prepared, named_parts
from layerprobe.probe.training.checkpoints import (
    chance_tensors,
    optimiser_tensors,
    read_state,
    restore_chance,
    restore_optimiser,
    write_state,
)
from layerprobe.probe.training.encoder_folder import (
    STATE,
    EncoderMade,
    checked_folder,
    claim_folder,
    finish_folder,
    hold_out,
    some_of,
)
from layerprobe.probe.training.schedules import schedule

PLAN = "distil.json"


@dataclass(frozen=True)
class DistilPlan:
    """Every choice of a distillation; equal plans on equal sounds mean equal students, on the CPU bit for bit."""

    teacher: str
    revision: str
    weights: str  # hash of the teacher's tensors
    n_blocks: int
    layers: tuple[str, ...]  # of the teacher that are predicted
    random_init: int | None  # seed of a student that begins without the teacher's weights
    heads_only: bool  # whether the student stays as it began, the fair comparison
    train_front_end: bool
    cosine_weight: float
    steps: int
    batch_size: int  # utterances a step, each heard alone
    crop_seconds: float  # of longer sounds a piece of this length at a random place is heard
    learning_rate: float
    warmup: float  # share of the steps
    clip: float  # the gradient's largest norm
    held_out: float  # share of the speakers
    every: int  # steps between two looks at the held-out loss
    seed: int


def default_layers(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Three layers spread over the depth, as in the paper 4, 8 and 12 of twelve blocks.

    >>> default_layers(tuple(map(str, range(13)))), default_layers(("0", "1", "2", "3", "4", "final"))
    (('4', '8', '12'), ('1', '3', '4'))
    """
    n = sum(name.isdecimal() for name in layers) - 1
    return tuple(dict.fromkeys(str(max(1, round(n * k / 3))) for k in (1, 2, 3)))


def distil(
    table: pd.DataFrame, teacher: LoadedModel, plan: DistilPlan, *, out: Path | str, device: str = "cpu",
    watch: Silent | None = None, stop_after: int | None = None,
) -> EncoderMade:  # fmt: skip
    """Train a student and write it to ``out`` as a transformers folder; an interrupted run goes on where it was.

    Args:
        table: of a manifest, whose ratings are not read
        teacher: as `probe.encoders.loading.load_model` loads it
        plan: what to do
        out: the folder
        device: cpu or cuda
        watch: is told how far it is
        stop_after: steps after which it is left as a kill would leave it, for tests of that

    Raises:
        InputError: if a layer is unknown, no sound can be used, or ``out`` holds another distillation
    """
    watch, out = watch or Silent(), Path(out)
    fingerprint = checked_folder(out, PLAN, plan, table, kind="distillation")
    with torch.random.fork_rng(devices=[]):
        run = _Run(table.sort_values("utterance_id"), teacher, plan, device)
        claim_folder(out, PLAN, plan, fingerprint)
        log = run.train(out / STATE, watch, stop_after)
        if stop_after is not None and stop_after < plan.steps:
            return EncoderMade(out, log, run.quarantine())
        save_student(run.student, teacher, out)
    return finish_folder(EncoderMade(out, log, run.quarantine()))


class _Run:
    """Teacher, student, heads and sounds of one distillation."""

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
            frozen = plan.heads_only or (part == FRONT_END and not plan.train_front_end)
            parameter.requires_grad_(not frozen)
        self.student.to(device)
        self.heads.to(device)
        self._learnt = [p for p in (*self.student.parameters(), *self.heads.parameters()) if p.requires_grad]
        rate = int(teacher.extractor.sampling_rate)
        self._sounds = SoundSource(SoundHashes(), sampling_rate=rate, longest_seconds=LONGEST_SECONDS)
        self._rows: list[Row] = table.to_dict("records")
        held_out, self._heard = hold_out(table["speaker_id"].tolist(), share=plan.held_out, seed=plan.seed)
        held_out = some_of(held_out)
        self._held_out: list[int] = held_out.tolist()
        self._refused: dict[str, tuple[str, str]] = {}

    def train(self, state_folder: Path, watch: Silent, stop_after: int | None) -> pd.DataFrame:
        plan = self.plan
        optimiser = torch.optim.AdamW(self._learnt, lr=plan.learning_rate)
        done, log, losses = self._restored(state_folder, optimiser)
        if not log:
            log.append({"step": 0, "loss": float("nan"), "held_out": self._held_out_loss()})
        watch.begin("distil", plan.steps, "steps")
        watch.advance(done)
        try:
            for step in range(done, plan.steps):
                losses.append(self._step(optimiser, step))
                watch.advance(1, f"loss {np.mean(losses[-20:]):.3f}, held out {log[-1]['held_out']:.3f}")
                if step + 1 == stop_after:
                    break
                if (step + 1) % plan.every == 0 or step + 1 == plan.steps:
                    told = self._held_out_loss()
                    log.append({"step": step + 1, "loss": float(np.mean(losses)), "held_out": told})
                    losses = []
                    self._save(state_folder, optimiser, step + 1, log)
        finally:
            watch.end()
        return pd.DataFrame(log)

    def quarantine(self) -> pd.DataFrame:
        rows = [(name, *rest) for name, rest in sorted(self._refused.items())]
        return pd.DataFrame(rows, columns=["utterance_id", "path", "reason"])

    def _step(self, optimiser: torch.optim.Optimizer, step: int) -> float:
        rng = np.random.default_rng([self.plan.seed, 1, step])
        chosen = rng.choice(self._heard, size=min(self.plan.batch_size, len(self._heard)), replace=False)
        heard = self._load(chosen.tolist(), [np.random.default_rng([self.plan.seed, 2, step, int(k)]) for k in chosen])
        optimiser.param_groups[0]["lr"] = self.plan.learning_rate * schedule(
            step, n_steps=self.plan.steps, warmup=self.plan.warmup
        )
        optimiser.zero_grad(set_to_none=True)
        self.student.encoder.train(not self.plan.heads_only)
        total = 0.0
        for one in heard:
            loss = self._loss(one) / len(heard)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if heard:
            torch.nn.utils.clip_grad_norm_(self._learnt, self.plan.clip, error_if_nonfinite=True)
            optimiser.step()
        return total

    def _loss(self, one: Prepared) -> Tensor:
        with torch.no_grad():
            states = self._teacher.states(one.inputs)
        told = [states[k][0, one.counted] for k in self._wanted]
        own = self.student.told(one.inputs)[0, one.counted]
        return distillation_loss(self.heads(own), told, cosine_weight=self.plan.cosine_weight)

    def _held_out_loss(self) -> float:
        """Of utterances of other speakers, from the middle of each."""
        self.student.encoder.eval()
        with torch.no_grad():
            losses = [float(self._loss(one)) for one in self._load(self._held_out, None)]
        return float(np.mean(losses)) if losses else float("nan")

    def _load(self, places: list[int], rngs: list[np.random.Generator] | None) -> list[Prepared]:
        with ThreadPoolExecutor(2) as pool:
            materials = list(pool.map(self._sounds.read, [self._rows[k] for k in places]))
        heard = []
        for number, (place, material) in enumerate(zip(places, materials, strict=True)):
            row, reason = self._rows[place], material.reason
            try:
                if not reason:
                    assert isinstance(material.what, np.ndarray)
                    rng = None if rngs is None else rngs[number]
                    heard.append(self.student.prepare(self._cropped(material.what, rng)))
            except UnusableSound as error:
                reason = str(error)
            if reason:
                self._refused[str(row["utterance_id"])] = (str(row["path"]), reason)
        return heard

    def _cropped(self, waveform: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        n = round(self.plan.crop_seconds * self.student.sampling_rate)
        if len(waveform) <= n:
            return waveform
        begin = (len(waveform) - n) // 2 if rng is None else int(rng.integers(len(waveform) - n + 1))
        return waveform[begin : begin + n]

    def _named(self) -> dict[str, Tensor]:
        both = {"student": self.student, "heads": self.heads}
        return {f"{k}.{n}": p for k, module in both.items() for n, p in module.named_parameters() if p.requires_grad}

    def _save(self, folder: Path, optimiser: torch.optim.Optimizer, done: int, log: list[dict[str, Any]]) -> None:
        model = {f"model.{n}": p for n, p in self._named().items()}
        tensors = model | optimiser_tensors(optimiser) | chance_tensors(self.device)
        write_state(folder, tensors, {"steps": done, "log": log, "refused": self._refused})

    def _restored(
        self, folder: Path, optimiser: torch.optim.Optimizer
    ) -> tuple[int, list[dict[str, Any]], list[float]]:
        state = read_state(folder)
        if state is None:
            return 0, [], []
        tensors, values = state
        with torch.no_grad():
            for name, parameter in self._named().items():
                parameter.copy_(tensors[f"model.{name}"])
        restore_optimiser(optimiser, tensors)
        restore_chance(tensors, self.device)
        self._refused = {k: (v[0], v[1]) for k, v in values["refused"].items()}
        return values["steps"], values["log"], []
