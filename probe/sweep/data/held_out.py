"""What folds hold out as a whole: speakers, joined by a column of the manifest and by recordings with several ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.shared_audio import SharedAudio, copies, count_shared, handled_text, have_other_ratings
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import is_unknown
from layerprobe.probe.splits import joined_units, speaker_groups
from layerprobe.probe.sweep.data.duplicates import recordings_of


@dataclass(frozen=True)
class HoldOut:
    """What of a sweep's plan decides which utterances are held out together."""

    targets: tuple[str, ...]
    nominal: tuple[str, ...]
    group_by: str  # column of the manifest; "" for speakers alone
    shared_speakers: bool  # whether speakers of one group may be in others
    duplicates: str  # a key of `probe.data.shared_audio.DUPLICATES`
    test_split: str | None  # None with folds


@dataclass(frozen=True)
class HeldOutUnits:
    """The utterances that are probed, and the units of which each is in one fold."""

    rows: pd.DataFrame  # of the manifest, in the order of their ids
    speakers: np.ndarray  # (n_utterances,) a number per speaker
    units: np.ndarray  # (n_utterances,) a number per unit
    unit: str  # what a unit is: speaker, or the column that groups
    n_groups: int  # speakers or values of the column, before any were joined
    joined_by: str  # what joined them, for messages; "" where nothing did
    shared_audio: SharedAudio | None  # of all rated and cached utterances
    n_left_out: int  # copies that are not used

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(np.unique(self.units))

    def check_folds(self, n_folds: int | None) -> None:
        """Check that there are as many units as folds.

        Args:
            n_folds: of the plan; None for one fold for each unit

        Raises:
            InputError: with what joined the units, and what to do
        """
        n, least = self.n_units, 2 if n_folds is None else n_folds
        if n >= least or (self.unit == "speaker" and not self.joined_by):  # `speaker_folds` checks speakers
            return
        folds = f"{least} folds" if n_folds is not None else "folds"
        fewer = " Ask for fewer folds" if n > 1 else ""
        if not self.joined_by:
            also = f"{fewer}, or group by another column." if fewer else " Group by another column."
            raise InputError(
                "LP512",
                f"{self.unit} has {n} value{'' if n == 1 else 's'} among the utterances that are probed, too few for "
                f"{folds}.{also}",
            )
        shared = self.unit != "speaker" and "speaker" in self.joined_by
        advice = f"Use --allow-shared-speakers to hold out {self.unit} alone" if shared else "Use --duplicates drop"
        raise InputError(
            "LP513",
            f"The {self.n_groups} {self._of_groups} are joined to {n} unit{'' if n == 1 else 's'} by {self.joined_by}, "
            f"too few for {folds}. {advice}{', or ask for fewer folds' if fewer else ''}.",
        )

    def notes(self, policy: str) -> list[str]:
        """Return a sentence on duplicates and one on units that are no speakers, for a command to print."""
        found = []
        if self.shared_audio is not None:
            handled = handled_text(policy, self.n_left_out)
            found.append(f"{self.shared_audio}: {handled} (--duplicates {policy}).")
        sizes = np.unique(self.units, return_counts=True)[1]
        if self.joined_by:
            found.append(
                f"The {self.n_groups} {self._of_groups} are joined to {self.n_units} units by {self.joined_by}; the "
                f"largest has {sizes.max()} of {len(self.units)} utterances."
            )
        if self.unit != "speaker":
            n_shared = shared_speakers(self.speakers, self.units)
            where = f"{n_shared} of them in several" if n_shared else "each in one"
            found.append(
                f"Folds hold out {self.unit}: {self.n_groups} values, {len(np.unique(self.speakers))} speakers, "
                f"{where}."
            )
        return found

    def to_toml(self, policy: str) -> dict[str, Any]:
        """Return the tables ``held_out`` and ``shared_audio`` of plan.toml; the latter only where there is any."""
        held_out = {
            "unit": self.unit,
            "n_groups": self.n_groups,
            "n_units": self.n_units,
            "n_largest": int(np.unique(self.units, return_counts=True)[1].max()),
            "n_shared_speakers": shared_speakers(self.speakers, self.units),
        }
        if self.shared_audio is None:
            return {"held_out": held_out}
        found = {**vars(self.shared_audio), "examples": list(self.shared_audio.examples)}
        return {"held_out": held_out, "shared_audio": {"duplicates": policy, **found, "n_left_out": self.n_left_out}}

    @property
    def _of_groups(self) -> str:
        return "speakers" if self.unit == "speaker" else f"values of {self.unit}"


