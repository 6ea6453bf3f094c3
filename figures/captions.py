"""Captions of figures, ready to paste: what is shown, in which unit, of how many utterances and speakers."""

from __future__ import annotations

import pandas as pd

from layerprobe.analysis.cost.sentences import machine_text
from layerprobe.analysis.formatting import concept_text, number_text, plural, shown_name
from layerprobe.analysis.layers.weights import SINGLE
from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import scored_rows
from layerprobe.figures.plots.references import CEILINGS, MEANINGS, columns_of, reference_scores
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.metrics import METRIC_NAMES


def caption(figure: str, study: Study, table: pd.DataFrame) -> str:
    """Return the caption of a figure.

    Args:
        figure: a key of `figures.draw.PLOTS`
        study: of one or several runs
        table: tidy rows that the figure shows, as of `figures.tables.TABLES`
    """
    name = METRIC_NAMES[study.metric]
    corpus, units = study.runs[0].plan["corpus"], resampled_units(study)
    n = f"n = {corpus['n_held_out']} held-out {scored_rows(study.runs[0].plan)} of {corpus['n_speakers']} speakers"
    layers = "Layer 0 enters the first block."
    match figure:
        case "heatmap":
            texts = heatmap_texts(study, table, name=name, n=n, layers=layers)
        case "curves":
            texts = [
                f"Score of each layer over relative depth ({name}; {n}); ribbons: 95 % intervals over {units}.",
                "Grey band: scores up to chance, the 95th percentile of the highest-scoring layer on permuted ratings. "
                "Dashed: random initialisation; dotted: baselines; ticks under the axis: 95 % set of best layers; "
                "diamond: weighted sum of all layers.",
            ]
            if table["baseline"].isin(CEILINGS).any():
                texts.append("Dash-dotted: agreement of the raters.")
        case "gain-over-random":
            texts = [
                f"Gain of each layer over the same layer with random initialisation ({name}; {n}). {layers}",
                f"Blue and red diverge from zero; dots: the 95 % interval over {units} excludes zero.",
            ]
        case "layer-weights":
            texts = [
                "Weights of the weighted sum of layers and their contributions, as fractions of the sum over layers, "
                f"with the score of each layer alone ({name}; {n}). Pale points: single fits (folds and seeds); bars: "
                "95 % intervals over training speakers.",
                *selectors(table),
            ]
        case "depth":
            texts = [
                f"Relative depth of each target (0: input of the first block, 1: output of the last; {name}; {n})."
            ]
        case "best-layer":
            texts = [
                f"Fraction of bootstrap resamples of the {units} in which a layer scores best ({name}; {n}). {layers}",
                "Full bars: layers that are not significantly worse than the best (95 % set).",
            ]
        case "cost" | "erasure" | "gain":
            texts = TEXTS[figure](table, name=name, n=n, units=units)
        case "time-map" | "time-curve":
            texts = time_texts(figure, name=name, n=n, units=units)
        case _:
            texts = ["Similarity of layers (debiased linear CKA, 0 to 1), and of layers with the ratings."]
    return " ".join(texts)


def heatmap_texts(study: Study, table: pd.DataFrame, *, name: str, n: str, layers: str) -> list[str]:
    """Return the sentences of the caption of a heatmap; arguments as of `caption` and `cost_texts`."""
    slim = columns_of(reference_scores(table, layers=study.layers, targets=study.targets, metric=study.metric))
    texts = [
        f"Score of a linear probe on each layer ({name}; {n}).",
        f"{layers} Frames: layers that are not significantly worse than the best of their row (95 % set); dot: "
        "highest-scoring layer, a maximum over layers, which is optimistic; hatched: not above chance, "
        "and rows without any other cell have no frame.",
    ]
    return [*texts, f"Columns at the right: {'; '.join(MEANINGS[c] for c in slim)}."] if slim else texts


