"""Control caches: found in the folder of the cache under study, extracted where missing, or requested by an error."""

from __future__ import annotations

import shutil

import pytest
import soundfile
from helpers.fork_server import ForkServer
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.control_caches import control_caches
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import read_run

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def corpus(tmp_path):
    rows = []
    for i in range(24):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.4, pitch=80 + 5 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 12}", "arousal": 1 + i / 4})
    return write_table(tmp_path, rows)


def test_existing_controls_are_used_and_acoustic_features_are_extracted(corpus, folders, tmp_path):
    manifest = read_manifest(corpus)
    shutil.copytree(folders["hubert"], tmp_path / "hubert")
    extract(manifest, load_exact(tmp_path / "hubert"), tmp_path / "h.zarr")
    (tmp_path / "hubert").rename(tmp_path / "renamed")
    cache = open_cache(tmp_path / "h.zarr")
    with pytest.raises(
        InputError,
        match=r"from a folder called hubert, which is no longer at .*hubert\. Make its control by layerprobe extract "
        r".*my\.csv --encoder FOLDER --random-init 0 --out .*h-random-0\.zarr \[LP\d{3}\]$",
    ):
        control_caches([cache], manifest, random_weights=[])
    extract(manifest, load_exact(folders["hubert"], random_init=0), tmp_path / "h-random-0.zarr")
    found = control_caches([cache], manifest, random_weights=[])
    assert [c.path.name for c in found.random_weights] == ["h-random-0.zarr"]
    assert [c.path.name for c in found.acoustic] == ["acoustic.zarr"]
    assert len(found.acoustic[0].utterance_ids) == 24
    given = control_caches([cache, *found.acoustic], manifest, random_weights=found.random_weights)
    assert given.random_weights == found.random_weights
    assert given.acoustic == []


def test_the_random_weights_of_a_local_encoder_are_extracted_from_its_folder(corpus, folders, tmp_path):
    manifest = read_manifest(corpus)
    extract(manifest, load_exact(folders["hubert"]), tmp_path / "h.zarr")
    cache = open_cache(tmp_path / "h.zarr")
    (made,) = control_caches([cache], manifest, random_weights=[]).random_weights
    assert made.path.name == "h-random-0.zarr"
    assert (made.plan.random_init, made.plan.layers) == (0, cache.plan.layers)
    assert made.encoder_folder == cache.encoder_folder == str(folders["hubert"].resolve())


@pytest.mark.long
def test_one_flag_extracts_every_control_of_an_encoder_from_the_hub(corpus, folders, tmp_path):
    """The hub's own cache on disk, with a commit, and no network: names and revisions go the real way."""
    repository = tmp_path / "hub" / "models--team--tiny"
    shutil.copytree(folders["hubert"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    cache, out = tmp_path / "tiny.zarr", tmp_path / "run"
    with ForkServer(HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1") as forks:  # read when the hub's code is
        for arguments in (
            ("extract", corpus, "--encoder", "team/tiny", "--out", cache),
            ("sweep", cache, corpus, "--out", out, "--controls", "all", "--folds", 3, "--weighted-sum-seeds", 1),
        ):
            done = forks.run(*arguments, module="layerprobe")
            assert done.returncode == 0, done.stderr
    assert open_cache(cache).plan.revision == COMMIT
    swept = read_run(out)
    assert open_cache(tmp_path / "tiny-random-0.zarr").plan.random_init == 0
    assert swept.encoders == ["tiny", "acoustic"]
    assert set(swept.layer_weights["encoder"]) == {"tiny"}  # features side by side are no layers to mix
    assert set(swept.scores["control"]) == {
        "none", "permuted", "permuted_by_speaker", "permuted_within_speaker", "random_per_speaker", "random_init",
    }  # fmt: skip
    assert set(swept.scores["baseline"]) == {"", "mean_rating", "duration_loudness"}
