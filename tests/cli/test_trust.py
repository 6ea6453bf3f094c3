"""Foreign code runs only if the user allows it: neither from a pickle nor from a model's folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.speech_models import load_exact
from helpers.text_models import save_text_model
from safetensors.torch import load_file

from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import TRUST, trust

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def without_trust(monkeypatch):
    for name in TRUST.values():
        monkeypatch.delenv(name, raising=False)


def pickled(folder, to):
    shutil.copytree(folder, to)
    torch.save(load_file(to / "model.safetensors"), to / "pytorch_model.bin")
    (to / "model.safetensors").unlink()
    return to


def test_a_pickle_is_refused_unless_it_is_trusted(folders, tmp_path, monkeypatch):
    folder = pickled(folders["hubert"], tmp_path / "pickle")
    with pytest.raises(InputError, match=r"pickle: its weights are a pickle, which can run code.*--trust-pickle"):
        load_audio_encoder(str(folder))
    load_audio_encoder(str(folder), random_init=0)  # nothing is read
    text = pickled(save_text_model("bert", tmp_path / "bert"), tmp_path / "pickled-bert")
    with pytest.raises(InputError, match="its weights are a pickle"):
        load_text_encoder(str(text))
    monkeypatch.setenv(TRUST["pickle"], "")
    trust("pickle")
    assert load_exact(folder).weights_hash() == load_exact(folders["hubert"]).weights_hash()


def test_a_pickle_next_to_safetensors_is_not_read(folders, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(folders["hubert"], folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert load_exact(folder).weights_hash() == load_exact(folders["hubert"]).weights_hash()


def test_a_folders_own_code_is_not_run_unless_it_is_trusted(folders, tmp_path):
    folder, mark = tmp_path / "theirs", tmp_path / "it ran"
    shutil.copytree(folders["hubert"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        f"from pathlib import Path\nfrom transformers import HubertConfig\nPath({str(mark)!r}).touch()\n"
        "class Own(HubertConfig):\n    model_type = 'theirs'\n"
    )
    with pytest.raises(
        InputError,
        match=r"theirs brings code of its own \(own\.Own in config\.json\)\. Read it, and add --trust-remote-code",
    ):
        load_audio_encoder(str(folder))
    assert not mark.exists()
    arguments = [
        "check-encoder",
        "--encoder",
        str(folder),
        "--trust-remote-code",
    ]  # after the command, as one would type it
    done = subprocess.run(
        [sys.executable, "-m", "layerprobe", *arguments], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert mark.exists()
    assert "is a 'theirs' model; supported are" in done.stderr  # it needs an adapter still
