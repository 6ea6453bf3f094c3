"""Utterances that run together are encoded as if each were alone, whatever the family and whichever these are."""

from __future__ import annotations

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.messages import Messages
from helpers.pooled_packs import largest_difference, pooled_together
from helpers.pretended_gpu import pretended_gpu
from helpers.speech_models import KINDS, load_exact, small_model
from helpers.voices import voice
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.loading import load_audio_encoder, load_model
from layerprobe.probe.encoders.speech import LoadedModel, SpeechEncoder
from layerprobe.probe.extraction.numerics import log_numerics
from layerprobe.probe.forward.packed.embed import embed_pack
from layerprobe.probe.forward.packed.grouped import EqualLengths, Masked
from layerprobe.probe.forward.packed.own_statistics import OwnStatistics
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.packed.whisper import has_packed_whisper
from layerprobe.probe.forward.pooling import pool_layers
from layerprobe.probe.forward.stream import attention, kernels

POOLINGS = ("mean", "std")
EQUAL = 1e-6  # relative, of a pooled layer in float32
ROUNDED = 2e-6  # the same where sums are those of our own convolutions, in another order than transformers'
# What is tried of each family until a pass is exact. SEW's mask counts a frame too many if the last row has no partner.
TRIED = {kind: ["packed"] for kind in KINDS} | {"sew": ["masked", "equal lengths"], "wav2vec2-bert": ["masked"]}


def ragged(encoder):
    """Utterances of other lengths, of equal frames and other samples, of equal samples, and the shortest there is."""
    audio = voice(2.0, seed=4)
    lengths = [encoder.minimum_samples, 7840, 8000, 8160, 8320, 8000, 20_011, 31_000]
    return [audio[k * 50 :][:n] for k, n in enumerate(lengths)]


def together(encoder, waveforms):
    return pooled_together(encoder, waveforms, POOLINGS)


def alone(encoder, waveform):
    return pool_layers(encoder.reference_states(waveform), poolings=POOLINGS)


def tolerance(encoder):
    return ROUNDED if encoder.forward == "packed" and encoder.reads_waveforms else EQUAL


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, folders):
    return load_exact(folders[request.param], forward="packed")


@pytest.mark.parametrize("kind", KINDS)
def test_each_family_has_the_fastest_pass_that_is_exact(folders, kind):
    single = load_exact(folders[kind], forward="single")
    assert single.forward in ("native", "transformers")
    choice = single.packed_choice()
    assert [trial.name for trial in choice.trials] == TRIED[kind]
    assert choice.trials[-1].error < ROUNDED
    packed = load_exact(folders[kind], forward="packed")
    assert packed.forward == choice.forward.name == TRIED[kind][-1]
    assert packed.packed.together == {"packed": "any", "equal lengths": "equal", "masked": "similar"}[packed.forward]


def test_a_ragged_pack_gives_what_transformers_gives_of_each_utterance_alone(encoder):
    waveforms = ragged(encoder)
    rows = together(encoder, waveforms)
    assert rows.shape == (len(waveforms), len(encoder.layers), 2, encoder.dim)
    for row, waveform in zip(rows, waveforms, strict=True):
        assert largest_difference(row, alone(encoder, waveform)) < tolerance(encoder)


def test_order_and_composition_change_nothing(encoder, rng):
    waveforms = ragged(encoder)
    rows = together(encoder, waveforms)
    order = rng.permutation(len(waveforms))[:5]
    for k, row in zip(order, together(encoder, [waveforms[k] for k in order]), strict=True):
        assert largest_difference(row, rows[k]) < tolerance(encoder)
    for row, waveform in zip(rows, waveforms, strict=True):
        assert largest_difference(together(encoder, [waveform])[0], row) < tolerance(encoder)
        assert largest_difference(pool_layers(encoder.hidden_states(waveform), poolings=POOLINGS), row) < tolerance(
            encoder
        )


