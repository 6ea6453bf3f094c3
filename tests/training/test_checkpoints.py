"""Checkpoints: what is written is read back, and another version of the format is refused."""

from __future__ import annotations

import json

import pytest
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.checkpoints import VALUES, read_state, write_state


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
        match=rf"^\S+{VALUES} has format version {version}; this program reads version 1\. Train again, into another fol",
    ):
        read_state(tmp_path / "state")
