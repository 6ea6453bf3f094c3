"""Drafted headers: which columns become targets, which scales are guessed, and that nothing is overwritten."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.command_line import run as command

from layerprobe.probe.data.manifest.draft_header import DraftTarget, draft_header, write_draft
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.scales import usual_scale
from layerprobe.probe.data.manifest.schema import Nominal, Target
from layerprobe.probe.exceptions import InputError


@pytest.fixture
def table(tmp_path, write_audio):
    """Eight rows with every kind of column."""
    write_audio("a.wav")
    rows = [
        {
            "utterance_id": f"{k:03d}", "path": "a.wav", "speaker_id": k % 4, "start": 0.1 * k, "end": 0.1 * k + 0.1,
            "split": "train", "gender": "f", "corpus": "one", "transcript": f"text {k % 2}", "duration": 0.1,
            "arousal": 2.5 + k / 4, "arousal_r1": 1 + k % 7, "arousal_r2": 4,
            "valence": (k - 4) / 4, "how loud": k / 8, "likes": 3 * k, "emotion": "glad" if k % 3 else "cross",
            "comment": f"remark {k}", "same": 5, "asr_transcript_source": "model a" if k % 2 else "model b",
        }
        for k in range(8)
    ]  # fmt: skip
    path = tmp_path / "my.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_numeric_columns_become_rated_targets_and_texts_with_few_values_nominal_ones(table):
    draft = draft_header(table)
    assert draft.targets == (
        DraftTarget("arousal", 1, 7, (1, 7)),  # ratings of single raters reach the ends of the scale
        DraftTarget("valence", -1, 0.75, (-1, 1)),
        DraftTarget("how loud", 0, 0.875, (0, 1)),
        DraftTarget("likes", 0, 21, None),
    )
    assert draft.classes == {"emotion": ("glad", "cross")}
    assert draft.missing == ()
    assert set(draft.other) == {
        "start", "end", "split", "gender", "corpus", "transcript", "duration", "comment", "same",
        "asr_transcript_source",
    }  # fmt: skip


def test_a_draft_can_be_read_and_marks_every_guess(table):
    write_draft(draft_header(table))
    header = read_manifest(table).header
    assert (header.corpus, header.version, header.licence) == ("my", "", "")
    assert header.targets == {"arousal": Target(1, 7), "valence": Target(-1, 1), "how loud": Target(0, 1)}
    assert header.nominal == {"emotion": Nominal(("glad", "cross"))}
    lines = table.with_suffix(".toml").read_text().splitlines()
    scales = [line for line in lines if line.startswith(("minimum", "maximum", "classes"))]
    assert len(scales) == 7
    assert all("# check" in line for line in scales)
    assert "minimum = 1  # check: a guess, ratings run from 1 to 7" in lines
    commented = lines[lines.index("# [targets.likes]") :][:3]
    assert commented == ["# [targets.likes]", "# minimum =", "# maximum ="]


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(1, 5, (1, 5)), (1, 5.1, (1, 7)), (2, 8, (1, 9)), (0, 1, (0, 1)), (-0.2, 1, (-1, 1)), (0, 5, None), (1, 9.5, None),
     (-3, 3, None), (0, 100, None)],
)  # fmt: skip
def test_a_scale_is_guessed_only_where_the_ratings_fit(low, high, scale):
    assert usual_scale(low, high) == scale


def test_names_that_toml_must_quote_survive(table):
    names = {"arousal": 'a "b" \\ c.d', "emotion": "é motion"}
    pd.read_csv(table, dtype=str).rename(columns=names).drop(columns=["arousal_r1", "arousal_r2"]).to_csv(
        table, index=False
    )
    write_draft(draft_header(table))
    header = read_manifest(table).header
    assert names["arousal"] in header.targets
    assert names["emotion"] in header.nominal


def test_a_header_that_exists_is_never_overwritten(table):
    header = table.with_suffix(".toml")
    draft = draft_header(table)
    header.write_text("mine")
    with pytest.raises(InputError, match=r"my\.toml exists already and is not overwritten\. Edit it"):
        draft_header(table)
    with pytest.raises(InputError, match="exists already and is not overwritten"):
        write_draft(draft)
    assert command("manifest", "init", table).exit_code == 2
    assert header.read_text() == "mine"


def test_the_command_prints_what_it_wrote_and_what_to_check(table):
    result = command("manifest", "init", table)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    header = table.with_suffix(".toml")
    assert lines[0] == f"{header} written: 4 targets. Check, and edit where wrong:"
    assert "  arousal: scale 1 to 7, guessed (ratings from 1 to 7)" in lines
    assert "  emotion: classes glad, cross" in lines
    assert any(line.startswith("  likes: ratings from 0 to 21, no usual scale") for line in lines)
    assert lines[-1] == f"Next: layerprobe manifest validate {table}"
    assert command("manifest", "validate", table).exit_code == 0


def test_a_table_without_a_needed_column_is_drafted_and_the_column_named(table):
    pd.read_csv(table, dtype=str).drop(columns="speaker_id").to_csv(table, index=False)
    result = command("manifest", "init", table)
    assert f"{table} lacks the column speaker_id." in result.stdout


def test_a_missing_table_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv does not exist\. Give the path of a table"):
        draft_header(tmp_path / "no.csv")
