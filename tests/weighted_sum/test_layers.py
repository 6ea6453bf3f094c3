"""A stack of layers gives the same bits in memory and read again."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.weighted_sum.layers import LayerStack


@pytest.fixture
def layers(rng):
    return (rng.normal(size=(5, 300, 4)) * np.array([1, 1000, 0.1, 1]) + 50).astype(np.float32)


def values(stack):
    return np.stack([layer.numpy() for layer in stack])


def test_layers_that_are_read_again_equal_those_in_memory(layers, rng):
    rows, reads = rng.permutation(300)[:250], []

    def read(layer, rows):
        reads.append(layer)
        return layers[layer, rows]

    kept, streamed = (LayerStack(read, 5, rows, memory=memory) for memory in (10**9, 0))
    assert (kept.in_memory, streamed.in_memory) == (True, False)
    expected = values(kept)
    reads.clear()
    for _ in range(2):
        np.testing.assert_array_equal(values(streamed), expected)
    assert reads == [0, 1, 2, 3, 4] * 2
    np.testing.assert_allclose(np.diff(expected, axis=1), np.diff(layers[:, rows], axis=1), atol=1e-3)


def test_parts_are_those_rows_and_layers(layers):
    stack = LayerStack(lambda layer, rows: layers[layer, rows], 5, np.arange(300), memory=0)
    places = np.array([7, 3, 200])
    np.testing.assert_array_equal(values(stack.some(places)), values(stack)[:, places])
    for part in (stack.first(2), stack.some(places).first(2)):
        assert part.n_layers == 2
    np.testing.assert_array_equal(values(stack.first(2)), values(stack)[:2])


def test_a_reader_s_error_is_not_lost(layers):
    def read(layer, rows):
        if layer == 3:
            raise OSError("the disk is gone")
        return layers[layer, rows]

    stack = LayerStack(read, 5, np.arange(300), memory=0)
    with pytest.raises(OSError, match="the disk is gone"):
        values(stack)
