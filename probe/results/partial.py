"""Partial results: a file for each finished layer or mix, so that an interrupted sweep resumes there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from layerprobe.probe.filesystem import replacing
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.results.predictions import HeldOutPrediction, ProbeResults
from layerprobe.probe.results.run_files import PARTIAL_RESULTS

TASK_INPUTS = "inputs.joblib"


class PartialResults:
    """The folder ``partial`` in a run folder.

    Its files are used by a run with the same fingerprint and the same utterances in the same order alone: a fingerprint
    does not depend on the order of the manifest's rows, and predictions are kept by row.
    """

    def __init__(self, run: Path, fingerprint: str, utterance_ids: Iterable[str]) -> None:
        """Take the run folder and the utterances, in the order of the rows; nothing is written yet."""
        self._folder = run / PARTIAL_RESULTS
        self._fingerprint = f"{fingerprint}-{combined_fingerprint(*utterance_ids)}"

    def load(self, name: str) -> ProbeResults | None:
        """Return the saved results of that name; None if there are none, or the file is damaged."""
        file = self._file(name)
        return _read(file) if file.exists() else None

    def save(self, name: str, results: ProbeResults) -> ProbeResults:
        """Save results under a name, and return them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._file(name), results)
        return results

    def has(self, name: str) -> bool:
        """Return whether there are saved results of that name."""
        return self._file(name).exists()

    def inputs_file(self) -> Path:
        """Return where the inputs of a sweep's processes are while it runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / TASK_INPUTS

    def clear(self) -> None:
        """Remove the folder, once the run is complete."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _file(self, name: str) -> Path:
        readable = re.sub(r"[^\w.-]+", "-", name)[:80]  # any name becomes one of a file in the folder
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return self._folder / f"{self._fingerprint}-{readable}-{digest}.npz"


def _write(file: Path, results: ProbeResults) -> None:
    """Write a file atomically."""
    labels = [
        {"keys": c.keys, "alphas": c.alphas, "nominal": c.nominal, "inner_errors": c.inner_errors}
        for c in results.columns
    ]
    truth, prediction, matched = (
        np.array([getattr(c, name) for c in results.columns]) for name in ("truth", "prediction", "matched")
    )
    texts = {"labels": np.array(json.dumps(labels)), "weights": np.array(json.dumps(results.weights))}
    texts |= {name: np.array(json.dumps(getattr(results, name))) for name in ("scores", "peaks")}
    with replacing(file) as stream:
        np.savez(stream, allow_pickle=False, truth=truth, prediction=prediction, matched=matched, **texts)


def _read(file: Path) -> ProbeResults | None:
    """Return the results that `_write` wrote; None if the file is damaged, so that they are computed again."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = [content[name] for name in ("truth", "prediction", "matched")]
            names = ("labels", "scores", "weights", "peaks")
            labels, scores, weights, peaks = (json.loads(str(content[name])) for name in names)
    except (BadZipFile, ValueError, KeyError, EOFError, OSError):
        return None
    rows = zip(labels, *arrays, strict=True)
    columns = [
        HeldOutPrediction(label["keys"], truth, raw, matched, label["alphas"], label["nominal"], label["inner_errors"])
        for label, truth, raw, matched in rows
    ]
    return ProbeResults(columns, scores, weights, peaks)
