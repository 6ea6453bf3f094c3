"""Text encoders: a transcript becomes the hidden states of every layer, by the layer convention of speech encoders.

Layer 0 enters the first block: the embeddings after their norm. Layer k leaves block k (`probe.encoders.speech`). The
frames of a text are its tokens, including the special tokens before and after it, as sentence encoders average them
(Reimers and Gurevych, 2019). Each text is encoded without a batch, so there is no padding. An empty transcript is
encoded as the empty text, and the cache marks it (`probe.data.inputs.NO_TEXT`).

Only this file and `probe.forward.packed.text` know transformers for text.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.base import describe_encoder
from layerprobe.probe.encoders.foreign_names import is_foreign
from layerprobe.probe.encoders.identity import code_hash, model_hash
from layerprobe.probe.encoders.packing import PackableEncoder, join_frame_chunks
from layerprobe.probe.encoders.peft_merging import merge_adapter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.chunks import FrameChunk, InputChunk
from layerprobe.probe.forward.hooks import HookedEncoder
from layerprobe.probe.forward.packed.choose import choose_batches, own_pass
from layerprobe.probe.forward.packed.pack import PackedForward
from layerprobe.probe.forward.precision import AUTO, is_packed, multiplying_in
from layerprobe.probe.model_alignment import align_weights
from layerprobe.probe.model_errors import first_pass
from layerprobe.probe.model_tensors import check_tensors, foreign_prefix
from layerprobe.probe.pretrained import CONFIGURATION, TEXT_ENCODER, find_pretrained
from layerprobe.probe.system import choose_device, torch_threads

OVERLAP = 32  # tokens that two windows of a long text have in common; each counts in one of them


@dataclass(frozen=True)
class TextArchitecture:
    """How to reach the blocks and positions of one text architecture."""

    blocks: Callable[[Any], nn.ModuleList]  # of the loaded model, in order
    first_position: int  # positions below it belong to no token


_BERT = TextArchitecture(blocks=lambda model: model.encoder.layer, first_position=0)
# positions begin after that of the padding token
_ROBERTA = TextArchitecture(blocks=lambda model: model.encoder.layer, first_position=2)
TEXT_ARCHITECTURES = {
    "bert": _BERT,  # MiniLM is BERT in all but width
    "camembert": _ROBERTA,
    "distilbert": TextArchitecture(blocks=lambda model: model.transformer.layer, first_position=0),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,  # DistilRoBERTa too
    "xlm-roberta": _ROBERTA,
}
MIN_COVERAGE = 0.9  # of the vocabulary by a tokenizer; some vocabularies are padded to a round number
EXAMPLE = "the"  # text of the first forward pass
EXAMPLES = (EXAMPLE, "a", "the end of it", "it is the end", "the beginning and the end of it")  # encoded together
NEVER_READ = ("pooler.", "embeddings.position_ids")  # above the last block, and no weight


class TranscriptEncoder(PackableEncoder):
    """A frozen text encoder that returns the hidden states of all layers; `load_text_encoder` makes it."""

    reads: Literal["text"] = "text"
    default_poolings: tuple[str, ...] = ("mean", "first_token")
    adapter = ""
    precision = "float32"

    def __init__(
        self,
        model: Any,
        family: TextArchitecture,
        tokenizer: Any,
        *,
        upstream: str,
        revision: str = "",
        random_init: int | None = None,
        device: str = "cpu",
        forward: str = AUTO,
    ) -> None:
        """Move ``model`` (float32) to ``device``, in evaluation mode."""
        self._model = model.float().eval().requires_grad_(False)
        align_weights(self._model)
        # on a GPU before the weights go there, so that none has to come back
        self._weights_hash = self._hash() if device != "cpu" else None
        self._model.to(device)
        self._hooked = HookedEncoder(self._model, family.blocks(self._model), None)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # one text at a time: a tokenizer changes its settings
        self.device, self.upstream, self.revision, self.random_init = device, upstream, revision, random_init
        self.folder = ""  # absolute path of a local one
        self.merged_weights = ""  # hashes of base and adapter where a PEFT adapter was merged
        self.architecture = type(model).__name__
        self.layers = self._hooked.layers
        self.dim = int(model.config.hidden_size)
        self.longest = min(model.config.max_position_embeddings - family.first_position, tokenizer.model_max_length)
        self.packed: PackedForward | None = None
        self.packing_note = ""  # why texts are encoded singly where packing was wanted
        if is_packed(forward, device=device):
            with multiplying_in(self.precision):
                self._choose_pass_of_many()

    def __repr__(self) -> str:
        return describe_encoder(self)

    @property
    def forward(self) -> str:
        """Which forward pass runs: that of ``transformers``, or a packed one's name."""
        return "transformers" if self.packed is None else self.packed.name

    @property
    def windows(self) -> str:
        """How a long text is cut into windows, as the plan records it."""
        return f"windows of {self.longest} tokens that overlap by {OVERLAP}, each token counted once"

    @property
    def preprocessing(self) -> str:
        """Class of the tokenizer and hash of its rules, as sorted JSON."""
        rules = json.loads(self._tokenizer.backend_tokenizer.to_str())
        for changed_by_use in ("truncation", "padding"):
            del rules[changed_by_use]
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]
        settings = {"tokenizer": type(self._tokenizer).__name__, "rules": digest}
        if code := code_hash(self._tokenizer):
            settings["code"] = code
        return json.dumps(settings, sort_keys=True)

    @property
    def is_reference(self) -> bool:
        """Whether `hidden_states` is `reference_states`: transformers' forward pass of one text."""
        return self.packed is None

    def weights_hash(self) -> str:
        """Return sixteen hex digits over the tensors that a layer depends on, the configuration and its own code.

        They are computed once. Of a base model with a merged PEFT adapter there are sixteen of each, joined by ``+``.
        """
        if self.merged_weights:
            return self.merged_weights
        if self._weights_hash is None:
            self._weights_hash = self._hash()
        return self._weights_hash

    def _hash(self) -> str:
        names = self._model.state_dict()
        return model_hash(self._model, never_read={n for n in names if n.startswith(NEVER_READ)})

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text that fits one window, special tokens included."""
        return list(self._tokenizer.convert_ids_to_tokens(self._tokenizer(text).input_ids))

    def frame_chunks(self, text: str) -> Iterator[FrameChunk]:
        """Encode one text without a batch.

        Args:
            text: of any length, also empty

        Yields:
            the tokens of each of `layers` for each window of the text, a single window if it is not long
        """
        return self._frame_chunks(text, self._reference_states if self.packed is None else self._packed_states)

    def input_chunks(self, text: str) -> list[InputChunk]:
        """Return the windows of one text, on the host."""
        return list(self._input_chunks(text))

    def hidden_states(self, text: str) -> list[Tensor]:
        """Return all tokens of each layer, one tensor ``(n_tokens, dim)`` each."""
        return join_frame_chunks(self.frame_chunks(text))

    def reference_states(self, text: str) -> list[Tensor]:
        """Return what `hidden_states` does, from transformers' own forward pass of one text."""
        return join_frame_chunks(self._frame_chunks(text, self._reference_states))

    def _frame_chunks(self, text: str, run: Callable[[InputChunk], Iterable[Tensor]]) -> Iterator[FrameChunk]:
        for input_chunk in self._input_chunks(text):
            with torch.inference_mode(), multiplying_in(self.precision):
                states = [layer[input_chunk.counted] for layer in run(input_chunk)]
            yield FrameChunk(states, input_chunk.first, input_chunk.total)

    def _reference_states(self, input_chunk: InputChunk) -> list[Tensor]:
        return [layer[0] for layer in self._hooked.states(input_chunk.inputs)]

    def _choose_pass_of_many(self) -> None:
        if own := own_pass(self._model):
            self.packed = own(self._model, _n_tokens, dtype=torch.float32)
            return
        run = self._hooked.states
        examples = [chunk for text in EXAMPLES for chunk in self._input_chunks(text)]
        choice = choose_batches(self._model.config, run=run, exact=run, n_frames=_n_tokens, examples=examples)
        self.packed, self.packing_note = choice.forward, choice.refusal

    def _input_chunks(self, text: str) -> Iterator[InputChunk]:
        """Cut a text into windows with special tokens around each; a token of two windows counts away from the edge.

        The text is tokenized as a whole and cut here, not by ``return_overflowing_tokens``: tokenizers 0.23.2 loses
        what comes after the second window.
        """
        with self._lock:
            whole = self._tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids, special = whole["input_ids"], whole["special_tokens_mask"]
        ordinary = [k for k, is_special in enumerate(special) if not is_special]
        before, after = (ordinary[0], len(ids) - 1 - ordinary[-1]) if ordinary else (1, len(ids) - 1)
        head, body, tail = ids[:before], ids[before : len(ids) - after], ids[len(ids) - after :]
        n_fit = self.longest - len(head) - len(tail)  # tokens of the text in one window
        starts = range(0, max(1, len(body) - OVERLAP), n_fit - OVERLAP)
        windows = [head + body[start : start + n_fit] + tail for start in starts]
        spans = []
        for k, window in enumerate(windows):
            begin = 0 if k == 0 else before + OVERLAP // 2
            end = len(window) - (0 if k == len(windows) - 1 else len(tail) + OVERLAP - OVERLAP // 2)
            spans.append(range(begin, end))
        first, total = 0, sum(map(len, spans))
        for window, span in zip(windows, spans, strict=True):
            mask = torch.ones(1, len(window), dtype=torch.long)
            inputs = {"input_ids": torch.tensor([window]), "attention_mask": mask}
            yield InputChunk(inputs, slice(span.start, span.stop), first, total)
            first += len(span)


def _n_tokens(chunk: InputChunk) -> int:
    return int(chunk.inputs["input_ids"].shape[1])


@dataclass(frozen=True)
class LoadedText:
    """A text model that transformers loaded, with its tokenizer and its origin."""

    model: Any
    family: TextArchitecture
    tokenizer: Any
    upstream: str  # the hub's name, or the folder's
    revision: str  # the hub's commit; "" for a folder
    folder: str  # its absolute path; "" for the hub's
    weights: str = ""  # hashes of base and adapter where a PEFT adapter was merged; "" for the hash of all tensors


def load_text_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    forward: str = AUTO,
    show_download: bool = True,
) -> TranscriptEncoder:
    """Load a text encoder from a folder or the hub, with every weight that its layers need.

    Args:
        name: a transformers folder, or a hub name with an optional ``@revision``
        random_init: seed of random weights, initialised as the architecture does before training; None for trained
            weights
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        forward: ``"packed"`` encodes texts together, ``"single"`` one by one; auto packs them on a GPU
        show_download: whether the hub's progress bars are shown

    Raises:
        InputError: if there is no such model, it is no text encoder, or its tokenizer or a tensor is missing
    """
    device = choose_device(device)
    loaded = load_text_model(name, random_init=random_init, show_download=show_download)
    with torch_threads(1), first_pass(f"encoder {name}", "one word", files="the tokenizer"):
        encoder = TranscriptEncoder(
            loaded.model,
            loaded.family,
            loaded.tokenizer,
            upstream=loaded.upstream,
            revision=loaded.revision,
            random_init=random_init,
            device=device,
            forward=forward,
        )
        encoder.folder, encoder.merged_weights = loaded.folder, loaded.weights
        encoder.hidden_states(EXAMPLE)
    return encoder


