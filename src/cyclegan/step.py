"""One optimisation step, and the networks, optimisers and pools that it changes."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.distributed import has_fast_bf16
from cyclegan.losses import cycle_loss, discriminator_loss, generator_loss, gradient_penalty, identity_loss
from cyclegan.networks import build_discriminator, build_generator, forget_activations, freeze, train_mode
from cyclegan.networks.layers import DTYPES
from cyclegan.parallel import Pair, Traced
from cyclegan.working import Working, flatten, trained

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

    a2b: nn.Module
    b2a: nn.Module

    def __init__(self, a2b: nn.Module, b2a: nn.Module) -> None:
        super().__init__()
        self.a2b = a2b
        self.b2a = b2a


class Discriminators(nn.Module):
    """The two judges: `a` judges images of domain A (D_X of the paper), `b` those of domain B (D_Y)."""

    a: nn.Module
    b: nn.Module

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
    # All of its weights that are trained, of which its parameters are views.
    average_weights: Tensor
    pool_a: ImagePool
    pool_b: ImagePool
    # The networks that a step computes with.
    working_generator: Working[Generators]
    working_discriminator: Working[Discriminators]
    # Does two things at once where that is faster, and calls networks so that it can.
    pair: Pair
    call: Callable[[nn.Module, Tensor], Tensor]
    # Keeps gradients in the range of fp16; without effect in other precisions.
    scaler: torch.amp.GradScaler
    step: int = 0

    @classmethod
    def create(cls, config: TrainConfig, device: str | torch.device = "cpu", *, side_by_side: bool = True) -> Self:
        """Fresh networks, initialised from `config.seed` alone, with their optimisers and empty pools.

        precision auto is bf16 where the chip has it, without the trial of `cyclegan.tuning.choose`. side_by_side:
        whether a CPU works on both directions at once, each with half of the threads, where the result does not depend
        on it.
        """
        device = torch.device(device)
        if config.precision == "auto":
            config = config.replace(precision="bf16" if has_fast_bf16(device) else "fp32")
        model = config.model
        seeds = np.random.default_rng([config.seed, _WEIGHTS]).integers(2**62, size=4).tolist()

        def generators() -> Generators:
            return Generators(
                build_generator(model, model.channels_a, model.channels_b, seed=seeds[0]),
                build_generator(model, model.channels_b, model.channels_a, seed=seeds[1]),
            ).to(device)

        generator = generators()
        if config.checkpoint_activations:
            forget_activations(generator.a2b)
            forget_activations(generator.b2a)
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
        # Running statistics and the generator of dropout change in an order, which two threads would not keep; nor may
        # two of them compile.
        ordered = model.norm == "batch" or model.dropout or config.compile
        pair = Pair(side_by_side=side_by_side and device.type == "cpu" and not ordered)
        is_traced = pair.side_by_side and config.data.crops and not config.checkpoint_activations
        is_traced = is_traced and torch.get_num_threads() > 1
        # The statistics of batch norm, and the penalty of wgan-gp, belong to networks in float32; these round their
        # weights at each use.
        dtype = DTYPES[config.precision] if model.norm != "batch" else torch.float32
        working_generator = Working(generator, dtype)
        working_discriminator = Working(discriminator, torch.float32 if config.adversarial == "wgan-gp" else dtype)
        # What is not trained is the same in the average, from the start on.
        average = generators()
        if config.freeze in ("encoder", "both"):
            freeze(average.a2b)
            freeze(average.b2a)
        average_weights = flatten(trained(average))
        if config.compile:
            for network in (*working_generator.network.children(), *working_discriminator.network.children()):
                network.compile(dynamic=False)  # in place: names and weights stay what they are
        # It raises its scale as far as it can; torch's own start, 2**16, loses the first steps of a run.
        scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=config.precision == "fp16")
        scaler.scale(torch.zeros((), device=device))  # it begins at its first use, which two threads would race for
        return cls(
            config=config,
            device=device,
            generator=generator,
            discriminator=discriminator,
            generator_optimizer=_adam(working_generator.weights, config),
            discriminator_optimizer=_adam(working_discriminator.weights, config),
            average=average.requires_grad_(False).eval(),
            average_weights=average_weights,
            pool_a=ImagePool(config.pool_size),
            pool_b=ImagePool(config.pool_size),
            working_generator=working_generator,
            working_discriminator=working_discriminator,
            pair=pair,
            call=Traced() if is_traced and Traced.is_available() else nn.Module.__call__,
            scaler=scaler,
        )

    def __deepcopy__(self, _memo: object) -> "TrainState":
        # Weights, gradients and moments are views of one another, which no general copy knows.
        raise TypeError("A TrainState cannot be copied; save a checkpoint of it and load that into a new state.")


def _adam(weights: nn.Parameter, config: TrainConfig) -> torch.optim.Adam:
    # The fused form is the same arithmetic in one pass over the weights; mps lacks it in some releases. A CUDA graph
    # needs the counter of steps and the rate on the GPU.
    fused, cuda = weights.device.type in ("cpu", "cuda"), weights.is_cuda
    rate = torch.tensor(config.learning_rate, device=weights.device) if cuda else config.learning_rate
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam([weights], lr=rate, betas=betas, fused=fused, capturable=cuda)


def train_step(state: TrainState, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
    """Update both generators, then both discriminators, on one batch (Zhu et al. 2017, equation 3 and section 4).

    real_a, real_b: (N, C, H, W) in [-1, 1] on the state's device, H and W multiples of the model's.
    Returns the weighted terms as detached scalar tensors; a term of weight 0 is a zero.
    """
    return run_step(state, real_a, real_b, update_generators, update_discriminators)


# What a step asks of the GPU or the CPU: tensors in, tensors out, nothing random, so that it can be recorded.
GeneratorUpdate: TypeAlias = Callable[[TrainState, Tensor, Tensor], tuple[Tensor, ...]]
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
        if config.model.norm == "batch" or not network.training:  # walking through all layers takes a while
            train_mode(network)
    if config.model.dropout:
        torch.manual_seed(int(np.random.default_rng([config.seed, _TORCH, state.step]).integers(2**62)))

    fake_a, fake_b, *terms = generators(state, real_a, real_b)
    _update_average(state)
    if config.adversarial_weight > 0:
        rng = np.random.default_rng([config.seed, _POOL, state.step])
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
    return {name: named[name] for name in LOSSES}


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
# The order in which the two updates give them: direction by direction.
_TERMS = (
    *("adversarial_a2b", "cycle_a", "identity_b"),
    *("adversarial_b2a", "cycle_b", "identity_a"),
    *("discriminator_a", "discriminator_b"),
)


def update_generators(state: TrainState, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, ...]:
    """One step of both generators, against discriminators that stand still.

    Returns the fakes of A and of B, (N, C, H, W), and the first six of _TERMS.
    """
    config, working = state.config, state.working_generator
    generator, judge = working.network, state.working_discriminator.network
    identity = config.identity_weight if config.uses_identity else 0.0
    working.take_weights()
    state.working_discriminator.take_weights()
    working.forget_gradients()

    # The directions share nothing but the weights. Each adds one gradient to a weight, and the sum of two numbers
    # does not depend on which of them comes first.
    a2b, b2a = state.pair(
        lambda: _there_and_back(
            state,
            (generator.a2b, generator.b2a, judge.b),
            (real_a, real_b),
            cycle_weight=config.cycle_weight_a,
            identity_weight=config.cycle_weight_b * identity,
        ),
        lambda: _there_and_back(
            state,
            (generator.b2a, generator.a2b, judge.a),
            (real_b, real_a),
            cycle_weight=config.cycle_weight_b,
            identity_weight=config.cycle_weight_a * identity,
        ),
    )
    working.hand_over_gradients()
    state.scaler.step(state.generator_optimizer)
    return b2a[0], a2b[0], *a2b[1:], *b2a[1:]


def _there_and_back(
    state: TrainState,
    networks: tuple[nn.Module, nn.Module, nn.Module],
    images: tuple[Tensor, Tensor],
    *,
    cycle_weight: float,
    identity_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Everything that one direction pays, and its gradients, added to those of both generators.

    networks: the generator of this direction, the other one, and the discriminator of the target domain; images: real
    ones of the source and of the target domain. Returns the fake and the terms adversarial, cycle, identity, detached.
    """
    config = state.config
    there, back, judge = networks
    real, real_target = images
    zero = real.new_zeros(())
    adversarial = cycle = same = zero

    fake, *identity = _translate(state, there, [real, real_target] if identity_weight else [real])
    if identity_weight:
        same = identity_weight * identity_loss(real_target, identity[0])
    if cycle_weight:
        cycle = cycle_weight * cycle_loss(real, _run(state, back, fake))
    if config.adversarial_weight:
        score = _run(state, judge, fake)
        adversarial = config.adversarial_weight * generator_loss(config.adversarial, score)
    total = adversarial + cycle + same
    if total.requires_grad:
        torch.autograd.backward(state.scaler.scale(total), inputs=state.working_generator.trained)
    return fake.detach(), adversarial.detach(), cycle.detach(), same.detach()


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
    torch.autograd.backward(state.scaler.scale(loss), inputs=trained(judge))
    return loss.detach()


