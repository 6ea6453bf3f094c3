"""Stage: predict ratings of utterances with a trained regressor, each with a prediction interval."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset
from layerprobe.probe.regressor.saving import load_regressors, read_regressor
from layerprobe.probe.regressor.trainer import predict_batch

UTTERANCES_PER_BATCH = 64


def predict(
    run: Path | str, table: pd.DataFrame | Path | str, *, device: str = "cpu", progress: NullProgress | None = None
) -> pd.DataFrame:
    """Predict ratings of utterances by the mean over a regressor's seeds.

    Args:
        run: run folder that `train` wrote
        table: file (.csv, .parquet) with ``utterance_id``, ``path`` and, if the regressor reads text, transcripts; or a
            manifest's table
        device: cpu or cuda
        progress: receives the progress

    Returns:
        one row per utterance, in the table's order: ``utterance_id``; for each target the rating in its own unit and
        the bounds of its prediction interval, ``<target>_low`` and ``<target>_high`` (split conformal: Lei et al.,
        2018; the level is in ``regressor.json``); ``reason`` why an utterance has no rating, '' where it has one

    Raises:
        InputError: if ``run`` holds no trained regressor, or the table lacks the column of transcripts
    """
    progress, trained = progress or NullProgress(), read_regressor(run)
    plan = trained.plan
    if not isinstance(table, pd.DataFrame):
        table = read_utterances(Path(table), columns=(plan.text_column,))
    if not trained.intervals:
        raise InputError("LP741", f"{run}: the training has not finished. Run layerprobe train again to resume it.")
    if plan.text is not None and plan.text_column not in table:
        raise InputError(
            "LP718",
            f"the regressor reads text, and the table has no column {plan.text_column!r}. Add it with layerprobe "
            "transcribe.",
        )
    total, ratings, dataset = len(plan.seeds), list[np.ndarray](), None
    for number, regressor in enumerate(load_regressors(trained, device=device), start=1):
        dataset = UtteranceDataset(table, regressor, plan=plan, progress=progress)
        chunks = np.array_split(np.arange(len(dataset)), max(1, math.ceil(len(dataset) / UTTERANCES_PER_BATCH)))
        progress.begin(f"predict, seed {number} of {total}", len(dataset), "utterances")
        found = [np.empty((0, len(plan.targets)))]
        try:
            with torch.inference_mode():
                for utterances in dataset.load_ahead(chunks if len(dataset) else []):
                    found.append(predict_batch(regressor, utterances, plan))
                    progress.advance(len(utterances))
        finally:
            progress.end()
        ratings.append(np.concatenate(found))
    if dataset is None:
        raise RuntimeError("there are no regressors to predict with")
    used = pd.DataFrame({"utterance_id": dataset.table["utterance_id"]})
    for k, target in enumerate(plan.targets):
        width = trained.intervals["half_width"][target]
        used[target] = np.mean([r[:, k] for r in ratings], axis=0)
        used[f"{target}_low"], used[f"{target}_high"] = used[target] - width, used[target] + width
    refused = dataset.quarantine[["utterance_id", "reason"]]
    merged = table[["utterance_id"]].merge(used, how="left", on="utterance_id")
    return merged.merge(refused, how="left", on="utterance_id").fillna({"reason": ""})
