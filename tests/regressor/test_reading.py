"""What is read of recordings is a choice of a training's plan, and new utterances are read in the same way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.voices import manifest_of, voice

from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.predict import predict
from layerprobe.probe.regressor.plan import plan_training
from layerprobe.probe.regressor.saving import read_regressor
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.regressor.train import run_training

RATE = 16_000


def test_a_regressor_reads_new_utterances_as_those_that_it_was_trained_on(folders, tmp_path):
    rows = []
    for k in range(12):
        soundfile.write(tmp_path / f"{k}.wav", voice(0.3, pitch=90 + 9 * k), RATE)
        split = ("train", "development", "test")[k % 3]
        rows.append(
            {"utterance_id": f"u{k}", "path": f"{k}.wav", "speaker_id": f"s{k}", "split": split, "arousal": 1 + k % 6}
        )
    manifest = manifest_of(tmp_path, rows)
    encoders, plan = plan_training(
        manifest,
        encoders=EncoderOptions(audio_encoder=str(folders["hubert"]), channel="first", trim_silence=True),
        head=HeadOptions(hidden=8),
        optimiser=OptimiserOptions(epochs=1, batch_size=4),
    )
    run_training(manifest, encoders, plan, out=tmp_path / "run")
    assert read_regressor(tmp_path / "run").plan.reading == ReadingOptions("first", trim_silence=True)
    mono, _ = soundfile.read(tmp_path / "0.wav", dtype="float32")
    padded = np.concatenate([mono, np.zeros(RATE, dtype=np.float32)])
    soundfile.write(tmp_path / "new.wav", np.stack([padded, -padded], axis=1), RATE)
    table = pd.DataFrame({"utterance_id": ["mono", "new"], "path": [tmp_path / "0.wav", tmp_path / "new.wav"]})
    found = predict(tmp_path / "run", table)
    assert found["arousal"].iloc[0] == pytest.approx(found["arousal"].iloc[1], abs=1e-4)


def test_an_unknown_channel_is_refused_before_an_encoder_is_loaded(tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(0.3), RATE)
    manifest = manifest_of(tmp_path, [{"utterance_id": "a", "path": "a.wav", "speaker_id": "s", "arousal": 1}])
    with pytest.raises(InputError, match="channel 'left' is unknown"):
        plan_training(manifest, encoders=EncoderOptions(audio_encoder="no-such-folder", channel="left"))
