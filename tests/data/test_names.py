"""Names in manifests: one speaker in several spellings is one, those that look alike are refused until it is stated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import refused, run as command
from helpers.planted import DIM, store

from layerprobe.probe.data.manifest.header import read_header
from layerprobe.probe.data.manifest.read import read_manifest, read_numbered_manifest, read_utterances
from layerprobe.probe.data.manifest.schema import ManifestError, NameRules
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions, read_run

SCALE = "[targets.arousal]\nminimum = 1\nmaximum = 7\n"


def table_of(folder, speakers, header="", targets=SCALE, **columns):
    """A manifest with a row for each speaker."""
    n = len(speakers)
    (folder / "x.wav").touch()
    rows = {"utterance_id": [f"u{k}" for k in range(n)], "path": "x.wav", "speaker_id": speakers}
    path = folder / "my.csv"
    pd.DataFrame(rows | {"arousal": [1 + k % 7 for k in range(n)]} | columns).to_csv(path, index=False)
    path.with_suffix(".toml").write_text(f'corpus = "c"\n{header}\n{targets}', encoding="utf-8")
    return path


def problems(path, **options):
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return [problem.text for problem in caught.value.problems]


def speakers_of(path, **options):
    return read_manifest(path, **options).table["speaker_id"].tolist()


def test_a_manifest_with_blanks_and_decomposed_letters_has_the_content_of_a_clean_one(tmp_path):
    clean = table_of(tmp_path, ["s0", "s0", "Amélie", "Amélie"], split=["train", "train", "test", "test"])
    expected = read_manifest(clean)
    spelled = ["s0", "\u200bs0\u00a0", "Amélie", "Ame\u0301lie "]
    path = table_of(tmp_path, spelled, split=["train ", "train", "test", "\ttest"],
                    utterance_id=["u0 ", "u1", "\ufeffu2", "u3"])  # fmt: skip
    found = read_manifest(path)
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert (found.content_hash(), found.n_speakers) == (expected.content_hash(), 2)
    pd.testing.assert_frame_equal(read_utterances(path)[["utterance_id", "speaker_id"]],
                                  expected.table[["utterance_id", "speaker_id"]])  # fmt: skip


def test_ids_that_are_one_after_normalising_are_refused_with_both_rows(tmp_path):
    path = table_of(tmp_path, ["a", "b"], utterance_id=["u0", "u0\u00a0"])
    assert problems(path) == ["row 3: utterance_id 'u0' is also in row 2"]


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [("s0", "S0", "case"), ("1", "01", "leading zeros"), ("1", "1.0", "a decimal .0"), ("ab", "a b", "blanks"),
     ("s0", "ｓ0", "Unicode form")],
)  # fmt: skip
def test_speakers_that_look_alike_are_refused_until_the_header_states_which(tmp_path, a, b, difference):
    spelled = [a, a, b, "other"]
    (message,) = problems(table_of(tmp_path, spelled))
    listed = f'speaker_id = [["{a}", "{b}"]]'
    assert message == (
        f"speaker_id {a!r} (2 rows) and {b!r} (1 row) differ only in {difference}: if they are one speaker, write "
        f"same_names.{listed} at the top of my.toml, else distinct_names.{listed}"
    )
    assert speakers_of(table_of(tmp_path, spelled, f"same_names.{listed}")) == [a, a, a, "other"]
    assert speakers_of(table_of(tmp_path, spelled, f"distinct_names.{listed}")) == spelled
    assert speakers_of(table_of(tmp_path, spelled, 'same_names.speaker_id = "all"')) == [a, a, a, "other"]
    assert speakers_of(table_of(tmp_path, spelled, 'distinct_names.speaker_id = "all"')) == spelled


def test_the_option_decides_for_one_run(tmp_path):
    path = table_of(tmp_path, ["s0", "S0", "s0", "t1", "T1", "a=b", "A=B"])
    with pytest.raises(ManifestError, match="--same-speaker A=B for two names of one"):
        read_manifest(path)
    assert speakers_of(path, same_speaker=["all"]) == ["s0", "s0", "s0", "T1", "T1", "A=B", "A=B"]
    assert speakers_of(path, same_speaker=["none"]) == ["s0", "S0", "s0", "t1", "T1", "a=b", "A=B"]
    some = speakers_of(path, same_speaker=["S0=s0", "a=b=A=B", "none"])
    assert some == ["S0", "S0", "S0", "t1", "T1", "a=b", "a=b"]
    wrong = "--same-speaker s0=s9 is not two of the speakers as A=B, nor all or none"
    assert problems(path, same_speaker=["s0=s9", "none"]) == [wrong]


def test_other_names_of_one_speaker_can_be_stated_too_and_lists_join(tmp_path):
    header = 'same_names.speaker_id = [["Anna", "spk1"], ["spk1", "ANNA"]]'
    assert speakers_of(table_of(tmp_path, ["spk1", "Anna", "ANNA", "b"], header)) == ["Anna", "Anna", "Anna", "b"]


def test_three_spellings_of_which_one_pair_is_stated_leave_a_question_on_the_third(tmp_path):
    spelled = ["s0", "S0", "s 0"]
    (message,) = problems(table_of(tmp_path, spelled, 'same_names.speaker_id = [["s0", "S0"]]'))
    assert message.startswith("speaker_id 's0' (2 rows) and 's 0' (1 row) differ only in blanks")
    header = 'same_names.speaker_id = [["s0", "S0"]]\ndistinct_names.speaker_id = [["S0", "s 0"]]'
    assert speakers_of(table_of(tmp_path, spelled, header)) == ["s0", "s0", "s 0"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('same_names.speaker_id = [["s0", "s9"]]', "same_names.speaker_id of my.toml has 's9', which is in no row"),
        ('same_names.speaker_id = [["a", "b"]]\ndistinct_names.speaker_id = [["b", "a"]]',
         "speaker_id 'a' and 'b' are in same_names and in distinct_names; keep one"),
        ('same_names.session = "all"',
         "my.toml has rules for names of session, which is not a column of speakers or groups of the table"),
        ('same_names.utterance_id = "all"',
         "my.toml has rules for names of utterance_id, which is not a column of speakers or groups of the table"),
        ('same_names = "all"',
         'same_names in my.toml must name a column, such as same_names.speaker_id = [["s1", "S1"]]'),
        ('same_names.speaker_id = ["a", "b"]',
         "same_names.speaker_id in my.toml is ['a', 'b']; it must be lists of names, "
         'such as [["s1", "S1"]], or "all"'),
        ('known_names.speaker_id = "NA"',
         "known_names.speaker_id in my.toml is 'NA'; it must be a list of names, such as [\"NA\"]"),
        ('known_names.speaker_id = ["Unknown"]',
         "known_names.speaker_id can't have 'Unknown', which always means not known"),
    ],
)  # fmt: skip
def test_a_rule_that_fits_nothing_is_named(tmp_path, header, message):
    assert problems(table_of(tmp_path, ["s0", "a", "b"], header)) == [message]


def test_a_rule_below_a_target_is_named_and_not_ignored(tmp_path):
    path = table_of(tmp_path, ["s0"], targets=SCALE + 'same_names.speaker_id = [["s0", "S0"]]')
    assert problems(path) == ["same_names stands below [targets.arousal]; move it above the first line in brackets"]


def test_rules_are_written_with_the_header_and_read_back(tmp_path):
    rules = ('same_names.speaker_id = [["s0", "S0"]]\ndistinct_names.speaker_id = [["a", "A"]]\n'
             'known_names.speaker_id = ["NA"]\nsame_names.gender = "all"')  # fmt: skip
    manifest = read_manifest(table_of(tmp_path, ["s0", "S0", "a", "A", "NA"], rules, gender="f"), join_names=False)
    assert manifest.table["speaker_id"].tolist() == ["s0", "S0", "a", "A", "NA"]
    assert manifest.header.names == {
        "speaker_id": NameRules((("s0", "S0"),), (("a", "A"),), ("NA",)), "gender": NameRules(similar="same"),
    }  # fmt: skip
    write_manifest(tmp_path / "out.csv", manifest.table, manifest.header)
    assert read_header(tmp_path / "out.toml", manifest.table, table_path=tmp_path / "out.csv") == manifest.header
    assert speakers_of(tmp_path / "out.csv") == ["s0", "s0", "a", "A", "NA"]


def test_usual_spellings_of_not_known_are_a_speaker_each_and_listed(tmp_path, caplog):
    path = table_of(tmp_path, ["s1", "", "NaN", "n/a", "n/a", "?", "UNKNOWN", "Unknown", "NA", " "])
    numbered = read_numbered_manifest(path)
    assert numbered.manifest.table["speaker_id"].tolist() == ["s1", *["Unknown"] * 9]
    assert numbered.unknown == {"": 2, "NaN": 1, "n/a": 2, "?": 1, "UNKNOWN": 1, "Unknown": 1, "NA": 1}
    assert numbered.manifest.n_speakers == 1
    assert "speaker_id counts as unknown, and each such utterance as a speaker of its own: '' 2, '?' 1" in caplog.text
    result = command("manifest", "validate", path)
    assert (
        "unknown speakers: 9 utterances (written '' 2, '?' 1, 'NA' 1, 'NaN' 1, 'UNKNOWN' 1, 'Unknown' 1"
        in result.stdout
    )


def test_a_speaker_who_is_called_so_is_kept_if_the_header_states_it(tmp_path):
    path = table_of(tmp_path, ["NA", "NA", "na", "s1"], 'known_names.speaker_id = ["NA"]')
    assert speakers_of(path) == ["NA", "NA", "Unknown", "s1"]


def test_groups_follow_the_same_rules_and_their_gaps_are_empty(tmp_path):
    columns = {"gender": ["f", "F", "nan"], "corpus": ["one ", "one", "two"], "session": ["1", "01", "?"]}
    path = table_of(tmp_path, ["a", "b", "c"], **columns)
    assert [p.split(":")[0] for p in problems(path, groups=["session"])] == [
        "gender 'F' (1 row) and 'f' (1 row) differ only in case",
        "session '01' (1 row) and '1' (1 row) differ only in leading zeros",
    ]
    rules = 'same_names.gender = [["f", "F"]]\ndistinct_names.session = "all"'
    found = read_manifest(table_of(tmp_path, ["a", "b", "c"], rules, **columns), groups=["session"]).table
    assert found["gender"].tolist() == ["f", "f", ""]
    assert found["corpus"].tolist() == ["one", "one", "two"]
    assert found["session"].tolist() == ["1", "01", ""]


def test_names_of_a_command_that_depends_on_no_speaker_are_no_question(tmp_path):
    path = table_of(tmp_path, ["s0", "S0 "], gender=["f", "F"])
    assert speakers_of(path, join_names=False) == ["s0", "S0"]
    assert speakers_of(table_of(tmp_path, ["s0", "S0 "]), speakers=False) == ["Unknown", "Unknown"]


def test_classes_are_normalised_and_those_that_look_alike_are_refused(tmp_path):
    classes = '[targets.emotion]\nclasses = ["glad ", "calm"]'
    path = table_of(tmp_path, ["a", "b"], targets=f"{SCALE}{classes}", emotion=["glad", "calm\u00a0"])
    assert read_manifest(path).table["emotion"].tolist() == ["glad", "calm"]
    alike = f"{SCALE}{classes.replace('calm', 'Glad')}"
    path = table_of(tmp_path, ["a", "b"], targets=alike, emotion=["glad", "Glad"])
    assert problems(path) == [
        "[targets.emotion] has the classes 'Glad' and 'glad', which differ only in case; give them one spelling here "
        "and in the table, or write distinct_classes = true"
    ]
    path = table_of(tmp_path, ["a", "b"], targets=f"{alike}\ndistinct_classes = true", emotion=["glad", "Glad"])
    manifest = read_manifest(path)
    write_manifest(tmp_path / "out.csv", manifest.table, manifest.header)
    assert read_manifest(tmp_path / "out.csv").header == manifest.header


@pytest.mark.parametrize(
    ("classes", "written", "read"),
    [
        (["0.0", "1.0"], ["0.0", "1.0"], ["0.0", "1.0"]),
        (["0", "1"], ["0.0", "1.0 "], ["0", "1"]),
        (["1.0", "1.5"], ["1.0", "1.0"], ["1.0", "1.0"]),
    ],
)
def test_classes_of_numbers_are_found_with_and_without_a_decimal_zero(tmp_path, classes, written, read):
    targets = f"{SCALE}[targets.emotion]\nclasses = {classes}"
    path = table_of(tmp_path, ["a", "b"], targets=targets, emotion=written)
    assert read_manifest(path).table["emotion"].tolist() == read


def test_a_number_whose_digits_a_spreadsheet_lost_is_no_name(tmp_path):
    assert problems(table_of(tmp_path, ["1.23457E+15", "a"])) == [
        "row 2: speaker_id '1.23457E+15' is a number whose last digits are lost; save the column as text"
    ]


def test_a_column_of_a_similar_name_is_named_where_one_is_missing(tmp_path):
    path = table_of(tmp_path, ["a"])
    path.write_text(path.read_text().replace("speaker_id", "Speaker ID"))
    (message,) = problems(path)
    assert message.startswith(
        "column speaker_id is missing; rename the column 'Speaker ID' to speaker_id (--no-speakers"
    )


def test_a_sweep_of_two_spellings_scores_as_one_of_clean_names_and_records_the_decision(tmp_path):
    n = 48
    rng = np.random.default_rng(0)
    cache = store(tmp_path / "a.zarr", rng.normal(size=(n, 2, DIM)), layers=("0", "1")).path
    clean, spelled = ([f"{name}{k % 12}" for k in range(n)] for name in ("s", "s"))
    spelled[:12] = [name.upper() for name in spelled[:12]]
    options = ("--permutations", 1, "--weighted-sum-seeds", 0, "--folds", 3)
    predictions = []
    for name, speakers, extra in (("clean", clean, ()), ("spelled", spelled, ("--same-speaker", "all"))):
        path = table_of(tmp_path, speakers)
        if extra:
            assert "S0' (1 row) differ only in case" in refused(
                "sweep", cache, path, "--out", tmp_path / name, *options
            )
        result = command("sweep", cache, path, "--out", tmp_path / name, *options, *extra)
        assert result.exit_code == 0, result.output
        found = read_run(tmp_path / name)
        assert found.sweep_plan.same_speaker == tuple(extra[1:])
        predictions.append(read_predictions(tmp_path / name))
    np.testing.assert_array_equal(predictions[0].speaker_id, predictions[1].speaker_id)
    np.testing.assert_array_equal(predictions[0].prediction, predictions[1].prediction)
    again = command("sweep", "--plan", tmp_path / "spelled", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert read_run(tmp_path / "again").fingerprint == read_run(tmp_path / "spelled").fingerprint


def test_a_cache_has_the_ids_of_the_manifest_and_never_two_rows_of_one(tmp_path):
    from layerprobe.probe.cache.layout import utterance_names

    cache = store(tmp_path / "a.zarr", np.ones((2, 2, DIM)), ids=["u0 ", "Ame\u0301lie"], layers=("0", "1"))
    assert cache.utterance_ids.tolist() == ["u0", "Amélie"]
    assert utterance_names(tmp_path, ["a ", "", "", "b"]) == ["a", "", "", "b"]
    with pytest.raises(InputError, match="has 2 rows of the utterance 'a', whose ids differ in blanks"):
        utterance_names(tmp_path, ["a ", "a"])
