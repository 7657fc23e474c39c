"""Predict the memory that a translation takes, and choose a plan that fits."""

import math
from pathlib import Path

import torch
from torch import nn

from cyclegan.errors import InputError
from cyclegan.networks.resnet import ResnetGenerator
from cyclegan.networks.unet import UnetGenerator
from cyclegan.translate.tiling.network import TilingPlan, has_instance_norm

# Memory of the libraries while a network runs.
_BASE_BYTES = 64 * 2**20

# Activations of the finest resolution that are alive at once: one that is read, one that is written, and the copies
# that convolutions on a CPU make in another layout.
_COPIES = 4.0

# Pixels that a tile needs around it for all layers except the residual blocks.
_HALO = 24


def untiled_bytes(network: nn.Module, height: int, width: int) -> int:
    """Peak of a forward pass over one image: _COPIES activations of the first layer, and the skips of a U-Net."""
    finest = height * width * _first_width(network) * _value_bytes(network)
    if isinstance(network, UnetGenerator):
        return round(_BASE_BYTES + finest * _COPIES / 4 + _unet_bytes(network, height, width, 0))
    return round(_BASE_BYTES + finest * _COPIES)


def tiled_bytes(network: nn.Module, height: int, width: int, plan: TilingPlan) -> int:
    """Peak of a translation in tiles, without the image itself: the stored activations, and copies of one tile.

    A resnet of width w stores `plan.stored` activations of 4 w channels at height / 4 x width / 4. With none, a tile
    includes the surroundings that all blocks need.
    """
    halo, fine = _HALO, _first_width(network)
    if isinstance(network, ResnetGenerator):
        values = plan.stored * 4 * fine * math.ceil(height / 4) * math.ceil(width / 4)
        stored = values * _value_bytes(network)
        halo += 0 if plan.stored else 8 * len(network.blocks)
    else:
        assert isinstance(network, UnetGenerator)
        stored = _unet_bytes(network, height, width, plan.stored)
        halo += 2 ** (plan.stored + 2)
        fine = 2 * fine  # skips are computed beside the planes they are joined to
    tile = min(plan.side, height) + 2 * halo, min(plan.side, width) + 2 * halo
    return round(_BASE_BYTES + stored + tile[0] * tile[1] * fine * _value_bytes(network) * _COPIES)


def choose_plan(
    network: nn.Module, height: int, width: int, side: int, *, available: int | None, is_given: bool, held: int = 0
) -> TilingPlan:
    """The fastest plan that fits. is_given: all statistics are known. held: bytes of the image and its result.

    Raises InputError if none fits.
    """
    plans = [TilingPlan(side, stored) for stored in _choices(network, is_given)]
    for plan in plans:
        if available is None or held + tiled_bytes(network, height, width, plan) <= available:
            return plan
    least = held + min(tiled_bytes(network, height, width, plan) for plan in plans)
    small = held + min(tiled_bytes(network, height, width, TilingPlan(128, plan.stored)) for plan in plans)
    ways = ["a smaller tile"] if side > 128 and available is not None and small <= available else []
    ways += [] if is_given or not has_instance_norm(network) else ["approximate statistics (--statistics crops)"]
    raise InputError(
        f"{width}x{height} pixels in tiles of {side} need {gib(least)}, and {gib(available or 0)} are available; "
        f"try {' or '.join([*ways, 'a machine with more memory'])}."
    )


def _choices(network: nn.Module, is_given: bool) -> list[int]:
    """Possible values of `TilingPlan.stored`, the fastest first."""
    if isinstance(network, UnetGenerator):
        return [*range(1, min(len(network.down) - 1, 4))]
    return [0] if is_given or not has_instance_norm(network) else [2, 1]


def _unet_bytes(network: UnetGenerator, height: int, width: int, first: int) -> int:
    """The levels from `first` on, and on the way up one finer and one coarser level beside them."""
    levels = [
        conv.out_channels * math.ceil(height / 2 ** (level + 1)) * math.ceil(width / 2 ** (level + 1))
        for level, conv in enumerate(network.down)
        if isinstance(conv, nn.Conv2d)
    ]
    values: int = sum(levels[first:]) + sum(levels[first : first + 2])
    return values * _value_bytes(network)


def _first_width(network: nn.Module) -> int:
    first = network.stem if isinstance(network, ResnetGenerator) else network.get_submodule("down.0")
    assert isinstance(first, nn.Conv2d)
    return first.out_channels


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
    found = [limit for limit in (_free_of_machine(), _free_of_group()) if limit is not None]
    return min(found, default=None)


def _free_of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_of_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the control group of this process, as in a container, has left: its limit minus memory in use."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    folders: list[tuple[Path, str, str, str]] = []
    for number, kinds, path in lines:
        if number == "0":
            names = ("memory.max", "memory.current", "inactive_file")
            folders += [(root / path.lstrip("/"), *names), (root, *names)]
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folders += [(root / "memory" / path.lstrip("/"), *names), (root / "memory", *names)]
    free: list[int] = []
    for folder, limit, usage, cache in folders:
        try:
            most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
            kept = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit() and int(most) < 2**60:
            free.append(int(most) - used + next((int(value) for name, value in kept if name == cache), 0))
    return min(free, default=None)


def gib(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.1f} GiB"
