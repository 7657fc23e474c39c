"""One optimisation step: what the generators pay and learn, then the discriminators."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.networks import train_mode
from cyclegan.networks.layers import DTYPES, power_iteration
from cyclegan.step.image_pool import ImagePool
from cyclegan.step.losses import (
    cycle_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    identity_loss,
    patch_contrastive_loss,
    structure_loss,
    zero_centred_penalty,
)
from cyclegan.step.master_weights import trained
from cyclegan.step.state import Stream, TrainState

__all__ = [
    "LOSSES",
    "ImagePool",
    "TrainState",
    "first_non_finite",
    "losses_of",
    "prepare",
    "run_step",
    "train_step",
    "update_discriminators",
    "update_generators",
]

# The penalty on real images is taken every so many steps, and counts so many times there (Karras et al. 2020).
_R1_STEPS = 16

# Patches of an activation that the contrastive loss tells from each other, at most. Half of what DCLGAN has: as good
# where both were tried, and cheaper.
_PATCHES = 128


def train_step(state: TrainState, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
    """Update both generators, then both discriminators, on one batch (Zhu et al. 2017, equation 3 and section 4).

    real_a, real_b: (N, C, H, W) in [-1, 1] on the state's device, H and W multiples of the model's.
    Returns the weighted terms of `losses_of` as detached scalar tensors; a term of weight 0 is a zero.
    """
    return run_step(state, real_a, real_b, update_generators, update_discriminators)


# What a step asks of the GPU or the CPU: tensors in, tensors out, nothing random, so that it can be recorded.
GeneratorUpdate: TypeAlias = Callable[[TrainState, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
DiscriminatorUpdate: TypeAlias = Callable[
    [TrainState, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]
]


def run_step(
    state: TrainState,
    real_a: Tensor,
    real_b: Tensor,
    generators: GeneratorUpdate,
    discriminators: DiscriminatorUpdate,
) -> dict[str, Tensor]:
    """`train_step` by means of two updates: `update_generators` and `update_discriminators`, or recordings of them."""
    config = state.config
    for network in (state.working_generator.network, state.working_discriminator.network):
        if config.model.uses_batch_norm or not network.training:  # walking through all layers takes a while
            train_mode(network)
    if config.model.discriminator_norm == "spectral":
        power_iteration(state.discriminator)
    if config.model.dropout:
        torch.manual_seed(int(np.random.default_rng([config.seed, Stream.TORCH, state.step]).integers(2**62)))

    fake_a, fake_b, *terms = generators(state, real_a, real_b, *_random_inputs(state, real_a, real_b))
    _update_average(state)
    if config.adversarial_weight > 0:
        rng = np.random.default_rng([config.seed, Stream.POOL, state.step])
        old_b = state.pool_b.query(fake_b, rng)
        old_a = state.pool_a.query(fake_a, rng)
        mixes = real_a.new_zeros((2, len(real_a), 1, 1, 1))
        if config.adversarial == "wgan-gp":  # no other loss looks at them
            mixes = torch.as_tensor(rng.random(mixes.shape), dtype=torch.float32, device=state.device)
        terms += discriminators(state, real_a, old_a, mixes[0], real_b, old_b, mixes[1])
    else:
        terms += [real_a.new_zeros(())] * 2
    if state.scaler.is_enabled():
        state.scaler.update()

    state.step += 1
    named = dict(zip(_TERMS, terms, strict=True))
    return {name: named[name] for name in losses_of(config)}


def _random_inputs(state: TrainState, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise for the fakes of B and of A, in their shapes, and places for the contrastive loss; empty if not used."""
    config, empty = state.config, real_a.new_empty(0)
    noise_b = noise_a = places = empty
    if config.cycle_noise > 0:
        seed = np.random.default_rng([config.seed, Stream.NOISE, state.step]).integers(2**62)
        draw = torch.Generator().manual_seed(int(seed))
        shapes = (
            (len(real), channels, *real.shape[2:])
            for real, channels in ((real_a, config.model.channels_b), (real_b, config.model.channels_a))
        )
        noise_b, noise_a = (
            config.cycle_noise * torch.randn(shape, generator=draw).to(state.device) for shape in shapes
        )
    if state.heads is not None:
        rng = np.random.default_rng([config.seed, Stream.PLACES, state.step])
        count = max(len(heads.layers) for heads in (state.heads.a, state.heads.b))  # type: ignore[arg-type]
        places = torch.as_tensor(rng.random((2, count, _PATCHES)), dtype=torch.float32, device=state.device)
    return noise_b, noise_a, places


LOSSES = (
    "adversarial_a2b",
    "adversarial_b2a",
    "cycle_a",
    "cycle_b",
    "identity_a",
    "identity_b",
    "contrastive_a2b",
    "contrastive_b2a",
    "structure_a2b",
    "structure_b2a",
    "discriminator_a",
    "discriminator_b",
)


