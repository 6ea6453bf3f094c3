"""PEFT adapters are merged into their base: layers equal those of PEFT's unmerged model, and the plan names both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.command_line import run
from helpers.fork_server import ForkServer
from helpers.model_folders import rewritten
from helpers.speech_models import load_exact
from helpers.text_models import save_text_model
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    HubertForSequenceClassification,
    HubertModel,
    WavLMForCTC,
    WhisperForAudioClassification,
)

from layerprobe.probe import hub
from layerprobe.probe.encoders.loading import load_audio_encoder, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.settings import encoder_name_in, extraction_plan
from layerprobe.probe.hub import TRUST

# of transformers 5, about an attribute that PEFT reads while a test trains an adapter
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

REGEX = r"hubert\.encoder\.layers\.[01]\..*k_proj"  # names the model as it was called in training
ADAPTERS = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "v_proj", "projector"], modules_to_save=["classifier"]),
    "rslora": LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, target_modules=["out_proj"], rank_pattern={r"layers\.1\.\S*out_proj": 2}
    ),
    "dora": LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "intermediate_dense"], task_type="SEQ_CLS"),
    "ia3": IA3Config(target_modules=["k_proj", "output_dense"], feedforward_modules=["output_dense"]),
    "all": LoraConfig(r=2, target_modules="all-linear", bias="all"),
    "regex": LoraConfig(r=2, target_modules=REGEX, modules_to_save=["feature_projection.projection"]),
}


def tuned(kind, settings, folder, to):
    """PEFT's own model of a class with a head, every tensor of the adapter random, and saved as PEFT saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = get_peft_model(kind.from_pretrained(folder), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if any(part in name for part in ("lora_", "ia3_", "modules_to_save")):
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    model.eval().save_pretrained(to)
    return model


def base_of(model):
    """The encoder within PEFT's model, its changes not merged."""
    inner = model.get_base_model()
    return getattr(inner, inner.base_model_prefix, inner)


