"""The packed forward pass of wav2vec 2.0's kind: every row as if its utterance were alone, whatever runs with it."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.changed_modules import CHANGES
from helpers.largest_tensor import LargestTensor
from helpers.pooled_packs import pooled_together
from helpers.pretended_gpu import pretended_gpu
from helpers.speech_models import KINDS, NARROW, PRE_NORM
from helpers.voices import voice
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    HubertConfig,
    HubertModel,
    UniSpeechConfig,
    UniSpeechModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from layerprobe.probe.encoders import architectures
from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.speech import LoadedModel, SpeechEncoder
from layerprobe.probe.forward.packed.wav2vec2 import has_packed_forward
from layerprobe.probe.forward.pooling import pool_frame_chunks
from layerprobe.probe.forward.stream import attention, front_end, kernels, layout

ODD_SHAPE = {"conv_dim": (16,) * 5, "conv_kernel": (10, 8, 4, 1, 1), "conv_stride": (5, 4, 2, 1, 1)}  # of wav2vec
PACKED = {
    **{kind: both for kind, both in KINDS.items() if kind not in ("sew", "wav2vec2-bert", "whisper")},
    "unispeech": (UniSpeechConfig(**NARROW), UniSpeechModel),
    "wav2vec2-conv-bias": (Wav2Vec2Config(**NARROW, conv_bias=True), Wav2Vec2Model),
    "wav2vec2-other-kernels": (
        Wav2Vec2Config(**NARROW | ODD_SHAPE | {"num_feat_extract_layers": 5, "num_conv_pos_embeddings": 5}),
        Wav2Vec2Model,
    ),
    "hubert-pre-norm-other-kernels": (
        HubertConfig(**NARROW | PRE_NORM | ODD_SHAPE | {"num_feat_extract_layers": 5, "feat_proj_layer_norm": False}),
        HubertModel,
    ),
}
# One frame and two, each with the fewest and the most samples; lengths between which no frame is; equal and longer ones
SAMPLES = (400, 719, 720, 1039, 2000, 4000, 4001, 4239, 4240, 4240, 9001, 20_000)
MOMENTS = ("mean", "std")


def random_model(config, architecture):
    """A model whose norms, biases and gates do something; the published initialisation leaves them without effect."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = architecture(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                small = parameter.ndim == 1 or "gru_rel_pos_const" in name
                parameter.add_((0.2 if small else 0.05) * torch.randn(parameter.shape))
    return model.eval()


def encoder_of(model, *, precision="float32", forward="packed", device="cpu"):
    extractor = Wav2Vec2FeatureExtractor()
    loaded = LoadedModel(model, ARCHITECTURES[model.config.model_type], extractor, "random", "", "")
    return SpeechEncoder(loaded, precision=precision, forward=forward, device=device)


@functools.cache
def packed_encoder(kind, precision="float32"):
    encoder = encoder_of(random_model(*PACKED[kind]), precision=precision)
    assert encoder.forward == "packed"
    return encoder


def recordings(lengths=SAMPLES):
    return [voice(n / 16_000, pitch=90 + 7 * k, seed=k) for k, n in enumerate(lengths)]


def together(encoder, waveforms):
    return pooled_together(encoder, waveforms, MOMENTS).double()


@functools.cache
def exact_encoder(kind):
    """Transformers' own pass in float64, one utterance at a time."""
    encoder = encoder_of(random_model(*PACKED[kind]), forward="single")
    for module in encoder.modules():
        module.double()
    return encoder


def moments_alone(encoder, waveform):
    """Mean and deviation of each layer by transformers' pass, ``(n_layers, 2, dim)``."""
    states = torch.stack(encoder.reference_states(waveform)).double()
    return torch.stack([states.mean(1), states.std(1, correction=0)], 1)


def exact(kind, waveforms):
    return torch.stack([moments_alone(exact_encoder(kind), one) for one in waveforms])


def worst(ours, theirs, waveforms):
    """The largest relative distance of a layer's mean, and of its deviation over more than a few frames.

    The deviation over two frames is a difference of close numbers, of which float32 leaves transformers a digit less.
    """
    distances = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)
    is_long = torch.tensor([len(one) > 400 + 5 * 320 for one in waveforms])
    return float(torch.maximum(distances[:, :, 0].max(), distances[is_long, :, 1].max()))


def bound(kind):
    """What single precision leaves; five norms without weights, which scale small numbers up, leave data2vec less."""
    return 2e-6 if kind == "data2vec-audio" else 1e-6


@pytest.mark.parametrize("kind", PACKED)
def test_rows_are_those_of_transformers_one_at_a_time(kind):
    assert worst(together(packed_encoder(kind), recordings()), exact(kind, recordings()), recordings()) < bound(kind)


