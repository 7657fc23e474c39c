"""The random numbers of a step, drawn on the CPU from the seed and the step's number: a resumed run repeats them.

Drawing stays outside the functions that compute gradients, which can then be recorded as CUDA graphs.
"""

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from cyclegan.config import TrainConfig

# Patches of a layer that the contrastive loss compares, at most: half as many as in DCLGAN (Han et al. 2021), which did
# as well where both were tried, and costs less.
NUM_PATCHES = 128


class Stream(IntEnum):
    """The uses of randomness. Each has a separate stream, whose number is part of every seed."""

    WEIGHTS = 1
    POOL = 2
    TORCH = 3
    NOISE = 4
    PLACES = 5


def numpy_generator(config: TrainConfig, stream: Stream, *counters: int) -> np.random.Generator:
    """A fresh generator for one stream and these counters, such as the step."""
    return np.random.default_rng([config.seed, stream, *counters])


def torch_seed(config: TrainConfig, stream: Stream, *counters: int) -> int:
    """A seed for torch, from the same stream and counters."""
    return int(numpy_generator(config, stream, *counters).integers(2**62))


def draw_noise(config: TrainConfig, step: int, count: int, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
    """`noise_b` and `noise_a`, to be added to the fakes of B and of A on their way back; empty if `cycle_noise` is 0.

    Gaussian with standard deviation `cycle_noise`, in the shapes of `count` fakes.
    """
    if config.cycle_noise == 0:
        return {}
    draw = torch.Generator().manual_seed(torch_seed(config, Stream.NOISE, step))
    sizes = {"noise_b": (real_a, config.model.channels_b), "noise_a": (real_b, config.model.channels_a)}
    return {
        name: config.cycle_noise * torch.randn((count, channels, *real.shape[2:]), generator=draw).to(real.device)
        for name, (real, channels) in sizes.items()
    }


def draw_places(config: TrainConfig, step: int, num_layers: int, device: torch.device) -> dict[str, Tensor]:
    """`places_b` and `places_a`: (num_layers, NUM_PATCHES), uniform in [0, 1].

    Where patches are compared between A and its translation to B, and between B and its translation to A.
    """
    places = numpy_generator(config, Stream.PLACES, step).random((2, num_layers, NUM_PATCHES))
    to_b, to_a = torch.as_tensor(places, dtype=torch.float32, device=device)
    return {"places_b": to_b, "places_a": to_a}


def draw_mixes(rng: np.random.Generator, count: int, device: torch.device) -> dict[str, Tensor]:
    """`mix_a` and `mix_b`: (count, 1, 1, 1), uniform in [0, 1]. The share of the real image in a gradient penalty."""
    mixes = torch.as_tensor(rng.random((2, count, 1, 1, 1)), dtype=torch.float32, device=device)
    return {"mix_a": mixes[0], "mix_b": mixes[1]}
