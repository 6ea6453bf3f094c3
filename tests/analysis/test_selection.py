"""A layer chosen inside the training speakers: whose predictions it takes, and that it is not too good."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import DEFAULTS, bootstrap_scores_by_hand, predictions_of

from layerprobe.analysis.layers.selection import CHOSEN, regrets, with_chosen
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits


def inner(layer, fold, value, **keys):
    return {**DEFAULTS, "layer": layer, "fold": fold, "metric": "inner_cv_rmse", "value": value, **keys}


SCORES = pd.DataFrame(
    [
        inner("0", "a", 0.9), inner("1", "a", 0.4), inner("2", "a", 0.5),
        inner("0", "b", 0.3), inner("1", "b", 0.6), inner("2", "b", np.nan),
        inner("0", "a", 0.1, control="random_init"), inner("2", "b", 0.1, probe="mlp"),
        inner("2", "a", 0.1, metric="rmse"), inner("2", "a", 0.2, target="valence"),
    ]
)  # fmt: skip


def test_each_fold_has_the_layer_with_the_least_inner_error():
    found = chosen_layers(SCORES).set_index(["target", "fold"])["layer"].to_dict()
    assert found == {("arousal", "a"): "1", ("arousal", "b"): "0", ("valence", "a"): "2"}
    assert chosen_layers(SCORES[SCORES["metric"] == "rmse"]).empty


def test_the_chosen_predictions_are_those_of_each_folds_layer(rng):
    n, fold = 12, np.array(["a", "b"] * 6)
    layers, matched = rng.normal(size=(5, n)).astype(np.float32), rng.normal(size=(5, n)).astype(np.float32)
    keys = [{"layer": "2"}, {"layer": "0"}, {"layer": "1"}, {"layer": "1", "control": "random_init"}]
    keys.append({"layer": "2", "target": "valence"})
    ratings = {"arousal": rng.normal(size=n), "valence": rng.normal(size=n)}
    run = predictions_of(
        ratings, list(zip(keys, layers, strict=True)), np.repeat("s", n), fold=fold, matched=list(matched)
    )
    found = with_chosen(run, chosen_layers(SCORES))
    assert found.columns.iloc[5].to_dict() == {**DEFAULTS, "layer": CHOSEN}
    for values, own in ((found.prediction, layers), (found.matched, matched)):
        assert values.shape == (n, 6)  # of valence only one fold has a layer, so no layer is chosen
        np.testing.assert_array_equal(values[:, :5].T, own)
        for row in range(n):
            assert values[row, 5] == own[2 if fold[row] == "a" else 1, row]
    assert with_chosen(run, chosen_layers(SCORES.head(0))) is run


LAYERS = {"e": ["0", "1", "2", "final"], "features": ["log_mel", "f0"]}
CHOSEN_SCORES = [0.5, 0.5, 0.51, 0.49, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
DEFAULT = {
    ("ridge", "final"): ("last layer", 0.3), ("ridge", "1"): ("middle layer", 0.52),
    ("uniform_mix", "all"): ("mean of all layers", 0.45), ("weighted_sum", "all"): ("weighted sum", 0.6),
}  # fmt: skip


def by_hand(**keys):
    columns = [({"layer": CHOSEN, **keys}, CHOSEN_SCORES)]
    for (probe, layer), (_, score) in DEFAULT.items():
        columns.append(({"probe": probe, "layer": layer, **keys}, score + np.array(CHOSEN_SCORES) - 0.5))
    return bootstrap_scores_by_hand(columns)


def test_a_regret_is_the_chosen_layers_score_minus_that_of_a_default_choice():
    found = regrets(by_hand(), layers=LAYERS, targets=["arousal", "valence"]).set_index("choice")
    assert found["estimate"].to_dict() == pytest.approx({name: 0.5 - score for name, score in DEFAULT.values()})
    assert found["layer"].to_dict() == {name: layer for (_, layer), (name, _) in DEFAULT.items()}
    assert (found[["encoder", "target"]].drop_duplicates().to_numpy() == [["e", "arousal"]]).all()
    # the resamples move together, so that the difference does not move at all
    assert found["ci_low"].to_dict() == pytest.approx(found["estimate"].to_dict())


def test_a_regret_of_an_error_is_above_0_where_the_default_choice_errs_more():
    found = regrets(by_hand(), layers=LAYERS, targets=["arousal"], lower_is_better=True).set_index("choice")
    assert found.loc["last layer", "estimate"] == pytest.approx(-0.2)
    assert found.loc["weighted sum", "estimate"] == pytest.approx(0.1)


def test_without_a_chosen_layer_and_for_features_side_by_side_there_is_no_regret():
    bootstrap = bootstrap_scores_by_hand([({"layer": "final"}, CHOSEN_SCORES)])
    assert regrets(bootstrap, layers=LAYERS, targets=["arousal"]).empty
    assert regrets(by_hand(encoder="features"), layers=LAYERS, targets=["arousal"]).empty


@pytest.mark.parametrize(("n_blocks", "middle"), [(4, "2"), (12, "6"), (24, "12")])
def test_the_middle_layer_is_half_way_through_the_blocks(n_blocks, middle):
    names = [*map(str, range(n_blocks + 1)), "final"]
    bootstrap = bootstrap_scores_by_hand([({"layer": k}, CHOSEN_SCORES) for k in (CHOSEN, *names)])
    found = regrets(bootstrap, layers={"e": names}, targets=["arousal"]).set_index("choice")["layer"]
    assert found.to_dict() == {"last layer": "final", "middle layer": middle}


def test_the_best_of_useless_layers_looks_good_and_the_chosen_one_does_not():
    """Twenty layers that know nothing, 40 corpora: their held-out argmax is above 0, a nested choice is not."""
    rng, n_layers = np.random.default_rng(0), 20
    groups = np.repeat(np.arange(15), 8)
    best, chosen = [], []
    for _ in range(40):
        y = rng.normal(size=(120, 1))
        splits = fold_splits(groups, n_folds=5, n_inner_folds=4, rng=rng)
        columns, scores = [], []
        fold = np.empty(120, dtype=object)
        for layer in range(n_layers):
            x, prediction = rng.normal(size=(120, 3)), np.empty(120)
            fits = nested_ridge(x, y, splits=splits, alphas=(0.01, 1.0, 100.0))
            for split, fit in zip(splits, fits, strict=True):
                # each fold's mean is taken out: it leans away from the held-out mean whatever the layer
                prediction[split.test] = fit.prediction[:, 0] - y[split.train].mean()
                fold[split.test] = split.name
                scores.append(inner(str(layer), split.name, float(np.sqrt(fit.inner_errors.min()))))
            columns.append(({"layer": str(layer)}, prediction))
        run = predictions_of({"arousal": y[:, 0]}, columns, groups.astype(str), fold=fold.astype(str))
        found = bootstrap_scores(with_chosen(run, chosen_layers(pd.DataFrame(scores))), metric="ccc", n_resamples=1)
        assert found.keys["layer"].iloc[-1] == CHOSEN
        best.append(found.scores.estimate[:-1].max())
        chosen.append(found.scores.estimate[-1])
    assert np.mean(np.array(best) > 0) > 0.9
    error = np.std(chosen, ddof=1) / np.sqrt(40)
    assert np.mean(best) > 5 * error
    assert abs(np.mean(chosen)) < 3 * error
