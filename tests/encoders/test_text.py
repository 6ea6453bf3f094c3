"""Text encoders against transformers itself, and against the same text read in other company."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.text_models import AFTER, BEFORE, LONGEST, SENTENCES, TEXT_KINDS, save_text_model
from helpers.voices import write_table
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.inputs import NO_TEXT
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.encoders.text import OVERLAP, load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.forward.pooling import pool_frame_chunks

KINDS = sorted(TEXT_KINDS)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    return {kind: save_text_model(kind, root / kind) for kind in KINDS}


@pytest.fixture
def corpus(tmp_path, write_audio):
    """Four utterances, one with an empty transcript."""
    transcripts = [*SENTENCES[:3], "   "]
    rows = [
        {
            "utterance_id": f"u{k}",
            "path": write_audio(f"u{k}.wav", 0.5).name,
            "speaker_id": f"s{k}",
            "arousal": 1 + k,
            "transcript": text,
            "asr_transcript": text.replace("the", "a"),
        }
        for k, text in enumerate(transcripts)
    ]
    return write_table(tmp_path, rows)


def reference_states(folder, text):
    """What transformers itself gives: its own ``hidden_states``, which for text begin and end where ours do."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [s[0] for s in model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_of_transformers(texts, kind):
    encoder = load_text_encoder(str(texts[kind]))
    ours, theirs = encoder.hidden_states(SENTENCES[0]), reference_states(texts[kind], SENTENCES[0])
    assert encoder.layers == ("0", "1", "2", "3")
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_mean_is_that_of_sentence_encoders_and_the_first_token_is_the_first(texts):
    """Reimers and Gurevych (2019): the mean over the attention mask, the tokens at either end among them."""
    encoder = load_text_encoder(str(texts["bert"]))
    tokenizer, model = AutoTokenizer.from_pretrained(texts["bert"]), AutoModel.from_pretrained(texts["bert"]).eval()
    batch = tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    with torch.inference_mode():
        last = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    means = (last * mask).sum(dim=1) / mask.sum(dim=1)
    for text, mean, first in zip(SENTENCES, means, last[:, 0], strict=True):
        pooled = pool_frame_chunks(encoder.frame_chunks(text), poolings=("mean", "first_token"))
        np.testing.assert_allclose(pooled[-1, 0], mean, atol=1e-5)
        np.testing.assert_allclose(pooled[-1, 1], first, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_long_text_is_read_in_windows_and_each_token_counts_once(texts, kind):
    encoder = load_text_encoder(str(texts[kind]))
    text = " ".join(SENTENCES * 3)
    tokens = AutoTokenizer.from_pretrained(texts[kind])(text).input_ids
    assert len(tokens) > 2 * LONGEST
    frame_chunks = list(encoder.frame_chunks(text))
    assert len(frame_chunks) > 2
    assert [s.first for s in frame_chunks] == np.cumsum([0, *(len(s.layers[0]) for s in frame_chunks)])[:-1].tolist()
    assert {s.total for s in frame_chunks} == {len(tokens)}
    assert len(encoder.hidden_states(text)[0]) == len(tokens)
    # layer 0 depends on its token and the position in the window only, so that the token can be recovered from it
    table = encoder._model.get_input_embeddings().weight
    window = LONGEST - 2
    inside, place = [], 0
    while True:  # the slow way: which place in its window each token that counts has
        n = min(window, len(tokens) - 2 - place)
        last = place + n == len(tokens) - 2
        begin, end = 0 if place == 0 else OVERLAP // 2, n if last else n - OVERLAP // 2
        inside += [(k + 1, place + k) for k in range(begin, end)]
        if last:
            break
        place += n - OVERLAP
    assert [where for _, where in inside] == list(range(len(tokens) - 2))
    embeddings = encoder._model.embeddings
    first_position = TEXT_KINDS[kind][2]
    expected = embeddings.LayerNorm(
        table[[tokens[where + 1] for _, where in inside]]
        + embeddings.position_embeddings.weight[[k + first_position for k, _ in inside]]
        + embeddings.token_type_embeddings.weight[0]
    )
    np.testing.assert_allclose(encoder.hidden_states(text)[0][1:-1], expected.detach(), atol=1e-5)


def test_a_text_is_read_alone_so_its_company_changes_no_bit(texts, corpus, tmp_path):
    manifest, encoder = read_manifest(corpus), load_text_encoder(str(texts["bert"]))
    extract(manifest, encoder, tmp_path / "all.zarr", jobs=2)
    together = open_cache(tmp_path / "all.zarr")
    for k, utterance_id in enumerate(together.utterance_ids):
        one = replace(manifest, table=manifest.table[manifest.table["utterance_id"] == utterance_id])
        if utterance_id == "u3":  # a manifest without any text is refused, so another utterance is included
            one = replace(manifest, table=manifest.table[2:])
        extract(one, encoder, tmp_path / f"{k}.zarr", jobs=1)
        alone = open_cache(tmp_path / f"{k}.zarr")
        for layer in together.plan.layers:
            np.testing.assert_array_equal(together.read_layer(layer)[k], alone.read_layer(layer)[-1])


def test_a_cache_of_text_needs_no_audio_and_marks_empty_transcripts(texts, corpus, tmp_path):
    done = run_extraction(read_manifest(corpus), load_encoder(str(texts["distilbert"])), tmp_path / "text.zarr")
    cache = open_cache(tmp_path / "text.zarr")
    assert (done.n_extracted, done.n_without_text, len(done.quarantine)) == (4, 1, 0)
    assert cache.utterance_ids.tolist() == ["u0", "u1", "u2", "u3"]
    assert [s == NO_TEXT for s in cache.audio_hashes] == [False, False, False, True]
    assert cache.plan.poolings == ("mean", "first_token")
    assert cache.plan.is_stack
    assert load_text_encoder(str(texts["distilbert"])).tokens("") == [BEFORE, AFTER]


def test_a_changed_transcript_is_encoded_again(texts, corpus, tmp_path):
    encoder, out = load_text_encoder(str(texts["bert"])), tmp_path / "text.zarr"
    extract(read_manifest(corpus), encoder, out)
    corpus.write_text(corpus.read_text().replace("wonderful", "dreadful"))
    before = open_cache(out).read_layer("1")
    assert run_extraction(read_manifest(corpus), encoder, out).n_extracted == 1
    after = open_cache(out).read_layer("1")
    assert (before != after).any(axis=1).tolist() == [True, *[False] * (len(after) - 1)]


def test_another_text_column_is_another_plan(texts, corpus, tmp_path):
    encoder, out = load_text_encoder(str(texts["bert"])), tmp_path / "text.zarr"
    extract(read_manifest(corpus), encoder, out)
    with pytest.raises(InputError, match="text_column 'transcript', not 'asr_transcript'"):
        extract(read_manifest(corpus), encoder, out, text_column="asr_transcript")
    extract(read_manifest(corpus), encoder, tmp_path / "asr.zarr", text_column="asr_transcript")
    human, asr = open_cache(out), open_cache(tmp_path / "asr.zarr")
    assert not np.array_equal(human.read_layer("3")[0], asr.read_layer("3")[0])


def test_a_manifest_without_text_is_refused_with_advice(texts, corpus, tmp_path):
    with pytest.raises(InputError, match=r"reads text, and the manifest has none in a column 'spoken'.*--text-column"):
        extract(read_manifest(corpus), load_text_encoder(str(texts["bert"])), tmp_path / "x.zarr", text_column="spoken")


def test_a_checkpoint_that_lacks_a_block_is_refused_and_a_pooler_is_not_missed(texts, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(texts["bert"], folder)
    tensors = load_file(folder / "model.safetensors")
    without = {k: v for k, v in tensors.items() if not k.startswith("pooler.")}
    save_file(without, folder / "model.safetensors", metadata={"format": "pt"})
    whole = load_text_encoder(str(folder))
    assert whole.weights_hash() == load_text_encoder(str(texts["bert"])).weights_hash()
    less = {k: v for k, v in without.items() if "layer.1.output.dense.bias" not in k}
    save_file(less, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks encoder\.layer\.1\.output\.dense\.bias, which would be initialised"):
        load_text_encoder(str(folder))


def test_random_weights_are_a_control_and_leave_the_processs_generator_alone(texts):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    one, two = (load_text_encoder(str(texts["bert"]), random_init=seed) for seed in (0, 1))
    assert torch.equal(torch.rand(4), expected)
    assert len({one.weights_hash(), two.weights_hash(), load_text_encoder(str(texts["bert"])).weights_hash()}) == 3


def test_an_encoder_of_audio_or_without_tokenizer_is_refused(texts, folders, tmp_path):
    with pytest.raises(InputError, match="is a 'hubert' model, not a text encoder: these are bert, camembert"):
        load_text_encoder(str(folders["hubert"]))
    with pytest.raises(InputError, match="is a text encoder, which runs in float32 only"):
        load_encoder(str(texts["bert"]), precision="bfloat16")
    folder = tmp_path / "mute"
    shutil.copytree(texts["mpnet"], folder, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(InputError, match=r"no tokenizer of that size \(found \d+\)"):
        load_text_encoder(str(folder))
