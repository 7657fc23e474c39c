"""One optimisation step: the networks, optimisers and pools that it changes, and the schedule of its rate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.losses import cycle_loss, discriminator_loss, generator_loss, gradient_penalty, identity_loss
from cyclegan.networks import build_discriminator, build_generator, freeze, train_mode

# First entry of every counter-based seed, so that no two uses of randomness share a stream.
_WEIGHTS, _POOL, _TORCH = 1, 2, 3


class ImagePool:
    """Up to `size` earlier fakes (Shrivastava et al. 2017): the discriminator must also see old ones.

    Until it is full, `query` stores what comes and gives it back. After that, half of the time an image is exchanged
    for a random stored one. Random choices come from the caller.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """images: (N, C, H, W), detached. Returns as many images of the same shape, fresh or stored."""
        if self.size == 0:
            return images
        chosen = []
        for image in images:
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                # With images of differing sizes, an old one of another size cannot join this batch.
                if self.images[index].shape == image.shape or len(images) == 1:
                    image, self.images[index] = self.images[index], image.clone()
            chosen.append(image)
        return torch.stack(chosen)


class Generators(nn.Module):
    """The two translators: `a2b` (G of the paper) and `b2a` (F)."""

    def __init__(self, a2b: nn.Module, b2a: nn.Module) -> None:
        super().__init__()
        self.a2b = a2b
        self.b2a = b2a


class Discriminators(nn.Module):
    """The two judges: `a` judges images of domain A (D_X of the paper), `b` those of domain B (D_Y)."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a = a
        self.b = b


@dataclass
class TrainState:
    """Everything that a step reads and changes. `step` counts the steps that are done."""

    config: TrainConfig
    device: torch.device
    generator: Generators
    discriminator: Discriminators
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    average: Generators
    pool_a: ImagePool
    pool_b: ImagePool
    step: int = 0

    @classmethod
    def create(cls, config: TrainConfig, device: str | torch.device = "cpu") -> Self:
        """Fresh networks, initialised from `config.seed` alone, with their optimisers and empty pools."""
        device = torch.device(device)
        model = config.model
        seeds = np.random.default_rng([config.seed, _WEIGHTS]).integers(2**62, size=4).tolist()

        def generators() -> Generators:
            return Generators(
                build_generator(model, model.channels_a, model.channels_b, seed=seeds[0]),
                build_generator(model, model.channels_b, model.channels_a, seed=seeds[1]),
            ).to(device)

        generator = generators()
        discriminator = Discriminators(
            build_discriminator(model, model.channels_a, seed=seeds[2]),
            build_discriminator(model, model.channels_b, seed=seeds[3]),
        ).to(device)
        if config.freeze in ("encoder", "both"):
            freeze(generator.a2b)
            freeze(generator.b2a)
        if config.freeze in ("discriminator", "both"):
            freeze(discriminator.a)
            freeze(discriminator.b)
        return cls(
            config=config,
            device=device,
            generator=generator,
            discriminator=discriminator,
            generator_optimizer=_adam(generator, config, device),
            discriminator_optimizer=_adam(discriminator, config, device),
            average=generators().requires_grad_(False).eval(),
            pool_a=ImagePool(config.pool_size),
            pool_b=ImagePool(config.pool_size),
        )


def _adam(network: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Adam:
    # The fused form is the same arithmetic in one pass over the weights; mps lacks it in some releases.
    fused = device.type in ("cpu", "cuda")
    return torch.optim.Adam(_trained(network), lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=fused)


def _trained(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _backward(terms: dict[str, Tensor], network: nn.Module) -> None:
    """Gradients of the sum of all terms, for the trained weights of `network` alone."""
    total = torch.stack(list(terms.values())).sum()
    torch.autograd.backward(total, inputs=_trained(network))


def train_step(state: TrainState, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
    """Update both generators, then both discriminators, on one batch (Zhu et al. 2017, equation 3 and section 4).

    real_a, real_b: (N, C, H, W) in [-1, 1] on the state's device, H and W multiples of the model's.
    Returns the weighted terms as detached scalar tensors; a term of weight 0 is a zero.
    """
    config = state.config
    generator, discriminator = state.generator, state.discriminator
    train_mode(generator)
    train_mode(discriminator)
    if config.model.dropout:
        torch.manual_seed(int(np.random.default_rng([config.seed, _TORCH, state.step]).integers(2**62)))

    # Generators, against discriminators that stand still: their weights get no gradient.
    state.generator_optimizer.zero_grad()
    with _autocast(state):
        fake_a, fake_b, terms = _generator_terms(state, real_a, real_b)
        _backward(terms, generator)
    state.generator_optimizer.step()
    _update_average(state)

    # Discriminators, on fakes that are only data.
    if config.adversarial_weight > 0:
        state.discriminator_optimizer.zero_grad()
        rng = np.random.default_rng([config.seed, _POOL, state.step])
        old_b = state.pool_b.query(fake_b.detach(), rng)
        old_a = state.pool_a.query(fake_a.detach(), rng)
        with _autocast(state):
            losses = {
                "discriminator_a": _discriminator_term(config, discriminator.a, real_a, old_a, rng),
                "discriminator_b": _discriminator_term(config, discriminator.b, real_b, old_b, rng),
            }
            _backward(losses, discriminator)
        state.discriminator_optimizer.step()
        terms |= losses

    state.step += 1
    zero = real_a.new_zeros(())
    return {name: terms[name].detach() if name in terms else zero for name in LOSSES}


LOSSES = (
    "adversarial_a2b",
    "adversarial_b2a",
    "cycle_a",
    "cycle_b",
    "identity_a",
    "identity_b",
    "discriminator_a",
    "discriminator_b",
)


def _generator_terms(state: TrainState, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Fakes of both domains and every term that the generators pay, weighted."""
    config = state.config
    a2b, b2a = state.generator.a2b, state.generator.b2a
    weight_a, weight_b = config.cycle_weight_a, config.cycle_weight_b
    identity_a = weight_a * config.identity_weight if config.uses_identity else 0.0
    identity_b = weight_b * config.identity_weight if config.uses_identity else 0.0
    terms: dict[str, Tensor] = {}

    # Without batch statistics an image does not see its neighbours in a batch, so inputs of one generator are
    # translated in one call: fewer, larger operations with the same result.
    together = config.model.norm != "batch"
    from_a = _translate(a2b, [real_a, real_b] if identity_b else [real_a], together)
    fake_b = from_a[0]
    into_a = _translate(b2a, [real_b, *([real_a] if identity_a else []), *([fake_b] if weight_a else [])], together)
    fake_a = into_a[0]

    if weight_a:
        terms["cycle_a"] = weight_a * cycle_loss(real_a, into_a[-1])
    if weight_b:
        terms["cycle_b"] = weight_b * cycle_loss(real_b, a2b(fake_a))
    if identity_a:
        terms["identity_a"] = identity_a * identity_loss(real_a, into_a[1])
    if identity_b:
        terms["identity_b"] = identity_b * identity_loss(real_b, from_a[1])
    if config.adversarial_weight:
        judge = state.discriminator
        terms["adversarial_a2b"] = config.adversarial_weight * generator_loss(
            config.adversarial, judge.b(fake_b).float()
        )
        terms["adversarial_b2a"] = config.adversarial_weight * generator_loss(
            config.adversarial, judge.a(fake_a).float()
        )
    return fake_a, fake_b, terms


