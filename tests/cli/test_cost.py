"""The command cost end to end: a sweep, a fusion and a training on real audio by small encoders, in one table."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.command_line import refused, run
from helpers.every_command import FEW, make_material

from layerprobe.probe.regressor.saving import load_regressors, read_regressor

SWEEP = ("--folds", 3, "--permutations", 1, "--weighted-sum-seeds", 1)


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def root(folders, tmp_path_factory):
    """A corpus of twelve voices, swept, fused with a text encoder, and trained on, each in a run of its own."""
    root = tmp_path_factory.mktemp("cost")
    (root / "material").mkdir()
    material = make_material(root / "material", folders["hubert"])
    table = material / "my.csv"
    done("extract", table, "--encoder", material / "speech", "--out", root / "h.zarr")
    done("extract", table, "--encoder", material / "text", "--out", root / "t.zarr")
    done("extract", table, "--encoder", "acoustic", "--out", root / "a.zarr")
    done("sweep", root / "h.zarr", root / "a.zarr", table, "--out", root / "first", *SWEEP)
    done("fuse", root / "h.zarr", root / "t.zarr", table, "--out", root / "fused", *SWEEP)
    encoders = ("--audio-encoder", material / "speech", "--text-encoder", material / "text")
    done("train", table, *encoders, "--out", root / "trained", *FEW)
    return root


def table_in(path):
    return pd.read_csv(path, keep_default_na=False, na_values={"multiply_adds": [""], "real_time_factor": [""]})


def test_one_run_has_table_figure_and_a_sentence_for_each_target(root):
    text = done("cost", root / "first", "--seconds", 1, "--width", "column")
    table = table_in(root / "first" / "cost.csv")
    assert f"{root / 'first' / 'cost.csv'}" in text
    assert set(table["target"]) == {"arousal", "valence"}
    speech = table[(table["encoder"] == "hubert") & (table["target"] == "arousal")]
    assert speech["layer"].tolist() == ["0", "1", "2", "3", "all", "all"]
    assert speech["real_time_factor"].gt(0).all()
    assert set(speech["weights"]) == {"trained"}
    features = table[table["encoder"] == "acoustic"]
    assert features["multiply_adds"].isna().all()
    assert features["real_time_factor"].ge(0).all()
    assert {p.name for p in (root / "first" / "figures").glob("cost.*")} == {
        f"cost.{e}" for e in ("png", "pdf", "svg", "csv")
    }
    for target in ("arousal", "valence"):
        assert f"\n{target}: " in f"\n{text}"
    assert "Real-time factors (RTF): " in text
    assert "one process, 1 thread, 1 s of audio, float32" in text


def test_a_sweep_a_fusion_and_a_regressor_are_in_one_table(root):
    runs = [root / name for name in ("first", "fused", "trained")]
    done("cost", *runs, "--seconds", 1, "--threads", 2, "--target", "arousal", "--out", root / "out")
    table = table_in(root / "out" / "cost-first-fused-trained.csv")
    assert set(table["target"]) == {"arousal"}
    assert set(table["threads"]) == {2}
    assert {p.suffix for p in (root / "out").iterdir()} == {".csv", ".png", ".pdf", ".svg"}
    names = {"hubert", "hubert (fused)", "text", "acoustic", "hubert + text", "hubert + text (trained)"}
    assert set(table["encoder"]) == names
    by_needs = table.groupby("encoder")["multiply_adds"].max()
    fused = table[table["probe"] == "fused_weighted_sum"].iloc[0]
    assert fused["multiply_adds"] == by_needs["hubert"] + by_needs["text"]
    assert fused["reads"] == "audio + text"
    (trained,) = table[table["probe"] == "trained"].to_dict("records")
    (regressor, *_) = load_regressors(read_regressor(root / "trained"))
    assert trained["parameters"] == sum(p.numel() for p in regressor.parameters())
    assert trained["multiply_adds"] == fused["multiply_adds"]  # its encoders are the same, up to their last layers
    assert trained["weights"] == "random"
    assert trained["real_time_factor"] > 0
    assert set(table["n_speakers"]) == {table["n_speakers"].iloc[0]}


def test_a_regressor_alone_with_few_test_speakers_is_not_called_sufficient(root):
    text = done("cost", root / "trained", "--no-benchmark", "--out", root / "alone")
    table = table_in(root / "alone" / "cost.csv")
    assert table["n_speakers"].max() < 3
    assert not table["is_cheapest"].any()
    assert table["on_front_parameters"].all()
    assert table["real_time_factor"].isna().all()
    assert "arousal: which candidates are not significantly worse than the best is not known" in text
    assert "RTF" not in text


def test_a_folder_that_is_gone_is_stated_and_can_be_named(root, folders):
    moved = (root / "material" / "text").rename(root / "material" / "moved")
    try:
        text = done("cost", root / "fused", "--no-benchmark", "--out", root / "gone")
        assert "text was extracted from a folder called text, which is no longer at" in text
        table = table_in(root / "gone" / "cost.csv")
        assert table[table["reads"] != "audio"]["multiply_adds"].isna().all()
        done("cost", root / "fused", "--no-benchmark", "--out", root / "gone", "--encoder", f"text={moved}")
        assert table_in(root / "gone" / "cost.csv")["multiply_adds"].notna().all()
    finally:
        moved.rename(root / "material" / "text")


def test_wrong_values_are_refused_before_anything_is_measured(root):
    assert "target 'joy' is not in the runs; choose one of arousal, valence" in refused(
        "cost", root / "first", "--target", "joy"
    )
    assert "cost 'flops' is unknown" in refused("cost", root / "first", "--by", "flops")
    assert "--encoder hubert names no folder" in refused("cost", root / "first", "--encoder", "hubert")
    assert "no encoder of the runs is called 'x'" in refused("cost", root / "first", "--encoder", "x=/tmp")
    assert "width 'wide' is unknown" in refused("cost", root / "first", "--width", "wide")
