"""Headers: optional keys, a format version, and questions about scales that are not stated."""

from __future__ import annotations

import pandas as pd
import pytest

from layerprobe.probe.data.manifest.header import read_header
from layerprobe.probe.data.manifest.schema import Header, ManifestError, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError

SCALE = "[targets.arousal]\nminimum = 1\nmaximum = 7\n"
CELLS = pd.DataFrame({"arousal": ["1.2", "6.8", ""], "emotion": ["glad", "cross", "glad"], "noise": ["", "", ""]})


def header(tmp_path, text, cells=CELLS):
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return read_header(path, cells, table_path=tmp_path / "my.csv")


def problems(tmp_path, text, cells=CELLS):
    with pytest.raises(ManifestError) as caught:
        header(tmp_path, text, cells)
    return [problem.text for problem in caught.value.problems]


def test_a_corpus_and_a_target_are_enough(tmp_path):
    assert header(tmp_path, f'corpus = "c"\n{SCALE}') == Header("c", targets={"arousal": Target(1, 7)})
    assert problems(tmp_path, "# nothing\n") == [
        'corpus is missing: state the name of the corpus, corpus = "…"',
        "my.toml describes no target; add [targets.NAME] for each column of ratings or classes",
    ]


@pytest.mark.parametrize("targets", ['["arousal"]', '"arousal"', "3", "{}"])
def test_targets_that_are_no_tables_are_no_targets(tmp_path, targets):
    assert problems(tmp_path, f'corpus = "c"\ntargets = {targets}\n') == [
        "my.toml describes no target; add [targets.NAME] for each column of ratings or classes"
    ]


def test_licence_has_two_spellings_which_may_not_contradict(tmp_path):
    for keys in ('licence = "CC0"', 'license = "CC0"', 'licence = "CC0"\nlicense = "CC0"'):
        assert header(tmp_path, f'corpus = "c"\n{keys}\n{SCALE}').licence == "CC0"
    assert problems(tmp_path, f'corpus = "c"\nlicence = "a"\nlicense = "b"\n{SCALE}') == [
        "licence is 'a' and license 'b'; they are one key, so keep only one"
    ]


@pytest.mark.parametrize("version", ["2", "0", '"1"', "true", "1.5"])
def test_another_format_version_is_refused_in_one_sentence(tmp_path, version):
    with pytest.raises(
        InputError, match=r"my\.toml has format_version .*, and this layerprobe reads 1 only: .*\. \[LP\d{3}\]$"
    ):
        header(tmp_path, f'format_version = {version}\ncorpus = "c"\n{SCALE}')


def test_headers_are_written_with_their_format_version_and_without_empty_keys(tmp_path):
    write_manifest(tmp_path / "my.csv", CELLS, Header("c", targets={"arousal": Target(1, 7)}))
    text = (tmp_path / "my.toml").read_text()
    assert text.startswith('format_version = 1\ncorpus = "c"\n\n[targets.arousal]\n')
    assert header(tmp_path, text) == Header("c", targets={"arousal": Target(1, 7)})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("[targets.arousal]", "my.toml states no scale for arousal; its ratings run from 1.2 to 6.8. "
         "State minimum and maximum, e.g. minimum = 1, maximum = 7."),
        ("[targets.arousal]\nminimum = 1", "my.toml states no maximum for arousal; its ratings run from 1.2 to 6.8. "
         "State maximum, e.g. maximum = 7."),
        ("[targets.emotion]", "my.toml states no scale for emotion; its column holds texts: cross, glad. "
         'State its classes, e.g. classes = ["cross", "glad"].'),
        ("[targets.noise]", "my.toml states no scale for noise; its column is empty. "
         "State minimum and maximum, e.g. minimum = 1, maximum = 7."),
        ("[targets.joy]", "my.toml states no scale for joy, and the table has no such column. "
         "State minimum and maximum, e.g. minimum = 1, maximum = 7."),
        ("[targets.arousal]\nminimum = 7\nmaximum = 1",
         "[targets.arousal] has minimum 7 and maximum 1; the minimum must be the smaller"),
        ('[targets.arousal]\nminimum = "1"\nmaximum = 7',
         "[targets.arousal] has minimum '1' and maximum 7; both must be numbers"),
        ("[targets.arousal]\nminimum = 1\nmaximum = inf",
         "[targets.arousal] has minimum 1 and maximum inf; both must be numbers"),
    ],
)  # fmt: skip
def test_a_scale_that_is_not_stated_is_a_question_with_the_observed_range(tmp_path, keys, message):
    assert problems(tmp_path, f'corpus = "c"\n{keys}\n') == [message]


def test_an_unusual_scale_is_suggested_from_the_ratings_themselves(tmp_path):
    cells = pd.DataFrame({"loudness": ["0.5", "97.3"]})
    (message,) = problems(tmp_path, 'corpus = "c"\n[targets.loudness]\n', cells)
    assert message.endswith(
        "its ratings run from 0.5 to 97.3. State minimum and maximum, e.g. minimum = 0, maximum = 98."
    )


def test_a_broken_header_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"my\.toml is not valid TOML: .* Correct it\. \[LP\d{3}\]$"):
        header(tmp_path, "corpus = ")