def _translate(network: nn.Module, inputs: list[Tensor], together: bool) -> list[Tensor]:
    """The outputs for all inputs, in one call where the sizes allow it."""
    if together and len({x.shape[1:] for x in inputs}) == 1:
        return list(network(torch.cat(inputs)).split([len(x) for x in inputs]))
    return [network(x) for x in inputs]


def _discriminator_term(
    config: TrainConfig, network: nn.Module, real: Tensor, fake: Tensor, rng: np.random.Generator
) -> Tensor:
    real_score, fake_score = _translate(network, [real, fake], config.model.norm != "batch")
    loss = discriminator_loss(config.adversarial, real_score.float(), fake_score.float())
    if config.adversarial == "wgan-gp":
        mix = torch.as_tensor(rng.random((len(real), 1, 1, 1)), dtype=torch.float32, device=real.device)
        with torch.autocast(real.device.type, enabled=False):  # second derivatives need all their digits
            penalty = gradient_penalty(network, real.float(), fake.float(), mix)
        loss = loss + 0.5 * config.gradient_penalty_weight * penalty
    return loss


def _autocast(state: TrainState) -> torch.autocast:
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bf16")


@torch.no_grad()
def _update_average(state: TrainState) -> None:
    """Move the averaged generators towards the current ones; early on faster, so that they forget the start."""
    decay = min(state.config.average_decay, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.average.parameters()), list(state.generator.parameters()), 1 - decay)
    for mean, current in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        mean.copy_(current)


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """The rate of the next steps, for both optimisers."""
    for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def learning_rate_at(config: TrainConfig, position: float, length: float) -> float:
    """The learning rate at `position` of a run of `length`, in the same unit: epochs, steps or seconds.

    linear: constant, then in equal parts down to zero over `decay_share` of the run. Over epochs or steps the n-th of
    `decay` units has the factor 1 - n / (decay + 1), so that no unit is spent at zero (the reference's schedule); over
    minutes, and over less than one epoch of decay, it falls continuously.
    cosine: half a cosine down to zero. step: a tenth after each `drop_share` of the run. constant: constant.
    """
    share = min(max(position / length, 0.0), 1.0)
    if config.schedule == "linear":
        decay = round(length * config.decay_share)
        if config.decay_share == 0:
            factor = 1.0
        elif config.minutes is not None or decay == 0:
            factor = min(1.0, (1.0 - share) / config.decay_share)
        else:
            factor = 1.0 - max(0, math.floor(position) + 1 - (math.ceil(length) - decay)) / (decay + 1)
    elif config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    elif config.schedule == "step":
        # 90 of 200 epochs are three times a share of 0.15 only up to rounding.
        factor = 0.1 ** math.floor(share / config.drop_share + 1e-9)
    else:
        factor = 1.0
    return config.learning_rate * max(factor, 0.0)


def first_non_finite(losses: Iterable[tuple[int, dict[str, float]]]) -> tuple[int, str, float] | None:
    """Step, term and value of the first loss that is NaN or infinite, or None."""
    for step, terms in losses:
        for name, value in terms.items():
            if not math.isfinite(value):
                return step, name, value
    return None
