"""Erasures of a sweep: scores of layers without a concept or random directions, and of what is left of concepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from layerprobe.probe.results.erased import AFTER, BEFORE, CONCEPT_ONLY, RANK, REFIT, REFIT_BEFORE, random_name
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults, SweepData
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.solvers.concept_probes import ConceptProbe, Decoded
from layerprobe.probe.solvers.erased_ridge import Directions, SplitRidge
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.solvers.ridge_fit import RidgeFit
from layerprobe.probe.splits import Split
from layerprobe.probe.sweep.data.concepts import TOGETHER
from layerprobe.probe.sweep.data.rated_parts import RatedPart
from layerprobe.probe.sweep.fits.layer_probes import make_targets, ridge_columns
from layerprobe.probe.tasks.concepts import MOST_DIRECTIONS, Concept
from layerprobe.probe.tasks.targets import ProbeTargets

REPEATS = 5  # of random directions for each erasure
RANDOM_STREAM = 28  # of the generator, so that no control has the same numbers
SHOWN = 2  # columns of a concept in a sentence at most
FEWEST_KNOWN = 3  # training utterances with a concept from which a probe of it is trained


@dataclass(frozen=True)
class Erasures:
    """What a sweep erases: concepts one by one or together, with their values."""

    erased: tuple[tuple[str, ...], ...] = ()  # names of concepts; those of one erasure are erased together
    concepts: dict[str, Concept] = field(default_factory=dict)
    numbers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # by concept and split, as it erases them

    @classmethod
    def of_concepts(
        cls, erased: tuple[tuple[str, ...], ...], concepts: Sequence[Concept], splits: Sequence[Split]
    ) -> Erasures:
        """Compute what of concepts depends on a split: the principal components of its training rows."""
        numbers: dict[str, dict[str, np.ndarray]] = {}
        for concept in concepts:
            if concept.of_speakers:
                continue
            same = None if concept.components else concept.of_split(splits[0])
            numbers[concept.name] = {s.name: concept.of_split(s) if same is None else same for s in splits}
        return cls(erased, {concept.name: concept for concept in concepts}, numbers)

    def named(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the name of each erasure in scores, with its concepts."""
        return [(TOGETHER.join(names), names) for names in self.erased]

    def values(self, name: str, split: Split) -> np.ndarray:
        """Return codes of the classes of a concept, or its numbers, of all utterances."""
        concept = self.concepts[name]
        return concept.values if concept.is_nominal else self.numbers[name][split.name]

    def notes(self) -> list[str]:
        """Return a sentence for each concept, with what its values are; no speaker is named."""
        lines = []
        for concept in self.concepts.values():
            shown, n = ", ".join(concept.columns[:SHOWN]), len(concept.columns)
            values = f"{n} speakers" if concept.of_speakers else f"{shown} …" if n > SHOWN else shown
            lines.append(f"Concept {concept.name}: {values}, from {concept.source}.")
        return lines

    def to_toml(self) -> dict[str, Any]:
        """Return what the table ``[erasure]`` of plan.toml has of concepts and their erasures."""
        return {
            "erasures": [
                {
                    "name": name,
                    "concepts": list(names),
                    "n_columns": sum(self.concepts[n].n_columns for n in names),
                    "n_known": int(np.all([self.concepts[n].known for n in names], axis=0).sum()),
                }
                for name, names in self.named()
            ],
            "concepts": [
                {
                    "name": concept.name,
                    "kind": "classes" if concept.is_nominal else "numbers",
                    "columns": [] if concept.of_speakers else list(concept.columns),  # names of people
                    "source": concept.source,
                    "path": concept.path,
                    "n_known": int(concept.known.sum()),
                    "content": concept.content(),
                }
                for concept in self.concepts.values()
            ],
        }


NOTHING_ERASED = Erasures()


@dataclass(frozen=True)
class _ErasedSplit:
    """The ridge of a layer in one split, with the directions of each erasure."""

    ridge: SplitRidge
    erased: dict[str, Directions]  # by the name of the erasure

    @classmethod
    def fit(
        cls, x: np.ndarray, split: Split, erasures: Erasures, *, alphas: tuple[float, ...], part: RatedPart | None
    ) -> _ErasedSplit:
        """Fit erasers on the training rows of a split, of the rows of a part or of all."""
        ridge = SplitRidge(x, split, alphas=alphas)
        erased = {}
        for name, names in erasures.named():
            values = [erasures.values(n, split) for n in names]
            rows = values if part is None else [part.take(of_concept) for of_concept in values]
            erased[name] = ridge.leace(*rows, most=MOST_DIRECTIONS)
        return cls(ridge, erased)


