"""Predict the memory that a translation takes, and choose a plan that fits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from cyclegan.errors import InputError
from cyclegan.networks.protocol import Generator, LevelLayers, ResidualLayers
from cyclegan.translate.tiling.network import TilingPlan, convolutions, has_instance_norm, tiling_of

# Memory of the libraries while a network runs.
_BASE_BYTES = 64 * 2**20

# Activations of the finest resolution that are alive at once: one that is read, one that is written, and the copies
# that convolutions on a CPU make in another layout.
_COPIES = 4.0

# Pixels that a tile needs around it for all layers except the residual blocks.
_HALO = 24


class _Tiling(Protocol):
    """What is stored and held of a network, by the way it is run in tiles."""

    def choices(self, *, is_given: bool) -> list[int]:
        """What may be stored, the fastest first."""
        ...

    def first_width(self) -> int:
        """Channels at the resolution of the image, or at half of it."""
        ...

    def untiled(self, height: int, width: int) -> float:
        """Values of a forward pass over one image."""
        ...

    def tiled(self, height: int, width: int, plan: TilingPlan) -> tuple[int, int, int]:
        """Values that are stored, pixels that a tile needs around it, and channels of a tile."""
        ...


@dataclass
class _Local:
    """Nothing is stored. The widest convolution counts as one at full resolution, which is more than there is."""

    network: Generator

    def choices(self, *, is_given: bool) -> list[int]:  # noqa: ARG002
        return [0]

    def first_width(self) -> int:
        convs = [module for module in self.network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
        return max(max(conv.in_channels, conv.out_channels) for conv in convs)

    def untiled(self, height: int, width: int) -> float:
        return height * width * self.first_width() * _COPIES

    def tiled(self, height: int, width: int, plan: TilingPlan) -> tuple[int, int, int]:  # noqa: ARG002
        return 0, self.network.reach, self.first_width()


@dataclass
class _Residual:
    """Of width w it stores `plan.stored` activations of 4 w channels at height / 4 x width / 4.

    With none, a tile has as much around it as all blocks need.
    """

    network: ResidualLayers

    def choices(self, *, is_given: bool) -> list[int]:
        return [0] if is_given or not has_instance_norm(cast(nn.Module, self.network)) else [2, 1]

    def first_width(self) -> int:
        return self.network.stem.out_channels

    def untiled(self, height: int, width: int) -> float:
        return height * width * self.first_width() * _COPIES

    def tiled(self, height: int, width: int, plan: TilingPlan) -> tuple[int, int, int]:
        fine = self.first_width()
        stored = plan.stored * 4 * fine * math.ceil(height / 4) * math.ceil(width / 4)
        return stored, _HALO + (0 if plan.stored else 8 * len(self.network.blocks)), fine


@dataclass
class _Levels:
    """It stores the levels from `plan.stored` down."""

    network: LevelLayers

    def choices(self, *, is_given: bool) -> list[int]:  # noqa: ARG002
        return [*range(1, min(len(self.network.down) - 1, 4))]

    def first_width(self) -> int:
        return convolutions(self.network.down)[0].out_channels

    def untiled(self, height: int, width: int) -> float:
        return height * width * self.first_width() * _COPIES / 4 + self._values(height, width, 0)

    def tiled(self, height: int, width: int, plan: TilingPlan) -> tuple[int, int, int]:
        # Skips are computed beside the activations that they are joined to.
        return self._values(height, width, plan.stored), _HALO + 2 ** (plan.stored + 2), 2 * self.first_width()

    def _values(self, height: int, width: int, first: int) -> int:
        """The levels from `first` on, those of the way up beside one finer and one coarser."""
        levels = [
            conv.out_channels * math.ceil(height / 2 ** (level + 1)) * math.ceil(width / 2 ** (level + 1))
            for level, conv in enumerate(convolutions(self.network.down))
        ]
        values: int = sum(levels[first:]) + sum(levels[first : first + 2])
        return values


_TILINGS: dict[str, Callable[[Any], _Tiling]] = {"local": _Local, "residual": _Residual, "levels": _Levels}


def untiled_bytes(network: nn.Module, height: int, width: int) -> int:
    """Peak of a forward pass over one image: _COPIES activations of the first layer, and a U-Net's skips."""
    values = _TILINGS[tiling_of(network)](network).untiled(height, width)
    return round(_BASE_BYTES + values * _value_bytes(network))


def tiled_bytes(network: nn.Module, height: int, width: int, plan: TilingPlan) -> int:
    """Peak of a translation in tiles, without the image itself: the stored activations, and copies of one tile."""
    stored, halo, fine = _TILINGS[tiling_of(network)](network).tiled(height, width, plan)
    tile = min(plan.side, height) + 2 * halo, min(plan.side, width) + 2 * halo
    return round(_BASE_BYTES + (stored + tile[0] * tile[1] * fine * _COPIES) * _value_bytes(network))


def plans(network: nn.Module, *, is_given: bool) -> list[int]:
    """How much a tiled network may store, see `TilingPlan`, the fastest first. is_given: all statistics are known."""
    return _TILINGS[tiling_of(network)](network).choices(is_given=is_given)


def choose_plan(
    network: nn.Module, height: int, width: int, side: int, *, available: int | None, is_given: bool, held: int = 0
) -> TilingPlan:
    """The fastest plan that fits. is_given: all statistics are known. held: bytes of the image and its result.

    Raises InputError if none fits.
    """
    possible = [TilingPlan(side, stored) for stored in plans(network, is_given=is_given)]
    for plan in possible:
        if available is None or held + tiled_bytes(network, height, width, plan) <= available:
            return plan
    least = held + min(tiled_bytes(network, height, width, plan) for plan in possible)
    small = held + min(tiled_bytes(network, height, width, TilingPlan(128, plan.stored)) for plan in possible)
    ways = ["a smaller tile"] if side > 128 and available is not None and small <= available else []
    ways += [] if is_given or not has_instance_norm(network) else ["approximate statistics (--statistics crops)"]
    raise InputError(
        f"{width}x{height} pixels in tiles of {side} need {gib(least)}, and {gib(available or 0)} are available; "
        f"try {' or '.join([*ways, 'a machine with more memory'])}."
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