@pytest.fixture(scope="module")
def tuned_folders(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("peft")
    kind = HubertForSequenceClassification
    return {name: (tuned(kind, settings, folders["hubert"], root / name), root / name) for name, settings in
            ADAPTERS.items()}  # fmt: skip


@pytest.fixture
def waveform(rng):
    return rng.normal(size=8000).astype(np.float32)


def layers_of(model, encoder, waveform):
    inputs = encoder.input_chunks(waveform)[0].inputs
    with torch.inference_mode():
        return [states[0] for states in model(**inputs, output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("name", ADAPTERS)
def test_merged_layers_equal_those_of_the_unmerged_model(folders, tuned_folders, waveform, name):
    model, folder = tuned_folders[name]
    encoder = load_exact(folder, device="cpu")
    expected, plain = layers_of(base_of(model), encoder, waveform), load_exact(folders["hubert"], device="cpu")
    for states, unmerged in zip(encoder.reference_states(waveform), expected, strict=True):
        assert float((states - unmerged).abs().max() / unmerged.abs().max()) < 1e-6
    changed = [
        float((a - b).abs().max())
        for a, b in zip(encoder.hidden_states(waveform), plain.hidden_states(waveform), strict=True)
    ]
    assert max(changed) > 1e-2
    assert encoder.forward == plain.forward == "native"


def test_the_plan_holds_the_hash_of_the_base_and_of_the_adapter(folders, tuned_folders, tmp_path):
    weights = {name: load_exact(folder).weights_hash() for name, (_, folder) in tuned_folders.items()}
    bases, adapters = zip(*(one.split("+") for one in weights.values()), strict=True)
    assert set(bases) == {load_exact(folders["hubert"]).weights_hash()}
    assert len(set(adapters)) == len(ADAPTERS)
    assert all(len(one) == 16 for one in adapters)
    other = rewritten(folders["hubert"], tmp_path / "other", lambda t: t["encoder.layer_norm.bias"].add_(1))
    copy = moved(tuned_folders["lora"][1], tmp_path / "lora", base_model_name_or_path=str(other))
    base, adapter = load_exact(copy).weights_hash().split("+")
    assert (base, adapter) == (load_exact(other).weights_hash(), weights["lora"].split("+")[1])
    scaled = moved(tuned_folders["lora"][1], tmp_path / "scaled", lora_alpha=16)
    assert load_exact(scaled).weights_hash() not in weights.values()


def moved(folder, to, **settings):
    """A copy of an adapter with other settings."""
    shutil.copytree(folder, to)
    config = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps(config | settings))
    return to


def test_a_plan_names_the_adapters_folder_and_finds_it_again(tuned_folders):
    folder = tuned_folders["lora"][1]
    encoder = load_exact(folder)
    plan = extraction_plan(encoder)
    assert (plan.upstream, plan.revision, plan.weights) == ("lora", "", encoder.weights_hash())
    assert encoder_name_in(plan, encoder.folder) == str(folder.resolve())


def test_what_was_merged_and_left_out_is_reported(folders, tuned_folders):
    encoder = load_exact(tuned_folders["lora"][1])
    merged, left_out = encoder.preprocessing_note.split("). ", 1)
    assert merged == f"lora: a PEFT adapter, merged into its base model {folders['hubert']} (weights " + (
        encoder.weights_hash()
    )
    assert left_out == "lora: 4 tensors of a head (classifier, projector) left out."
    printed = run("check-encoder", "--encoder", tuned_folders["dora"][1])
    assert printed.exit_code == 0, printed.output
    assert "merged into its base model" in printed.output


@pytest.mark.parametrize(("kind", "architecture"), [("wavlm", WavLMForCTC), ("whisper", WhisperForAudioClassification)])
def test_other_architectures_merge_too(folders, waveform, tmp_path, kind, architecture):
    settings = LoraConfig(r=2, target_modules=["q_proj"] if kind == "whisper" else ["output_dense"])
    model = tuned(architecture, settings, folders[kind], tmp_path / "tuned")
    encoder = load_exact(tmp_path / "tuned", device="cpu")
    inner = model.get_base_model().encoder if kind == "whisper" else base_of(model)
    expected = layers_of(inner, encoder, waveform)
    for states, unmerged in zip(encoder.reference_states(waveform)[:3], expected[:3], strict=True):
        assert float((states - unmerged[: len(states)]).abs().max() / unmerged.abs().max()) < 1e-6


def test_a_text_encoder_merges_too(tmp_path):
    base = save_text_model("bert", tmp_path / "bert")
    model = tuned(AutoModel, LoraConfig(r=2, target_modules=["query", "pooler.dense"]), base, tmp_path / "tuned")
    encoder, plain = load_encoder(str(tmp_path / "tuned"), device="cpu"), load_encoder(str(base), device="cpu")
    inputs = encoder.input_chunks("the end")[0].inputs
    with torch.inference_mode():
        expected = model.get_base_model()(**inputs, output_hidden_states=True).hidden_states
    for states, unmerged in zip(encoder.hidden_states("the end"), expected, strict=True):
        torch.testing.assert_close(states, unmerged[0], rtol=1e-5, atol=1e-6)
    assert encoder.weights_hash().startswith(f"{plain.weights_hash()}+")


def test_a_control_of_random_weights_leaves_the_adapter_out(folders, tuned_folders):
    control = load_audio_encoder(str(tuned_folders["lora"][1]), random_init=0)
    assert control.weights_hash() == load_audio_encoder(str(folders["hubert"]), random_init=0).weights_hash()


def test_a_base_next_to_the_adapter_is_found_from_there(folders, tuned_folders, tmp_path):
    shutil.copytree(folders["hubert"], tmp_path / "base")
    copy = moved(tuned_folders["ia3"][1], tmp_path / "ia3", base_model_name_or_path="../base")
    assert load_exact(copy).weights_hash() == load_exact(tuned_folders["ia3"][1]).weights_hash()


def test_an_adapter_as_a_pickle_has_to_be_trusted(tuned_folders, tmp_path, monkeypatch):
    copy = moved(tuned_folders["lora"][1], tmp_path / "pickle")
    tensors = load_file(copy / "adapter_model.safetensors")
    (copy / "adapter_model.safetensors").unlink()
    torch.save(tensors, copy / "adapter_model.bin")
    with pytest.raises(InputError, match=r"its weights are a pickle, .* or add --trust-pickle .*LP310"):
        load_audio_encoder(str(copy))
    monkeypatch.setenv(TRUST["pickle"], "1")
    assert load_exact(copy).weights_hash() == load_exact(tuned_folders["lora"][1]).weights_hash()


REFUSED = {
    "missing base": (
        {"base_model_name_or_path": "/gone/hubert"},
        r"is a PEFT adapter whose base model can't be read: encoder /gone/hubert: no such folder\..*LP391",
    ),
    "no base": ({"base_model_name_or_path": None}, r"whose adapter_config\.json names no base model\..*LP391"),
    "prompt": ({"peft_type": "PREFIX_TUNING"}, r"states peft_type PREFIX_TUNING; merged for extraction are .*LP390"),
    "adapters": ({"peft_type": None}, r"states no peft_type, so it is none of PEFT; .*LP390"),
    "fewer": (
        {"target_modules": ["v_proj"]},
        r"q_proj\.lora_A\.weight and \d+ more of its adapter has no place",
    ),
    "more": ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, r"k_proj\.lora_A\..* or its file lacks that"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_fit_are_one_sentence(tuned_folders, tmp_path, case):
    settings, message = REFUSED[case]
    copy = moved(tuned_folders["lora"][1], tmp_path / "copy", **settings)
    with pytest.raises(InputError, match=message):
        load_audio_encoder(str(copy))


def test_tensors_of_another_base_are_refused(folders, tuned_folders, tmp_path):
    copy = moved(tuned_folders["lora"][1], tmp_path / "copy")
    tensors = load_file(copy / "adapter_model.safetensors")
    beyond = {name.replace("layers.2.", "layers.7."): tensor for name, tensor in tensors.items()}
    save_file(beyond, copy / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"layers\.7\.\S+ and \d+ more of its adapter has no place in its base model"):
        load_audio_encoder(str(copy))
    wrong = moved(tuned_folders["lora"][1], tmp_path / "wrong", base_model_name_or_path=str(folders["whisper"]))
    with pytest.raises(InputError, match=r"has no place in its base model, a WhisperEncoder"):
        load_audio_encoder(str(wrong))


def test_a_damaged_adapter_is_named(tuned_folders, tmp_path):
    for file, content in (("adapter_config.json", b"{"), ("adapter_model.safetensors", b"")):
        copy = moved(tuned_folders["lora"][1], tmp_path / file)
        (copy / file).write_bytes(content)
        with pytest.raises(InputError, match=rf"can't be loaded: {file} .* Copy or download it again\."):
            load_audio_encoder(str(copy))


def test_an_adapter_of_an_adapter_is_refused(tuned_folders, tmp_path):
    copy = moved(tuned_folders["lora"][1], tmp_path / "n", base_model_name_or_path=str(tuned_folders["ia3"][1]))
    with pytest.raises(InputError, match=r"base model can't be read: \S+ is an adapter itself\."):
        load_audio_encoder(str(copy))
    own = moved(tuned_folders["lora"][1], tmp_path / "own", base_model_name_or_path="../own")
    with pytest.raises(InputError, match=r"base model can't be read: \S+ is an adapter itself\."):
        load_audio_encoder(str(own))


def test_a_kind_that_is_not_merged_is_refused(folders, tmp_path):
    tuned(HubertModel, LoHaConfig(r=2, target_modules=["q_proj"]), folders["hubert"], tmp_path / "loha")
    with pytest.raises(InputError, match=r"states peft_type LOHA; merged for extraction are LoRA with DoRA"):
        load_audio_encoder(str(tmp_path / "loha"))


def test_without_peft_one_sentence_has_the_command_that_installs_it(tuned_folders, tmp_path):
    (tmp_path / "peft.py").write_text("raise ImportError('no peft')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from layerprobe.cli.app import main; "
        f"sys.argv = ['layerprobe', 'check-encoder', '--encoder', {str(tuned_folders['lora'][1])!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is a PEFT adapter, and merging it needs peft, which" in " ".join(done.stderr.split())
    assert "pip install 'layerprobe[peft]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_merging_leaves_the_state_of_the_generator_and_of_training(tuned_folders):
    before = torch.get_rng_state()
    load_exact(tuned_folders["lora"][1])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.long
def test_an_adapter_on_the_hub_names_its_base_there(folders, tuned_folders, tmp_path):
    """As the hub's own cache stores both, with no network."""
    base, own = "0" * 40, "1" * 40
    for name, folder, commit in (("base", folders["hubert"], base), ("lora", tuned_folders["lora"][1], own)):
        repository = tmp_path / f"models--team--{name}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        (repository / ".no_exist" / commit).mkdir(parents=True)
        for missing in ("config.json", "adapter_config.json", "processor_config.json"):
            if not (folder / missing).exists():
                (repository / ".no_exist" / commit / missing).touch()
    config = tmp_path / "models--team--lora" / "snapshots" / own / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "team/base"}))
    code = (
        "from layerprobe.probe.encoders.loading import load_audio_encoder; "
        "e = load_audio_encoder('team/lora'); print(e.upstream, e.revision, e.weights_hash())"
    )
    with ForkServer(HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1") as forks:
        result = forks.run(code=code)
    expected = load_audio_encoder(str(tuned_folders["lora"][1])).weights_hash()
    assert result.stdout.split() == ["team/lora", own, expected], result.stderr


def test_a_model_without_a_head_is_merged_as_well(folders, waveform, tmp_path):
    model = tuned(HubertModel, LoraConfig(r=2, target_modules=["q_proj"]), folders["hubert"], tmp_path / "bare")
    encoder = load_exact(tmp_path / "bare", device="cpu")
    for states, unmerged in zip(
        encoder.reference_states(waveform), layers_of(model.get_base_model(), encoder, waveform), strict=True
    ):
        assert float((states - unmerged).abs().max() / unmerged.abs().max()) < 1e-6
    assert "head" not in encoder.preprocessing_note


def test_a_hub_out_of_reach_is_requested_once_and_the_cache_for_an_adapter(monkeypatch):
    requests = []

    def unreachable(_repository, file, *, local_files_only=False, **_):
        requests.append((file, local_files_only))
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "hf_hub_download", unreachable)
    with pytest.raises(LocalEntryNotFoundError):
        hub.hub_commit("alice/gone")
    assert requests == [("config.json", False), ("adapter_config.json", True)]
