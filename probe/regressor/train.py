"""Stage: a manifest and encoders become a trained regressor, its held-out predictions and scores."""

from __future__ import annotations

import contextlib
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.metrics import MomentMatching
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset
from layerprobe.probe.regressor.freezing import freeze
from layerprobe.probe.regressor.plan import DEVELOPMENT, TRAIN, Encoders, TrainPlan, check_training
from layerprobe.probe.regressor.saving import (
    MODEL,
    REGRESSOR,
    build,
    load_regressors,
    read_regressor,
    write_configurations,
    write_regressor,
    write_weights,
)
from layerprobe.probe.regressor.trainer import BEST, LAST, Training
from layerprobe.probe.results.predictions import (
    ALL_LAYERS,
    PredictionBuilder,
    ProbeResults,
    SweepData,
    held_out_predictions,
)
from layerprobe.probe.results.run_folder import (
    JOINED,
    LABELS,
    TRAINED,
    WEIGHT_COLUMNS,
    Run,
    check_same_run,
    score_table,
    write_run,
)
from layerprobe.probe.splits import Split, speaker_groups
from layerprobe.probe.version import layerprobe_version

LEVEL = 0.9  # of the intervals around a prediction
DEALT = "dealt"  # the name of the split where speakers are dealt


@dataclass(frozen=True)
class SpeakerSplit:
    """Rows of the sounds, by what they are for."""

    train: np.ndarray
    development: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _Material:
    """What every seed of a training shares."""

    parts: Encoders
    plan: TrainPlan
    sounds: UtteranceDataset
    ratings: np.ndarray  # (n_utterances, n_targets)
    shares: SpeakerSplit


def train(
    manifest: Manifest,
    parts: Encoders,
    plan: TrainPlan,
    *,
    out: Path | str,
    device: str = "cpu",
    command: str = "",
    progress: NullProgress | None = None,
) -> Run:
    """Train a regressor of each seed, predict the speakers that were held out, and write ``out``.

    A training that was interrupted goes on at its last saved step; the weights are those it would have had. Sounds that
    can't be used are quarantined with their reason.

    Args:
        manifest: what was rated
        parts: the encoders, as `probe.regressor.plan.plan_training` loads them
        plan: with the choices that came of that
        out: the run folder
        device: cpu or cuda
        command: the command line, to be written down
        progress: receives the progress

    Raises:
        InputError: if the plan can't be carried out on this manifest, or ``out`` holds another run
    """
    progress, out = progress or NullProgress(), Path(out)
    check_training(plan, manifest)
    fingerprint = combined_fingerprint(plan.fingerprint(), manifest.content_hash())
    check_same_run(out, fingerprint)
    _refuse_other_training(out, fingerprint)
    rated = manifest.table[list(plan.targets)].notna().all(axis=1)
    table = manifest.table[rated].sort_values("utterance_id")
    with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
        regressor = build(parts, plan)
        freeze(regressor, plan.frozen)
        regressor.to(device)
        sounds = UtteranceDataset(
            table, regressor, text_column=plan.text_column, max_duration=plan.max_duration, progress=progress
        )
        stack.callback(sounds.close)
        shares = assign_speakers(sounds.table, plan)
        ratings = sounds.table[list(plan.targets)].to_numpy(dtype=np.float64)
        _refuse_constant(ratings[shares.train], plan)
        sounds.keep_frozen_states(out, plan, progress=progress)
        write_configurations(out, parts)
        write_regressor(out, plan, fingerprint=fingerprint, intervals={})
        material = _Material(parts, plan, sounds, ratings, shares)
        inner, outer = [], []
        for seed in plan.seeds:
            fitted = _of_seed(material, seed, out, device=device, progress=progress)
            inner.append(fitted.predict(shares.development))
            outer.append(fitted.predict(shares.test))
    intervals = half_widths(ratings[shares.development] - np.mean(inner, axis=0), plan.targets)
    write_regressor(out, plan, fingerprint=fingerprint, intervals=intervals)
    finished, data = _predictions(material, inner, outer)
    content = _content(manifest, material, command=command, n_not_rated=int((~rated).sum()))
    weights = pd.DataFrame(columns=list(WEIGHT_COLUMNS))
    quarantine = sounds.quarantine.assign(encoder=_name(plan))[["encoder", "utterance_id", "path", "reason"]]
    run = Run(fingerprint, content, score_table(finished.scores), weights, quarantine, out)
    write_run(run, held_out_predictions(finished.columns, data))
    for seed in plan.seeds:
        for leftover in (LAST, BEST):
            shutil.rmtree(out / f"seed-{seed}" / leftover, ignore_errors=True)
    return run


