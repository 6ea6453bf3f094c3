"""Ratings that files of ONNX give for speakers that their heads were not fitted on.

The heads in a file are fitted on all speakers. So the embeddings that the file gives are rated by heads that are
refitted without the fold that an utterance is in, as the sweep's were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.audio_hashes import span_of
from layerprobe.probe.data.inputs import MAX_DURATION
from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.exceptions import InputError, InvalidAudioError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.predictors.fitting import MIXES, SweptData, fit_head
from layerprobe.probe.predictors.folder import SavedPredictor
from layerprobe.probe.predictors.heads import Head, used_layers
from layerprobe.probe.predictors.onnx_files import OnnxSession
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.splits import speaker_groups
from layerprobe.probe.sweep.data.rated_parts import RatedPart

SAME_HEAD = 1e-6  # of the largest coefficient, by which a refitted head may differ from the saved one


@dataclass(frozen=True)
class UnseenRatings:
    """One target of utterances whose speakers the heads were not fitted on, as each file rates it."""

    target: str
    ratings: np.ndarray  # (n_utterances,) by listeners
    speakers: np.ndarray  # (n_utterances,) number of the speaker, or of the larger unit that was held out
    predictions: dict[str, np.ndarray]  # (n_utterances,) of each file, in the target's unit


@dataclass(frozen=True)
class SampledAudio:
    """Utterances of whole speakers, with the embeddings that each file gives of them."""

    rows: np.ndarray  # (n_utterances,) numbers among the utterances of the sweep
    embeddings: dict[str, np.ndarray]  # of each file, (n_utterances, n_layers, n_features)
    n_unread: int  # utterances of these speakers whose audio could not be read
    reason: str  # why the first of them could not


def sample_speakers(speakers: np.ndarray, *, n_utterances: int, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of speakers that are sampled until no other fits, rising, ``(n,)`` with ``n <= n_utterances``.

    Args:
        speakers: ``(n_rows,)`` of each utterance
        n_utterances: the most rows to return
        rng: the order in which speakers are tried

    >>> sample_speakers(np.array([0, 0, 0, 1, 2, 2]), n_utterances=2, rng=np.random.default_rng(0)).size
    2
    """
    names, counts = np.unique(speakers, return_counts=True)
    chosen, left = [], n_utterances
    for k in rng.permutation(len(names)):
        if counts[k] <= left:
            chosen.append(names[k])
            left -= int(counts[k])
    return np.flatnonzero(np.isin(speakers, chosen))


def embed_sample(
    files: Mapping[str, Path],
    saved: SavedPredictor,
    swept: SweptData,
    *,
    n_utterances: int,
    progress: NullProgress,
) -> SampledAudio:
    """Run files on the audio of a sample of whole speakers of a sweep.

    Args:
        files: of ONNX, by a name of each
        saved: the predictor that they were exported from
        swept: of `probe.predictors.fitting.read_swept`
        n_utterances: the most to run them on
        progress: of the utterances
    """
    sessions = {name: OnnxSession(path) for name, path in files.items()}
    reading = ReadingOptions.from_plan(saved.plan.audio_channels, saved.plan.end_silence)
    rows = sample_speakers(units_of(swept), n_utterances=n_utterances, rng=np.random.default_rng(0))
    read: list[int] = []
    unread: list[str] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in files}
    progress.begin("measure", len(rows), "utterances")
    try:
        for number, row in zip(rows, swept.dataset.rows.iloc[rows].to_dict("records"), strict=True):
            try:
                waveform = read_audio_file(
                    row["path"],
                    sampling_rate=saved.plan.sampling_rate,
                    max_duration=MAX_DURATION,
                    reading=reading,
                    **span_of(row),
                )
            except InvalidAudioError as error:
                unread.append(f"{row['utterance_id']}: {error.message}")
            else:
                read.append(int(number))
                for name, session in sessions.items():
                    found[name].append(session.run(waveform)["embeddings"][0])
            progress.advance()
    finally:
        progress.end()
    embeddings = {name: np.array(vectors) for name, vectors in found.items()}
    return SampledAudio(np.array(read, dtype=int), embeddings, len(unread), (unread or [""])[0])


