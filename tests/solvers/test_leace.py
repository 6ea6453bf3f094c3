"""Tests of LEACE: nothing is left of the concept on the rows of the fit, and the package of its authors agrees."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.leace import Whitening, fit_leace, shrinkage


def made(rng, n=300, d=20, q=2):
    """Return correlated embeddings and a concept that is in them."""
    z = rng.normal(size=(n, q))
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + z @ rng.normal(size=(q, d)) + 3.0
    return x, z


@pytest.mark.parametrize("shape", [(300, 20), (60, 200)])
def test_what_remains_is_uncorrelated_with_the_concept(rng, shape):
    x, z = made(rng, *shape)
    erased = fit_leace(x, z)(x)
    correlation = np.corrcoef(erased.T, z.T)[: shape[1], shape[1] :]
    assert np.abs(correlation).max() < 1e-10
    assert np.abs(np.corrcoef(x.T, z.T)[: shape[1], shape[1] :]).max() > 0.2


def test_erasing_twice_changes_nothing_and_the_mean_stays(rng):
    x, z = made(rng)
    eraser = fit_leace(x, z)
    erased = eraser(x)
    np.testing.assert_allclose(eraser(erased), erased, atol=1e-10)
    np.testing.assert_allclose(erased.mean(axis=0), x.mean(axis=0), atol=1e-10)


def test_with_many_rows_no_map_that_erases_changes_less(rng):
    x, z = made(rng, n=20_000, d=5, q=1)
    erased = fit_leace(x, z)(x)
    centred = x - x.mean(axis=0)
    direction = centred.T @ (z - z.mean(axis=0))
    orthogonal = centred - centred @ direction @ direction.T / (direction.T @ direction)  # erases as well
    assert np.abs(orthogonal.T @ z).max() / len(x) < 1e-2
    assert np.square(erased - x).sum() < np.square(orthogonal - centred).sum()


def test_indicators_of_classes_have_one_direction_fewer(rng):
    codes = rng.integers(0, 3, size=300)
    x = rng.normal(size=(300, 12)) + rng.normal(size=(3, 12))[codes]
    eraser = fit_leace(x, np.eye(3)[codes])
    assert eraser.rank == 2
    means = [eraser(x)[codes == c].mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(means, np.tile(means[0], (3, 1)), atol=1e-10)


def test_rows_without_the_concept_do_not_move_its_directions(rng):
    x, z = made(rng)
    z[::3] = np.nan
    known = np.isfinite(z).all(axis=1)
    erased = fit_leace(x, z)(x)
    assert np.abs(np.corrcoef(erased[known].T, z[known].T)[:20, 20:]).max() < 1e-10


def test_the_rank_can_be_cut(rng):
    x, z = made(rng, q=6)
    assert [fit_leace(x, z).rank, fit_leace(x, z, most=4).rank] == [6, 4]


def test_a_concept_that_does_not_vary_removes_nothing(rng):
    x, _ = made(rng)
    eraser = fit_leace(x, np.ones((300, 1)))
    assert eraser.rank == 0
    np.testing.assert_array_equal(eraser(x), x)


def test_what_is_read_and_written_along_directions_is_their_projection_when_whitened(rng):
    whitening = Whitening(np.array([4.0, 1.0, 0.25]))
    directions = np.linalg.qr(rng.normal(size=(3, 2)))[0]
    read, write = whitening.along(directions)
    np.testing.assert_allclose(write.T @ read, np.eye(2), atol=1e-12)
    std = np.sqrt(whitening.variances)[:, None]
    np.testing.assert_allclose((read * std) @ (write / std).T, directions @ directions.T, atol=1e-12)


def test_shrinkage_by_hand():
    # eigenvalues 3 and 1 of 2 features, 8 rows: excess 10 - 16 / 2 = 2, weight 1 - 16 / 8 / 2 = 0
    assert shrinkage(np.array([3.0, 1.0]), 8, 2) == (0.0, 2.0)
    # 16 rows: weight 1 - 16 / 16 / 2 = 1/2, diagonal 1/2 * 4 / 2
    assert shrinkage(np.array([3.0, 1.0]), 16, 2) == (0.5, 1.0)
    assert shrinkage(np.array([2.0, 2.0]), 16, 2) == (0.0, 2.0)


@pytest.mark.parametrize("shape", [(400, 30), (80, 120)])
@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_the_package_of_the_authors_agrees(rng, shape, kind):
    package = pytest.importorskip("concept_erasure")
    torch = pytest.importorskip("torch")
    x, z = made(rng, *shape)
    if kind == "classes":
        z = np.eye(4)[np.argsort(np.argsort(z[:, 0])) * 4 // len(z)]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = package.LeaceEraser.fit(torch.from_numpy(x), torch.from_numpy(z), constrain_cov_trace=False)
    ours = fit_leace(x, z)(x)
    assert np.abs(ours - theirs(torch.from_numpy(x)).numpy()).max() < 1e-4  # of a standard deviation; features have 1
    assert np.abs(ours - x).max() > 0.1
