"""What probes of targets with classes confuse: counts of each class and of the class that was predicted for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from layerprobe.probe.results.run_folder import Predictions

COLUMNS = ["encoder", "probe", "target", "layer", "class", "predicted", "n", "fraction"]


def confusion(
    predictions: Predictions, *, layers: Mapping[tuple[str, str], str], classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return the confusion matrices of ridge and logistic regression on one layer of each encoder.

    Args:
        predictions: held-out predictions of a run, with those of the layers selected by cross-validation
        layers: for each encoder and target the layer
        classes: of each nominal target, in the order of its codes

    Returns:
        ``encoder, probe, target, layer, class, predicted, n, fraction``; the fractions of a class add up to 1, and are
        NaN for a class that was not held out
    """
    rows, columns = [], predictions.columns
    names = list(map(str, predictions.targets))
    for (encoder, target), layer in layers.items():
        if target not in classes:
            continue
        truth = predictions.ratings[:, names.index(target)]
        own = columns[(columns["encoder"] == encoder) & (columns["target"] == target) & (columns["layer"] == layer)]
        own = own[(own["control"] == "none") & (own["train_corpus"] == "") & own["probe"].isin(["ridge", "logistic"])]
        for place, probe in zip(own.index, own["probe"], strict=True):
            predicted = predictions.prediction[:, place]
            known = np.isfinite(truth) & np.isfinite(predicted)
            n = len(classes[target])
            codes = truth[known].astype(int) * n + predicted[known].astype(int)
            counts = np.bincount(codes, minlength=n * n).reshape(n, n)
            label = {"encoder": encoder, "probe": probe, "target": target, "layer": layer}
            for i, j in np.ndindex(n, n):
                of_class = int(counts[i].sum())
                fraction = counts[i, j] / of_class if of_class else float("nan")
                pair = {"class": classes[target][i], "predicted": classes[target][j]}
                rows.append({**label, **pair, "n": int(counts[i, j]), "fraction": fraction})
    return pd.DataFrame(rows, columns=COLUMNS)
