"""The transformer from audio to embeddings: the numbers of a cache, and scikit-learn's protocol."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.audio_bytes import with_number
from helpers.voices import voice, write_table
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.extraction.sklearn_api import LayerEmbedder
from layerprobe.probe.solvers.sklearn_api import LayerRidge
from layerprobe.probe.splits import SpeakerKFold

N = 8


@pytest.fixture(scope="module")
def encoder(folders):
    return load_encoder(str(folders["hubert"]), device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight voices, half of them at 44.1 kHz in two channels, with their manifest."""
    folder, table = tmp_path_factory.mktemp("voices"), []
    for i in range(N):
        rate, channels = ((16_000, 1), (44_100, 2))[i % 2]
        mono = voice(0.2 + 0.02 * i, rate=rate, pitch=80 + 15 * i, seed=i)
        soundfile.write(folder / f"s{i}.wav", np.stack([mono] * channels, axis=1), rate, subtype="FLOAT")
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i // 2}", "arousal": 1 + i / 4})
    return read_manifest(write_table(folder, table))


@pytest.fixture(scope="module")
def cache(corpus, encoder, tmp_path_factory):
    return open_cache(extract(corpus, encoder, tmp_path_factory.mktemp("cache") / "c.zarr").path)


CHECKS = (  # those of scikit-learn that fit nothing; all others fit a matrix of features, which is no audio
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_of_scikit_learn_that_fit_nothing_pass(name):
    getattr(estimator_checks, name)("LayerEmbedder", LayerEmbedder())


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_finds_no_fault_for_the_input_that_the_tags_state():
    assert [c for c in check_estimator(LayerEmbedder(), on_fail=None) if c["status"] != "passed"] == []


def test_embeddings_are_those_of_a_cache(cache, corpus, encoder):
    """For every layer, of files and of waveforms; poolings are side by side in the order that was named."""
    paths = corpus.table["path"].tolist()
    rows = [list(cache.utterance_ids).index(u) for u in corpus.table["utterance_id"]]
    for layer in encoder.layers:
        expected = cache.read_layer(layer)[rows]
        found = LayerEmbedder(encoder, layer).fit_transform(paths)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    waveforms = [read_audio_file(path, sampling_rate=16_000) for path in paths]
    embedder = LayerEmbedder(encoder, int(layer) if layer.isdecimal() else layer, ("std", "mean")).fit(waveforms)
    swapped = np.concatenate(np.split(expected, 2, axis=1)[::-1], axis=1)
    np.testing.assert_array_equal(embedder.transform(waveforms), swapped)


def test_waveforms_at_another_rate_are_resampled_as_files_are(corpus, encoder):
    path = corpus.table["path"].iloc[1]
    waveform = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    of_file = LayerEmbedder(encoder).fit_transform([path])
    np.testing.assert_array_equal(
        LayerEmbedder(encoder, sampling_rate=44_100).fit_transform([waveform.astype(np.float64)]), of_file
    )
    assert (LayerEmbedder(encoder).fit_transform([waveform]) != of_file).any()


def test_a_pipeline_predicts_from_paths_what_ridge_predicts_from_the_cache(cache, corpus, folders):
    paths, arousal = corpus.table["path"].to_numpy(), corpus.table["arousal"].to_numpy()
    pipeline = make_pipeline(LayerEmbedder(folders["hubert"], "1", device="cpu"), LayerRidge(n_folds=2))
    rows = [list(cache.utterance_ids).index(u) for u in corpus.table["utterance_id"]]
    alone = LayerRidge(n_folds=2).fit(cache.read_layer("1")[rows], arousal)
    predicted = pipeline.fit(paths, arousal).predict(paths)
    np.testing.assert_array_equal(predicted, alone.predict(cache.read_layer("1")[rows]))
    scores = cross_val_score(
        pipeline,
        paths,
        arousal,
        groups=corpus.table["speaker_id"],
        cv=SpeakerKFold(2),
        scoring="neg_mean_squared_error",
    )
    assert np.isfinite(scores).all()


def test_a_clone_uses_the_same_loaded_encoder_and_a_pickle_names_the_others(corpus, encoder, folders):
    paths = corpus.table["path"].iloc[3:6]  # a Series whose index does not begin at 0
    loaded = LayerEmbedder(encoder, 0).fit(paths)
    assert clone(loaded).encoder is encoder
    assert not hasattr(clone(loaded), "layer_")
    named = LayerEmbedder(str(folders["hubert"]), 0, device="cpu").fit(paths)
    stored = pickle.dumps(named)
    assert len(stored) < 10_000
    np.testing.assert_array_equal(pickle.loads(stored).transform(paths), loaded.transform(paths))
    np.testing.assert_array_equal(pickle.loads(stored).get_feature_names_out(), loaded.get_feature_names_out())


def test_a_pickle_whose_folder_has_other_weights_by_now_is_refused(corpus, folders, tmp_path):
    paths, folder = corpus.table["path"].tolist()[:2], shutil.copytree(folders["hubert"], tmp_path / "model")
    named = LayerEmbedder(str(folder), 0, device="cpu").fit(paths)
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(named))))
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * values for name, values in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    for read in (again.transform, again.get_feature_names_out):
        with pytest.raises(InputError, match=rf"^{folder} has other weights than when this was fitted\. Fit it again"):
            read(paths)


def test_features_are_named_by_layer_and_pooling(corpus, encoder):
    embedder = LayerEmbedder(encoder, 1, ("mean", "max")).set_output(transform="pandas")
    paths = corpus.table["path"].tolist()[:2]
    frame = clone(embedder).fit(paths).transform(paths)
    assert frame.columns[0] == "layer1_mean_0"
    assert frame.columns[-1] == f"layer1_max_{encoder.dim - 1}"
    assert frame.shape == (2, 2 * encoder.dim)


