"""The plan of an extraction: every choice that can change an embedding, frozen; it keys the cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from layerprobe.probe.fingerprints import text_fingerprint
from layerprobe.probe.layer_names import is_stack, n_blocks

PACKED_FORWARDS = ("packed", "equal lengths", "masked")  # forward passes that take utterances together


@dataclass(frozen=True)
class ExtractionPlan:
    """Every choice of an extraction: inputs, encoder weights and pooling; equal plans mean equal embeddings."""

    upstream: str  # "facebook/hubert-base-ls960", or a folder's name
    revision: str  # the hub's commit, never a moving name; "" for a folder
    architecture: str  # "HubertModel"
    weights: str  # hash of every encoder tensor, of the model's configuration and of code that came with it
    random_init: int | None  # seed of untrained weights, None for the checkpoint's
    layers: tuple[str, ...]  # "0", "1", … in order, and "final" where there is a final norm
    layer_convention: str
    adapter: str  # hash of the user's own description of the architecture; "" for one of ours
    preprocessing: str
    sampling_rate: int  # Hz
    resampler: str
    audio_channels: str  # how channels become one, such as "mean"; "" for a text encoder
    end_silence: str  # what becomes of digital silence at the ends: "kept" or "trimmed …"; "" for a text encoder
    text_column: str | None  # the manifest's column that a text encoder reads; None for a speech encoder
    chunking: str  # how inputs over an encoder's limit are cut into chunks
    poolings: tuple[str, ...]
    forward: str  # implementation of the forward pass: "transformers", "native", or one of `PACKED_FORWARDS`
    precision: str  # of its matrix products
    storage_dtype: str  # of the embeddings on disk
    libraries: str  # versions that can change a number
    spans: str = ""  # which intervals of each utterance are pooled, and by which frames; "" for whole utterances

    def fingerprint(self) -> str:
        """Return twelve hex digits that the cache and every later table carry."""
        return text_fingerprint(json.dumps(self.to_json(), sort_keys=True))

    def differences(self, other: ExtractionPlan) -> list[str]:
        """Return the fields that differ, each as text such as ``poolings mean, not mean, std``, this plan's first."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        quoted = {("spans", ""): "'' (whole utterances)"}
        return [
            f"{name} {quoted.get((name, ours), _quoted(ours))}, not {quoted.get((name, theirs), _quoted(theirs))}"
            for name, ours, theirs in pairs
            if ours != theirs
        ]

    @property
    def forward_option(self) -> str:
        """Value of ``--forward`` that leads to the forward pass: single, or packed for utterances that run together."""
        return "packed" if self.forward in PACKED_FORWARDS else "single"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a dict of plain types, for the cache's attributes; without ``spans`` if it is empty.

        A plan of whole utterances is thereby what it was before there were spans, with the same fingerprint.
        """
        content = asdict(self)
        return content if self.spans else {name: value for name, value in content.items() if name != "spans"}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ExtractionPlan:
        """Return the plan that `to_json` wrote."""
        values = {"spans": "", **content, "layers": tuple(content["layers"]), "poolings": tuple(content["poolings"])}
        return cls(**values)

    def lines(self) -> list[str]:
        """Return every choice as a line ``name: value``."""
        return [f"{f.name}: {_plain(getattr(self, f.name))}" for f in fields(self)]

    @property
    def is_stack(self) -> bool:
        """Whether these are consecutive layers of an encoder, which can be weighted, and not acoustic features."""
        return is_stack(self.layers)

    @property
    def n_blocks(self) -> int:
        """Number of transformer blocks: all layers except layer 0 and ``final``."""
        return n_blocks(self.layers)


def _quoted(value: Any) -> str:
    return _plain(value) if isinstance(value, tuple) else repr(value)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
