"""A trained regressor that was pushed and pulled predicts what it predicted, and names no path of the machine."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import soundfile
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice, write_table

from layerprobe.analysis.formatting import number_text
from layerprobe.probe.prediction.predict import predict
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.regressor.train import train
from layerprobe.probe.results.run_folder import read_run
from layerprobe.sharing.pull import pull
from layerprobe.sharing.push import push


@pytest.fixture
def table(tmp_path):
    """Path of a manifest of ten speakers."""
    rows = []
    for k in range(20):
        soundfile.write(tmp_path / f"u{k:02d}.wav", voice(0.3, pitch=90 + 6 * k, seed=k), 16_000)
        row = {"utterance_id": f"u{k:02d}", "path": f"u{k:02d}.wav", "speaker_id": f"zz-speaker-{k % 10}"}
        rows.append(row | {"transcript": SENTENCES[k % len(SENTENCES)], "arousal": 1 + k * 6 / 19})
    return str(write_table(tmp_path, rows, targets=("arousal",)))


def test_a_pulled_regressor_predicts_the_same(table, tmp_path):
    text = save_text_model("bert", tmp_path / "zz-folder" / "text")
    optimiser = OptimiserOptions(epochs=1, batch_size=4)
    out = tmp_path / "zz-folder" / "trained"
    train(table, EncoderOptions(text_encoder=str(text)), out=out, head=HeadOptions(hidden=8), optimiser=optimiser)
    done = push(out, f"file://{tmp_path}/shared")
    assert done.kind == "trained regressor"
    contents = {p.relative_to(tmp_path / "shared"): p.read_bytes() for p in (tmp_path / "shared").rglob("*.*")}
    secrets = (b"zz-speaker", b"zz-folder")  # long, for weights are bytes of any kind
    assert [str(name) for name, content in contents.items() for secret in secrets if secret in content] == []
    assert "tensorboard" not in {p.name for p in (tmp_path / "shared").iterdir()}
    assert json.loads((tmp_path / "shared" / "text" / "config.json").read_text())["model_type"] == "bert"
    back = pull(f"file://{tmp_path}/shared", out=tmp_path / "back").path
    pd.testing.assert_frame_equal(predict(back, table), predict(out, table))
    row = read_run(out).scores.query("fold == 'pooled' and metric == 'ccc'").iloc[0]
    assert f"| CCC | {number_text(row['value'])}" in (tmp_path / "shared" / "README.md").read_text()
