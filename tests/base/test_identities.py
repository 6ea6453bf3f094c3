"""Names: what normalising changes, what it never joins, which names look alike, and which mean "not known"."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import (
    has_lost_digits,
    is_unknown,
    likeness,
    normalise_name,
    normalise_names,
    similar_names,
)
from layerprobe.probe.splits import SpeakerKFold

BLANKS = ("\u0020", "\t", "\r", "\n", "\u00a0", "\u2003", "\u202f", "\u3000", "\u200b", "\u200d", "\u2060", "\ufeff",
          "\u00ad", "\u200e", "\x00", "\u2028")  # fmt: skip


@pytest.mark.parametrize("blank", BLANKS, ids=lambda b: f"U+{ord(b):04X}")
def test_blanks_and_invisible_characters_at_the_ends_are_removed_and_within_a_name_they_are_not(blank):
    assert normalise_name(f"{blank}s0") == normalise_name(f"s0{blank}{blank}") == "s0"
    assert normalise_name(f"s{blank}0") == f"s{blank}0"
    assert likeness(f"s{blank}0") == likeness("s0")


def test_composed_and_decomposed_letters_are_one_name_and_other_letters_are_not():
    for name in ("Amélie", "Ñandú", "が", "각"):
        assert normalise_name(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)
    assert len({normalise_name(n) for n in ("Ame\u0301lie", "Amelie", "ＡＭＥＬＩＥ", "amelie")}) == 4


def test_a_decimal_zero_goes_only_where_a_whole_column_has_it():
    assert normalise_names(["1.0", "12.0", "", "nan", "-3.0"]) == ["1", "12", "", "nan", "-3"]
    for kept in (["1.0", "1.5"], ["1.0", "1"], ["1.0", "s1"], ["01.0", "2.0"], ["1.", "2."]):
        assert normalise_names(kept) == kept


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ("s0", "S0", "case"), ("Straße", "STRASSE", "case"), ("s 0", "s0", "blanks"), ("a\u200bb", "ab", "blanks"),
        ("ｓ０", "s0", "Unicode form"), ("x²", "x2", "Unicode form"), ("s1", "s01", "leading zeros"),
        ("7", "007", "leading zeros"), ("7", "7.0", "a decimal .0"), ("s\u20131", "s-1", "dashes"),
        ("S 01", "s1", "case and blanks and leading zeros"),
    ],
)  # fmt: skip
def test_names_that_look_alike_are_found_with_what_they_differ_in(a, b, difference):
    assert normalise_name(a) != normalise_name(b)
    (found,) = similar_names([a, a, b, "other"])
    assert (found.names, found.counts, found.difference) == ((a, b), (2, 1), difference)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("s1", "s10"),
        ("s1", "s2"),
        ("1.01", "1.1"),
        ("1.10", "1.1"),
        ("0", "00a"),
        ("a", "á"),
        ("s_1", "s1"),
        ("100", "10"),
    ],
)
def test_names_that_can_be_two_people_do_not_look_alike(a, b):
    assert similar_names([a, b]) == []


@pytest.mark.parametrize(
    "name",
    ["", "nan", "NaN", "None", "NULL", "n/a", "N/A", "#N/A", "NA", "<NA>", "unknown", "Unknown", "(unknown)", "UNK",
     "<unk>", "?", "???", "-", "--", ".", "_", "unbekannt", "unknown_speaker", "Speaker unknown", "SPK-UNK",
     "not known", "TBD"],
)  # fmt: skip
def test_usual_spellings_of_not_known(name):
    assert is_unknown(name)


@pytest.mark.parametrize(
    "name",
    ["Nancy", "Nana", "Anna", "0", "x", "?1", "unknown soldier", "speaker", "unknown speaker 2", "-1", "N", "王"],
)
def test_names_that_are_not(name):
    assert not is_unknown(name)


def test_a_number_that_a_spreadsheet_shortened_is_seen_and_a_name_of_letters_is_not():
    assert has_lost_digits("1.23457E+15")
    assert has_lost_digits("1e+16")
    assert not any(map(has_lost_digits, ("1e5", "3E10", "e+1", "1.5", "E+15", "1.2E+3x")))


def test_folds_for_scikit_learn_see_one_speaker_in_two_spellings_and_refuse_gaps():
    clean = np.array(["a", "a", "b", "b", "c", "c"], dtype=object)
    spelled = np.array(["a", "a ", "b", "\u200bb", "c", "c\u00a0"], dtype=object)
    folds = [test.tolist() for _, test in SpeakerKFold(3, seed=1).split(clean, groups=clean)]
    assert [test.tolist() for _, test in SpeakerKFold(3, seed=1).split(spelled, groups=spelled)] == folds
    with pytest.raises(InputError, match="groups lacks the speaker of 2 rows, the first at position 4"):
        list(SpeakerKFold(2).split(clean, groups=["a", "a", "b", "b", "n/a", None]))
