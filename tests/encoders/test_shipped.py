"""Architectures that packages ship are found by name or by a folder's config.json; the examples of the pages run."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command_line import refused, run
from helpers.speech_models import NARROW, load_exact, save_model
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import Architecture, read_adapter
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.shipped import GROUP, chosen_architecture, is_shipped, shipped_names
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.hooks import HookedEncoder

EXAMPLES = Path(__file__).parents[2] / "docs" / "adapters"
MODULE = """
from dataclasses import replace
from layerprobe.probe.encoders.architectures import ARCHITECTURES
ARCHITECTURE = replace(ARCHITECTURES["wav2vec2"], final_norm=lambda encoder: encoder.encoder.layer_norm)
"""
LOADER = """
from pathlib import Path
from dataclasses import replace
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from layerprobe.probe.encoders.architectures import ARCHITECTURES
def load(path):
    torch.manual_seed(5)
    return HubertModel(HubertConfig(**{narrow!r})), Wav2Vec2FeatureExtractor()
ARCHITECTURE = replace(ARCHITECTURES["hubert"], load=load)
"""


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """Install a package with entry points of this group, as pip lays it out."""
    installed: list[str] = []

    def install(package, points, source=MODULE):
        site = tmp_path / f"site-{package}"
        information = site / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}_layers" for name in points]
        (information / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
        (site / f"{package}_layers.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        installed.append(f"{package}_layers")
        return site / f"{package}_layers.py"

    yield install
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "conformer"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2ConformerModel(Wav2Vec2ConformerConfig(**NARROW)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_a_folder_finds_the_architecture_of_its_model_type(conformer, ship):
    with pytest.raises(InputError, match="is a 'wav2vec2-conformer' model; supported are"):
        load_audio_encoder(str(conformer))
    file = ship("conformers", ["wav2vec2-conformer"])
    found = load_exact(conformer)
    named = load_exact(conformer, adapter=file)
    assert found.layers == ("0", "1", "2", "3", "final")
    assert (found.adapter, found.weights_hash()) == (named.adapter, named.weights_hash())
    assert is_shipped(found.adapter)
    assert not is_shipped("0" * 16)


def test_a_folder_finds_the_architecture_of_its_class(conformer, ship):
    ship("conformers", ["Wav2Vec2ConformerModel"])
    assert load_exact(conformer).layers[-1] == "final"


def test_a_shipped_architecture_is_chosen_by_name(conformer, ship):
    ship("conformers", ["other"])
    assert shipped_names() == ["other"]
    done = run("check-encoder", "--encoder", conformer, "--adapter", "other")
    assert done.exit_code == 0, done.output
    assert "3 blocks, layers 0, 1, 2, 3, final" in done.stdout
    message = refused("check-encoder", "--encoder", conformer, "--adapter", "wrong")
    assert "adapter wrong does not exist. Name a Python file that defines an ARCHITECTURE; installed packages ship" in (
        message
    )


def test_two_packages_of_one_name_are_not_guessed_between(ship):
    ship("first", ["same"])
    ship("second", ["same"])
    with pytest.raises(InputError, match=r"adapter same is shipped by 2 packages, first and second\. .*LP397"):
        chosen_architecture("same")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package", r"own \(own_layers\) does not run: ModuleNotFoundError: No module .*LP333"),
        ("ARCHITECTURE = 3", r"own \(own_layers\) has no ARCHITECTURE = Architecture.*LP334"),
    ],
)
def test_a_shipped_module_that_is_broken_is_one_sentence(ship, source, message):
    ship("own", ["own"], source)
    with pytest.raises(InputError, match=message):
        chosen_architecture("own")


@pytest.mark.parametrize("point", ["hubert", "HubertModel"])
def test_architectures_that_are_built_in_are_not_replaced(folders, ship, point):
    ship("other", [point])
    assert load_exact(folders["hubert"]).adapter == ""
    assert load_exact(folders["hubert"], adapter=point).adapter != ""  # named, it is what the user means


def test_an_adapter_with_a_loader_reads_what_transformers_cant(ship, tmp_path, rng):
    ship("loads", ["loads"], LOADER.replace("{narrow!r}", repr(NARROW)))
    checkpoint = tmp_path / "own.ckpt"
    checkpoint.write_bytes(b"own")
    encoder = load_exact(checkpoint, adapter="loads")
    assert encoder.upstream == "own.ckpt"
    assert encoder.folder == str(checkpoint)
    assert len(encoder.hidden_states(rng.normal(size=4000).astype(np.float32))) == 4
    with pytest.raises(InputError, match=r"is loaded by its adapter, with its weights: leave --random-init out"):
        load_audio_encoder(str(checkpoint), adapter="loads", random_init=0)
    with pytest.raises(InputError, match=r"no such folder\. Its adapter loads models from local folders only"):
        load_audio_encoder(str(tmp_path / "gone"), adapter="loads")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "loads"}))
    assert load_exact(folder).weights_hash() == encoder.weights_hash()


def test_a_loader_that_fails_is_one_sentence(ship, tmp_path):
    ship("fails", ["fails"], LOADER.replace("{narrow!r}", repr({"hidden_size": 31, "num_attention_heads": 4})))
    with pytest.raises(InputError, match=r"adapter of encoder \S+ does not run: \w+: .*LP333"):
        load_audio_encoder(str(tmp_path), adapter="fails")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_every_example_is_an_adapter_that_states_all_it_has_to(file):
    architecture, _ = read_adapter(file)
    assert isinstance(architecture, Architecture)
    assert len(inspect.signature(architecture.input_chunks).parameters) == 3


def test_blocks_that_pass_positions_on_with_the_frames_are_read():
    """As ESPnet's encoders, whose blocks take and give the frames in a tuple of a tuple."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, state, mask):
            frames, positions = state
            return (self.scale * frames, positions), mask

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block(), Block()])

        def forward(self, x):
            state, mask = (x, None), None
            for block in self.blocks:
                state, mask = block(state, mask)
            return state[0]

    encoder, x = Encoder(), torch.ones(1, 3, 2)
    states = HookedEncoder(encoder, encoder.blocks, None).states({"x": x})
    assert [float(s[0, 0, 0].detach()) for s in states] == [1.0, 2.0, 4.0]