def losses_of(config: TrainConfig) -> list[str]:
    """The terms that a step reports: the eight of the paper always, others where they have a weight."""
    more = {"contrastive": config.contrastive_weight, "structure": config.structure_weight}
    return [name for name in LOSSES if more.get(name.partition("_")[0], 1.0) > 0]


# The order in which the two updates give them: direction by direction.
_TERMS = (
    *("adversarial_a2b", "cycle_a", "identity_b", "contrastive_a2b", "structure_a2b"),
    *("adversarial_b2a", "cycle_b", "identity_a", "contrastive_b2a", "structure_b2a"),
    *("discriminator_a", "discriminator_b"),
)


def update_generators(
    state: TrainState, real_a: Tensor, real_b: Tensor, noise_b: Tensor, noise_a: Tensor, places: Tensor
) -> tuple[Tensor, ...]:
    """One step of both generators, against discriminators that stand still.

    noise_b, noise_a: added to the fakes on their way back, or empty. places: (2, activations, patches) in [0, 1], for
    the contrastive loss of each direction, or empty.
    Returns the fakes of A and of B, (N, C, H, W), and the first ten of _TERMS.
    """
    config, working, heads = state.config, state.working_generator, state.heads
    generator, judge = working.network, state.working_discriminator.network
    identity = config.identity_weight if config.uses_identity else 0.0
    working.take_weights()
    state.working_discriminator.take_weights()
    working.forget_gradients()
    if state.working_heads is not None:
        state.working_heads.forget_gradients()

    # The directions share nothing but the weights. Each adds one gradient to a weight, and the sum of two numbers
    # does not depend on which of them comes first.
    a2b, b2a = state.pair(
        lambda: _there_and_back(
            state,
            Direction(generator.a2b, generator.b2a, judge.b, None if heads is None else (heads.a, heads.b)),
            (real_a, real_b),
            noise_b,
            places[0] if heads is not None else places,
            cycle_weight=config.cycle_weight_a,
            identity_weight=config.cycle_weight_b * identity,
        ),
        lambda: _there_and_back(
            state,
            Direction(generator.b2a, generator.a2b, judge.a, None if heads is None else (heads.b, heads.a)),
            (real_b, real_a),
            noise_a,
            places[1] if heads is not None else places,
            cycle_weight=config.cycle_weight_b,
            identity_weight=config.cycle_weight_a * identity,
        ),
    )
    working.hand_over_gradients()
    state.scaler.step(state.generator_optimizer)
    if state.head_optimizer is not None:
        state.scaler.step(state.head_optimizer)
    return b2a[0], a2b[0], *a2b[1:], *b2a[1:]


@dataclass(frozen=True)
class Direction:
    """The networks of one direction: its generator, the way back, the discriminator of the target domain.

    heads: for what `there` and what `back` make of their inputs, if there is a contrastive loss.
    """

    there: nn.Module
    back: nn.Module
    judge: nn.Module
    heads: tuple[nn.Module, nn.Module] | None


def _there_and_back(
    state: TrainState,
    networks: Direction,
    images: tuple[Tensor, Tensor],
    noise: Tensor,
    places: Tensor,
    *,
    cycle_weight: float,
    identity_weight: float,
) -> tuple[Tensor, ...]:
    """Everything that one direction pays, and its gradients, added to those of both generators.

    images: real ones of the source and of the target domain. Returns the fake and the terms adversarial, cycle,
    identity, contrastive, structure, detached.
    """
    config, heads = state.config, networks.heads
    real, real_target = images
    zero = real.new_zeros(())
    adversarial = cycle = same = contrastive = structure = zero

    inputs = [real, real_target] if identity_weight else [real]
    keys: tuple[Tensor, ...] = ()
    if heads is None:
        fake, *identity = _translate(state, networks.there, inputs)
    else:
        (fake, *identity), keys = _translate_tapped(state, networks.there, inputs)
    if identity_weight:
        same = identity_weight * identity_loss(real_target, identity[0])

    # The way back passes the activations by which the contrastive loss knows the fake.
    onward = fake + noise if len(noise) else fake
    queries: tuple[Tensor, ...] = ()
    if cycle_weight:
        if heads is None:
            cycled = _run(state, networks.back, onward)
        else:
            cycled, *queries = _run(state, state.tapped(networks.back, decode=True), onward)
        cycle = cycle_weight * state.cycle_factor * cycle_loss(real, cycled)
    elif heads is not None:
        queries = _run(state, state.tapped(networks.back, decode=False), onward)
    if heads is not None:
        with torch.no_grad():
            anchors = heads[0](keys, places)
        found = [patch_contrastive_loss(q, k) for q, k in zip(heads[1](queries, places), anchors, strict=True)]
        contrastive = config.contrastive_weight * torch.stack(found).mean()

    if config.adversarial_weight:
        score = _run(state, networks.judge, fake)
        adversarial = config.adversarial_weight * generator_loss(config.adversarial, score)
    if config.structure_weight:
        structure = config.structure_weight * structure_loss(real, fake)
    total = adversarial + cycle + same + contrastive + structure
    if total.requires_grad:
        weights = [*state.working_generator.trained, *(trained(heads[1]) if heads is not None else [])]
        torch.autograd.backward(state.scaler.scale(total), inputs=weights)
    terms = (adversarial, cycle, same, contrastive, structure)
    return fake.detach(), *(term.detach() for term in terms)