def test_nothing_is_embedded_before_fit(encoder):
    with pytest.raises(NotFittedError):
        LayerEmbedder(encoder).transform([np.ones(1000)])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"layer": 99}, "hubert has no layer '99'; it has 0, 1"),
        ({"layer": -1}, "hubert has no layer '-1'; it has 0, 1"),
        ({"poolings": "mean"}, "poolings is 'mean'; give a tuple of names, e.g. ('mean', 'std')."),
        ({"poolings": ("median",)}, "pooling 'median' is unknown"),
        ({"sampling_rate": 0}, "sampling_rate is 0; give the waveforms' rate in Hz, e.g. 16000."),
        ({"channel": "left"}, "channel 'left' is unknown; choose first, loudest or mean."),
        ({"n_jobs": 0}, "n_jobs is 0; give 1 or more, or None for one per core."),
        ({"encoder": 3}, "encoder is a int; give a name, a folder, or a loaded encoder."),
    ],
)
def test_wrong_parameters_are_refused_by_fit(encoder, choices, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        LayerEmbedder(**{"encoder": encoder} | choices).fit(["a.wav"])


def test_what_is_read_of_recordings_is_a_parameter(encoder, tmp_path):
    waveform = voice(0.5)
    soundfile.write(tmp_path / "mono.wav", waveform, 16_000, subtype="FLOAT")
    padded = np.concatenate([waveform, np.zeros(16_000, dtype=np.float32)])
    soundfile.write(tmp_path / "opposite.wav", np.stack([padded, -padded], axis=1), 16_000, subtype="FLOAT")
    with pytest.raises(
        InputError, match=r"its 2 channels cancel in their mean .* --channel mean \[LP\d{3}\]\. Leave it out"
    ):
        LayerEmbedder(encoder).fit_transform([str(tmp_path / "opposite.wav")])
    embedder = LayerEmbedder(encoder, channel="first", trim_silence=True)
    recordings = [str(tmp_path / "opposite.wav"), padded, str(tmp_path / "mono.wav")]
    found = clone(embedder).fit_transform(recordings)
    np.testing.assert_array_equal(found, LayerEmbedder(encoder).fit_transform([waveform] * 3))


TAKES = "LayerEmbedder takes a list with one path or one waveform of shape (n_samples,) per utterance"


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        ("a.wav", f"{TAKES}; this is a str."),
        ([], f"{TAKES}; this is empty."),
        (pd.DataFrame({"path": ["a.wav"]}), f"{TAKES}; this has shape (1, 1). Give one column, e.g. frame['path']."),
        (np.array([["a.wav"]]), f"{TAKES}; this has shape (1, 1). Give one column, e.g. frame['path']."),
        (["no.wav"], "utterance 0 (no.wav): no such file [LP"),
        ([np.zeros(900)], "utterance 0: silent: every sample is the same [LP"),
        ([1e4 * voice(0.5)], "utterance 0: values reach "),
        ([np.zeros(0)], "utterance 0: empty: it holds no samples [LP365]. Leave it out, or repair it. [LP364]"),
        ([np.array([0.1, np.nan])], "utterance 0: holds samples that are not finite [LP"),
        ([np.arange(900)], "utterance 0: a waveform of int64; give floating-point samples from -1 to 1 [LP365]."),
        ([np.ones((900, 2))], "utterance 0: a waveform of shape (900, 2); give one channel, (n_samples,) [LP365]."),
        ([np.linspace(0, 1, 99)], "utterance 0: too short: 99 samples at 16000 Hz, one frame needs 400 [LP461]."),
    ],
)
def test_audio_that_can_not_be_used_is_refused_with_its_position(encoder, recordings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        LayerEmbedder(encoder).fit_transform(recordings)


def test_an_error_whose_traceback_is_kept_leaves_torch_as_it_was(folders, tmp_path):
    encoder = load_encoder(str(folders["hubert"]), device="cpu", forward="packed")
    embedder = LayerEmbedder(encoder, n_jobs=3)
    waveforms = [voice(0.3).astype(np.float32), np.full(10, np.nan, dtype=np.float32)]
    before = torch.get_num_threads()
    with pytest.raises(InputError) as kept:
        embedder.fit(waveforms).transform(waveforms)
    assert kept.tb is not None
    assert torch.get_num_threads() == before != 3


def test_encoders_of_text_are_refused(tmp_path):
    from helpers.text_models import save_text_model

    text = load_encoder(str(save_text_model("bert", tmp_path / "bert")), device="cpu")
    with pytest.raises(InputError, match="reads text; LayerEmbedder takes encoders of audio"):
        LayerEmbedder(text).fit(["a.wav"])


@pytest.mark.parametrize(
    ("module", "name"), [("extraction", "LayerEmbedder"), ("solvers", "LayerRidge"), ("weighted_sum", "LayerRidge")]
)
def test_without_scikit_learn_one_sentence_states_how_to_install_it(module, name):
    code = f"import sys; sys.modules['sklearn'] = None; import layerprobe.probe.{module}.sklearn_api"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {name} ")
    assert last.endswith("scikit-learn; install it with pip install 'layerprobe[sklearn]'.")


def test_audio_whose_header_misstates_the_length_is_read_whole_with_a_warning(tmp_path, encoder):
    plain, piped = tmp_path / "plain.wav", tmp_path / "piped.wav"
    for path in (plain, piped):
        soundfile.write(path, voice(0.5), 16_000)
    with_number(piped, b"data", 0xFFFFFFFF)
    with pytest.warns(UserWarning, match="1 utterance has audio that was read whole although the header"):
        found = LayerEmbedder(encoder).fit_transform([plain, piped])
    np.testing.assert_array_equal(found[0], found[1])