def load_text_model(name: str, *, random_init: int | None = None, show_download: bool = True) -> LoadedText:
    """Load a text model in float32 without changing it; arguments and errors as of `load_text_encoder`."""
    found = find_pretrained(name, TEXT_ENCODER, show_download=show_download)
    config = found.config()
    if config.model_type not in TEXT_ARCHITECTURES:
        raise InputError(
            "LP331",
            f"encoder {name} is a {config.model_type!r} model, not a text encoder: these are "
            f"{', '.join(sorted(TEXT_ARCHITECTURES))}.",
        )
    family, tokenizer, weights = TEXT_ARCHITECTURES[config.model_type], found.tokenizer(), ""
    if random_init is None:
        model, report = found.model(config)
        if prefix := foreign_prefix(found.label, report):
            model, report = found.model(config, prefix=prefix)
        check_tensors(found.label, model, report, ignored=NEVER_READ)
        if found.adapter is not None:
            with found.loading():
                never_read = {name for name in model.state_dict() if name.startswith(NEVER_READ)}
                weights = merge_adapter(found.adapter, model, never_read=never_read).weights
    else:
        model = found.untrained(config, seed=random_init)
    _check_tokenizer(tokenizer, config.vocab_size, name)
    return LoadedText(model, family, tokenizer, found.upstream, found.commit, found.local_folder, weights)


