"""The forward pass is compared with transformers' on the first utterance, before anything is written."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.speech_models import load_exact
from helpers.text_models import SENTENCES, save_text_model

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.encoders.diagnostics import composition_errors, deviations
from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.estimate import sample_waveforms
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.extraction.first_utterance import SECONDS, check_first_utterance
from layerprobe.probe.extraction.repair import repair
from layerprobe.probe.forward.packed.grouped import EqualLengths
from layerprobe.probe.progress import LogProgress


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
    monkeypatch.setattr("layerprobe.probe.extraction.extract.check_first_utterance", lambda *_, **__: None)
    state = torch.get_rng_state()
    plain = extract(ten_voices, encoder, tmp_path / "b.zarr")
    assert torch.equal(state, torch.get_rng_state())
    for layer in encoder.layers:
        assert np.array_equal(compared.read_layer(layer), plain.read_layer(layer))


def leaking(encoder, fraction, *, n_together=2):
    """The encoder with a packed pass that adds a fraction of one utterance to the next, in batches of that size on."""
    run = encoder._batch_states if encoder.reads == "audio" else encoder._hooked.states

    def leaky(batch):
        states = run(batch)
        if len(states[0]) < n_together:
            return states
        return [one + fraction * one.roll(1, dims=0) for one in states]

    encoder.packed = EqualLengths(leaky, encoder.packed.n_frames)
    return encoder


def packed(folder, precision="float32"):
    return load_audio_encoder(str(folder), precision=precision, forward="packed")


def test_a_packed_pass_is_compared_alone_and_between_two_others(folders, ten_voices, tmp_path):
    """It is right for an utterance alone."""
    encoder = packed(folders["hubert-pre-norm"])
    audio = example_waveform(0.5, sampling_rate=16_000)
    assert max(deviations(encoder, audio)) < 2e-6
    encoder = leaking(encoder, 1e-3)
    assert min(deviations(encoder, audio)) == pytest.approx(1e-3, rel=0.3)
    ours, theirs = encoder.hidden_states(audio), encoder.reference_states(audio)
    assert all((a - b).norm() < 2e-6 * b.norm() for a, b in zip(ours, theirs, strict=True))
    message = r"on utterance u0, layer .* of the equal lengths forward pass in float32 differs .* Try --forward single "
    with pytest.raises(InputError, match=message):
        extract(ten_voices, encoder, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(("precision", "fraction", "limit"), [("float32", 1e-4, "1e-05"), ("bfloat16", 0.03, "1e-02")])
def test_utterances_that_change_each_other_stop_the_run_before_a_cache_is_made(
    folders, ten_voices, tmp_path, precision, fraction, limit
):
    """In batches of four, as the sample of the corpus is."""
    encoder = leaking(packed(folders["hubert"], precision), fraction, n_together=4)
    message = (
        r"^hubert: layer \d of an utterance changes by \d\.\de-0\d \(relative\) with what it is encoded together with, "
        rf"in the equal lengths forward pass in {precision}; up to {limit} is accepted\. Nothing was written\. "
        r"Use --forward single, and report the encoder with what layerprobe check-encoder prints\. \[LP353\]$"
    )
    with pytest.raises(InputError, match=message):
        extract(ten_voices, encoder, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    few = replace(ten_voices, table=ten_voices.table[:3])
    cache = extract(few, leaking(packed(folders["hubert"], precision), 0.0), tmp_path / "a.zarr")
    (cache.path / "extraction" / "precision_error.csv").unlink()
    with pytest.raises(InputError, match="with what it is encoded together with"):  # nor are rows added
        extract(ten_voices, encoder, cache.path)
    assert len(open_cache(cache.path).utterance_ids) == 3


def test_what_moves_utterances_of_a_pack_is_measured_once_and_kept_in_the_cache(folders, ten_voices, tmp_path, capsys):
    encoder = leaking(packed(folders["hubert"], "bfloat16"), 3e-3, n_together=4)
    cache = extract(ten_voices, encoder, tmp_path / "a.zarr", progress=LogProgress())
    table = pd.read_csv(cache.path / "extraction" / "precision_error.csv", dtype={"layer": str})
    printed = capsys.readouterr().err
    together = "; encoded together (equal lengths), they move each other by at most"
    assert printed.count(f"{together} {table['composition_error'].max():.1e}, see ") == 1
    # by hand: the four sampled utterances in one batch, and each by itself
    sample = sample_waveforms(ten_voices.table, encoder)
    chunks = [encoder.input_chunks(one) for one in sample]
    alone = [encoder.embed_pack([one], poolings=("mean", "std"))[0].flatten(1) for one in chunks]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        batch = encoder.embed_pack([chunks[k] for k in order], poolings=("mean", "std")).flatten(2)
        for k, moved in zip(order, batch, strict=True):
            errors = (moved - alone[k]).norm(dim=1) / alone[k].norm(dim=1)
            assert (errors.numpy() <= table["composition_error"] * (1 + 1e-4)).all()
    assert table["composition_error"].between(1e-4, 6e-3).all()


def test_packs_in_float32_have_a_table_too_and_single_utterances_move_by_nothing(folders, ten_voices, tmp_path):
    exact = extract(ten_voices, packed(folders["hubert"]), tmp_path / "packed.zarr")
    table = pd.read_csv(exact.path / "extraction" / "precision_error.csv", dtype={"layer": str})
    assert (table[["relative_error", "composition_error"]] < 2e-6).all(axis=None)
    encoder = load_audio_encoder(str(folders["hubert"]), precision="bfloat16", forward="single")
    single = extract(ten_voices, encoder, tmp_path / "single.zarr")
    assert (pd.read_csv(single.path / "extraction" / "precision_error.csv")["composition_error"] == 0).all()


class Scarce:
    """A packed pass on a device that holds only so many frames."""

    def __init__(self, forward, capacity):
        self._forward, self._capacity = forward, capacity

    def __getattr__(self, name):
        return getattr(self._forward, name)

    def states(self, pack):
        if pack.n_frames > self._capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self._forward.states(pack)


def test_where_memory_runs_out_the_errors_are_those_of_shorter_utterances(folders, ten_voices, tmp_path, capsys):
    encoder = packed(folders["hubert"])
    encoder.packed = Scarce(encoder.packed, 50)  # of 57, the sample and the first utterance between two others
    cache = extract(ten_voices, encoder, tmp_path / "a.zarr", progress=LogProgress())
    assert cache.n_utterances == 10
    printed = capsys.readouterr().err
    assert re.search(r"\de-0\d; of each the first 0\.2 s at most, because memory ran out with more, see", printed)
    encoder.packed = Scarce(encoder.packed, 30)
    message = r"^hubert: the memory of cpu does not suffice to encode short utterances\. Nothing was written\. "
    with pytest.raises(InputError, match=message):
        extract(ten_voices, encoder, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_where_memory_runs_out_the_errors_of_texts_are_those_of_their_beginnings(ten_voices, tmp_path, capsys):
    manifest = replace(ten_voices, table=ten_voices.table.assign(transcript=SENTENCES[0]))
    encoder = load_text_encoder(str(save_text_model("bert", tmp_path / "bert")), forward="packed")
    encoder.packed = Scarce(encoder.packed, 25)
    extract(manifest, encoder, tmp_path / "a.zarr", progress=LogProgress())
    printed = capsys.readouterr().err
    assert re.search(r"; of each the first \d+ characters at most, because memory ran out with more, see", printed)


def test_few_utterances_are_encoded_together_with_parts_of_themselves(folders):
    """A sample of one could not show what moves it."""
    audio = example_waveform(0.5, sampling_rate=16_000)
    encoder = packed(folders["hubert-pre-norm"])
    assert max(composition_errors(encoder, [audio])) < 2e-6
    assert min(composition_errors(leaking(encoder, 1e-3), [audio])) > 1e-4


def test_a_packed_pass_of_texts_is_compared_with_transformers_and_with_itself(ten_voices, tmp_path):
    tokens = SENTENCES[0].split()
    transcripts = [" ".join([*tokens[k:], *tokens[:k]]) for k in range(9)]  # of equal lengths
    manifest = replace(ten_voices, table=ten_voices.table.assign(transcript=["", *transcripts]))
    folder = str(save_text_model("bert", tmp_path / "bert"))
    encoder = load_text_encoder(folder, forward="packed")
    assert max(deviations(encoder, SENTENCES[0])) < 2e-6
    cache = extract(manifest, encoder, tmp_path / "a.zarr")
    table = pd.read_csv(cache.path / "extraction" / "precision_error.csv", dtype={"layer": str})
    assert table["layer"].tolist() == list(encoder.layers)
    assert (table[["relative_error", "composition_error"]] < 2e-6).all(axis=None)
    with pytest.raises(InputError, match=r"^bert: on utterance u1, layer .* Try --forward single, and report"):
        extract(manifest, leaking(encoder, 1e-3), tmp_path / "b.zarr")
    encoder = leaking(load_text_encoder(folder, forward="packed"), 1e-3, n_together=3)
    with pytest.raises(InputError, match="of an utterance changes by"):
        extract(manifest, encoder, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()
    single = extract(manifest, load_text_encoder(folder), tmp_path / "c.zarr")
    assert not (single.path / "extraction" / "precision_error.csv").exists()