def assign_speakers(table: pd.DataFrame, plan: TrainPlan) -> SpeakerSplit:
    """Rows to learn from, to stop by and to be judged on, with no speaker in two.

    Without a split in the plan a fifth of the speakers is held out and a fifth stops, dealt by the first seed.

    Raises:
        InputError: if one of the three is empty, or a speaker is in two
    """
    groups = speaker_groups(table["speaker_id"].to_numpy())
    if plan.test_split is not None:
        split = table["split"].to_numpy()
        shares = SpeakerSplit(*(np.flatnonzero(split == name) for name in (TRAIN, DEVELOPMENT, plan.test_split)))
        for a, b in (
            (shares.train, shares.development),
            (shares.train, shares.test),
            (shares.development, shares.test),
        ):
            both = np.intersect1d(groups[a], groups[b])
            if len(both):
                name = table["speaker_id"].to_numpy()[groups == both[0]][0]
                raise InputError(
                    f"speaker {name!r} is on both sides of the split. Correct it, or leave --test-split out."
                )
    else:
        speakers = np.random.default_rng(plan.seeds[0]).permutation(np.unique(groups))
        fifth = max(1, round(len(speakers) / 5))
        of = np.full(groups.max() + 1, 0)
        of[speakers[:fifth]], of[speakers[fifth : 2 * fifth]] = 2, 1
        shares = SpeakerSplit(*(np.flatnonzero(of[groups] == k) for k in range(3)))
    for name, rows in asdict(shares).items():
        if len(rows) < 2:
            raise InputError(f"there are {len(rows)} usable utterances for {name}; two are needed at least.")
    return shares


def half_widths(residuals: np.ndarray, targets: tuple[str, ...], *, level: float = LEVEL) -> dict[str, Any]:
    """How far ratings are from predictions in that share of cases (split conformal: Lei et al., 2018).

    Args:
        residuals: ``(n_utterances, n_targets)`` of utterances that nothing was fitted to
        targets: their names
        level: share of ratings within the interval
    """
    n = len(residuals)
    rank = min(n, math.ceil((n + 1) * level)) - 1
    widths = np.sort(np.abs(residuals), axis=0)[rank]
    return {"level": level, "half_width": dict(zip(targets, map(float, widths), strict=True))}


def parameter_counts(parts: Encoders, plan: TrainPlan) -> dict[str, int]:
    """All parameters of the regressor, and those that were trained."""
    with torch.random.fork_rng(devices=[]):
        regressor = build(parts, plan)
    freeze(regressor, plan.frozen)
    eval_every = list(regressor.parameters())
    return {
        "total": sum(p.numel() for p in eval_every),
        "trainable": sum(p.numel() for p in eval_every if p.requires_grad),
    }


def _of_seed(material: _Material, seed: int, out: Path, *, device: str, progress: NullProgress) -> Training:
    """Train one seed, or load it where it is done."""
    plan, sounds, ratings, shares = material.plan, material.sounds, material.ratings, material.shares
    folder = out / f"seed-{seed}"
    if (folder / MODEL).exists():
        found = zip(plan.seeds, load_regressors(read_regressor(out), device=device), strict=False)  # up to this seed
        loaded = next(regressor for one, regressor in found if one == seed)
        return Training(loaded, sounds, plan, folder=folder)
    torch.manual_seed(seed)
    regressor = build(material.parts, plan)
    freeze(regressor, plan.frozen)
    regressor.get_buffer("mean").copy_(torch.tensor(ratings[shares.train].mean(axis=0)))
    regressor.get_buffer("spread").copy_(torch.tensor(ratings[shares.train].std(axis=0)))
    training = Training(regressor.to(device), sounds, plan, folder=folder)
    fit = training.run(ratings, train=shares.train, development=shares.development, seed=seed, progress=progress)
    progress.log(f"seed {seed}: best after epoch {fit.best_epoch}, development CCC {fit.best_score:.3f}")
    write_weights(regressor, folder)
    return training


