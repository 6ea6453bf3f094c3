"""Checkpoints of torchaudio, fairseq and s3prl give the layers of the same model in transformers, bit for bit."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import types

import numpy as np
import pytest
import torch
import torchaudio
from helpers.command_line import refused, run
from helpers.speech_models import load_exact
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from torchaudio.models.wav2vec2.utils.import_fairseq import _convert_state_dict
from torchaudio.models.wav2vec2.utils.import_huggingface import _get_config, _get_config_wavlm
from torchaudio.pipelines import Wav2Vec2Bundle
from transformers import HubertConfig, Wav2Vec2Config, WavLMConfig

from layerprobe.probe.encoders.foreign_names import model_settings, settings_of, transformers_names
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import reads_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.settings import encoder_name_in, extraction_plan
from layerprobe.probe.hub import TRUST

KINDS = ("hubert", "hubert-pre-norm", "wav2vec2", "wav2vec2-pre-norm", "wavlm", "wavlm-pre-norm")
STRIDES = "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] * 2"
FAIRSEQ = {  # transformers' names and fairseq's, the other way round than the code reads them
    r"^(feature_extractor\.conv_layers\.\d+)\.conv\.": r"\1.0.",
    r"^feature_projection\.projection\.": "post_extract_proj.",
    r"^feature_projection\.layer_norm\.": "layer_norm.",
    r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0": "encoder.pos_conv.0.weight_g",
    r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1": "encoder.pos_conv.0.weight_v",
    r"^encoder\.pos_conv_embed\.conv\.bias": "encoder.pos_conv.0.bias",
    r"(layers\.\d+)\.layer_norm\.": r"\1.self_attn_layer_norm.",
    r"\.attention\.rel_attn_embed\.": ".self_attn.relative_attention_bias.",
    r"\.attention\.gru_rel_pos_linear\.": ".self_attn.grep_linear.",
    r"\.attention\.gru_rel_pos_const": ".self_attn.grep_a",
    r"\.attention\.": ".self_attn.",
    r"\.feed_forward\.intermediate_dense\.": ".fc1.",
    r"\.feed_forward\.output_dense\.": ".fc2.",
    r"^masked_spec_embed$": "mask_emb",
}


def fairseq_tensors(model):
    pre_norm = model.config.feat_extract_norm == "layer"
    tensors = {}
    for name, tensor in model.state_dict().items():
        renamed = re.sub(r"^(feature_extractor\.conv_layers\.\d+)\.layer_norm\.", rf"\1.2.{'1.' * pre_norm}", name)
        for pattern, replacement in FAIRSEQ.items():
            renamed = re.sub(pattern, replacement, renamed)
        tensors[renamed] = tensor
    return tensors


def fairseq_settings(model):
    config = model.config
    return {
        "encoder_attention_heads": config.num_attention_heads,
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_feature_layers": STRIDES,
        "_name": model.config.model_type,
    }


@pytest.fixture
def trusting(monkeypatch):
    monkeypatch.setenv(TRUST["pickle"], "1")


def assert_same_layers(file, folder):
    ours, whole = load_exact(file), load_exact(folder)
    waveform = np.random.default_rng(0).normal(size=8000).astype(np.float32)
    for states, expected in zip(ours.reference_states(waveform), whole.reference_states(waveform), strict=True):
        assert torch.equal(states, expected)
    return ours


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_torchaudio_next_to_its_config_is_the_same_model(models, folders, tmp_path, trusting, kind):
    torch.save(import_huggingface_model(models[kind]).state_dict(), tmp_path / "model.pth")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folders[kind] / name, tmp_path)
    ours = assert_same_layers(tmp_path / "model.pth", folders[kind])
    assert ours.weights_hash() == load_exact(folders[kind]).weights_hash()
    assert ours.preprocessing == load_exact(folders[kind]).preprocessing


class Dictionary:
    """Stands for fairseq's class of that name, which is not there when the checkpoint is read."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["cfg", "args", "flat", "s3prl"])
