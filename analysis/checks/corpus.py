"""Checks of the corpus and of what is held out: speakers, groups, shared audio, folds, utterances left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layerprobe.analysis.checks.records import Outcome, issue, not_applicable, passed, tip
from layerprobe.analysis.checks.utterances import check_classes, check_dominant_speaker, check_values
from layerprobe.analysis.formatting import plural, shown_name
from layerprobe.analysis.study import Study
from layerprobe.probe.data.shared_audio import SharedAudio, handled_text
from layerprobe.probe.splits import UNKNOWN_SPEAKER

FEW_SPEAKERS = 20
UNBALANCED = 2.0  # ratio of the largest to the smallest fold


def _plan(study: Study) -> dict[str, Any]:
    return study.runs[0].plan


def check_speakers_given(study: Study) -> Iterator[Outcome]:
    """Check whether the corpus names its speakers."""
    if _plan(study)["sweep"]["speakers"]:
        yield passed("Speakers were given, and no fold tests a speaker that it trained on.")
    else:
        yield issue(
            "No speakers were given: the same speaker may be in training and test data, so scores may be optimistic."
        )


def check_few_speakers(study: Study) -> Iterator[Outcome]:
    """Check how many speakers, or values of the column that groups, were held out."""
    plan = _plan(study)
    n_speakers, group_by, units = plan["corpus"]["n_speakers"], plan["sweep"].get("group_by"), plan.get("held_out")
    if n_speakers < FEW_SPEAKERS:
        yield issue(f"Only {n_speakers} speakers: other speakers may give another ranking of the layers.")
    if group_by and units is not None:
        joined = f", to which {units['n_groups']} were joined," if units["n_units"] < units["n_groups"] else ""
        is_few = units["n_units"] < FEW_SPEAKERS
        sentence = (
            f"{'Only ' if is_few else ''}{units['n_units']} {plural(group_by)}{joined} were held out; wherever the "
            "report names resamples of or intervals over speakers, these are the units that were resampled."
        )
        yield issue(sentence) if is_few else tip(sentence)
    elif n_speakers >= FEW_SPEAKERS:
        yield passed(f"{n_speakers} speakers were held out, {FEW_SPEAKERS} or more.")


def check_unknown_speakers(study: Study) -> Iterator[Outcome]:
    """Check whether held-out utterances are of unknown speakers."""
    if not _plan(study)["sweep"]["speakers"]:
        yield not_applicable("No speakers were given.")
        return
    speaker_id = study.predictions.speaker_id
    if unknown := int(np.sum(speaker_id == UNKNOWN_SPEAKER)):
        yield issue(
            f"{unknown} of {len(speaker_id)} held-out utterances are of unknown speakers, each treated as a speaker of "
            "its own: some may be in the training data too, and intervals may be too narrow."
        )
    else:
        yield passed(f"The speaker of each of the {len(speaker_id)} held-out utterances is known.")


def check_dominance_of_a_speaker(study: Study) -> Iterator[Outcome]:
    """Check whether one speaker spoke most of the held-out utterances."""
    yield from check_dominant_speaker(study.predictions.speaker_id, speakers=_plan(study)["sweep"]["speakers"])


def check_shared_speakers(study: Study) -> Iterator[Outcome]:
    """Check whether speakers are in several values of the column that groups."""
    plan = _plan(study)
    group_by, units = plan["sweep"].get("group_by"), plan.get("held_out")
    if not group_by or units is None:
        yield not_applicable("Folds hold out speakers, not values of another column.")
    elif units["n_shared_speakers"]:
        yield issue(
            f"{units['n_shared_speakers']} of {plan['corpus']['n_speakers']} speakers are in training and test data: "
            f"scores are of other values of {group_by}, not of other speakers."
        )
    else:
        yield passed(f"No speaker is in several folds of {plural(group_by)}.")


def check_shared_audio(study: Study) -> Iterator[Outcome]:
    """Check whether utterances have the same audio."""
    found = dict(_plan(study).get("shared_audio", {}))
    if not found:
        yield passed("No two utterances were found to have the same audio.")
        return
    handled = handled_text(found.pop("duplicates"), found.pop("n_left_out"))
    yield tip(f"{SharedAudio(**found)}: {handled}.")


def check_balance(study: Study) -> Iterator[Outcome]:
    """Check whether folds hold out about as many utterances each."""
    plan = _plan(study)
    sizes, n_units = [f["n_test_utterances"] for f in plan.get("folds", [])], plan.get("held_out", {}).get("n_units")
    if len(sizes) < 2:
        yield not_applicable("The run has one test set.")
    elif len(sizes) in (n_units, plan["corpus"]["n_speakers"]):
        yield not_applicable("Each fold holds out one speaker or group, whose size is given.")
    elif max(sizes) > UNBALANCED * min(sizes):
        yield issue(
            f"The folds are unbalanced: they hold out {min(sizes)} to {max(sizes)} utterances, so the pooled score is "
            "mostly that of the largest."
        )
    else:
        yield passed(f"The folds are balanced: they hold out {min(sizes)} to {max(sizes)} utterances.")


def check_values_of_folds(study: Study) -> Iterator[Outcome]:
    """Check whether a target has one value alone in a fold."""
    yield from check_values(study.predictions)


def check_classes_of_speakers(study: Study) -> Iterator[Outcome]:
    """Check whether a class has utterances of one speaker alone."""
    yield from check_classes(study.predictions, _plan(study)["sweep"])


def check_left_out(study: Study) -> Iterator[Outcome]:
    """Check whether utterances of the manifest were left out."""
    corpus, found = _plan(study)["corpus"], []
    for key, reason in (("n_not_cached", "not in the cache"), ("n_not_rated", "without a rating for any target")):
        if corpus[key]:
            found.append(tip(f"{corpus[key]} utterances of the manifest were left out: {reason}."))
    yield from found or [passed(f"All {corpus['n_utterances']} utterances of the manifest were used.")]


def check_partly_rated(study: Study) -> Iterator[Outcome]:
    """Check whether utterances lack a rating of a target."""
    plan = _plan(study)
    found = [
        tip(
            f"{shown_name(row['name'])} is scored on {row['n_utterances']} of {plan['corpus']['n_utterances']} "
            f"utterances, of {row['n_speakers']} speakers; the others have no rating of it."
        )
        for row in plan.get("target_counts", [])
        if row["n_not_rated"]
    ]
    yield from found or [passed("Every utterance has a rating of every target.")]


def check_not_scored(study: Study) -> Iterator[Outcome]:
    """Check whether a target was not scored."""
    left_out = _plan(study).get("left_out", [])
    found = [tip(f"{shown_name(row['target'])} was not scored: {row['reason']}.") for row in left_out]
    yield from found or [passed("Every target was scored.")]
