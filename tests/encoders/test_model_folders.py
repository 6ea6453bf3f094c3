"""A model's folder is read whole or refused: damaged files, adapters, quantised weights, and sizes no machine holds."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from helpers.asr_models import save_ctc
from helpers.command_line import refused
from helpers.model_folders import changed, rewritten
from helpers.speech_models import load_exact, save_model
from helpers.text_models import save_text_model
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from layerprobe.probe.cost.parameter_count import load_model_spec
from layerprobe.probe.data.asr import load_recogniser
from layerprobe.probe.encoders.loading import load_audio_encoder, load_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.model_size import check_model_size, n_parameters
from layerprobe.probe.regressor.plan import plan_training
from layerprobe.probe.regressor.saving import (
    build,
    load_regressors,
    read_regressor,
    write_configurations,
    write_regressor,
    write_weights,
)
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 133\n"
DAMAGE = {
    "git-lfs": lambda _: POINTER,
    "web page": lambda _: b"\n<!DOCTYPE html><html><body>Please log in</body></html>",
    "empty": lambda _: b"",
    "cut": lambda content: content[: 2 * len(content) // 3],
    "garbage": lambda _: bytes(range(1, 256)) * 9,
    "null": lambda _: b"null",
}


@pytest.fixture(scope="module")
def models_on_disk(folders, ten_voices, tmp_path_factory):
    """A folder of each kind that a command reads."""
    root = tmp_path_factory.mktemp("whole")
    text, trained = save_text_model("bert", root / "bert"), root / "trained"
    loaded, plan = plan_training(
        ten_voices, encoders=EncoderOptions(audio_encoder=str(folders["hubert"]), text_encoder=str(text)),
        head=HeadOptions(hidden=8), optimiser=OptimiserOptions(seeds=1),
    )  # fmt: skip
    write_configurations(trained, loaded)
    write_weights(build(loaded, plan), trained / "seed-0")
    write_regressor(trained, plan, fingerprint="0", intervals={})
    return {"speech": folders["hubert"], "text": text, "recogniser": save_ctc(root / "ctc"), "regressor": trained}


READERS = {
    "speech": lambda folder: load_encoder(str(folder)),
    "text": lambda folder: load_encoder(str(folder)),
    "recogniser": lambda folder: load_recogniser(str(folder)),
    "count": lambda folder: load_model_spec(str(folder)),
    "regressor": lambda folder: list(load_regressors(read_regressor(folder))),
}
CASES = [
    ("speech", "config.json"),
    ("speech", "preprocessor_config.json"),
    ("speech", "model.safetensors"),
    ("text", "config.json"),
    ("text", "tokenizer.json"),
    ("text", "tokenizer_config.json"),
    ("text", "model.safetensors"),
    ("count", "config.json"),
    ("recogniser", "config.json"),
    ("recogniser", "processor_config.json"),
    ("recogniser", "vocab.json"),
    ("recogniser", "model.safetensors"),
    ("regressor", "regressor.json"),
    ("regressor", "audio/config.json"),
    ("regressor", "audio/preprocessor_config.json"),
    ("regressor", "text/config.json"),
    ("regressor", "text/tokenizer.json"),
    ("regressor", "seed-0/model.safetensors"),
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("reader", "file"), CASES)
def test_a_damaged_file_is_one_sentence_that_names_it(models_on_disk, tmp_path, reader, file, damage):
    copy = tmp_path / "model"
    shutil.copytree(models_on_disk["speech" if reader == "count" else reader], copy)
    content = DAMAGE[damage]((copy / file).read_bytes())
    (copy / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        READERS[reader](copy)
    message = str(caught.value)
    assert "\n" not in message
    assert file.rpartition("/")[2] in message
    if damage in ("git-lfs", "web page", "empty") and file != "regressor.json":
        assert damage in message


def test_every_reader_reads_what_is_whole(models_on_disk):
    for reader, read in READERS.items():
        read(models_on_disk["speech" if reader == "count" else reader])


@pytest.mark.parametrize("kind", ["speech", "text", "recogniser"])
@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.bin"])
def test_an_adapter_next_to_base_weights_is_refused(models_on_disk, tmp_path, kind, file):
    copy = tmp_path / "model"
    shutil.copytree(models_on_disk[kind], copy)
    (copy / file).write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match=rf"comes with an adapter \({file}\) next to its weights, so that which of"):
        READERS[kind](copy)
    if kind == "speech":
        assert "comes with an adapter" in refused("check-encoder", "--encoder", copy)
        assert "comes with an adapter" in refused("count-params", "--audio-encoder", copy)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
@pytest.mark.parametrize("kind", ["speech", "text", "recogniser"])
def test_a_quantised_checkpoint_is_refused_without_its_package(models_on_disk, tmp_path, kind, method):
    copy = changed(models_on_disk[kind], tmp_path / "model", quantization_config={"quant_method": method})
    with pytest.raises(InputError, match=rf"model is quantised \({method} in config\.json\), which is not read: "):
        READERS[kind](copy)


QUERY = "encoder.layers.1.attention.q_proj"


def as_bytes(tensors):
    tensors[f"{QUERY}.weight"] = (100 * tensors[f"{QUERY}.weight"]).to(torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_bytes, rf"holds {QUERY}\.weight in I8, a quantised weight"),
        (lambda t: t.update({f"{QUERY}.lora_A.weight": torch.ones(2, 32)}), rf"has {QUERY}\.lora_A\.weight inside"),
        (lambda t: t.update({f"hubert.{QUERY}.weight_scale": torch.ones(1)}), r"weight_scale inside its layers"),
        (lambda t: t.update({"encoder.layers.2.adapter_layer.norm.bias": torch.ones(2)}), r"adapter_layer\.norm\.bias"),
        (lambda t: t.update({"feature_projection.projection.lora_B.weight": torch.ones(2)}), r"lora_B\.weight inside"),
    ],
)
def test_tensors_that_would_be_cast_or_ignored_are_refused(folders, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_audio_encoder(str(rewritten(folders["hubert"], tmp_path / "model", change)))


def test_heads_and_blocks_that_the_configuration_cuts_off_are_no_fault(folders, tmp_path):
    def with_head(tensors):
        tensors["lm_head.weight"] = torch.ones(3, 32)
        tensors["encoder.layers.3.attention.q_proj.weight"] = torch.ones(32, 32)

    copy = rewritten(folders["hubert"], tmp_path / "model", with_head)
    assert load_exact(copy).weights_hash() == load_exact(folders["hubert"]).weights_hash()


def test_a_shard_that_is_missing_or_cut_is_named(models, tmp_path):
    folder = tmp_path / "sharded"
    models["hubert"].save_pretrained(folder, max_shard_size="60KB")
    save_model(models["hubert"], tmp_path / "one")
    shutil.copy(tmp_path / "one" / "preprocessor_config.json", folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert load_exact(folder).weights_hash() == load_exact(tmp_path / "one").weights_hash()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"{shards[1].name} is cut: it holds \d+ of the \d+ bytes that its header"):
        load_audio_encoder(str(folder))
    shards[1].unlink()
    with pytest.raises(InputError, match=rf"{shards[1].name} is missing"):
        load_audio_encoder(str(folder))


def test_whisper_with_another_number_of_bands_is_refused_before_anything_is_written(models, ten_voices, tmp_path):
    config = WhisperConfig(**models["whisper"].config.to_diff_dict() | {"num_mel_bins": 128})
    folder = save_model(WhisperModel(config).eval(), tmp_path / "whisper-128")
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    out = tmp_path / "cache.zarr"
    message = refused("extract", ten_voices.path, "--encoder", folder, "--out", out)
    assert "its first forward pass, of one second of audio, failed: " in message
    assert "Take config.json and preprocessor_config.json from the same checkpoint" in message
    assert not out.exists()


def test_a_text_encoder_with_a_foreign_tokenizer_is_refused_when_it_is_loaded(models_on_disk, tmp_path):
    copy = changed(models_on_disk["text"], tmp_path / "model", type_vocab_size=2)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    ids = {token: k + 200 for token, k in tokenizer["model"]["vocab"].items()}  # as many, but none that it embeds
    tokenizer["model"]["vocab"] = ids
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=r"its first forward pass, of one word, failed: .* and the tokenizer from the"):
        load_text_encoder(str(copy))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 10**6, "num_attention_heads": 10}, r"its config\.json describes \d\.\de\+\d+ parameters"),
        (
            {"num_hidden_layers": 10**5},
            r"num_hidden_layers is 100000 in its config\.json, outside the range of 1 to 1000\.",
        ),
        ({"num_hidden_layers": 0}, r"num_hidden_layers is 0 in its config\.json, outside the range"),
        (
            dict.fromkeys(("conv_dim", "conv_kernel", "conv_stride"), [1] * 5000) | {"num_feat_extract_layers": 5000},
            r"the length of conv_dim is 5000 in its config\.json",
        ),
        ({"intermediate_size": 10**12}, r"its config\.json describes \d\.\de\+\d+ parameters"),
    ],
)
@pytest.mark.parametrize("reader", ["speech", "random", "count", "check"])
def test_a_configuration_of_absurd_size_is_refused_before_it_is_built(folders, tmp_path, settings, message, reader):
    copy = changed(folders["hubert"], tmp_path / "model", **settings)
    read = {
        "speech": lambda: load_encoder(str(copy)),
        "random": lambda: load_encoder(str(copy), random_init=0),
        "count": lambda: load_model_spec(str(copy)),
        "check": lambda: load_audio_encoder(str(copy)),
    }
    with pytest.raises(InputError, match=message):
        read[reader]()


def test_a_size_is_counted_without_building_and_compared_with_the_memory(models):
    for kind in ("hubert", "wavlm", "whisper", "wav2vec2-bert"):
        model = models[kind]
        assert n_parameters(model.config) == sum(p.numel() for p in model.parameters())
    config = models["hubert"].config
    check_model_size("m", config, memory=4.0 * n_parameters(config))
    with pytest.raises(InputError, match=r"describes \d\.\de\+04 parameters, 0 GB in float32, and this machine has 0 "):
        check_model_size("m", config, memory=4.0 * n_parameters(config) - 1)
    check_model_size("m", config, in_memory=False, memory=0.0)


@pytest.mark.parametrize("settings", [{"num_attention_heads": 8}, {"hidden_act": "relu"}, {"layer_norm_eps": 1e-3}])
def test_settings_that_change_layers_and_no_weight_change_the_hash(folders, tmp_path, settings):
    other, whole = load_exact(changed(folders["hubert"], tmp_path / "model", **settings)), load_exact(folders["hubert"])
    assert other.weights_hash() != whole.weights_hash()
    renamed = changed(folders["hubert"], tmp_path / "named", id2label={"0": "anger"}, transformers_version="4.1")
    assert load_exact(renamed).weights_hash() == whole.weights_hash()


def mms(folder, language, models):
    """A wav2vec 2.0 with adapters of its attention, and one of them as a file, as MMS has them."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        settings = models["wav2vec2-pre-norm"].config.to_diff_dict() | {"adapter_attn_dim": 4}
        model = Wav2Vec2Model(Wav2Vec2Config(**settings)).eval()
    save_model(model, folder)
    adapter = {f"wav2vec2.{n}": t for n, t in model.state_dict().items() if "adapter_layer" in n}
    save_file(adapter | {"lm_head.weight": torch.ones(2, 2)}, folder / f"adapter.{language}.safetensors")
    return folder