def test_a_checkpoint_of_fairseq_is_the_same_model(models, folders, tmp_path, trusting, monkeypatch, kind, layout):
    model, settings = models[kind], fairseq_settings(models[kind])
    module = types.ModuleType("fairseq_data")
    Dictionary.__module__, module.Dictionary = "fairseq_data", Dictionary
    tensors = fairseq_tensors(model)
    extra = {"final_proj.weight": torch.ones(4, 32), "label_embs_concat": torch.ones(4, 4)}
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "fairseq_data", module)
        content = {
            "cfg": {"args": None, "cfg": {"model": settings, "task": {"normalize": True}}, "model": tensors | extra,
                    "task_state": {"dictionaries": [Dictionary()]}},
            "args": {"args": argparse.Namespace(**settings, normalize=True), "model": tensors | extra},
            "flat": {"cfg": settings | {"normalize": True}, "model": tensors},
            "s3prl": {"model_cfg": settings, "task_cfg": {"normalize": True}, "model_weight": tensors,
                      "dictionaries_symbols": [["a"]]},
        }[layout]  # fmt: skip
        torch.save(content, tmp_path / f"{kind.split('-')[0]}.pt")
    ours = assert_same_layers(tmp_path / f"{kind.split('-')[0]}.pt", folders[kind])
    assert ours.architecture == type(model).__name__
    assert '"do_normalize": true' in ours.preprocessing
    head = "2 tensors of a head (final_proj, label_embs_concat) left out."
    assert ours.preprocessing_note == (f"{kind.split('-')[0]}.pt: {head}" if layout in ("cfg", "args") else "")


def test_names_of_fairseq_are_those_of_torchaudios_converter(models):
    for kind in ("hubert", "wav2vec2-pre-norm"):
        tensors = fairseq_tensors(models[kind])
        theirs = transformers_names(_convert_state_dict(tensors))
        ours = transformers_names(tensors)
        ours.pop("masked_spec_embed")  # which torchaudio leaves out
        assert set(ours) == set(theirs) == set(models[kind].state_dict()) - {"masked_spec_embed"}
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_recogniser_of_fairseq_holds_an_encoder_with_settings_of_its_own(models, folders, tmp_path, trusting):
    inner = {"model": fairseq_settings(models["wav2vec2"]), "task": {"normalize": False}}
    tensors = {f"w2v_encoder.w2v_model.{k}": v for k, v in fairseq_tensors(models["wav2vec2"]).items()}
    content = {"cfg": {"model": {"w2v_args": inner, "_name": "wav2vec_ctc"}, "task": {"normalize": False}},
               "model": tensors | {"w2v_encoder.proj.weight": torch.ones(5, 32)}}  # fmt: skip
    torch.save(content, tmp_path / "ctc.pt")
    ours = assert_same_layers(tmp_path / "ctc.pt", rescaled(folders["wav2vec2"], tmp_path / "plain"))
    assert ours.preprocessing_note == "ctc.pt: 1 tensor of a head (w2v_encoder) left out."


def rescaled(folder, to):
    shutil.copytree(folder, to)
    text = (to / "preprocessor_config.json").read_text()
    (to / "preprocessor_config.json").write_text(text.replace('"do_normalize": true', '"do_normalize": false'))
    return to