def check_text_forward(loaded: LoadedText, name: str) -> None:
    """Run a text model of `load_text_model` on one word, as `load_text_encoder` does for its encoder.

    Raises:
        InputError: if that fails
    """
    with first_pass(f"encoder {name}", "one word", files="the tokenizer"), torch.inference_mode():
        was_training = loaded.model.training
        loaded.model.eval()(**loaded.tokenizer(EXAMPLE, return_tensors="pt"))
        loaded.model.train(was_training)


def reads_text(name: str) -> bool:
    """Return whether a name is a text encoder's; False for one that can't be read, which loading it reports."""
    if is_foreign(name):
        return False
    try:
        return find_pretrained(name, CONFIGURATION).config().model_type in TEXT_ARCHITECTURES
    except InputError:
        return False


def _check_tokenizer(tokenizer: Any, vocabulary: int, name: str) -> None:
    """Refuse the empty tokenizer that transformers makes where its files are missing; every token would be unknown."""
    if not tokenizer.is_fast or not MIN_COVERAGE * vocabulary <= len(tokenizer) <= vocabulary:
        raise InputError(
            "LP306",
            f"encoder {name} has a vocabulary of {vocabulary} tokens and no tokenizer of that size (found "
            f"{len(tokenizer)}). Add its own tokenizer.json, or the files that one is made of, to the folder.",
        )
