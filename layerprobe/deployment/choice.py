"""Choice of the encoder, the targets and the layer of each for a predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layerprobe.analysis.formatting import number_text
from layerprobe.analysis.layers.sufficient import Sufficient, sufficient_layers
from layerprobe.analysis.study import Study
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import METRIC_NAMES
from layerprobe.probe.predictors.cut import adapter_error
from layerprobe.probe.predictors.fitting import MIXES
from layerprobe.probe.predictors.swept import SweptData

EVERY = ""  # the key of a layer that is for all targets


@dataclass(frozen=True)
class ChosenLayer:
    """The layer that the head of a target reads."""

    target: str
    layer: str  # or one of `MIXES`
    sufficient: Sufficient | None  # None where the user named it

    @property
    def reason(self) -> str:
        """Why it is that layer, as a part of a sentence."""
        found = self.sufficient
        if found is None:
            return "as requested"
        if found.layer == found.best_layer:
            return "the best layer" + (", and each lower one is significantly worse" if found.layer != "0" else "")
        return (
            f"the lowest not significantly worse than the best, layer {found.best_layer} "
            f"({number_text(found.best_score)})"
        )


def parse_layers(values: Sequence[str]) -> dict[str, str]:
    """Return the layer of each target from texts such as ``valence=9``; one without a target is for all.

    Raises:
        InputError: if a target is named twice

    >>> parse_layers(["valence=9", "arousal=weighted_sum"]), parse_layers(["6"])
    ({'valence': '9', 'arousal': 'weighted_sum'}, {'': '6'})
    """
    found: dict[str, str] = {}
    for text in values:
        target, sign, layer = text.rpartition("=")
        if (sign and not target) or not layer or target in found:
            raise InputError(
                "LP926",
                f"--layer {text} is not one layer for one target. Write --layer valence=9, or --layer 9 for all.",
            )
        found[target] = layer
    return found


def deployable(name: str, cache: Cache) -> str:
    """Return why an encoder can't be deployed, with what to do instead; empty where it can."""
    plan = cache.plan
    if plan.text_column is not None:
        return f"{name} reads text, and a predictor reads audio: train an audio-text regressor with layerprobe train"
    if not plan.is_stack:
        return (
            f"{name} has features and no blocks to cut: use LayerEmbedder and LayerRidge of layerprobe in a "
            "scikit-learn Pipeline"
        )
    if plan.random_init is not None:
        return f"{name} has untrained weights, which are a control: deploy the encoder that it is a control of"
    return ""


def check_deployable(name: str, cache: Cache) -> None:
    """Check that an encoder can be cut and saved.

    Raises:
        InputError: if it reads text, has no blocks, is untrained, or is described by an adapter file
    """
    if reason := deployable(name, cache):
        raise InputError("LP923", f"No predictor can be made of that encoder. {reason}.")
    if cache.plan.adapter:
        raise adapter_error(cache.plan.upstream)


def choose_encoder(swept: SweptData, study: Study, targets: Sequence[str]) -> tuple[str, str]:
    """Return the encoder of a run that can be deployed, of several the best, and a sentence on why it was chosen.

    Args:
        swept: of the run
        study: of the same run
        targets: whose scores count

    Raises:
        InputError: if none can
    """
    names = [name for name, cache in swept.caches.items() if not deployable(name, cache)]
    if not names:
        reasons = "; ".join(deployable(name, cache) for name, cache in swept.caches.items())
        raise InputError("LP923", f"No predictor can be made of the encoders of {swept.run.path}. {reasons}.")
    if len(names) == 1:
        others = len(swept.caches) > 1
        return names[0], f"{names[0]} is the only encoder of the run that can be deployed." if others else ""
    table = study.table
    rows = table[(table["probe"] == "ridge") & (table["control"] == "none") & table["target"].isin(list(targets))]
    best = {n: rows[rows["encoder"] == n].groupby("target")["value"].max().mean() for n in names}
    chosen = max(best, key=lambda name: best[name])
    scores = ", ".join(f"{name} {number_text(float(value))}" for name, value in best.items())
    metric = METRIC_NAMES[study.metric]
    return chosen, f"{chosen} has the highest mean {metric} of the best layers ({scores}); --encoder chooses another."


def not_above_chance(study: Study, *, encoder: str, targets: Sequence[str]) -> list[str]:
    """Return a sentence on each target that an encoder does not predict better than chance, where a run tests that."""
    return [
        f"{answer.target}: {encoder} is not above chance in this run, so these ratings are no better than guessing."
        for answer in study.answers
        if answer.encoder == encoder and answer.target in targets and answer.above_chance is False
    ]


def choose_targets(swept: SweptData, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the targets of a predictor: those that are named, or all rated ones of the run.

    Raises:
        InputError: if one has classes, or the run did not rate it
    """
    nominal = swept.plan.nominal
    if classes := [t for t in targets if t in nominal] or (list(nominal) if not swept.plan.targets else []):
        raise InputError(
            "LP927",
            f"{classes[0]} has classes, and a predictor gives ratings. For classes use LayerEmbedder of layerprobe and "
            "LogisticRegression in a scikit-learn Pipeline.",
        )
    for target in targets:
        swept.part(target)
    return tuple(dict.fromkeys(targets)) or swept.plan.targets


def choose_layers(
    swept: SweptData, study: Study, *, encoder: str, targets: Sequence[str], layers: Mapping[str, str]
) -> tuple[ChosenLayer, ...]:
    """Return the layer of each target: the one that is named, else the smallest sufficient one.

    Args:
        swept: of the run
        study: of the same run
        encoder: its name in the run
        targets: of the predictor
        layers: by target, `EVERY` for all others

    Raises:
        InputError: if a layer is not one of the encoder's, a target is none of the predictor's, or it is not known
            which layers suffice
    """
    for target in layers.keys() - {EVERY, *targets}:
        swept.part(target)
        raise InputError("LP926", f"--layer {target}={layers[target]} is of no target that is deployed. Leave it out.")
    known = (*swept.cache(encoder).layers, *MIXES)
    for layer in layers.values():
        if layer not in known:
            raise InputError(
                "LP903",
                f"{encoder} has no layer {layer!r} in {swept.caches[encoder].path}; choose one of {', '.join(known)}.",
            )
    named = {target: layers.get(target, layers.get(EVERY)) for target in targets}
    found = sufficient_layers(study, encoder) if None in named.values() else {}
    return tuple(
        ChosenLayer(target, layer, None)
        if layer is not None
        else ChosenLayer(target, found[target].layer, found[target])
        for target, layer in named.items()
    )
