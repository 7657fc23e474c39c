"""Run a generator over an image in tiles: passes that gather statistics of the whole image, then the output.

How a network is run, its class declares as `tiling`. A residual network stores one or two activations at a quarter of
the resolution, where nearly all of its work is done; the layers before and after are computed again in every pass that
needs them. One with levels, a U-Net, stores its levels from a coarse one down. A local network needs no passes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks.protocol import BlockLayers, Generator, LevelLayers, ResidualLayers, Tiling
from cyclegan.translate.tiling.planes import (
    Activation,
    Affine,
    Block,
    Conv,
    Finished,
    Joined,
    Local,
    Moments,
    Picture,
    Plane,
    Statistics,
    Stored,
    Sum,
    affine_of,
    channels_last_is_fast,
    is_instance_norm,
    then,
)
from cyclegan.translate.tiling.sweeps import Tick, add_into, finish_in_place, gather, rewrite

relu: Activation = F.relu_
leaky_relu: Activation = partial(F.leaky_relu_, negative_slope=0.2)
tanh: Activation = Tensor.tanh_

# Called with the name of the current pass, and the share of all work, output included, that is done: 0 to 1.
OnShare = Callable[[str, float], None]


@dataclass(frozen=True)
class TilingPlan:
    """How a network is run over an image. side: of a tile, in pixels of the image.

    stored: a residual network stores 0, 1 or 2 activations: 0 if it needs no statistics of the image or all are
    given; 1 takes 2.5 times the work of 2 in its blocks. A U-Net stores its levels from this one down, where level 1 is
    at a quarter of the resolution, 2 at an eighth, and so on. A local network stores 0.
    """

    side: int
    stored: int


@dataclass
class TilingState:
    """The results for an image so far: enough to resume, also in another process.

    statistics: of instance norms, by name. activation: of a residual network, (1, C, H/4, W/4), after so many
    blocks.
    """

    statistics: Statistics = field(default_factory=dict)
    activation: Tensor | None = None
    blocks: int = 0


def why_no_tiles(network: nn.Module) -> str | None:
    """Why a network cannot be run in tiles, as the end of a sentence; None if it can."""
    if not isinstance(network, Generator) or network.tiling is None:
        return "its class declares no way to do so"
    if network.tiling == "local" and has_instance_norm(network):
        return "its instance norm needs the whole image"
    return None


def tiling_of(network: nn.Module) -> Tiling:
    """How a network that can be run in tiles is run."""
    assert isinstance(network, Generator), type(network)
    assert network.tiling is not None, type(network)
    return network.tiling


def convolutions(modules: nn.ModuleList) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    """A module list as a list of convolutions, for the type checker."""
    return [module for module in modules if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def has_instance_norm(network: nn.Module) -> bool:
    """Whether the result depends on statistics of the whole image."""
    return any(is_instance_norm(module) for module in network.modules())


def reach_of(network: nn.Module) -> int | None:
    """How far around an output pixel the input matters, in pixels; None if it may be the whole image.

    A tile that begins and ends at multiples of the network's `multiple`, with so many pixels around it, gives the
    result of the whole image.
    """
    if why_no_tiles(network) is not None or has_instance_norm(network):
        return None
    if tiling_of(network) == "local":
        return cast(Generator, network).reach
    # Convolutions from the input to the output, on the longest way: with levels, through the coarsest one.
    layers = cast(ResidualLayers | LevelLayers, network)
    path: list[nn.Module] = [*layers.down, *reversed(layers.up)]
    if tiling_of(network) == "residual":
        residual = cast(ResidualLayers, network)
        blocks = [conv for block in residual.blocks for conv in block.children() if isinstance(conv, nn.Conv2d)]
        merge = [residual.merge] if residual.skips else []
        path = [residual.stem, *residual.down, *blocks, *residual.up, *merge, residual.head]
    size = 1
    for conv in path:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        size *= 1 if isinstance(conv, nn.ConvTranspose2d) else conv.stride[0]
    # From the output back to the input: what the pixels 0 to size - 1 are computed from.
    first, last = 0, size - 1
    for conv in reversed(path):
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        own = conv.padding[0]
        assert isinstance(own, int)
        if isinstance(conv, nn.ConvTranspose2d):
            first, last = -(-(first + own - kernel + 1) // stride), (last + own) // stride
        else:
            # Those without padding of their own are mirrored by the network, which keeps the size.
            before = own or kernel // 2
            first, last = first * stride - before, last * stride - before + kernel - 1
    return max(-first, last - size + 1)


class TiledNetwork:
    """A generator in evaluation mode over one picture. `output` runs the passes that its plan and state require.

    on_block: called with the state after each residual block, to save it.
    """

    def __init__(
        self,
        network: nn.Module,
        picture: Picture,
        plan: TilingPlan,
        *,
        state: TilingState | None = None,
        on_share: OnShare = lambda _name, _share: None,
        on_block: Callable[[TilingState], None] = lambda _: None,
    ) -> None:
        assert why_no_tiles(network) is None, type(network)
        self.network, self.picture, self.plan = network, picture, plan
        self.state = state or TilingState()
        self._on_share, self._on_block = on_share, on_block
        ways: dict[Tiling, tuple[Callable[[], Plane], Callable[[], dict[str, float]]]] = {
            "local": (lambda: Local(cast(Generator, network), picture), lambda: {"output": 1.0}),
            "residual": (self._residual, self._residual_costs),
            "levels": (self._levels, self._levels_costs),
        }
        self._output, costs = ways[tiling_of(network)]
        self._costs = costs()
        self._total = sum(self._costs.values())
        self._done = 0.0

    @property
    def output_share(self) -> float:
        """The share of all work that is the output itself, which the caller reads."""
        return self._costs["output"] / self._total

    @property
    def num_passes(self) -> int:
        """Passes over the image before the output."""
        return len(self._costs) - 1

    @torch.inference_mode()
    def output(self) -> Plane:
        """The network's output, in [-1, 1], to be read by region in inference mode."""
        return self._output()

    # ---- a residual network

    def _residual(self) -> Plane:
        network = cast(ResidualLayers, self.network)
        plane: Plane
        skips: list[Plane] = []
        down = convolutions(network.down)
        if self.state.activation is not None and not network.skips:
            plane = Stored(self.state.activation)
        else:
            stem = Conv(self.picture, network.stem, mirrored=3)
            full = self._normed(stem, network.stem_norm, "stem_norm", relu)
            half = self._normed(Conv(full, down[0]), network.down_norm[0], "down_norm.0", relu)
            quarter = Conv(half, down[1])
            if network.skips:
                skips = [Conv(half, network.skip_half), Conv(full, network.skip_full)]
            if self.state.activation is not None:
                plane = Stored(self.state.activation)
            elif self.plan.stored:
                raw = self._stored(quarter, network.down_norm[1], "down_norm.1", relu)
                self.state.activation = finish_in_place(raw)
                plane = Stored(self.state.activation)
            else:
                plane = self._normed(quarter, network.down_norm[1], "down_norm.1", relu)

        scratch: Tensor | None = None
        for index in range(self.state.blocks, len(network.blocks)):
            block, name = cast(BlockLayers, network.blocks[index]), f"blocks.{index}."
            if not isinstance(plane, Stored):
                plane = self._block(plane, block, name)
                continue
            if self.plan.stored > 1:
                scratch = torch.empty_like(plane.tensor) if scratch is None else scratch
                self._two_stored(plane, scratch, block, name)
            else:
                self._one_stored(plane, block, name)
            self.state.blocks = index + 1
            self._on_block(self.state)
        del scratch

        for index, (up, norm) in enumerate(zip(convolutions(network.up), network.up_norm, strict=True)):
            plane = self._normed(Conv(plane, up), norm, f"up_norm.{index}", relu)
            if skips:
                plane = Sum(plane, skips[index])
        if skips:
            plane = self._normed(Conv(plane, network.merge, mirrored=1), network.merge_norm, "merge_norm", relu)
        mirrored = network.head.kernel_size[0] // 2
        if network.global_skip:
            return Finished(Conv(plane, network.head, mirrored=mirrored), self.picture)
        return Conv(plane, network.head, mirrored=mirrored, after=tanh)

    def _two_stored(self, x: Stored, scratch: Tensor, block: BlockLayers, name: str) -> None:
        """A block with a second activation, which stores each of its convolutions in turn."""
        side = self._side(x)
        first = gather(Conv(x, block.conv1, mirrored=1), side, self._tick(name + "norm1"), scratch)
        inner = Stored(scratch, *self._norm(block.norm1, name + "norm1", relu, first))
        second = rewrite(
            inner, 1, side, lambda old: Conv(old, block.conv2, mirrored=1), self._tick(name + "norm2"), is_gathered=True
        )
        add_into(x.tensor, Stored(scratch, *self._norm(block.norm2, name + "norm2", None, second)))

    def _one_stored(self, x: Stored, block: BlockLayers, name: str) -> None:
        """A block in place: its first convolution is computed three times, its second twice."""
        h = self._normed(Conv(x, block.conv1, mirrored=1), block.norm1, name + "norm1", relu)
        self._normed(Conv(h, block.conv2, mirrored=1), block.norm2, name + "norm2", None)
        tick = self._tick(name + "sum")
        rewrite(x, 2, self._side(x), lambda old: self._block(old, block, name), tick, is_gathered=False)

    def _block(self, below: Plane, block: BlockLayers, name: str) -> Block:
        """A block whose statistics are known."""
        conv1 = Conv(below, block.conv1, mirrored=1).normalised(*self._norm(block.norm1, name + "norm1", relu))
        conv2 = Conv(below, block.conv2, mirrored=1).normalised(*self._norm(block.norm2, name + "norm2", None))
        return Block(below, conv1, conv2)

    def _residual_costs(self) -> dict[str, float]:
        """Multiplications of each pass, per pixel of the image, by the name of its norm."""
        network = cast(ResidualLayers, self.network)
        stem, head = (float(conv.weight.numel()) for conv in (network.stem, network.head))
        steps = [stem, *(conv.weight.numel() / 4 ** (i + 1) for i, conv in enumerate(convolutions(network.down)))]
        ups = [conv.weight.numel() / 4 ** (2 - i) for i, conv in enumerate(convolutions(network.up))]
        block = 9 * (4 * network.stem.out_channels) ** 2 / 16
        # Of the two skips, whose activations are computed again, and of the convolution behind them.
        half, full, merge = 0.0, 0.0, 0.0
        if network.skips:
            half = sum(steps[:2]) + network.skip_half.weight.numel() / 4
            full, merge = stem + network.skip_full.weight.numel(), float(network.merge.weight.numel())
        decoder = sum(ups) + half + full + merge
        if not self.plan.stored:
            return {"output": sum(steps) + 2 * block * len(network.blocks) + decoder + head}

        costs: dict[str, float] = {}
        if self.state.activation is None:
            costs = {"stem_norm": stem, "down_norm.0": sum(steps[:2]), "down_norm.1": sum(steps)}
        for index in range(self.state.blocks, len(network.blocks)):
            name = f"blocks.{index}."
            costs[name + "norm1"] = block
            costs[name + "norm2"] = block if self.plan.stored > 1 else 2 * block
            if self.plan.stored == 1:
                costs[name + "sum"] = 2 * block
        costs |= {"up_norm.0": ups[0], "up_norm.1": sum(ups) + half}
        if network.skips:
            costs["merge_norm"] = decoder
        known = {name for name in costs if name in self.state.statistics and name.startswith(("stem", "up", "merge"))}
        return {**{name: cost for name, cost in costs.items() if name not in known}, "output": decoder + head}

    # ---- a network with levels

    def _levels(self) -> Plane:
        network = cast(LevelLayers, self.network)
        skips: list[Plane] = []
        plane: Plane = self.picture
        for level, (conv, norm) in enumerate(zip(convolutions(network.down), network.down_norm, strict=True)):
            raw = Conv(plane, conv, before=leaky_relu if level else None)
            name = f"down_norm.{level}"
            keep = self._stored if level >= self.plan.stored else self._normed
            plane = keep(raw, norm, name, None)
            skips.append(plane)

        plane = skips.pop()
        for level, up in reversed([*enumerate(convolutions(network.up))]):
            raw = Conv(plane, up, before=relu)
            if level == 0 and network.global_skip:
                return Finished(raw, self.picture)
            if level == 0:
                return raw.normalised(None, tanh)
            keep = self._stored if level > self.plan.stored else self._normed
            plane = Joined(skips.pop(), keep(raw, network.up_norm[level], f"up_norm.{level}", None))
        raise AssertionError

    def _levels_costs(self) -> dict[str, float]:
        """As for a residual network. A plane computed on demand costs as much as all planes below it."""
        network = cast(LevelLayers, self.network)
        first, known = self.plan.stored, self.state.statistics
        downs = [conv.weight.numel() / 4 ** (level + 1) for level, conv in enumerate(convolutions(network.down))]
        ups = [conv.weight.numel() / 4 ** (level + 1) for level, conv in enumerate(convolutions(network.up))]
        costs: dict[str, float] = {}
        for level, norm in enumerate(network.down_norm):
            if level >= first or (is_instance_norm(norm) and f"down_norm.{level}" not in known):
                costs[f"down_norm.{level}"] = sum(downs[: level + 1]) if level <= first else downs[level]
        for level in reversed(range(1, len(ups))):
            name = f"up_norm.{level}"
            if level > first or (is_instance_norm(network.up_norm[level]) and name not in known):
                costs[name] = ups[level] if level >= first else sum(ups[level : first + 1]) + sum(downs[: level + 1])
        return {**costs, "output": sum(ups[: first + 1]) + sum(downs[:first])}

    # ---- both

    def _normed(self, conv: Conv, norm: nn.Module, name: str, after: Activation | None) -> Conv:
        """A convolution with its norm, computed on demand; unknown statistics are gathered first."""
        moments = None
        if is_instance_norm(norm) and name not in self.state.statistics:
            moments = gather(conv, self._side(conv), self._tick(name))
        return conv.normalised(*self._norm(norm, name, after, moments))

    def _stored(self, conv: Conv, norm: nn.Module, name: str, after: Activation | None) -> Stored:
        """A convolution stored in memory; its norm is applied on reading."""
        channels = conv.conv.out_channels
        layout = torch.channels_last if channels_last_is_fast(conv.weight) else torch.contiguous_format
        shape = (1, channels, conv.height, conv.width)
        tensor = torch.empty(shape, device=conv.weight.device, dtype=conv.weight.dtype, memory_format=layout)
        moments = gather(conv, self._side(conv), self._tick(name), tensor)
        return Stored(tensor, *self._norm(norm, name, after, moments))

    def _norm(
        self, norm: nn.Module, name: str, after: Activation | None, moments: Moments | None = None
    ) -> tuple[Affine | None, Activation | None]:
        """The affine map of a norm, and what follows it.

        moments: of this pass; earlier ones take precedence, so that all passes agree.
        """
        if is_instance_norm(norm) and moments is not None:
            self.state.statistics.setdefault(name, moments)
        return affine_of(norm, self.state.statistics.get(name)), then(norm, after)

    def _side(self, plane: Plane) -> int:
        """The side of a tile in pixels of this plane. Tiles of coarse planes have a minimum, for speed."""
        factor = self.picture.height // plane.height
        return max(self.plan.side // factor, 4 if factor <= 4 else 32)

    def _tick(self, name: str) -> Tick:
        """A progress function for a pass that begins now."""
        cost, before = self._costs.get(name, 0.0), self._done
        self._done += cost

        def tick(share: float) -> None:
            self._on_share(name, (before + cost * share) / self._total)

        return tick
