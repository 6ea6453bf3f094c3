"""Stage: a trained regressor becomes ONNX files that other programs run: one for each branch, one for the head.

``audio.onnx`` and ``text.onnx`` take what the preprocessor and the tokenizer give of one utterance and answer with its
states ``(1, n_frames, dim)``; ``head.onnx`` takes these and answers with ratings in their own unit. Before it is done
every file is run by ONNX Runtime on sounds of other lengths than the one it was traced with, and compared.
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

from layerprobe.probe.encoders.diagnostics import example_waveform
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.saving import load_regressors, read_regressor
from layerprobe.probe.training.branches import AudioBranch, Branch, Prepared, TextBranch

TRACED_SECONDS, CHECKED_SECONDS = 1.0, (0.5, 2.3, 5.0)
TRACED_WORDS = "the letter this morning was kind"
CHECKED_WORDS = ("", "no", "everyone said that the garden was wonderful and the dinner was not")
TOLERANCE = 1e-3  # of ratings, in standard deviations of the training ratings
DESCRIPTION = "export.json"


@dataclass(frozen=True)
class ExportedModel:
    """What was written, and how far its ratings are from the regressor's on the checked utterances."""

    files: list[Path]
    largest_difference: float  # in standard deviations of the training ratings


class _Encoder(nn.Module):
    """One branch's encoder, with inputs by place."""

    def __init__(self, branch: Branch, names: list[str]) -> None:
        super().__init__()
        self.branch, self._names = branch, names

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        inputs = [first] if second is None else [first, second]
        return self.branch.told(dict(zip(self._names, inputs, strict=True)))


class _Head(nn.Module):
    """Poolings, fusion and head, for one utterance."""

    def __init__(self, regressor: AudioTextRegressor) -> None:
        super().__init__()
        self.regressor = regressor

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        states = [s for s in (first, second) if s is not None]
        masks = [torch.ones(s.shape[:2], dtype=torch.bool) for s in states]
        return self.regressor.scale(self.regressor.from_states(list(zip(states, masks, strict=True))))


def export(folder: Path | str, out: Path | str, *, seed: int | None = None) -> ExportedModel:
    """Write a regressor's branches and head as ONNX into ``out``, and check that they give the same ratings.

    Args:
        folder: as `layerprobe train` made it
        out: a folder
        seed: which of its regressors; the first if None

    Raises:
        InputError: if ``folder`` holds none, onnx is not installed, or the files give other ratings
    """
    _refuse_without_onnx()
    trained, out = read_regressor(folder), Path(out)
    if seed is not None and seed not in trained.plan.seeds:
        raise InputError(f"{folder} has no seed {seed}; it has {', '.join(map(str, trained.plan.seeds))}.")
    place = 0 if seed is None else trained.plan.seeds.index(seed)
    regressor = list(load_regressors(trained))[place]
    out.mkdir(parents=True, exist_ok=True)
    sound = example_waveform(TRACED_SECONDS, sampling_rate=_rate(regressor))
    traced = {name: _prepared(b, sound, TRACED_WORDS) for name, b in regressor.branches.items()}
    files, states = [], []
    for name, branch in regressor.branches.items():
        inputs = _placed(traced[name])
        states.append(branch.told(inputs)[:, traced[name].counted])
        files.append(out / f"{name}.onnx")
        _write(_Encoder(branch, list(inputs)), list(inputs.values()), list(inputs), "states", files[-1])
    files.append(out / "head.onnx")
    _write(_Head(regressor), states, [f"{n}_states" for n in regressor.branches], "ratings", files[-1])
    worst = _largest_difference(regressor, files)
    if not worst < TOLERANCE:
        raise InputError(f"{out}: the exported files give ratings that differ by {worst:.2g} standard deviations.")
    description = {
        "targets": list(trained.plan.targets),
        "intervals": trained.intervals,
        "sampling_rate": _rate(regressor),
        "inputs": {name: list(_placed(p)) for name, p in traced.items()},
        "largest_difference": worst,
        "fingerprint": trained.fingerprint,
    }
    (out / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return ExportedModel([*files, out / DESCRIPTION], worst)


def _rate(regressor: AudioTextRegressor) -> int:
    return 16_000 if regressor.audio is None else regressor.audio.sampling_rate


def _prepared(branch: Branch, sound: np.ndarray, words: str) -> Prepared:
    if isinstance(branch, AudioBranch):
        return branch.prepare(sound)
    assert isinstance(branch, TextBranch)
    return branch.prepare(words)


def _placed(one: Prepared) -> dict[str, Tensor]:
    """Inputs with an axis for the utterance."""
    if "input_ids" in one.inputs:
        ids = one.inputs["input_ids"][None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return one.inputs


def _write(module: nn.Module, inputs: list[Tensor], names: list[str], answer: str, path: Path) -> None:
    """Trace with the second axis free, but for Whisper's, whose windows are of one length."""
    places = ("first", "second")[: len(inputs)]
    fixed = isinstance(module, _Encoder) and "input_features" in names and "attention_mask" not in names
    shapes = None if fixed else {p: {1: torch.export.Dim.DYNAMIC} for p in places}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of what torch is about to change within its own exporter
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(zip(places, inputs, strict=True)),
            dynamic_shapes=shapes,
            input_names=names,
            output_names=[answer],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        written = Path(temporary) / path.name
        program.save(str(written), external_data=False)
        written.replace(path)


def _largest_difference(regressor: AudioTextRegressor, files: list[Path]) -> float:
    """Of ratings by ONNX Runtime from the regressor's, over utterances of other lengths."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    sessions = {f.stem: onnxruntime.InferenceSession(str(f), quiet, providers=["CPUExecutionProvider"]) for f in files}
    worst = 0.0
    for seconds, words in zip(CHECKED_SECONDS, CHECKED_WORDS, strict=True):
        sound = example_waveform(seconds, sampling_rate=_rate(regressor))
        prepared = {name: _prepared(b, sound, words) for name, b in regressor.branches.items()}
        with torch.no_grad():
            told = [b([prepared[name]]) for name, b in regressor.branches.items()]
            expected = regressor.scale(regressor.from_states(told)).numpy()
        answers: dict[str, Any] = {}
        for name, one in prepared.items():
            given = {k: v.numpy() for k, v in _placed(one).items()}
            answers[f"{name}_states"] = np.asarray(sessions[name].run(None, given)[0])[:, one.counted]
        found = np.asarray(sessions["head"].run(None, answers)[0])
        worst = max(worst, float(np.max(np.abs(found - expected) / regressor.get_buffer("spread").numpy())))
    return worst


def _refuse_without_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX files need {error.name}. Install it: pip install 'layerprobe[export]'.") from error
