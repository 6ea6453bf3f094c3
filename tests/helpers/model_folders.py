"""Copies of models' folders with something changed."""

from __future__ import annotations

import json
import shutil

from safetensors.torch import load_file, save_file


def changed(folder, to, **settings):
    """Copy a model's folder with other settings in config.json."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | settings))
    return to


def rewritten(folder, to, change):
    """Copy a model's folder after a change of its tensors, made in place."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to
