"""The loss 1 - CCC, over a batch that need not fit in memory at once.

CCC is no mean over utterances: the contribution of one depends on all others. So the gradient of a batch is computed in
two passes: first predictions of every part without gradient and the loss's gradient at these predictions, then every
part again with its slice of that gradient. Both passes use the same random state (dropout), so the gradient is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from layerprobe.probe.training.checkpoints import restore_rng, rng_tensors

Part = TypeVar("Part")
SMALLEST = 1e-8  # added to the denominator, so that a constant batch has a gradient


def ccc_loss(prediction: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum over targets of 1 - CCC, a scalar; moments are divided by n (Lin, 1989).

    Args:
        prediction: ``(n_utterances, n_targets)``
        truth: ratings in the same unit, ``(n_utterances, n_targets)``
        weights: weight of each target, ``(n_targets,)``
    """
    prediction, truth = (x.double() if x.dtype == torch.float64 else x.float() for x in (prediction, truth))
    centred, mean = prediction - prediction.mean(dim=0), prediction.mean(dim=0) - truth.mean(dim=0)
    other = truth - truth.mean(dim=0)
    covariance = (centred * other).mean(dim=0)
    denominator = centred.square().mean(dim=0) + other.square().mean(dim=0) + mean.square()
    return (weights * (1 - 2 * covariance / (denominator + SMALLEST))).sum()


def backward_in_parts(
    predict: Callable[[Part], Tensor], parts: Sequence[Part], truth: Tensor, weights: Tensor
) -> float:
    """Accumulate the gradient of the whole batch's loss, part by part, and return the loss.

    Args:
        predict: returns predictions ``(n_part, n_targets)`` of one part
        parts: the parts of the batch, in the order of ``truth``
        truth: ratings, ``(n_utterances, n_targets)``
        weights: weight of each target, ``(n_targets,)``
    """
    if len(parts) == 1:
        loss = ccc_loss(predict(parts[0]), truth, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
    rng_states, predictions = [], []
    with torch.no_grad():
        for part in parts:
            rng_states.append(rng_tensors(truth.device))
            predictions.append(predict(part).detach())
    joined = torch.cat(predictions).requires_grad_(True)
    loss = ccc_loss(joined, truth, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    if joined.grad is None:
        raise RuntimeError("the loss has no gradient with respect to the predictions")
    gradients = torch.split(joined.grad, [len(p) for p in predictions])
    for part, rng_state, gradient in zip(parts, rng_states, gradients, strict=True):
        restore_rng(rng_state, truth.device)
        predict(part).backward(gradient)  # type: ignore[no-untyped-call]
    return float(loss.detach())
