"""What the page states of a predictor and of the server's limits."""

from __future__ import annotations

from typing import Any

from layerprobe.probe.predictors.predictor import Predictor
from layerprobe.serving.rating import finite, layers_of, scale_of
from layerprobe.serving.settings import ServingSettings

BOUNDS = ("ci_low", "ci_high")
SCORE = ("metric", "estimate", *BOUNDS)  # columns of a predictor's scores


def describe_predictor(predictor: Predictor, settings: ServingSettings) -> dict[str, Any]:
    """Return what a predictor is, as JSON holds it."""
    plan = predictor.plan
    layers, scores = layers_of(predictor), _scores(predictor)
    return {
        "predictor": plan.fingerprint,
        "targets": [
            {
                "name": target,
                **scale_of(predictor, target),
                "layers": layers[target],
                "score": scores.get(target),
            }
            for target in predictor.targets
        ],
        "level": plan.level,
        "interval_unit": plan.interval_unit,
        "encoder": {
            "name": plan.upstream,
            "revision": plan.revision,
            "architecture": plan.architecture,
            "blocks": plan.n_blocks,
            "blocks_of_whole": plan.n_blocks_of_whole,
        },
        "trained_on": {"corpus": plan.corpus, "speakers": plan.n_speakers, "utterances": plan.n_utterances},
        "sampling_rate": predictor.sampling_rate,
        "limits": {
            "megabytes": settings.max_mb,
            "seconds": settings.max_seconds,
            "at_once": settings.concurrency,
            "waiting": settings.waiting,
            "timeout": settings.timeout,
        },
    }


def _scores(predictor: Predictor) -> dict[str, dict[str, Any]]:
    """Return what each target's head scored on held-out recordings, where the predictor states it."""
    rows = [row for row in predictor.saved.scores if {"target", *SCORE} <= set(row)]
    return {
        str(row["target"]): {name: row[name] for name in SCORE} | {name: finite(row[name]) for name in BOUNDS}
        for row in rows
        if finite(row["estimate"]) is not None
    }