def time_texts(figure: str, *, name: str, n: str, units: str) -> list[str]:
    """Return the sentences of the caption of a figure over time; arguments as of `caption` and `cost_texts`."""
    predicted = f"the rating of the utterance, predicted from the mean of its spans in each bin ({name}; {n})"
    if figure == "time-map":
        return [
            f"Score of a linear probe on each layer over time: {predicted}. Layer 0 enters the first block.",
            "Frames: bins of the highest-scoring layer that are not significantly worse than its best (95 % set); dot: "
            "highest-scoring cell, a maximum over layers and bins, which is optimistic; hatched: not above chance, "
            "corrected for all layers and bins.",
        ]
    return [
        f"Score of the highest-scoring, the first and the last layer over time: {predicted}, with 95 % intervals over "
        f"{units}.",
        "Grey: not above chance in the highest-scoring layer, corrected for all layers and bins.",
    ]


def erasure_texts(table: pd.DataFrame, *, name: str, n: str, units: str) -> list[str]:
    """Return the sentences of the caption of erasure; arguments as of `cost_texts`, with a table of `erasure_rows`."""
    concepts = ", ".join(concept_text(concept) for concept in dict.fromkeys(table["concept"]))
    texts = [
        f"Score of each layer without what it linearly encodes of a concept: {concepts} ({name}; {n}). Layer 0 enters "
        "the first block.",
        f"Dark line: nothing erased; coloured: without the concept, with 95 % intervals over {units}; grey: without "
        f"random directions of the same rank, from the lowest to the highest of {int(table['n_random'].max())} "
        "repeats, and their mean.",
        f"Full markers: the concept removes more than random directions do (p ≤ .05, adjusted for the layers by the "
        f"maximum statistic over resamples of the {units}, and for the concepts).",
    ]
    if table["concept_alone"].notna().any():
        texts.append("Dotted: the concept alone, without a layer.")
    return texts


def gain_texts(table: pd.DataFrame, *, name: str, n: str, units: str) -> list[str]:
    """Return the sentences of the caption of a gain over another encoder; arguments as of `cost_texts`."""
    pairs = table[["encoder", "reference"]].drop_duplicates().itertuples(index=False)
    names = "; ".join(f"{encoder} over {reference}" for encoder, reference in pairs)
    texts = [
        f"Gain of each layer over the same layer of another encoder, {names} ({name}; {n}). Layer 0 enters the first "
        "block.",
        "Blue and red diverge from zero; dots: significantly different from zero by the maximum statistic over "
        f"all cells in resamples of the {units} (p ≤ .05).",
    ]
    if (table["measure"] == "shift").any():
        texts.append("Shift: number of blocks by which the profile over layers lies deeper; bold: p ≤ .05 (Holm).")
    return texts


def cost_texts(table: pd.DataFrame, *, name: str, n: str, units: str) -> list[str]:
    """Return the sentences of the caption of score against cost, with how costs were measured.

    Args:
        table: of `figures.tables.cost_rows`
        name: of the metric
        n: numbers of utterances and speakers
        units: what bootstrap resamples are of
    """
    texts = [
        f"Score of each layer, mix and regressor over its cost, {COSTS[str(table['cheapest_by'].iloc[0])]} ({name}; "
        f"{n}); bars: 95 % intervals over {units}. Line: the Pareto front, of those than which no other scores higher "
        "at no more cost.",
        "Ring: the cheapest that is not significantly worse than the best of all (95 % set), with its layer; not "
        "significantly worse is not equal. A layer needs the blocks up to it, a mix all blocks.",
    ]
    if table["real_time_factor"].notna().any():
        texts.append(f"Times: {machine_text(table)}.")
    if table["reads"].str.contains("text").any():
        texts.append("The recogniser that makes transcripts is not counted.")
    return texts


TEXTS = {"gain": gain_texts, "cost": cost_texts, "erasure": erasure_texts}


def selectors(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each mix that is little else than one layer.

    Args:
        table: rows ``encoder, target, layer, weight``
    """
    single = table[table["weight"] > SINGLE]
    return [
        f"For {shown_name(row['target'])}, the mix of {row['encoder']} selects layer {row['layer']} (weight "
        f"{number_text(row['weight'])}): the weights of the other layers were not measured."
        for row in single.to_dict("records")
    ]


def resampled_units(study: Study) -> str:
    """Return what bootstrap resamples are of: speakers, or the values of the column that groups."""
    return plural(study.runs[0].plan["sweep"].get("group_by") or "speaker")
