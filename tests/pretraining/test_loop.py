"""The loop of a training: when it evaluates and saves, what it logs, and that a kill changes no bit."""

from __future__ import annotations

import math

import pytest
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.loop import LoopPlan, mean_loss, run_loop


class Walk:
    """One parameter that takes random steps, with an optimiser that has a memory."""

    def __init__(self, *, tensors=False):
        torch.manual_seed(0)
        self.parameter = torch.nn.Parameter(torch.zeros(3))
        self.optimiser = torch.optim.AdamW([self.parameter], lr=0.1)
        self.tensors, self.made, self.n_evaluated, self.refused_to = tensors, [], 0, None

    def parameters(self):
        return {"parameter": self.parameter}

    def steps(self, begin):
        step = begin
        while True:  # the loop knows where the end is
            self.optimiser.zero_grad()
            loss = ((self.parameter - torch.randn(3)) ** 2).sum()
            loss.backward()
            self.optimiser.step()
            self.made.append(step)
            step += 1
            yield loss.detach() if self.tensors else float(loss.detach())

    def evaluate(self):
        self.n_evaluated += 1
        return {"size": float(self.parameter.detach().norm())}

    def note(self, row):
        return f"size {row['size']:.3f}"

    def values(self):
        return {"made": len(self.made)}

    def resume(self, values):
        if self.refused_to is not None:
            raise InputError("LP000", self.refused_to)
        self.resumed_from = values


def plan(folder, **changes):
    return LoopPlan(
        **{"task": "walk", "n_steps": 10, "eval_every": 4, "state": folder / "state", "device": "cpu"} | changes
    )


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("stop_after", [3, 4, 6, 9])
def test_a_killed_walk_ends_where_a_whole_one_does(tmp_path, stop_after, tensors):
    whole = Walk(tensors=tensors)
    expected = run_loop(whole, whole.optimiser, plan(tmp_path / "a"))
    cut = Walk(tensors=tensors)
    run_loop(cut, cut.optimiser, plan(tmp_path / "b", stop_after=stop_after))
    again = Walk(tensors=tensors)
    if (tmp_path / "b" / "state").exists():
        torch.manual_seed(99)  # chance is that of the state
    log = run_loop(again, again.optimiser, plan(tmp_path / "b"))
    assert torch.equal(again.parameter, whole.parameter)
    assert log.equals(expected)
    saved = stop_after // 4 * 4 if stop_after % 4 else stop_after - 4  # a kill at a step comes before its state
    assert again.made == list(range(saved, 10))


def test_it_evaluates_every_few_steps_and_at_the_end(tmp_path):
    walk = Walk()
    losses = []
    steps = walk.steps
    walk.steps = lambda begin: (losses.append(loss) or loss for loss in steps(begin))
    log = run_loop(walk, walk.optimiser, plan(tmp_path, evaluate_first=True))
    assert log["step"].tolist() == [0, 4, 8, 10]
    assert math.isnan(log["loss"][0])
    assert log["loss"][1:].tolist() == [pytest.approx(sum(losses[a:b]) / (b - a)) for a, b in ((0, 4), (4, 8), (8, 10))]
    assert walk.n_evaluated == 4
    assert walk.made[-1] == 9


def test_a_training_may_refuse_to_resume_and_nothing_is_filled(tmp_path):
    first, second = Walk(), Walk()
    run_loop(first, first.optimiser, plan(tmp_path, stop_after=6))
    second.refused_to = "the audio has changed"
    with pytest.raises(InputError, match="the audio has changed"):
        run_loop(second, second.optimiser, plan(tmp_path))
    assert not second.parameter.any()
    second.refused_to = None
    run_loop(second, second.optimiser, plan(tmp_path))
    assert second.resumed_from["made"] == 4


def test_a_loss_that_is_no_number_is_not_saved(tmp_path):
    walk = Walk()
    walk.steps = lambda begin: iter([1.0, math.inf, 1.0, 1.0])
    with pytest.raises(InputError, match=r"The loss is not finite after 4 steps\. Lower --learning-rate\."):
        run_loop(walk, walk.optimiser, plan(tmp_path))
    assert not (tmp_path / "state").exists()


def test_losses_are_averaged_as_numbers_or_as_tensors():
    assert mean_loss([1.0, 2.0]) == 1.5
    assert mean_loss([torch.tensor(1.0), torch.tensor(2.0)]) == 1.5
