"""What a training step reads and changes: the networks, their optimisers, the pools of earlier fakes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.networks import (
    Discriminator,
    Generator,
    build_discriminator,
    build_generator,
    build_heads,
    enable_checkpointing,
    freeze,
)
from cyclegan.networks.layers import DTYPES
from cyclegan.step.image_pool import ImagePool
from cyclegan.step.master_weights import Working, flatten, trained
from cyclegan.step.two_threads import Pair, Traced
from cyclegan.system.devices import has_fast_bf16


class Stream(IntEnum):
    """First entry of every counter-based seed of a step, so that no two uses of randomness share a stream."""

    WEIGHTS = 1
    POOL = 2
    TORCH = 3
    NOISE = 4
    PLACES = 5


class Generators(nn.Module):
    """The two translators: `a2b` (G of the paper) and `b2a` (F)."""

    a2b: Generator
    b2a: Generator

    def __init__(self, a2b: Generator, b2a: Generator) -> None:
        super().__init__()
        self.a2b = a2b
        self.b2a = b2a


class Discriminators(nn.Module):
    """The two judges: `a` judges images of domain A (D_X of the paper), `b` those of domain B (D_Y)."""

    a: Discriminator
    b: Discriminator

    def __init__(self, a: Discriminator, b: Discriminator) -> None:
        super().__init__()
        self.a = a
        self.b = b


class Heads(nn.Module):
    """Projections for the contrastive loss: `a` of what the generator a2b makes of images of A, `b` of b2a and B."""

    a: nn.Module
    b: nn.Module

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a = a
        self.b = b


class Tapped(nn.Module):
    """A generator that gives its activations, too: its output, if it is to decode, then those of `features`."""

    def __init__(self, network: nn.Module, *, decode: bool) -> None:
        super().__init__()
        self.network, self.decode = network, decode

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.network.features(x, decode=self.decode)  # type: ignore[no-any-return, operator]


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
    # Of the contrastive loss, if there is one.
    heads: Heads | None
    working_heads: Working[Heads] | None
    head_optimizer: torch.optim.Adam | None
    # What the cycle weights are multiplied by now, a scalar.
    cycle_factor: Tensor
    # Does two things at once where that is faster, and calls networks so that it can.
    pair: Pair
    call: Callable[[nn.Module, Tensor], Any]
    # Keeps gradients in the range of fp16; without effect in other precisions.
    scaler: torch.amp.GradScaler
    step: int = 0
    _taps: dict[tuple[nn.Module, bool], Tapped] = field(default_factory=dict)

    @classmethod
    def create(cls, config: TrainConfig, device: str | torch.device = "cpu", *, side_by_side: bool = True) -> Self:
        """Fresh networks, initialised from `config.seed` alone, with their optimisers and empty pools.

        precision auto is bf16 where the chip has it, without the trial of `cyclegan.step.precision.choose`.
        side_by_side: whether a CPU works on both directions at once, each with half of the threads, where the result
        does not depend on it.
        """
        device = torch.device(device)
        if config.precision == "auto":
            config = config.replace(precision="bf16" if has_fast_bf16(device) else "fp32")
        model = config.model
        seeds = np.random.default_rng([config.seed, Stream.WEIGHTS]).integers(2**62, size=6).tolist()

        def generators() -> Generators:
            return Generators(
                build_generator(model, model.channels_a, model.channels_b, seed=seeds[0]),
                build_generator(model, model.channels_b, model.channels_a, seed=seeds[1]),
            ).to(device)

        generator = generators()
        if config.checkpoint_activations:
            enable_checkpointing(generator.a2b)
            enable_checkpointing(generator.b2a)
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
        ordered = model.uses_batch_norm or model.dropout or config.compile
        pair = Pair(side_by_side=side_by_side and device.type == "cpu" and not ordered)
        is_traced = pair.side_by_side and config.data.crops and not config.checkpoint_activations
        is_traced = is_traced and torch.get_num_threads() > 1
        # The statistics of batch norm, and the penalty of wgan-gp, belong to networks in float32; these round their
        # weights at each use.
        dtype = torch.float32 if model.uses_batch_norm else DTYPES[config.precision]
        working_generator = Working(generator, dtype)
        is_exact = config.adversarial == "wgan-gp" or config.r1_weight > 0 or model.discriminator_norm == "spectral"
        working_discriminator = Working(discriminator, torch.float32 if is_exact else dtype)
        heads = working_heads = None
        if config.contrastive_weight > 0:
            heads = Heads(
                build_heads(model, generator.a2b, seed=seeds[4]), build_heads(model, generator.b2a, seed=seeds[5])
            )
            working_heads = Working(heads.to(device), torch.float32)
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
            heads=heads,
            working_heads=working_heads,
            head_optimizer=None if working_heads is None else _adam(working_heads.weights, config),
            cycle_factor=torch.ones((), device=device),
            pair=pair,
            call=Traced() if is_traced and Traced.is_available() else nn.Module.__call__,
            scaler=scaler,
        )

    def tapped(self, network: nn.Module, *, decode: bool) -> Tapped:
        """A generator with its activations; the same module each time, as `call` wants it."""
        if (network, decode) not in self._taps:
            tapped = self._taps[network, decode] = Tapped(network, decode=decode)
            if self.config.compile:
                tapped.compile(dynamic=False)  # it calls `features`, which the network's own compile() leaves as it is
        return self._taps[network, decode]

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


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """The rate of the next steps, for all optimisers."""
    optimizers = (state.generator_optimizer, state.discriminator_optimizer, state.head_optimizer)
    for optimizer in (optimizer for optimizer in optimizers if optimizer is not None):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)  # a recorded step reads it where it is
            else:
                group["lr"] = learning_rate
