"""Encoders: layers by the convention, equal to independent references; nothing missing, nothing random."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fork_server import ForkServer
from helpers.speech_models import KINDS, load_exact, save_model
from helpers.voices import voice
from safetensors.torch import load_file, save_file
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2Config, Wav2Vec2ForCTC, WhisperFeatureExtractor
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from layerprobe.probe.encoders.architectures import ARCHITECTURES, overlapping_windows
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.pooling import POOLINGS, pool_frame_chunks, pool_layers

AUDIO = voice(1.3)


def relative(a, b):
    return float((a - b).norm() / b.norm())


def normalised(waveform):
    return torch.from_numpy((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7))[None].float()


def inputs_of(kind):
    """What a model of that kind is called with for `AUDIO`, made by hand or by transformers' own extractor."""
    if kind == "wav2vec2-bert":
        return dict(SeamlessM4TFeatureExtractor()(AUDIO, sampling_rate=16_000, return_tensors="pt"))
    return {"input_values": normalised(AUDIO)}


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "whisper"])
def test_layers_equal_the_hidden_states_of_transformers(folders, models, kind):
    encoder = load_exact(folders[kind])
    states = encoder.hidden_states(AUDIO)
    with torch.no_grad():
        reference = models[kind](**inputs_of(kind), output_hidden_states=True)
    assert len(reference.hidden_states) == 4
    for k in range(3):  # the last one changed its meaning between transformers 4 and 5 where norms come first
        assert relative(states[k], reference.hidden_states[k][0]) < 1e-5
        assert relative(states[k + 1], states[k]) > 0.01
    if kind.endswith("pre-norm"):
        assert encoder.layers == ("0", "1", "2", "3", "final")
        with torch.no_grad():
            normed = models[kind].encoder.layer_norm(states[3])
        assert relative(states[4], normed) < 1e-5
        assert relative(states[3], states[4]) > 0.1
        assert relative(states[4], reference.last_hidden_state[0]) < 1e-5
    else:
        assert encoder.layers == ("0", "1", "2", "3")
        # SEW doubles its frames again after the blocks, so only the states themselves compare
        last = reference.hidden_states[3] if kind == "sew" else reference.last_hidden_state
        assert relative(states[3], last[0]) < 1e-5


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "wav2vec2", "wav2vec2-pre-norm"])
@pytest.mark.filterwarnings("ignore:The model is not an instance of:UserWarning")
def test_layers_equal_torchaudio_with_the_same_weights(folders, models, kind):
    from torchaudio.models.wav2vec2.utils import import_huggingface_model

    encoder = load_exact(folders[kind])
    states = encoder.hidden_states(AUDIO)
    with torch.no_grad():
        reference, _ = import_huggingface_model(models[kind]).eval().extract_features(normalised(AUDIO))
    assert len(reference) == 3  # torchaudio counts from the output of the first block
    for ours, theirs in zip(states[1:4], reference, strict=True):
        assert relative(ours, theirs[0]) < 1e-5


