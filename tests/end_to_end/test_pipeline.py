"""From audio files of every kind to a heatmap, with the Python API; signals planted in the audio are found."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import soundfile
from helpers.voices import voice, write_table

from layerprobe.analysis.layers.scores import layer_scores
from layerprobe.figures.layout.style import save
from layerprobe.figures.plots.heatmap import heatmap_figure
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

ENDINGS, RATES, CHANNELS = ("wav", "flac", "mp3", "ogg"), (8_000, 16_000, 44_100, 48_000), (1, 2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """96 voices in every container, rate and channel count; pitch is rated as arousal, nothing as valence."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    kinds = list(product(ENDINGS, RATES, CHANNELS))
    rows = []
    for i in range(96):
        ending, rate, channels = kinds[i % len(kinds)]
        arousal = rng.uniform(1, 7)
        audio = voice(rng.uniform(0.6, 1.6), rate=rate, pitch=80 + 25 * arousal, seed=i)
        name = f"{ending}-{rate}-{channels}-{i}.{ending}"
        soundfile.write(folder / name, np.stack([audio] * channels, axis=1), rate)
        rows.append(
            {
                "utterance_id": f"u{i:02d}",
                "path": name,
                "speaker_id": f"s{i % 16}",
                "arousal": round(arousal, 3),
                "valence": round(rng.uniform(1, 7), 3),
            }
        )
    return read_manifest(write_table(folder, rows, targets=("arousal", "valence")))


def test_from_audio_of_every_kind_to_a_heatmap(corpus, folders, tmp_path):
    caches = []
    for kind in ("hubert", "whisper"):
        done = run_extraction(corpus, load_audio_encoder(str(folders[kind])), tmp_path / f"{kind}.zarr")
        assert (done.n_extracted, len(done.quarantine)) == (96, 0)
        caches.append(open_cache(tmp_path / f"{kind}.zarr"))
    extract(corpus, load_audio_encoder(str(folders["hubert"]), random_init=0), tmp_path / "random.zarr")
    control = open_cache(tmp_path / "random.zarr")
    run = sweep(caches, corpus, plan_sweep(corpus), out=tmp_path / "run", random_weights=[control])

    table = layer_scores(run.scores, metric="ccc_matched")
    ridge = table[table["probe"] == "ridge"].set_index(["encoder", "control", "target"])["value"].sort_index()
    for encoder in ("hubert", "whisper"):
        assert ridge.loc[encoder, "none", "arousal"].max() > 0.6
        assert ridge.loc[encoder, "none", "valence"].max() < 0.35
        assert ridge.loc[encoder, "permuted"].max() < 0.35
    assert ridge.loc["hubert", "random_init", "arousal"].max() > 0.6  # pitch passes through any network

    figure = heatmap_figure(
        table[table["probe"] == "ridge"],
        layers={e: run.layers(e) for e in run.encoders},
        targets=run.targets,
        metric="ccc_matched",
    )
    paths = save(figure, tmp_path / "run" / "figures", "heatmap", fingerprint=run.fingerprint)
    assert all(path.stat().st_size > 5_000 for path in paths)
