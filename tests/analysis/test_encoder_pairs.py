"""Which encoders of real runs are compared, what is refused, and what the command prints, plots and records."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import refused, run
from helpers.planted import manifest_of, quick, store

import layerprobe as lp
from layerprobe.analysis.encoder_pairs import chosen_pairs, default_pairs, find_encoder
from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.records import read_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.layers.encoder_gains import EncoderPair
from layerprobe.analysis.study import study
from layerprobe.figures.report.report import write_report
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.sweep.sweep import sweep

N, N_LAYERS, DIM = 240, 5, 6
BUMP = {"frozen": [0.3, 1.0, 0.5, 0.2, 0.1], "tuned": [0.2, 0.3, 1.0, 0.5, 0.2]}  # of valence, by layer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Caches of a frozen and a tuned encoder, of another architecture and of fewer layers, and two runs of these."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    ratings = rng.normal(size=(N, 2))
    noise = 0.7 * rng.normal(size=(N, N_LAYERS, DIM))
    direction = rng.normal(size=(2, DIM))
    caches = {}
    for name, bump in BUMP.items():
        valence = ratings[:, 1, None, None] * np.array(bump)[:, None] * direction[1]
        x = noise + 0.3 * rng.normal(size=noise.shape) + valence + ratings[:, 0, None, None] * direction[0]
        caches[name] = store(root / f"{name}.zarr", x, upstream=f"lab/{name}")
    caches["other"] = store(root / "other.zarr", noise, upstream="lab/other", architecture="OtherModel")
    caches["small"] = store(root / "small.zarr", noise[:, :2], upstream="lab/small", layers=("0", "1"))
    manifest = manifest_of(ratings, root / "my.csv")
    lp.write_manifest(root / "my.csv", manifest.table, manifest.header)
    sweep(list(caches.values()), manifest, quick(manifest, permutations=39), out=root / "runs" / "all")
    alone = store(root / "alone.zarr", noise, upstream="lab/alone")
    sweep([alone], manifest, quick(manifest, permutations=39), out=root / "runs" / "alone")
    return root


@pytest.fixture(scope="module")
def read(folder):
    return study(folder / "runs" / "all")


def test_the_first_encoder_of_an_architecture_is_the_reference(read):
    assert default_pairs(read) == [EncoderPair("tuned", "frozen")]
    assert chosen_pairs(read) == default_pairs(read)
    assert chosen_pairs(read, against="tuned") == [EncoderPair("frozen", "tuned")]
    assert chosen_pairs(read, encoder="tuned") == default_pairs(read)
    assert chosen_pairs(read, against="frozen", encoder="other") == [EncoderPair("other", "frozen")]


def test_an_encoder_is_found_by_its_cache_even_where_that_has_moved(read, folder, tmp_path):
    assert find_encoder(read, "tuned") == "tuned"
    assert find_encoder(read, folder / "tuned.zarr") == "tuned"
    assert find_encoder(read, shutil.copytree(folder / "tuned.zarr", tmp_path / "moved.zarr")) == "tuned"


def test_encoders_of_several_runs_are_compared(folder):
    read = study([folder / "runs" / "all", folder / "runs" / "alone"])
    assert chosen_pairs(read, against=folder / "alone.zarr", encoder="tuned") == [EncoderPair("tuned", "alone")]
    assert [pair.encoder for pair in default_pairs(read)] == ["tuned", "alone"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"against": "wavlm"},
            r"wavlm is neither an encoder of .*all nor a cache\. Choose one of frozen, tuned, other",
        ),
        ({"against": "other"}, "has no other encoder with the architecture and the layers of other"),
        ({"against": "frozen", "encoder": "frozen"}, "frozen can't be compared with itself"),
        ({"against": "frozen", "encoder": "small"}, "small has layers 0 to 1 and frozen has layers 0 to 4, so that"),
        ({"encoder": "other"}, "has no encoder before other with its architecture and layers"),
    ],
)
def test_encoders_that_can_not_be_compared_are_refused(read, choice, message):
    with pytest.raises(InputError, match=message):
        chosen_pairs(read, **choice)


def test_a_cache_that_was_not_probed_comes_with_the_command_that_probes_it(folder):
    message = refused("gain", folder / "runs" / "all", "--against", folder / "alone.zarr")
    command = f"layerprobe sweep {folder}/alone.zarr --plan {folder}/runs/all/plan.toml --out {folder}/runs/alone"
    assert command in " ".join(message.split())
    assert "has no two encoders with the same architecture" in refused("gain", folder / "runs" / "alone")


def test_the_command_prints_what_changed_and_saves_figure_and_table(folder):
    result = run("gain", folder / "runs" / "all", "--encoder", "tuned", "--against", folder / "frozen.zarr")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "For valence, layers 2 to 4 of tuned score better than the same layers of frozen" in text
    assert ", and layers 0, 1 worse; the clearest difference" in text
    assert "In tuned, valence lies deeper than in frozen (shift of the profile over layers 1.1 of 4 blocks" in text
    assert "For arousal, no layer of tuned differs significantly from the same layer of frozen" in text
    figures = folder / "runs" / "all" / "figures"
    table = pd.read_csv(figures / "gain.csv", dtype={"layer": str})
    assert {path.suffix for path in figures.glob("gain.*")} == {".png", ".pdf", ".svg", ".csv"}
    assert list(table["measure"].unique()) == ["gain", "shift"]
    assert list(table.loc[table["measure"] == "shift", "layer"].unique()) == ["all"]
    gains = table[(table["measure"] == "gain") & (table["target"] == "valence")].set_index("layer")
    scores = study(folder / "runs" / "all").table.query(
        "probe == 'ridge' and control == 'none' and target == 'valence'"
    )
    value = scores.set_index(["encoder", "layer"])["value"]
    for layer, row in gains.iterrows():
        assert row["value"] == pytest.approx(value["tuned", layer] - value["frozen", layer], abs=1e-6)


def test_the_report_has_records_sentences_a_section_and_the_figure(folder):
    page = write_report(folder / "runs" / "all").read_text(encoding="utf-8")
    findings = read_findings(folder / "runs" / "all" / "findings.json")
    (gain,) = [f for f in findings if f.name == "encoder_gain" and f.target == "valence"]
    assert (gain.encoder, gain.reference, gain.layer) == ("tuned", "frozen", gain.reference_layer)
    assert (gain.layers, gain.worse_layers) == (("2", "3", "4"), ("0", "1"))
    (shift,) = [f for f in findings if f.name == "encoder_shift" and f.target == "valence"]
    assert shift.p_adjusted < 0.05
    assert shift.n_blocks == 4
    assert "Gain over another encoder" in page
    assert "In tuned, valence lies deeper than in frozen" in page
    assert "Encoders with the same architecture and layers were compared layer by layer" in page
    assert (folder / "runs" / "all" / "figures" / "gain.svg").exists()
    assert json.loads((folder / "runs" / "all" / "findings.json").read_text())["findings"][0]["worse_layers"] is None


def test_a_shift_is_not_judged_where_an_encoder_does_not_predict_the_target(folder):
    read = study([folder / "runs" / "all", folder / "runs" / "alone"])
    texts = headlines(collect_findings(read))
    assert (
        "The depths of valence in alone and frozen can't be compared, because alone does not predict it above chance."
        in texts
    )
