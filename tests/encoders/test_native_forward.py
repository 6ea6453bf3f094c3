"""The native forward pass: transformers' layers for every length, norm and precision."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.changed_modules import CHANGES
from helpers.speech_models import KINDS, NARROW, PRE_NORM, small_model
from helpers.voices import voice
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import LoadedModel, SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.linear_kernels import Linear, packs, products_used
from layerprobe.probe.forward.native import NativeForward, has_native_forward

NATIVE = [kind for kind in KINDS if kind.split("-pre")[0] in ("hubert", "wav2vec2", "unispeech-sat")]


def normalised(seconds):
    waveform = torch.from_numpy(voice(seconds))
    return (waveform - waveform.mean()) / waveform.std()


def reference(model, waveform):
    """transformers' states by its own account, and its last hidden state."""
    with torch.no_grad():
        answer = model(waveform[None], output_hidden_states=True)
    return [*(s[0] for s in answer.hidden_states[:-1])], answer.last_hidden_state[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("seconds", [0.025, 0.045, 1.3, 3.86, 12.0])  # a frame, two, less than a tile, more, several
def test_layers_equal_transformers(models, kind, seconds):
    states = list(NativeForward(models[kind]).hidden_states(normalised(seconds)))
    middle, last = reference(models[kind], normalised(seconds))
    for ours, theirs in zip(states, middle, strict=False):
        assert relative(ours, theirs) < 3e-6
    assert relative(states[-1], last) < 3e-6
    assert len(states) == (5 if kind.endswith("pre-norm") else 4)


@pytest.mark.parametrize("norm", [{}, PRE_NORM, {"conv_bias": True}])
def test_published_kernels_and_groups(norm):
    """128 taps in 16 groups reach over the edges of a Fourier block of 256."""
    shape = {"hidden_size": 64, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HubertModel(HubertConfig(**NARROW | shape | norm)).eval()
    states = list(NativeForward(model).hidden_states(normalised(9.0)))
    middle, last = reference(model, normalised(9.0))
    assert max(relative(a, b) for a, b in zip([*states[:3], states[-1]], [*middle[:3], last], strict=True)) < 3e-6


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    """Both kinds of bfloat16 product, whatever this processor would choose."""
    if request.param == "plain":
        monkeypatch.setattr("layerprobe.probe.forward.linear_kernels.processor_multiplies_bfloat16", lambda: False)
    elif not packs():
        pytest.skip("this processor can't multiply packed bfloat16 weights")
    return request.param


def test_the_processor_decides_whether_weights_are_packed(products):
    linear = Linear.from_weights(torch.ones(4, 8), torch.ones(4), torch.bfloat16)
    assert (linear.packed is not None) == packs() == (products == "packed")
    assert linear(torch.ones(3, 8, dtype=torch.bfloat16)).tolist() == [[9.0] * 4] * 3
    assert ("plain products are used" in products_used()) == (products == "plain")


def test_packed_and_plain_products_agree(monkeypatch):
    """Exact products of rounded numbers, summed in float32 and rounded once, differ by one unit in the last place."""
    if not packs():
        pytest.skip("this processor can't multiply packed bfloat16 weights")
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 64, generator=generator) for n in (48, 21))
    packed = Linear.from_weights(weight, None, torch.bfloat16)(x.bfloat16())
    monkeypatch.setattr("layerprobe.probe.forward.linear_kernels.processor_multiplies_bfloat16", lambda: False)
    plain = Linear.from_weights(weight, None, torch.bfloat16)(x.bfloat16())
    torch.testing.assert_close(packed, plain, rtol=2**-7, atol=1e-2)
    exact = weight.bfloat16().double() @ x.bfloat16().double().T
    for product in (packed, plain):
        assert relative(product.double(), exact.T) < 2**-8


@pytest.mark.parametrize("kind", NATIVE)
def test_bfloat16_stays_close(models, kind, products):
    """Products of numbers with eight bits: within two per cent, and in the same direction."""
    waveform = normalised(4.0)
    exact = list(NativeForward(models[kind]).hidden_states(waveform))
    mixed_precision = list(NativeForward(models[kind], dtype=torch.bfloat16).hidden_states(waveform))
    for a, b in zip(mixed_precision, exact, strict=True):
        assert a.dtype == torch.float32
        assert 1e-5 < relative(a, b) < 2e-2
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.9998


def test_only_known_configurations_have_a_native_forward_pass(models):
    assert {kind for kind, model in models.items() if kind != "whisper" and has_native_forward(model)} == set(NATIVE)
    for change in ({"hidden_act": "relu"}, {"feat_extract_activation": "silu"}, {"adapter_attn_dim": 16}):
        model = copy.copy(models["wav2vec2"])
        model.config = copy.copy(model.config)
        for name, value in change.items():
            setattr(model.config, name, value)
        assert not has_native_forward(model)


def test_the_encoder_names_its_forward_pass(folders):
    native = load_audio_encoder(str(folders["hubert"]), precision="bfloat16")
    assert (native.forward, native.precision) == ("native", "bfloat16")
    assert load_audio_encoder(str(folders["wavlm"])).forward == "transformers"
    with pytest.raises(InputError, match=r"^float16 is for GPUs\. On the CPU use bfloat16 or float32\. \[LP\d{3}\]$"):
        load_audio_encoder(str(folders["wavlm"]), precision="float16")
    with pytest.raises(
        InputError,
        match=r"^precision 'int4' is unknown; choose one of auto, float32, tf32, bfloat16, float16\. \[LP\d{3}\]$",
    ):
        load_audio_encoder(str(folders["hubert"]), precision="int4")


def test_a_variation_falls_back_to_transformers(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        HubertModel(HubertConfig(**NARROW, conv_pos_batch_norm=True)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert load_audio_encoder(str(tmp_path)).forward == "transformers"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_changed_module_falls_back_to_transformers(change, precision):
    """What `SpeechEncoder` returns is what the changed model computes, and not what its names promise."""
    with torch.random.fork_rng():
        model = small_model("hubert")
    waveform = normalised(0.5)
    with torch.no_grad():
        plain = model(waveform[None]).last_hidden_state[0]
    change(model.eval())
    model.eval()
    assert not has_native_forward(model)
    loaded = LoadedModel(model, ARCHITECTURES["hubert"], Wav2Vec2FeatureExtractor(), "changed", "", "")
    encoder = SpeechEncoder(loaded, precision=precision)
    assert encoder.forward == "transformers"
    with torch.no_grad():
        truth = model(waveform[None]).last_hidden_state[0]
    ours = encoder.hidden_states(waveform.numpy())[-1]
    assert relative(ours, truth) < (1e-5 if precision == "float32" else 5e-2)
    assert relative(truth, plain) > 1e-3  # the change is one


def test_what_only_records_states_is_no_change(models):
    """Hooks of transformers, after a pass that returned all states, and those of an encoder made before."""
    with torch.random.fork_rng():
        model = small_model("wav2vec2")
    reference(model, normalised(0.3))
    loaded = LoadedModel(model, ARCHITECTURES["wav2vec2"], Wav2Vec2FeatureExtractor(), "same", "", "")
    assert [SpeechEncoder(loaded, precision="float32").forward for _ in range(2)] == ["native", "native"]