def _name(plan: TrainPlan) -> str:
    """Both encoders' names as one, for the column ``encoder``."""
    return JOINED.join(c.upstream.rsplit("/", 1)[-1] for c in (plan.audio, plan.text) if c is not None)


def _predictions(
    material: _Material, inner: list[np.ndarray], outer: list[np.ndarray]
) -> tuple[ProbeResults, SweepData]:
    """Held-out predictions of all seeds with their scores, ``outer``; matched by those of development, ``inner``."""
    plan, table, ratings, shares = material.plan, material.sounds.table, material.ratings, material.shares
    split = Split(
        plan.test_split or DEALT, shares.train, shares.test, inner_folds=np.zeros(len(shares.train), dtype=int)
    )
    labels = {k: table[k].to_numpy(dtype=object).astype(str) for k in LABELS if k in table}
    speaker_ids = table["speaker_id"].to_numpy(dtype=object)
    ids, groups = table["utterance_id"].to_numpy(dtype=object), speaker_groups(speaker_ids)
    data = SweepData(ids, speaker_ids, groups, ratings, np.empty((len(table), 0), dtype=np.int64), [split], labels)
    columns = []
    for seed, developed, predicted in zip(plan.seeds, inner, outer, strict=True):
        for k, target in enumerate(plan.targets):
            keys = {"encoder": _name(plan), "probe": TRAINED, "layer": ALL_LAYERS, "target": target, "control": "none"}
            builder = PredictionBuilder({**keys, "seed": seed}, ratings[:, k])
            match = MomentMatching.learn(ratings[shares.development, k], developed[:, k])
            builder.add(split, predicted[:, k], match)
            columns.append(builder.build())
    return ProbeResults.from_columns(columns, data), data


def _content(manifest: Manifest, material: _Material, *, command: str, n_not_rated: int) -> dict[str, Any]:
    """The content of plan.toml: what was trained, on whom, by which choices."""
    plan, sounds, shares = material.plan, material.sounds, material.shares
    table = sounds.table
    content: dict[str, Any] = {
        "command": command,
        "layerprobe_version": layerprobe_version(),
        "manifest": str(manifest.path),
        "corpus": {
            "name": manifest.header.corpus,
            "version": manifest.header.version,
            "notes": manifest.header.notes,
            "content": manifest.content_hash(),
            "n_utterances": len(table),
            "n_speakers": len(np.unique(speaker_groups(table["speaker_id"].to_numpy(dtype=object)))),
            "n_quarantined": len(sounds.quarantine),
            "n_not_rated": n_not_rated,
            "n_without_text": 0 if plan.text is None else int((table[plan.text_column].str.strip() == "").sum()),
            "n_train": len(shares.train),
            "n_development": len(shares.development),
            "n_held_out": len(shares.test),
        },
        "sweep": {
            "targets": list(plan.targets),
            "test_split": plan.test_split or DEALT,
            "fingerprint": plan.fingerprint(),
        },
        "training": {k: v for k, v in plan.to_json().items() if v is not None and k not in ("audio", "text")},
        "random_weights": [],
    }
    for kind, choice in (("audio", plan.audio), ("text", plan.text)):
        if choice is not None:
            content[kind] = {k: v for k, v in asdict(choice).items() if v is not None}
    content["encoders"] = []
    content["parameters"] = parameter_counts(material.parts, plan)
    return content


def _refuse_other_training(out: Path, fingerprint: str) -> None:
    if (out / REGRESSOR).exists() and (found := read_regressor(out).fingerprint) != fingerprint:
        raise InputError(
            f"{out} holds another training ({found}, not {fingerprint}): other encoders, ratings or settings. "
            "Name another --out."
        )


def _refuse_constant(ratings: np.ndarray, plan: TrainPlan) -> None:
    for k, target in enumerate(plan.targets):
        if np.ptp(ratings[:, k]) == 0:
            raise InputError(f"{target} has one value only in the training speakers; nothing can be learnt of it.")
