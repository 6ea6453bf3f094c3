"""Times that are known in real speech: a target that was measured in a third of each utterance is found there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.measured_targets import LIBRISPEECH, RATE
from helpers.planted import quick

from layerprobe.analysis.study import study
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.time.bins import plan_bins

HEADER = Header("librispeech_mini", "1", "CC BY 4.0", {k: Target(-80, 0, "level, dB") for k in ("first", "last")})


def level(waveform):
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
    decibels = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    return float(decibels[decibels > np.median(decibels)].mean())


@pytest.mark.long
@pytest.mark.skipif(not LIBRISPEECH.exists(), reason="librispeech_mini is not there")
def test_the_level_of_the_first_and_of_the_last_third_is_found_in_that_third(tmp_path):
    table = pd.read_csv(LIBRISPEECH / "utterances.csv", dtype=str)
    table = table[table["seconds"].astype(float) <= 8].reset_index(drop=True)
    table["path"] = [str(LIBRISPEECH / path) for path in table["path"]]
    audio = [read_audio_file(path, sampling_rate=RATE) for path in table["path"]]
    levels = {"first": [level(a[: len(a) // 3]) for a in audio], "last": [level(a[-len(a) // 3 :]) for a in audio]}
    write_manifest(tmp_path / "m.csv", table.assign(**levels), HEADER)
    manifest = read_manifest(tmp_path / "m.csv")
    settings = ExtractionSettings(spans=SpanOptions(every=0.5, window=1.0))
    run_extraction(manifest, load_encoder("acoustic"), tmp_path / "c.zarr", settings)
    plan = quick(manifest, permutations=39, weighted_sum_seeds=0, mixes=())
    cache = open_cache(tmp_path / "c.zarr")
    run = sweep([cache], manifest, plan, out=tmp_path / "run", time=plan_bins("position", bins=3))
    peaks = study(read_run(run.path)).time_peak.set_index(["target", "layer"])
    for target, name in (("first", "0.00–0.33"), ("last", "0.67–1.00")):
        found = peaks.loc[target, "loudness"]
        assert (found["bin"], found["bins"]) == (name, (name,))
        assert found["p_adjusted"] <= 0.05
        assert found["value"] > 0.6