def test_whisper_layers_equal_transformers_over_the_frames_of_the_audio(folders, models):
    encoder = load_exact(folders["whisper"])
    states = encoder.hidden_states(AUDIO)
    mel = WhisperFeatureExtractor()(AUDIO, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        reference = models["whisper"].encoder(mel, output_hidden_states=True)
    assert encoder.layers == ("0", "1", "2", "3", "final")
    n_frames = 65  # ceil(1.3 s * 50): one every 20 ms that begins within the audio, out of 1500
    for k in range(3):
        assert states[k].shape == (n_frames, 32)
        assert relative(states[k], reference.hidden_states[k][0, :n_frames]) < 1e-5
    assert relative(states[4], reference.last_hidden_state[0, :n_frames]) < 1e-5


def test_whisper_encodes_long_audio_in_windows_and_loses_nothing(folders):
    encoder = load_exact(folders["whisper"])
    long = voice(61.0)
    states = encoder.hidden_states(long)
    assert states[0].shape[0] == 61 * 50
    torch.testing.assert_close(states[2][1500:3000], encoder.hidden_states(long[480_000:960_000])[2])
    torch.testing.assert_close(states[2][3000:], encoder.hidden_states(long[960_000:])[2])


SLOW_KINDS = [pytest.param(kind, marks=pytest.mark.long) for kind in ("wavlm", "wav2vec2-bert")]


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm", "data2vec-audio", "sew", *SLOW_KINDS])
def test_long_audio_is_encoded_in_chunks_that_count_every_frame_once(folders, kind, monkeypatch):
    """80 s in two chunks: pooled layers within 1 % of those of a single chunk, frames within 10 %."""
    encoder, long = load_exact(folders[kind]), voice(80.0)
    frame_chunks = [(s.first, s.total, len(next(iter(s.layers)))) for s in encoder.frame_chunks(long)]
    input_chunks = encoder.hidden_states(long)
    pooled = pool_frame_chunks(encoder.frame_chunks(long), poolings=tuple(POOLINGS))
    monkeypatch.setattr("layerprobe.probe.encoders.architectures.LONGEST_CHUNK", 1e6)
    whole = encoder.hidden_states(long)
    assert len(whole[0]) == (1999 if kind == "sew" else 3999)
    assert [n for _, _, n in frame_chunks] == [len(whole[0]) // 2, len(whole[0]) - len(whole[0]) // 2]
    assert [(first, total) for first, total, _ in frame_chunks] == [
        (0, len(whole[0])),
        (len(whole[0]) // 2, len(whole[0])),
    ]
    assert max(relative(a, b) for a, b in zip(input_chunks, whole, strict=True)) < 0.1
    once = pool_layers(whole, poolings=("mean", "std"))
    assert relative(pool_layers(input_chunks, poolings=("mean", "std")), once) < 0.01
    # pooling chunk by chunk equals pooling all frames of the chunks at once
    torch.testing.assert_close(pooled, pool_layers(input_chunks, poolings=tuple(POOLINGS)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_forward_pass_gives_the_same_bits(folders, kind):
    encoder = load_exact(folders[kind])
    first, second = encoder.hidden_states(AUDIO), encoder.hidden_states(AUDIO)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shortest_audio_has_a_frame_and_a_shorter_one_is_refused(folders, kind):
    encoder = load_exact(folders[kind])
    needed = encoder.minimum_samples
    assert needed == {"sew": 720, "wav2vec2-bert": 560}.get(kind, 400)
    assert all(len(s) >= 1 and torch.isfinite(s).all() for s in encoder.hidden_states(AUDIO[:needed]))
    with pytest.raises(ValueError, match=f"at least {needed}"):
        encoder.hidden_states(AUDIO[: needed - 1])
    with pytest.raises(ValueError, match=f"at least {needed}"):
        encoder.hidden_states(np.stack([AUDIO, AUDIO], axis=1))


@pytest.mark.parametrize("n_frames", [1, 2999, 3000, 3001, 5000, 5001, 123_457])
def test_windows_count_each_frame_once_and_encode_its_context(n_frames):
    windows = list(overlapping_windows(n_frames, frames_per_second=50))
    assert [k for _, counted in windows for k in counted] == list(range(n_frames))
    assert len(windows) == (1 if n_frames <= 3000 else -(-n_frames // 2500))
    for encoded, counted in windows:
        assert len(encoded) <= 3000
        assert encoded.start == max(0, counted.start - 250)
        assert encoded.stop == min(n_frames, counted.stop + 250)


def test_a_frame_that_is_half_padding_is_left_out(folders):
    """w2v-BERT stacks two filter-bank frames; with an odd number of them the last stack is half padding."""
    encoder = load_exact(folders["wav2vec2-bert"])
    assert [len(encoder.hidden_states(AUDIO[: 400 + 160 * n])[0]) for n in (7, 8, 9)] == [4, 4, 5]


def test_golden_values_of_a_seeded_model(folders):
    states = load_exact(folders["hubert-pre-norm"]).hidden_states(AUDIO)
    golden = json.loads((Path(__file__).parent / "golden_hubert_pre_norm.json").read_text())
    np.testing.assert_allclose([[float(s.mean()), float(s.std())] for s in states], golden, rtol=1e-4)


def without(folder, tmp_path, *dropped):
    """A copy of a model folder whose checkpoint lacks some tensors."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    for name in dropped:
        del tensors[name]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("hubert", "encoder.layers.1.attention.k_proj.weight"),
        ("wavlm", "feature_projection.projection.bias"),
        ("whisper", "encoder.layers.2.fc1.weight"),
    ],
)
def test_a_missing_encoder_tensor_is_refused_by_name(folders, tmp_path, kind, tensor):
    saved = load_file(folders[kind] / "model.safetensors")
    name = tensor if tensor in saved else f"model.{tensor}"
    copy = without(folders[kind], tmp_path, name)
    with pytest.raises(InputError, match=f"the checkpoint lacks {tensor}, which would be initialised at random"):
        load_audio_encoder(str(copy))


def test_tensors_that_no_layer_reads_may_be_missing(folders, tmp_path):
    copy = without(folders["hubert"], tmp_path, "masked_spec_embed")
    whole = load_audio_encoder(str(folders["hubert"]))
    assert load_audio_encoder(str(copy)).weights_hash() == whole.weights_hash()


def test_a_decoder_may_be_missing(folders, tmp_path):
    saved = load_file(folders["whisper"] / "model.safetensors")
    copy = without(folders["whisper"], tmp_path, *(name for name in saved if "decoder." in name))
    assert load_audio_encoder(str(copy)).weights_hash() == load_audio_encoder(str(folders["whisper"])).weights_hash()


def test_older_names_of_the_positional_convolution_are_read(folders, tmp_path):
    copy = without(folders["hubert"], tmp_path)
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(copy / "model.safetensors").items()
    }
    assert "encoder.pos_conv_embed.conv.weight_g" in renamed
    save_file(renamed, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_audio_encoder(str(copy)).weights_hash() == load_audio_encoder(str(folders["hubert"])).weights_hash()


def test_a_fine_tuned_checkpoint_is_read_by_its_encoder(tmp_path, models):
    torch.manual_seed(0)
    config = Wav2Vec2Config(**models["wav2vec2"].config.to_diff_dict() | {"vocab_size": 12})
    tuned = Wav2Vec2ForCTC(config).eval()
    encoder = load_exact(save_model(tuned, tmp_path / "ctc"))
    with torch.no_grad():
        reference = tuned.wav2vec2(normalised(AUDIO)).last_hidden_state[0]
    assert relative(encoder.hidden_states(AUDIO)[-1], reference) < 1e-5


def test_random_weights_follow_the_seed_and_leave_the_process_alone(folders):
    before = torch.get_rng_state()
    hashes = [load_audio_encoder(str(folders["hubert"]), random_init=seed).weights_hash() for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[0] != load_audio_encoder(str(folders["hubert"])).weights_hash()
    assert torch.equal(before, torch.get_rng_state())


def test_changed_weights_under_the_same_name_have_another_hash(folders, tmp_path):
    copy = without(folders["hubert"], tmp_path)
    tensors = load_file(copy / "model.safetensors")
    tensors["encoder.layers.0.attention.k_proj.bias"][3] += 1e-6
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_audio_encoder(str(copy)).weights_hash() != load_audio_encoder(str(folders["hubert"])).weights_hash()


def test_what_can_not_be_loaded_is_one_sentence(folders, tmp_path):
    with pytest.raises(InputError, match=r"^encoder \./nowhere: no such folder\. Give a transformers folder"):
        load_audio_encoder("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty can't be loaded: .* A transformers folder holds config.json"):
        load_audio_encoder(str(tmp_path / "empty"))
    copy = without(folders["hubert"], tmp_path)
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"is a 'bert' model; supported are data2vec-audio, hubert, sew, unispeech"):
        load_audio_encoder(str(copy))


def test_every_family_is_a_real_architecture():
    known = {config.model_type for config in MODEL_MAPPING}
    assert set(ARCHITECTURES) <= known


@pytest.mark.long
def test_a_hub_name_with_a_revision_is_loaded_and_its_commit_recorded(folders, tmp_path):
    """As the hub's own cache stores it, with no network: the code that loads is the real one."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--team--small-hubert"
    shutil.copytree(folders["hubert"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v2").write_text(commit)
    code = (
        "from layerprobe.probe.encoders.loading import load_audio_encoder; "
        "e = load_audio_encoder('team/small-hubert@v2'); "
        "print(e.upstream, e.revision, e.weights_hash())"
    )
    other = "from layerprobe.probe.encoders.loading import load_audio_encoder; load_audio_encoder('team/other')"
    with ForkServer(HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1") as forks:  # read when the hub's code is imported
        result, missing = forks.run(code=code), forks.run(code=other)
    expected = load_audio_encoder(str(folders["hubert"])).weights_hash()
    assert result.stdout.split() == ["team/small-hubert", commit, expected], result.stderr
    assert "encoder team/other is no local folder, and the hub did not return it:" in missing.stderr


def test_a_torchaudio_that_does_not_fit_is_one_sentence(tmp_path):
    (tmp_path / "torchaudio.py").write_text("raise OSError('libtorchaudio.so: undefined symbol')")
    code = (
        "from layerprobe.probe.encoders.loading import load_audio_encoder; "
        "load_audio_encoder('embedded', random_init=0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'" in result.stderr


@pytest.mark.long
def test_how_many_threads_loaded_it_changes_no_bit(folders, forks):
    """The weights of the position convolution are a product with a norm, summed when the encoder is made."""
    code = (
        "import sys, hashlib, numpy as np, torch; torch.set_num_threads(int(sys.argv[2])); "
        "from layerprobe.probe.encoders.loading import load_audio_encoder; "
        "e = load_audio_encoder(sys.argv[1], device='cpu', precision='float32'); torch.set_num_threads(1); "
        "x = np.random.default_rng(0).normal(size=8000).astype('float32'); "
        "print(hashlib.sha256(b''.join(h.numpy().tobytes() for h in e.hidden_states(x))).hexdigest())"
    )
    done = [forks.run(folders["hubert"], n, code=code) for n in (1, 2, 4)]
    assert [one.returncode for one in done] == [0, 0, 0], done
    assert len({one.stdout for one in done}) == 1
