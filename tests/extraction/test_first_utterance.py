"""The forward pass is compared with transformers' on the first utterance, before anything is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.speech_models import load_exact

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.encoders.diagnostics import deviations
from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.extraction.first_utterance import SECONDS, check_first_utterance
from layerprobe.probe.extraction.repair import repair


def spoilt(encoder):
    """The encoder with a native forward pass whose second block has other weights than transformers'."""
    blocks = encoder._native._blocks
    down = blocks[1].down
    blocks[1] = replace(blocks[1], down=replace(down, bias=down.bias + torch.linspace(-1, 1, len(down.bias))))
    return encoder


def counted(encoder, monkeypatch):
    """Record the number of samples of each pass of transformers."""
    lengths, run = [], encoder.reference_states

    def reference_states(waveform):
        lengths.append(len(waveform))
        return run(waveform)

    monkeypatch.setattr(encoder, "reference_states", reference_states)
    return lengths


def test_a_forward_pass_that_differs_stops_the_run_before_a_cache_is_made(folders, ten_voices, tmp_path):
    encoder, out = spoilt(load_exact(folders["hubert"])), tmp_path / "a.zarr"
    message = (
        r"^hubert: on utterance u0, layer [23] of the native forward pass in float32 differs from transformers' by "
        r"\d\.\de-0\d \(relative\), more than 1e-05\. Nothing was written\."
    )
    with pytest.raises(InputError, match=message):
        extract(ten_voices, encoder, out)
    assert not out.exists()


def test_a_transformer_of_scikit_learn_is_not_fitted_with_a_pass_that_differs(folders, ten_voices):
    pytest.importorskip("sklearn")
    from layerprobe import LayerEmbedder

    paths = list(ten_voices.table["path"][:2])
    assert LayerEmbedder(load_exact(folders["hubert"])).fit(paths).transform(paths).shape[0] == 2
    with pytest.raises(InputError, match="on the first recording, layer"):
        LayerEmbedder(spoilt(load_exact(folders["hubert"]))).fit(paths)


def test_a_resumed_cache_keeps_its_rows_and_gets_no_wrong_ones(folders, ten_voices, tmp_path):
    few = replace(ten_voices, table=ten_voices.table[:3])
    extract(few, load_exact(folders["hubert"]), tmp_path / "a.zarr")
    with pytest.raises(InputError, match="on utterance u3, layer"):
        extract(ten_voices, spoilt(load_exact(folders["hubert"])), tmp_path / "a.zarr")
    assert list(open_cache(tmp_path / "a.zarr").utterance_ids) == ["u0", "u1", "u2"]


def test_a_repair_encodes_nothing_with_a_pass_that_differs(folders, ten_voices, tmp_path):
    extract(ten_voices, load_exact(folders["hubert"]), tmp_path / "a.zarr")
    files = (path for path in (tmp_path / "a.zarr" / "embeddings").rglob("*") if path.is_file())
    block = next(path for path in sorted(files) if path.name != "zarr.json")
    block.write_bytes(b"damaged")
    with pytest.raises(InputError, match="on utterance u0, layer"):
        repair(tmp_path / "a.zarr", ten_voices, spoilt(load_exact(folders["hubert"])))
    assert block.read_bytes() == b"damaged"


def test_one_utterance_is_compared_once(folders, ten_voices, tmp_path, monkeypatch):
    encoder = load_exact(folders["hubert"])
    lengths = counted(encoder, monkeypatch)
    assert run_extraction(ten_voices, encoder, tmp_path / "a.zarr").n_extracted == 10
    assert len(lengths) == 1
    run_extraction(ten_voices, encoder, tmp_path / "a.zarr")  # nothing is left to extract
    assert len(lengths) == 1


def test_at_most_ten_seconds_are_compared_and_what_can_not_be_read_is_passed_over(folders, write_audio, monkeypatch):
    path = write_audio("long.wav", 12.0)
    table = pd.DataFrame({"utterance_id": ["gone", "long"], "path": [str(path.with_name("gone.wav")), str(path)]})
    encoder = load_exact(folders["hubert"])
    lengths = counted(encoder, monkeypatch)
    check_first_utterance(encoder, table)
    assert lengths == [SECONDS * 16_000]
    check_first_utterance(encoder, table[:1])
    assert lengths[1:] == [16_000]  # an example stands in
    with pytest.raises(InputError, match="on an example, layer"):
        check_first_utterance(spoilt(encoder), table[:1])


def test_a_pass_of_transformers_is_not_compared_with_itself_and_16_bits_are(folders, ten_voices, monkeypatch):
    same = load_exact(folders["wavlm"])
    lengths = counted(same, monkeypatch)
    check_first_utterance(same, ten_voices.table)
    assert lengths == []
    for kind in ("wavlm", "hubert"):
        encoder = load_audio_encoder(str(folders[kind]), precision="bfloat16")
        lengths = counted(encoder, monkeypatch)
        check_first_utterance(encoder, ten_voices.table)
        assert len(lengths) == 1
        audio = example_waveform(1.0, sampling_rate=16_000)
        assert 1e-4 < max(deviations(encoder, audio)) < 5e-2


def test_a_value_that_is_no_number_is_a_difference(folders, ten_voices):
    encoder = load_exact(folders["hubert"])
    blocks = encoder._native._blocks
    blocks[2] = replace(blocks[2], down=replace(blocks[2].down, bias=blocks[2].down.bias * float("nan")))
    assert np.isnan(max(deviations(encoder, example_waveform(0.5, sampling_rate=16_000))[3:]))
    with pytest.raises(InputError, match="differs from transformers' by nan"):
        check_first_utterance(encoder, ten_voices.table)


def test_the_comparison_changes_no_bit(folders, ten_voices, tmp_path, monkeypatch):
    encoder = load_exact(folders["hubert"])
    compared = extract(ten_voices, encoder, tmp_path / "a.zarr")
    monkeypatch.setattr("layerprobe.probe.extraction.extract.check_first_utterance", lambda *_: None)
    state = torch.get_rng_state()
    plain = extract(ten_voices, encoder, tmp_path / "b.zarr")
    assert torch.equal(state, torch.get_rng_state())
    for layer in encoder.layers:
        assert np.array_equal(compared.read_layer(layer), plain.read_layer(layer))
