"""The terms of the objective as pure functions of tensors (Zhu et al. 2017, section 3)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cycle_loss(real: Tensor, cycled: Tensor) -> Tensor:
    """Mean absolute cycle error, L_cyc of Zhu et al. 2017, section 3.2.

    real, cycled: (N, C, H, W) in [-1, 1]. Returns a scalar >= 0.
    """
    return F.l1_loss(cycled, real)


def identity_loss(real: Tensor, identity: Tensor) -> Tensor:
    """Mean absolute change of an image that is in the target domain already, Zhu et al. 2017, section 5.2.

    real, identity: (N, C, H, W) in [-1, 1]. Returns a scalar >= 0.
    """
    return F.l1_loss(identity, real)


def generator_loss(kind: str, fake_score: Tensor) -> Tensor:
    """What a generator pays for the scores of its fakes.

    kind: vanilla (non-saturating negative log, Goodfellow et al. 2014), lsgan (Mao et al. 2017), hinge or wgan-gp.
    fake_score: discriminator output of any shape, before any sigmoid. Returns a scalar.
    """
    if kind == "lsgan":
        return F.mse_loss(fake_score, torch.ones_like(fake_score))
    if kind == "vanilla":
        return F.softplus(-fake_score).mean()
    assert kind in ("hinge", "wgan-gp"), kind
    return -fake_score.mean()


def discriminator_loss(kind: str, real_score: Tensor, fake_score: Tensor) -> Tensor:
    """What a discriminator pays, halved so that it learns at half speed (Zhu et al. 2017, section 7.1).

    Scores as in `generator_loss`. Returns a scalar; the gradient penalty of wgan-gp is `gradient_penalty`.
    """
    if kind == "lsgan":
        real, fake = F.mse_loss(real_score, torch.ones_like(real_score)), fake_score.square().mean()
    elif kind == "vanilla":
        real, fake = F.softplus(-real_score).mean(), F.softplus(fake_score).mean()
    elif kind == "hinge":
        real, fake = F.relu(1 - real_score).mean(), F.relu(1 + fake_score).mean()
    else:
        assert kind == "wgan-gp", kind
        real, fake = -real_score.mean(), fake_score.mean()
    return 0.5 * (real + fake)


def gradient_penalty(
    discriminator: nn.Module | Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Mean of (|d score / d image| - 1)^2 between real and fake images, Gulrajani et al. 2017, section 4.

    real, fake: (N, C, H, W); mix: (N, 1, 1, 1) in [0, 1], the share of the real image. Returns a scalar >= 0 that can
    be differentiated with respect to the discriminator's weights.
    """
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    score = discriminator(between)
    (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
