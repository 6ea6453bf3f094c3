"""Stage: train a regressor on a manifest, predict its held-out speakers and score the predictions."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.lease import leased_folder
from layerprobe.probe.metrics import MomentMatching
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset
from layerprobe.probe.regressor.freezing import freeze
from layerprobe.probe.regressor.plan import DEVELOPMENT, TRAIN, Encoders, TrainPlan, check_training, plan_training
from layerprobe.probe.regressor.prediction_intervals import half_widths
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
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
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
from layerprobe.probe.toml import check_encodable
from layerprobe.probe.training.checkpoints import forked_rng
from layerprobe.probe.vectors import varies_by_rounding
from layerprobe.probe.version import layerprobe_version

RANDOM_SPLIT = "random"  # name of the split where speakers are assigned at random


@dataclass(frozen=True)
class SpeakerSplit:
    """Row indices of the utterances to train on, to stop early by and to evaluate on."""

    train: np.ndarray
    development: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _TrainingData:
    """Encoders, plan, utterances, ratings and split, which all seeds of a training have in common."""

    encoders: Encoders
    plan: TrainPlan
    dataset: UtteranceDataset
    ratings: np.ndarray  # (n_utterances, n_targets)
    rows: SpeakerSplit


def train(
    manifest: Manifest | Path | str,
    encoders: EncoderOptions,
    *,
    out: Path | str,
    head: HeadOptions | None = None,
    optimiser: OptimiserOptions | None = None,
    device: str = "cpu",
    progress: NullProgress | None = None,
) -> Run:
    """Fine-tune speech and text encoders jointly to predict ratings, and evaluate them on held-out speakers.

    An interrupted training resumes at its last checkpoint, on the CPU to the same weights. Unusable utterances are
    quarantined with the reason.

    Args:
        manifest: manifest with ratings, or its path
        encoders: speech encoder, text encoder or both, the layers that are pooled, and frozen parts
        out: run folder to write
        head: targets, pooling, fusion and head; the defaults if None
        optimiser: split, batches, learning rates, early stopping and seeds; the defaults if None
        device: cpu or cuda
        progress: receives the progress

    Returns:
        the run, as `read_run` reads it: scores on held-out speakers, plan and quarantine

    Raises:
        InputError: if an encoder can't be loaded, a choice does not fit the manifest, or ``out`` holds another run
    """
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(manifest, columns=(encoders.text_column,))
    loaded, plan = plan_training(
        manifest, encoders=encoders, head=head, optimiser=optimiser, device=device, show_download=progress is not None
    )
    return run_training(manifest, loaded, plan, out=out, device=device, progress=progress)


def run_training(
    manifest: Manifest,
    encoders: Encoders,
    plan: TrainPlan,
    *,
    out: Path | str,
    device: str = "cpu",
    command: str = "",
    progress: NullProgress | None = None,
) -> Run:
    """Carry out a plan of `plan_training`: train each seed, predict the held-out speakers, and write the run folder.

    Args:
        manifest: manifest with ratings
        encoders: the encoders that `plan_training` loaded
        plan: the plan that it made
        out: run folder to write; an interrupted training is resumed
        device: cpu or cuda
        command: the command line, for the run's provenance
        progress: receives the progress

    Raises:
        InputError: if the plan does not fit the manifest, or ``out`` holds another run or has another writer
    """
    progress, out = progress or NullProgress(), Path(out)
    check_training(plan, manifest)
    fingerprint = combined_fingerprint(plan.fingerprint(), manifest.content_hash())
    check_encodable((str(manifest.path), command, manifest.header.corpus, manifest.header.notes))
    if note := check_same_run(out, fingerprint):
        progress.log(note)
    _check_same_training(out, fingerprint)
    if encoders.preprocessing_note:
        progress.log(encoders.preprocessing_note)
    rated = manifest.table[list(plan.targets)].notna().all(axis=1)
    table = manifest.table[rated].sort_values("utterance_id")
    with leased_folder(out) as lease, forked_rng(device), contextlib.ExitStack() as stack:
        regressor = build(encoders, plan)
        freeze(regressor, plan.frozen)
        regressor.to(device)
        dataset = UtteranceDataset(table, regressor, plan=plan, progress=progress)
        stack.callback(dataset.close)
        rows = assign_speakers(dataset.table, plan)
        ratings = dataset.table[list(plan.targets)].to_numpy(dtype=np.float64)
        _check_constant_targets(ratings[rows.train], plan)
        dataset.save_frozen_states(out, plan, progress=progress)
        write_configurations(out, encoders)
        write_regressor(out, plan, fingerprint=fingerprint, intervals={})
        data = _TrainingData(encoders, plan, dataset, ratings, rows)
        development, test = [], []
        for seed in plan.seeds:
            fitted = _train_seed(data, seed, out, device=device, progress=progress)
            development.append(fitted.predict(rows.development))
            test.append(fitted.predict(rows.test))
        intervals = half_widths(ratings[rows.development] - np.mean(development, axis=0), plan.targets)
        write_regressor(out, plan, fingerprint=fingerprint, intervals=intervals)
        results, sweep_data = _score(data, development, test)
        content = _plan_content(manifest, data, command=command, n_not_rated=int((~rated).sum()))
        weights = pd.DataFrame(columns=list(WEIGHT_COLUMNS))
        quarantine = dataset.quarantine.assign(encoder=_encoder_name(plan))
        columns = ["encoder", "utterance_id", "path", "reason"]
        run = Run(fingerprint, content, score_table(results.scores), weights, quarantine[columns], out)
        lease.check()
        write_run(run, held_out_predictions(results.columns, sweep_data))
        for seed in plan.seeds:
            for leftover in (LAST, BEST):
                shutil.rmtree(out / f"seed-{seed}" / leftover, ignore_errors=True)
    return run


def assign_speakers(table: pd.DataFrame, plan: TrainPlan) -> SpeakerSplit:
    """Split utterances into training, development and test rows, with no speaker in two of them.

    Without a split in the plan the first seed assigns a fifth of the speakers to test and a fifth to development.

    Raises:
        InputError: if one of the three is empty, or a speaker is in two
    """
    groups = speaker_groups(table["speaker_id"].to_numpy())
    if plan.test_split is not None:
        split = table["split"].to_numpy()
        assigned = SpeakerSplit(*(np.flatnonzero(split == name) for name in (TRAIN, DEVELOPMENT, plan.test_split)))
        for a, b in (
            (assigned.train, assigned.development),
            (assigned.train, assigned.test),
            (assigned.development, assigned.test),
        ):
            both = np.intersect1d(groups[a], groups[b])
            if len(both):
                name = table["speaker_id"].to_numpy()[groups == both[0]][0]
                raise InputError(
                    "LP712", f"speaker {name!r} is in two splits. Correct the manifest, or omit --test-split."
                )
    else:
        speakers = np.random.default_rng(plan.seeds[0]).permutation(np.unique(groups))
        fifth = max(1, round(len(speakers) / 5))
        part = np.full(groups.max() + 1, 0)
        part[speakers[:fifth]], part[speakers[fifth : 2 * fifth]] = 2, 1
        assigned = SpeakerSplit(*(np.flatnonzero(part[groups] == k) for k in range(3)))
    for name, rows in asdict(assigned).items():
        if len(rows) < 2:
            raise InputError(
                "LP714",
                f"there are {len(rows)} usable utterances for {name}, two are needed. Add rated utterances of more "
                "speakers.",
            )
    return assigned


def parameter_counts(encoders: Encoders, plan: TrainPlan) -> dict[str, int]:
    """Return the numbers of ``total`` and ``trainable`` parameters of a regressor."""
    with torch.random.fork_rng(devices=[]):
        regressor = build(encoders, plan)
    freeze(regressor, plan.frozen)
    parameters = list(regressor.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _train_seed(data: _TrainingData, seed: int, out: Path, *, device: str, progress: NullProgress) -> Training:
    """Train one seed, or load it if it has been trained."""
    plan, dataset, ratings, rows = data.plan, data.dataset, data.ratings, data.rows
    folder = out / f"seed-{seed}"
    if (folder / MODEL).exists():
        found = zip(plan.seeds, load_regressors(read_regressor(out), device=device), strict=False)  # up to this seed
        loaded = next(regressor for one, regressor in found if one == seed)
        return Training(loaded, dataset, plan, folder=folder)
    torch.manual_seed(seed)
    regressor = build(data.encoders, plan)
    freeze(regressor, plan.frozen)
    regressor.get_buffer("mean").copy_(torch.tensor(ratings[rows.train].mean(axis=0)))
    regressor.get_buffer("std").copy_(torch.tensor(ratings[rows.train].std(axis=0)))
    training = Training(regressor.to(device), dataset, plan, folder=folder)
    fit = training.run(ratings, train=rows.train, development=rows.development, seed=seed, progress=progress)
    progress.log(f"seed {seed}: best after epoch {fit.best_epoch}, development CCC {fit.best_score:.3f}")
    write_weights(regressor, folder)
    return training


def _encoder_name(plan: TrainPlan) -> str:
    """Return the joined names of both encoders, for the column ``encoder``."""
    return JOINED.join(c.upstream.rsplit("/", 1)[-1] for c in (plan.audio, plan.text) if c is not None)


def _score(
    data: _TrainingData, development: list[np.ndarray], test: list[np.ndarray]
) -> tuple[ProbeResults, SweepData]:
    """Score the test predictions of all seeds; moment matching is learnt from the development predictions."""
    plan, table, ratings, rows = data.plan, data.dataset.table, data.ratings, data.rows
    split = Split(
        plan.test_split or RANDOM_SPLIT, rows.train, rows.test, inner_folds=np.zeros(len(rows.train), dtype=int)
    )
    labels = {k: table[k].to_numpy(dtype=object).astype(str) for k in LABELS if k in table}
    speaker_ids = table["speaker_id"].to_numpy(dtype=object)
    ids, groups = table["utterance_id"].to_numpy(dtype=object), speaker_groups(speaker_ids)
    no_layers = np.empty((len(table), 0), dtype=np.int64)
    sweep_data = SweepData(ids, speaker_ids, groups, ratings, no_layers, [split], labels)
    name, columns = _encoder_name(plan), []
    for seed, developed, predicted in zip(plan.seeds, development, test, strict=True):
        for k, target in enumerate(plan.targets):
            keys = {"encoder": name, "probe": TRAINED, "layer": ALL_LAYERS, "target": target, "control": "none"}
            builder = PredictionBuilder({**keys, "seed": seed}, ratings[:, k])
            match = MomentMatching.learn(ratings[rows.development, k], developed[:, k])
            builder.add(split, predicted[:, k], match)
            columns.append(builder.build())
    return ProbeResults.from_columns(columns, sweep_data), sweep_data


def _plan_content(manifest: Manifest, data: _TrainingData, *, command: str, n_not_rated: int) -> dict[str, Any]:
    """Return the content of plan.toml: corpus, settings, encoders and numbers of parameters."""
    plan, dataset, rows = data.plan, data.dataset, data.rows
    table = dataset.table
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
            "n_quarantined": len(dataset.quarantine),
            "n_not_rated": n_not_rated,
            "n_without_text": 0 if plan.text is None else int((table[plan.text_column].str.strip() == "").sum()),
            "n_train": len(rows.train),
            "n_development": len(rows.development),
            "n_held_out": len(rows.test),
        },
        "sweep": {
            "targets": list(plan.targets),
            "test_split": plan.test_split or RANDOM_SPLIT,
            "fingerprint": plan.fingerprint(),
        },
        "training": {k: v for k, v in plan.to_json().items() if v is not None and k not in ("audio", "text")},
        "random_weights": [],
    }
    for kind, choice in (("audio", plan.audio), ("text", plan.text)):
        if choice is not None:
            content[kind] = {k: v for k, v in asdict(choice).items() if v is not None}
    content["encoders"] = []
    content["parameters"] = parameter_counts(data.encoders, plan)
    return content


def _check_same_training(out: Path, fingerprint: str) -> None:
    if (out / REGRESSOR).exists() and (found := read_regressor(out).fingerprint) != fingerprint:
        raise InputError(
            "LP705",
            f"{out} holds another training ({found}, not {fingerprint}): other encoders, ratings or settings. "
            "Name another --out.",
        )


def _check_constant_targets(ratings: np.ndarray, plan: TrainPlan) -> None:
    for k, target in enumerate(plan.targets):
        if varies_by_rounding(ratings[:, k]):
            raise InputError(
                "LP715",
                f"{target} has one value only in the training speakers. Omit it: name the others with --target.",
            )
