"""The regression of the length-controlled win rate, against what made its data and against an optimiser of scipy's."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from reward_distiller.evaluate.policy.length_control import (
    GAMED_WEIGHT,
    STRENGTHS,
    Rows,
    Weights,
    chosen_strength,
    fit,
    rows_of,
    scaled_lengths,
)

RNG = np.random.default_rng(0)
DIFFERENCE = RNG.normal(200, 400, 600)
DIFFICULTY = RNG.normal(0, 1.5, 600)
TRUE = Weights(-1.2, 0.8, 0.5)
TARGETS = expit(TRUE.length * scaled_lengths(DIFFERENCE) + TRUE.difficulty * DIFFICULTY + TRUE.model)
GAMED = [Weights(-1.6, 0.8, 0.2), Weights(-1.6, 0.7, -0.3)]


def test_probabilities_that_a_model_made_give_it_back():
    found = fit(rows_of(DIFFERENCE, DIFFICULTY, TARGETS, []), 1e4)
    assert vars(found) == pytest.approx(vars(TRUE), abs=1e-4)
    assert found.win_rate(DIFFICULTY) == pytest.approx(expit(0.8 * DIFFICULTY + 0.5).mean(), abs=1e-5)


@pytest.mark.parametrize("strength", [1e-4, 0.01, 0.1, 1.0, 100.0])
def test_the_penalised_minimum_is_that_of_a_general_optimiser(strength):
    rows = rows_of(DIFFERENCE, DIFFICULTY, RNG.uniform(0, 1, 600), GAMED)

    def loss(split):  # w = positive part - negative part, so the penalty is smooth
        w = split[:3] - split[3:]
        logit = rows.x_N3 @ w
        slope = strength * rows.x_N3.T @ (rows.weight_N * (expit(logit) - rows.y_N))
        value = strength * rows.weight_N @ (np.logaddexp(0, logit) - rows.y_N * logit) + split.sum()
        return value, np.concatenate([slope + 1, 1 - slope])

    bounds = [(0, None)] * 6
    best = minimize(loss, np.full(6, 0.1), jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14}).x
    found = fit(rows, strength)
    assert [found.length, found.difficulty, found.model] == pytest.approx(list(best[:3] - best[3:]), abs=2e-3)


def test_a_penalty_without_likelihood_leaves_nothing():
    assert fit(rows_of(DIFFERENCE, DIFFICULTY, TARGETS, GAMED), 1e-6) == Weights(0.0, 0.0, 0.0)


def test_gamed_rows_pull_length_and_difficulty_and_weigh_a_fifth():
    rows = rows_of(DIFFERENCE, DIFFICULTY, TARGETS, GAMED)
    assert rows.weight_N.sum() == pytest.approx(600 * (1 + GAMED_WEIGHT))
    assert (rows.x_N3[600:, 2] == 0).all()
    pulled = fit(rows, 1e4)
    assert GAMED[0].length < pulled.length < TRUE.length
    assert fit(rows_of(DIFFERENCE, DIFFICULTY, TARGETS, [TRUE, TRUE]), 1e4).length == pytest.approx(-1.2, abs=1e-4)


def test_noise_is_penalised_more_than_a_clear_preference():
    noise = rows_of(DIFFERENCE, DIFFICULTY, RNG.permutation(np.repeat([0.0, 1.0], 300)), [])
    clear = rows_of(DIFFERENCE, DIFFICULTY, TARGETS, [])
    assert chosen_strength(noise) < chosen_strength(clear)
    assert chosen_strength(clear) in STRENGTHS


def test_preferences_that_are_all_certain_have_an_end():
    for target in (0.0, 1.0):
        rows = rows_of(DIFFERENCE, DIFFICULTY, np.full(600, target), GAMED)
        rate = fit(rows, chosen_strength(rows)).win_rate(DIFFICULTY)
        assert rate == pytest.approx(target, abs=0.05)


def test_lengths_that_do_not_differ_are_no_feature():
    assert scaled_lengths(np.full(5, 80.0)).tolist() == [0.0] * 5
    assert scaled_lengths(np.array([80.0])).tolist() == [0.0]
    rows = rows_of(np.full(600, 80.0), DIFFICULTY, TARGETS, GAMED)
    assert fit(rows, 10.0).length == 0.0


def test_one_instruction_or_none_left_in_a_fold():
    rows = Rows(np.ones((1, 3)), np.array([0.7]), np.ones(1))
    assert np.isfinite(fit(rows, chosen_strength(rows)).win_rate(np.array([0.0])))
