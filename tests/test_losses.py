"""Losses against values worked by hand."""

import math

import pytest
import torch

from cyclegan.step.losses import cycle_loss, discriminator_loss, generator_loss, gradient_penalty, identity_loss


def test_cycle_and_identity_are_mean_absolute_errors():
    real, other = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.5, -1.0]]]])
    assert cycle_loss(real, other).item() == pytest.approx(1.25)
    assert identity_loss(real, other).item() == pytest.approx(1.25)


def softplus(x):
    return math.log1p(math.exp(x))


SCORES = torch.tensor([2.0, -1.0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lsgan", ((2 - 1) ** 2 + (-1 - 1) ** 2) / 2),
        ("vanilla", (softplus(-2) + softplus(1)) / 2),
        ("hinge", -0.5),
        ("wgan-gp", -0.5),
    ],
)
def test_generator_loss(kind, expected):
    assert generator_loss(kind, SCORES).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    # Real scores 2 and -1, fake scores 0.5: the mean over real plus the mean over fake, halved.
    [
        ("lsgan", 0.5 * (2.5 + 0.25)),
        ("vanilla", 0.5 * ((softplus(-2) + softplus(1)) / 2 + softplus(0.5))),
        ("hinge", 0.5 * (1.0 + 1.5)),
        ("wgan-gp", 0.5 * (-0.5 + 0.5)),
    ],
)
def test_discriminator_loss_is_halved(kind, expected):
    assert discriminator_loss(kind, SCORES, torch.tensor([0.5])).item() == pytest.approx(expected)


def test_gradient_penalty_of_a_linear_discriminator_is_exact_and_differentiable():
    slope = torch.tensor(2.0, requires_grad=True)
    real, fake = torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    penalty = gradient_penalty(lambda x: slope * x.sum((1, 2, 3)), real, fake, torch.rand(3, 1, 1, 1))
    # The gradient is `slope` at each of 4 pixels: its norm is 4, and (4 - 1)^2 = 9.
    assert penalty.item() == pytest.approx(9.0)
    penalty.backward()
    assert slope.grad.item() == pytest.approx(2 * (4 - 1) * 2)  # d/ds (2s - 1)^2
