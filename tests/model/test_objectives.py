"""Each loss against its equation: by hand, and in float64."""

import math

import pytest
import torch

from reward_distiller.model.objectives import bradley_terry, centering, margin_regression, response_losses


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


@pytest.mark.parametrize("chunk_logits", [1, 60, 10**9])
def test_response_losses_against_float64(chunk_logits):
    torch.manual_seed(0)
    tokens, width, vocabulary = 7, 5, 20
    hidden = torch.randn(tokens, width, requires_grad=True)
    teacher_hidden, target = torch.randn(tokens, width), torch.randint(vocabulary, (tokens,))
    weight = torch.rand(tokens)
    head, teacher_head = torch.randn(vocabulary, width), torch.randn(vocabulary, width)
    nll, kl = response_losses(
        hidden,
        target,
        weight,
        lambda h: h @ head.T,
        teacher_hidden,
        lambda h: h @ teacher_head.T,
        chunk_logits=chunk_logits,
    )
    (gradient,) = torch.autograd.grad(nll + 2 * kl, hidden)

    exact = hidden.detach().double().requires_grad_()
    p_student = torch.softmax(exact @ head.double().T, -1)
    p_teacher = torch.softmax(teacher_hidden.double() @ teacher_head.double().T, -1)
    naive_nll = sum(-weight[t].double() * torch.log(p_student[t, target[t]]) for t in range(tokens))
    naive_kl = sum(
        weight[t].double()
        * sum(p_teacher[t, v] * torch.log(p_teacher[t, v] / p_student[t, v]) for v in range(vocabulary))
        for t in range(tokens)
    )
    (naive_gradient,) = torch.autograd.grad(naive_nll + 2 * naive_kl, exact)
    assert nll.item() == pytest.approx(naive_nll.item(), abs=1e-5)
    assert kl.item() == pytest.approx(naive_kl.item(), abs=1e-5)
    assert torch.allclose(gradient.double(), naive_gradient, atol=1e-5)


def test_kl_of_a_distribution_to_itself_is_zero_with_a_wider_student():
    """A padding token added to the student widens its vocabulary by one that the teacher lacks."""
    torch.manual_seed(0)
    hidden, head = torch.randn(3, 4), torch.randn(9, 4)
    wide = torch.cat([head @ torch.eye(4), torch.full((1, 4), 0.0)])
    _, same = response_losses(
        hidden, torch.zeros(3, dtype=torch.long), torch.ones(3), lambda h: h @ head.T, hidden, lambda h: h @ head.T
    )
    _, wider = response_losses(
        hidden, torch.zeros(3, dtype=torch.long), torch.ones(3), lambda h: h @ wide.T, hidden, lambda h: h @ head.T
    )
    assert same.item() == pytest.approx(0, abs=1e-6)
    assert wider.item() > 0
