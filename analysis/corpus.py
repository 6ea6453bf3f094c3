"""Description of a corpus: sizes, distributions of ratings, agreement of raters, speakers in several splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.schema import Manifest, rater_columns
from layerprobe.probe.metrics import ccc
from layerprobe.probe.splits import UNKNOWN_SPEAKER
from layerprobe.probe.tasks.agreement import intraclass_correlation

NO_SPLIT = "all"  # the split of the row of sizes where the manifest has none


@dataclass(frozen=True)
class Agreement:
    """Inter-rater agreement of one target."""

    target: str
    n_utterances: int  # that two or more rated
    n_raters: float  # mean number of ratings per utterance, of these utterances
    icc_single: float  # ICC(1), the reliability of one rater
    icc_mean: float  # ICC(1, k), the reliability of the raters' mean
    leave_one_out_ccc: float  # mean CCC of a rater with the mean of the others


@dataclass(frozen=True, repr=False)
class Description:
    """Tables that describe one corpus, each tidy."""

    sizes: pd.DataFrame  # split, n_utterances, n_speakers, n_unknown, hours (NaN where no spans or durations are known)
    ratings: pd.DataFrame  # target, n, mean, std (1/n), skewness, minimum, maximum (as rated), fraction_at_bounds
    classes: pd.DataFrame  # target, class, n
    correlations: pd.DataFrame  # targets × targets, Pearson r
    agreement: list[Agreement]  # of targets with per-rater columns
    speakers: pd.DataFrame  # speaker_id, n_utterances; the most frequent first, without unknown speakers
    speakers_in_splits: pd.DataFrame  # speaker_id, splits; known speakers that are in several parts of the split

    def __repr__(self) -> str:
        """Return `summary`."""
        return self.summary()

    def summary(self) -> str:
        """Return the description as text, a line per split, target, pair of targets and remark."""
        lines = []
        for row in self.sizes.to_dict("records"):
            hours = "" if row["hours"] != row["hours"] else f", {row['hours']:.1f} h"
            unknown = f" and {row['n_unknown']} utterances of unknown ones" if row["n_unknown"] else ""
            utterances = f"{row['split']}: {row['n_utterances']} utterances"
            lines.append(f"{utterances}{hours}, {row['n_speakers']} speakers{unknown}")
        for row in self.ratings.to_dict("records"):
            lines.append(
                f"{row['target']}: {row['n']} ratings, mean {_text(row['mean'])}, "
                f"standard deviation {_text(row['std'])}, skewness {_text(row['skewness'])}, "
                f"{_text(row['minimum'], 'g')} to {_text(row['maximum'], 'g')}, "
                f"{_text(100 * row['fraction_at_bounds'], '.1f')} % at the ends of the scale"
            )
        names = [str(name) for name in self.correlations]
        for k, a in enumerate(names):
            lines += [f"{a} and {b}: r = {_text(float(self.correlations[b][a]))}" for b in names[k + 1 :]]
        for one in self.agreement:
            lines.append(
                f"{one.target}, {one.n_raters:.1f} raters per utterance: ICC(1) {_text(one.icc_single)}, of their mean "
                f"{_text(one.icc_mean)}; a rater compared with the others: CCC {_text(one.leave_one_out_ccc)}"
            )
        for target, rows in self.classes.groupby("target", sort=False):
            lines.append(f"{target}: " + ", ".join(f"{r['class']} {r['n']}" for r in rows.to_dict("records")))
        return "\n".join(lines + self._split_remark())

    def _split_remark(self) -> list[str]:
        if len(self.speakers_in_splits):
            first = self.speakers_in_splits.iloc[0]
            return [
                f"{len(self.speakers_in_splits)} speakers are in several parts of the split (first: "
                f"{first['speaker_id']}, in {first['splits']})"
            ]
        return ["no known speaker is in two parts of the split"] if list(self.sizes["split"]) != [NO_SPLIT] else []


def _text(value: float, form: str = ".2f") -> str:
    """Return a number as text, or a dash where it is not defined."""
    return format(value, form) if np.isfinite(value) else "–"


def describe(manifest: Manifest) -> Description:
    """Describe a corpus by its manifest; no audio is opened.

    Args:
        manifest: as `probe.data.manifest.read.read_manifest` reads it

    Returns:
        tables of sizes, ratings, classes, correlations, agreement and speakers; ``fraction_at_bounds`` is the fraction
        of ratings at either end of the scale, and ``hours`` is NaN where a duration is unknown
    """
    table = manifest.table
    split = table["split"] if "split" in table else pd.Series(NO_SPLIT, index=table.index)
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
        speakers_in_splits=_speakers_in_splits(known),
    )


def agreement(table: pd.DataFrame, target: str) -> Agreement | None:
    """Return the agreement of a target's raters over the utterances that two or more of them rated.

    See `probe.tasks.agreement.intraclass_correlation`.

    Args:
        table: of a manifest, with the per-rater columns ``TARGET_r1, …`` as floats
        target: name of the target

    Returns:
        the agreement, or None where there are no per-rater columns, or fewer than two utterances with two ratings
    """
    columns = rater_columns(table, target)
    if not columns:
        return None
    values = table[columns].to_numpy(dtype=float)
    n = np.isfinite(values).sum(axis=1)
    values, n = values[n >= 2], n[n >= 2]
    found = intraclass_correlation(values)
    if found is None:
        return None
    return Agreement(target, len(n), float(n.mean()), found.single, found.mean, _leave_one_out(values, n))


def _leave_one_out(values: np.ndarray, n: np.ndarray) -> float:
    """Return the mean CCC of a rater with the mean of the others, over raters with three or more ratings."""
    total = np.nansum(values, axis=1)
    scores = []
    for k in range(values.shape[1]):
        rated = np.isfinite(values[:, k])
        if rated.sum() >= 3:
            others = (total[rated] - values[rated, k]) / (n[rated] - 1)
            scores.append(ccc(others, values[rated, k]))
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
        ratings = manifest.table[name].dropna().to_numpy(dtype=float)
        std = float(ratings.std()) if len(ratings) else float("nan")
        centred = ratings - ratings.mean() if len(ratings) else ratings
        skew = float((centred**3).mean() / std**3) if std > 0 else float("nan")
        ends = np.isin(ratings, [scale.minimum, scale.maximum])
        rows.append(
            {
                "target": name, "n": len(ratings), "mean": float(ratings.mean()) if len(ratings) else float("nan"),
                "std": std, "skewness": skew,
                "minimum": float(ratings.min()) if len(ratings) else float("nan"),
                "maximum": float(ratings.max()) if len(ratings) else float("nan"),
                "fraction_at_bounds": float(ends.mean()) if len(ratings) else float("nan"),
            }
        )  # fmt: skip
    return pd.DataFrame(
        rows, columns=["target", "n", "mean", "std", "skewness", "minimum", "maximum", "fraction_at_bounds"]
    )


def _classes(manifest: Manifest) -> pd.DataFrame:
    rows = [
        {"target": name, "class": c, "n": int((manifest.table[name] == c).sum())}
        for name, nominal in manifest.header.nominal.items()
        for c in nominal.classes
    ]
    return pd.DataFrame(rows, columns=["target", "class", "n"])


def _speakers_in_splits(known: pd.DataFrame) -> pd.DataFrame:
    if "split" not in known:
        return pd.DataFrame(columns=["speaker_id", "splits"])
    splits = known.groupby("speaker_id", sort=True)["split"].agg(lambda s: ", ".join(sorted(set(s))))
    several = splits[splits.str.contains(",")]
    return several.rename("splits").reset_index()
