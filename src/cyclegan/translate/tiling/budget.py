"""Predict the memory that a translation takes, and choose a plan that fits."""

import math
from typing import cast

import torch
from torch import nn

from cyclegan.errors import InputError
from cyclegan.networks.protocol import Generator, LevelLayers, ResidualLayers
from cyclegan.system.advice import advise
from cyclegan.system.memory import free_memory
from cyclegan.translate.tiling.network import TilingPlan, convolutions, has_instance_norm, tiling_of

# Memory of the libraries while a network runs.
_BASE_BYTES = 64 * 2**20

# Activations of the finest resolution that are alive at once: one that is read, one that is written, and the copies
# that convolutions on a CPU make in another layout.
_COPIES = 4.0

# Pixels that a tile needs around it for all layers except the residual blocks.
_HALO = 24


def untiled_bytes(network: nn.Module, height: int, width: int) -> int:
    """Peak of a forward pass over one image: _COPIES activations of the first layer, and a U-Net's skips."""
    values = height * width * _first_width(network) * _COPIES
    if tiling_of(network) == "levels":
        values = values / 4 + _level_values(network, height, width, 0)
    return round(_BASE_BYTES + values * _value_bytes(network))


def tiled_bytes(network: nn.Module, height: int, width: int, plan: TilingPlan, num_views: int = 1) -> int:
    """Peak of a translation in tiles, without the image itself: the stored activations, and copies of one tile.

    num_views: views of the image that are translated, each with stored activations of its own.

    A residual network of width w stores `plan.stored` activations of 4 w channels at height / 4 x width / 4; with none,
    a tile has as much around it as all blocks need. A network with levels stores those from `plan.stored` down, and
    computes its skips beside the activations that they are joined to. A local network stores nothing.
    """
    stored, halo, channels = 0, _HALO, _first_width(network)
    match tiling_of(network):
        case "local":
            halo = cast(Generator, network).reach
        case "residual":
            count = plan.stored + num_views - 1 if plan.stored else 0  # of a view that is done one stays
            stored = count * 4 * channels * math.ceil(height / 4) * math.ceil(width / 4)
            halo += 0 if plan.stored else 8 * len(cast(ResidualLayers, network).blocks)
        case "levels":
            stored, halo = num_views * _level_values(network, height, width, plan.stored), halo + 2 ** (plan.stored + 2)
            channels *= 2
    tile = min(plan.side, height) + 2 * halo, min(plan.side, width) + 2 * halo
    return round(_BASE_BYTES + (stored + tile[0] * tile[1] * channels * _COPIES) * _value_bytes(network))


def plans(network: nn.Module, *, is_given: bool) -> list[int]:
    """How much a tiled network may store, see `TilingPlan`, the fastest first. is_given: all statistics are known."""
    tiling = tiling_of(network)
    if tiling == "levels":
        return [*range(1, min(len(cast(LevelLayers, network).down) - 1, 4))]
    return [2, 1] if tiling == "residual" and not is_given and has_instance_norm(network) else [0]


def _first_width(network: nn.Module) -> int:
    """Channels at the resolution of the image, or at half of it.

    The widest convolution of a local network counts as one at full resolution, which is more than it takes.
    """
    match tiling_of(network):
        case "residual":
            return int(cast(ResidualLayers, network).stem.out_channels)
        case "levels":
            return convolutions(cast(LevelLayers, network).down)[0].out_channels
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    return max(max(conv.in_channels, conv.out_channels) for conv in convs)


def _level_values(network: nn.Module, height: int, width: int, first: int) -> int:
    """Values of the levels from `first` on, those of the way up beside one finer and one coarser."""
    levels: list[int] = [
        conv.out_channels * math.ceil(height / 2 ** (level + 1)) * math.ceil(width / 2 ** (level + 1))
        for level, conv in enumerate(convolutions(cast(LevelLayers, network).down))
    ]
    return sum(levels[first:]) + sum(levels[first : first + 2])


def choose_plan(
    network: nn.Module,
    height: int,
    width: int,
    side: int,
    *,
    available: int | None,
    is_given: bool,
    held: int = 0,
    num_views: int = 1,
) -> TilingPlan:
    """The fastest plan that fits. is_given: all statistics are known. held: bytes of the image and its result.

    num_views: as in `tiled_bytes`.

    Raises InputError if none fits.
    """
    possible = [TilingPlan(side, stored) for stored in plans(network, is_given=is_given)]

    def num_bytes(plan: TilingPlan) -> int:
        return held + tiled_bytes(network, height, width, plan, num_views)

    for plan in possible:
        if available is None or num_bytes(plan) <= available:
            return plan
    least = min(map(num_bytes, possible))
    small = min(num_bytes(TilingPlan(128, plan.stored)) for plan in possible)
    ways = ["a smaller tile"] if side > 128 and available is not None and small <= available else []
    if not is_given and has_instance_norm(network):
        ways.append(advise("approximate statistics (--statistics crops)", ""))
        ways.append(advise("no --self-ensemble", "") if num_views > 1 else "")
    raise InputError(
        f"{width}x{height} pixels in tiles of {side} need {gib(least)}, and {gib(available or 0)} are available; "
        f"try {' or '.join([*filter(None, ways), 'a machine with more memory'])}."
    )


def _value_bytes(network: nn.Module) -> int:
    count: int = next(network.parameters()).element_size()
    return count


def available_bytes(device: torch.device) -> int | None:
    """Memory that a process may still take, on the device if it is a GPU. None if the system does not report it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    return free_memory()


def gib(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.1f} GiB"