def hold_out(rows: pd.DataFrame, caches: Sequence[Cache], choice: HoldOut) -> HeldOutUnits:
    """Return the units that are held out, without the copies of audio that the choice leaves out.

    Units are the connected components of utterances over groups, speakers (unless they may be shared) and recordings.

    Args:
        rows: the rated utterances that all caches hold, in the order of their ids
        caches: those of audio are compared, see `probe.sweep.data.duplicates`
        choice: of the plan

    Raises:
        InputError: if the column is missing, or empty in a row, or duplicates are refused
    """
    if not len(rows):
        none = np.empty(0, dtype=int)
        return HeldOutUnits(rows, none, none, choice.group_by or "speaker", 0, "", None, 0)
    ids, speakers = rows["utterance_id"].to_numpy(dtype=object), speaker_groups(rows["speaker_id"].to_numpy())
    recordings = recordings_of(caches, rows)
    recordings = np.arange(len(rows)) if recordings is None else recordings
    ratings = _ratings(rows, choice)
    shared = count_shared(recordings, ids, speakers, ratings)
    splits = rows["split"].to_numpy(dtype=object) if choice.test_split is not None and "split" in rows else None
    left_out = _left_out(shared, recordings, ratings, ids, splits, choice)
    rows, speakers, recordings = rows[~left_out], speakers[~left_out], recordings[~left_out]
    if splits is not None:  # copies in a split that is not used join nothing
        unused = ~np.isin(splits[~left_out], ["train", str(choice.test_split)])
        recordings = np.where(unused, len(left_out) + np.arange(len(rows)), recordings)
    groups = _groups(rows, choice.group_by) if choice.group_by else speakers
    labels = [groups, *([] if choice.shared_speakers or not choice.group_by else [speakers]), recordings]
    units = joined_units(*labels)
    n_groups = len(np.unique(groups))
    by_speakers = len(labels) == 3 and len(np.unique(joined_units(*labels[:2]))) < n_groups
    joined_by = ""
    if len(np.unique(units)) < n_groups:
        joined_by = (
            _speakers_in_several(rows, speakers, groups, choice) if by_speakers else "recordings with several ids"
        )
    return HeldOutUnits(
        rows, speakers, units, choice.group_by or "speaker", n_groups, joined_by, shared, int(left_out.sum())
    )


def shared_speakers(speakers: np.ndarray, units: np.ndarray) -> int:
    """Return how many speakers have utterances in several units."""
    pairs = np.unique(np.stack([speakers, units]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _groups(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Return a number per value of a column, ``(n_utterances,)``."""
    if column not in rows:
        raise InputError(
            "LP520", f"The manifest has no column {column} to group by; it has {', '.join(map(str, rows))}."
        )
    values = rows[column].astype(object).where(rows[column].notna(), "").astype(str).str.strip()
    missing = values.map(is_unknown).to_numpy(dtype=bool)
    if missing.any():
        first = rows["utterance_id"].to_numpy()[missing][0]
        raise InputError(
            "LP521",
            f"{missing.sum()} of {len(rows)} utterances that are probed have no {column}, {first} first. Write it for "
            "each, or leave these rows out.",
        )
    spellings: dict[str, str] = {}
    for value in values.unique():
        plain = "".join(unicodedata.normalize("NFKC", value).casefold().split())
        other = spellings.setdefault(plain, value)
        if other != value:
            raise InputError(
                "LP522",
                f"{column} {other!r} and {value!r} differ in case, spaces or Unicode form only. Write one of them.",
            )
    return np.asarray(np.unique(values.to_numpy(dtype=str), return_inverse=True)[1])


def _ratings(rows: pd.DataFrame, choice: HoldOut) -> np.ndarray:
    """Return ratings and codes of classes, ``(n_utterances, n_targets)``, NaN where there is none."""
    codes = [pd.factorize(rows[name].where(rows[name] != ""))[0].astype(float) for name in choice.nominal]
    rated = [rows[name].to_numpy(dtype=float) for name in choice.targets]
    return np.stack([*rated, *(np.where(c < 0, np.nan, c) for c in codes)], axis=1)


def _left_out(
    shared: SharedAudio | None,
    recordings: np.ndarray,
    ratings: np.ndarray,
    ids: np.ndarray,
    splits: np.ndarray | None,
    choice: HoldOut,
) -> np.ndarray:
    """Return which utterances are not used because another one has the same audio, ``(n_utterances,)`` bool."""
    out = np.zeros(len(ids), dtype=bool)
    if shared is None:
        return out
    if choice.duplicates == "error":
        raise InputError(
            "LP523", f"{shared}: {'; '.join(shared.examples)}. Correct the manifest, or use --duplicates group or drop."
        )
    for rows in copies(recordings):
        held_out = rows[splits[rows] == choice.test_split] if splits is not None else rows[:0]
        if choice.duplicates == "drop":
            if have_other_ratings(ratings[rows]):
                raise InputError(
                    "LP524",
                    f"{' and '.join(map(str, ids[rows][:2]))} have the same audio and other ratings, so it is "
                    "not known which to keep. Correct the manifest, or use --duplicates group.",
                )
            out[rows[rows != (held_out if len(held_out) else rows)[0]]] = True
        elif len(held_out) and splits is not None:  # rows of a fixed split can't move to one side
            out[rows[splits[rows] == "train"]] = True
    return out


def _speakers_in_several(rows: pd.DataFrame, speakers: np.ndarray, groups: np.ndarray, choice: HoldOut) -> str:
    pairs = np.unique(np.stack([speakers, groups]), axis=1)
    numbers, counts = np.unique(pairs[0], return_counts=True)
    most = int(numbers[np.argmax(counts)])
    name = rows["speaker_id"].to_numpy()[speakers == most][0]
    n = int((counts > 1).sum())
    return (
        f"{n} speaker{'' if n == 1 else 's'} with utterances in several values of {choice.group_by} ({name} in "
        f"{counts.max()})"
    )
