"""The demo: from spoken sentences to a report that finds what was planted in them, and a predictor."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial

import pandas as pd
import pytest
import soundfile
from helpers.command_line import COMMAND, ROOT, run

from layerprobe.probe.predictors.predictor import load_predictor
from layerprobe.probe.sweep import settings
from layerprobe.probe.synthesis import demo_corpus

ENCODERS = ["embedded", "all-MiniLM-L6-v2", "acoustic"]


def checked_demo(out, output):
    """Ridge's scores and the findings of a demo, after what holds of any."""
    assert f"heatmap: {out / 'runs' / 'first' / 'figures' / 'heatmap.png'}" in output
    assert f"report:  {out / 'runs' / 'first' / 'report.html'}" in output
    commands = re.findall(r"^  layerprobe (\w+)", output, flags=re.MULTILINE)
    assert commands == ["serve", "extract", "sweep", "heatmap"]
    assert f"  layerprobe serve {out / 'models' / 'avd'}\n" in output
    predictor = load_predictor(out / "models" / "avd", device="cpu")
    assert predictor.targets[:3] == ("arousal", "valence", "dominance")
    spoken = predictor(*soundfile.read(out / "corpus" / "wav" / "en-us_m1_00.wav"))
    assert all(rating.low < rating.value < rating.high for rating in spoken.values())
    scores = pd.read_parquet(out / "runs" / "first" / "scores.parquet")
    scores = scores[(scores["fold"] == "pooled") & (scores["metric"] == "ccc_matched") & (scores["probe"] == "ridge")]
    assert list(dict.fromkeys(scores["encoder"]))[:3] == ENCODERS
    assert "arousal was planted in pitch" in (out / "runs" / "first" / "report.html").read_text()
    return scores, pd.DataFrame(json.loads((out / "runs" / "first" / "findings.json").read_text())["findings"])


def best_of(scores):
    return scores[scores["control"] == "none"].groupby(["encoder", "target"])["value"].max()


@pytest.mark.long
def test_a_small_demo_goes_the_whole_way(tmp_path, monkeypatch):
    """Three utterances of each voice show arousal in the prosody and valence in the text.

    The sweep has fewer permutations and seeds; everything else is as in the command.
    """
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(demo_corpus, "UTTERANCES_PER_VOICE", 3)
    monkeypatch.setattr(settings, "plan_sweep", partial(settings.plan_sweep, permutations=3, weighted_sum_seeds=1))
    done = run("demo", "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    scores, findings = checked_demo(tmp_path / "demo", done.stdout)
    best = best_of(scores)  # of 72 utterances, so chance has a standard deviation of 0.12
    assert best["embedded", "arousal"] > 0.5
    assert best["acoustic", "arousal"] > 0.5
    assert best["all-MiniLM-L6-v2", "arousal"] < 0.36
    assert best["all-MiniLM-L6-v2", "valence"] > 0.4
    assert best["acoustic", "valence"] < 0.36
    assert scores[scores["control"] == "permuted"].groupby("target")["value"].mean().max() < 0.15
    assert {"gain_over_random", "depth_difference", "highest_scoring_layer"} <= set(findings["name"])


@pytest.mark.long
def test_the_demo_finds_what_was_planted(tmp_path):
    pytest.importorskip("espeakng_loader")
    out = tmp_path / "demo"
    done = subprocess.run([*COMMAND, "demo", "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=True)
    scores, findings = checked_demo(out, done.stdout)
    best = best_of(scores)
    assert best["embedded", "arousal"] > 0.7
    assert best["acoustic", "arousal"] > 0.7  # it was planted in the prosody
    assert abs(best["all-MiniLM-L6-v2", "arousal"]) < 0.15  # and nowhere else
    assert best["all-MiniLM-L6-v2", "valence"] > 0.7
    assert best["acoustic", "valence"] < 0.15
    assert scores[scores["control"] == "permuted"].groupby("target")["value"].mean().max() < 0.15
    above = findings[findings["name"] == "gain_over_random"].set_index("target")
    assert above["ci_low"]["arousal"] > 0  # what training added, by an interval over speakers
    assert above["ci_low"]["valence"] > 0
    depth = findings[findings["control"] == "none"]
    depth = depth[(depth["name"] == "depth_difference") & (depth["measure"] == "score_centre")]
    assert depth.set_index("encoder").loc["embedded", ["ci_low", "ci_high"]].notna().all()
