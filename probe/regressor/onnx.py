"""Stage: export a trained regressor as ONNX files, one for each branch and one for the head.

``audio.onnx`` and ``text.onnx`` take the outputs of the feature extractor and of the tokenizer for one utterance and
return its states ``(1, n_frames, dim)``; ``head.onnx`` takes these and returns ratings in their own unit. Every file is
then run by ONNX Runtime on utterances of other lengths than the traced one, and its ratings are compared.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.saving import load_regressors, read_regressor
from layerprobe.probe.training.branches import AudioBranch, Branch, Prepared, TextBranch
from layerprobe.probe.training.checkpoints import FORMAT_VERSION

TRACED_SECONDS, CHECKED_SECONDS = 1.0, (0.5, 2.3, 5.0)
TRACED_TEXT = "the letter this morning was kind"
CHECKED_TEXTS = ("", "no", "everyone agreed that the garden was wonderful and the dinner was not")
TOLERANCE = 1e-3  # largest difference of a rating, in standard deviations of the training ratings
DESCRIPTION = "export.json"


@dataclass(frozen=True)
class ExportedModel:
    """The exported files, and the largest difference of their ratings from the regressor's."""

    files: list[Path]  # ONNX files, then `DESCRIPTION`
    largest_difference: float  # in standard deviations of the training ratings


class _Encoder(nn.Module):
    """One branch's encoder with positional inputs."""

    def __init__(self, branch: Branch, names: list[str]) -> None:
        super().__init__()
        self.branch, self._names = branch, names

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        inputs = [first] if second is None else [first, second]
        return self.branch.encode(dict(zip(self._names, inputs, strict=True)))


class _Head(nn.Module):
    """Poolings, fusion and head for one utterance."""

    def __init__(self, regressor: AudioTextRegressor) -> None:
        super().__init__()
        self.regressor = regressor

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        states = [s for s in (first, second) if s is not None]
        masks = [torch.ones(s.shape[:2], dtype=torch.bool) for s in states]
        return self.regressor.scale(self.regressor.from_states(list(zip(states, masks, strict=True))))


def export_onnx(run: Path | str, out: Path | str, *, seed: int | None = None) -> ExportedModel:
    """Export a trained regressor as ONNX files and check that they return the same ratings.

    Args:
        run: run folder that `train` wrote
        out: folder for ``audio.onnx``, ``text.onnx``, ``head.onnx`` and ``export.json``
        seed: seed of the regressor to export; the first if None

    Returns:
        the files, and the largest difference of a rating in standard deviations of the training ratings

    Raises:
        InputError: if ``run`` holds no trained regressor or not that seed, if onnx is not installed, or if ratings
            differ by more than `TOLERANCE`
    """
    check_onnx_installed()
    trained, out = read_regressor(run), Path(out)
    if seed is not None and seed not in trained.plan.seeds:
        raise InputError("LP742", f"{run} has no seed {seed}; it has {', '.join(map(str, trained.plan.seeds))}.")
    position = 0 if seed is None else trained.plan.seeds.index(seed)
    regressor = list(load_regressors(trained))[position]
    out.mkdir(parents=True, exist_ok=True)
    waveform = example_waveform(TRACED_SECONDS, sampling_rate=_sampling_rate(regressor))
    traced = {name: _prepare(b, waveform, TRACED_TEXT) for name, b in regressor.branches.items()}
    files, states = [], []
    for name, branch in regressor.branches.items():
        inputs = _named_inputs(traced[name])
        states.append(branch.encode(inputs)[:, traced[name].counted])
        files.append(out / f"{name}.onnx")
        _write(_Encoder(branch, list(inputs)), list(inputs.values()), list(inputs), "states", files[-1])
    files.append(out / "head.onnx")
    _write(_Head(regressor), states, [f"{n}_states" for n in regressor.branches], "ratings", files[-1])
    largest = _largest_difference(regressor, files)
    if not largest < TOLERANCE:
        raise InputError(
            "LP743",
            f"{out}: the exported files give ratings that differ by {largest:.2g} standard deviations. Use layerprobe "
            "predict with this regressor, and update torch and onnxruntime.",
        )
    description = {
        "format_version": FORMAT_VERSION,
        "targets": list(trained.plan.targets),
        "intervals": trained.intervals,
        "sampling_rate": _sampling_rate(regressor),
        "inputs": {name: list(_named_inputs(p)) for name, p in traced.items()},
        "largest_difference": largest,
        "fingerprint": trained.fingerprint,
    }
    replace_file(out / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    return ExportedModel([*files, out / DESCRIPTION], largest)


def _sampling_rate(regressor: AudioTextRegressor) -> int:
    return 16_000 if regressor.audio is None else regressor.audio.sampling_rate


def _prepare(branch: Branch, waveform: np.ndarray, text: str) -> Prepared:
    if isinstance(branch, AudioBranch):
        return branch.prepare(waveform)
    if not isinstance(branch, TextBranch):
        raise TypeError(f"{type(branch).__name__} is neither an audio nor a text branch")
    return branch.prepare(text)


def _named_inputs(one: Prepared) -> dict[str, Tensor]:
    """Return an utterance's inputs by name, with a batch axis of one."""
    if "input_ids" in one.inputs:
        ids = one.inputs["input_ids"][None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return one.inputs


def _write(module: nn.Module, inputs: list[Tensor], names: list[str], output: str, path: Path) -> None:
    """Export a module with a dynamic second axis, except Whisper's, whose windows have one length."""
    arguments = ("first", "second")[: len(inputs)]
    fixed = isinstance(module, _Encoder) and "input_features" in names and "attention_mask" not in names
    shapes = None if fixed else {p: {1: torch.export.Dim.DYNAMIC} for p in arguments}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations within torch's own exporter
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(zip(arguments, inputs, strict=True)),
            dynamic_shapes=shapes,
            input_names=names,
            output_names=[output],
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        written = Path(temporary) / path.name
        program.save(str(written), external_data=False)
        written.replace(path)


def _largest_difference(regressor: AudioTextRegressor, files: list[Path]) -> float:
    """Return the largest difference between ONNX Runtime's and the regressor's ratings, in standard deviations."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    quiet.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads sleep while they wait
    sessions = {f.stem: onnxruntime.InferenceSession(str(f), quiet, providers=["CPUExecutionProvider"]) for f in files}
    worst = 0.0
    for seconds, text in zip(CHECKED_SECONDS, CHECKED_TEXTS, strict=True):
        waveform = example_waveform(seconds, sampling_rate=_sampling_rate(regressor))
        prepared = {name: _prepare(b, waveform, text) for name, b in regressor.branches.items()}
        with torch.no_grad():
            encoded = [b([prepared[name]]) for name, b in regressor.branches.items()]
            expected = regressor.scale(regressor.from_states(encoded)).numpy()
        states: dict[str, Any] = {}
        for name, one in prepared.items():
            inputs = {k: v.numpy() for k, v in _named_inputs(one).items()}
            states[f"{name}_states"] = np.asarray(sessions[name].run(None, inputs)[0])[:, one.counted]
        found = np.asarray(sessions["head"].run(None, states)[0])
        worst = max(worst, float(np.max(np.abs(found - expected) / regressor.get_buffer("std").numpy())))
    return worst


def check_onnx_installed() -> None:
    """Check that the packages of the extra ``export`` are installed.

    Raises:
        InputError: naming the first that is not
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            "LP820", f"ONNX files need {error.name}. Install it: pip install 'layerprobe[export]'."
        ) from error
