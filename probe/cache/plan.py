"""Every choice that can change a number, frozen: ExtractionPlan keys the cache, SweepPlan keys the scores."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

WORDS_OF = "words of "  # begins ``channels`` where a text encoder reads a column of the manifest


def words_read(channels: str) -> str | None:
    """The column that a plan's ``channels`` names, None where they are of sound.

    >>> words_read("words of transcript"), words_read("mean")
    ('transcript', None)
    """
    return channels.removeprefix(WORDS_OF) if channels.startswith(WORDS_OF) else None


@dataclass(frozen=True)
class ExtractionPlan:
    """What is heard, by which weights, and how it is pooled; equal plans mean equal embeddings."""

    upstream: str  # "facebook/hubert-base-ls960", or a folder's name
    revision: str  # the hub's commit, never a moving name; "" for a folder
    architecture: str  # "HubertModel"
    weights: str  # hash of every encoder tensor's name, shape and bytes
    random_init: int | None  # seed of untrained weights, None for the checkpoint's
    layers: tuple[str, ...]  # "0", "1", … in order, and "final" where there is a final norm
    layer_convention: str
    adapter: str  # hash of the user's own description of the architecture; "" for one of ours
    preprocessing: str
    sampling_rate: int  # Hz
    resampler: str
    channels: str
    long_sound: str
    poolings: tuple[str, ...]
    forward: str  # whose forward pass: "transformers", or "written out"
    precision: str  # of its matrix products
    storage: str  # of the embeddings on disk
    libraries: str  # versions that can change a number

    def fingerprint(self) -> str:
        """Twelve hex digits that the cache and every later table carry."""
        return _fingerprint(self)

    def differences(self, other: ExtractionPlan) -> list[str]:
        """What differs, field by field: ``poolings mean, not mean, std``; ours first."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name} {_words(ours)}, not {_words(theirs)}" for name, ours, theirs in pairs if ours != theirs]

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the cache's attributes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ExtractionPlan:
        """The plan that `to_json` wrote."""
        values = {**content, "layers": tuple(content["layers"]), "poolings": tuple(content["poolings"])}
        return cls(**values)

    def lines(self) -> list[str]:
        """Every choice, ``name: value``."""
        return [f"{f.name}: {_shown(getattr(self, f.name))}" for f in fields(self)]

    @property
    def words(self) -> str | None:
        """The manifest's column that was read; None where sound was heard."""
        return words_read(self.channels)

    @property
    def is_stack(self) -> bool:
        """Whether these are layers, one above the other, that can be mixed; not features side by side."""
        return all(name == "final" or name.isdecimal() for name in self.layers)

    @property
    def n_blocks(self) -> int:
        """Transformer blocks: layers without layer 0 and ``final``."""
        return sum(name != "final" for name in self.layers) - 1


@dataclass(frozen=True)
class SweepPlan:
    """Which utterances train, which test, and what is fitted; equal plans on equal caches mean equal scores."""

    targets: tuple[str, ...]
    n_folds: int | None  # outer speaker-disjoint folds; None where the manifest's split decides
    test: str | None  # the split that is held out where n_folds is None
    # Speaker-disjoint folds inside the training speakers, which choose alpha: the other outer folds where there are
    # three or more; else dealt anew, at most one a speaker.
    n_inner_folds: int
    alphas: tuple[float, ...]  # ridge penalties, relative to the mean eigenvalue of what is fitted
    controls: tuple[str, ...]  # keys of `probe.tasks.controls.CONTROLS`
    n_permutations: int  # draws of each
    nominal: tuple[str, ...]  # targets with classes
    classes: tuple[tuple[str, ...], ...]  # of each
    residuals: tuple[str, ...]  # targets that are also scored on what others leave unexplained (`probe.tasks.targets`)
    beyond_text: tuple[str, ...]  # targets that are also scored on what the words leave (`probe.tasks.text_residuals`)
    transfer: bool  # whether each corpus of the manifest also trains alone (`probe.tasks.cross_corpus`)
    fused: bool  # whether all encoders are heard together, too (`probe.sweep.fusion`)
    probes: tuple[str, ...]  # beside ridge: mlp, logistic, description_length
    mixes: tuple[str, ...]  # keys of `probe.sweep.mix_probes.MIXES`
    weighted_sum_seeds: tuple[int, ...]
    mix_penalties: tuple[float, ...]  # of the weighted sum's head, relative likewise
    mix_iterations: int
    seed: int  # of the folds and the permutations
    speakers: bool  # False: no speakers are known, every utterance counts as its own
    device: str  # where matrices are multiplied: cpu or cuda

    @property
    def classes_of(self) -> dict[str, tuple[str, ...]]:
        """The classes of each nominal target."""
        return dict(zip(self.nominal, self.classes, strict=True))

    def fingerprint(self) -> str:
        """Twelve hex digits; see `ExtractionPlan.fingerprint`."""
        return _fingerprint(self)


def combined_fingerprint(*parts: str) -> str:
    """One fingerprint from several, for a run that joins a sweep plan, caches and a manifest."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _fingerprint(plan: ExtractionPlan | SweepPlan) -> str:
    text = json.dumps(asdict(plan), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _words(value: Any) -> str:
    return _shown(value) if isinstance(value, tuple) else repr(value)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
