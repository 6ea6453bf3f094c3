"""Text upstreams: the words of a transcript become the hidden states of every layer, by the layer convention of sound.

Layer 0 is what enters the first block, the embeddings after their norm; layer k leaves block k
(`probe.encoders.speech`). The frames of a text are its tokens, with those that the tokenizer sets before and after, as
sentence encoders average them (Reimers and Gurevych, 2019). Each text is read alone, so there is no padding. A
transcript without words is read as the encoder reads the empty text, and the cache names it
(`probe.data.inputs.NO_TEXT`).

Only this file knows transformers for text.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.architectures import InputChunk
from layerprobe.probe.encoders.base import FrameChunk
from layerprobe.probe.encoders.hooks import HookedEncoder, tensors_hash
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import hub_commit, quiet_transformers, weights_asked_for, why_not_loaded

OVERLAP = 32  # tokens that two windows of a long text share; the outer half of them counts in neither


@dataclass(frozen=True)
class TextArchitecture:
    """One text architecture, taken apart."""

    blocks: Callable[[Any], nn.ModuleList]  # of the loaded model, in order
    first_position: int  # positions below it are no token's


_BERT = TextArchitecture(blocks=lambda model: model.encoder.layer, first_position=0)
_ROBERTA = TextArchitecture(blocks=lambda model: model.encoder.layer, first_position=2)  # after the padding token's
TEXT_ARCHITECTURES = {
    "bert": _BERT,  # MiniLM is BERT in all but width
    "camembert": _ROBERTA,
    "distilbert": TextArchitecture(blocks=lambda model: model.transformer.layer, first_position=0),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,  # DistilRoBERTa too
    "xlm-roberta": _ROBERTA,
}
SMALLEST_SHARE = 0.9  # of the vocabulary that a tokenizer knows; some are padded to a round number
NEVER_READ = ("pooler.", "embeddings.position_ids")  # what stands above the last block, and a table of numbers


class TextEncoder:
    """A frozen text encoder whose layers are read; made by `load_text_encoder`."""

    reads: Literal["text"] = "text"
    default_poolings: tuple[str, ...] = ("mean", "first_token")
    adapter = ""
    precision = "float32"
    forward = "transformers"

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
    ) -> None:
        """Put ``model`` (float32) on ``device``, in eval mode for good."""
        self._model = model.float().eval().requires_grad_(False).to(device)
        self._hooked = HookedEncoder(self._model, family.blocks(self._model), None)
        self._tokenizer, self._turn = tokenizer, threading.Lock()  # one text at a time: it keeps its settings in itself
        self.device, self.upstream, self.revision, self.random_init = device, upstream, revision, random_init
        self.architecture = type(model).__name__
        self.layers = self._hooked.layers
        self.dim = int(model.config.hidden_size)
        self.longest = min(model.config.max_position_embeddings - family.first_position, tokenizer.model_max_length)

    @property
    def windows(self) -> str:
        """How a long text is read, in words for the plan."""
        return f"windows of {self.longest} tokens that share {OVERLAP}, each token counted once"

    @property
    def preprocessing(self) -> str:
        """What becomes of a text before it is read, as sorted JSON."""
        rules = json.loads(self._tokenizer.backend_tokenizer.to_str())
        for changed_by_use in ("truncation", "padding"):
            del rules[changed_by_use]
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]
        return json.dumps({"tokenizer": type(self._tokenizer).__name__, "rules": digest}, sort_keys=True)

    def weights_hash(self) -> str:
        """Sixteen hex digits over name, shape and bytes of every tensor that a layer is made of."""
        names = self._model.state_dict()
        return tensors_hash(self._model, never_read={n for n in names if n.startswith(NEVER_READ)})

    def tokens(self, text: str) -> list[str]:
        """What the encoder reads of a text that is not long, from its first token to its last."""
        return list(self._tokenizer.convert_ids_to_tokens(self._tokenizer(text).input_ids))

    def frame_chunks(self, text: str) -> Iterator[FrameChunk]:
        """Every layer's tokens of one text, read alone.

        Args:
            text: of any length, and of none

        Yields:
            for each window of the text, one if it is not long, its stretch of tokens of each of `layers`
        """
        for input_chunk in self._input_chunks(text):
            with torch.inference_mode():
                states = self._hooked.states(input_chunk.inputs)
            yield FrameChunk([layer[0, input_chunk.counted] for layer in states], input_chunk.first, input_chunk.total)

    def hidden_states(self, text: str) -> list[Tensor]:
        """All tokens of each layer, ``(n_tokens, dim)``, in one tensor each."""
        read = [list(frame_chunk.layers) for frame_chunk in self.frame_chunks(text)]
        return [torch.cat(layer) for layer in zip(*read, strict=True)]

    def _input_chunks(self, text: str) -> Iterator[InputChunk]:
        """Windows with what the tokenizer sets around each; a shared token counts where it is less at the edge.

        The text is tokenized whole and cut here, not by ``return_overflowing_tokens``: tokenizers 0.23.2 loses what is
        behind the second window.
        """
        with self._turn:
            whole = self._tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids, special = whole["input_ids"], whole["special_tokens_mask"]
        words = [k for k, is_special in enumerate(special) if not is_special]
        before, after = (words[0], len(ids) - 1 - words[-1]) if words else (1, len(ids) - 1)
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


@dataclass(frozen=True)
class LoadedText:
    """What transformers loads for a name."""

    model: Any
    family: TextArchitecture
    tokenizer: Any
    upstream: str  # the hub's name, or the folder's
    revision: str  # the hub's commit; "" for a folder


def load_text_encoder(
    name: str, *, random_init: int | None = None, device: str | None = None, show_download: bool = True
) -> TextEncoder:
    """Load a text encoder from a folder or the hub, with every weight that its layers need, to be read with.

    Args:
        name: a transformers folder, or a hub name with an optional ``@revision``
        random_init: seed for weights drawn as the architecture draws them before training; None for trained ones
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if nothing is found there, it reads no text, its tokenizer is missing, or a tensor is
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_text_model(name, random_init=random_init, show_download=show_download)
    return TextEncoder(
        loaded.model,
        loaded.family,
        loaded.tokenizer,
        upstream=loaded.upstream,
        revision=loaded.revision,
        random_init=random_init,
        device=device,
    )