def prepare(x: Tensor, precision: str) -> Tensor:
    """Images as networks compute with them, in the type of this precision: fp32, bf16 or fp16."""
    # Channels last is what the fast convolutions of CPUs and GPUs work in; others would be rearranged at every call.
    layout = torch.contiguous_format if x.device.type == "mps" else torch.channels_last
    return x.to(DTYPES[precision], memory_format=layout)


def _run(state: TrainState, network: nn.Module, x: Tensor) -> Tensor:
    """What a network makes of images, float32 in and out, inside in the precision of the run."""
    return state.call(network, prepare(x, state.config.precision))


def _translate(state: TrainState, network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """The outputs for all inputs, in one call where that changes nothing: fewer, larger operations."""
    # Without batch norm an image does not see its neighbours in a batch.
    if state.config.model.norm != "batch" and len({x.shape[1:] for x in inputs}) == 1:
        return list(torch.split(_run(state, network, torch.cat(inputs)), [len(x) for x in inputs]))
    return [_run(state, network, x) for x in inputs]


@torch.no_grad()
def _update_average(state: TrainState) -> None:
    """Move the averaged generators towards the current ones; early on faster, so that they forget the start."""
    decay = min(state.config.average_decay, (1 + state.step) / (10 + state.step))
    state.average_weights.lerp_(state.working_generator.weights, 1 - decay)
    for mean, current in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        mean.copy_(current)


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """The rate of the next steps, for both optimisers."""
    for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)  # a recorded step reads it where it is
            else:
                group["lr"] = learning_rate


def first_non_finite(losses: Iterable[tuple[int, dict[str, float]]]) -> tuple[int, str, float] | None:
    """Step, term and value of the first loss that is NaN or infinite, or None."""
    for step, terms in losses:
        for name, value in terms.items():
            if not math.isfinite(value):
                return step, name, value
    return None