@pytest.mark.parametrize("kind", PACKED)
def test_rows_do_not_depend_on_company_order_or_pack(kind):
    encoder, waveforms = packed_encoder(kind), recordings()
    whole = together(encoder, waveforms)
    alone = torch.cat([together(encoder, [one]) for one in waveforms])
    assert worst(whole, alone, waveforms) < bound(kind)
    order = np.random.default_rng(0).permutation(len(waveforms))
    reordered = together(encoder, [waveforms[k] for k in order])
    assert worst(reordered[np.argsort(order)], whole, waveforms) < bound(kind)
    split = torch.cat([together(encoder, waveforms[begin : begin + 5]) for begin in (0, 5, 10)])
    assert worst(split, whole, waveforms) < bound(kind)


@pytest.mark.parametrize("kind", PACKED)
def test_no_bit_of_a_row_comes_from_another_utterance(kind):
    """Utterances of the same lengths in the same places, one of which is other audio, and one no number."""
    encoder, waveforms = packed_encoder(kind), recordings()
    before = together(encoder, waveforms)
    waveforms[5] = 1000 * waveforms[5][::-1].copy() + np.float32(0.3)
    waveforms[8] = np.full_like(waveforms[8], np.nan)
    after = together(encoder, waveforms)
    others = [k for k in range(len(waveforms)) if k not in (5, 8)]
    assert torch.equal(after[others], before[others])
    assert torch.isnan(after[8]).all()


def test_single_utterances_run_through_the_same_pass():
    encoder, waveform = packed_encoder("wavlm"), voice(0.5)
    pooled = pool_frame_chunks(encoder.frame_chunks(waveform), poolings=MOMENTS).double()
    assert worst(pooled[None], together(encoder, [waveform]), [waveform]) < 1e-6


def reading_beyond_the_ends(monkeypatch):
    """The positional convolution reads on beyond the ends of a sequence."""

    def window_rows(self, kernel):
        offsets = torch.arange(layout.BLOCK_FRAMES + kernel - 1) - kernel // 2
        return ((self.block_start + self.block_first)[:, None] + offsets).clamp(0, len(self.kept))

    monkeypatch.setattr(layout.Layout, "window_rows", window_rows)


def attending_to_all(monkeypatch):
    """Each frame attends to the whole stream."""
    one_run = classmethod(lambda cls, lengths, *, cumulative: cls(tuple(lengths), ((1, sum(lengths)),), cumulative))
    monkeypatch.setattr(attention.Spans, "of", one_run)


def keeping_a_seam(monkeypatch):
    """The frames that are kept begin one too early, and so at the last of the seam before."""
    of = layout.Layout.of.__func__

    def shifted(cls, *args, **choices):
        made = of(cls, *args, **choices)
        object.__setattr__(made, "kept", (made.kept - 1).clamp_min(0))
        return made

    monkeypatch.setattr(layout.Layout, "of", classmethod(shifted))


def norm_of_frames_only(monkeypatch):
    """Statistics of the group norm leave out the rows behind the last frame that is needed."""
    of = layout.Layout.of.__func__

    def fewer(cls, lengths, n_samples, convolutions, *, device):
        needed = [convolutions.reach + (n - 1) * convolutions.stride - 80 for n in lengths]
        return of(cls, lengths, needed, convolutions, device=device)

    monkeypatch.setattr(layout.Layout, "of", classmethod(fewer))


FAULTS = [reading_beyond_the_ends, attending_to_all, keeping_a_seam, norm_of_frames_only]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_each_kind_would_be_found(fault, monkeypatch):
    encoder = packed_encoder("hubert")
    alone = torch.cat([together(encoder, [one]) for one in recordings()])
    fault(monkeypatch)
    assert worst(together(encoder, recordings()), alone, recordings()) > 1e-3


@pytest.mark.parametrize("kind", ["hubert", "hubert-pre-norm"])
def test_parts_of_the_stream_meet_without_a_seam(kind, monkeypatch):
    encoder = packed_encoder(kind)
    whole = together(encoder, recordings())
    monkeypatch.setitem(front_end.PART_FRAMES, "cpu", 7)
    assert worst(together(encoder, recordings()), whole, recordings()) < 1e-6


def test_chunks_of_long_audio_run_next_to_short_audio(monkeypatch):
    monkeypatch.setattr(architectures, "LONGEST_CHUNK", 1.0)
    monkeypatch.setattr(architectures, "CONTEXT", 0.2)
    encoder, waveforms = packed_encoder("wavlm-pre-norm"), [voice(2.5), voice(0.4), voice(1.7, pitch=200.0)]
    assert len(encoder.input_chunks(waveforms[0])) > 3
    assert worst(together(encoder, waveforms), exact("wavlm-pre-norm", waveforms), waveforms) < 1e-6


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-pre-norm", "wavlm", "wavlm-pre-norm", "data2vec-audio"])
def test_bfloat16_stays_close_whatever_runs_with_it(kind):
    """32 columns average rounding less than 768 do, so the bound is wider than that of a real encoder."""
    encoder = packed_encoder(kind, "bfloat16")
    rows = together(encoder, recordings())
    assert worst(rows, exact(kind, recordings()), recordings()) < 2e-2
    assert worst(rows, torch.cat([together(encoder, [one]) for one in recordings()]), recordings()) < 1e-3


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_module_is_left_to_transformers(change):
    model = random_model(*PACKED["hubert"])
    change(model)
    assert not has_packed_forward(model.eval())
    encoder = encoder_of(model)
    assert encoder.forward != "packed"
    waveform = voice(0.5)
    assert worst(together(encoder, [waveform]), moments_alone(encoder, waveform)[None], [waveform]) < 1e-6


