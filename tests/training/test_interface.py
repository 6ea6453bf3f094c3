"""The public functions that train: paths as text, options as dataclasses, and files with a format version."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice, write_table

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.predict import predict
from layerprobe.probe.pretraining.distil import distil
from layerprobe.probe.pretraining.pretrain import pretrain
from layerprobe.probe.pretraining.settings import DistilOptions, PretrainOptions
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.regressor.train import train
from layerprobe.probe.training.encoder_folder import check_folder

CONFIG = {
    "model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Path of a manifest of ten speakers."""
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for k in range(20):
        soundfile.write(folder / f"u{k:02d}.wav", voice(0.8, pitch=90 + 6 * k, seed=k), 16_000)
        row = {"utterance_id": f"u{k:02d}", "path": f"u{k:02d}.wav", "speaker_id": f"s{k % 10}"}
        rows.append(row | {"transcript": SENTENCES[k % len(SENTENCES)], "arousal": 1 + k * 6 / 19})
    return str(write_table(folder, rows, targets=("arousal",)))


def check_other_version_is_refused(path, call):
    content = json.loads(path.read_text())
    assert content["format_version"] == 1
    path.write_text(json.dumps(content | {"format_version": 2}))
    with pytest.raises(InputError, match=rf"{path.name} has format version 2; this program reads version 1\."):
        call()


def test_train_and_predict_take_paths_and_options(table, tmp_path):
    text = save_text_model("bert", tmp_path / "text")
    options = {"head": HeadOptions(hidden=8), "optimiser": OptimiserOptions(epochs=1, batch_size=4)}
    out = str(tmp_path / "run")
    run = train(table, EncoderOptions(text_encoder=str(text)), out=out, **options)
    assert run.plan["training"]["hidden"] == 8
    found = predict(out, table)
    assert list(found.columns) == [
        "utterance_id", "path", "duration", "arousal", "arousal_low", "arousal_high", "reason"
    ]  # fmt: skip
    assert np.isfinite(found["arousal"]).all()
    assert (found["arousal_low"] < found["arousal"]).all()
    check_other_version_is_refused(tmp_path / "run" / "regressor.json", lambda: predict(out, table))


def test_pretrain_and_distil_take_paths_and_options(table, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    small = PretrainOptions(config=config, steps=2, batch_size=2, units=4, crop_seconds=0.5, eval_every=1)
    first = pretrain(table, small, out=str(tmp_path / "first"))
    assert list(first.log.columns) == ["step", "loss", "accuracy", "majority_accuracy"]
    validation = pd.read_csv(first.folder / "validation.csv")
    assert list(validation.columns) == [
        "utterance_id",
        "speaker_id",
        "masked_frames",
        "correct_frames",
        "format_version",
    ]
    for name in ("log.csv", "quarantine.csv"):
        assert pd.read_csv(first.folder / name).columns[-1] == "format_version"
    assert set(validation["format_version"]) == {1}
    options = DistilOptions(blocks=1, steps=2, batch_size=2, eval_every=1, layers=("2",))
    student = distil(table, str(first.folder), options, out=str(tmp_path / "student"))
    assert list(student.log.columns) == ["step", "loss", "validation_loss"]
    check_other_version_is_refused(
        student.folder / "distil.json", lambda: distil(table, str(first.folder), options, out=student.folder)
    )
    check_other_version_is_refused(first.folder / "pretrain.json", lambda: pretrain(table, small, out=first.folder))


def test_a_plan_that_can_not_be_read_is_one_sentence(tmp_path):
    (tmp_path / "distil.json").write_text('{"format_version": 1, "fing')
    with pytest.raises(
        InputError, match=r"distil\.json can't be read \(.*\)\. Delete it, or name another --out\. \[LP\d{3}\]$"
    ):
        check_folder(tmp_path, "distil.json", DistilOptions(blocks=1), pd.DataFrame({"utterance_id": []}), kind="x")


def test_a_label_source_without_a_layer_is_refused(table, tmp_path):
    with pytest.raises(InputError, match=r"^'hubert' names no layer\. Write ENCODER@LAYER, or mfcc\. \[LP\d{3}\]$"):
        pretrain(table, PretrainOptions(label_source="hubert"), out=tmp_path / "x")
