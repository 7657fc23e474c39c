"""Loss functions: pure functions of tensors that return a scalar (Zhu et al. 2017, section 3, and later work).

The table in `cyclegan.step.terms` says which of them a step adds up, and with which weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cycle_loss(real: Tensor, cycled: Tensor) -> Tensor:
    """Mean absolute error of F(G(x)) against x, L_cyc of Zhu et al. 2017, equation 2.

    real, cycled: (N, C, H, W) in [-1, 1]. Returns a scalar >= 0.
    """
    return F.l1_loss(cycled, real)


def identity_loss(real: Tensor, identity: Tensor) -> Tensor:
    """Mean absolute change of an image that is already in the target domain, Zhu et al. 2017, section 5.2.

    real, identity: y and G(y), (N, C, H, W) in [-1, 1]. Returns a scalar >= 0.
    """
    return F.l1_loss(identity, real)


def generator_loss(kind: str, fake_score: Tensor) -> Tensor:
    """Adversarial loss of a generator.

    kind: vanilla (non-saturating negative log, Goodfellow et al. 2014), lsgan (Mao et al. 2017), hinge or wgan-gp.
    fake_score: discriminator output for translations, of any shape, before any sigmoid. Returns a scalar.
    """
    if kind == "lsgan":
        return F.mse_loss(fake_score, torch.ones_like(fake_score))
    if kind == "vanilla":
        return F.softplus(-fake_score).mean()
    assert kind in ("hinge", "wgan-gp"), kind
    return -fake_score.mean()


def discriminator_loss(kind: str, real_score: Tensor, fake_score: Tensor) -> Tensor:
    """Loss of a discriminator, halved so that it learns at half the rate (Zhu et al. 2017, section 7.1).

    Scores as in `generator_loss`. Returns a scalar. The penalty of wgan-gp is a separate function, `gradient_penalty`.
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


def patch_contrastive_loss(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross-entropy of matching each patch of a translation to the input's patch at the same place (Park et al. 2020).

    query, key: (N, P, D) unit vectors, from the translation and from the input. The other patches of the same image are
    the negatives. Returns a scalar >= 0.
    """
    similarity = (query / temperature) @ key.transpose(1, 2)
    target = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
    return F.cross_entropy(similarity.flatten(0, 1), target.flatten())


def structure_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean absolute difference between the local self-similarity of an image and that of its translation.

    It keeps edges in place whatever the colours on either side: MIND of Heinrich et al. 2012, which Yang et al. 2020
    added to CycleGAN for medical images. real, fake: (N, C, H, W) in [-1, 1], sides of at least 5 pixels; the numbers
    of channels may differ. Returns a scalar in [0, 1].
    """
    return F.l1_loss(self_similarity(fake), self_similarity(real))


def self_similarity(x: Tensor, flat: float = 1e-3) -> Tensor:
    """Similarity of the 3x3 patch around each pixel to those around its four neighbours, in (0, 1].

    (N, C, H, W) -> (N, 4, H - 4, W - 4). Squared differences are divided by their mean over the four neighbours plus
    `flat`, so that noise well below `flat` counts as no difference.
    """
    across = (x[..., :, 1:] - x[..., :, :-1]).square().mean(1, keepdim=True)
    along = (x[..., 1:, :] - x[..., :-1, :]).square().mean(1, keepdim=True)
    across, along = F.avg_pool2d(across, 3, 1), F.avg_pool2d(along, 3, 1)
    right, left = across[..., 1:-1, 1:], across[..., 1:-1, :-1]
    below, above = along[..., 1:, 1:-1], along[..., :-1, 1:-1]
    distances = torch.cat((right, left, below, above), 1)
    return torch.exp(-distances / (distances.mean(1, keepdim=True) + flat))


def r1_penalty(discriminator: nn.Module | Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean squared norm of d score / d image at real images, R1 of Mescheder et al. 2018.

    real: (N, C, H, W). Returns a scalar >= 0, differentiable with respect to the discriminator's weights.
    """
    images = real.detach().requires_grad_()
    # The mean score of each image, so that the penalty does not depend on the number of patches.
    scores = discriminator(images).flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


def gradient_penalty(
    discriminator: nn.Module | Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Mean of (|d score / d image| - 1)^2 between real images and fakes, Gulrajani et al. 2017, section 4.

    real, fake: (N, C, H, W). mix: (N, 1, 1, 1) in [0, 1], the share of the real image. Returns a scalar >= 0,
    differentiable with respect to the discriminator's weights.
    """
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    score = discriminator(between)
    (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
