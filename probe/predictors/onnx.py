"""A predictor as one file of ONNX, from the waveform to ratings, which runs without this package and without torch.

The file has the input ``waveform`` ``(1, n_samples)``, float32 at the encoder's sampling rate, of any length from one
frame on, and the outputs ``ratings`` ``(1, n_targets)`` and ``intervals`` ``(1, n_targets, 2)`` in the targets' units,
and ``embeddings`` ``(1, n_layers, n_poolings * dim)``, which the heads read. It is run by ONNX Runtime on recordings of
other lengths and of another kind than the traced one, and its ratings are compared with those of the predictor.

Channels, sampling rate, silence and levels are the caller's: the file takes what `Predictor.embed` does.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layerprobe.probe.cost.parameter_count import interleaved
from layerprobe.probe.encoders.architectures import LONGEST_CHUNK, waveform_chunks
from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.predictors.folder import ENCODER, SavedPredictor, read_predictor
from layerprobe.probe.predictors.graph import PredictorGraph
from layerprobe.probe.predictors.onnx_files import INPUT, OUTPUTS, OnnxSession, processor, quantise
from layerprobe.probe.predictors.predictor import Predictor, load_predictor
from layerprobe.probe.regressor.onnx import check_onnx_installed
from layerprobe.probe.version import layerprobe_version

FORMAT_VERSION = 1
TRACED_SECONDS = 1.0
CHECKED_SECONDS = (0.5, 2.3, 5.0, 12.0)
TIMED_SECONDS = 5.0
TOLERANCE = 1e-5  # largest difference of a rating from the predictor's, as a part of the width of the target's scale
LARGEST_FILE = 2**31 - 2**24  # bytes of weights; a file of ONNX can't be larger than 2 GiB


@dataclass(frozen=True)
class ExportedFile:
    """One file of ONNX, and how it compares with the predictor."""

    path: Path
    n_bytes: int  # with the weights, where these are in a file of their own
    largest_difference: float  # of a rating from the predictor's, as a part of the width of the target's scale
    real_time_factor: float  # seconds on one thread for a second of audio


@dataclass(frozen=True)
class ExportedPredictor:
    """The files that `export_predictor` wrote."""

    float32: ExportedFile
    int8: ExportedFile | None
    description: Path  # JSON with what the files take, give and measure
    saved: SavedPredictor

    @property
    def files(self) -> list[ExportedFile]:
        """The files of ONNX."""
        return [self.float32, *([] if self.int8 is None else [self.int8])]


def export_predictor(folder: Path | str, out: Path | str, *, int8: bool = False) -> ExportedPredictor:
    """Export a predictor as one file of ONNX, and check that it gives the predictor's ratings.

    Args:
        folder: of a predictor that `layerprobe deploy` made
        out: the file, whose name ends in ``.onnx``; ``out.json``, with what it takes, gives and measures, is next to it
        int8: whether a second file, ``NAME.int8.onnx``, has the weights of matrix products in 8 bits
            (`probe.predictors.onnx_files.quantise`); what that changes of the scores is measured by
            `analysis.int8_loss`

    Returns:
        the files with their sizes, differences from the predictor and times

    Raises:
        InputError: if ``folder`` holds no predictor, if onnx, onnxscript or onnxruntime is not installed, if the
            encoder can't be exported, or if a rating differs by more than `TOLERANCE`
    """
    check_onnx_installed()
    saved, out = read_predictor(folder), Path(out)
    if out.suffix != ".onnx":
        raise InputError(
            "LP931",
            f"{out} is no name of an ONNX file: it does not end in .onnx. Name a file such as "
            f"{out.with_suffix('.onnx')}.",
        )
    description = _write(saved, out)
    predictor = load_predictor(folder, device="cpu", precision="float32")
    exported = _compared(out, predictor)
    if not exported.largest_difference < TOLERANCE:
        for file in [out, _weights_of(out)]:
            file.unlink(missing_ok=True)
        raise InputError(
            "LP743",
            f"{out}: the exported file gives ratings that differ by {exported.largest_difference:.2g} of the width of "
            "their scale. Use the predictor's folder with layerprobe predict, and update torch and onnxruntime.",
        )
    quantised = None
    if int8:
        path = out.with_suffix(".int8.onnx")
        with quiet_loggers():
            quantise(out, path, external=_weights_of(out).exists())
        quantised = _compared(path, predictor)
    result = ExportedPredictor(exported, quantised, out.with_name(out.name + ".json"), saved)
    description |= {
        "files": {kind: _file_table(one) for kind, one in zip(("float32", "int8"), result.files, strict=False)},
        "real_time_factor_of_torch": real_time_factor(
            lambda w: predictor.rate(predictor.embed(w)), sampling_rate=saved.plan.sampling_rate
        ),
        "processor": processor(),
    }
    replace_file(result.description, json.dumps(description, indent=1) + "\n")
    return result


def _file_table(one: ExportedFile) -> dict[str, Any]:
    return {
        "name": one.path.name,
        "bytes": one.n_bytes,
        "largest_difference": one.largest_difference,
        "real_time_factor": one.real_time_factor,
    }


def describe(saved: SavedPredictor, graph: PredictorGraph, loaded: LoadedModel) -> dict[str, Any]:
    """Return what a file takes and gives, which is written into the file as well."""
    plan, encoder = saved.plan, graph.encoder
    needed = loaded.family.minimum_samples(loaded.extractor, encoder.config)
    long = "layerprobe encodes longer recordings in the same windows of 30 s"
    if loaded.family.input_chunks is waveform_chunks:
        long = (
            f"beyond {LONGEST_CHUNK:g} s the file encodes a recording at once and layerprobe in overlapping "
            "chunks, so that ratings differ, and memory grows with the square of the length"
        )
    return {
        "format_version": FORMAT_VERSION,
        "layerprobe_version": layerprobe_version(),
        "fingerprint": plan.fingerprint,
        "encoder": plan.upstream,
        "n_blocks": plan.n_blocks,
        "layers": list(graph.layers),
        "poolings": list(plan.poolings),
        "targets": [head.target for head in saved.heads],
        "scales": {name: list(scale) for name, scale in saved.scales.items()},
        "level": plan.level,
        "sampling_rate": plan.sampling_rate,
        "minimum_samples": needed,
        "input": f"{INPUT} (1, n_samples) float32, one channel, full scale -1 to 1, at {plan.sampling_rate} Hz, from "
        f"{needed} samples on; channels: {plan.audio_channels}, silence at the ends: {plan.end_silence}",
        "outputs": f"{OUTPUTS[0]} (1, {len(saved.heads)}), {OUTPUTS[1]} (1, {len(saved.heads)}, 2: low, high), both in "
        f"the targets' units, {OUTPUTS[2]} (1, {len(graph.layers)}, {graph.coefficients.shape[2]}) of the layers",
        "limits": f"{long}; silence is not refused",
    }


@contextmanager
def quiet_loggers() -> Iterator[None]:
    """Let the loggers of torch, onnxscript and ONNX Runtime report errors alone, and restore them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _write(saved: SavedPredictor, out: Path) -> dict[str, Any]:
    """Export a predictor's graph, and return what the file takes and gives.

    Raises:
        InputError: if torch can't export it
    """
    loaded = load_model(str(saved.folder / ENCODER))
    graph = PredictorGraph(loaded, saved.heads, poolings=saved.plan.poolings, upstream=saved.plan.upstream).eval()
    description = describe(saved, graph, loaded)
    # of two windows where there are windows: torch takes a batch of one as a constant
    seconds = TRACED_SECONDS + (0.0 if graph.window is None else graph.window / saved.plan.sampling_rate)
    waveform = torch.from_numpy(example_waveform(seconds, sampling_rate=saved.plan.sampling_rate))[None]
    try:
        with warnings.catch_warnings(), torch.no_grad(), quiet_loggers():
            warnings.simplefilter("ignore")  # deprecations within torch's own exporter
            program = torch.onnx.export(
                graph,
                (),
                kwargs={INPUT: waveform},
                dynamic_shapes={INPUT: {1: torch.export.Dim.DYNAMIC}},
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of many kinds, whatever part of the model it is that can't be exported
        raise InputError(
            "LP932",
            f"{saved.plan.upstream} can't be exported: {type(error).__name__}: {first_line(error)}. Use the "
            "predictor's folder with layerprobe predict.",
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.model.metadata_props.update(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
    )
    external = sum(p.numel() * p.element_size() for p in graph.state_dict().values()) > LARGEST_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        written = Path(temporary) / out.name
        program.save(str(written), external_data=external)
        for file in (_weights_of(written), written):
            if file.exists():
                file.replace(out.with_name(file.name))
    if external:
        description["weights"] = _weights_of(out).name
    return description


def _weights_of(path: Path) -> Path:
    """Return the file next to a file of ONNX that would be larger than 2 GiB, which has its weights."""
    return path.with_name(path.name + ".data")


def _compared(path: Path, predictor: Predictor) -> ExportedFile:
    """Run a file on recordings of several lengths and kinds, and compare its ratings with the predictor's."""
    session, widths = OnnxSession(path), [high - low for low, high in predictor.saved.scales.values()]
    worst = 0.0
    for waveform in example_recordings(predictor.encoder.minimum_samples, sampling_rate=predictor.sampling_rate):
        expected = [rating.value for rating in predictor.rate(predictor.embed(waveform)).values()]
        found = session.run(waveform)["ratings"][0]
        worst = max(worst, largest_difference(found, expected, widths))
    n_bytes = sum(file.stat().st_size for file in (path, _weights_of(path)) if file.exists())
    factor = real_time_factor(OnnxSession(path, n_threads=1).run, sampling_rate=predictor.sampling_rate)
    return ExportedFile(path, n_bytes, worst, factor)


def largest_difference(found: np.ndarray, expected: Sequence[float], widths: Sequence[float]) -> float:
    """Return the largest difference of ratings, as a part of the width of the target's scale.

    A rating that is not a number is infinitely far off.

    >>> largest_difference(np.array([2.0, 5.5]), [2.0, 5.0], [4.0, 10.0])
    0.05
    >>> largest_difference(np.array([np.nan]), [2.0], [4.0])
    inf
    """
    differences = np.abs(found - np.array(expected)) / np.array(widths)
    return float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max())


def example_recordings(shortest: int, *, sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield waveforms of several lengths, ``shortest`` samples the first: voices, a quiet one, noise and a tone."""
    rng = np.random.default_rng(0)
    yield example_waveform(shortest / sampling_rate, sampling_rate=sampling_rate)
    for seconds in CHECKED_SECONDS:
        yield example_waveform(seconds, sampling_rate=sampling_rate)
    yield 1e-3 * example_waveform(1.7, sampling_rate=sampling_rate)
    yield np.asarray(0.2 * rng.normal(size=round(1.1 * sampling_rate)), dtype=np.float32)
    times = np.arange(round(3.1 * sampling_rate)) / sampling_rate
    # not a steady tone, of which w2v-BERT's extractor normalises the rounding of its own sums
    gliding = np.sin(2 * np.pi * times * (150 + 200 * times)) * np.sin(2 * np.pi * 0.8 * times)
    yield np.asarray(0.5 * gliding, dtype=np.float32)


def real_time_factor(run: Callable[[np.ndarray], object], *, sampling_rate: int) -> float:
    """Return the seconds that a second of a recording of `TIMED_SECONDS` takes, the median of several passes.

    It is the statistic of `probe.cost.parameter_count.interleaved`, as of the factors that `layerprobe cost` measures.

    Args:
        run: on a waveform ``(n_samples,)``
        sampling_rate: of it, Hz
    """
    waveform = example_waveform(TIMED_SECONDS, sampling_rate=sampling_rate)

    def passed() -> float:
        begin = time.perf_counter()
        run(waveform)
        return time.perf_counter() - begin

    (seconds,) = interleaved([passed])
    return float(seconds) / TIMED_SECONDS
