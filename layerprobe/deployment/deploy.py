"""Stage: deploy a run's finding as a predictor: an encoder cut at the layer that suffices, with heads for ratings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import study
from layerprobe.analysis.subgroups import scores_by_group
from layerprobe.deployment.card import README, CardFacts, card, weights_licence
from layerprobe.deployment.choice import (
    EVERY,
    ChosenLayer,
    check_deployable,
    choose_encoder,
    choose_layers,
    choose_targets,
    not_above_chance,
)
from layerprobe.deployment.weights import check_same, encoder_with, load_whole, recorded_source
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.encoders.foreign_names import is_foreign
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file, size_of
from layerprobe.probe.fingerprints import combined_fingerprint, plan_fingerprint
from layerprobe.probe.layer_names import n_blocks
from layerprobe.probe.lease import RUN_LEASE, RUN_LOCK, leased_folder
from layerprobe.probe.metrics import DEFAULT_METRIC
from layerprobe.probe.predictors.conformal import half_width, reachable_level
from layerprobe.probe.predictors.cut import blocks_needed, cut_encoder, save_encoder
from layerprobe.probe.predictors.fitting import fit_head, with_interval
from layerprobe.probe.predictors.folder import (
    ENCODER,
    HEADS,
    PREDICTOR,
    PredictorPlan,
    read_predictor,
    write_predictor,
)
from layerprobe.probe.predictors.heads import Head
from layerprobe.probe.predictors.held_out import held_out_column, held_out_errors, only_columns
from layerprobe.probe.predictors.swept import SweptData, read_swept
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import Predictions, Run, read_run

STAGING = "partial"  # folder in which a predictor is made before its files are moved to their places
OWN = {PREDICTOR, HEADS, ENCODER, README, STAGING, RUN_LEASE, RUN_LOCK}  # what a predictor's folder has of ours


@dataclass(frozen=True)
class Deployed:
    """A predictor that was made."""

    folder: Path
    plan: PredictorPlan
    chosen: tuple[ChosenLayer, ...]  # of each target
    heads: tuple[Head, ...]
    scores: list[dict[str, Any]]  # of each target on unseen speakers, as in predictor.toml
    parameters: tuple[int, int]  # of the encoder: kept, and of the whole
    bytes: int  # of the folder
    notes: tuple[str, ...]  # on why the encoder was chosen, intervals of few speakers, and targets not above chance


@dataclass(frozen=True)
class _Fitted:
    """Everything of a predictor but for its encoder."""

    heads: tuple[Head, ...]
    scores: list[dict[str, Any]]
    level: float
    n_calibrated: int


def deploy(
    run: Run | Path | str,
    out: Path | str,
    *,
    encoder: str | None = None,
    layers: Mapping[str, str | int] | str | int | None = None,
    targets: Sequence[str] = (),
    caches: Sequence[Cache | Path | str] = (),
    manifest: Path | str | None = None,
    progress: NullProgress | None = None,
) -> Deployed:
    """Make a predictor of a run: the encoder cut at the layer that suffices, and a head for each rating.

    Heads are ridge regressions, or weighted sums of layers, refitted on all speakers with the penalty that the sweep's
    folds choose. Prediction intervals are calibrated on the sweep's held-out predictions
    (`probe.predictors.conformal`).

    Args:
        run: of `layerprobe sweep`
        out: folder to write; one that holds the same predictor is written again
        encoder: its name in the run, or where its weights are: a folder, or a name of the hub; None for the run's only
            one of audio, or of several the one with the highest scores
        layers: of each target a layer's number or name, or ``weighted_sum``, ``uniform_mix`` or ``softmax_mix``; one
            value for all; targets without one get the lowest layer that is not significantly worse than the best
        targets: ratings; all of the run if empty
        caches: those that are no longer where the run records them
        manifest: path of the ratings, if it is no longer where the run records it
        progress: receives the progress

    Raises:
        InputError: if the run has nothing that can be deployed, a file is gone or has changed, the weights are others
            than those of the run, or the folder holds something else
    """
    progress, out = progress or NullProgress(), Path(out)
    run = run if isinstance(run, Run) else read_run(run)
    progress.log("Reading the run, its caches and its manifest …")
    swept = read_swept(run, caches=caches, manifest=manifest)
    targets = choose_targets(swept, targets)
    found = study(run, DEFAULT_METRIC)
    loaded: LoadedModel | None = None
    weights, note = "", ""
    if encoder is None:
        name, note = choose_encoder(swept, found, targets)
    elif (known := _known_name(swept, encoder)) is not None:
        name = known
    else:
        loaded, weights = load_whole(encoder)
        name = encoder_with(weights, swept, encoder)
    cache = swept.cache(name)
    check_deployable(name, cache)
    chosen = choose_layers(swept, found, encoder=name, targets=targets, layers=_by_target(layers))
    columns = [held_out_column(swept, found.predictions, encoder=name, target=c.target, layer=c.layer) for c in chosen]
    plan = _plan(swept, cache, chosen)
    check_free(out, plan.fingerprint)
    with leased_folder(out):
        place = encoder if loaded is not None and encoder is not None else recorded_source(name, cache)
        if loaded is None:
            progress.log(f"Loading {place} …")
            loaded, weights = load_whole(place)
        check_same(loaded, weights, name=name, cache=cache, place=place)
        progress.log("Fitting the heads on all speakers …")
        fitted = _fit(swept, found.predictions, columns, encoder=name, chosen=chosen)
        plan = replace(plan, level=fitted.level, n_calibrated=fitted.n_calibrated)
        before = _n_parameters(loaded)
        cut_encoder(loaded, plan.n_blocks)
        parameters = (_n_parameters(loaded), before)
        groups = scores_by_group(only_columns(found.predictions, columns), metric=DEFAULT_METRIC)
        facts = CardFacts(
            plan, run.plan["corpus"], chosen, fitted.heads, fitted.scores, groups, parameters,
            weights_licence(place), out.name,
        )  # fmt: skip
        _write(out, loaded, facts)
    return Deployed(
        out,
        plan,
        chosen,
        fitted.heads,
        fitted.scores,
        parameters,
        size_of(out),
        tuple(filter(None, [note, _few(plan), *not_above_chance(found, encoder=name, targets=targets)])),
    )


def check_free(folder: Path, fingerprint: str) -> None:
    """Check that a folder is empty, or holds the same predictor, or what is left of one that was interrupted.

    Raises:
        InputError: if it holds another one, or anything else
    """
    if not folder.is_dir():
        return
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in OWN)
    is_ours = (folder / PREDICTOR).is_file()
    if others and not is_ours:
        raise InputError(
            "LP928", f"{folder} has other files (first: {others[0]}). Name another --out, or an empty folder."
        )
    try:
        there = read_predictor(folder).plan.fingerprint if is_ours else fingerprint
    except InputError:
        return  # it is damaged, or of another version, and is replaced
    if there != fingerprint:
        raise InputError(
            "LP928",
            f"{folder} holds another predictor ({there}, not {fingerprint}). Name another --out, or remove it first.",
        )


def _known_name(swept: SweptData, encoder: str) -> str | None:
    """Return the name in the run of an encoder that is named so there, or by its name on the hub; None for a place.

    Raises:
        InputError: if it is neither a name in the run nor a place that weights could be loaded from
    """
    if encoder in swept.caches:
        return encoder
    if "/" not in encoder and not Path(encoder).exists() and not is_foreign(encoder):
        swept.cache(encoder)
    repository, _, revision = encoder.partition("@")
    named = [
        name
        for name, cache in swept.caches.items()
        if cache.plan.upstream == repository
        and cache.plan.revision
        and revision in ("", cache.plan.revision)
        and cache.plan.random_init is None
    ]
    return named[0] if len(named) == 1 else None


def _by_target(layers: Mapping[str, str | int] | str | int | None) -> dict[str, str]:
    if layers is None:
        return {}
    given = layers if isinstance(layers, Mapping) else {EVERY: layers}
    return {target: str(layer) for target, layer in given.items()}


def _plan(swept: SweptData, cache: Cache, chosen: Sequence[ChosenLayer]) -> PredictorPlan:
    """Return the plan of a predictor before its intervals are calibrated."""
    plan, counts = cache.plan, swept.dataset.counts
    whole = n_blocks(cache.layers)
    needed = [c.layer if c.layer in cache.layers else str(whole) for c in chosen]
    unit = swept.plan.group_by or ("speaker" if swept.plan.speakers else "utterance")
    found = PredictorPlan(
        fingerprint="",
        run=swept.run.fingerprint,
        upstream=plan.upstream,
        revision=plan.revision,
        weights=plan.weights,
        architecture=plan.architecture,
        n_blocks=blocks_needed(needed, n_blocks=whole),
        n_blocks_of_whole=whole,
        poolings=plan.poolings,
        precision=plan.precision,
        audio_channels=plan.audio_channels,
        end_silence=plan.end_silence,
        sampling_rate=plan.sampling_rate,
        level=0.0,
        corpus=str(swept.run.plan["corpus"]["name"]),
        n_speakers=counts["n_speakers"],
        n_utterances=counts["n_utterances"],
        interval_unit=unit,
    )
    layers = [f"{c.target} {c.layer}" for c in chosen]
    return replace(found, fingerprint=combined_fingerprint(plan_fingerprint(found), *layers))


def _fit(
    swept: SweptData, predictions: Predictions, columns: Sequence[int], *, encoder: str, chosen: Sequence[ChosenLayer]
) -> _Fitted:
    """Fit the heads on all speakers and calibrate their intervals on what the sweep predicted for unseen ones."""
    errors = [held_out_errors(predictions, column) for column in columns]
    n_units = [len(np.unique(units)) for _, units in errors]
    level = reachable_level(min(n_units))
    rng = np.random.default_rng(swept.plan.seed)
    table = bootstrap_scores(only_columns(predictions, columns), metric=DEFAULT_METRIC).table().set_index("target")
    scales = swept.scales
    heads, scores = [], []
    for choice, column, (error, units), n in zip(chosen, columns, errors, n_units, strict=True):
        head = fit_head(swept, encoder=encoder, target=choice.target, layer=choice.layer)
        heads.append(with_interval(head, half_width(error, units, level=level, rng=rng)))
        low, high = scales[choice.target]
        label = predictions.columns.iloc[column]
        found = dict(table.loc[choice.target])
        scores.append(
            {
                "target": choice.target,
                "encoder": encoder,
                "probe": str(label["probe"]),
                "layer": str(label["layer"]),
                "metric": DEFAULT_METRIC,
                **{name: float(found[name]) for name in ("estimate", "ci_low", "ci_high")},
                "lowest": low,
                "highest": high,
                "n_utterances": len(error),
                "n_speakers": n,
                "half_width": heads[-1].half_width,
                **_of_sufficient(choice),
            }
        )
    return _Fitted(tuple(heads), scores, level, min(n_units))


def _of_sufficient(choice: ChosenLayer) -> dict[str, Any]:
    if choice.sufficient is None:
        return {"chosen": "named"}
    names = ("best_layer", "best_score", "difference", "behind_at_most", "p_not_best")
    found = asdict(choice.sufficient)
    return {"chosen": "sufficient", **{name: found[name] for name in names}}


def _write(out: Path, loaded: LoadedModel, facts: CardFacts) -> None:
    """Write a predictor next to its place, and move its files there, ``predictor.toml`` last."""
    staging = out / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    save_encoder(loaded, staging / ENCODER)
    replace_file(staging / README, card(facts))
    scales = {row["target"]: (row["lowest"], row["highest"]) for row in facts.scores}
    write_predictor(staging, facts.plan, facts.heads, scales=scales, scores=facts.scores)
    for folder in (Path(ENCODER), Path()):
        (out / folder).mkdir(exist_ok=True)
        files = [file for file in (staging / folder).iterdir() if file.is_file()]
        for file in sorted(files, key=lambda file: file.name == PREDICTOR):
            file.replace(out / folder / file.name)
    shutil.rmtree(staging)


def _n_parameters(loaded: LoadedModel) -> int:
    return sum(parameter.numel() for parameter in loaded.family.encoder(loaded.model).parameters())


def _few(plan: PredictorPlan) -> str:
    if reachable_level(plan.n_calibrated) < reachable_level(10**9):
        return (
            f"Intervals have a level of {100 * plan.level:.0f} %, the highest that {plan.n_calibrated} "
            f"{plan.interval_unit}s can show; 90 % takes 9."
        )
    return ""
