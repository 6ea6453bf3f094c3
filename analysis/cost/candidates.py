"""The candidates whose cost is compared: each layer, mix, fusion and regressor of one or several runs.

Cumulative mixes, which describe depth, and layers selected by cross-validation, which differ by fold, are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.selection import with_chosen
from layerprobe.analysis.model_comparison import on_shared_utterances, trained_parameters
from layerprobe.analysis.runs import chosen_metric, shown_names
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.results.run_folder import (
    CHOSEN,
    CONDITIONS,
    FUSED_RIDGE,
    FUSED_WEIGHTED_SUM,
    JOINED,
    TRAINED,
    Predictions,
    Run,
    read_predictions,
    read_run,
)
from layerprobe.probe.results.selection import chosen_layers

ALL = "all"  # the layer of mixes and of trained regressors
BRANCHES = ("audio", "text")  # of a trained regressor, and its folders with their configurations


@dataclass(frozen=True)
class Origin:
    """Where an encoder of a run comes from."""

    layers: tuple[str, ...] = ()  # empty for those of a trained regressor, whose configuration has them
    plan: Mapping[str, Any] = field(default_factory=dict)  # its table in plan.toml
    folder: Path | None = None  # of its configuration, for a trained regressor

    @property
    def reads(self) -> str:
        """What its input is: ``audio`` or ``text``."""
        if self.folder is not None:
            return self.folder.name
        return "text" if self.plan.get("text_column") else "audio"


@dataclass(frozen=True)
class Candidate:
    """What could be deployed for one target: which encoders it needs, up to which layer, and the size of its head."""

    run: str  # name of the run's folder
    encoder: str  # under which it is shown
    probe: str
    layer: str
    target: str
    parts: tuple[tuple[str, str], ...]  # key of an `Origin`, and the last layer that is needed of it
    head: float  # parameters of the head, for this target; NaN where the run does not state them
    total: float = float("nan")  # parameters of a trained regressor, whose encoders were cut when it was built


@dataclass(frozen=True)
class Candidates:
    """The candidates of all runs with their scores on the utterances that all runs held out."""

    folders: list[Path]
    fingerprint: str
    metric: str
    rows: list[Candidate]  # in the order of ``bootstrap.keys``
    bootstrap: BootstrapScores
    origins: dict[str, Origin]  # by the name that an encoder is shown under
    notes: list[str]  # remarks on what is compared

    @property
    def targets(self) -> list[str]:
        """Targets in order."""
        return list(dict.fromkeys(row.target for row in self.rows))

    def chosen(self, targets: Sequence[str]) -> list[str]:
        """Return some targets, or all if none is named.

        Raises:
            InputError: if there is none of that name
        """
        for name in targets:
            if name not in self.targets:
                raise InputError(
                    "LP655", f"target {name!r} is not in the runs; choose one of {', '.join(self.targets)}."
                )
        return list(targets) or self.targets


def read_candidates(folders: Sequence[Path | str], metric: str | None = None) -> Candidates:
    """Read the candidates of run folders of sweeps, fusions and trained regressors.

    Args:
        folders: run folders; an encoder whose name an earlier run has too is shown with the name of its folder
        metric: a key of `METRIC_NAMES`; as in `analysis.study.study` if None

    Raises:
        InputError: if a folder is no run, runs held out no utterance in common or differ in a rating, or there is no
            candidate with that metric
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise InputError("LP614", "No run folder was given. Name one that layerprobe sweep made.")
    runs = [read_run(path) for path in paths]
    metric = chosen_metric(runs[0], metric, paths[0])
    origins, parts, by_key = dict[str, Origin](), list[Predictions](), dict[tuple[str, ...], Candidate]()
    taken: set[str] = set()
    for path, run in zip(paths, runs, strict=True):
        own, predictions, found = _of_run(path, run, taken)
        origins |= own
        parts.append(predictions)
        by_key |= {(c.encoder, c.probe, c.layer, c.target): c for c in found}
        taken |= {c.encoder for c in found} | set(own)
    # alone, the order of the utterances is kept, so that scores are to the bit those of all other figures
    predictions = parts[0] if len(parts) == 1 else on_shared_utterances(parts, list(map(str, paths)))
    bootstrap = bootstrap_scores(predictions, metric=metric)
    keys = list(zip(*(bootstrap.keys[k] for k in ("encoder", "probe", "layer", "target")), strict=True))
    if not keys:
        raise InputError(
            "LP911",
            f"{' and '.join(map(str, paths))} holds no layer, mix or regressor with a score of {metric}. "
            "Choose another --metric, or sweep again.",
        )
    fingerprints = [run.fingerprint for run in runs]
    return Candidates(
        paths,
        fingerprints[0] if len(runs) == 1 else combined_fingerprint(*fingerprints),
        metric,
        [by_key[key] for key in keys],
        bootstrap,
        origins,
        [f"{path} has no {', '.join(run.pending)} yet." for path, run in zip(paths, runs, strict=True) if run.pending],
    )


