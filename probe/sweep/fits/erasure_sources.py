"""What a sweep erases: names of concepts and the caches that they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.sweep.data.concepts import (
    TOGETHER,
    ConceptCache,
    open_concept_caches,
    parse_erasures,
    read_concepts,
)
from layerprobe.probe.sweep.data.inputs import SweepDataset
from layerprobe.probe.sweep.fits.erasure import REPEATS, Erasures
from layerprobe.probe.tasks.concepts import MOST_DIRECTIONS

METHOD = "LEACE (Belrose et al., 2023)"


@dataclass(frozen=True)
class ErasureSources:
    """Erasures by the names of their concepts, and caches of concepts in addition to those under study."""

    erased: tuple[tuple[str, ...], ...]
    caches: list[ConceptCache]

    @classmethod
    def open(cls, without: Sequence[str], concepts: Sequence[ConceptCache | Cache | Path | str]) -> ErasureSources:
        """Check the names and open the caches.

        Args:
            without: as of `probe.sweep.data.concepts.parse_erasures`
            concepts: as of `probe.sweep.data.concepts.open_concept_caches`

        Raises:
            InputError: if a concept is unknown, a cache or its layer is missing, or nothing is erased
        """
        erased = parse_erasures(without)
        if concepts and not erased:
            raise InputError("LP594", "--concepts names caches, and nothing is erased. Add --without, or leave it out.")
        return cls(erased, open_concept_caches(concepts))

    def read(self, dataset: SweepDataset, studied: Sequence[Cache]) -> Erasures:
        """Read the values of all concepts for the utterances of a sweep.

        Args:
            dataset: the utterances and the splits
            studied: caches under study, which are looked at after those of the concepts
        """
        names = list(dict.fromkeys(name for together in self.erased for name in together))
        caches = [*self.caches, *(ConceptCache(cache, "") for cache in studied)]
        concepts = read_concepts(names, dataset, caches)
        return Erasures.of_concepts(self.erased, concepts, dataset.data.splits)

    def to_toml(self, erasures: Erasures | None = None) -> dict[str, Any]:
        """Return the table ``[erasure]`` of plan.toml; nothing for a sweep without erasures.

        Args:
            erasures: with what is known once the concepts were read
        """
        if not self.erased:
            return {}
        names = [{"name": TOGETHER.join(names), "concepts": list(names)} for names in self.erased]
        table = {"method": METHOD, "repeats": REPEATS, "most_directions": MOST_DIRECTIONS}
        caches = {"caches": [cache.to_toml() for cache in self.caches]}
        return {"erasure": {**table, **caches, **({"erasures": names} if erasures is None else erasures.to_toml())}}
