"""Parts of a sweep: the targets that the same utterances rate, with these utterances, their splits and their plan.

Each target is trained, scored and permuted on all utterances that have a rating of it, and on no others. Targets with
the same utterances make one part, in which they have the decompositions of a layer in common; a corpus without gaps is
one part. The folds are made once, from all utterances that any target rates, so that a speaker is in the same fold for
every target, and a part has those of its utterances. A residual takes the utterances that rate all of its targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.predictions import HeldOutPrediction, ProbeResults, SweepData
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.splits import Split
from layerprobe.probe.tasks.bag_of_words import word_counts
from layerprobe.probe.tasks.cross_corpus import splits_within
from layerprobe.probe.tasks.targets import RESIDUAL, RESIDUAL_OF, TEXT_RESIDUAL, residual
from layerprobe.probe.tasks.text_residuals import text_residuals
from layerprobe.probe.vectors import residual_is_rounding, varies_by_rounding


@dataclass(frozen=True)
class RatedPart:
    """Some targets of a sweep, and the utterances that rate them."""

    rows: np.ndarray  # (n_rated,) row numbers of the whole data
    n_utterances: int  # of the whole data
    data: SweepData  # of these rows
    plan: SweepPlan  # of these targets

    def take(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of this part; values of the whole data are not copied where it has all rows."""
        return values if len(self.rows) == self.n_utterances else values[self.rows]

    def in_whole(self, results: ProbeResults) -> ProbeResults:
        """Return results of this part with predictions for the rows of the whole data, NaN for those of no rating."""
        if len(self.rows) == self.n_utterances:
            return results
        return replace(results, columns=[self._in_whole(column) for column in results.columns])

    def _in_whole(self, column: HeldOutPrediction) -> HeldOutPrediction:
        truth, prediction, matched = map(self._scattered, (column.truth, column.prediction, column.matched))
        return replace(column, truth=truth, prediction=prediction, matched=matched)

    def _scattered(self, values: np.ndarray) -> np.ndarray:
        whole = np.full(self.n_utterances, np.nan, dtype=values.dtype)
        whole[self.rows] = values
        return whole


@dataclass(frozen=True)
class LeftOut:
    """A derived target that is not probed, with the reason as a sentence."""

    target: str
    reason: str


def rated_parts(data: SweepData, plan: SweepPlan) -> tuple[list[RatedPart], list[LeftOut]]:
    """Divide a sweep into its parts.

    Args:
        data: of all utterances that any target rates; ratings are NaN and codes -1 where there is none
        plan: of all targets, nominal targets and residuals

    Returns:
        the parts, in the order of the plan's targets, and the residuals that nothing is left of

    Raises:
        InputError: if a target has too few ratings for the folds, or one value only in a fold's training speakers
    """
    rated = dict(zip(plan.targets, np.isfinite(data.ratings).T, strict=True))
    residuals, left_out = {}, []
    for name in plan.residuals:
        residuals[name] = np.all([rated[t] for t in (name, *RESIDUAL_OF[name])], axis=0)
        if reason := _reason_without_residual(data, plan, name, residuals[name]):
            left_out.append(LeftOut(name + RESIDUAL, reason))
            del residuals[name]
    kinds = {
        "targets": rated,
        "residuals": residuals,
        "nominal": dict(zip(plan.nominal, data.codes.T >= 0, strict=True)),
    }
    patterns: dict[bytes, dict[str, list[str]]] = {}
    masks = {}
    for kind, masks_of_kind in kinds.items():
        for name, mask in masks_of_kind.items():
            masks[mask.tobytes()] = mask
            patterns.setdefault(mask.tobytes(), {k: [] for k in kinds})[kind].append(name)
    return [_part(data, plan, np.flatnonzero(masks[key]), names) for key, names in patterns.items()], left_out


