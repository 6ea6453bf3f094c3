"""The examples of the documentation: each runs as a script of its own and prints the answer that was planted."""

from __future__ import annotations

import ast
import re

import pytest
from helpers.command_line import ROOT

GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = sorted(GALLERY.glob("plot_*.py"))
LONGEST = 60  # lines, with which an example is read without scrolling
QUICK = ("plot_09_your_own_encoder", "plot_10_your_own_corpus")  # the others have speech encoded by a trained encoder
ANSWERS = {  # what the corpus was made for, or what an example promises
    "plot_01_folder_of_recordings": r"moment-matched CCC of 0\.[78]\d",
    "plot_02_hugging_face_dataset": r"192 rows of the dataset became 192 cached utterances",
    "plot_03_random_initialisation": r"is better by 0\.[12345]\d, 95 % 0\.\d\d to",
    "plot_04_text_and_audio": r"arousal the audio adds 0\.[6-9].*(\n.*)*valence the text adds 0\.[6-9]",
    "plot_05_arousal_without_loudness": r"loudness alone explains 0\.[56]\d of arousal's variance",
    "plot_06_spans_in_time": (
        r"\n8 +arousal_first( +0\.[3-9]\d){4}\n8 +arousal_second( +0\.[3-9]\d){4}"  # in context
        r"\nlog_mel arousal_first( +0\.[5-8]\d){2}( +-?0\.[0-2]\d){2}"
        r"\nlog_mel arousal_second( +-?0\.[0-2]\d){2}( +0\.[5-8]\d){2}"
    ),
    "plot_07_frozen_and_tuned": r"layer 8 gained 0\.[1-9]\d; layer 5, below all tuned blocks, 0\.00",
    "plot_08_cut_and_deploy": r"cache is (0e\+00|\de-0[5-9])\.\nA new recording is rated [1-7]\.\d \(.* in 90 %\)",
    "plot_09_your_own_encoder": r"layers 0, 1, 2, 3, 4, final are cached; layer 2 is transformers' within \de-0[5-9]",
    "plot_10_your_own_corpus": r"mine.csv has 2 problems:\n +row 4: .*\n +row 7: (.*\n)*.*24 speakers",
    "plot_11_your_own_figure": r"correlation of valence differs by 0\.\d\d between folds",
    "plot_12_several_processes": r"ended with \[0, 0\]; .*\nthe same as those of one process, bit for bit",
    "plot_13_without_loudness": (
        r": 0\.[78]\d, without f0 0\.[67]\d, random 0\.[78]\d\n.* without loudness -?0\.[0-2]\d, random 0\.[78]\d\n.*"
        r" without loudness\+f0\+speech_rate -?0\.0\d, random 0\.[78]\d\n"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which the examples are started one after the other; they find the caches of those before."""
    return tmp_path_factory.mktemp("gallery")


def test_every_example_has_an_answer_that_is_tested():
    assert [path.stem for path in EXAMPLES] == sorted(ANSWERS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_begins_with_its_question_and_ends_with_its_answer(path):
    lines = path.read_text().splitlines()
    title, text, *_ = ast.get_docstring(ast.parse("\n".join(lines))).split("\n\n")
    assert len(lines) <= LONGEST
    assert re.fullmatch(r".+\n=+", title)
    assert re.match(r"[^.?]+\?", text)
    assert any('print(f"Answer: ' in line or 'print("Answer: ' in line for line in lines[-6:])


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.long) for path in EXAMPLES],
)
def test_an_example_runs_and_prints_its_answer(path, folder, forks):
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(GALLERY)!r}); runpy.run_path({str(path)!r}, run_name='__main__')"
    )
    ended = forks.run(code=code, folder=folder, timeout=900, environment={"MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"})
    assert ended.returncode == 0, ended.stderr
    assert re.search(ANSWERS[path.stem], ended.stdout), ended.stdout
