"""Where the values of concepts come from: columns of the manifest, acoustic features, and embeddings of the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.sweep.data.inputs import SweepDataset, row_indices, transcripts
from layerprobe.probe.sweep.data.provenance import describe_cache
from layerprobe.probe.tasks.concepts import MOST_DIRECTIONS, Concept, speech_rate
from layerprobe.probe.vectors import varies_by_rounding

TOGETHER = "+"  # between the names of concepts that are erased together
# of a concept: the layer of the acoustic features, columns by pooling and number, and the names of these
ACOUSTIC = {
    "loudness": ("loudness", (("mean", 0), ("std", 0)), ("mean level (dB)", "standard deviation of the level (dB)")),
    "f0": ("f0", (("mean", 0), ("std", 0)), ("mean F0 (log2 Hz)", "standard deviation of F0 (octaves)")),
    "duration": ("duration", (("mean", 0),), ("duration (log s)",)),
}
VOICED = 2  # column of the layer f0: the voiced fraction of the frames
CONCEPTS = (*ACOUSTIC, "gender", "speech_rate", "text", "speaker")


@dataclass(frozen=True)
class ConceptCache:
    """A cache that concepts are read from."""

    cache: Cache
    layer: str  # of the text; "" for the last one

    def to_toml(self) -> dict[str, Any]:
        """Return the cache's table in plan.toml."""
        name = self.cache.plan.upstream.rsplit("/", 1)[-1]
        return {**describe_cache(self.cache, name), "layer": self.layer}


