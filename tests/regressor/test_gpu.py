"""A regressor on a GPU: each tensor on the right device, products as the precision states, random states left alone."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.pretended_gpu import pretended_gpu
from helpers.regressors import regressor_of
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice

from layerprobe.probe.regressor import trainer
from layerprobe.probe.regressor.model import Utterance
from layerprobe.probe.regressor.trainer import Training, predict_batch
from layerprobe.probe.training.checkpoints import forked_rng, restore_rng, rng_tensors

WAVEFORMS = [voice(0.5, seed=1), voice(0.3, seed=2), voice(0.4, seed=3)]
PLAN = SimpleNamespace(
    precision="float32", targets=("a", "b", "c"), target_weights=(1.0, 1.0, 1.0), max_batch_frames=60, warmup=0.1,
    max_grad_norm=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return save_text_model("bert", tmp_path_factory.mktemp("text") / "bert")


def utterances(regressor):
    texts = SENTENCES[: len(WAVEFORMS)]
    return [
        Utterance(regressor.audio.prepare(w), regressor.text.prepare(t)) for w, t in zip(WAVEFORMS, texts, strict=True)
    ]


@pytest.mark.parametrize("fusion", ["gate", "cross_attention"])
@pytest.mark.parametrize("kind", ["hubert", "wavlm-pre-norm"])
def test_predictions_on_a_gpu_are_those_of_the_cpu(folders, text_folder, kind, fusion):
    regressor = regressor_of(folders, text_folder, kind, fusion=fusion)
    batch = utterances(regressor)
    with torch.no_grad():
        expected = predict_batch(regressor, batch, PLAN)
        with pretended_gpu() as gpu:
            found = predict_batch(regressor.to("cuda"), batch, PLAN)
    assert gpu.waits["_to_copy"] > 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("precision", "convolutions"), [("float32", "ieee"), ("bfloat16", "tf32")])
def test_both_passes_of_a_step_multiply_as_the_precision_states(
    folders, text_folder, monkeypatch, precision, convolutions
):
    regressor = regressor_of(folders, text_folder)
    plan = SimpleNamespace(**vars(PLAN) | {"precision": precision})
    training = Training(regressor, None, plan, folder=None)
    monkeypatch.setattr(trainer, "set_training", lambda *_: None)
    seen = []

    def note(*_):
        seen.append((torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision))

    optimiser = torch.optim.AdamW([{"params": list(regressor.head.parameters()), "rate": 1e-3}])
    regressor.head.register_forward_hook(note)
    regressor.head[-1].weight.register_hook(note)  # in the backward pass
    before = torch.backends.cudnn.conv.fp32_precision
    training._step(optimiser, utterances(regressor), torch.randn(3, 3), step=1, n_steps=10)
    assert len(seen) > 2
    assert set(seen) == {(convolutions, "ieee")}
    assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive"])
def test_what_follows_the_encoders_is_in_float32_under_bfloat16(folders, text_folder, pooling):
    regressor = regressor_of(folders, text_folder, pooling=pooling)
    batch = utterances(regressor)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        states = regressor.states(batch)
        found = regressor(batch)
    with torch.no_grad():
        expected = regressor.from_states(states)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_gpus_random_state_is_restored_after_a_training():
    with mock.patch("torch.random.fork_rng") as fork:
        forked_rng("cuda:1")
        forked_rng("cpu")
    assert [call.kwargs for call in fork.call_args_list] == [{"devices": ["cuda:1"]}, {"devices": []}]


def test_a_checkpoint_of_a_gpu_is_resumed_on_the_cpu():
    states = rng_tensors("cpu") | {"rng_cuda": torch.zeros(16, dtype=torch.uint8)}
    first = torch.rand(3)
    with mock.patch("torch.cuda.set_rng_state") as on_gpu:
        restore_rng(states, "cpu")
        assert not on_gpu.called
        restore_rng(states, torch.device("cuda", 0))
        assert on_gpu.called
    assert torch.equal(torch.rand(3), first)
