"""What a sweep has finished so far, a file for each layer or mix, so that an interrupted one goes on there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from layerprobe.probe.results.predictions import HeldOutPrediction, ProbeResults

FOLDER = "partial"


class PartialResults:
    """The folder ``unfinished`` in a run folder, whose files count for one fingerprint alone."""

    def __init__(self, run: Path, fingerprint: str) -> None:
        """Nothing is written before the first unit is finished."""
        self._folder = run / FOLDER
        self._fingerprint = fingerprint

    def unit(self, name: str, work: Callable[[], ProbeResults]) -> ProbeResults:
        """What ``work`` gives, or what it gave to an earlier sweep with the same plan, data and caches."""
        done = self.kept(name)
        return self.keep(name, work()) if done is None else done

    def kept(self, name: str) -> ProbeResults | None:
        """What an earlier sweep kept of this unit; None if nothing, or if it is damaged."""
        file = self._file(name)
        return _read(file) if file.exists() else None

    def keep(self, name: str, finished: ProbeResults) -> ProbeResults:
        """Keep a unit, and give it back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._file(name), finished)
        return finished

    def has(self, name: str) -> bool:
        """Whether an earlier sweep kept this unit."""
        return self._file(name).exists()

    def clear(self) -> None:
        """Forget all of it: the run is whole."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _file(self, name: str) -> Path:
        readable = re.sub(r"[^\w.-]+", "-", name)[:80]  # of any name a file in the folder, and of each another
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return self._folder / f"{self._fingerprint}-{readable}-{digest}.npz"


def _write(file: Path, finished: ProbeResults) -> None:
    """Whole or not at all."""
    labels = [
        {"keys": c.keys, "alphas": c.alphas, "nominal": c.nominal, "inner_errors": c.inner_errors}
        for c in finished.columns
    ]
    truth, prediction, matched = (
        np.array([getattr(c, name) for c in finished.columns]) for name in ("truth", "prediction", "matched")
    )
    texts = {"labels": np.array(json.dumps(labels)), "weights": np.array(json.dumps(finished.weights))}
    texts["scores"] = np.array(json.dumps(finished.scores))
    temporary = file.with_suffix(".partial")
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, truth=truth, prediction=prediction, matched=matched, **texts)
    temporary.replace(file)


def _read(file: Path) -> ProbeResults | None:
    """What `_write` wrote; None if the file is damaged, so that the unit is done again."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = [content[name] for name in ("truth", "prediction", "matched")]
            labels, scores, weights = (json.loads(str(content[name])) for name in ("labels", "scores", "weights"))
    except (BadZipFile, ValueError, KeyError, EOFError):
        return None
    rows = zip(labels, *arrays, strict=True)
    columns = [
        HeldOutPrediction(label["keys"], truth, raw, matched, label["alphas"], label["nominal"], label["inner_errors"])
        for label, truth, raw, matched in rows
    ]
    return ProbeResults(columns, scores, weights)
