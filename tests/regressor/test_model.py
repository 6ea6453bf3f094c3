"""The audio-textual regressor: each utterance for itself whatever the batch, parts that freeze, every choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.regressors import audio_branch, regressor_of, text_branch
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.freezing import freeze, is_frozen, parameter_groups, set_training
from layerprobe.probe.regressor.model import FRAME_POOLINGS, FUSIONS, AudioTextRegressor, Utterance
from layerprobe.probe.regressor.plan import TrainPlan
from layerprobe.probe.training.schedules import schedule

LENGTHS = ((1.3, 100), (0.4, 180), (0.9, 140))  # seconds and pitch
WAVEFORMS = [voice(seconds, pitch=pitch, seed=k) for k, (seconds, pitch) in enumerate(LENGTHS)]
KINDS = ["hubert", "hubert-pre-norm", "wav2vec2", "wavlm", "wavlm-pre-norm", "data2vec-audio", "unispeech-sat", "sew"]
KINDS += ["wav2vec2-bert", "whisper"]


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return save_text_model("distilbert", tmp_path_factory.mktemp("text") / "distilbert")


def utterances(regressor):
    audio = [None if regressor.audio is None else regressor.audio.prepare(s) for s in WAVEFORMS]
    text = [None if regressor.text is None else regressor.text.prepare(t) for t in (*SENTENCES[:2], "")]
    return [Utterance(s, w) for s, w in zip(audio, text, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_branchs_last_state_is_the_encoders_of_that_recording_alone(folders, kind):
    branch = audio_branch(folders[kind])
    encoder = load_audio_encoder(str(folders[kind]), precision="float32")
    with torch.no_grad():
        states, mask = branch([branch.prepare(s) for s in WAVEFORMS])
    for k, waveform in enumerate(WAVEFORMS):
        expected = encoder.hidden_states(waveform)[-1]
        assert int(mask[k].sum()) == len(expected)
        np.testing.assert_allclose(states[k][mask[k]], expected, atol=2e-5)


def test_the_text_branchs_state_is_the_encoders_of_that_text_alone(text_folder):
    branch, encoder = text_branch(text_folder), load_text_encoder(str(text_folder))
    texts = [*SENTENCES, ""]
    with torch.no_grad():
        states, mask = branch([branch.prepare(t) for t in texts])
    for k, text in enumerate(texts):
        np.testing.assert_allclose(states[k][mask[k]], encoder.hidden_states(text)[-1], atol=2e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("pooling", sorted(FRAME_POOLINGS))
def test_a_prediction_does_not_depend_on_its_batch(folders, text_folder, fusion, pooling):
    regressor = regressor_of(folders, text_folder, fusion=fusion, pooling=pooling)
    batch = utterances(regressor)
    with torch.no_grad():
        together, alone = regressor(batch), torch.cat([regressor([u]) for u in batch])
        turned = regressor(batch[::-1]).flip(0)
    assert together.shape == (3, 3)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, turned, atol=1e-5)
    assert together.std(dim=0).min() > 1e-3  # they do differ


@pytest.mark.parametrize("branches", ["audio", "text"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_branch_alone_is_the_same_class(folders, text_folder, fusion, branches):
    regressor = regressor_of(folders, text_folder, fusion=fusion, branches=branches)
    assert list(regressor.branches) == [branches]
    assert regressor(utterances(regressor)).shape == (3, 3)


def test_each_branch_depends_on_its_own_input_alone(folders, text_folder):
    regressor = regressor_of(folders, text_folder)
    first, second, _ = utterances(regressor)
    with torch.no_grad():
        both = regressor([first, Utterance(first.audio, second.text), Utterance(second.audio, first.text)])
    assert (both[0] - both[1]).abs().max() > 1e-4
    assert (both[0] - both[2]).abs().max() > 1e-4


def test_attentive_statistics_by_hand():
    """With the attention at zero every frame counts alike, and the last of the first utterance is padding."""
    pooling = FRAME_POOLINGS["attentive"](2)
    states = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [99.0, 99.0]], [[2.0, 2.0], [2.0, 2.0], [5.0, 8.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    for parameter in pooling.parameters():
        torch.nn.init.zeros_(parameter)
    expected = [[2.0, 2.0, 1.0, 2.0], [3.0, 4.0, 2**0.5, 8**0.5]]
    np.testing.assert_allclose(pooling(states, mask).detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(FRAME_POOLINGS["mean_std"](2)(states, mask), expected, rtol=1e-6)
    with torch.no_grad():  # a score of tanh(x1) * 3: the frame with the larger first feature counts more
        pooling.attention[0].weight[0, 0] = 1.0
        pooling.attention[2].weight[0, 0] = 3.0
    weights = np.exp(3 * np.tanh([1.0, 3.0]))
    weights /= weights.sum()
    assert float(pooling(states, mask)[0, 0].detach()) == pytest.approx(weights @ [1.0, 3.0], rel=1e-5)


def test_a_mix_starts_as_the_mean_of_normalised_layers_and_a_layer_drops_the_blocks_above(folders):
    mixed, second = audio_branch(folders["hubert"], "mix"), audio_branch(folders["hubert"], "2")
    states = load_audio_encoder(str(folders["hubert"]), precision="float32").hidden_states(WAVEFORMS[0])
    with torch.no_grad():
        found, _ = mixed([mixed.prepare(WAVEFORMS[0])])
        taken, _ = second([second.prepare(WAVEFORMS[0])])
    expected = torch.stack([torch.nn.functional.layer_norm(s, s.shape[-1:]) for s in states]).mean(dim=0)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)
    np.testing.assert_allclose(taken[0], states[2], atol=2e-5)
    assert second.n_blocks == 2
    assert mixed.n_blocks == 3
    with pytest.raises(InputError, match="no layer '7'; choose last, mix or one of 0, 1, 2, 3"):
        audio_branch(folders["hubert"], "7")


def plan_with(**options):
    fields = dict.fromkeys(TrainPlan.__dataclass_fields__, 0)
    return TrainPlan(**fields | {"learning_rate": 1.0, "head_learning_rate": 9.0, "layer_decay": 0.5} | options)


def test_frozen_parts_learn_nothing_and_the_rest_learns_the_slower_the_deeper_it_lies(folders, text_folder):
    regressor = regressor_of(folders, text_folder)
    freeze(regressor, ("audio.front_end", "audio.0", "text.embeddings"))
    learns = {n: p.requires_grad for n, p in regressor.named_parameters()}
    assert not any(v for n, v in learns.items() if "feature_extractor" in n or "encoder.layers.0." in n)
    assert not any(v for n, v in learns.items() if "text.encoder.embeddings" in n)
    assert all(v for n, v in learns.items() if "encoder.layers.1." in n or "transformer.layer.0." in n)
    rates = {}
    names = {id(p): n for n, p in regressor.named_parameters()}
    for group in parameter_groups(regressor, plan_with()):
        rates |= {names[id(p)]: group["rate"] for p in group["params"]}
    assert rates["audio.encoder.encoder.layers.2.attention.k_proj.weight"] == 1.0
    assert rates["audio.encoder.encoder.layers.1.attention.k_proj.weight"] == 0.5
    assert rates["audio.encoder.feature_projection.projection.weight"] == 0.125
    assert rates["text.encoder.transformer.layer.0.ffn.lin1.weight"] == 0.25
    assert rates["head.3.weight"] == rates["poolings.0.attention.0.weight"] == 9.0
    assert set(rates) == {n for n, v in learns.items() if v}
    freeze(regressor, ("audio",))
    assert is_frozen(regressor.audio)
    assert not is_frozen(regressor.text)
    set_training(regressor, True)
    assert not regressor.audio.encoder.training
    assert regressor.text.encoder.training
    with pytest.raises(
        InputError, match=r"part 'audio.9' can't be frozen: it is unknown. Choose from audio, audio.0, audio.1"
    ):
        freeze(regressor, ("audio.9",))


def test_every_parameter_that_learns_has_a_gradient(folders, text_folder):
    """None is carried along that no prediction depends on."""
    for kind in ("hubert", "hubert-pre-norm", "wavlm", "whisper"):
        regressor = regressor_of(folders, text_folder, kind)
        freeze(regressor, ("audio.front_end",))
        regressor(utterances(regressor)).square().sum().backward()
        idle = [n for n, p in regressor.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []


def test_activations_made_again_give_the_same_gradient(folders, text_folder):
    gradients = []
    for again in (False, True):
        regressor = regressor_of(folders, text_folder)
        if again:
            for branch in regressor.branches.values():
                branch.recompute_activations()
        for module in regressor.modules():  # checkpointing is of training alone; dropout would differ
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        regressor.train()
        regressor(utterances(regressor)).square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in regressor.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], expected, rtol=1e-3, atol=1e-5, err_msg=name)


def test_learning_rates_rise_and_fall():
    rates = [schedule(k, n_steps=100, warmup=0.1) for k in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == 1.0
    assert all(b <= a for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(1 / 90)


def test_what_is_too_short_or_too_long_is_refused_with_its_size(folders, text_folder):
    regressor = regressor_of(folders, text_folder)
    with pytest.raises(InvalidAudioError, match="too short: 100 samples, one frame needs 400"):
        regressor.audio.prepare(np.zeros(100, dtype=np.float32))
    with pytest.raises(InvalidAudioError, match="70 s are too long to be trained on at once"):
        regressor.audio.prepare(voice(70))
    with pytest.raises(InvalidAudioError, match=r"its transcript has \d+ tokens; the maximum is 40"):
        regressor.text.prepare(" ".join(SENTENCES * 3))


def test_a_regressor_without_branches_or_with_unknown_choices_is_refused(folders):
    with pytest.raises(InputError, match="needs an encoder"):
        AudioTextRegressor(None, None, n_targets=1, pooling="mean", fusion="gate", hidden=4, dropout=0)
    for option in ({"pooling": "sum"}, {"fusion": "sum"}):
        choices = {"pooling": "mean", "fusion": "gate"} | option
        with pytest.raises(InputError, match="'sum' is unknown; choose one of"):
            AudioTextRegressor(audio_branch(folders["hubert"]), None, n_targets=1, hidden=4, dropout=0, **choices)


def test_a_frozen_encoder_leaves_chance_alone(folders):
    """Transformers 5.17 samples a layerdrop in evaluation, too; dropout elsewhere must not depend on that."""

    def draw(*_):
        torch.rand(1)

    branch = audio_branch(folders["hubert"]).eval()
    branch.encoder.encoder.register_forward_pre_hook(draw)
    before = torch.get_rng_state()
    with torch.no_grad():
        branch([branch.prepare(WAVEFORMS[0])])
    assert torch.equal(torch.get_rng_state(), before)
