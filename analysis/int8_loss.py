"""What 8 bits change of a predictor's scores on unseen speakers, with intervals over speakers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerprobe.analysis.statistics.bootstrap import ccc, resample_speakers, speaker_sums, without_each_speaker
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.progress import NullProgress

if TYPE_CHECKING:
    from layerprobe.probe.predictors.fitting import SweptData
    from layerprobe.probe.predictors.onnx import ExportedPredictor
    from layerprobe.probe.predictors.unseen import UnseenRatings

N_UTTERANCES = 200  # the most that are run, of whole speakers
SEED = 0


def int8_losses(rated: Sequence[UnseenRatings]) -> list[dict[str, Any]]:
    """Return for each target the CCC of both files on the same utterances, and the difference with its interval.

    Args:
        rated: with predictions named ``float32`` and ``int8``

    Returns:
        a table with ``target``, ``n_utterances``, ``n_speakers`` (or larger units that were held out), ``ccc_float32``,
        ``ccc_int8``, ``difference`` (int8 minus float32; all three None where a rating is the same for all), ``low``
        and ``high`` (95 % over speakers, BCa; None where there are too few) and ``largest_change`` of a rating, in the
        target's unit
    """
    losses = []
    for one in rated:
        both = np.column_stack([one.predictions["float32"], one.predictions["int8"]])
        speakers = np.unique(one.speakers, return_inverse=True)[1]
        sums = speaker_sums(np.column_stack([one.ratings] * 2), both, speakers)
        n_speakers = len(np.unique(speakers))
        counts = resample_speakers(n_speakers, rng=np.random.default_rng(SEED))
        parts = sums.resampled(np.ones((1, n_speakers))), sums.resampled(counts), without_each_speaker(sums)
        estimate, resamples, left_out = map(ccc, parts)
        scores = BootstrapSample(estimate[0], resamples, left_out)
        difference = (scores[1] - scores[0]).one()
        losses.append(
            {
                "target": one.target,
                "n_utterances": len(one.ratings),
                "n_speakers": n_speakers,
                "ccc_float32": _known(estimate[0, 0]),
                "ccc_int8": _known(estimate[0, 1]),
                "difference": _known(difference.estimate),
                "low": _known(difference.ci_low),
                "high": _known(difference.ci_high),
                "largest_change": float(np.abs(both[:, 1] - both[:, 0]).max()),
            }
        )
    return losses


def measure_int8_loss(
    exported: ExportedPredictor,
    swept: SweptData | None,
    *,
    n_utterances: int = N_UTTERANCES,
    progress: NullProgress | None = None,
) -> dict[str, Any]:
    """Measure what 8 bits change of the scores on unseen speakers, and add it to the description of the files.

    Both files are run on the audio of a sample of whole speakers of the run, and what they make of it is rated by heads
    that are refitted without the fold of each utterance.

    Args:
        exported: of `probe.predictors.onnx.export_predictor` with ``int8``
        swept: the run that the predictor was deployed from; None where it is not at hand
        n_utterances: the most to run the files on
        progress: of the utterances

    Returns:
        a table with ``processor``, the ``unit`` that was held out, ``n_sampled`` utterances, ``n_unread`` of them,
        ``losses`` (`int8_losses`), and ``not_measured``, which states why there are no losses, "" where there are

    Raises:
        InputError: if the predictor is of another run
    """
    found = _measured(exported, swept, n_utterances, progress or NullProgress())
    content = json.loads(exported.description.read_text(encoding="utf-8"))
    replace_file(exported.description, json.dumps(content | {"int8": found}, indent=1) + "\n")
    return found


def int8_sentences(found: dict[str, Any]) -> list[str]:
    """Return what `measure_int8_loss` found, one sentence for each target."""
    if found["not_measured"]:
        return [f"The loss of CCC by 8 bits was not measured: {found['not_measured']}."]
    sentences = []
    for one in found["losses"]:
        of_what = f"on {one['n_utterances']} utterances of {one['n_speakers']} unseen {found['unit']}s."
        if one["difference"] is None:
            sentences.append(
                f"{one['target']}: the ratings of the sample are all the same, so it has no CCC, {of_what}"
            )
            continue
        interval = "" if one["low"] is None else f" (95 % interval {one['low']:+.4f} to {one['high']:+.4f})"
        sentences.append(
            f"{one['target']}: CCC {one['ccc_float32']:.3f} in float32, {one['ccc_int8']:.3f} in 8 bits, difference "
            f"{one['difference']:+.4f}{interval}, {of_what}"
        )
    return sentences


def _measured(
    exported: ExportedPredictor, swept: SweptData | None, n_utterances: int, progress: NullProgress
) -> dict[str, Any]:
    from layerprobe.probe.predictors.onnx_files import processor
    from layerprobe.probe.predictors.unseen import embed_sample, encoder_of, rate_unseen

    unit = exported.saved.plan.interval_unit
    found: dict[str, Any] = {
        "processor": processor(),
        "unit": unit,
        "n_sampled": 0,
        "n_unread": 0,
        "losses": [],
        "not_measured": "",
    }
    if exported.int8 is None or swept is None:
        missing = "there is no file of 8 bits"
        if swept is None:
            missing = "no run was named, on whose recordings it is measured"
        return found | {"not_measured": missing}
    encoder_of(exported.saved, swept)
    files: dict[str, Path] = {"float32": exported.float32.path, "int8": exported.int8.path}
    sample = embed_sample(files, exported.saved, swept, n_utterances=n_utterances, progress=progress)
    found |= {"n_sampled": len(sample.rows) + sample.n_unread, "n_unread": sample.n_unread}
    if not len(sample.rows):
        why = f"no speaker of {swept.manifest} has {n_utterances} utterances or fewer"
        if sample.n_unread:
            why = f"no recording of {swept.manifest} could be read (first: {sample.reason})"
        return found | {"not_measured": why}
    return found | {"losses": int8_losses(rate_unseen(sample, exported.saved, swept))}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