def test_long_audio_in_chunks_is_packed(encoder, monkeypatch):
    monkeypatch.setattr("layerprobe.probe.encoders.architectures.LONGEST_CHUNK", 1.0)
    monkeypatch.setattr("layerprobe.probe.encoders.architectures.CONTEXT", 0.2)
    seconds = 31.0 if "Whisper" in encoder.architecture else 2.9
    waveforms = [voice(seconds, seed=1), voice(0.7, seed=2)]
    assert len(encoder.input_chunks(waveforms[0])) > 1
    for row, waveform in zip(together(encoder, waveforms), waveforms, strict=True):
        assert largest_difference(row, alone(encoder, waveform)) < tolerance(encoder)


def test_the_model_is_left_as_it_was(folders):
    encoder = load_exact(folders["sew"], forward="packed")
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in encoder.modules()]
    own = [set(vars(m)) for m in encoder.modules()]
    waveform = ragged(encoder)[3]
    before = encoder.reference_states(waveform)
    together(encoder, ragged(encoder))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in encoder.modules()]
    assert own == [set(vars(m)) for m in encoder.modules()]
    assert all(map(torch.equal, before, encoder.reference_states(waveform)))


def own_model(kind):
    """A model that no other test has, whose hooks would stay on it."""
    with torch.random.fork_rng():
        return small_model(kind)


def loaded(model, **changes):
    """An encoder of a user's own architecture, which has no packed pass of its own."""
    family = dataclasses.replace(ARCHITECTURES["hubert"], **changes)
    extractor = Wav2Vec2FeatureExtractor()
    return SpeechEncoder(LoadedModel(model, family, extractor, "own", "", adapter="own"), forward="packed")


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm"])
@pytest.mark.parametrize("forward", ["masked", "equal lengths"])
def test_an_adapter_runs_in_batches_of_transformers(kind, forward, monkeypatch):
    """The base model has a group norm, whose statistics would count the padding."""
    if forward == "equal lengths":
        monkeypatch.setattr("layerprobe.probe.forward.packed.choose.Masked", Refused)
    encoder = loaded(own_model(kind))
    assert encoder.forward == forward
    waveforms = ragged(encoder)
    for row, waveform in zip(together(encoder, waveforms), waveforms, strict=True):
        assert largest_difference(row, alone(encoder, waveform)) < ROUNDED


class Refused(EqualLengths):
    name = "masked"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments)

    def states(self, pack):
        raise TypeError("forward() got an unexpected keyword argument 'attention_mask'\nand more")


def test_the_choice_names_what_was_tried(monkeypatch):
    monkeypatch.setattr("layerprobe.probe.forward.packed.choose.Masked", Refused)
    choice = str(loaded(own_model("hubert")).packed_choice())
    assert choice.startswith(
        "equal lengths; pooled layers against each example alone in float32: masked fails with TypeError: forward() "
        "got an unexpected keyword argument 'attention_mask', equal lengths "
    )
    assert choice.endswith("; allowed is 1e-05")


class Neighbourly(nn.Module):
    """A norm that looks at the whole batch."""

    def forward(self, x):
        return x - x.mean(dim=(0, 1), keepdim=True)


def test_an_encoder_that_mixes_its_batch_runs_singly():
    model = own_model("hubert")
    model.encoder.layer_norm = Neighbourly()
    encoder = loaded(model)
    assert (encoder.packed, encoder.forward) == (None, "transformers")
    tried = encoder.packed_choice().trials
    assert [trial.name for trial in tried] == ["masked", "equal lengths", "equal lengths"]
    assert all(trial.error > 1e-3 for trial in tried)
    with pytest.raises(RuntimeError, match="the encoder encodes utterances singly"):
        together(encoder, ragged(encoder))
    progress = Messages()
    log_numerics(encoder, progress)
    (logged,) = progress.logged
    assert logged.startswith("Forward pass: each utterance singly; pooled layers against each example alone in float32")
    assert logged.endswith(f"masked {tried[0].error:.1e}, equal lengths {tried[1].error:.1e}, equal lengths "
                           f"{tried[2].error:.1e}; allowed is 1e-05.")  # fmt: skip


