"""Precision of products: torch's switches during a pass, and what of a 16-bit pass is done in 16 bits."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers.speech_models import KINDS, load_exact, small_model
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders import speech, text
from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.diagnostics import deviations, precision_error
from layerprobe.probe.encoders.identity import model_hash
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.embedding import embed
from layerprobe.probe.forward.linear_kernels import MixedPrecisionLinears, biased_attention
from layerprobe.probe.forward.precision import is_packed, multiplying_in, precision_for, steps_in

SEEDED = torch.Generator().manual_seed(0)
EXACT = {"matmul": "ieee", "conv": "ieee", "mkldnn matmul": "ieee", "mkldnn conv": "ieee", "sums": (False, False)}


def switches():
    """What torch's kernels read."""
    b = torch.backends
    matmul = b.cuda.matmul
    return {
        "matmul": matmul.fp32_precision,
        "conv": b.cudnn.conv.fp32_precision,
        "mkldnn matmul": b.mkldnn.matmul.fp32_precision,
        "mkldnn conv": b.mkldnn.conv.fp32_precision,
        "sums": (matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction),
    }


@pytest.fixture(params=["torch's defaults", "the faster settings of a user"])
def chosen(request):
    """The switches before, which a pass must leave as they were; by default cuDNN's convolutions round to TF32."""
    before = torch.get_float32_matmul_precision()
    if "user" in request.param:
        torch.set_float32_matmul_precision("medium")
    yield switches()
    torch.set_float32_matmul_precision(before)


class SwitchRecorder(TorchDispatchMode):
    """Records the switches at every operator that multiplies."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(part in str(func) for part in ("mm", "matmul", "linear", "conv", "attention")):
            self.seen.append(switches())
        return func(*args, **kwargs or {})


def test_float32_multiplies_exactly_whatever_a_user_chose(folders, tmp_path, chosen):
    audio = voice(0.4)
    packed = load_exact(folders["wavlm"], forward="packed")
    read = load_text_encoder(str(save_text_model("bert", tmp_path / "bert")), forward="packed")
    chunks, texts = [packed.input_chunks(audio)] * 2, [read.input_chunks(s) for s in SENTENCES[:2]]
    mixed = load_audio_encoder(str(folders["wavlm"]), precision="bfloat16")
    passes = {
        "native": lambda: load_exact(folders["hubert"]).hidden_states(audio),
        "transformers": lambda: load_exact(folders["wavlm"]).hidden_states(audio),
        "with pooling": lambda: embed(load_exact(folders["wavlm"]), audio, poolings=("mean", "std", "normed_mean")),
        "measured errors": lambda: precision_error(packed, [audio]),
        "packed, alone": lambda: packed.hidden_states(audio),
        "packed": lambda: packed.embed_pack(chunks, poolings=("mean",)),
        "the reference of 16 bits": lambda: mixed.reference_states(audio),
        "text, alone": lambda: read.hidden_states(SENTENCES[0]),
        "text, packed": lambda: read.embed_pack(texts, poolings=("mean",)),
        "the reference of text": lambda: read.reference_states(SENTENCES[0]),
    }
    for name, run in passes.items():
        with SwitchRecorder() as recorder:
            run()
        assert len(recorder.seen) > 10, name
        assert all(seen == EXACT for seen in recorder.seen), name
        assert switches() == chosen, name
    # convolutions that a 16-bit pass leaves in float32 may round as cuDNN does by default
    with SwitchRecorder() as recorder:
        mixed.hidden_states(audio)
    assert {seen["conv"] for seen in recorder.seen} == {"tf32"}
    assert {seen["matmul"] for seen in recorder.seen} == {"ieee"}
    assert switches() == chosen


def test_tf32_has_a_name_of_its_own_and_is_for_gpus():
    assert precision_for("tf32", device="cuda:1", known=True) == "tf32"
    assert precision_for("auto", device="cpu", known=False) == "float32"
    with pytest.raises(InputError, match=r"^tf32 is for GPUs\. On the CPU use float32\. \[LP\d{3}\]$"):
        precision_for("tf32", device="cpu", known=True)
    with multiplying_in("tf32"):
        assert switches() == EXACT | {"matmul": "tf32", "conv": "tf32"}


def test_auto_packs_on_a_gpu_of_cuda_alone():
    found = {device: is_packed("auto", device=device) for device in ("cpu", "cpu:0", "mps", "cuda", "cuda:1")}
    assert found == {"cpu": False, "cpu:0": False, "mps": False, "cuda": True, "cuda:1": True}
    assert is_packed("packed", device="mps")
    assert not is_packed("single", device="cuda")
    with pytest.raises(
        InputError, match=r"^forward pass 'both' is unknown; choose one of auto, single, packed\. \[LP\d{3}\]$"
    ):
        is_packed("both", device="cpu")


def test_switches_are_restored_after_an_error_and_held_by_no_suspended_generator():
    before = switches()
    steps = steps_in("float32", iter([1, 2]))
    assert next(steps) == 1
    assert switches() == before
    with pytest.raises(ZeroDivisionError), multiplying_in("float32"), multiplying_in("float32"):
        _ = 1 / 0
    assert switches() == before
    with multiplying_in("float32"), pytest.raises(RuntimeError, match="another precision"), multiplying_in("tf32"):
        pass
    assert switches() == before


def test_threads_have_a_precision_together_and_wait_for_another():
    before, together, entered = switches(), threading.Barrier(2), threading.Event()

    def agree():
        with multiplying_in("float32"):
            together.wait(timeout=10)

    def differ():
        with multiplying_in("tf32"):
            entered.set()

    threads = [threading.Thread(target=run) for run in (agree, differ)]
    with multiplying_in("float32"):
        for thread in threads:
            thread.start()
        together.wait(timeout=10)
        threads[0].join(timeout=10)
        assert not entered.wait(timeout=0.1)
        assert switches() == EXACT  # though the other thread has left
    assert entered.wait(timeout=10)
    threads[1].join(timeout=10)
    assert switches() == before


FORK = """
import os, signal, threading
from layerprobe.probe.forward.precision import _backends, multiplying_in