def load_text_model(name: str, *, random_init: int | None = None, show_download: bool = True) -> LoadedText:
    """Load a text model in float32, as it is; arguments and errors as of `load_text_encoder`."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = Path(name)
    local = folder.is_dir()
    with quiet_transformers(bars=show_download and not local), torch.random.fork_rng(devices=[]):
        try:
            source, revision = (str(folder), None) if local else hub_commit(name)
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
            if config.model_type not in TEXT_ARCHITECTURES:
                raise InputError(
                    f"encoder {name} is a {config.model_type!r} model; words can be read by "
                    f"{', '.join(sorted(TEXT_ARCHITECTURES))}."
                )
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, use_fast=True)
            if random_init is None:
                model, report = AutoModel.from_pretrained(
                    source, revision=revision, dtype=torch.float32, output_loading_info=True,
                    **weights_asked_for(name, folder),
                )  # fmt: skip
                _refuse_missing(report["missing_keys"], name)
            else:
                torch.manual_seed(random_init)
                model = AutoModel.from_config(config)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(why_not_loaded(name, folder, error, holds="the tokenizer")) from error
    _refuse_foreign_tokenizer(tokenizer, config.vocab_size, name)
    upstream = folder.resolve().name if local else source
    return LoadedText(model, TEXT_ARCHITECTURES[config.model_type], tokenizer, upstream, revision or "")


def reads_text(name: str) -> bool:
    """Whether a name leads to a text encoder; False where it leads to nothing, which the loading of sound will tell."""
    from transformers import AutoConfig

    folder = Path(name)
    try:
        with quiet_transformers(bars=False):
            source, revision = (str(folder), None) if folder.is_dir() else hub_commit(name)
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
            return config.model_type in TEXT_ARCHITECTURES
    except (InputError, OSError, ValueError, RuntimeError, KeyError):
        return False


def _refuse_foreign_tokenizer(tokenizer: Any, vocabulary: int, name: str) -> None:
    """Where its files are missing transformers makes an empty one, by which every word would be unknown."""
    if not tokenizer.is_fast or not SMALLEST_SHARE * vocabulary <= len(tokenizer) <= vocabulary:
        raise InputError(
            f"encoder {name} has a vocabulary of {vocabulary} tokens and no tokenizer of that size (found "
            f"{len(tokenizer)}). Put its own tokenizer.json, or the files that one is made of, beside config.json."
        )


def _refuse_missing(missing: set[str], name: str) -> None:
    needed = sorted(key for key in missing if not key.startswith(NEVER_READ))
    if needed:
        others = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise InputError(
            f"encoder {name}: the checkpoint lacks {needed[0]}{others}, which would be filled at random. "
            "Take a whole checkpoint, or ask for untrained weights with --random-init SEED."
        )