PUBLISHED = {
    "hubert_base": (torchaudio.models.hubert_base, HubertConfig()),
    "wav2vec2_base": (torchaudio.models.wav2vec2_base, Wav2Vec2Config()),
    "wavlm_base": (torchaudio.models.wavlm_base, WavLMConfig()),
    "hubert_large": (torchaudio.models.hubert_large, HubertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, conv_bias=False,
        feat_extract_norm="layer", do_stable_layer_norm=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_of_a_bare_state_are_those_of_the_published_encoders(name):
    build, config = PUBLISHED[name]
    with torch.device("meta"):
        state = build().state_dict()
    found = settings_of(transformers_names(state), {})
    wanted = {key: getattr(config, key) for key in found}
    assert {k: list(v) if isinstance(v, tuple | list) else v for k, v in wanted.items()} == found


@pytest.mark.parametrize(("kind", "normalises"), [("hubert-pre-norm", True), ("wavlm", False)])
def test_a_bundle_of_torchaudio_is_read_from_its_cache(
    models, folders, tmp_path, trusting, monkeypatch, kind, normalises
):
    """A real bundle whose file is in torch's cache already, so that its own loader downloads nothing."""
    model = models[kind]
    wavlm = kind == "wavlm"
    parameters = (_get_config_wavlm if wavlm else _get_config)(model.config) | {"aux_num_out": None}
    bundle = Wav2Vec2Bundle("small.pth", parameters, 16000, normalises, "WavLM" if wavlm else "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "SMALL_HUBERT", bundle, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(import_huggingface_model(model).state_dict(), tmp_path / "hub" / "checkpoints" / "small.pth")
    folder = folders[kind] if normalises else rescaled(folders[kind], tmp_path / "plain")
    ours = assert_same_layers("torchaudio:SMALL_HUBERT", folder)
    plan = extraction_plan(ours)
    assert (plan.upstream, ours.folder, encoder_name_in(plan)) == ("torchaudio:SMALL_HUBERT", "", plan.upstream)


def test_a_bundle_that_there_is_not_is_named_with_those_that_there_are(trusting):
    with pytest.raises(InputError, match=r"torchaudio has no such encoder; its bundles are .*HUBERT_BASE, .*LP396"):
        load_audio_encoder("torchaudio:HUBERT_TINY")


def test_what_is_a_pickle_has_to_be_trusted(models, tmp_path):
    torch.save({"model": fairseq_tensors(models["hubert"])}, tmp_path / "hubert.pt")
    for name in (tmp_path / "hubert.pt", "torchaudio:HUBERT_BASE"):
        message = refused("check-encoder", "--encoder", name)
        assert "its weights are a pickle, which can run code when it is read" in message
    assert not reads_text(str(tmp_path / "hubert.pt"))
    assert not reads_text("torchaudio:HUBERT_BASE")


def test_from_the_command_line_a_file_is_checked_like_a_folder(models, tmp_path, monkeypatch):
    settings = {"model": fairseq_settings(models["hubert"])}
    torch.save({"cfg": settings, "model": fairseq_tensors(models["hubert"])}, tmp_path / "hubert.pt")
    monkeypatch.setenv(TRUST["pickle"], "1")
    done = run("check-encoder", "--encoder", tmp_path / "hubert.pt")
    assert done.exit_code == 0, done.output
    assert "HubertModel: " in done.stdout


def test_a_missing_or_damaged_file_is_named(tmp_path, trusting):
    with pytest.raises(InputError, match=r"can't be loaded: none\.pt is missing\. Copy or download it again\."):
        load_audio_encoder(str(tmp_path / "none.pt"))
    (tmp_path / "page.pt").write_text("<!doctype html><html></html>")
    with pytest.raises(InputError, match=r"page\.pt is a web page, not the file itself"):
        load_audio_encoder(str(tmp_path / "page.pt"))
    (tmp_path / "noise.pth").write_bytes(bytes(range(1, 200)))
    with pytest.raises(InputError, match=r"noise\.pth is no checkpoint of torch"):
        load_audio_encoder(str(tmp_path / "noise.pth"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {"decoder.weight": torch.ones(2)}, r"\(.* in it\)"),
        (lambda t: {k: v for k, v in t.items() if "pos_conv" not in k}, r"encoder\.pos_conv_embed\S* is missing in it"),
        (lambda t: {}, r"is missing in it"),
    ],
)
def test_another_architecture_names_the_converter(models, tmp_path, trusting, change, reason):
    torch.save({"model": change(fairseq_tensors(models["hubert"]))}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=rf"{reason}.*convert_\*_to_pytorch\.py in src/transformers/models.*LP395"):
        load_audio_encoder(str(tmp_path / "x.pt"))


def test_a_width_without_a_known_number_of_heads_is_refused(models, tmp_path, trusting):
    torch.save(import_huggingface_model(models["hubert"]).state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"put the config\.json of its architecture next to it"):
        load_audio_encoder(str(tmp_path / "x.pth"))


def test_a_tensor_that_is_missing_or_has_another_shape_is_named(models, tmp_path, trusting):
    cut = fairseq_tensors(models["hubert"])
    cut.pop("encoder.layers.1.fc1.weight")
    settings = {"model": fairseq_settings(models["hubert"])}
    torch.save({"cfg": settings, "model": cut}, tmp_path / "cut.pt")
    with pytest.raises(InputError, match=r"lacks encoder\.layers\.1\.feed_forward\.intermediate_dense\.weight, which"):
        load_audio_encoder(str(tmp_path / "cut.pt"))
    wrong = fairseq_tensors(models["hubert"]) | {"encoder.layers.1.fc1.weight": torch.ones(3, 32)}
    torch.save({"cfg": settings, "model": wrong}, tmp_path / "wrong.pt")
    with pytest.raises(InputError, match=r"has the shape \(3, 32\) in the checkpoint, and \(64, 32\) by its config"):
        load_audio_encoder(str(tmp_path / "wrong.pt"))


def test_settings_are_found_in_every_layout():
    settings = {"encoder_attention_heads": 4}
    for stored in ({"cfg": {"model": settings}}, {"args": argparse.Namespace(**settings)}, {"model_cfg": settings}):
        assert model_settings(stored)["encoder_attention_heads"] == 4
    assert model_settings({"cfg": None, "args": None}) == {}