def _part(data: SweepData, plan: SweepPlan, rows: np.ndarray, names: dict[str, list[str]]) -> RatedPart:
    targets, nominal = tuple(names["targets"]), tuple(names["nominal"])
    needed = [t for name in names["residuals"] for t in (name, *RESIDUAL_OF[name]) if t not in targets]
    others = tuple(dict.fromkeys(needed))
    columns, codes = (
        [every.index(t) for t in some] for every, some in ((plan.targets, targets), (plan.nominal, nominal))
    )
    own = replace(
        plan,
        targets=targets,
        nominal=nominal,
        classes=tuple(plan.classes_of[t] for t in nominal),
        residuals=tuple(names["residuals"]),
        text_residuals=tuple(t for t in plan.text_residuals if t in targets),
        probes=tuple(p for p in plan.probes if (nominal if p == "logistic" else targets)),
        mixes=plan.mixes if targets else (),
        fused=plan.fused and bool(targets),
    )
    part = RatedPart(
        rows,
        len(data.utterance_ids),
        SweepData(
            utterance_ids=data.utterance_ids[rows],
            speaker_ids=data.speaker_ids[rows],
            groups=np.unique(data.groups[rows], return_inverse=True)[1],
            ratings=_select(data.ratings, rows, columns),
            codes=_select(data.codes, rows, codes),
            splits=restricted(data.splits, rows, len(data.utterance_ids), ", ".join((*targets, *nominal))),
            labels={name: labels[rows] for name, labels in data.labels.items()},
            units=None if data.units is None else np.unique(data.units[rows], return_inverse=True)[1],
            other_targets=others,
            other_ratings=data.ratings[rows][:, [plan.targets.index(t) for t in others]],
            blocks=None if data.blocks is None else data.blocks[rows],
        ),
        own,
    )
    _check_values(part)
    return part


def _select(values: np.ndarray, rows: np.ndarray, columns: list[int]) -> np.ndarray:
    """Return some rows and columns; all of them are the array itself, whose layout in memory rounds sums."""
    is_whole = len(rows) == len(values) and columns == list(range(values.shape[1]))
    return values if is_whole else np.ascontiguousarray(values[rows][:, columns])


def restricted(splits: list[Split], rows: np.ndarray, n_rows: int, target: str) -> list[Split]:
    """Return the splits of some rows, numbered among them; a split whose held-out utterances lack a rating is left out.

    Args:
        splits: of all rows
        rows: ``(n,)`` rising numbers of the rows that have a rating
        n_rows: number of all rows
        target: its name, for messages

    Raises:
        InputError: if no held-out utterance has a rating, or speakers with ratings are in fewer than two inner folds
    """
    if len(rows) == n_rows:
        return splits
    position = np.full(n_rows, -1)
    position[rows] = np.arange(len(rows))
    found = []
    for split in splits:
        train, test = position[split.train], position[split.test]
        numbers, inner_folds = np.unique(split.inner_folds[train >= 0], return_inverse=True)
        if not (test >= 0).any():
            continue
        if len(numbers) < 2:
            raise InputError(
                "LP514",
                f"Holding out {split.name} leaves speakers with ratings of {target} in {len(numbers)} of the "
                f"{len(np.unique(split.inner_folds))} inner folds, and choosing alpha takes two. Ask for more folds, "
                "or leave it out: name the others with --target.",
            )
        found.append(Split(split.name, train[train >= 0], test[test >= 0], inner_folds))
    if not found:
        raise InputError(
            "LP501", f"No held-out utterance has a rating of {target}. Name the other targets with --target."
        )
    return found


def _check_values(part: RatedPart) -> None:
    """Check, before any layer is fitted, that each target has several values to learn from."""
    data, plan = part.data, part.plan
    names, both = (*plan.targets, *plan.nominal), np.column_stack([data.ratings, data.codes])
    for split in data.splits:
        for name in np.array(names, dtype=object)[varies_by_rounding(both[split.train])]:
            raise InputError(
                "LP505",
                f"{name} has one value only in the training speakers, so no probe can learn it. Leave it out: "
                "name the others with --target.",
            )
    if not plan.cross_corpus:
        return
    corpus = data.labels["corpus"]
    for one in np.unique(corpus[corpus != ""]).tolist():
        for split in splits_within(data.splits, corpus, one):
            for name in np.array(names, dtype=object)[varies_by_rounding(both[split.train])]:
                raise InputError(
                    "LP505",
                    f"{name} has one value only in the training speakers of corpus {one!r}, so no probe can learn "
                    "it there. Leave that target or --cross-corpus out.",
                )


