"""Each loss against its equation: by hand, and in float64."""

import math

import pytest
import torch

from reward_distiller.methods import METHODS
from reward_distiller.model.objectives import (
    attribute_regression,
    bradley_terry,
    centering,
    cross_entropy,
    lsam,
    margin_bradley_terry,
    margin_regression,
)

R_W, R_L = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
S_W, S_L = torch.tensor([9.0, 6.0]), torch.tensor([4.0, 5.0])
OF_PAIRS = [bradley_terry, margin_bradley_terry, lsam, margin_regression]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bradley_terry_by_hand():
    assert bradley_terry(R_W, R_L, S_W, S_L).tolist() == pytest.approx([-math.log(sigmoid(2)), -math.log(sigmoid(-1))])


def test_margin_bradley_terry_by_hand():
    """Margins 5 and 1: the logits are 2 - 5 and -1 - 1."""
    losses = margin_bradley_terry(R_W, R_L, S_W, S_L).tolist()
    assert losses == pytest.approx([-math.log(sigmoid(-3)), -math.log(sigmoid(-2))])
    assert losses == pytest.approx([3.048587, 2.126928], abs=1e-6)


def test_lsam_by_hand():
    """ε = σ(5) and σ(1); a cross-entropy, so it is smallest where p = ε, and then the entropy of ε."""
    expected = [
        -sigmoid(5) * math.log(sigmoid(2)) - sigmoid(-5) * math.log(sigmoid(-2)),
        -sigmoid(1) * math.log(sigmoid(-1)) - sigmoid(-1) * math.log(sigmoid(1)),
    ]
    assert lsam(R_W, R_L, S_W, S_L).tolist() == pytest.approx(expected)
    difference = torch.tensor([0.5, 1.0, 1.5], requires_grad=True)
    zero, one = torch.zeros(3), torch.ones(3)
    lsam(difference, zero, one, zero).sum().backward()
    assert difference.grad[0] < 0
    assert difference.grad[1].item() == pytest.approx(0.0, abs=1e-7)
    assert difference.grad[2] > 0


def test_margin_regression_by_hand():
    assert margin_regression(R_W, R_L, S_W, S_L).tolist() == [(2 - 5) ** 2, (-1 - 1) ** 2]


def test_cross_entropy_by_hand():
    """Scores 10 and 1 are labels 1 and 0, 5.5 is an even chance: the mean of a pair's two responses."""
    r_w, r_l = torch.tensor([[2.0], [1.0]]), torch.tensor([[-1.0], [1.0]])
    s_w, s_l = torch.tensor([[10.0], [5.5]]), torch.tensor([[1.0], [5.5]])
    first = (-math.log(sigmoid(2)) - math.log(1 - sigmoid(-1))) / 2
    alone = -0.5 * math.log(sigmoid(1)) - 0.5 * math.log(1 - sigmoid(1))
    assert cross_entropy(r_w, r_l, s_w, s_l).tolist() == pytest.approx([first, alone])


def test_attribute_regression_by_hand():
    r_w, r_l = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    s_w, s_l = torch.tensor([[5.0, 2.0]]), torch.tensor([[1.0, 3.0]])
    assert attribute_regression(r_w, r_l, s_w, s_l).tolist() == [(4 + 1 + 1 + 9) / 2]


def test_centering_by_hand():
    assert centering(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 2.0])).tolist() == [9.0, 0.0]


@pytest.mark.parametrize("loss", OF_PAIRS)
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="one value a pair"):
        loss(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="one value a pair"):
        loss(*[torch.zeros(4, 1)] * 4)


def test_attributes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="one column an attribute"):
        attribute_regression(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 1), torch.zeros(4, 1))


@pytest.mark.parametrize("loss", OF_PAIRS)
def test_losses_in_float64_have_the_gradients_of_their_equations(loss):
    values = [torch.randn(5, dtype=torch.float64, requires_grad=i < 2) for i in range(4)]
    assert torch.autograd.gradcheck(loss, values)


def test_every_method_of_the_paper_is_there():
    assert {
        "bradley_terry",
        "margin_bradley_terry",
        "steerlm",
        "lsam",
        "synrm",
        "cloud",
        "rmboost",
        "rm_distiller",
    } <= set(METHODS)
