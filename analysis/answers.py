"""The main result of each encoder and target as one record, for the report's first table and ``layerprobe table``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.depth import HYPOTHESIS, MEASURES
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import Estimate
from layerprobe.analysis.statistics.permutation import exceeds_chance, holm, is_significant
from layerprobe.probe.layer_names import is_stack, relative_depth
from layerprobe.probe.results.run_folder import CHOSEN

NAN = float("nan")


@dataclass(frozen=True)
class Answer:
    """The score of one encoder for one target, where in depth it lies, and what it is compared with.

    Numbers that are not known are NaN; differences are above 0 where the encoder is better, whatever the metric.
    """

    encoder: str
    target: str
    metric: str  # a key of `METRIC_NAMES`
    layer: str  # of the score: "cv_selected", or the highest-scoring layer where none was selected
    score: float
    ci_low: float  # 95 % interval over speakers
    ci_high: float
    best_layer: str  # highest-scoring layer, a maximum that is optimistic
    best_score: float
    best_set: tuple[str, ...]  # layers not significantly worse than the best (95 % set); empty where not known
    layers: tuple[str, ...]  # all layers in order
    depths: tuple[float, ...]  # relative depth of each layer; empty for features without depth
    chance: float = NAN  # 95th percentile of the maximum over layers in permutations
    n_permutations: int = 0
    p_chance: float = NAN  # adjusted by Holm's method over all encoders and targets
    above_chance: bool | None = None  # at the 5 % level; None without a test, or where permutations are too few for one
    random_init: float = NAN  # score of the highest-scoring layer with random initialisation
    gain: float = NAN  # best_score minus random_init
    gain_ci_low: float = NAN
    gain_ci_high: float = NAN
    p_random: float = NAN  # that the gain is 0, adjusted by Holm's method over all encoders and targets
    above_random: bool | None = None  # at the 5 % level; None without a test
    acoustic: float = NAN  # acoustic features, or duration and loudness alone
    text: float = NAN  # bag of words of the transcript
    one_rater: float = NAN  # one rater against the mean of the others
    ceiling: float = NAN  # highest score that the reliability of the ratings allows
    is_best: bool = False  # above chance as far as tested, and none of several encoders is significantly better


@dataclass(frozen=True)
class DepthAnswer:
    """Whether valence lies deeper than arousal in one encoder."""

    encoder: str
    name: str  # "valence − arousal"
    measure: str  # a key of `analysis.layers.depth.MEASURES`
    estimate: float  # difference on relative depth, above 0 where valence lies deeper
    ci_low: float  # 95 % interval
    ci_high: float
    p_value: float  # adjusted by Holm's method over the encoders
    unknown: tuple[str, ...] = ()  # targets that the encoder does not predict above chance, so that depths mean nothing
    detectable: float = NAN  # difference that the corpus would show with a power of .8


class Tables(Protocol):
    """What a study has that answers are made from; see `analysis.study.Study`."""

    @property
    def layers(self) -> dict[str, list[str]]: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def targets(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def lower_is_better(self) -> bool: ...  # noqa: D102
    @property
    def table(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def bootstrap(self) -> BootstrapScores: ...  # noqa: D102
    @property
    def permutations(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def encoder_differences(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def gain_over_best_random(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def contrasts(self) -> pd.DataFrame: ...  # noqa: D102


def answers(study: Tables) -> list[Answer]:
    """Return the answer of each target and encoder, by target and then in the order of the encoders.

    Features without depth, such as acoustic ones, are a baseline of the others; they have answers of their own only
    where no encoder has stacked layers. p-values are adjusted over all answers (Holm, 1979).

    Args:
        study: of one or several runs
    """
    stacks = [e for e, names in study.layers.items() if is_stack(names)] or list(study.layers)
    found = [a for t in study.targets for e in stacks if (a := _answer(study, e, t)) is not None]
    found = _against_chance(found, study.permutations)
    adjusted = _holm([a.p_random for a in found])
    found = [
        replace(a, p_random=p, above_random=is_significant(p) and a.gain > 0 if np.isfinite(p) else None)
        for a, p in zip(found, adjusted, strict=True)
    ]
    return _with_best(found, study.encoder_differences, lower_is_better=study.lower_is_better)


def depth_answers(study: Tables, found: list[Answer]) -> list[DepthAnswer]:
    """Return the difference of depths of the hypothesis for each encoder, by the first of `MEASURES`.

    Args:
        study: of one or several runs
        found: its answers
    """
    rows = study.contrasts
    rows = rows[(rows["control"] == "none") & (rows["deeper"] == HYPOTHESIS[0]) & rows["encoder"].isin(study.layers)]
    measure = next((name for name in MEASURES if (rows["measure"] == name).any()), "")
    rows = rows[rows["measure"] == measure]
    below = {(a.encoder, a.target) for a in found if a.above_chance is False}
    result = []
    for row in rows.to_dict("records"):
        targets = (str(row["deeper"]), str(row["shallower"]))
        unknown = tuple(t for t in targets if (row["encoder"], t) in below)
        estimate, low, high, p = (float(row[k]) for k in ("estimate", "ci_low", "ci_high", "p_adjusted"))
        detectable = float(row["detectable"])
        result.append(DepthAnswer(row["encoder"], row["name"], measure, estimate, low, high, p, unknown, detectable))
    return result


def depth_sentence(found: list[DepthAnswer]) -> str:
    """Return in one sentence whether valence lies deeper than arousal, and in which encoders; empty without any."""
    if not found:
        return ""
    first, second = (shown_name(t) for t in HYPOTHESIS)
    kinds: dict[str, list[str]] = {}
    for a in found:
        if a.unknown:
            kind = "can't be compared where a target is not predicted above chance"
        elif not np.isfinite(a.ci_low):
            kind = "could not be estimated"
        elif not (is_significant(a.p_value) and (a.ci_low > 0 or a.ci_high < 0)):  # as of findings
            kind = "does not differ significantly"
        else:
            kind = f"{first} lies deeper" if a.estimate > 0 else f"{first} lies shallower"
        kinds.setdefault(kind, []).append(a.encoder)
    texts = "; ".join(f"{kind} ({', '.join(encoders)})" for kind, encoders in kinds.items())
    return f"Depth of {first} compared with {second}: {texts}."


def answer_frame(found: list[Answer]) -> pd.DataFrame:
    """Return answers as a table with a column for each field of `Answer`; sets of layers are joined by blanks."""
    rows = [
        {f.name: " ".join(map(str, v)) if isinstance(v := getattr(a, f.name), tuple) else v for f in fields(Answer)}
        for a in found
    ]
    return pd.DataFrame(rows, columns=[f.name for f in fields(Answer)])


def _answer(study: Tables, encoder: str, target: str) -> Answer | None:
    """Return an answer without p-values of several tests; None where the encoder has no score of the target."""
    names = study.layers[encoder]
    rows = study.table[(study.table["encoder"] == encoder) & (study.table["target"] == target)]
    rows = rows[(rows["probe"] == "ridge") & (rows["train_corpus"] == "") & rows["value"].notna()]
    own, untrained = (rows[rows["control"] == c].set_index("layer") for c in ("none", "random_init"))
    if own.empty:
        return None
    best = best_layer(own["value"], metric=study.metric)
    label = {"encoder": encoder, "target": target, "probe": "ridge"}
    layer, score = _score(study, label, best)
    gain = _gain(study, encoder, target)
    untrained_best = NAN
    if len(untrained):
        untrained_best = float(untrained["value"].loc[best_layer(untrained["value"], metric=study.metric)])
    return Answer(
        encoder=encoder,
        target=target,
        metric=study.metric,
        layer=layer,
        score=score.estimate,
        ci_low=score.ci_low,
        ci_high=score.ci_high,
        best_layer=best,
        best_score=float(own["value"].loc[best]),
        best_set=tuple(name for name in names if name in own.index and bool(own["in_best_set"].loc[name])),
        layers=tuple(names),
        depths=tuple(map(float, relative_depth(names))) if is_stack(names) else (),
        random_init=untrained_best,
        gain=gain.estimate,
        gain_ci_low=gain.ci_low,
        gain_ci_high=gain.ci_high,
        p_random=gain.p_value,
        acoustic=_acoustic(study, target),
        text=_baseline(study, target, "text_only"),
        one_rater=_baseline(study, target, "single_rater"),
        ceiling=_baseline(study, target, "noise_ceiling"),
    )


def _score(study: Tables, label: dict[str, str], best: str) -> tuple[str, Estimate]:
    """Return the layer selected by cross-validation, or else the best one, with its score and interval."""
    for layer in (CHOSEN, best):
        sample = study.bootstrap.of([layer], control="none", **label)
        if sample is not None:
            return layer, sample.one()
    rows = study.table[(study.table["layer"] == best) & (study.table["control"] == "none")]
    for key, value in label.items():
        rows = rows[rows[key] == value]
    return best, Estimate(float(rows["value"].iloc[0]), NAN, NAN, NAN)


def _gain(study: Tables, encoder: str, target: str) -> Estimate:
    """Return the difference between the best trained and the best untrained layer; neither has an advantage."""
    rows = study.gain_over_best_random
    rows = rows[(rows["encoder"] == encoder) & (rows["target"] == target)]
    if rows.empty:
        return Estimate(NAN, NAN, NAN, NAN)
    return Estimate(*(float(rows[name].iloc[0]) for name in ("value", "ci_low", "ci_high", "p_value")))


def _acoustic(study: Tables, target: str) -> float:
    """Return the score of features without depth, at the one selected by cross-validation, or of two of them alone."""
    for encoder, names in study.layers.items():
        rows = study.table[(study.table["encoder"] == encoder) & (study.table["target"] == target)]
        rows = rows[(rows["probe"] == "ridge") & (rows["control"] == "none")].dropna(subset=["value"])
        if is_stack(names) or rows.empty or not any(is_stack(other) for other in study.layers.values()):
            continue
        best = best_layer(rows.set_index("layer")["value"], metric=study.metric)
        return _score(study, {"encoder": encoder, "target": target, "probe": "ridge"}, best)[1].estimate
    return _baseline(study, target, "duration_loudness")


def _baseline(study: Tables, target: str, baseline: str) -> float:
    """Return the mean score of a baseline over its seeds or raters; NaN where the study has none."""
    rows = study.table[(study.table["baseline"] == baseline) & (study.table["target"] == target)]
    return float(rows["value"].mean()) if len(rows) else NAN


def _against_chance(found: list[Answer], permutations: pd.DataFrame) -> list[Answer]:
    """Add the chance level and the adjusted p-value, over all encoders and targets that were tested."""
    tests = list(permutations.groupby(["encoder", "target"], sort=False))
    adjusted = dict(
        zip([key for key, _ in tests], _holm([rows["p_permutation"].min() for _, rows in tests]), strict=True)
    )
    tested = {key: rows for key, rows in tests}
    result = []
    for answer in found:
        rows, p = tested.get((answer.encoder, answer.target)), adjusted.get((answer.encoder, answer.target), NAN)
        if rows is None:
            result.append(answer)
            continue
        n = int(rows["n_permutations"].iloc[0])
        above = exceeds_chance(float(rows["p_permutation"].min()), p, n_permutations=n)
        chance = float(rows["chance"].iloc[0])
        result.append(replace(answer, chance=chance, n_permutations=n, p_chance=p, above_chance=above))
    return result


def _with_best(found: list[Answer], differences: pd.DataFrame, *, lower_is_better: bool) -> list[Answer]:
    """Mark the encoders of each target that no other exceeds significantly, and that are not below chance."""
    adjusted = differences.assign(p=_holm(list(differences["p_value"])))
    worse: set[tuple[str, str]] = set()
    for target, of_target in _by_target(found):
        scores = {a.encoder: -a.score if lower_is_better else a.score for a in of_target if np.isfinite(a.score)}
        worse |= {(a.encoder, target) for a in of_target if a.encoder not in scores or a.above_chance is False}
        if len(scores) < 2:
            worse |= {(a.encoder, target) for a in of_target}
            continue
        best = max(scores, key=lambda e: scores[e])
        rows = adjusted[(adjusted["target"] == target) & adjusted["p"].map(is_significant).astype(bool)]
        worse |= {(r["reference"], target) for r in rows[rows["encoder"] == best].to_dict("records")}
        worse |= {(r["encoder"], target) for r in rows[rows["reference"] == best].to_dict("records")}
    return [replace(a, is_best=(a.encoder, a.target) not in worse) for a in found]


def _by_target(found: list[Answer]) -> Iterator[tuple[str, list[Answer]]]:
    for target in dict.fromkeys(a.target for a in found):
        yield target, [a for a in found if a.target == target]


def _holm(p: list[float]) -> list[float]:
    """Return adjusted p-values; those that are not known stay NaN and do not count."""
    values = np.array(p, dtype=float)
    known = np.isfinite(values)
    if known.any():
        values[known] = holm(values[known])
    return [float(v) for v in values]