def _reason_without_residual(data: SweepData, plan: SweepPlan, name: str, rated: np.ndarray) -> str:
    """Return why a target has no residual after others that a probe could learn; empty where it has."""
    rows, others = np.flatnonzero(rated), RESIDUAL_OF[name]
    try:
        splits = restricted(data.splits, rows, len(rated), name)
    except InputError:
        return f"too few utterances rate all of {', '.join((name, *others))}"
    ratings, explained = (data.ratings[rows][:, [plan.targets.index(t) for t in some]] for some in ((name,), others))
    for split in splits:
        rest = residual(ratings[:, 0], explained, split.train)
        if residual_is_rounding(rest[split.train], ratings[split.train, 0]):
            return f"{name} follows from {' and '.join(others)}: what they leave of it is rounding"
    return ""


def with_text_residuals(parts: list[RatedPart], transcripts: list[str] | None) -> tuple[list[RatedPart], list[LeftOut]]:
    """Return the parts with the residuals of ratings given the transcript, and those that nothing is left of.

    Args:
        parts: whose plans name the targets that have text residuals
        transcripts: of the whole data, None where there are none

    Raises:
        InputError: if a plan asks for text residuals and no utterance has a transcript
    """
    if not any(part.plan.text_residuals for part in parts):
        return parts, []
    if transcripts is None:
        raise InputError("LP540", "No utterance that is probed has a transcript. Leave --residualize-text out.")
    features, done, left_out = word_counts(transcripts), [], []
    for part in parts:
        data, plan = part.data, part.plan
        if not plan.text_residuals:
            done.append(part)
            continue
        chosen = [plan.targets.index(t) for t in plan.text_residuals]
        rest = text_residuals(
            part.take(features),
            data.ratings[:, chosen],
            splits=data.splits,
            alphas=plan.alphas,
            inner_selection=plan.inner_selection,
        )
        exact = [_is_exact(data, column, rest[:, :, k]) for k, column in enumerate(chosen)]
        kept = tuple(t for t, nothing in zip(plan.text_residuals, exact, strict=True) if not nothing)
        left_out += [
            LeftOut(t + TEXT_RESIDUAL, f"{t} follows from the transcript: what it leaves of it is rounding")
            for t in plan.text_residuals
            if t not in kept
        ]
        rest = rest[:, :, [k for k, nothing in enumerate(exact) if not nothing]]
        done.append(
            replace(
                part, data=replace(data, text_residuals=rest if kept else None), plan=replace(plan, text_residuals=kept)
            )
        )
    return done, left_out


def _is_exact(data: SweepData, column: int, rest: np.ndarray) -> bool:
    """Return whether the text residual of one target, ``(n_utterances, n_splits)``, is rounding in a split."""
    return any(
        residual_is_rounding(rest[split.train, k], data.ratings[split.train, column])
        for k, split in enumerate(data.splits)
    )


def target_counts(parts: list[RatedPart]) -> list[dict[str, int | str]]:
    """Return for each target its name, the utterances and speakers that rate it, and how many utterances do not."""
    return [
        {
            "name": name,
            "n_utterances": len(part.rows),
            "n_speakers": len(np.unique(part.data.groups)),
            "n_not_rated": part.n_utterances - len(part.rows),
        }
        for part in parts
        for name in (
            *part.plan.targets,
            *(t + RESIDUAL for t in part.plan.residuals),
            *(t + TEXT_RESIDUAL for t in part.plan.text_residuals),
            *part.plan.nominal,
        )
    ]