def update_discriminators(
    state: TrainState, real_a: Tensor, fake_a: Tensor, mix_a: Tensor, real_b: Tensor, fake_b: Tensor, mix_b: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of both discriminators, on fakes that are only data.

    mix_a, mix_b: (N, 1, 1, 1), the share of the real image where a gradient penalty is taken. Returns both terms.
    """
    working = state.working_discriminator
    judge = working.network
    working.forget_gradients()
    terms = state.pair(
        lambda: _judge(state, judge.a, real_a, fake_a, mix_a),
        lambda: _judge(state, judge.b, real_b, fake_b, mix_b),
    )
    working.hand_over_gradients()
    state.scaler.step(state.discriminator_optimizer)
    return terms


def _judge(state: TrainState, judge: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """What one discriminator pays, detached, and its gradients."""
    config = state.config
    real_score, fake_score = _translate(state, judge, [real, fake])
    loss = discriminator_loss(config.adversarial, real_score, fake_score)
    if config.adversarial == "wgan-gp":
        penalty = gradient_penalty(judge, real, fake, mix)  # in float32: second derivatives need all their digits
        loss = loss + 0.5 * config.gradient_penalty_weight * penalty
    if config.r1_weight > 0 and state.step % _R1_STEPS == 0:
        loss = loss + 0.5 * config.r1_weight * _R1_STEPS * zero_centred_penalty(judge, real)
    torch.autograd.backward(state.scaler.scale(loss), inputs=trained(judge))
    return loss.detach()


def prepare(x: Tensor, precision: str) -> Tensor:
    """Images as networks compute with them, in the type of this precision: fp32, bf16 or fp16."""
    # Channels last is what the fast convolutions of CPUs and GPUs work in; others would be rearranged at every call.
    layout = torch.contiguous_format if x.device.type == "mps" else torch.channels_last
    return x.to(DTYPES[precision], memory_format=layout)


def _run(state: TrainState, network: nn.Module, x: Tensor) -> Any:
    """What a network makes of images, float32 in and out, inside in the precision of the run; see `Tapped`."""
    return state.call(network, prepare(x, state.config.precision))


def _translate(state: TrainState, network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """The outputs for all inputs, in one call where that changes nothing: fewer, larger operations."""
    # Without batch norm an image does not see its neighbours in a batch.
    if not state.config.model.uses_batch_norm and len({x.shape[1:] for x in inputs}) == 1:
        return list(torch.split(_run(state, network, torch.cat(inputs)), [len(x) for x in inputs]))
    return [_run(state, network, x) for x in inputs]


def _translate_tapped(
    state: TrainState, network: nn.Module, inputs: list[Tensor]
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """`_translate`, and the activations of the first input, to compare with."""
    tapped = state.tapped(network, decode=True)
    if not state.config.model.uses_batch_norm and len({x.shape[1:] for x in inputs}) == 1:
        joined, *found = _run(state, tapped, torch.cat(inputs))
        outputs = list(torch.split(joined, [len(x) for x in inputs]))
    else:
        first, *found = _run(state, tapped, inputs[0])
        outputs = [first, *(_run(state, network, x) for x in inputs[1:])]
    return outputs, tuple(x[: len(inputs[0])].detach() for x in found)


@torch.no_grad()
def _update_average(state: TrainState) -> None:
    """Move the averaged generators towards the current ones; early on faster, so that they forget the start."""
    decay = min(state.config.average_decay, (1 + state.step) / (10 + state.step))
    state.average_weights.lerp_(state.working_generator.weights, 1 - decay)
    for mean, current in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        mean.copy_(current)


def first_non_finite(losses: Iterable[tuple[int, dict[str, float]]]) -> tuple[int, str, float] | None:
    """Step, term and value of the first loss that is NaN or infinite, or None."""
    for step, terms in losses:
        for name, value in terms.items():
            if not math.isfinite(value):
                return step, name, value
    return None
