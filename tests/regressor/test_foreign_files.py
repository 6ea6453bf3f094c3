"""Files of a trained regressor's folder that were cut, or are something else, are named in one sentence."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from helpers.foreign import FOREIGN
from helpers.text_models import save_text_model

from layerprobe.probe.exceptions import InputError
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


@pytest.fixture(scope="module")
def trained(folders, ten_voices, tmp_path_factory):
    """The folder of a regressor of small encoders, untrained, with every file that one has."""
    root = tmp_path_factory.mktemp("trained")
    text = save_text_model("bert", root / "bert")
    manifest = replace(ten_voices, table=ten_voices.table.assign(transcript="a"))
    options = EncoderOptions(audio_encoder=str(folders["hubert"]), text_encoder=str(text))
    one_seed = OptimiserOptions(seeds=1)
    encoders, plan = plan_training(manifest, encoders=options, head=HeadOptions(hidden=4), optimiser=one_seed)
    write_configurations(root / "run", encoders)
    write_regressor(root / "run", plan, fingerprint="0" * 12, intervals={"level": 0.9, "half_width": {"arousal": 1.0}})
    with torch.random.fork_rng(devices=[]):
        write_weights(build(encoders, plan), root / "run" / "seed-0")
    return root / "run"


def load(folder):
    return list(load_regressors(read_regressor(folder)))


def test_every_file_of_a_regressor_is_named_where_something_else_stands_in_its_place(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    assert len(load(folder)) == 1
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    assert {"regressor.json", "model.safetensors", "config.json", "tokenizer.json"} <= {p.name for p in files}
    for path in files:
        whole = path.read_bytes()
        for content, stated in FOREIGN.values():
            path.write_bytes(content)
            if path.name.startswith("vocab"):
                continue  # is not read where there is a tokenizer.json
            with pytest.raises(
                InputError, match=rf"(^|{path.parent} can't be loaded: )\S*{path.name} {stated}\. .*\. \[LP\d{{3}}\]$"
            ):
                load(folder)
        path.write_bytes(whole[: len(whole) // 2])
        if not path.name.startswith("vocab"):
            with pytest.raises(InputError, match=rf"^[^\n]*{path.name}[^\n]*\. \[LP\d{{3}}\]$"):
                load(folder)
        path.write_bytes(whole)
    assert len(load(folder)) == 1


def test_a_regressor_description_of_another_program_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    for content in (
        "[]",
        '{"format_version": 1}',
        '{"format_version": 1, "plan": [], "fingerprint": "", "intervals": {}}',
    ):
        (folder / "regressor.json").write_text(content)
        with pytest.raises(
            InputError, match=r"regressor\.json (can't be read|holds no table) .*Train again, or restore it"
        ):
            read_regressor(folder)
