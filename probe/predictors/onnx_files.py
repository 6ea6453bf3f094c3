"""Files of ONNX that hold a predictor: run by ONNX Runtime, and with the weights of matrix products in 8 bits.

Weights are rounded once, with a scale for each column, and what they are multiplied by in each pass, with a scale for
the whole. The weights take 7 of their 8 bits: processors without VNNI add two products in 16 bits, which overflow for
weights of 8 bits, so that other machines would give other ratings than the one that the loss was measured on. Unsigned
weights of 8 bits do not overflow either, but take 2.4 times as long where there is VNNI. Convolutions, attention,
poolings and heads stay in float32: with the convolutions in 8 bits the embeddings of the small HuBERT of this package
are twice as far off, and take no less time.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import numpy as np

INPUT, OUTPUTS = "waveform", ("ratings", "intervals", "embeddings")


class OnnxSession:
    """A file of ONNX that `probe.predictors.onnx.export_predictor` wrote, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path | str, *, n_threads: int = 0) -> None:
        """Load the file; 0 threads take one for each core."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = n_threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads sleep while they wait
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Return each of `OUTPUTS` of a waveform ``(n_samples,)`` float32 at the encoder's rate."""
        found = self._session.run(list(OUTPUTS), {INPUT: waveform[None]})
        return dict(zip(OUTPUTS, map(np.asarray, found), strict=True))


def quantise(path: Path, out: Path, *, external: bool = False) -> None:
    """Write a file again with the weights of its matrix products in 8 bits.

    Args:
        path: of a file that `probe.predictors.onnx.export_predictor` wrote
        out: the file to write
        external: whether its weights are in a file next to it
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(path), load_external_data=False).graph
    double = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.DOUBLE}
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        written = Path(temporary) / out.name
        quantize_dynamic(
            str(path),
            str(written),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # 7 bits
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in graph.node if double & set(node.input)],  # filter banks and heads
            use_external_data_format=external,
            extra_options={"MatMulConstBOnly": True},  # not those of attention, of which both sides are computed
        )
        for file in Path(temporary).iterdir():
            file.replace(out.with_name(file.name))


def processor() -> str:
    """Return the name of this machine's processor, and whether it multiplies 8 bits by VNNI, as far as it is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    with_vnni = "with" if "vnni" in fields.get("flags", "") else "without"
    return f"{fields.get('model name') or platform.machine()}, {with_vnni} VNNI"
