"""L-BFGS for many smooth problems in parallel, with a history and a step length for each.

One evaluation serves all problems that are still moving, so a pass over the data is paid once for hundreds of fits
(Liu and Nocedal, 1989; step lengths by backtracking with Armijo's condition).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 12
SUFFICIENT = 1e-4  # Armijo's fraction of the decrease that the slope predicts
SHORTEST = 2.0**-12  # step length at which a problem counts as converged
FIRST_STEP = 1.0  # the length of the first step, in units of the parameters

# Which problems (n_active,), their parameters (n_active, n_parameters) -> values (n_active,), gradients as parameters
Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Minimum:
    """Minima that the search reached, one per problem."""

    parameters: Tensor  # (n_problems, n_parameters)
    values: Tensor  # (n_problems,)
    converged: Tensor  # (n_problems,) bool, False where the iterations ran out
    n_evaluations: int


def minimise(evaluate: Evaluate, start: Tensor, *, max_iterations: int, tolerance: float) -> Minimum:
    """Minimise each problem from its row of ``start`` until two steps decrease its value by less than ``tolerance``.

    Args:
        evaluate: values and gradients of some of the problems
        start: ``(n_problems, n_parameters)``
        max_iterations: steps of each problem
        tolerance: relative decrease of the value in a step
    """
    n_problems = len(start)
    x = start.clone()
    every = torch.arange(n_problems, device=start.device)
    value, gradient = evaluate(every, x)
    n_evaluations = 1
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    curvatures: list[Tensor] = []  # 1 / (step . change), 0 where a problem has no curvature estimate
    small_steps = torch.zeros(n_problems, dtype=torch.int64, device=start.device)
    active = every
    for _ in range(max_iterations):
        direction = -_times_inverse_curvature(gradient[active], active, steps, changes, curvatures)
        slope = (direction * gradient[active]).sum(dim=1)
        uphill = slope >= 0
        direction[uphill] = -gradient[active][uphill]
        slope[uphill] = -(gradient[active][uphill] ** 2).sum(dim=1)
        length = torch.ones_like(slope)
        if not steps:
            length = (FIRST_STEP / direction.norm(dim=1).clamp_min(1e-30)).clamp_max(1.0)
        step, change = torch.zeros_like(x), torch.zeros_like(x)
        before = value.clone()
        trying = torch.arange(len(active), device=start.device)  # positions in ``active``
        while len(trying):
            moved = length[trying, None] * direction[trying]
            tried, tried_gradient = evaluate(active[trying], x[active[trying]] + moved)
            n_evaluations += 1
            predicted = length[trying] * slope[trying]
            good = tried <= value[active[trying]] + SUFFICIENT * predicted
            accepted = active[trying[good]]
            step[accepted], change[accepted] = moved[good], tried_gradient[good] - gradient[accepted]
            value[accepted], gradient[accepted] = tried[good], tried_gradient[good]
            # the parabola through value, slope and the value tried, kept between a tenth and a half
            excess = (tried - value[active[trying]] - predicted).clamp_min(1e-30)
            length[trying] *= torch.where(good, 1.0, (-predicted / (2 * excess)).clamp(0.1, 0.5))
            trying = trying[~good & (length[trying] > SHORTEST)]
        x = x + step
        product = (step * change).sum(dim=1)
        learnt = product > 1e-10 * (change**2).sum(dim=1)
        steps, changes = [*steps, step][-HISTORY:], [*changes, change][-HISTORY:]
        curvatures = [*curvatures, torch.where(learnt, 1 / product.clamp_min(1e-30), 0.0)][-HISTORY:]
        small = before - value <= tolerance * before.abs()
        small_steps = torch.where(small, small_steps + 1, 0)
        active = active[small_steps[active] < 2]
        if not len(active):
            break
    converged = torch.ones(n_problems, dtype=torch.bool, device=start.device)
    converged[active] = False
    return Minimum(x, value, converged, n_evaluations)


def _times_inverse_curvature(
    gradient: Tensor, active: Tensor, steps: list[Tensor], changes: list[Tensor], curvatures: list[Tensor]
) -> Tensor:
    """Apply the two loops of L-BFGS to gradients ``(n_active, n_parameters)``, with scalars per row."""
    q, memory = gradient.clone(), []
    for step, change, curvature in zip(reversed(steps), reversed(changes), reversed(curvatures), strict=True):
        s, y, rho = step[active], change[active], curvature[active]
        alpha = rho * (s * q).sum(dim=1)
        q -= alpha[:, None] * y
        memory.append((s, y, rho, alpha))
    if memory:
        s, y, rho, _ = memory[0]
        size = torch.where(rho > 0, 1 / (rho * (y**2).sum(dim=1)).clamp_min(1e-30), 1.0)
        q *= size[:, None]
    for s, y, rho, alpha in reversed(memory):
        q += (alpha - rho * (y * q).sum(dim=1))[:, None] * s
    return q
