"""A small run with bins of time: a plain sweep, and one for each bin whose scores and predictions are joined to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.planted import store

from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.results.run_folder import POOLED, Predictions, read_predictions, read_run, write_run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

N, N_SPEAKERS, DIM = 240, 24, 6
LAYERS = tuple(map(str, range(4)))
EDGES = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
NAMES = tuple(f"{low:.2f}–{high:.2f}" for low, high in EDGES)
PLANTED = {"arousal": ("1", NAMES[1]), "valence": ("3", NAMES[2])}  # layer and bin that carry most of a target
SHORT = 60  # utterances without a span in the last bin
PERMUTATIONS = 39


def timed_run(root: Path, *, planted: bool = True, permutations: int = PERMUTATIONS, seed: int = 0) -> Path:
    """Write a run with four bins of position, in which arousal and valence lie in other layers and bins, and return it.

    Args:
        root: folder for caches and the run
        planted: whether embeddings carry the targets at all
        permutations: of the ratings
        seed: of all numbers
    """
    rng = np.random.default_rng(seed)
    ratings = {target: rng.normal(size=N) for target in PLANTED}
    x = rng.normal(size=(len(NAMES), N, len(LAYERS), DIM))
    if planted:
        for target, (layer, name) in PLANTED.items():
            x[NAMES.index(name), :, int(layer), 0 if target == "arousal" else 1] += 2.0 * ratings[target]
            x[0, :, int(layer), 2] += 0.4 * ratings[target]
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(N)], "path": "x.wav", **ratings})
    table["speaker_id"] = [f"s{i % N_SPEAKERS:02d}" for i in range(N)]
    table["emotion"] = np.where(table["arousal"] > 0, "glad", "calm")
    header = Header(
        "timed", "1", "none", {t: Target(-100, 100) for t in PLANTED}, nominal={"emotion": Nominal(("calm", "glad"))}
    )
    manifest = Manifest(root / "my.csv", header, table)
    plan = plan_sweep(manifest, permutations=permutations, weighted_sum_seeds=0, controls=("permuted",))
    folder = root / "run"
    sweep([store(root / "mean.zarr", x.mean(axis=0), layers=LAYERS)], manifest, plan, out=folder, command="x")
    run, whole = read_run(folder), read_predictions(folder)
    scores, parts, counts = [run.scores], [whole], []
    for name, embeddings in zip(NAMES, x, strict=True):
        n = N - SHORT if name == NAMES[-1] else N
        cache = store(root / f"{name}.zarr", embeddings[:n], layers=LAYERS)
        own = Manifest(manifest.path, header, table.iloc[:n].reset_index(drop=True))
        out = root / f"run {name}"
        sweep([cache], own, plan, out=out, command="x")
        found = read_run(out).scores
        of_encoder = found[(found["encoder"] != "") & (found["probe"] == "ridge")]
        scores.append(of_encoder.assign(bin=name, encoder=run.encoders[0]))
        parts.append(_in_rows_of(whole, read_predictions(out), name, run.encoders[0]))
        counts.append({"name": name, "low": EDGES[len(counts)][0], "high": EDGES[len(counts)][1], "n_utterances": n})
    plan_table = run.plan | {"time": {"kind": "position", "bins": counts}}
    binned = replace(run, scores=pd.concat(scores, ignore_index=True), plan=plan_table)
    write_run(binned, _joined(parts))
    return folder


def _in_rows_of(whole: Predictions, part: Predictions, name: str, encoder: str) -> Predictions:
    """Return the predictions of a bin in the rows of all utterances, NaN where an utterance has none."""
    chosen = ((part.columns["encoder"] != "") & (part.columns["probe"] == "ridge")).to_numpy()
    rows = pd.Index(part.utterance_id).get_indexer(pd.Index(whole.utterance_id))
    values = [np.where((rows >= 0)[:, None], a[rows][:, chosen], np.nan) for a in (part.prediction, part.matched)]
    columns = part.columns[chosen].reset_index(drop=True).assign(bin=name, encoder=encoder)
    return replace(whole, columns=columns, prediction=values[0], matched=values[1])


def _joined(parts: list[Predictions]) -> Predictions:
    return replace(
        parts[0],
        columns=pd.concat([p.columns for p in parts], ignore_index=True),
        prediction=np.concatenate([p.prediction for p in parts], axis=1).astype(np.float32),
        matched=np.concatenate([p.matched for p in parts], axis=1).astype(np.float32),
    )


def pooled(scores: pd.DataFrame, metric: str, **keys: str) -> pd.Series[float]:
    """Return the scores over all held-out utterances that have these keys."""
    rows = scores[(scores["metric"] == metric) & (scores["fold"] == POOLED)]
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    return rows["value"]
