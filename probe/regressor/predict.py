"""Stage: a trained regressor and a table of utterances become ratings, each with its interval."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset
from layerprobe.probe.regressor.saving import load_regressors, read_regressor
from layerprobe.probe.regressor.trainer import predict_batch

AT_ONCE = 64  # utterances


def predict(
    folder: Path | str, table: pd.DataFrame, *, device: str = "cpu", progress: NullProgress | None = None
) -> pd.DataFrame:
    """Ratings of utterances by the mean of a regressor's seeds.

    Args:
        folder: as `layerprobe train` made it
        table: as `probe.data.read.read_utterances` reads it
        device: cpu or cuda
        progress: receives the progress

    Returns:
        in the table's order ``utterance_id``, then of each target its rating, ``_low`` and ``_high``: between them lay
        as many of the development speakers' ratings as the regressor's level says (split conformal); and ``reason``,
        why there is no rating, '' where there is one

    Raises:
        InputError: if ``folder`` holds no regressor, or the table lacks what it reads
    """
    progress, trained = progress or NullProgress(), read_regressor(folder)
    plan = trained.plan
    if not trained.intervals:
        raise InputError(f"{folder} has not been trained to its end. Run layerprobe train again: it goes on there.")
    if plan.text is not None and plan.text_column not in table:
        raise InputError(
            f"the regressor reads words, and the table has no column {plan.text_column!r}. Add the transcripts."
        )
    total, ratings, sounds = len(plan.seeds), list[np.ndarray](), None
    for number, regressor in enumerate(load_regressors(trained, device=device), start=1):
        sounds = UtteranceDataset(
            table, regressor, text_column=plan.text_column, max_duration=plan.max_duration, progress=progress
        )
        chunks = np.array_split(np.arange(len(sounds)), max(1, math.ceil(len(sounds) / AT_ONCE)))
        progress.begin(f"predict, seed {number} of {total}", len(sounds), "utterances")
        found = [np.empty((0, len(plan.targets)))]
        try:
            with torch.inference_mode():
                for utterances in sounds.load_ahead(chunks if len(sounds) else []):
                    found.append(predict_batch(regressor, utterances, plan))
                    progress.advance(len(utterances))
        finally:
            progress.end()
        ratings.append(np.concatenate(found))
    assert sounds is not None
    used = pd.DataFrame({"utterance_id": sounds.table["utterance_id"]})
    for k, target in enumerate(plan.targets):
        width = trained.intervals["half_width"][target]
        used[target] = np.mean([r[:, k] for r in ratings], axis=0)
        used[f"{target}_low"], used[f"{target}_high"] = used[target] - width, used[target] + width
    refused = sounds.quarantine[["utterance_id", "reason"]]
    merged = table[["utterance_id"]].merge(used, how="left", on="utterance_id")
    return merged.merge(refused, how="left", on="utterance_id").fillna({"reason": ""})
