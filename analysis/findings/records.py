"""The Finding record and findings.json; the sentences and tables of a report are written from these records."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from layerprobe.analysis.formatting import value_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import damage_of

FORMAT_VERSION = 1
FINDINGS = "findings.json"
NAMES = {
    "highest_scoring_layer": "highest-scoring layer",
    "best_set": "95 % set of best layers",
    "cv_selected_layer": "layer selected by cross-validation",
    "logistic": "logistic regression of classes",
    "weighted_sum": "weighted sum of layers",
    "chance": "chance level",
    "random_init": "highest-scoring layer, random initialisation",
    "gain_over_random": "gain over random initialisation",
    "gain_over_best_random": "gain over the best untrained layer",
    "gain_over_acoustic": "gain over acoustic features",
    "selectivity": "selectivity",
    "regret": "loss of a default choice of layer",
    "depth": "depth",
    "depth_difference": "difference of depths",
    "unique_variance": "variance partitioning",
    "encoder_difference": "difference between encoders",
    "encoder_gain": "gain over another encoder with the same layers",
    "encoder_shift": "shift of depth between encoders with the same layers",
    "erasure": "erased concept, compared with random directions",
    "time_peak": "bin of time that predicts best",
    "time_difference": "difference between bins of time",
    "fusion": "fused encoders",
    "fusion_gain": "gain of fusion",
    "subgroup": "score of a subgroup",
    "cross_corpus": "cross-corpus score",
}
N_LAYERS = "n_layers"  # metric of a best_set, whose estimate is a number of layers
NAN = float("nan")


@dataclass(frozen=True)
class Finding:
    """One result of a study: an estimate with its interval and p-value, how it was computed, and what it is about.

    Numbers that are not known are NaN. Fields below ``p_adjusted`` are None where they do not apply to a finding of
    that name.
    """

    name: str  # a key of `NAMES`
    encoder: str
    target: str  # of a depth difference "deeper − shallower"
    layer: str  # layer name, "cv_selected" (selected by cross-validation), or "all"
    metric: str  # a key of `METRIC_NAMES`, or `N_LAYERS`
    estimate: float  # a score, or a difference that is above 0 where the first is better, whatever the metric
    ci_low: float  # 95 % confidence interval
    ci_high: float
    interval: str  # method of the interval, a key of `INTERVAL_NAMES`; empty where there is none
    method: str  # how the estimate was computed
    source: str  # reference of the method
    detail: str = ""  # the fields below as a short text for people; not meant to be parsed
    p_value: float = NAN  # two-sided test of estimate = 0; of chance, one-sided permutation test over all layers
    p_adjusted: float = NAN  # by Holm (1979) within findings of the same name and comparison; see docs/formats.md
    # best_set: its layers; encoder_gain: those significantly better; erasure: those that lose more than by random ones
    layers: tuple[str, ...] | None = None
    reference: str | None = None  # differences: what is subtracted, an encoder, a control or a choice of layer
    reference_layer: str | None = None  # encoder_difference, gains, regret: layer of the reference
    control: str | None = None  # chance, selectivity, random_init, depth, depth_difference: control of the scores
    n_permutations: int | None = None  # chance: number of permutations of the ratings
    draw_min: float | None = None  # selectivity: range over the control's permutations or random ratings
    draw_max: float | None = None
    measure: str | None = None  # depth, depth_difference, encoder_shift: a key of `MEASURES`
    deeper: str | None = None  # depth_difference: target whose depth comes first in the difference
    shallower: str | None = None  # depth_difference: target whose depth is subtracted
    n_blocks: int | None = None  # shifts (encoder_shift, depth_difference): blocks that make a relative depth of 1
    detectable: float | None = None  # shifts: the one that is detected with power .8, on relative depth
    headroom: float | None = None  # depth by expected_layer: gain of the best mix of layers over layer 0
    headroom_ci_low: float | None = None
    headroom_ci_high: float | None = None
    component: str | None = None  # unique_variance: with_covariates, unique_layer, unique_covariates or shared
    covariates: str | None = None  # unique_variance: names of the covariates, joined by " + "
    probe: str | None = None  # logistic, weighted_sum, fusion, fusion_gain: probe of the score
    added: str | None = None  # fusion_gain: encoders that are added
    alone: str | None = None  # fusion_gain: encoder that they are added to
    grouping: str | None = None  # subgroup: gender or corpus
    group: str | None = None  # subgroup: its name
    n_utterances: int | None = None  # subgroup
    n_speakers: int | None = None  # subgroup
    train_corpus: str | None = None  # cross_corpus
    test_corpus: str | None = None  # cross_corpus
    concept: str | None = None  # erasure: concept that was erased, or several joined by "+"
    rank: int | None = None  # erasure: directions that were erased
    removed: float | None = None  # erasure: by how much the score is worse without the concept
    removed_random: float | None = None  # erasure: and without random directions
    fraction: float | None = None  # erasure: of R² that the concept removes; None where there is none above chance
    fraction_ci_low: float | None = None
    fraction_ci_high: float | None = None
    fraction_random: float | None = None  # erasure: of R² that random directions remove
    is_above_chance: bool | None = None  # erasure: whether the layer predicts the target above chance as it is
    bins_kind: str | None = None  # time_peak, time_difference: position, onset or label
    bin: str | None = None  # time_peak, time_difference: the bin of the score, or the better one of two
    bins: tuple[str, ...] | None = None  # time_peak: bins of the layer not significantly worse than its best
    reference_bin: str | None = None  # time_difference: the worse bin, which is subtracted
    n_bins: int | None = None  # time_peak: bins of the map
    worse_layers: tuple[str, ...] | None = None  # encoder_gain: layers that score significantly worse

    @property
    def comparison(self) -> tuple[str | None, ...]:
        """Key of the findings whose p-values are adjusted together: one for all differences of encoders, or of bins."""
        if self.name in ("encoder_difference", "time_difference"):
            return (self.name,)
        if self.name == "erasure":  # of all concepts of an encoder and target
            return (self.name, self.encoder, self.target)
        kind = (self.reference, self.control, self.measure, self.component, self.probe, self.added, self.alone)
        return (self.name, *kind)

    @property
    def value(self) -> str:
        """The estimate with its 95 % confidence interval, as text."""
        return value_text(self.estimate, self.ci_low, self.ci_high, self.interval)


def write_findings(path: Path, findings: list[Finding], *, fingerprint: str) -> None:
    """Write findings as JSON: ``format_version``, the run's ``fingerprint``, ``findings``; unknown values are null."""
    records = [{key: _known(value) for key, value in asdict(finding).items()} for finding in findings]
    content = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "findings": records}
    replace_file(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_findings(path: Path | str) -> list[Finding]:
    """Read the findings of a report.

    Raises:
        InputError: if the file is missing or damaged, or was written in another format version
    """
    path = Path(path)
    if not path.exists():
        raise InputError("LP620", f"{path} is missing. Make it with layerprobe report.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it holds no table")
        return _findings(content, path)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("LP620", f"{path} {damage_of(path, error)}. Make it anew with layerprobe report.") from error


def _findings(content: dict[str, Any], path: Path) -> list[Finding]:
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(
            "LP620",
            f"{path} has format version {content.get('format_version')}, and this version of layerprobe reads "
            f"{FORMAT_VERSION}. Make it anew with layerprobe report.",
        )
    floats = {f.name for f in fields(Finding) if f.type == "float"}
    found = []
    for record in content["findings"]:
        values: dict[str, Any] = {k: NAN if v is None and k in floats else v for k, v in record.items()}
        for name in ("layers", "worse_layers", "bins"):
            values[name] = None if values.get(name) is None else tuple(values[name])
        found.append(Finding(**values))
    return found


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
