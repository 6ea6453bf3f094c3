"""Choice of the packed forward pass that fits an encoder: ours where there is one, else transformers' as measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.grouped import EqualLengths, Masked, Run
from layerprobe.probe.forward.packed.pack import Pack, PackedForward
from layerprobe.probe.forward.packed.text import PackedText, has_packed_text
from layerprobe.probe.forward.packed.wav2vec2 import PackedWav2Vec2, has_packed_forward
from layerprobe.probe.forward.packed.whisper import PackedWhisper, has_packed_whisper

EXACT = 1e-5  # maximum relative error of pooled layers in float32 with which utterances run together
OwnPass = Callable[..., PackedForward]  # class of a packed pass, of encoder, n_frames and dtype
FAILURES = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Trial:
    """A packed pass that was tried on examples."""

    name: str
    error: float  # of a pooled layer in float32, relative to the same example alone; NaN where the pass failed
    failure: str = ""  # what it raised

    @property
    def is_exact(self) -> bool:
        """Whether each example is encoded as if it were alone."""
        return self.error <= EXACT

    def __str__(self) -> str:
        return f"{self.name} fails with {self.failure}" if self.failure else f"{self.name} {self.error:.1e}"


@dataclass(frozen=True)
class PackedChoice:
    """The packed pass of an encoder, and the passes that were tried to find it."""

    forward: PackedForward | None  # None where no pass is exact, so that utterances run singly
    trials: tuple[Trial, ...]  # in the order in which they were tried, the chosen one last

    @property
    def refusal(self) -> str:
        """A sentence that states why utterances run singly; empty where they run together."""
        return "" if self.forward is not None else f"Forward pass: {self}."

    def __str__(self) -> str:
        name = "each utterance singly" if self.forward is None else self.forward.name
        tried = ", ".join(map(str, self.trials))
        return f"{name}; pooled layers against each example alone in float32: {tried}; allowed is {EXACT:.0e}"


OWN_PASSES: tuple[tuple[Callable[[Any], bool], OwnPass], ...] = (
    (has_packed_forward, PackedWav2Vec2),
    (has_packed_whisper, PackedWhisper),
    (has_packed_text, PackedText),
)


def own_pass(encoder: Any) -> OwnPass | None:
    """Return the class of this package's own packed pass of an encoder; None if there is none that computes the same.

    Args:
        encoder: of transformers, in float32
    """
    return next((build for computes, build in OWN_PASSES if _holds(computes, encoder)), None)


def _holds(computes: Callable[[Any], bool], encoder: Any) -> bool:
    try:
        return computes(encoder)
    except AttributeError:  # another version of transformers keeps a part elsewhere, so that it may compute otherwise
        return False


def try_own(own: PackedForward, *, exact: Run, examples: Sequence[InputChunk]) -> PackedChoice:
    """Return the choice of this package's own pass, with its error.

    Args:
        own: in float32
        exact: as of `choose_batches`
        examples: as of `choose_batches`
    """
    return PackedChoice(own, (tried(own, examples, encoded_alone(examples, exact)),))


def choose_batches(
    config: Any,
    *,
    run: Run,
    exact: Run,
    n_frames: Callable[[InputChunk], int],
    examples: Sequence[InputChunk],
) -> PackedChoice:
    """Choose among transformers' batches the first that is exact: masked, equal frames, equal inputs; else none.

    Masked batches come first because any utterances can be in one.

    Args:
        config: of the encoder
        run: transformers' own pass of a batch in the encoder's precision, which returns each layer's frames
            ``(n_inputs, n_frames, dim)``
        exact: the same in float32
        n_frames: numbers of frames of a chunk
        examples: chunks on which batches are tried, of equal and of different numbers of frames
    """
    alone = encoded_alone(examples, exact)
    trials = []
    if len({x.shape for chunk in examples for x in chunk.inputs.values()}) > 1:
        trials.append(tried(Masked(exact, n_frames, config, longer=float("inf")), examples, alone))
        if trials[-1].is_exact:
            return PackedChoice(Masked(run, n_frames, config), tuple(trials))
    for reads in (config, None):
        trials.append(tried(EqualLengths(exact, n_frames, reads), examples, alone))
        if trials[-1].is_exact:
            return PackedChoice(EqualLengths(run, n_frames, reads), tuple(trials))
    return PackedChoice(None, tuple(trials))


def encoded_alone(examples: Sequence[InputChunk], exact: Run) -> list[Tensor]:
    """Return each example's pooled layers ``(n_layers, 2 * dim)`` by transformers' pass in float32 without a batch."""
    return [torch.stack([_pooled(states[0], chunk) for states in exact(chunk.inputs)]) for chunk in examples]


def tried(forward: PackedForward, examples: Sequence[InputChunk], alone: Sequence[Tensor]) -> Trial:
    """Run examples together and compare each layer's mean and standard deviation with those of each alone.

    Args:
        forward: a pass in float32
        examples: chunks
        alone: their result of `encoded_alone`
    """
    pack = Pack.of([[chunk] for chunk in examples], forward.n_frames)
    errors = []
    try:
        for layer, stream in enumerate(forward.states(pack)):
            for chunk, k, (begin, end) in zip(pack.chunks, pack.utterances, pack.spans(), strict=True):
                ours, theirs = _pooled(stream[begin:end], chunk), alone[k][layer]
                errors.append((ours - theirs).norm() / theirs.norm())
    except torch.OutOfMemoryError:
        raise
    except FAILURES as failure:  # what another version or an unknown model makes of a batch is not known beforehand
        return Trial(forward.name, float("nan"), f"{type(failure).__name__}: {str(failure).partition(chr(10))[0]}")
    return Trial(forward.name, float(torch.stack(errors).max()))


def _pooled(frames: Tensor, chunk: InputChunk) -> Tensor:
    counted = frames[chunk.counted].double()
    return torch.cat([counted.mean(dim=0), counted.std(dim=0, correction=0)])
