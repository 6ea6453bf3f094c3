"""Learning-rate schedules."""

from __future__ import annotations


def schedule(step: int, *, n_steps: int, warmup: float) -> float:
    """What learning rates are multiplied by: up from 0 over the share ``warmup`` of all steps, then down to 0.

    >>> [schedule(k, n_steps=10, warmup=0.2) for k in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rising = max(1, round(warmup * n_steps))
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (n_steps - step) / max(1, n_steps - rising))
