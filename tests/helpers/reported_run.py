"""A small run that has everything a report can show, for tests of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.planted import store

from layerprobe.analysis.cost.candidates import read_candidates
from layerprobe.analysis.cost.file import cost_path, write_cost
from layerprobe.analysis.cost.table import cost_table
from layerprobe.figures.report.report import write_report
from layerprobe.probe.cost.encoders import EncoderCost
from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.results.run_folder import read_predictions, read_run, write_run
from layerprobe.probe.sweep.data.covariates import LayerCovariate
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

EVIL = "<script>alert(1)</script>"
N, LAYERS, DIM = 240, tuple(map(str, range(5))), 6
CLASSES = ("calm", "glad")


def reported_run(root: Path) -> Path:
    """Write a run: arousal in layer 1, valence in layer 3 and the text, all controls, two corpora, HTML as names."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, len(LAYERS), DIM))
    speaker = np.arange(N) % 24
    arousal = x[:, 1] @ rng.normal(size=DIM) + 0.5 * rng.normal(size=N)
    is_fine = rng.integers(2, size=N)
    valence = x[:, 3] @ rng.normal(size=DIM) + 2.0 * is_fine + 0.5 * rng.normal(size=N)
    near = np.cumsum(0.5 * rng.normal(size=x.shape), axis=1)  # adjacent layers resemble each other
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(N)],
            "path": "x.wav",
            "speaker_id": [f"s{s:02d}" for s in speaker],
            "gender": ["female" if s % 2 else EVIL for s in speaker],
            "corpus": ["studio" if s < 12 else "street & <home>" for s in speaker],
            "transcript": ["what a fine day" if w else "what a sad day" for w in is_fine],
            "arousal": arousal,
            "valence": valence,
            "dominance": arousal + rng.normal(size=N),
            "emotion": [CLASSES[int(a > 0)] for a in arousal],
        }
    )
    scales = {t: Target(-100, 100) for t in ("arousal", "valence", "dominance")}
    header = Header(EVIL, "1", "none", scales, nominal={"emotion": Nominal(CLASSES)})
    manifest = Manifest(root / "my.csv", header, table)
    cache = store(root / "hubert.zarr", x + 0.3 * near, upstream="facebook/hubert")
    control = store(
        root / "random.zarr", rng.normal(size=x.shape), upstream="facebook/hubert", random_init=3, weights="f"
    )
    of_text = np.column_stack([is_fine, *rng.normal(size=(DIM - 1, N))])[:, None].repeat(2, axis=1)
    text = store(root / "text.zarr", of_text, layers=("0", "1"), upstream="bert")
    plan = plan_sweep(
        manifest,
        permutations=19,
        controls=("permuted", "permuted_within_speaker", "random_per_speaker", "permuted_by_speaker"),
        mixes=("weighted_sum", "uniform_mix", "cumulative_mix"),
        weighted_sum_seeds=2,
        cross_corpus=True,
        residualize_text=True,
    )
    folder = root / "run"
    sweep(
        [cache],
        manifest,
        replace(plan, mix_iterations=10),
        out=folder,
        random_weights=[control],
        covariates=[LayerCovariate(text, "1")],
        command="layerprobe sweep hubert.zarr my.csv --out run",
    )
    quarantined = pd.DataFrame([{"encoder": "hubert", "utterance_id": EVIL, "path": "x", "reason": "silent"}])
    run = read_run(folder)
    write_run(replace(run, quarantine=quarantined), read_predictions(folder))
    write_costs(folder)
    write_report(folder)
    return folder


def write_costs(folder: Path) -> None:
    """Write the table of costs of a run, as if each block of its encoders took the same."""
    candidates = read_candidates([folder])
    costs = {}
    for name, origin in candidates.origins.items():
        k = np.arange(1.0, len(origin.layers) + 1)
        costs[name] = EncoderCost(origin.layers, 2e8 * k, 7e6 * k, 2e-3 * k, "float32", "native", "trained")
    measured = {"seconds": 10, "threads": 1, "processor": "abacus"}
    table = cost_table(candidates, costs, by="multiply_adds", measured=measured)
    write_cost(table, cost_path(folder, candidates.folders), fingerprint=candidates.fingerprint)
