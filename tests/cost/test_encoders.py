"""The costs of encoders by where a run found them, and what is stated of one that is gone."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from helpers.speech_models import KINDS

from layerprobe.probe.cost import encoders as under_test
from layerprobe.probe.cost.encoders import EncoderSource, find_costs
from layerprobe.probe.cost.layers import count_layers
from layerprobe.probe.cost.parameter_count import ModelSpec, load_model_spec
from layerprobe.probe.cost.settings import COSTS, Measuring
from layerprobe.probe.exceptions import InputError

FAST = Measuring(seconds=1)
LAYERS = ("0", "1", "2", "3")


def test_a_folder_is_counted_and_measured_with_its_weights_or_random_ones(folders, tmp_path):
    bare = tmp_path / "hubert"
    bare.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folders["hubert"] / name, bare)
    sources = [EncoderSource("whole", LAYERS, str(folders["hubert"])), EncoderSource("bare", LAYERS, str(bare))]
    found = find_costs(sources, FAST)
    counts = count_layers(load_model_spec(str(bare)), seconds=1)
    for cost in found.values():
        np.testing.assert_array_equal(cost.multiply_adds, counts.multiply_adds)
        np.testing.assert_array_equal(cost.parameters, counts.parameters)
        assert (np.diff(cost.real_time_factor) > 0).all()
        assert (cost.precision, cost.forward, cost.reason) == ("float32", "native", "")
    assert [cost.weights for cost in found.values()] == ["trained", "random"]
    assert found["whole"].at("all") == found["whole"].at("3")
    assert found["whole"].at("1")["parameters"] == counts.parameters[1]


def test_without_a_benchmark_nothing_is_loaded(folders):
    (cost,) = find_costs([EncoderSource("e", LAYERS, str(folders["hubert"]))], Measuring(is_timed=False)).values()
    assert np.isnan(cost.real_time_factor).all()
    assert (cost.weights, cost.precision) == ("", "")


def test_acoustic_features_have_a_time_alone():
    layers = ("log_mel", "mfcc", "f0", "loudness", "duration")
    (cost,) = find_costs([EncoderSource("acoustic", layers, "acoustic")], FAST).values()
    assert np.isnan(cost.multiply_adds).all()
    assert cost.parameters.tolist() == [0] * 5
    assert (cost.real_time_factor >= 0).all()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (EncoderSource("e", LAYERS, "", reason="e is gone."), "^e is gone\\.$"),
        (EncoderSource("e", LAYERS, "/nowhere/at/all"), "."),
        (
            EncoderSource("e", ("0", "1"), "{wavlm}"),
            "has the layers 0 to 3, and e in the run 0 to 1\\. Name",
        ),
        (
            EncoderSource("e", LAYERS, "{wavlm}", reads="text"),
            "wavlm reads audio, and e in the run text\\. Name its folder",
        ),
    ],
)
def test_an_encoder_that_is_not_found_is_not_known_for_a_reason(folders, source, reason):
    source = EncoderSource(
        source.name, source.layers, source.found_as.format(**folders), reads=source.reads, reason=source.reason
    )
    (cost,) = find_costs([source], FAST).values()
    for name in COSTS:
        assert np.isnan(getattr(cost, name)).all()
        assert getattr(cost, name).shape == (len(source.layers),)
    assert re.search(reason, cost.reason)


def test_encoders_beyond_the_memory_are_counted_and_not_measured(folders, monkeypatch):
    monkeypatch.setattr(under_test, "usable_memory", lambda: 4.0 * 1.5 * count("hubert"))
    sources = [EncoderSource(k, LAYERS, str(folders[k])) for k in ("hubert", "wavlm")]
    found = find_costs(sources, FAST)
    assert np.isfinite(found["hubert"].real_time_factor).all()
    assert np.isnan(found["wavlm"].real_time_factor).all()
    assert np.isfinite(found["wavlm"].multiply_adds).all()
    assert "more than is free next to the other encoders. Measure its run alone." in found["wavlm"].reason


def count(kind):
    return float(count_layers(ModelSpec(kind, KINDS[kind][0], False), seconds=1).parameters[-1])


def test_durations_and_threads_have_ranges():
    for wrong in ({"seconds": 0}, {"seconds": 31}, {"threads": 0}):
        with pytest.raises(InputError, match="Choose 1 to 30 seconds, and 1 thread or more"):
            Measuring(**wrong)