def parse_erasures(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the concepts of each erasure.

    >>> parse_erasures(["loudness,f0", "loudness+f0"])
    (('loudness',), ('f0',), ('loudness', 'f0'))

    Args:
        texts: erasures separated by commas, each of one concept or of several joined by `TOGETHER`

    Raises:
        InputError: if a concept is unknown
    """
    found: dict[tuple[str, ...], None] = {}
    for text in (part for given in texts for part in given.split(",")):
        names = tuple(dict.fromkeys(name.strip() for name in text.split(TOGETHER)))
        unknown = [name for name in names if name not in CONCEPTS]
        if unknown:
            raise InputError(
                "LP590",
                f"concept {unknown[0]!r} can't be erased; choose from {', '.join(CONCEPTS)}. A comma separates "
                f"erasures, and {TOGETHER} joins concepts that are erased together.",
            )
        found[names] = None
    return tuple(found)


def open_concept_caches(caches: Sequence[Cache | ConceptCache | Path | str]) -> list[ConceptCache]:
    """Return the caches of concepts, ``PATH`` or ``PATH@LAYER``, opened.

    Raises:
        InputError: if there is none at a path, it lacks the layer, or its rows are spans
    """
    opened = [_open(given) for given in caches]
    for cache in (one.cache for one in opened):
        if cache.spans is not None:
            raise InputError(
                "LP594",
                f"{cache.path} has a row for each span of an utterance, and concepts are of whole utterances. Extract "
                "the concepts without --spans and --every, and give that cache.",
            )
    return opened


def _open(given: Cache | ConceptCache | Path | str) -> ConceptCache:
    if isinstance(given, Cache | ConceptCache):
        return given if isinstance(given, ConceptCache) else ConceptCache(given, "")
    path, _, layer = str(given).rpartition("@") if "@" in Path(given).name else (str(given), "", "")
    cache = open_cache(path)
    if layer and layer not in cache.plan.layers:
        raise InputError("LP594", f"{path} has no layer {layer!r}; it has {', '.join(cache.plan.layers)}.")
    return ConceptCache(cache, layer)


def read_concepts(names: Sequence[str], dataset: SweepDataset, caches: Sequence[ConceptCache]) -> list[Concept]:
    """Read the values of concepts for the utterances of a sweep.

    Args:
        names: of `CONCEPTS`
        dataset: the utterances
        caches: of acoustic features and of a text encoder; the first that has what a concept needs is read

    Raises:
        InputError: if the source of a concept is missing, or its values do not vary
    """
    concepts = [_READERS[name](name, dataset, caches) for name in names]
    for concept in concepts:
        known = concept.known
        for split in dataset.data.splits:
            rows = split.train[known[split.train]]
            if len(rows) < 3 or np.all(varies_by_rounding(concept.values[rows].astype(np.float64))):
                raise InputError(
                    "LP593",
                    f"{concept.name} ({concept.source}) is known of {len(rows)} of the {len(split.train)} utterances "
                    f"that fold {split.name} trains on, and has one value there at most, so there is nothing to erase. "
                    "Leave it out of --without.",
                )
    return concepts


def _of_layer(name: str, dataset: SweepDataset, caches: Sequence[ConceptCache]) -> Concept:
    layer, columns, described = ACOUSTIC[name]
    cache = _acoustic(name, layer, caches)
    rows = row_indices(cache, dataset)
    values = [cache.read_layer(layer, rows, pooling=pooling)[:, column] for pooling, column in columns]
    stacked = np.column_stack(values).astype(np.float64)
    if name == "f0":  # without a voiced frame the cache has the middle of F0's range, which is no measurement
        voiced = cache.read_layer(layer, rows, pooling="mean")[:, VOICED]
        stacked[voiced == 0] = np.nan
    return Concept(name, described, f"layer {layer} of {cache.plan.upstream}", stacked, str(cache.path.absolute()))


def _gender(name: str, dataset: SweepDataset, caches: Sequence[ConceptCache]) -> Concept:
    del caches
    column = dataset.rows["gender"].str.strip() if "gender" in dataset.rows else None
    if column is None or not (column != "").any():
        raise InputError(
            "LP592", "No utterance has a gender in the manifest. Add the column gender, or leave it out of --without."
        )
    classes = sorted(set(column) - {""})
    codes = np.array([classes.index(value) if value else -1 for value in column])
    return Concept(name, tuple(classes), "column gender of the manifest", codes)


def _speaker(name: str, dataset: SweepDataset, caches: Sequence[ConceptCache]) -> Concept:
    del caches
    speakers, codes = np.unique(dataset.data.groups, return_inverse=True)
    if len(speakers) == len(codes):
        raise InputError(
            "LP592", "Each utterance has a speaker of its own, so speakers can't be erased. Leave speaker out."
        )
    names = tuple(str(dataset.data.speaker_ids[np.flatnonzero(codes == k)[0]]) for k in range(len(speakers)))
    return Concept(name, names, "column speaker_id of the manifest", codes, of_speakers=True)


def _rate(name: str, dataset: SweepDataset, caches: Sequence[ConceptCache]) -> Concept:
    texts = transcripts(dataset)
    if texts is None:
        raise InputError(
            "LP592",
            "No utterance has a transcript, by which speech_rate is counted. Make transcripts with layerprobe "
            "transcribe, or leave it out of --without.",
        )
    cache = _acoustic(name, "duration", caches)
    log_seconds = cache.read_layer("duration", row_indices(cache, dataset), pooling="mean")[:, 0].astype(np.float64)
    source = f"transcript of the manifest and layer duration of {cache.plan.upstream}"
    path = str(cache.path.absolute())
    return Concept(name, ("letters per second (log)",), source, speech_rate(texts, log_seconds), path)


def _text(name: str, dataset: SweepDataset, caches: Sequence[ConceptCache]) -> Concept:
    found = next((one for one in caches if one.cache.plan.text_column is not None), None)
    if found is None:
        raise InputError(
            "LP591",
            "Erasing text takes embeddings of the transcripts. Make them with layerprobe extract MANIFEST --encoder "
            "sentence-transformers/all-MiniLM-L6-v2 --out text.zarr, and add --concepts text.zarr.",
        )
    cache, layer = found.cache, found.layer or found.cache.plan.layers[-1]
    pooling = cache.plan.poolings[0]
    values = cache.read_layer(layer, row_indices(cache, dataset), pooling=pooling).astype(np.float64)
    names = tuple(f"component {k}" for k in range(1, MOST_DIRECTIONS + 1))
    source = f"layer {layer} of {cache.plan.upstream}, {pooling}"
    return Concept(name, names, source, values, str(cache.path.absolute()), components=MOST_DIRECTIONS)


def _acoustic(name: str, layer: str, caches: Sequence[ConceptCache]) -> Cache:
    """Return the first cache of acoustic features."""
    found = [one.cache for one in caches if {"loudness", layer} <= set(one.cache.plan.layers)]
    needed = {pooling for pooling, _ in ACOUSTIC[name][1]} if name in ACOUSTIC else {"mean"}
    complete = [cache for cache in found if needed <= set(cache.plan.poolings)]
    if not complete:
        reason = (
            f"{found[0].path} lacks pooling {' or '.join(sorted(needed))}" if found else "there is no cache of them"
        )
        raise InputError(
            "LP591",
            f"Erasing {name} takes acoustic features, and {reason}. Make them with layerprobe extract MANIFEST "
            "--encoder acoustic --out acoustic.zarr, and add --concepts acoustic.zarr.",
        )
    return complete[0]


_READERS: dict[str, Callable[[str, SweepDataset, Sequence[ConceptCache]], Concept]] = {
    **dict.fromkeys(ACOUSTIC, _of_layer),
    "gender": _gender,
    "speech_rate": _rate,
    "text": _text,
    "speaker": _speaker,
}
