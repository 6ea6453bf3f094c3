"""What all tasks of a sweep have in common: caches, ratings, splits and the plan, sent to each process once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.solvers.backends import HOST, Algebra
from layerprobe.probe.sweep.data.bin_parts import BinnedSweep
from layerprobe.probe.sweep.data.inputs import SweepDataset
from layerprobe.probe.sweep.data.rated_parts import RatedPart
from layerprobe.probe.sweep.fits.erasure import NOTHING_ERASED, Erasures
from layerprobe.probe.sweep.fits.layer_probes import CovariateFeatures
from layerprobe.probe.system import choose_device

if TYPE_CHECKING:
    from layerprobe.probe.weighted_sum.layers import ReadLayer  # imports torch, which few tasks need


@dataclass(frozen=True)
class ProbedCache:
    """A cache whose layers are probed."""

    cache: Cache
    keys: dict[str, Any]  # encoder, control and seed of its rows of the score table
    rows: np.ndarray  # (n_utterances,) of the cache, in the order of the data

    @property
    def name(self) -> str:
        """The encoder and the control, by which partial results are named."""
        seed = f"-{self.keys['seed']}" if self.keys["control"] != "none" else ""
        return f"{self.keys['encoder']}-{self.keys['control']}{seed}"

    @property
    def label(self) -> str:
        """The encoder, for the progress."""
        return f"{self.keys['encoder']}{'' if self.keys['control'] == 'none' else ', random weights,'}"

    @property
    def is_studied(self) -> bool:
        """Whether its encoder is under study, and no control."""
        return bool(self.keys["control"] == "none")

    @property
    def n_features(self) -> int:
        """Number of features of a layer."""
        return self.cache.values_per_utterance // len(self.cache.plan.layers)

    def layer_reader(self, part: RatedPart) -> tuple[ReadLayer, list[str], int]:
        """Return a function that reads rows of a layer by its index, the layers' names but ``final``, and their width.

        Args:
            part: whose rows are read
        """
        layers, indices = [name for name in self.cache.plan.layers if name != FINAL], part.take(self.rows)

        def read(layer: int, rows: np.ndarray) -> np.ndarray:
            return self.cache.read_layer(layers[layer], indices[rows])

        return read, layers, self.n_features


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of all tasks."""

    caches: list[ProbedCache]  # those under study first
    dataset: SweepDataset
    device: str
    covariates: CovariateFeatures
    binned: BinnedSweep | None = None  # of a sweep over bins of time
    erasures: Erasures = NOTHING_ERASED
    _coming: dict[tuple[int, str], Future[np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def studied(self) -> list[ProbedCache]:
        """The caches of encoders under study."""
        return [one for one in self.caches if one.is_studied]

    @property
    def algebra(self) -> Algebra:
        """Where matrices are multiplied."""
        return choose_algebra(self.device)

    def read_layer(self, number: int, layer: str) -> np.ndarray:
        """Return a layer of a cache, by its number, ``(n_utterances, n_features)``, as it was read ahead if it was."""
        coming = self._coming.pop((number, layer), None)
        one = self.caches[number]
        return coming.result() if coming else one.cache.read_layer(layer, one.rows)

    def read_ahead(self, reader: ThreadPoolExecutor, layer: tuple[int, str] | None) -> None:
        """Let a thread read a layer that will be needed soon."""
        if layer is not None and layer not in self._coming:
            one = self.caches[layer[0]]
            self._coming[layer] = reader.submit(one.cache.read_layer, layer[1], one.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is being read to this process."""
        return self.__dict__ | {"_coming": {}}


def choose_algebra(device: str) -> Algebra:
    """Return what multiplies matrices on a device.

    Raises:
        InputError: if torch has no such device, or multiplies float32 numbers there with fewer bits
    """
    if device == "cpu":
        return HOST
    import torch

    if not choose_device(device).startswith("cuda"):
        raise InputError("LP560", f"probes can't be fitted on device {device!r}. Choose cpu or cuda.")
    if torch.backends.cuda.matmul.fp32_precision == "tf32":
        raise InputError(
            "LP561",
            "torch multiplies float32 matrices in TF32 here, whose error is that of 16 bits. Call "
            'torch.set_float32_matmul_precision("highest") before a sweep on a GPU.',
        )
    from layerprobe.probe.solvers.torch_backend import DeviceAlgebra

    return DeviceAlgebra(device)


def rated_features(inputs: TaskInputs, part: RatedPart) -> CovariateFeatures:
    """Return the features of all covariates for the rows of a part."""
    return replace(inputs.covariates, features=[part.take(f) for f in inputs.covariates.features])
