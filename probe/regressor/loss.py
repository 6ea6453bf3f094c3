"""1 - CCC as a loss, over a batch that need not fit in memory at once.

CCC is no mean over utterances: what one adds to it depends on all others. So the gradient of a batch is made in two
rounds: predictions of every part without a gradient, then the loss's slope at these predictions, then every part once
more with its share of that slope. Both rounds draw the same chance (dropout), so the gradient is that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
SMALLEST = 1e-8  # added to the spread, so that a constant batch has a slope


def ccc_loss(prediction: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum over targets of 1 - CCC; moments are divided by n (Lin, 1989).

    Args:
        prediction: ``(n_utterances, n_targets)``
        truth: the same
        weights: ``(n_targets,)``
    """
    prediction, truth = (x.double() if x.dtype == torch.float64 else x.float() for x in (prediction, truth))
    apart, mean = prediction - prediction.mean(dim=0), prediction.mean(dim=0) - truth.mean(dim=0)
    other = truth - truth.mean(dim=0)
    covariance = (apart * other).mean(dim=0)
    spread = apart.square().mean(dim=0) + other.square().mean(dim=0) + mean.square()
    return (weights * (1 - 2 * covariance / (spread + SMALLEST))).sum()


def backward_in_parts(
    predict: Callable[[Part], Tensor], parts: Sequence[Part], truth: Tensor, weights: Tensor
) -> float:
    """Add the gradient of the whole batch's loss to the parameters, a part at a time; the loss.

    Args:
        predict: predictions ``(n_part, n_targets)`` of one part
        parts: of the batch, in the order of ``truth``
        truth: ``(n_utterances, n_targets)``
        weights: ``(n_targets,)``
    """
    if len(parts) == 1:
        loss = ccc_loss(predict(parts[0]), truth, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
    chances, predictions = [], []
    with torch.no_grad():
        for part in parts:
            chances.append(_rng_state(truth.device))
            predictions.append(predict(part).detach())
    eval_every = torch.cat(predictions).requires_grad_(True)
    loss = ccc_loss(eval_every, truth, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    assert eval_every.grad is not None
    slopes = torch.split(eval_every.grad, [len(p) for p in predictions])
    for part, chance, slope in zip(parts, chances, slopes, strict=True):
        _set_rng_state(chance, truth.device)
        predict(part).backward(slope)  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _rng_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The state of what draws dropout, on the CPU and on a GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_rng_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
