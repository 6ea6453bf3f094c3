"""Learning-rate schedule: linear warm-up, then linear decay."""

from __future__ import annotations


def schedule(step: int, *, n_steps: int, warmup: float) -> float:
    """Return the factor of the learning rate at a step: a linear warm-up, then a linear decay to 0.

    Args:
        step: counted from 0
        n_steps: total number of steps
        warmup: fraction of the steps in which the factor rises to 1, 0 to 1

    >>> [schedule(k, n_steps=10, warmup=0.2) for k in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rising = max(1, round(warmup * n_steps))
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (n_steps - step) / max(1, n_steps - rising))