def test_an_adapter_of_a_language_is_part_of_the_weights_or_refused(models, tmp_path):
    folder = mms(tmp_path / "mms", "deu", models)
    encoder = load_exact(folder)
    assert encoder.preprocessing_note == "mms: the adapter of the language 'deu' is part of its weights."
    assert encoder.forward == "transformers"
    tensors = load_file(folder / "adapter.deu.safetensors")
    save_file({name: t + 1 for name, t in tensors.items()}, folder / "adapter.deu.safetensors")
    with pytest.raises(InputError, match=r"adapters of languages \(adapter\.deu\.safetensors\), and its main weights"):
        load_audio_encoder(str(folder))


def test_weights_of_another_shape_than_the_configuration_are_named(folders, tmp_path):
    copy = changed(folders["hubert"], tmp_path / "model", intermediate_size=48)
    with pytest.raises(
        InputError, match=r"has the shape \(.*64.*\) in the checkpoint, and \(.*48.*\) by its config\.json"
    ):
        load_audio_encoder(str(copy))


@pytest.mark.parametrize(("key", "value"), [("sampling_rate", 0), ("sampling_rate", "16k"), ("feature_size", 10**9)])
def test_a_setting_that_no_extractor_can_have_is_named(folders, tmp_path, key, value):
    copy = tmp_path / "model"
    shutil.copytree(folders["hubert"], copy)
    settings = json.loads((copy / "preprocessor_config.json").read_text()) | {key: value}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=rf"{key} is {value!r} in preprocessor_config\.json, which is no whole number"):
        load_audio_encoder(str(copy))


