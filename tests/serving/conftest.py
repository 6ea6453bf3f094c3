"""A small predictor, and a server of it with low limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.predictors import write_small_predictor
from helpers.serving import Running, serving

from layerprobe.probe.predictors.predictor import Predictor, load_predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_predictor(write_small_predictor(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[Running]:
    with serving(predictor, max_mb=1, max_seconds=20, timeout=5) as running:
        yield running