def units_of(swept: SweptData) -> np.ndarray:
    """Return the number of the speaker of each utterance of a sweep, or of the larger unit that was held out."""
    data = swept.dataset.data
    return speaker_groups(data.speaker_ids) if data.units is None else np.asarray(data.units)


def rate_unseen(sample: SampledAudio, saved: SavedPredictor, swept: SweptData) -> list[UnseenRatings]:
    """Rate the embeddings of a sample by heads that are refitted without the fold of each utterance.

    Returns:
        one of each target, with the utterances that have a rating and are in a fold

    Raises:
        InputError: if a head of the predictor is not what is refitted of the run
    """
    encoder, units = encoder_of(saved, swept), units_of(swept)
    layers = used_layers(saved.heads, [*map(str, range(saved.plan.n_blocks + 1)), FINAL])
    by_layer = {
        name: {layer: vectors[:, k].astype(np.float64) for k, layer in enumerate(layers)}
        for name, vectors in sample.embeddings.items()
    }
    found = []
    for head in saved.heads:
        layer = probed_layer(head, swept, encoder=encoder)
        rows, ratings = rated_rows(sample, swept.part(head.target), head.target)
        predictions = {name: np.full(len(sample.rows), np.nan) for name in sample.embeddings}
        for fold, of_fold in rows.items():
            refitted = fit_head(swept, encoder=encoder, target=head.target, layer=layer, fold=fold)
            for name, embeddings in by_layer.items():
                predictions[name][of_fold] = refitted({k: v[of_fold] for k, v in embeddings.items()})
        if rows:
            kept = np.concatenate(list(rows.values()))
            speakers = units[sample.rows[kept]]
            found.append(
                UnseenRatings(head.target, ratings[kept], speakers, {name: p[kept] for name, p in predictions.items()})
            )
    return found


def rated_rows(sample: SampledAudio, part: RatedPart, target: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return for each fold the positions in a sample of its utterances, and the ratings of a target.

    Args:
        sample: of whole speakers
        part: of the sweep, with the utterances that rate the target
        target: its name

    Returns:
        positions ``(n,)`` by the name of the fold, of those that have any, and ratings ``(n_utterances,)`` of the
        sample, NaN where an utterance has none
    """
    position = np.full(part.n_utterances, -1)
    position[sample.rows] = np.arange(len(sample.rows))
    in_sample = position[part.rows]
    ratings = np.full(len(sample.rows), np.nan)
    known = in_sample >= 0
    ratings[in_sample[known]] = part.data.ratings[known, part.plan.targets.index(target)]
    rows = {split.name: in_sample[split.test][known[split.test]] for split in part.data.splits}
    return {fold: of_fold for fold, of_fold in rows.items() if len(of_fold)}, ratings


def encoder_of(saved: SavedPredictor, swept: SweptData) -> str:
    """Return the name that the predictor's encoder has in its run.

    Raises:
        InputError: if the run is another, or no encoder of it has the same weights
    """
    found = [name for name, cache in swept.caches.items() if cache.plan.weights == saved.plan.weights]
    if saved.plan.run != swept.run.fingerprint or not found:
        raise InputError(
            "LP933",
            f"{saved.folder} was not deployed from {swept.run.path}: it is of the run {saved.plan.run} and the encoder "
            f"{saved.plan.upstream} (weights {saved.plan.weights}). Name that run with --run.",
        )
    return found[0]


def probed_layer(head: Head, swept: SweptData, *, encoder: str) -> str:
    """Return the layer or the mix of a run that a head was fitted of.

    Raises:
        InputError: if the head that is refitted on all speakers is another
    """
    for layer in head.layers if len(head.layers) == 1 else MIXES:
        refitted = fit_head(swept, encoder=encoder, target=head.target, layer=layer)
        far = SAME_HEAD * np.abs(head.coefficients).max()
        if refitted.layers == head.layers and np.allclose(refitted.coefficients, head.coefficients, rtol=0, atol=far):
            return layer
    raise InputError(
        "LP934",
        f"the head of {head.target} is not the one that {swept.run.path} gives for layer {', '.join(head.layers)}. "
        "Deploy that run again with layerprobe deploy.",
    )
