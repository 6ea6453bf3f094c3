"""The content of plan.toml: settings, manifest, caches, and the numbers of utterances and speakers of each fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.inputs import SweepDataset
from layerprobe.probe.sweep.data.rated_parts import target_counts
from layerprobe.probe.version import layerprobe_version


def describe_cache(cache: Cache, name: str) -> dict[str, Any]:
    """Return a cache's table in plan.toml; its path is no part of any fingerprint."""
    plan = {"name": name, **cache.plan.to_json(), "fingerprint": cache.plan.fingerprint()}
    return {
        **plan,
        "rows_fingerprint": cache.rows_fingerprint(),
        "n_utterances": len(cache.utterance_ids),
        "n_features": cache.values_per_utterance // len(cache.plan.layers),
        "path": str(cache.path.absolute()),
        "encoder_folder": cache.encoder_folder,
    }


def describe_settings(
    named: dict[str, Cache],
    untrained: list[tuple[str, Cache]],
    manifest: Manifest,
    plan: SweepPlan,
    *,
    covariates: list[dict[str, Any]],
    command: str,
) -> dict[str, Any]:
    """Return what of plan.toml is known before anything is fitted.

    Args:
        named: encoders' names and their caches
        untrained: the caches with random weights, by the name of the encoder whose architecture they have
        manifest: the ratings
        plan: the sweep's
        covariates: the table of each covariate
        command: the command line
    """
    ids = set(manifest.table["utterance_id"])
    return {
        "command": command,
        "layerprobe_version": layerprobe_version(),
        "manifest": str(manifest.path.absolute()),
        "corpus": {
            "name": manifest.header.corpus,
            "version": manifest.header.version,
            "notes": manifest.header.notes,
            "content": manifest.content_hash(plan.group_by),
        },
        "sweep": plan.to_toml(),
        "encoders": [
            {**describe_cache(c, n), "n_not_in_manifest": sum(i not in ids for i in c.utterance_ids)}
            for n, c in named.items()
        ],
        "covariates": covariates,
        "random_weights": [describe_cache(c, n) for n, c in untrained],
    }


def settings_fingerprint(settings: dict[str, Any]) -> str:
    """Return the fingerprint of a run: of its plan, its ratings, and the plans and utterances of all its caches.

    Args:
        settings: of `describe_settings`
    """
    tables = [*settings["encoders"], *settings["random_weights"], *settings["covariates"]]
    caches = [table for table in tables if "rows_fingerprint" in table]
    return combined_fingerprint(
        settings["sweep"]["fingerprint"],
        settings["corpus"]["content"],
        *(table["fingerprint"] for table in caches),
        *(table["rows_fingerprint"] for table in caches),
        *(f"covariate {table['name']}" for table in settings["covariates"]),
        *([settings["time"]["fingerprint"]] if "time" in settings else []),
        *_erasure_parts(settings.get("erasure", {})),
    )


def _erasure_parts(table: dict[str, Any]) -> list[str]:
    """Return what of the table ``[erasure]`` decides scores; nothing for a sweep without erasures."""
    caches = [f"{c['fingerprint']} {c['rows_fingerprint']} {c['layer']}" for c in table.get("caches", ())]
    return [*(f"without {erasure['name']}" for erasure in table.get("erasures", ())), *caches]


def with_counts(settings: dict[str, Any], dataset: SweepDataset, caches: Iterable[Cache]) -> dict[str, Any]:
    """Return the whole content of plan.toml: the settings, and how many utterances and speakers were used.

    Args:
        settings: of `describe_settings`
        dataset: the utterances that were used, with their splits and the targets that they rate
        caches: all that the settings name
    """
    data = dataset.data
    held_out = data.utterance_ids[np.concatenate([split.test for split in data.splits])]
    corpus = {**settings["corpus"], **dataset.counts, "n_held_out": len(held_out)}
    fingerprints = {str(cache.path.absolute()): cache.rows_fingerprint(held_out) for cache in caches}
    tables = {
        name: [
            {**table, "held_out_fingerprint": fingerprints[table["path"]]} if "path" in table else table
            for table in settings[name]
        ]
        for name in ("encoders", "random_weights", "covariates")
    }
    counts = {"folds": fold_counts(data), "target_counts": target_counts(dataset.parts)}
    return {**settings, **tables, "corpus": corpus, **counts, "left_out": [vars(one) for one in dataset.left_out]}


def fold_counts(data: SweepData) -> list[dict[str, Any]]:
    """Return for each fold its name and the numbers of utterances and speakers that train and that are held out."""

    def n_speakers(rows: np.ndarray) -> int:
        return len(np.unique(data.groups[rows]))

    return [
        {
            "name": split.name,
            "n_train_utterances": len(split.train),
            "n_train_speakers": n_speakers(split.train),
            "n_test_utterances": len(split.test),
            "n_test_speakers": n_speakers(split.test),
        }
        for split in data.splits
    ]


def joint_quarantine(caches: Sequence[Cache], names: Sequence[str]) -> pd.DataFrame:
    """Return the quarantined utterances of all caches: ``encoder, utterance_id, path, reason``."""
    tables = [c.quarantine.assign(encoder=n) for c, n in zip(caches, names, strict=True)]
    return pd.concat(tables)[["encoder", "utterance_id", "path", "reason"]]
