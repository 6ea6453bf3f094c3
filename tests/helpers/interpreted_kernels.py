"""Run the kernels on the CPU by Triton's interpreter, and print how far each is from torch's operators, as JSON.

With the argument ``encoders`` whole encoders run with and without them.

A program of its own with TRITON_INTERPRET=1, because Triton decides when it is imported whether it interprets. 16 bits
are float16 here, since the interpreter does not round to bfloat16 as a GPU does, and does not multiply it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.runtime.interpreter as interpreter
from torch import Tensor

from layerprobe.probe.encoders.architectures import convolutions_give
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.embed import embed_pack
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.packed.pooling import SegmentPooling
from layerprobe.probe.forward.stream import kernels
from layerprobe.probe.forward.stream.attention import RelativeBias, Spans, attend
from layerprobe.probe.forward.stream.operators import Norm, add_norm, norm_gelu_windows

DIM = 70  # no power of 2


def repair_interpreter() -> None:
    """Make a scalar of the interpreter of Triton 3.6 an index under numpy 2.4, where it is an array of one value."""
    before = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        before(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def by_torch(compute: Callable[[], Any]) -> Any:
    """Return what torch's operators compute where no kernel is available."""
    available, kernels.available = kernels.available, lambda _: False
    try:
        return compute()
    finally:
        kernels.available = available


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over that of what is expected; NaN where an element was not written."""
    assert found.dtype == expected.dtype
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm_of(dim: int, *, weighted: bool = True) -> Norm:
    return Norm(*random(2, dim, seed=9), 1e-5) if weighted else Norm(None, None, 1e-5)


def pooled_segments() -> dict[str, float]:
    pack = Pack.of([[InputChunk({"x": torch.zeros(n)})] for n in (130, 1, 64, 65, 3)], lambda one: len(one.inputs["x"]))
    x = random(pack.n_frames, DIM) + torch.where(torch.arange(DIM) % 3 == 0, 300.0, 0.0)

    def pool() -> Tensor:
        return SegmentPooling(pack, ("std", "first_third", "mean"), device="cpu")(x)

    return {"mean and std": difference(pool(), by_torch(pool))}


def sums_and_norms() -> dict[str, float]:
    x, delta = random(5, DIM), random(5, DIM, seed=1)
    found = {}
    for post in (True, False):
        for added in (None, torch.float32, torch.float16):
            for dtype in (torch.float32, torch.float16):
                for weighted in (True, False):
                    norm = norm_of(DIM, weighted=weighted)
                    more = None if added is None else delta.to(added)

                    def compute(more=more, norm=norm, post=post, dtype=dtype) -> tuple[Tensor, Tensor]:
                        return add_norm(x, more, norm, post=post, dtype=dtype)

                    pairs = zip(compute(), by_torch(compute), strict=True)
                    name = f"add_norm, post {post}, added {added}, {dtype}, weighted {weighted}"
                    found[name] = max(difference(*pair) for pair in pairs)
    assert torch.equal(x, random(5, DIM))
    return found


def windows() -> dict[str, float]:
    found = {}
    for n_rows in (8, 19):
        for kernel, stride in ((3, 2), (2, 2), (1, 1), (5, 3)):
            for norm in (norm_of(DIM), norm_of(DIM, weighted=False), None) if kernel == 3 else (None,):
                for dtype in (torch.float32, torch.float16):
                    y = random(n_rows, DIM).to(dtype)

                    def compute(y=y, norm=norm, kernel=kernel, stride=stride, dtype=dtype) -> Tensor:
                        return norm_gelu_windows(y, norm, kernel, stride, dtype=dtype)

                    name = f"windows of {kernel} by {stride} of {n_rows} rows, {dtype}, {norm and norm.weight is None}"
                    found[name] = difference(compute(), by_torch(compute))
    return found


def attention() -> dict[str, float]:
    found, heads = {}, 2
    spans = Spans.upload([1, 5, 5, 64, 130], device="cpu")
    n_frames = sum(spans.lengths)
    bias = RelativeBias(random(heads, 2 * spans.longest - 1, seed=2), spans)
    for width, gate in ((16, None), (64, random(n_frames, heads, seed=3))):
        qkv = random(n_frames, 3 * heads * width).half()
        exact = by_torch(lambda qkv=qkv, gate=gate: attend(qkv.double(), spans, heads, bias=bias, gate=gate))
        found[f"attention in float16, {width}"] = difference(
            attend(qkv, spans, heads, bias=bias, gate=gate).double(), exact
        )
    return found


def encoders() -> dict[str, float]:
    """Whole packed passes, one of them with attention by the kernel."""
    from helpers.speech_models import NARROW, PRE_NORM
    from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

    from layerprobe.probe.forward.packed.wav2vec2 import PackedWav2Vec2

    narrow, found = {**NARROW, "num_hidden_layers": 1}, {}
    wide = {**narrow, **PRE_NORM, "hidden_size": 64}
    for name, make, config, dtype in (
        ("HuBERT with group norm", HubertModel, HubertConfig(**narrow), torch.float32),
        ("HuBERT with norms before blocks", HubertModel, HubertConfig(**narrow, **PRE_NORM), torch.float32),
        ("WavLM", WavLMModel, WavLMConfig(**wide), torch.float16),
    ):
        torch.manual_seed(0)
        model = make(config).eval()
        waveforms = [[InputChunk({"input_values": random(1, n, seed=n)})] for n in (1000, 400)]

        def embed(model=model, dtype=dtype, waveforms=waveforms) -> Tensor:
            forward = PackedWav2Vec2(model, lambda one: convolutions_give(one, model.config), dtype=dtype)
            return embed_pack(forward, waveforms, poolings=("mean", "std"), device="cpu")

        found[f"{name}, {dtype}"] = difference(embed(), by_torch(embed))
    return found


if __name__ == "__main__":
    repair_interpreter()
    np.seterr(over="raise")
    torch.use_deterministic_algorithms(True)  # with it, memory that nothing was written to is NaN
    torch.set_num_threads(1)
    assert kernels.available("cpu"), kernels.kernels_used("cpu")
    checks = (encoders,) if sys.argv[1:] == ["encoders"] else (pooled_segments, sums_and_norms, windows, attention)
    print(json.dumps({name: value for check in checks for name, value in check().items()}))
