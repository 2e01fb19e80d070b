"""Each loss against its equation: by hand, and in float64."""

import math

import pytest
import torch

from reward_distiller.model.objectives import bradley_terry, centering, margin_regression


def test_bradley_terry_by_hand():
    loss = bradley_terry(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0]), torch.tensor([5.0, 5.0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-2)), math.log(2)])


def test_margin_regression_by_hand():
    chosen, rejected, margin = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0]), torch.tensor([5.0, 4.0])
    assert margin_regression(chosen, rejected, margin).tolist() == [9.0, 25.0]


def test_centering_by_hand():
    assert centering(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 2.0])).tolist() == [9.0, 0.0]


@pytest.mark.parametrize("loss", [bradley_terry, margin_regression])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="one value a pair"):
        loss(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="one value a pair"):
        loss(torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4, 1))
