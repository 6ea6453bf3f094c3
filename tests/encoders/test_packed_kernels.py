"""Kernels against torch's operators by Triton's interpreter, their compilation, and why they do not run where so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers.messages import Messages
from helpers.speech_models import load_exact, save_model, small_model

from layerprobe.probe.extraction.numerics import log_numerics
from layerprobe.probe.forward.stream import kernels

TESTS = Path(__file__).resolve().parents[1]
KERNELS = ("mean and std", "add_norm", "windows", "attention")
F32, B16, I32 = "*fp32", "*bf16", "*i32"


@pytest.fixture
def differences(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")

    def run(*arguments: str) -> dict[str, float]:
        """Return how far each kernel is from torch, in a process where Triton interprets."""
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        result = subprocess.run(
            [sys.executable, str(TESTS / "helpers" / "interpreted_kernels.py"), *arguments],
            env=os.environ | {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return run


def test_kernels_compute_what_torch_computes(differences):
    found = differences()
    assert {name for name in KERNELS if any(case.startswith(name) for case in found)} == set(KERNELS)
    for case, value in found.items():
        # float32 sums in another order; in 16 bits one in many values is rounded the other way, or all of attention's
        assert value < (1e-3 if "16" in case else 1e-6), case


@pytest.mark.long
def test_whole_encoders_compute_the_same_with_kernels(differences):
    found = differences("encoders")
    assert len(found) == 3
    for case, value in found.items():
        assert value < (1e-3 if "16" in case else 1e-6), case


@pytest.fixture
def _forget_trials():
    kernels._fault.cache_clear()
    yield
    kernels._fault.cache_clear()


@pytest.mark.usefixtures("_forget_trials")
def test_on_a_cpu_the_kernels_are_not_used():
    assert not kernels.available("cpu")
    assert kernels.kernels_used("cpu") == (
        "Between matrix products torch's operators run on cpu, slower than kernels of Triton: they are for a GPU."
    )


@pytest.mark.usefixtures("_forget_trials")
def test_without_triton_the_reason_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not kernels.available("cuda:0")
    assert "Triton cannot be imported (" in kernels.kernels_used("cuda:0")


@pytest.mark.usefixtures("_forget_trials")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a kernel may run on this machine's GPU")
def test_a_kernel_that_fails_is_named_with_the_reason():
    pytest.importorskip("triton", reason="Triton is not installed")
    assert not kernels.available("cuda:0")
    assert "mean and standard deviation failed with " in kernels.kernels_used("cuda:0")


@pytest.mark.usefixtures("_forget_trials")
@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch, wrong):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(kernels, "_TRIALS", {"a sum": lambda _: (torch.tensor([wrong]), torch.ones(1))})
    assert not kernels.available("cuda:0")
    assert f"a sum differs by {wrong - 1:.1e} from torch" in kernels.kernels_used("cuda:0")


def test_attention_takes_no_wider_heads_than_those_that_were_tried(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda _: True)
    taken = [width for width in range(1, 257) if kernels.attends(torch.zeros(1, dtype=torch.float16), width)]
    tried = []
    monkeypatch.setattr(
        kernels, "attend_with_bias", lambda qkv, _, heads, *__: tried.append(qkv.shape[1] // 3 // heads)
    )
    kernels._try_attend_with_bias(torch.device("cpu"))
    assert tried == [max(taken)]


def test_one_thread_launches_at_a_time():
    entered = threading.Event()

    def launch():
        with kernels._on(torch.zeros(1)):
            entered.set()

    thread = threading.Thread(target=launch)
    with kernels._on(torch.zeros(1)):
        thread.start()
        assert not entered.wait(timeout=0.1)
    assert entered.wait(timeout=10)
    thread.join()


def _configurations() -> list[tuple[str, str, dict[str, str], dict[str, object]]]:
    """Return each kernel as base and large encoders use it: a name, the kernel, its arguments, and its constants."""
    found: list[tuple[str, str, dict[str, str], dict[str, object]]] = [
        (
            f"mean_and_std {dim}",
            "mean_and_std",
            {"x": F32, "begins": I32, "ends": I32, "out": F32},
            {"DIM": dim, "ROWS": 64, "COLUMNS": 64},
        )
        for dim in (768, 1024)
    ]
    norm = {"weight": F32, "bias": F32, "eps": "fp32"}
    for dim in (768, 1024):
        for post in (True, False):
            for added in (True, False):
                constants = {"DIM": dim, "COLUMNS": 1024, "ADDED": added, "POST": post, "WEIGHTED": True}
                constants |= {"STREAM": post or added, "NORMED": True}
                arguments = {"x": F32, "delta": B16 if added else F32, "stream": F32, "normed": B16, **norm}
                found.append((f"add_and_norm {dim}, {post}, {added}", "add_and_norm", arguments, constants))
    for kernel, stride, out in ((3, 2, B16), (2, 2, B16), (1, 1, F32)):
        for has_norm in (True, False):
            constants = {"CHANNELS": 512, "COLUMNS": 512, "NORM": has_norm, "WEIGHTED": has_norm}
            constants |= {"KERNEL": kernel, "STRIDE": stride, "ROWS": 8}
            weights = norm if has_norm else {"weight": B16, "bias": B16, "eps": "fp32"}
            arguments = {"y": B16, "out": out, "n_rows": "i32", "n_windows": "i32", **weights}
            found.append((f"norm_gelu_windows {kernel}, {has_norm}", "norm_gelu_windows", arguments, constants))
    for heads, gated, width in ((12, True, 64), (16, True, 64), (12, False, 64), (12, True, 16)):
        arguments = {"qkv": B16, "gate": F32, "by_distance": F32, "blocks": I32, "out": B16, "scale": "fp32"}
        arguments |= dict.fromkeys(("middle", "n_distances", "n_blocks"), "i32")
        constants = {"HEADS": heads, "WIDTH": width, "QUERIES": kernels.QUERIES, "KEYS": 64, "GATED": gated}
        found.append((f"attend_with_bias {heads}, {gated}, {width}", "attend_with_bias", arguments, constants))
    return found


@pytest.mark.long
@pytest.mark.parametrize(("kernel", "arguments", "constants"), [one[1:] for one in _configurations()],
                         ids=[one[0] for one in _configurations()])  # fmt: skip
@pytest.mark.parametrize(("capability", "most_shared"), [(90, 227 * 1024), (86, 99 * 1024)])  # bytes of a block
def test_kernels_compile_for_gpus(kernel, arguments, constants, capability, most_shared, tmp_path, monkeypatch):
    """Without such a GPU; pointers are aligned as torch's are, but for those of indices."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerprobe.probe.forward.stream import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(triton_kernels, kernel)
    signature = arguments | dict.fromkeys(constants, "constexpr")
    assert set(signature) == set(function.arg_names)
    aligned = {
        (k,): [["tt.divisibility", 16]]
        for k, name in enumerate(function.arg_names)
        if signature[name].startswith("*") and signature[name] != I32
    }
    source = ASTSource(
        fn=function,
        signature={name: signature[name] for name in function.arg_names},
        constexprs=constants,
        attrs=aligned,
    )
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": 4, "num_stages": 3})
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= most_shared
    if kernel == "attend_with_bias" and capability == 90:
        assert "wgmma" in compiled.asm["ptx"]


@pytest.mark.usefixtures("_forget_trials")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a kernel may run on this machine's GPU")
@pytest.mark.parametrize(
    ("forward", "device", "n"), [("packed", "cuda:0", 1), ("packed", "cpu", 0), ("single", "cuda:0", 0)]
)
def test_an_extraction_on_a_gpu_logs_what_runs_between_matrix_products(tmp_path, forward, device, n):
    encoder = load_exact(save_model(small_model("hubert"), tmp_path), forward=forward)
    encoder.device = device  # as far as the log reads it
    progress = Messages()
    log_numerics(encoder, progress)
    found = [
        message for message in progress.logged if message.startswith("Between matrix products torch's operators run")
    ]
    assert len(found) == n
