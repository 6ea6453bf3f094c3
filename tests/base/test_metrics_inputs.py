"""What metrics accept and refuse."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch

from layerprobe.probe.metrics import CLASS_METRICS, METRICS, RATING_METRICS, macro_f1, uar

RATINGS, PREDICTION = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.5, 2.0, 3.0, 3.5])
CODES, GUESSES = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
FORMS = {
    "list": list,
    "tuple": tuple,
    "Series": pd.Series,
    "nullable Series": lambda a: pd.Series(a).convert_dtypes(),
    "objects": lambda a: a.astype(object),
    "tensor": torch.from_numpy,
    "strided": lambda a: np.column_stack([a, a])[:, 1],
    "masked array": np.ma.masked_array,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", METRICS)
def test_every_array_like_gives_the_score_of_its_numbers(name, form):
    a, b = (CODES, GUESSES) if name in CLASS_METRICS else (RATINGS, PREDICTION)
    assert METRICS[name](FORMS[form](a), FORMS[form](b)) == METRICS[name](a, b)


def test_tensors_with_a_gradient_or_of_bfloat16_are_taken():
    prediction = torch.tensor([1.5, 2.0, 3.0, 3.5], requires_grad=True)
    for name, metric in RATING_METRICS.items():
        assert (
            metric(RATINGS, prediction) == metric(RATINGS, prediction.bfloat16()) == METRICS[name](RATINGS, PREDICTION)
        )


def test_classes_are_numbers_or_names_and_one_form_in_both():
    names = np.array(["angry", "calm", "sad"])
    for metric in (uar, macro_f1):
        assert metric(names[CODES], pd.Series(names[GUESSES])) == metric(CODES, GUESSES)
        assert metric(CODES.astype(float), GUESSES) == metric(CODES, GUESSES)
        with pytest.raises(ValueError, match=r"^prediction holds names of classes and truth holds numbers; "):
            metric(CODES, names[GUESSES])
        with pytest.raises(ValueError, match=r"^truth holds names of classes and prediction holds numbers; "):
            metric(names[CODES], GUESSES)
    with pytest.raises(ValueError, match=r"^truth holds 1\.5 at position 1; give classes as whole numbers or names\.$"):
        uar([1.0, 1.5], [1, 1])
    with pytest.raises(ValueError, match=r"^truth holds 1 of 2 values that are missing .* the first at position 1 "):
        uar(["angry", None], ["angry", "sad"])


WRONG = {
    "column": (RATINGS[:, None], "has shape (4, 1); give one dimension, e.g. frame['arousal'] or .ravel()."),
    "matrix": (np.ones((2, 2)), "has shape (2, 2); give one dimension, e.g. frame['arousal'] or .ravel()."),
    "frame": (pd.DataFrame({"a": RATINGS}), "has shape (4, 1); give one dimension, e.g. frame['arousal'] or .ravel()."),
    "scalar": (3.0, "has shape (); give one dimension, e.g. frame['arousal'] or .ravel()."),
    "empty": ([], "is empty; a metric takes at least one utterance."),
    "ragged": ([[1.0], [1.0, 2.0]], "holds sequences of unequal lengths; give one value per utterance."),
    "NaN": (
        [1.0, np.nan, 2.0, np.nan],
        "holds 2 of 4 values that are missing or not finite, the first at position 1 (counted from 0); leave these "
        "utterances out of both vectors.",
    ),
    "infinity": (
        [1.0, 1.0, 2.0, np.inf],
        "holds 1 of 4 values that are missing or not finite, the first at position 3 (counted from 0); leave these "
        "utterances out of both vectors.",
    ),
    "None": (
        [None, 1.0, 2.0, 1.0],
        "holds 1 of 4 values that are missing or not finite, the first at position 0 (counted from 0); leave these "
        "utterances out of both vectors.",
    ),
    "pandas NA": (
        pd.Series([1, 2, None, 4], dtype="Int64"),
        "holds 1 of 4 values that are missing or not finite, the first at position 2 (counted from 0); leave these "
        "utterances out of both vectors.",
    ),
    "masked": (
        np.ma.masked_array(RATINGS, mask=[False, True, False, False]),
        "holds 1 of 4 values that are missing or not finite, the first at position 1 (counted from 0); leave these "
        "utterances out of both vectors.",
    ),
}
NOT_NUMBERS = {
    "strings": (["1", "2", "3", "4"], "'1'"),
    "mixed": (np.array([1.0, "b", 2.0, 3.0], dtype=object), "'b'"),
    "booleans": (RATINGS > 2, "False"),
    "complex": (RATINGS + 1j, "(1+1j)"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", METRICS)
def test_what_is_no_vector_of_numbers_is_refused_and_the_argument_named(name, kind):
    values, reason = WRONG[kind]
    truth, first = (CODES, "truth") if name in CLASS_METRICS else (RATINGS, "ratings")
    with pytest.raises(ValueError, match=f"^{re.escape(f'{first} {reason}')}$"):
        METRICS[name](values, truth)
    with pytest.raises(ValueError, match=f"^{re.escape(f'prediction {reason}')}$"):
        METRICS[name](truth, values)


@pytest.mark.parametrize("kind", NOT_NUMBERS)
@pytest.mark.parametrize("name", RATING_METRICS)
def test_ratings_that_are_no_numbers_are_refused(name, kind):
    values, example = NOT_NUMBERS[kind]
    message = re.escape(f"prediction holds values that are not numbers, e.g. {example}; give numbers.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        METRICS[name](RATINGS, values)


@pytest.mark.parametrize("name", METRICS)
def test_unequal_lengths_are_refused(name):
    first = "truth" if name in CLASS_METRICS else "ratings"
    message = f"^{first} has 4 values and prediction has 3; give one of each per utterance\\.$"
    with pytest.raises(ValueError, match=message):
        METRICS[name](CODES, CODES[:3])