def test_one_batch_has_equal_frames_and_other_samples():
    """What transformers is called with: samples behind the last frame are padded, and no frame is added."""
    shapes = []
    encoder = loaded(own_model("hubert-pre-norm"))

    def run(inputs):
        shapes.append({name: tuple(x.shape) for name, x in inputs.items()})
        return encoder._hooked.states(inputs)

    chunks = [[chunk] for w in ragged(encoder) for chunk in encoder.input_chunks(w)]
    pack = Pack.of(chunks, encoder.packed.n_frames)
    list(EqualLengths(run, encoder.packed.n_frames, encoder._config).states(pack))
    assert shapes == [{"input_values": shape} for shape in ((1, 400), (3, 8000), (2, 8320), (1, 20011), (1, 31000))]
    shapes.clear()
    list(Masked(run, encoder.packed.n_frames, encoder._config).states(pack))
    both = [((1, 400),), ((5, 8320), (5, 8320)), ((1, 20011),), ((1, 31000),)]
    assert [tuple(inputs.values()) for inputs in shapes] == both


def test_group_norm_counts_the_rows_of_each_input_in_its_own_thread(rng):
    x = torch.from_numpy(rng.normal(size=(3, 4, 50)).astype(np.float32))
    norm = nn.GroupNorm(4, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    rows = (50, 31, 2)
    plain = norm(x)
    with torch.no_grad(), OwnStatistics(rows), ThreadPoolExecutor(1) as another:
        ours = norm(x)
        assert torch.equal(another.submit(norm, x).result(), plain)
        assert torch.equal(norm(x[:2]), plain[:2])  # another batch
        assert torch.equal(nn.GroupNorm(2, 4)(x), functional.group_norm(x, 2, torch.ones(4), torch.zeros(4)))
    for k, n in enumerate(rows):
        torch.testing.assert_close(ours[k, :, :n], norm(x[k : k + 1, :, :n])[0], rtol=2e-6, atol=2e-6)
    assert torch.isfinite(ours).all()


def another_scale(encoder):
    encoder.layers[1].self_attn.scaling *= 3


def another_stride(encoder):
    encoder.conv2.stride = (1,)


def another_padding(encoder):
    encoder.conv1.padding_mode = "circular"


def another_activation(encoder):
    encoder.config.activation_function = "relu"


def a_hook(encoder):
    encoder.layers[2].register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("change", [another_scale, another_stride, another_padding, another_activation, a_hook])
def test_a_changed_whisper_is_left_to_transformers(change):
    encoder = own_model("whisper").encoder
    assert has_packed_whisper(encoder)
    encoder.config = copy.deepcopy(encoder.config)  # that of all models of this kind
    change(encoder)
    assert not has_packed_whisper(encoder)


@pytest.mark.parametrize("kind", ["sew", "wav2vec2-bert", "whisper"])
def test_batches_in_16_bits_move_layers_by_less_than_a_hundredth(folders, kind):
    encoder = load_audio_encoder(str(folders[kind]), precision="bfloat16", forward="packed")
    waveforms = ragged(encoder)[1:]
    for row, waveform in zip(together(encoder, waveforms), waveforms, strict=True):
        assert 1e-5 < largest_difference(row, alone(encoder, waveform)) < 1e-2


@pytest.mark.parametrize(("kind", "waits"), [("sew", 0), ("whisper", 0), ("wav2vec2-bert", 3)])
def test_on_a_gpu_the_host_waits_at_most_once_a_batch(folders, kind, waits, monkeypatch):
    """Transformers looks whether a mask of w2v-BERT masks anything; without gradients instead of inference mode,
    because the pretended GPU has no views of weights in that."""
    audio = [voice(2.0, seed=4)[:n] for n in (7840, 8000, 8160, 20_011, 31_000)]
    on_the_cpu = together(load_exact(folders[kind], forward="packed"), audio)
    model = load_model(str(folders[kind]))
    monkeypatch.setattr(attention, "_has_flash_attention", lambda _: False)
    monkeypatch.setattr(kernels, "available", lambda _: False)
    with pretended_gpu() as gpu:
        encoder = SpeechEncoder(model, device="cuda", precision="float32", forward="packed")
        chunks = [encoder.input_chunks(one) for one in audio]
        gpu.waits.clear()
        pooled = embed_pack.__wrapped__(encoder.packed, chunks, poolings=POOLINGS, device="cuda")
        assert sum(gpu.waits.values()) <= waits
    for row, expected in zip(pooled.values, on_the_cpu, strict=True):
        assert largest_difference(row, expected) < EQUAL