def _of_run(path: Path, run: Run, taken: set[str]) -> tuple[dict[str, Origin], Predictions, list[Candidate]]:
    """Return the encoders of a run by the names they are shown under, and its candidates with their predictions."""
    selected = chosen_layers(run.scores)
    predictions = with_chosen(read_predictions(path, run.fingerprint), selected)
    columns = predictions.columns
    is_real = (columns["control"] == "none") & (columns[list(CONDITIONS)] == "").all(axis=1)
    shown = shown_names(dict.fromkeys([*run.encoders, *columns["encoder"][is_real]]), path, taken=taken)
    shown = {e: name if name not in taken else f"{e} ({path})" for e, name in shown.items()}
    origins = {
        shown[e["name"]]: Origin(tuple(e["layers"]), {k: v for k, v in e.items() if k != "name"})
        for e in run.plan["encoders"]
    }
    if not run.encoders:
        origins = {f"{path}: {b}": Origin(folder=path / b) for b in BRANCHES if b in run.plan}
    index, found = list[int](), dict[int, Candidate]()
    for k in np.flatnonzero(is_real).tolist():
        key = {name: columns[name].iloc[k] for name in ("encoder", "probe", "layer", "target")}
        parts = _parts(run, path, key, shown, selected)
        if parts is not None:
            head = trained_parameters(run, key["encoder"], key["probe"])
            total = float(run.plan["parameters"]["total"]) if key["probe"] == TRAINED else float("nan")
            names = {name: key[name] for name in ("probe", "layer", "target")}
            found[k] = Candidate(path.name, shown[key["encoder"]], **names, parts=parts, head=head, total=total)
            index.append(k)
    kept = columns.iloc[index].assign(encoder=[found[k].encoder for k in index]).reset_index(drop=True)
    predictions = replace(
        predictions, columns=kept, prediction=predictions.prediction[:, index], matched=predictions.matched[:, index]
    )
    return origins, predictions, list(found.values())


def _parts(
    run: Run, path: Path, key: Mapping[str, Any], shown: Mapping[str, str], selected: pd.DataFrame
) -> tuple[tuple[str, str], ...] | None:
    """Return the encoders that a column of predictions needs, each up to which layer; None if it is no candidate."""
    encoder, probe, layer = str(key["encoder"]), str(key["probe"]), str(key["layer"])
    if probe == TRAINED:
        return tuple((f"{path}: {b}", str(run.plan[b]["layer"])) for b in BRANCHES if b in run.plan)
    if probe in (FUSED_RIDGE, FUSED_WEIGHTED_SUM):
        names = encoder.split(JOINED)
        if probe == FUSED_WEIGHTED_SUM:
            return tuple((shown[name], ALL) for name in names)
        return tuple((shown[n], _most_selected(selected, n, key["target"], run.layers(n))) for n in names)
    if encoder not in run.encoders:
        return None
    if layer == ALL or (probe == "ridge" and layer != CHOSEN):
        return ((shown[encoder], layer),)
    return None


def _most_selected(selected: pd.DataFrame, encoder: str, target: str, layers: Sequence[str]) -> str:
    """Return the layer that most folds selected; of equally many the higher one."""
    folds = selected[(selected["encoder"] == encoder) & (selected["target"] == target)]["layer"]
    return max(layers, key=lambda name: (int((folds == name).sum()), layers.index(name)))


def candidates_of_encoder(rows: Sequence[Candidate], target: str) -> Iterator[tuple[str, list[int]]]:
    """Yield each encoder with the row numbers of its layers alone, in order, for one target."""
    names = dict.fromkeys(row.encoder for row in rows if row.target == target)
    for name in names:
        own = [k for k, r in enumerate(rows) if (r.encoder, r.target, r.probe) == (name, target, "ridge")]
        if own:
            yield name, own
