"""Checkpoints: what is written is read back, and another version of the format is refused."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.foreign import FOREIGN

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.checkpoints import (
    TENSORS,
    VALUES,
    read_state,
    read_training,
    write_state,
    write_training,
)


def test_a_checkpoint_is_read_back(tmp_path):
    assert read_state(tmp_path / "state") is None
    write_state(tmp_path / "state", {"a": torch.arange(3)}, {"steps": 7})
    tensors, values = read_state(tmp_path / "state")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert values == {"format_version": 1, "steps": 7}


@pytest.mark.parametrize("version", [None, 2])
def test_another_format_version_is_refused(tmp_path, version):
    write_state(tmp_path / "state", {"a": torch.arange(3)}, {"steps": 7})
    path = tmp_path / "state" / VALUES
    path.write_text(json.dumps({"steps": 7} if version is None else {"format_version": version, "steps": 7}))
    with pytest.raises(
        InputError,
        match=rf"^\S+{VALUES} has format version {version}; this program reads version 1\. Train",
    ):
        read_state(tmp_path / "state")


def written(folder):
    parameters = {"weight": torch.nn.Parameter(torch.ones(3))}
    optimiser = torch.optim.AdamW(parameters.values())
    parameters["weight"].sum().backward()
    optimiser.step()
    write_training(folder, parameters, optimiser, {"steps": 1}, device="cpu")
    return parameters, optimiser


@pytest.mark.parametrize("name", [TENSORS, VALUES])
@pytest.mark.parametrize("kind", [*FOREIGN, "cut", "missing"])
def test_what_stands_in_the_place_of_a_checkpoints_file_is_named(tmp_path, name, kind):
    parameters, optimiser = written(tmp_path / "state")
    path = tmp_path / "state" / name
    cut = (path.read_bytes()[:-5], r"can't be read \(.*\)")
    content, stated = FOREIGN.get(kind, cut)
    path.write_bytes(content)
    if kind == "missing":
        path.unlink()
        stated = "is missing"
    with pytest.raises(
        InputError, match=rf"^{path} {stated}\. Delete \S+ to start the training again\. \[LP\d{{3}}\]$"
    ):
        read_training(tmp_path / "state", parameters, optimiser, device="cpu")


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    parameters, optimiser = written(tmp_path / "state")
    others = {"bias": torch.nn.Parameter(torch.ones(3))}, {"weight": torch.nn.Parameter(torch.ones(4))}
    for other in others:
        with pytest.raises(InputError, match=r"state is no checkpoint of this training \(.*\)\. Delete it to start"):
            read_training(tmp_path / "state", other, torch.optim.AdamW(other.values()), device="cpu")
    with pytest.raises(InputError, match=r"state is no checkpoint of this training \('log' is missing\)"):
        read_training(tmp_path / "state", parameters, optimiser, device="cpu", check=lambda values: values["log"])
    (tmp_path / "state" / VALUES).write_text("[1]")
    with pytest.raises(InputError, match=r"state\.json holds no table of names and values\. Delete"):
        read_state(tmp_path / "state")
