"""What a sweep is given, put in order: encoders' names, controls' partners, utterances that all hold, splits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.schema import TRANSCRIPT, Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.results.run_folder import LABELS
from layerprobe.probe.splits import fold_splits, manifest_split, speaker_groups
from layerprobe.probe.sweep.plan import SweepPlan
from layerprobe.probe.tasks.bag_of_words import WORD_FEATURES, word_counts
from layerprobe.probe.tasks.cross_corpus import splits_within
from layerprobe.probe.tasks.text_residuals import text_residuals
from layerprobe.probe.version import layerprobe_version


@dataclass(frozen=True)
class LayerBand:
    """One layer of a cache that every layer under study is fitted beside."""

    cache: Cache
    layer: str

    @property
    def name(self) -> str:
        """Encoder and layer."""
        return f"{self.cache.plan.upstream.rsplit('/', 1)[-1]} {self.layer}"

    @property
    def caches(self) -> list[Cache]:
        """Those that must hold an utterance."""
        return [self.cache]

    def features(self, used: SweepDataset) -> np.ndarray:
        """``(n_utterances, n_features)``."""
        return self.cache.read_layer(self.layer, row_indices(self.cache, used))

    def described(self) -> dict[str, Any]:
        """For plan.toml."""
        return {**described(self.cache, self.name), "layer": self.layer}


@dataclass(frozen=True)
class WordBand:
    """The words of the manifest's transcripts, counted (`probe.tasks.bag_of_words`), beside every layer under study."""

    @property
    def name(self) -> str:
        """As it is asked for."""
        return TRANSCRIPT

    @property
    def caches(self) -> list[Cache]:
        """None: the manifest has the words."""
        return []

    def features(self, used: SweepDataset) -> np.ndarray:
        """``(n_utterances, n_features)``; nothing where an utterance has no words.

        Raises:
            InputError: if none of them has
        """
        texts = transcripts_of(used)
        if texts is None:
            raise InputError(f"No utterance has a {TRANSCRIPT} for the layers to stand beside. Leave --covariate out.")
        return word_counts(texts)

    def described(self) -> dict[str, Any]:
        """For plan.toml."""
        return {"name": self.name, "features": f"words and pairs of neighbours, counted into {WORD_FEATURES} by CRC-32"}


Band = LayerBand | WordBand


def band_named(name: str) -> Band:
    """The band that ``CACHE@LAYER`` or ``transcript`` names.

    Raises:
        InputError: if there is no such cache or layer
    """
    if name == TRANSCRIPT:
        return WordBand()
    path, _, layer = name.rpartition("@")
    if not path:
        raise InputError(f"{name!r} names no layer. Write CACHE.zarr@LAYER, or {TRANSCRIPT}.")
    cache = open_cache(path)
    if layer not in cache.plan.layers:
        raise InputError(f"{path} has no layer {layer!r}; it has {', '.join(cache.plan.layers)}.")
    return LayerBand(cache, layer)


@dataclass(frozen=True)
class SweepDataset:
    """What of the manifest is swept, and what is left out."""

    data: SweepData
    rows: pd.DataFrame  # of the manifest, in the order of their ids
    counts: dict[str, int]