def parakeet(folder, *, recogniser):
    """A FastConformer of three narrow blocks, alone or in a recogniser."""
    pytest.importorskip("transformers.models.parakeet")  # of version 5
    from transformers import (
        ParakeetCTCConfig,
        ParakeetEncoder,
        ParakeetEncoderConfig,
        ParakeetFeatureExtractor,
        ParakeetForCTC,
    )

    settings = ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, subsampling_conv_channels=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if recogniser:
            model = ParakeetForCTC(ParakeetCTCConfig(vocab_size=20, pad_token_id=0, encoder_config=settings.to_dict()))
        else:
            model = ParakeetEncoder(settings)
    model.save_pretrained(folder)
    ParakeetFeatureExtractor().save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("recogniser", [False, True])
def test_the_example_of_parakeet_reads_the_layers_of_transformers(tmp_path, rng, recogniser):
    model = parakeet(tmp_path / "parakeet", recogniser=recogniser)
    encoder = load_exact(tmp_path / "parakeet", adapter=EXAMPLES / "parakeet.py")
    waveform = rng.normal(size=16000).astype(np.float32)
    inputs = encoder.input_chunks(waveform)[0].inputs
    inner = model.encoder if recogniser else model
    with torch.inference_mode():
        expected = inner(**inputs, output_hidden_states=True).hidden_states
    states = encoder.hidden_states(waveform)
    assert len(states) == 4
    for found, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(found, theirs[0])
    done = run("check-encoder", "--encoder", tmp_path / "parakeet", "--adapter", EXAMPLES / "parakeet.py")
    assert done.exit_code == 0, done.output


def test_long_audio_of_parakeet_is_cut_without_losing_a_frame(tmp_path, rng):
    parakeet(tmp_path / "parakeet", recogniser=False)
    encoder = load_exact(tmp_path / "parakeet", adapter=EXAMPLES / "parakeet.py")
    chunks = encoder.input_chunks(rng.normal(size=16000 * 70).astype(np.float32))
    counted = [range(c.first, c.first + c.counted.stop - c.counted.start) for c in chunks]
    assert [k for span in counted for k in span] == list(range(70 * 100 // 8))
    assert {c.total for c in chunks} == {875}


def test_the_example_of_mert_reads_a_hubert(models, tmp_path, rng):
    """MERT's own code derives from HuBERT's; its class is in its folder and in no package."""
    save_model(models["hubert-pre-norm"], tmp_path / "mert")
    encoder = load_exact(tmp_path / "mert", adapter=EXAMPLES / "mert.py")
    waveform = rng.normal(size=4000).astype(np.float32)
    for found, theirs in zip(
        encoder.hidden_states(waveform), load_exact(tmp_path / "mert").reference_states(waveform), strict=True
    ):
        assert torch.equal(found, theirs)
