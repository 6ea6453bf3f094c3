"""The weighted sum of 25 layers, 3 targets, 5 seeds and 5 folds, against gradient descent one model after another.

* ours: the deterministic search, all 75 models together, with the penalty chosen beforehand and not timed
* by descent together (if requested): the same 75 models by mini-batches of gradient descent on 1 - CCC
* the field's loop: each model alone, a stack of layers, softmax, sum, linear head, Adam on batches of 32; a few models
  are run, and their median stands for all

Each stops by its own rule: ours when the error converges, descent when 5 epochs in a row have not raised the score on
the development speakers (its time is to the best epoch, so the waiting is not counted against it). The score next to
each time is Pearson's r on held-out speakers, over all models that were run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from layerprobe.probe.metrics import ccc, pearson
from layerprobe.probe.splits import Split, fold_splits
from layerprobe.probe.weighted_sum.gradient_descent import BATCH, LEARNING_RATE, PATIENCE, concordance, replay
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, Mixer

TARGETS = 3


def residual_stream(
    n: int, n_layers: int, dim: int, rng: np.random.Generator, structure: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Layers that each add something to the one below, with falling spectra; a rating in each of three of them.

    Utterances that are made with equal ``structure`` belong to one encoder and one set of ratings.
    """
    structure = structure or rng
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.7
    turn = np.linalg.qr(structure.standard_normal((dim, dim), dtype=np.float32))[0]
    layer = rng.standard_normal((n, dim), dtype=np.float32) * spectrum
    x, y = np.empty((n_layers, n, dim), dtype=np.float32), np.empty((n, TARGETS))
    homes = [n_layers // 6, n_layers // 2, n_layers * 3 // 4]
    for k in range(n_layers):
        layer = 0.95 * layer + 0.35 * (rng.standard_normal((n, dim), dtype=np.float32) * spectrum) @ turn
        x[k] = layer
        for t in (t for t, home in enumerate(homes) if home == k):
            signal = layer @ (turn.T @ (structure.standard_normal(dim, dtype=np.float32) * np.sqrt(spectrum)))
            y[:, t] = signal / signal.std() + rng.standard_normal(n)
    return x, y


def field_loop(x: np.ndarray, y: np.ndarray, split: Split, seed: int) -> tuple[float, np.ndarray]:
    """Seconds to the best epoch of one model, and its predictions of the held-out speakers then."""
    rows, kept = split.train[split.inner_folds != 0], split.train[split.inner_folds == 0]
    mean = x[:, rows].mean(axis=1, keepdims=True)
    layers = torch.from_numpy(((x - mean) / x[:, rows].std(axis=1, keepdims=True)).transpose(1, 0, 2).copy())
    t = torch.from_numpy((y - y[rows].mean()) / y[rows].std()).float()
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(x.shape[0], requires_grad=True)
    head = torch.nn.Linear(x.shape[2], 1)
    optimiser = torch.optim.Adam([logits, *head.parameters()], lr=LEARNING_RATE)
    began, best, taken, best_test = time.perf_counter(), -2.0, 0.0, np.empty(0)
    fit, waited = torch.from_numpy(rows), 0

    def predict(batch: torch.Tensor) -> torch.Tensor:
        stacked = torch.stack([layers[batch, k] for k in range(x.shape[0])])
        mixed = (torch.softmax(logits, dim=0)[:, None, None] * stacked).sum(dim=0)
        return head(mixed)[:, 0]

    while waited < PATIENCE:
        for batch in fit[torch.randperm(len(fit), generator=generator)].split(BATCH):
            optimiser.zero_grad()
            counted = torch.ones(len(batch), 1)
            (1 - concordance(t[batch][:, None], predict(batch)[:, None], counted)).sum().backward()
            optimiser.step()
        with torch.no_grad():
            development, test = (predict(torch.from_numpy(r)).numpy() for r in (kept, split.test))
        score = ccc(t[kept].numpy(), development)
        waited += 1
        if score > best:
            best, taken, waited = score, time.perf_counter() - began, 0
            best_test = test
    return taken, best_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=5000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--descent", action="store_true", help="all models by descent together, too: takes minutes")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y = residual_stream(options.utterances, options.layers, options.features, rng)
    splits = fold_splits(np.arange(len(y)) // 25, n_folds=5, n_inner_folds=4, rng=rng)
    seeds = tuple(range(5))

    def read(layer: int, rows: np.ndarray) -> np.ndarray:
        return x[layer, rows]

    mixer = Mixer(read, len(x), y, splits=splits)
    began = time.perf_counter()
    penalty = mixer.choose(DEFAULT_PENALTIES, max_iterations=60, seed=0).penalty
    print(f"choosing the penalty on inner folds: {time.perf_counter() - began:.1f} s")
    del mixer
    ratios, n_models = [], TARGETS * len(seeds) * len(splits)
    for repeat in range(options.repeats):
        began = time.perf_counter()
        mixer = Mixer(read, len(x), y, splits=splits)
        prepared = time.perf_counter() - began
        fits = mixer.fit(penalty, max_iterations=60, seeds=seeds)
        ours = time.perf_counter() - began
        alone = []
        for k, split in enumerate(splits[:TARGETS]):
            seconds, test = field_loop(x, y[:, k], split, seed=repeat)
            alone.append((seconds, pearson(y[split.test, k], test)))
        one = statistics.median(s for s, _ in alone)
        ratios.append(n_models * one / ours)
        places = [(s, k, k) for s in seeds for k in range(TARGETS)]
        r_ours = np.mean([pearson(y[splits[k].test, t], fits[s][k].prediction[:, t]) for s, k, t in places])
        print(
            f"{n_models} models: ours {ours:.1f} s ({prepared:.1f} of it to prepare), r {r_ours:.3f}; the field's loop "
            f"{one:.2f} s a model, {n_models * one:.0f} s for all, r {np.mean([r for _, r in alone]):.3f}",
            flush=True,
        )
        if options.descent:
            began = time.perf_counter()
            replayed = replay(read, len(x), y, splits=splits, seeds=seeds)
            seconds = time.perf_counter() - began
            r = np.mean([pearson(y[splits[k].test, t], replayed[s][k].prediction[:, t]) for s, k, t in places])
            print(f"by descent together {seconds:.1f} s with the waiting, r {r:.3f}", flush=True)
    print(f"the field's loop / ours: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