def make_dataset(caches: list[Cache], manifest: Manifest, plan: SweepPlan) -> SweepDataset:
    """Utterances that every cache holds and every target rates, in the order of their ids, dealt into splits.

    Raises:
        InputError: if none is left, or nothing can be learnt of a target
    """
    table = manifest.table
    cached = set(caches[0].utterance_ids).intersection(*(c.utterance_ids for c in caches[1:]))
    in_cache = table["utterance_id"].isin(list(cached)).to_numpy()
    rated = table[list(plan.targets)].notna().all(axis=1).to_numpy()
    rated = rated & (table[list(plan.nominal)] != "").all(axis=1).to_numpy()
    if not in_cache.any():
        raise InputError(
            f"None of the utterances of {', '.join(str(c.path) for c in caches)} is in {manifest.path}, so there are "
            "no ratings to sweep. Give the manifest that the cache was extracted from."
        )
    if not (in_cache & rated).any():
        raise InputError(
            f"{manifest.path} rates no cached utterance for all of {', '.join([*plan.targets, *plan.nominal])}."
        )
    kept = table[in_cache & rated].sort_values("utterance_id")  # so that the order of rows changes nothing
    groups = speaker_groups(kept["speaker_id"].to_numpy())
    rng = np.random.default_rng(plan.seed)
    if plan.n_folds is None:
        splits = manifest_split(
            groups,
            kept["split"].to_numpy(),
            kept["speaker_id"].to_numpy(),
            test=str(plan.test_split),
            n_inner_folds=plan.n_inner_folds,
            rng=rng,
        )
    else:
        splits = fold_splits(groups, n_folds=plan.n_folds, n_inner_folds=plan.n_inner_folds, rng=rng)
    ratings = kept[list(plan.targets)].to_numpy(dtype=np.float64)
    codes = np.empty((len(kept), len(plan.nominal)), dtype=np.int64)
    for k, (name, classes) in enumerate(plan.classes_of.items()):
        codes[:, k] = pd.Index(classes).get_indexer(pd.Index(kept[name]))
    both = np.column_stack([ratings, codes])
    for split in splits:
        constant = np.flatnonzero(np.ptp(both[split.train], axis=0) == 0)
        if len(constant):
            name = (*plan.targets, *plan.nominal)[constant[0]]
            raise InputError(f"{name} has one value only in the training speakers; nothing can be learnt of it.")
    counts = {
        "n_utterances": len(kept),
        "n_speakers": len(np.unique(groups)),
        "n_not_cached": int((~in_cache).sum()),
        "n_not_rated": int((in_cache & ~rated).sum()),
    }
    speaker_ids = kept["speaker_id"].to_numpy(dtype=object)
    ids = kept["utterance_id"].to_numpy(dtype=object)
    labels = {name: kept[name].to_numpy(dtype=object).astype(str) for name in LABELS if name in kept}
    data = SweepData(ids, speaker_ids, groups, ratings, codes, splits, labels)
    if plan.cross_corpus:
        _refuse_poor_corpora(data, plan, both)
    return SweepDataset(data, kept, counts)


def with_text_residuals(used: SweepDataset, plan: SweepPlan) -> SweepDataset:
    """The same with what the words leave of the ratings, if the plan asks for it.

    Raises:
        InputError: if no utterance has words
    """
    if not plan.text_residuals:
        return used
    texts = transcripts_of(used)
    if texts is None:
        raise InputError("No utterance that is swept has a transcript. Leave --residualize-text out.")
    rest = text_residuals(word_counts(texts), used.data.ratings, splits=used.data.splits, alphas=plan.alphas)
    return replace(used, data=replace(used.data, text_residuals=rest))


def transcripts_of(used: SweepDataset) -> list[str] | None:
    """The words of each utterance, None where the manifest has none of any."""
    texts = used.rows[TRANSCRIPT].tolist() if TRANSCRIPT in used.rows else []
    return texts if any(text.strip() for text in texts) else None


def row_indices(cache: Cache, used: SweepDataset) -> np.ndarray:
    """Where a cache has the utterances that are swept, ``(n_utterances,)``."""
    return np.asarray(pd.Index(cache.utterance_ids).get_indexer(pd.Index(used.data.utterance_ids)))


def _refuse_poor_corpora(data: SweepData, plan: SweepPlan, both: np.ndarray) -> None:
    """Before any layer is fitted."""
    corpus = data.labels["corpus"]
    for name in np.unique(corpus[corpus != ""]).tolist():
        for split in splits_within(data.splits, corpus, name):
            constant = np.flatnonzero(np.ptp(both[split.train], axis=0) == 0)
            if len(constant):
                target = (*plan.targets, *plan.nominal)[constant[0]]
                raise InputError(
                    f"{target} has one value only in the training speakers of corpus {name!r}, so that it has nothing "
                    "to transfer. Leave that target or --cross-corpus out."
                )