def erased_probes(
    x: np.ndarray, data: SweepData, parts: Sequence[RatedPart], erasures: Erasures, keys: dict[str, Any]
) -> ProbeResults:
    """Fit ridge to one layer without each concept and without random directions, and to the concepts themselves.

    Ratings are fitted on the utterances that have them, and concepts once, on all.

    Args:
        x: embeddings, ``(n_utterances, n_features)``
        data: all utterances, and the splits
        parts: the ratings, each with its utterances
        erasures: what is erased
        keys: encoder, layer, control and seed of the rows of the score table
    """
    targets = [make_targets(part.data, part.plan) for part in parts]
    fits: list[dict[str, list[RidgeFit]]] = [{} for _ in parts]
    decoded: dict[tuple[str, str, str], dict[str, Decoded]] = {}
    ranks: dict[str, dict[str, int]] = {name: {} for name, _ in erasures.named()}
    for split in data.splits:
        whole = _ErasedSplit.fit(x, split, erasures, alphas=parts[0].plan.alphas, part=None)
        for name, directions in whole.erased.items():
            ranks[name][split.name] = directions.rank
        for concept, metrics in _decode(x, data, whole, erasures):
            for (name, metric), values_of_fold in metrics.items():
                decoded.setdefault((name, concept, metric), {})[split.name] = values_of_fold
        for part, own, found in zip(parts, targets, fits, strict=True):
            # a split in which no held-out utterance is rated is none of the part's
            for k, rows in ((k, s) for k, s in enumerate(part.data.splits) if s.name == split.name):
                one = whole
                if len(part.rows) < part.n_utterances:
                    one = _ErasedSplit.fit(part.take(x), rows, erasures, alphas=part.plan.alphas, part=part)
                for name, fit in _fits(one, own, k, seed=part.plan.seed):
                    found.setdefault(name, []).append(fit)
    label = {**keys, "probe": "ridge"}
    scored = [_scored(part, own, found, label) for part, own, found in zip(parts, targets, fits, strict=True)]
    rows_of_concepts = [*_concept_rows(decoded, label), *_rank_rows(ranks, erasures, label)]
    return sum(scored, NO_RESULTS) + ProbeResults([], rows_of_concepts, [])


def _scored(
    part: RatedPart, targets: ProbeTargets, fits: dict[str, list[RidgeFit]], label: dict[str, Any]
) -> ProbeResults:
    """Return the results of a part, with predictions for the rows of the whole data."""
    finished, scored = NO_RESULTS, dict[tuple[int, ...], ProbeResults]()
    for name, of_splits in fits.items():
        same = tuple(map(id, of_splits))  # erasures of one rank have the same random directions, which are scored once
        if same not in scored:
            columns = ridge_columns(of_splits, targets, part.data.splits, {**label, "erased": name})
            scored[same] = ProbeResults.from_columns(columns, part.data)
        finished += _named(scored[same], name)
    return part.in_whole(finished)


def _named(results: ProbeResults, name: str) -> ProbeResults:
    """Return results with another name of what was erased."""
    columns = [replace(column, keys={**column.keys, "erased": name}) for column in results.columns]
    return ProbeResults(columns, [{**row, "erased": name} for row in results.scores], [])


def _fits(one: _ErasedSplit, targets: ProbeTargets, number: int, *, seed: int) -> Iterator[tuple[str, RidgeFit]]:
    """Yield the fits of one split to the ratings, by the name of what was erased."""
    ridge, wanted = one.ridge, np.flatnonzero((targets.of_split == -1) | (targets.of_split == number))
    y, shared = np.ascontiguousarray(targets.y[:, wanted]), targets.shared[wanted]

    def fit(directions: Directions) -> RidgeFit:
        return _in_whole(ridge.fit(y, shared=shared, erased=directions), wanted, targets.y.shape[1])

    of_random: dict[int, list[RidgeFit]] = {}  # erasures of the same rank have the same random directions
    for name, directions in one.erased.items():
        yield name, fit(directions)
        rank = directions.rank
        if rank not in of_random:
            rngs = [np.random.default_rng([seed, RANDOM_STREAM, rank, repeat]) for repeat in range(REPEATS)]
            of_random[rank] = [fit(ridge.random(rank, rng)) for rng in rngs]
        for repeat, random_fit in enumerate(of_random[rank]):
            yield random_name(name, repeat), random_fit