def switches():
    return {name: part.fp32_precision for name, part in _backends().items()}

def encode():
    with multiplying_in("tf32"):
        inside.set()
        end.wait()

inside, end, before = threading.Event(), threading.Event(), switches()
thread = threading.Thread(target=encode)
thread.start()
inside.wait()
assert switches() != before
with multiplying_in("tf32"):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        assert switches() != before
if child == 0:
    assert switches() == before
    with multiplying_in("float32"):
        os._exit(0)
end.set()
thread.join()
assert switches() == before
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_does_not_wait_for_threads_of_its_parent():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weights_are_hashed_once_and_before_they_leave_the_processor(tmp_path, monkeypatch):
    """On the device ``meta`` there is nothing to read."""
    hashed = []
    for module in (speech, text):
        monkeypatch.setattr(module, "model_hash", lambda *args, **names: hashed.append(1) or model_hash(*args, **names))
    with torch.random.fork_rng():  # models of this test alone: those of others may have hooks, which can't be copied
        first, second = small_model("hubert"), small_model("hubert")
    loaded = LoadedModel(first, ARCHITECTURES["hubert"], Wav2Vec2FeatureExtractor(), "a", "", "")
    moved = speech.SpeechEncoder(loaded, device="meta", precision="float32", forward="single")
    here = speech.SpeechEncoder(replace(loaded, model=second), device="cpu", precision="float32")
    assert moved.weights_hash() == moved.weights_hash() == here.weights_hash() == here.weights_hash()
    assert len(hashed) == 2
    bert = text.load_text_model(str(save_text_model("bert", tmp_path / "bert")))
    parts, names = (bert.family, bert.tokenizer), {"upstream": "a", "forward": "single"}
    here = text.TranscriptEncoder(copy.deepcopy(bert.model), *parts, device="cpu", **names)
    moved = text.TranscriptEncoder(bert.model, *parts, device="meta", **names)
    assert moved.weights_hash() == moved.weights_hash() == here.weights_hash() == here.weights_hash()
    assert len(hashed) == 4