def names_of(caches: list[Cache]) -> list[str]:
    """A short name per cache: the upstream's last part, with whatever tells two of the same apart."""
    full = [
        c.plan.upstream + (f" (untrained {c.plan.random_init})" if c.plan.random_init is not None else "")
        for c in caches
    ]
    short = [name.rsplit("/", 1)[-1] for name in full]
    names = [s if short.count(s) == 1 else f for s, f in zip(short, full, strict=True)]
    if len(set(names)) < len(names):
        repeated = [c.path.stem for c in caches]
        if len(set(repeated)) < len(repeated):
            raise InputError("Two caches have the same encoder and the same name. Rename one of them.")
        return repeated
    return names


def partner_of(control: Cache, caches: list[Cache], names: list[str]) -> str:
    """The encoder that a random-weight cache is the control of."""
    if control.plan.random_init is None:
        raise InputError(f"{control.path} has trained weights. Extract a control with --random-init SEED.")
    same = [
        name
        for cache, name in zip(caches, names, strict=True)
        if cache.plan.upstream == control.plan.upstream
        and replace(cache.plan, weights="", revision="", random_init=None, libraries="")
        == replace(control.plan, weights="", revision="", random_init=None, libraries="")
    ]
    if not same:
        raise InputError(
            f"{control.path} is no control of any cache given: it is {control.plan.upstream} with "
            f"{len(control.plan.layers)} layers. Extract it with the same encoder and settings and --random-init."
        )
    return same[0]


def rows_fingerprint(cache: Cache) -> str:
    """Of the utterances that a cache holds, and the sounds that they were made from."""
    return combined_fingerprint(
        *sorted(f"{i} {s}" for i, s in zip(cache.utterance_ids, cache.audio_hashes, strict=True))
    )


def described(cache: Cache, name: str) -> dict[str, Any]:
    """A cache in plan.toml; where it lies is no part of any fingerprint."""
    plan = {"name": name, **cache.plan.to_json(), "fingerprint": cache.plan.fingerprint()}
    width = cache.values_per_utterance // len(cache.plan.layers)
    return {**plan, "n_features": width, "path": str(cache.path.absolute())}


def provenance(
    named: dict[str, Cache],
    untrained: list[tuple[str, Cache]],
    manifest: Manifest,
    plan: SweepPlan,
    used: SweepDataset,
    bands: list[Band],
    *,
    command: str,
) -> dict[str, Any]:
    """The content of plan.toml: what was asked, of whom, by which weights.

    Args:
        named: encoders' names and their caches
        untrained: the same of random weights, by the name of the encoder whose architecture they have
        manifest: what was rated
        plan: the sweep's
        used: the utterances
        bands: what each layer was fitted beside
        command: the command line
    """
    return {
        "command": command,
        "layerprobe_version": layerprobe_version(),
        "manifest": str(manifest.path),
        "corpus": {
            "name": manifest.header.corpus,
            "version": manifest.header.version,
            "notes": manifest.header.notes,
            "content": manifest.content_hash(),
            **used.counts,
            "n_held_out": sum(len(s.test) for s in used.data.splits),
        },
        "sweep": {
            **{k: v for k, v in asdict(plan).items() if v is not None},
            "fingerprint": plan.fingerprint(),
        },
        "encoders": [described(c, n) for n, c in named.items()],
        "covariates": [band.described() for band in bands],
        "random_weights": [described(c, n) for n, c in untrained],
    }


def quarantine_of(caches: list[Cache], names: list[str]) -> pd.DataFrame:
    """Refused utterances of all caches with the encoder's name."""
    tables = [c.quarantine.assign(encoder=n) for c, n in zip(caches, names, strict=True)]
    return pd.concat(tables)[["encoder", "utterance_id", "path", "reason"]]