def _in_whole(fit: RidgeFit, columns: np.ndarray, n_columns: int) -> RidgeFit:
    """Return a fit of some columns as one of all, NaN in the others."""

    def scattered(values: np.ndarray) -> np.ndarray:
        whole = np.full((*values.shape[:-1], n_columns), np.nan)
        whole[..., columns] = values
        return whole

    names = ("prediction", "inner_mean", "inner_std", "inner_error", "alpha", "inner_errors")
    return replace(fit, ratio=np.zeros(n_columns, dtype=int), **{name: scattered(getattr(fit, name)) for name in names})


def _decode(
    x: np.ndarray, data: SweepData, one: _ErasedSplit, erasures: Erasures
) -> Iterator[tuple[str, dict[tuple[str, str], Decoded]]]:
    """Yield each concept with its held-out predictions, by the erasure and the metric."""
    groups, ridge, split = data.groups, one.ridge, one.ridge.split
    for concept in erasures.numbers:
        values = erasures.numbers[concept][split.name]
        if np.isfinite(values[split.train]).all(axis=1).sum() < FEWEST_KNOWN:
            continue
        probe = ConceptProbe.train(ridge, values)
        before, before_refit = probe.unseen(None), probe.refitted(x, groups, None)
        metrics: dict[tuple[str, str], Decoded] = {}
        for name, names in erasures.named():
            if concept not in names:
                continue
            refit = probe.refitted(x, groups, one.erased[name])
            metrics |= {(name, BEFORE): before, (name, AFTER): probe.unseen(one.erased[name])}
            if refit is not None and before_refit is not None:
                metrics |= {(name, REFIT_BEFORE): before_refit, (name, REFIT): refit}
        yield concept, metrics


def _concept_rows(
    decoded: dict[tuple[str, str, str], dict[str, Decoded]], label: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the correlations of concepts with their predictions, per fold and pooled."""
    for (name, concept, metric), by_fold in decoded.items():
        for fold, one in [*by_fold.items(), (POOLED, Decoded.together(list(by_fold.values())))]:
            value = one.r()
            if np.isfinite(value):
                yield {**label, "erased": name, "target": concept, "fold": fold, "metric": metric, "value": value}


def _rank_rows(ranks: dict[str, dict[str, int]], erasures: Erasures, label: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, names in erasures.named():
        for concept in names:
            for fold, value in [*ranks[name].items(), (POOLED, max(ranks[name].values()))]:
                row = {"erased": name, "target": concept, "fold": fold, "metric": RANK, "value": float(value)}
                yield {**label, **row}


def concepts_alone(part: RatedPart, erasures: Erasures, algebra: Algebra) -> ProbeResults:
    """Fit ridge to the values of each erasure's concepts, without any layer.

    Speakers are left out: unseen ones have no value that was seen in training.
    """
    data, plan, finished = part.data, part.plan, NO_RESULTS
    targets = make_targets(data, plan)
    keys = {"encoder": "", "layer": "", "control": "none", "seed": 0, "probe": "ridge", "baseline": CONCEPT_ONLY}
    for name, names in erasures.named():
        seen = [n for n in names if n in erasures.numbers]
        if not seen:
            continue
        fits = []
        for split in data.splits:
            x = np.hstack([_filled(part.take(erasures.numbers[n][split.name]), split) for n in seen])
            fits += nested_ridge(
                x,
                targets.y,
                splits=[split],
                alphas=plan.alphas,
                shared=targets.shared,
                algebra=algebra,
                inner_selection=plan.inner_selection,
            )
        columns = ridge_columns(fits, targets, data.splits, {**keys, "erased": name})
        finished += ProbeResults.from_columns(columns, data)
    return finished


def _filled(values: np.ndarray, split: Split) -> np.ndarray:
    """Return values with the mean of the training rows where they are not known, and a column that marks these."""
    unknown = ~np.isfinite(values).all(axis=1)
    if not unknown.any():
        return values
    known = split.train[~unknown[split.train]]
    filled = np.where(unknown[:, None], values[known].mean(axis=0) if len(known) else 0.0, values)
    return np.column_stack([filled, unknown])
