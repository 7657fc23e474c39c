"""The state of a training run, which a checkpoint holds."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.networks import Discriminator, Generator, build_discriminator, build_generator, build_heads, freeze
from cyclegan.step.execution import Execution
from cyclegan.step.image_pool import ImagePool
from cyclegan.step.master_weights import flatten, trained
from cyclegan.step.randomness import Stream, numpy_generator
from cyclegan.step.terms import needed_inputs
from cyclegan.system.devices import has_fast_bf16


class Generators(nn.Module):
    """Both generators: `a2b` (G of the paper) and `b2a` (F)."""

    def __init__(self, a2b: Generator, b2a: Generator) -> None:
        super().__init__()
        self.a2b = a2b
        self.b2a = b2a


class Discriminators(nn.Module):
    """Both discriminators: `a` for images of domain A (D_X of the paper), `b` for those of domain B (D_Y)."""

    def __init__(self, a: Discriminator, b: Discriminator) -> None:
        super().__init__()
        self.a = a
        self.b = b


class Heads(nn.Module):
    """Projections of features for the contrastive loss: `a` for those of a2b on images of A, `b` for b2a and B."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a = a
        self.b = b

    @property
    def num_layers(self) -> int:
        """Layers of a generator whose features are projected."""
        return max(len(heads.layers) for heads in (self.a, self.b))  # type: ignore[arg-type]


@dataclass(eq=False)
class TrainState:
    """Everything that a step reads and changes, and that a checkpoint holds.

    Trained weights lie in one tensor for each optimiser: `generator_weights` and the like, of which the parameters of
    the networks are views. `average` is the running average of the generators. `heads`, with their weights and
    optimiser, are there if a loss term needs features. `scaler` keeps gradients in the range of fp16, and does nothing
    in other precisions. `step` counts completed steps. `domains_with_holes` are those of a and b of which a batch had a
    mask.
    """

    config: TrainConfig
    device: torch.device
    generator: Generators
    generator_weights: nn.Parameter
    generator_optimizer: torch.optim.Adam
    discriminator: Discriminators
    discriminator_weights: nn.Parameter
    discriminator_optimizer: torch.optim.Adam
    heads: Heads | None
    head_weights: nn.Parameter | None
    head_optimizer: torch.optim.Adam | None
    average: Generators
    average_weights: Tensor
    pool_a: ImagePool
    pool_b: ImagePool
    scaler: torch.amp.GradScaler
    step: int = 0
    domains_with_holes: set[str] = field(default_factory=set)

    @classmethod
    def create(cls, config: TrainConfig, device: str | torch.device = "cpu") -> Self:
        """Networks initialised from `config.seed` alone, with their optimisers and empty pools.

        precision auto becomes bf16 if the device is fast in it, else fp32; `cyclegan.step.precision` measures instead.
        """
        device = torch.device(device)
        if config.precision == "auto":
            config = config.replace(precision="bf16" if has_fast_bf16(device) else "fp32")
        seeds = numpy_generator(config, Stream.WEIGHTS).integers(2**62, size=6).tolist()

        generator = _build_generators(config, seeds[:2]).to(device)
        generator_weights = nn.Parameter(flatten(trained(generator)))
        discriminator = _build_discriminators(config, seeds[2:4]).to(device)
        discriminator_weights = nn.Parameter(flatten(trained(discriminator)))
        heads = head_weights = head_optimizer = None
        if "features" in needed_inputs(config):
            heads = Heads(
                build_heads(config.model, generator.a2b, seed=seeds[4]),
                build_heads(config.model, generator.b2a, seed=seeds[5]),
            ).to(device)
            head_weights = nn.Parameter(flatten(trained(heads)))
            head_optimizer = _adam(head_weights, config)
        average = _build_generators(config, seeds[:2]).to(device)
        average_weights = flatten(trained(average))  # frozen weights stay equal to the generators'

        # The scale grows as far as it can; torch's default start, 2**16, loses the first steps of a run.
        scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=config.precision == "fp16")
        scaler.scale(torch.zeros((), device=device))  # initialises it, for which two threads would race
        return cls(
            config=config,
            device=device,
            generator=generator,
            generator_weights=generator_weights,
            generator_optimizer=_adam(generator_weights, config),
            discriminator=discriminator,
            discriminator_weights=discriminator_weights,
            discriminator_optimizer=_adam(discriminator_weights, config),
            heads=heads,
            head_weights=head_weights,
            head_optimizer=head_optimizer,
            average=average.requires_grad_(False).eval(),
            average_weights=average_weights,
            pool_a=ImagePool(config.pool_size),
            pool_b=ImagePool(config.pool_size),
            scaler=scaler,
        )

    @cached_property
    def execution(self) -> Execution:
        """The way in which `train_step` executes a step: built at first use, not part of a checkpoint.

        To execute otherwise, assign another one: `state.execution = Execution(state, side_by_side=False)`.
        """
        return Execution(self)

    def close(self) -> None:
        """End the thread that helps to execute steps; the next step would start another one."""
        if "execution" in vars(self):
            self.execution.two_threads.close()

    @property
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """All optimisers, by the names that they have here and in a checkpoint."""
        names = ("generator_optimizer", "discriminator_optimizer", "head_optimizer")
        found = (self.generator_optimizer, self.discriminator_optimizer, self.head_optimizer)
        return {name: optimizer for name, optimizer in zip(names, found, strict=True) if optimizer is not None}

    @property
    def pools(self) -> dict[str, ImagePool]:
        """Both image pools, by the names that they have here and in a checkpoint."""
        return {"pool_a": self.pool_a, "pool_b": self.pool_b}

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged generators towards the current ones: faster early on, to forget the random start."""
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        self.average_weights.lerp_(self.generator_weights, 1 - decay)
        for mean, current in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            mean.copy_(current)

    def __deepcopy__(self, _memo: object) -> Self:
        # Weights, gradients and moments are views of shared memory, which a generic copy would separate.
        raise TypeError("A TrainState cannot be copied; save a checkpoint of it and load that into a new state.")


def _build_generators(config: TrainConfig, seeds: list[int]) -> Generators:
    model = config.model
    pair = Generators(
        build_generator(model, model.channels_a, model.channels_b, seed=seeds[0]),
        build_generator(model, model.channels_b, model.channels_a, seed=seeds[1]),
    )
    if config.freeze in ("encoder", "both"):
        freeze(pair.a2b)
        freeze(pair.b2a)
    return pair


def _build_discriminators(config: TrainConfig, seeds: list[int]) -> Discriminators:
    model = config.model
    pair = Discriminators(
        build_discriminator(model, model.channels_a, seed=seeds[0]),
        build_discriminator(model, model.channels_b, seed=seeds[1]),
    )
    if config.freeze in ("discriminator", "both"):
        freeze(pair.a)
        freeze(pair.b)
    return pair


def _adam(weights: nn.Parameter, config: TrainConfig) -> torch.optim.Adam:
    # The fused form is the same arithmetic in one pass over the weights; mps lacks it in some releases. A CUDA graph
    # needs the step counter and the learning rate on the GPU.
    fused, cuda = weights.device.type in ("cpu", "cuda"), weights.is_cuda
    rate = torch.tensor(config.learning_rate, device=weights.device) if cuda else config.learning_rate
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam([weights], lr=rate, betas=betas, fused=fused, capturable=cuda)


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """Set the learning rate of all optimisers for the next steps."""
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)  # in place: a CUDA graph reads it there
            else:
                group["lr"] = learning_rate