class Products(TorchDispatchMode):
    """Counts multiply-adds by the precision of their inputs: of maps with weights, and of attention's two products.

    A convolution of one frame in a block is such a map, of its channels.
    """

    def __init__(self, blocks):
        super().__init__()
        self.linear, self.attention = Counter(), Counter()
        self.pointwise = {p.data_ptr() for p in blocks.parameters() if p.dim() == 3 and p.shape[2] == 1}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        name = func.name().partition("::")[2].partition(".")[0]
        if name in ("addmm", "mm", "linear", "_linear_pointwise"):
            x = args[1] if name == "addmm" else args[0]
            self.linear[x.dtype] += out.numel() * x.shape[-1]
        elif name in ("conv1d", "convolution") and args[1].data_ptr() in self.pointwise:
            self.linear[args[0].dtype] += out.numel() * args[1].shape[1]
        elif name in ("bmm", "baddbmm"):
            x = args[1] if name == "baddbmm" else args[0]
            self.attention[x.dtype] += out.numel() * x.shape[-1]
        elif "attention" in name:
            self.attention[args[0].dtype] += 2 * args[0].numel() * args[1].shape[-2]
        return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_16_bit_pass_does_every_linear_map_in_16_bits(folders, kind):
    """Of every architecture, also where transformers passes a layer's weights to torch instead of calling the layer."""
    audio = voice(0.4)
    encoder = load_exact(folders[kind])
    (chunk,) = encoder.input_chunks(audio)
    with torch.inference_mode(), Products(encoder.blocks) as exact:
        encoder._hooked.states(chunk.inputs)
    linears = MixedPrecisionLinears(encoder._encoder, torch.bfloat16)
    with torch.inference_mode(), linears.enabled(), Products(encoder.blocks) as mixed:
        encoder._hooked.states(chunk.inputs)
    assert list(exact.linear) == [torch.float32]
    assert set(mixed.linear) == {torch.bfloat16}  # some processors need more rows, which are zeros
    assert mixed.linear[torch.bfloat16] >= exact.linear[torch.float32] > 200_000
    assert mixed.attention == exact.attention
    encoder = load_audio_encoder(str(folders[kind]), precision="bfloat16", forward="single")
    assert 1e-4 < max(deviations(encoder, audio)) < 2e-2
    assert 1e-4 < precision_error(encoder, [audio])["relative_error"].max() < 8e-3


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # of a mask of another kind than the bias, by torch
def test_wavlms_attention_equals_that_of_transformers_with_a_mask_and_without(models):
    """The function that 16-bit products go through, here in float32."""
    for kind in ("wavlm", "wavlm-pre-norm"):
        attention = models[kind].encoder.layers[1].attention
        x, bias = torch.randn(2, 9, 32, generator=SEEDED), torch.randn(8, 9, 9, generator=SEEDED)
        mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
        with torch.inference_mode():
            for given in (None, mask):
                theirs, _ = type(attention).torch_multi_head_self_attention(attention, x, given, bias)
                ours, _ = biased_attention(attention)(x, given, bias)
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
                assert not torch.equal(theirs[1], attention.torch_multi_head_self_attention(x[:1], None, bias[:4])[0])


def test_16_bits_are_for_the_thread_that_enabled_them(folders):
    audio = voice(0.4)
    encoder = load_audio_encoder(str(folders["wavlm"]), precision="bfloat16")
    alone, exact = encoder.hidden_states(audio), encoder.reference_states(audio)
    results = {}

    def run(k):
        results[k] = [(encoder.hidden_states if k % 2 else encoder.reference_states)(audio) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for k, states in results.items():
        expected = alone if k % 2 else exact
        assert all(torch.equal(a, b) for one in states for a, b in zip(one, expected, strict=True))
    assert len(results) == 4