@pytest.mark.parametrize(
    ("attribute", "value"), [("padding", (1,)), ("stride", (3,)), ("dilation", (2,)), ("padding_mode", "circular")]
)
def test_other_convolutions_are_left_to_transformers(attribute, value):
    model = random_model(*PACKED["hubert"])
    assert has_packed_forward(model)
    setattr(model.feature_extractor.conv_layers[3].conv, attribute, value)
    assert not has_packed_forward(model)


def test_adapters_and_batch_norm_are_left_to_transformers():
    assert not has_packed_forward(HubertModel(HubertConfig(**NARROW, conv_pos_batch_norm=True)).eval())
    with_adapters = Wav2Vec2Config(**NARROW | PRE_NORM, adapter_attn_dim=4)
    assert not has_packed_forward(Wav2Vec2Model(with_adapters).eval())


def test_a_bias_by_distance_is_not_laid_out_by_query_and_key():
    """A minute is 3000 frames, whose matrix has 36 million numbers for 4 heads; the kernel reads the distances."""
    longest, packed = 3000, packed_encoder("wavlm").packed
    spans = attention.Spans.upload([5, longest], device="cpu")
    with LargestTensor() as made:
        bias = packed._bias(spans)
    assert bias.by_distance.shape == (packed._stack.heads, 2 * longest - 1)
    assert made.n_values <= bias.by_distance.numel()


class CountedOperators(TorchDispatchMode):
    """Counts what torch dispatches, views and casts that change nothing too."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.counts[operator] += 1
        return operator(*args, **kwargs or {})


def test_an_utterance_of_a_pack_costs_a_twentieth_of_the_operators():
    """64 utterances of as many lengths, so that no two are in one product of attention, and 24 blocks."""
    n_utterances, n_blocks = 64, 24
    model = random_model(HubertConfig(**NARROW | PRE_NORM | {"num_hidden_layers": n_blocks}), HubertModel)
    frames = np.random.default_rng(0).permutation(n_utterances) + 9
    waveforms = recordings([400 + 320 * n + k for k, n in enumerate(frames.tolist())])
    packed, single = encoder_of(model), encoder_of(model, forward="single")
    chunks = [packed.input_chunks(one) for one in waveforms]
    with CountedOperators() as pack:
        packed.embed_pack(chunks, poolings=MOMENTS)
    with CountedOperators() as alone:
        pool_frame_chunks(single.frame_chunks(waveforms[0]), poolings=MOMENTS)
    assert single.forward == "native"
    assert pack.counts.total() / n_utterances <= 69  # a twentieth of 1,392, as many as before there were packs
    assert alone.counts.total() > 1000


def attended_by_lengths(q, k, v, starts, also_starts, longest, also_longest):
    """What torch states of attention by cumulative lengths: ``(n_frames, heads, width)``, each sequence for itself."""
    assert torch.equal(starts, also_starts)
    assert starts.dtype == torch.int32
    assert longest == also_longest == int(starts.diff().max())
    sequences = zip(*(x.tensor_split(starts[1:-1].tolist()) for x in (q, k, v)), strict=True)
    return torch.cat(
        [
            functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in one)).transpose(0, 1)
            for one in sequences
        ]
    )


def test_attention_by_cumulative_lengths_takes_what_torch_states(monkeypatch):
    """It runs on a GPU only; here is what it computes, in its place."""
    encoder = packed_encoder("hubert-pre-norm")
    by_runs = together(encoder, recordings())
    monkeypatch.setattr(attention, "_multiplies_by_length", lambda *_: True)
    monkeypatch.setattr(attention, "varlen_attn", attended_by_lengths)
    assert worst(together(encoder, recordings()), by_runs, recordings()) < 1e-6


@pytest.mark.parametrize("kind", ["hubert", "wavlm-pre-norm", "data2vec-audio"])
def test_on_a_gpu_the_host_waits_for_nothing(kind, monkeypatch):
    model, on_the_cpu = random_model(*PACKED[kind]), together(packed_encoder(kind), recordings())
    monkeypatch.setattr(attention, "_has_flash_attention", lambda _: False)
    monkeypatch.setattr(kernels, "available", lambda _: False)
    with pretended_gpu() as gpu:
        encoder = encoder_of(model, device="cuda")
        gpu.waits.clear()
        pooled = encoder.embed_pack([encoder.input_chunks(one) for one in recordings()], poolings=MOMENTS)
        assert not gpu.waits
    assert worst(pooled.values.double(), on_the_cpu, recordings()) < 1e-6
