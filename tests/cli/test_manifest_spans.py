"""manifest spans from the command line: what is written and printed, and what is refused."""

from __future__ import annotations

import tomllib

import pandas as pd
import pytest
from helpers.command_line import refused, run
from helpers.corpus_trees import recola

WINDOWS = ("--every", 0.2, "--window", 0.2)


@pytest.fixture
def corpus(tmp_path):
    """RECOLA's tree with the manifest that is imported from it."""
    folder = recola(tmp_path)
    assert run("manifest", "import", "recola", folder, "--out", tmp_path / "my.csv").exit_code == 0
    return folder, tmp_path / "my.csv"


def test_a_table_and_its_description_are_written_and_the_summary_printed(corpus, tmp_path):
    folder, manifest = corpus
    out = tmp_path / "new" / "spans.csv"
    result = run("manifest", "spans", "recola", folder, manifest, *WINDOWS, "--lag", 0.4, "--out", out)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out)
    assert list(table)[:8] == [
        "span_id", "utterance_id", "start", "end", "label", "arousal", "arousal_n_samples", "arousal_n_raters",
    ]  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[0] == f"{out}: 14 spans of 5 utterances, lag 0.4 s"
    assert lines[1].startswith(f"  arousal: mean {table['arousal'].mean():.2f}, standard deviation ")
    assert "; CCC 0.11 (mean of 15 pairs of raters), of a rater with the mean of the others " in lines[1]
    assert lines[-3] == "0 utterances left out."
    assert lines[-2].startswith(f"Next: layerprobe extract {manifest} --encoder acoustic ")
    content = tomllib.loads(out.with_suffix(".toml").read_text())
    assert (content["corpus"], content["lag"], content["targets"]["valence"]["minimum"]) == ("RECOLA", 0.4, -1.0)
    assert content["targets"]["arousal"]["ccc_of_pairs"] == pytest.approx(0.1146, abs=1e-4)
    assert content["spans"] == "windows of 0.2 s every 0.2 s"


def test_equal_input_gives_equal_bytes(corpus, tmp_path):
    folder, manifest = corpus
    for name in ("a", "b"):
        run("manifest", "spans", "recola", folder, manifest, *WINDOWS, "--out", tmp_path / f"{name}.csv")
    for ending in ("csv", "toml"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_spans_of_a_file_are_rated_with_their_labels_and_ids(corpus, tmp_path):
    folder, manifest = corpus
    (tmp_path / "spoken.ctm").write_text("P16_002 1 0.0 0.2 not\nP16_002 1 0.2 0.3 today\nP17 1 1.1 0.1 so\n")
    done = run(
        "manifest", "spans", "recola", folder, manifest, "--spans", tmp_path / "spoken.ctm", "--out", tmp_path / "s.csv"
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "s.csv")
    # the span of P17 is in seconds of its audio file, of which the second turn begins at 1 s
    assert table["span_id"].tolist() == ["P16_002#0000", "P16_002#0001", "P17_002#0000"]
    assert table["label"].tolist() == ["not", "today", "so"]
    assert table[["start", "end"]].to_numpy().tolist() == [[0.0, 0.2], [0.2, 0.5], [0.1, 0.2]]
    assert "3 utterances left out: without spans (3)." in done.stdout


def test_a_table_has_targets_and_scales_of_options_and_gaps_are_printed(corpus, tmp_path):
    _, manifest = corpus
    (tmp_path / "t.csv").write_text("utterance_id,time,joy,frame\nP16_002,0.1,2,1\nP16_002,0.3,,2\nP16_002,0.5,9,3\n")
    options = ("--target", "joy", "--scale", "joy=0:5", "--out", tmp_path / "s.csv")
    done = run("manifest", "spans", "table", tmp_path / "t.csv", manifest, *WINDOWS, *options)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "s.csv")["joy"].tolist()[0] == 2
    assert "  joy: 3 spans without a rating, left empty\n" in done.stdout
    assert "  1 sample of joy outside of its scale left out\n" in done.stdout
    assert "4 utterances left out: without traces (4)." in done.stdout
    assert "one rater, so there is no agreement" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--out", "s.csv"),
            "spans are either those of a file or windows. Give --spans PATH, or --every with --window.",
        ),
        ((*WINDOWS, "--out", "s.parquet"), "s.parquet is not a .csv file, which is what is written. Name it s.csv."),
        (
            (*WINDOWS, "--lag", -2, "--out", "s.csv"),
            "--lag -2 is no number of seconds of 0 or more. Choose one such as 3.",
        ),
        ((*WINDOWS, "--lag", "nan", "--out", "s.csv"), "--lag nan is no number of seconds of 0 or more."),
        (
            (*WINDOWS, "--target", "joy", "--out", "s.csv"),
            "--target and --scale go with the format table; recola states",
        ),
        ((*WINDOWS, "--out", "my.csv"), "my.csv would replace the manifest my.csv or its header. Name another --out."),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(corpus, tmp_path, monkeypatch, options, message):
    folder, _ = corpus
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "my.csv").read_bytes()
    assert message in refused("manifest", "spans", "recola", folder, "my.csv", *options)
    assert not (tmp_path / "s.csv").exists()
    assert (tmp_path / "my.csv").read_bytes() == before


def test_a_table_of_spans_replaces_nothing_that_is_read_nor_a_file_of_others(corpus, tmp_path):
    _, manifest = corpus
    folder = tmp_path / "traces"
    folder.mkdir()
    one = folder / "P16_002.csv"
    one.write_text("time,joy\n0.1,2\n0.3,3\n")
    (tmp_path / "t.csv").write_text("utterance_id,time,joy\nP16_002,0.1,2\nP16_002,0.3,3\n")
    (tmp_path / "spoken.csv").write_text("utterance_id,start,end\nP16_002,0,0.4\n")
    (tmp_path / "mine.toml").write_text('format_version = 1\ncorpus = "x"\n[targets.joy]\nminimum = 1\n')
    (tmp_path / "link.csv").hardlink_to(tmp_path / "t.csv")
    before = {path: path.read_bytes() for path in [*tmp_path.glob("*.*"), one]}
    spoken = ("--spans", tmp_path / "spoken.csv")
    for traces, options, out, message in (
        (tmp_path / "t.csv", WINDOWS, tmp_path / "t.csv", f"would replace {tmp_path / 't.csv'}, which is read."),
        (tmp_path / "t.csv", WINDOWS, tmp_path / "link.csv", f"would replace {tmp_path / 't.csv'}, which is read."),
        (folder, spoken, tmp_path / "spoken.csv", f"would replace {tmp_path / 'spoken.csv'}, which is read."),
        (folder, spoken, one, f"would replace a file of {folder}, which is read."),
        (folder, spoken, tmp_path / "mine.csv", "mine.toml would be replaced, and no table of spans was written with"),
    ):
        assert message in refused("manifest", "spans", "table", traces, manifest, *options, "--out", out)
    assert {path: path.read_bytes() for path in before} == before
    for _ in range(2):  # its own output is replaced
        done = run("manifest", "spans", "table", folder, manifest, *spoken, "--out", tmp_path / "s.csv")
        assert done.exit_code == 0, done.output
