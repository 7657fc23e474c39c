"""Loss functions: pure functions of tensors that return a scalar (Zhu et al. 2017, section 3, and later work).

The table in `cyclegan.step.terms` says which of them a step adds up, and with which weights.

Images may have holes. A mask, (N, 1, H, W), is 1 where an image has a value and 0 in a hole; weights, (N, 1, h, w) in
[0, 1], say how much each patch of a discriminator counts. Without them (None) everything counts. Where nothing counts,
a loss is 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.step.sharing import mean_over_processes


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of values with weights of at least 0, which broadcast to them; 0 if all weights are 0."""
    if weights is None:
        return values.mean()
    # The bound is below every sum that is not 0, and far enough from 0 that gradients stay finite.
    return (values * weights).sum() / mean_over_processes(weights.expand_as(values).sum()).clamp_min(1e-6)


def patch_weights(mask: Tensor | None, score: Tensor) -> Tensor | None:
    """The share of valid pixels of each patch of a discriminator's score, (N, 1, h, w); None without a mask."""
    return None if mask is None else F.interpolate(mask, score.shape[-2:], mode="area")


def cycle_loss(real: Tensor, cycled: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of F(G(x)) against x, L_cyc of Zhu et al. 2017, equation 2.

    real, cycled: (N, C, H, W) in [-1, 1]. mask: of x. Returns a scalar >= 0.
    """
    return F.l1_loss(cycled, real) if mask is None else weighted_mean((cycled - real).abs(), mask)


def identity_loss(real: Tensor, identity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute change of an image that is already in the target domain, Zhu et al. 2017, section 5.2.

    real, identity: y and G(y), (N, C, H, W) in [-1, 1]. mask: of y. Returns a scalar >= 0.
    """
    return F.l1_loss(identity, real) if mask is None else weighted_mean((identity - real).abs(), mask)


def generator_loss(kind: str, fake_score: Tensor, weights: Tensor | None = None) -> Tensor:
    """Adversarial loss of a generator.

    kind: vanilla (non-saturating negative log, Goodfellow et al. 2014), lsgan (Mao et al. 2017), hinge or wgan-gp.
    fake_score: discriminator output for translations, of any shape, before any sigmoid. weights: of its patches.
    Returns a scalar.
    """
    if kind == "lsgan":
        if weights is None:
            return F.mse_loss(fake_score, torch.ones_like(fake_score))
        return weighted_mean((fake_score - 1).square(), weights)
    if kind == "vanilla":
        return weighted_mean(F.softplus(-fake_score), weights)
    assert kind in ("hinge", "wgan-gp"), kind
    return -weighted_mean(fake_score, weights)


def discriminator_loss(
    kind: str,
    real_score: Tensor,
    fake_score: Tensor,
    real_weights: Tensor | None = None,
    fake_weights: Tensor | None = None,
) -> Tensor:
    """Loss of a discriminator, halved so that it learns at half the rate (Zhu et al. 2017, section 7.1).

    Scores and weights as in `generator_loss`. Returns a scalar. The penalty of wgan-gp is a separate function,
    `gradient_penalty`.
    """
    if kind == "lsgan":
        if real_weights is None:
            real = F.mse_loss(real_score, torch.ones_like(real_score))
        else:
            real = weighted_mean((real_score - 1).square(), real_weights)
        fake = weighted_mean(fake_score.square(), fake_weights)
    elif kind == "vanilla":
        real = weighted_mean(F.softplus(-real_score), real_weights)
        fake = weighted_mean(F.softplus(fake_score), fake_weights)
    elif kind == "hinge":
        real = weighted_mean(F.relu(1 - real_score), real_weights)
        fake = weighted_mean(F.relu(1 + fake_score), fake_weights)
    else:
        assert kind == "wgan-gp", kind
        real, fake = -weighted_mean(real_score, real_weights), weighted_mean(fake_score, fake_weights)
    return 0.5 * (real + fake)


def patch_contrastive_loss(
    query: Tensor, key: Tensor, temperature: float = 0.07, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of matching each patch of a translation to the input's patch at the same place (Park et al. 2020).

    query, key: (N, P, D) unit vectors, from the translation and from the input. The other patches of the same image are
    the negatives. weights: (N, P), the share of valid pixels of each patch; one that is mostly hole is no negative of
    the others. Returns a scalar >= 0.
    """
    similarity = (query / temperature) @ key.transpose(1, 2)
    target = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
    if weights is None:
        return F.cross_entropy(similarity.flatten(0, 1), target.flatten())
    is_itself = torch.eye(query.shape[1], dtype=torch.bool, device=query.device)
    similarity = similarity.masked_fill((weights < 0.5)[:, None] & ~is_itself, -torch.inf)
    losses = F.cross_entropy(similarity.flatten(0, 1), target.flatten(), reduction="none")
    return weighted_mean(losses, weights.flatten())


def structure_loss(real: Tensor, fake: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference between the local self-similarity of an image and that of its translation.

    It keeps edges in place whatever the colours on either side: MIND of Heinrich et al. 2012, which Yang et al. 2020
    added to CycleGAN for medical images. real, fake: (N, C, H, W) in [-1, 1], sides of at least 5 pixels; the numbers
    of channels may differ. mask: of the image; a place counts if its 5x5 pixels are valid. Returns a scalar in [0, 1].
    """
    if mask is None:
        return F.l1_loss(self_similarity(fake), self_similarity(real))
    whole = 1 - F.max_pool2d(1 - mask, 5, 1)
    return weighted_mean((self_similarity(fake) - self_similarity(real)).abs(), whole)


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


def r1_penalty(
    discriminator: nn.Module | Callable[[Tensor], Tensor], real: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean squared norm of d score / d image at real images, R1 of Mescheder et al. 2018.

    real: (N, C, H, W). mask: of real; the score of an image is then the mean of its patches by their shares of valid
    pixels. Returns a scalar >= 0, differentiable with respect to the discriminator's weights.
    """
    images = real.detach().requires_grad_()
    # The mean score of each image, so that the penalty does not depend on the number of patches.
    patches = discriminator(images)
    weights = patch_weights(mask, patches)
    if weights is None:
        scores = patches.flatten(1).mean(1)
    else:
        scores = (patches * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1e-6)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


def gradient_penalty(
    discriminator: nn.Module | Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Mean of (|d score / d image| - 1)^2 between real images and fakes, Gulrajani et al. 2017, section 4.

    real, fake: (N, C, H, W). mix: (N, 1, 1, 1) in [0, 1], the share of the real image. Returns a scalar >= 0,
    differentiable with respect to the discriminator's weights. There is no mask: a slope of 1 is a property of the
    network at every image, and with whole patches left out the same slope would give another norm.
    """
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    score = discriminator(between)
    (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