def test_settings_of_no_feature_extractor_are_no_settings(folders, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folders["hubert"], copy)
    (copy / "preprocessor_config.json").write_text('{"processor_class": "Own"}')
    with pytest.raises(InputError, match=r"preprocessor_config\.json holds no settings of a feature extractor"):
        load_audio_encoder(str(copy))


def test_a_recogniser_without_its_output_layer_is_refused(models_on_disk, tmp_path):
    copy = rewritten(models_on_disk["recogniser"], tmp_path / "model", lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(InputError, match=r"lacks lm_head\.weight, which would be initialised at random\."):
        load_recogniser(str(copy))


def test_a_recogniser_that_decodes_with_a_language_model_needs_its_packages(models_on_disk, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(models_on_disk["recogniser"], copy)
    settings = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(json.dumps(settings | {"processor_class": "Wav2Vec2ProcessorWithLM"}))
    with pytest.raises(InputError, match=r"decodes with a language model, which needs pyctcdecode and kenlm: pip inst"):
        load_recogniser(str(copy))


def test_an_error_without_a_message_is_named_by_its_kind():
    assert first_line(KeyError()) == "KeyError"
    assert first_line(KeyError("metadata")) == "'metadata' is missing"
    assert first_line(ValueError("\n  first. \n second")) == "first"
    assert first_line(ValueError("Field 'x':\n    TypeError: a text.")) == "Field 'x': TypeError: a text"
