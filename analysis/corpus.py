"""What a researcher checks of a corpus first: sizes, ratings, how well raters agree, speakers of two splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerprobe.probe.data.schema import Manifest, rater_columns
from layerprobe.probe.metrics import ccc
from layerprobe.probe.splits import UNKNOWN_SPEAKER


@dataclass(frozen=True)
class Agreement:
    """How well the raters of one target agree."""

    target: str
    n_utterances: int  # that two or more rated
    raters: float  # mean number of ratings of these
    icc_single: float  # ICC(1): one rater
    icc_mean: float  # ICC(1, k): the mean of as many as there are
    leave_one_out: float  # mean CCC of a rater with the mean of the others


@dataclass(frozen=True)
class Description:
    """Tables of one corpus."""

    sizes: pd.DataFrame  # split, n_utterances, n_speakers, n_unknown, hours (NaN where no spans or durations are known)
    ratings: pd.DataFrame  # target, n, mean, std, skewness, lowest, highest, at_ends (share at either end of the scale)
    classes: pd.DataFrame  # target, class, n
    correlations: pd.DataFrame  # targets × targets, Pearson r
    agreement: list[Agreement]
    speakers: pd.DataFrame  # speaker_id, n_utterances
    on_both_sides: pd.DataFrame  # speaker_id, splits


def describe(manifest: Manifest) -> Description:
    """Look at a manifest; no sound is opened."""
    table = manifest.table
    split = table["split"] if "split" in table else pd.Series("all", index=table.index)
    seconds = _seconds(table)
    sizes = []
    for name, rows in table.groupby(split, sort=False):
        unknown = rows["speaker_id"] == UNKNOWN_SPEAKER
        sizes.append(
            {
                "split": name,
                "n_utterances": len(rows),
                "n_speakers": rows["speaker_id"][~unknown].nunique(),
                "n_unknown": int(unknown.sum()),
                "hours": float(seconds[rows.index].sum(min_count=len(rows))) / 3600,
            }
        )
    known = table[table["speaker_id"] != UNKNOWN_SPEAKER]
    counts = known["speaker_id"].value_counts().rename_axis("speaker_id").rename("n_utterances").reset_index()
    return Description(
        sizes=pd.DataFrame(sizes),
        ratings=_ratings(manifest),
        classes=_classes(manifest),
        correlations=table[list(manifest.targets)].astype(float).corr(),
        agreement=[a for t in manifest.targets if (a := agreement(table, t)) is not None],
        speakers=counts,
        on_both_sides=_on_both_sides(known),
    )


def agreement(table: pd.DataFrame, target: str) -> Agreement | None:
    """Of utterances that two or more rated; None where nobody's own ratings are kept, or all rated once.

    ICC(1) and ICC(1, k) of Shrout and Fleiss (1979), for raters who are others from utterance to utterance, with k the
    mean number of ratings weighted as unequal groups ask (Searle, 1971).
    """
    columns = rater_columns(table, target)
    if not columns:
        return None
    values = table[columns].to_numpy(dtype=float)
    n = np.isfinite(values).sum(axis=1)
    values, n = values[n >= 2], n[n >= 2]
    if len(n) < 2:
        return None
    means = np.nanmean(values, axis=1)
    grand = np.nansum(values) / n.sum()
    between = float((n * (means - grand) ** 2).sum() / (len(n) - 1))
    within = float(np.nansum((values - means[:, None]) ** 2) / (n.sum() - len(n)))
    k = float((n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1))
    spread = between + (k - 1) * within
    one = (between - within) / spread if spread > 0 else float("nan")
    mean = (between - within) / between if between > 0 else float("nan")
    return Agreement(target, len(n), float(n.mean()), one, mean, _leave_one_out(values, n))


def _leave_one_out(values: np.ndarray, n: np.ndarray) -> float:
    total = np.nansum(values, axis=1)
    scores = []
    for k in range(values.shape[1]):
        own = np.isfinite(values[:, k])
        if own.sum() >= 3:
            others = (total[own] - values[own, k]) / (n[own] - 1)
            scores.append(ccc(others, values[own, k]))
    return float(np.mean(scores)) if scores else float("nan")


def _seconds(table: pd.DataFrame) -> pd.Series[float]:
    if "duration" in table:
        return pd.to_numeric(table["duration"], errors="coerce").astype(float)
    if {"start", "end"} <= set(table):
        return (table["end"] - table["start"].fillna(0)).astype(float)
    return pd.Series(np.nan, index=table.index, dtype=float)


def _ratings(manifest: Manifest) -> pd.DataFrame:
    rows = []
    for name, scale in manifest.header.targets.items():
        given = manifest.table[name].dropna().to_numpy(dtype=float)
        spread = float(given.std()) if len(given) else float("nan")
        centred = given - given.mean() if len(given) else given
        skew = float((centred**3).mean() / spread**3) if spread > 0 else float("nan")
        ends = np.isin(given, [scale.minimum, scale.maximum])
        rows.append(
            {
                "target": name, "n": len(given), "mean": float(given.mean()) if len(given) else float("nan"),
                "std": spread, "skewness": skew,
                "lowest": float(given.min()) if len(given) else float("nan"),
                "highest": float(given.max()) if len(given) else float("nan"),
                "at_ends": float(ends.mean()) if len(given) else float("nan"),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["target", "n", "mean", "std", "skewness", "lowest", "highest", "at_ends"])


def _classes(manifest: Manifest) -> pd.DataFrame:
    rows = [
        {"target": name, "class": c, "n": int((manifest.table[name] == c).sum())}
        for name, nominal in manifest.header.nominal.items()
        for c in nominal.classes
    ]
    return pd.DataFrame(rows, columns=["target", "class", "n"])


def _on_both_sides(known: pd.DataFrame) -> pd.DataFrame:
    if "split" not in known:
        return pd.DataFrame(columns=["speaker_id", "splits"])
    of = known.groupby("speaker_id", sort=True)["split"].agg(lambda s: ", ".join(sorted(set(s))))
    both = of[of.str.contains(",")]
    return both.rename("splits").reset_index()
