"""PPO's equations against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from reward_distiller.rl.ppo_losses import (
    clipped_policy_loss,
    clipped_value_loss,
    generalized_advantages,
    token_rewards,
    whitened,
)

MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_the_reward_stands_at_the_last_token_and_the_kl_at_each() -> None:
    log_p = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 99.0, 99.0]])
    reference = torch.tensor([[-1.5, -1.0, -3.0], [-3.0, -99.0, -99.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), log_p, reference, MASK, kl=0.1)
    # -0.1 * (0.5, -1, 0) + (0, 0, 10); -0.1 * 2 + 20, and nothing behind the end
    assert torch.allclose(rewards, torch.tensor([[-0.05, 0.1, 10.0], [19.8, 0.0, 0.0]]))


def test_advantages_and_returns_by_hand() -> None:
    reward = torch.tensor([[0.0, 1.0, 2.0], [3.0, 7.0, 7.0]])
    value = torch.tensor([[0.5, 0.25, 1.0], [1.0, 7.0, 7.0]])
    gamma, lam = 0.9, 0.5
    advantage, returns = generalized_advantages(reward, value, MASK, gamma, lam)
    # backwards: d2 = 2 + 0 - 1 = 1, A2 = 1; d1 = 1 + .9*1 - .25 = 1.65, A1 = 1.65 + .45*1 = 2.1
    # d0 = 0 + .9*.25 - .5 = -.275, A0 = -.275 + .45*2.1 = .67; the second row ends at its first token: A = 3 - 1
    assert torch.allclose(advantage, torch.tensor([[0.67, 2.1, 1.0], [2.0, 0.0, 0.0]]))
    assert torch.allclose(returns, torch.tensor([[1.17, 2.35, 2.0], [3.0, 0.0, 0.0]]))


def test_with_lambda_and_gamma_one_the_return_is_the_sum_of_what_comes() -> None:
    reward, value = torch.rand(4, 6), torch.rand(4, 6)
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [5]])
    _, returns = generalized_advantages(reward * mask, value * mask, mask, 1.0, 1.0)
    assert torch.allclose(returns, (reward * mask).flip(1).cumsum(1).flip(1) * mask, atol=1e-6)


def test_whitened_over_the_tokens_that_are_there() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 1e6, -1e6]])
    found = whitened(values, MASK)
    there = found[MASK]
    assert there.mean().abs() < 1e-6
    assert there.var(correction=0) == pytest.approx(1.0, abs=1e-5)
    assert found[1, 1:].tolist() == [0.0, 0.0]
    assert found[0, 0] == pytest.approx((1 - 3) / math.sqrt(3.5), abs=1e-5)


def test_the_clip_holds_gains_but_not_losses() -> None:
    old = torch.zeros(1, 4)
    log_p = torch.log(torch.tensor([[1.5, 1.5, 0.5, 0.5]]))
    advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    loss, clipped = clipped_policy_loss(log_p, old, advantage, torch.ones(1, 4, dtype=torch.bool), 0.2)
    # min(1.5, 1.2) * 1; min(-1.5, -1.2) = -1.5; min(.5, .8) = .5; min(-.5, -.8) = -.8
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8))
    assert clipped.item() == 2


def test_the_gradient_of_a_clipped_gain_is_zero() -> None:
    log_p = torch.tensor([[0.5, 0.0]], requires_grad=True)
    ones = torch.ones(1, 2)
    loss, _ = clipped_policy_loss(log_p, torch.zeros(1, 2), ones, ones.bool(), 0.2)
    loss.backward()
    assert log_p.grad.tolist() == [[0.0, -1.0]]


def test_padding_weighs_nothing() -> None:
    log_p, old, advantage = torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 3)
    other = [torch.where(MASK, t, torch.full_like(t, 5.0)) for t in (log_p, old, advantage)]
    assert clipped_policy_loss(log_p, old, advantage, MASK, 0.2)[0] == clipped_policy_loss(*other, MASK, 0.2)[0]


def test_the_value_is_held_near_the_old_one() -> None:
    value, old, target = torch.tensor([[2.0, 0.1]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 1.0]])
    loss = clipped_value_loss(value, old, target, torch.ones(1, 2, dtype=torch.bool), 0.5)
    # the first is held at 0.5: max(0, (0.5 - 2)^2) = 2.25; the second is free: 0.81
    assert loss.item() == pytest.approx(0.5 * (2.25 + 0.81))
