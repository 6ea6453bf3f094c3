"""The methods paragraph of a study and its references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from layerprobe.analysis.encoder_pairs import default_pairs
from layerprobe.analysis.formatting import plural
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES
from layerprobe.analysis.statistics.permutation import BY_SPEAKER
from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import scored_rows
from layerprobe.probe.metrics import CLASS_METRICS, METRIC_NAMES
from layerprobe.probe.results.run_folder import CHOSEN

REFERENCES = {
    "Lin, 1989": "Lin, L. I. (1989). A concordance correlation coefficient to evaluate reproducibility. Biometrics 45, "
    "255–268.",
    "Efron, 1987": "Efron, B. (1987). Better bootstrap confidence intervals. Journal of the American Statistical "
    "Association 82, 171–185.",
    "Hesterberg, 2015": "Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American "
    "Statistician 69, 371–386.",
    "Hsu, 1981": "Hsu, J. C. (1981). Simultaneous confidence intervals for all distances from the “best”. Annals of "
    "Statistics 9, 1026–1034.",
    "Romano and Wolf, 2005": "Romano, J. P. and Wolf, M. (2005). Stepwise multiple testing as formalized data "
    "snooping. Econometrica 73, 1237–1282.",
    "Westfall and Young, 1993": "Westfall, P. H. and Young, S. S. (1993). Resampling-based multiple testing. Wiley.",
    "Anderson and ter Braak, 2003": "Anderson, M. J. and ter Braak, C. J. F. (2003). Permutation tests for "
    "multi-factorial analysis of variance. Journal of Statistical Computation and Simulation 73, 85–113.",
    "Tenney et al., 2019": "Tenney, I., Das, D. and Pavlick, E. (2019). BERT rediscovers the classical NLP pipeline. "
    "Proceedings of ACL, 4593–4601.",
    "Knapp and Carter, 1976": "Knapp, C. H. and Carter, G. C. (1976). The generalized correlation method for "
    "estimation of time delay. IEEE Transactions on Acoustics, Speech, and Signal Processing 24, 320–327.",
    "Berger, 1982": "Berger, R. L. (1982). Multiparameter hypothesis testing and acceptance sampling. Technometrics "
    "24, 295–300.",
    "Bloom, 1995": "Bloom, H. S. (1995). Minimum detectable effects: a simple way to report the statistical power of "
    "experimental designs. Evaluation Review 19, 547–556.",
    "Hewitt and Liang, 2019": "Hewitt, J. and Liang, P. (2019). Designing and interpreting probes with control tasks. "
    "Proceedings of EMNLP, 2733–2743.",
    "Yang et al., 2021": "Yang, S. et al. (2021). SUPERB: Speech processing universal performance benchmark. "
    "Proceedings of Interspeech, 1194–1198.",
    "Nunez-Elizalde et al., 2019": "Nunez-Elizalde, A. O., Huth, A. G. and Gallant, J. L. (2019). Voxelwise encoding "
    "models with non-spherical multivariate normal priors. NeuroImage 197, 482–492.",
    "Kornblith et al., 2019": "Kornblith, S. et al. (2019). Similarity of neural network representations revisited. "
    "Proceedings of ICML, 3519–3529.",
    "Song et al., 2012": "Song, L. et al. (2012). Feature selection via dependence maximization. Journal of Machine "
    "Learning Research 13, 1393–1434.",
    "de Oliveira et al., 2023": "de Oliveira, D., Raj Prabhu, N. and Gerkmann, T. (2023). Leveraging semantic "
    "information for efficient self-supervised emotion recognition with audio-textual distilled models. Proceedings of "
    "Interspeech. arXiv:2305.19184.",
}


def methods_paragraph(study: Study) -> str:
    """Return the methods of a study in the past tense, with its numbers and with citations of `REFERENCES`."""
    sentences = [*_probes(study), *_statistics(study), *_controls(study), *_depth_and_mixes(study), *_several(study)]
    sentences += _over_time(study)
    return " ".join(sentences)


def _encoders(study: Study) -> list[dict[str, Any]]:
    return [encoder for run in study.runs for encoder in run.plan["encoders"]]


def _probes(study: Study) -> Iterator[str]:
    """Encoders, corpus, layers, and how probes were fitted and scored."""
    plan, corpus = study.runs[0].plan, study.runs[0].plan["corpus"]
    sweep, encoders = plan["sweep"], _encoders(study)
    names = ", ".join(f"{e['upstream']} ({len(e['layers'])} layers, {e['precision']})" for e in encoders)
    yield (
        f"We probed {names} on {corpus['n_utterances']:,} {scored_rows(plan)} of {corpus['n_speakers']:,} speakers of "
        f"{corpus['name']} {corpus['version']}".rstrip()
        + f". Each layer was pooled over time ({', '.join(encoders[0]['poolings'])}); layer 0 is the input of the "
        "first transformer block and layer k the output of block k."
    )
    yield (
        f"Ridge regressions were fitted per layer and target to embeddings standardised on the training speakers, and "
        f"scored in {_protocol(plan)}; the penalty was chosen among {len(sweep['alphas'])} per target and layer on "
        f"{sweep['n_inner_folds']} inner {sweep.get('group_by') or 'speaker'}-disjoint folds."
    )
    scores = f"Scores are {METRIC_NAMES[study.metric]} over all {corpus['n_held_out']:,} held-out {scored_rows(plan)}"
    if study.metric in CLASS_METRICS:
        yield (
            "Ridge regressions of classes were fitted to an indicator of each class; the class was predicted whose "
            "value exceeded its frequency in the training data by the largest factor, so that rare and frequent "
            "classes count alike."
        )
        if "logistic" in sweep.get("probes", []):
            yield (
                "Multinomial logistic regressions, whose loss weighs all classes alike, had their penalty chosen by "
                "log loss on the inner folds."
            )
        yield f"{scores}."
    else:
        yield (
            f"{scores}; the concordance correlation coefficient divides by n (Lin, 1989), and its moment-matched form "
            "gives predictions the mean and standard deviation of the ratings of the training speakers."
        )


def _protocol(plan: dict[str, Any]) -> str:
    """Return what was held out, with the numbers of groups and speakers."""
    sweep, units, n_speakers = plan["sweep"], plan.get("held_out", {}), plan["corpus"]["n_speakers"]
    folds, group_by = sweep.get("n_folds"), sweep.get("group_by")
    if not folds:
        return (
            f"the split of the corpus, with {sweep.get('test_split')} held out and its speakers removed from training"
        )
    unit = group_by or "speaker"
    if not group_by:
        counts, disjoint = f"({n_speakers} speakers)", "speakers"
    else:
        shared = f"{units['n_shared_speakers'] or 'none'} of them in several"
        counts = f"({units['n_groups']} {plural(group_by)}, {n_speakers} speakers, {shared})"
        disjoint = f"{plural(group_by)} {counts}"
    if folds == units.get("n_units"):
        joined = ", of which those with something in common are one" if units["n_units"] < units["n_groups"] else ""
        return f"cross-validation leaving one {unit} out{joined} {counts}"
    return f"{folds}-fold cross-validation with disjoint {disjoint}"


def _statistics(study: Study) -> Iterator[str]:
    """Intervals, the best set, chance, and selection of layers."""
    unit = plural(study.runs[0].plan["sweep"].get("group_by") or "speaker")
    yield (
        "Intervals are 95 % bias-corrected and accelerated bootstrap intervals (Efron, 1987) over "
        f"{N_RESAMPLES:,} resamples of {unit}, the same for all layers, targets and encoders, with expanded "
        f"percentiles for few {unit} (Hesterberg, 2015)."
    )
    yield (
        "The 95 % set of best layers holds the layers that no other layer exceeds by more than the 95th percentile of "
        "the maximum standardised difference over resamples (Hsu, 1981; Romano and Wolf, 2005)."
    )
    if len(study.permutations):
        first = study.permutations.iloc[0]
        scheme = (
            "permuting speakers' mean ratings between speakers and deviations within speakers "
            "(Anderson and ter Braak, 2003)"
            if first["control"] == BY_SPEAKER
            else "over all utterances"
        )
        yield (
            f"The chance level is the 95th percentile of the maximum score over layers (Westfall and Young, 1993) in "
            f"{first['n_permutations']} permutations of the ratings, {scheme}, with every fit repeated; p-values of "
            "several targets and encoders were adjusted by Holm's method."
        )
    if CHOSEN in set(study.evaluated_layers.values()):
        yield "Where a single layer represents an encoder, it was selected in each fold by cross-validation."


def _controls(study: Study) -> Iterator[str]:
    controls = set(study.scores["control"])
    if "random_init" in controls:
        yield "The same architecture with random initialisation served as a control."
    if controls & {"permuted_within_speaker", "random_per_speaker"}:
        yield "Selectivity is the score minus that on the ratings of a control task (Hewitt and Liang, 2019)."


def _depth_and_mixes(study: Study) -> Iterator[str]:
    if len(study.weights_table):
        yield (
            "Weighted sums are softmax-weighted sums of standardised layers (after Yang et al., 2021); a penalty on "
            "uneven weights was chosen on inner folds of the training speakers."
        )
    if len(study.contrasts):
        yield (
            "The hypothesis that valence lies deeper than arousal (de Oliveira et al., 2023) was tested by the shift s "
            "on relative depth, |s| ≤ 1/2, that maximises the correlation over layers of the score of valence at depth "
            "d with that of arousal at depth d − s (Knapp and Carter, 1976), interpolated between layers; a difference "
            "is significant where the 95 % intervals of s on scores r and on signal-to-noise ratios r² / (1 − r²) "
            "exclude 0 on the same side (Berger, 1982), because a target that is only weaker is not shifted in the "
            "same direction on both; expanded percentiles over the same resamples; the detectable shift has a power of "
            ".8 at the two-sided level of .05 (Bloom, 1995). The depth of one target is described by the centre of "
            "gravity of its scores above zero (after Tenney et al., 2019)."
        )


def _several(study: Study) -> Iterator[str]:
    """Covariates, fusion, comparisons of encoders, text and similarity."""
    if len(study.variance_partition):
        covariates = " and ".join(b["name"] for b in study.runs[0].plan.get("covariates", []))
        yield (
            f"Variance was partitioned by banded ridge regressions of each layer with the covariates {covariates} "
            "(Nunez-Elizalde et al., 2019)."
        )
    if len(study.encoder_differences):
        yield (
            "Encoders were compared by paired differences, each at its layer selected by cross-validation; p-values "
            "were adjusted by Holm's method over all pairs and targets."
        )
    if default_pairs(study):
        yield (
            "Encoders with the same architecture and layers were compared layer by layer, paired over resamples, with "
            "p-values adjusted for all layers, targets and encoders by the maximum statistic (Romano and Wolf, 2005), "
            "of scores of which those below 0 counted as 0 (errors and metrics of classes as they are); "
            "whether a target lies deeper in one of them was tested by the shift between their profiles over layers "
            "(Knapp and Carter, 1976; Berger, 1982)."
        )
    if len(study.fusion_gains):
        yield (
            "Encoders were also fitted together: banded ridge regressions (Nunez-Elizalde et al., 2019) of each "
            "encoder's layer with the lowest error on the inner folds, and one softmax over the layers of all encoders "
            "with a linear head for each; the gain of fusion is the paired difference from the same kind of probe of "
            "one encoder alone."
        )
    if any(e.get("text_column") for e in _encoders(study)):
        yield "Layers of text encoders were pooled over the tokens of the transcript and at its first token."
    if study.similarity is not None:
        yield (
            "Layers were compared by debiased linear CKA (Kornblith et al., 2019; Song et al., 2012) on a random "
            "sample of utterances stratified by speaker."
        )


def _over_time(study: Study) -> Iterator[str]:
    """Bins of time, and how their scores were tested."""
    if study.bin_scores is None:
        return
    names = {"position": "relative position", "onset": "time from the beginning", "label": "the label of the span"}
    bins = study.bin_scores.bins
    yield (
        f"Spans of each utterance were averaged in {len(bins.names)} bins of {names[bins.kind]}, and each layer was "
        "probed for the rating of the utterance in each bin, with the same folds in all. Scores of layers and bins "
        "were standardised by their means and standard deviations over permutations and compared with the maximum "
        "over all of them (Westfall and Young, 1993); differences between bins were tested for all pairs by the "
        "maximum statistic over resamples (Romano and Wolf, 2005)."
    )


def references(paragraph: str) -> list[str]:
    """Return the references that a paragraph cites, in alphabetical order."""
    return sorted(full for short, full in REFERENCES.items() if short in paragraph)
