"""Activations of a network that are read by region: computed on demand from the plane below, or stored in memory.

Convolution and norm are one step: y = scale * conv(x) + shift is a convolution with other weights, so that a norm with
known statistics costs nothing. Tensors are (1, C, h, w). The caller may change what `read` returns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.images.regions import Box
from cyclegan.networks.layers import LayerNorm, to_image
from cyclegan.networks.protocol import Generator
from cyclegan.translate.tiling.boxes import needed, reflected, select, take

# Mean and variance of each channel, (C,) each, float64 on the CPU; by the name of the norm.
Moments: TypeAlias = tuple[Tensor, Tensor]
Statistics: TypeAlias = dict[str, Moments]
# A norm with its statistics as (y - center) * scale + offset; (C,) each, float64 on the CPU.
Affine: TypeAlias = tuple[Tensor, Tensor, Tensor]

# In place: it changes its input and returns it.
Activation = Callable[[Tensor], Tensor]


_on_step: ContextVar[Callable[[], None]] = ContextVar("on_step", default=lambda: None)


@contextmanager
def calling_after_steps(on_step: Callable[[], None]) -> Iterator[None]:
    """In the block, call a function after each convolution of a tile, so that other work can be done between them.

    It may raise an error to stop. The block belongs to one thread.
    """
    token = _on_step.set(on_step)
    try:
        yield
    finally:
        _on_step.reset(token)


def end_step() -> None:
    """A part of the work is done that takes a moment: other work may be done now."""
    _on_step.get()()


class Plane(Protocol):
    """An activation of the whole image, (1, channels, height, width)."""

    height: int
    width: int

    def read(self, box: Box) -> Tensor:
        """The values of a box inside the plane."""
        ...


class Picture:
    """The input, padded by reflection at the right and bottom to a multiple of pixels, as by `pad_to_multiple`.

    read: a box inside height x width -> (1, C, h, w) in [-1, 1].
    """

    def __init__(
        self, read: Callable[[Box], Tensor], height: int, width: int, *, multiple: int = 1, smallest: int = 1
    ) -> None:
        self._read = read
        self.multiple, self.smallest = multiple, smallest
        self.height = -(-max(height, smallest) // multiple) * multiple
        self.width = -(-max(width, smallest) // multiple) * multiple
        self._rows = reflected(0, self.height, height)
        self._columns = reflected(0, self.width, width)

    def read(self, box: Box) -> Tensor:
        rows, columns = self._rows[box.top : box.bottom], self._columns[box.left : box.right]
        inner = Box(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        x = self._read(inner)
        return select(x, rows - inner.top, columns - inner.left)


class Stored:
    """A tensor in memory; read as activation(norm(x))."""

    def __init__(self, tensor: Tensor, affine: Affine | None = None, activation: Activation | None = None) -> None:
        self.tensor, self.activation = tensor, activation
        self._norm = None if affine is None else _in_place(affine, tensor)
        self.height, self.width = tensor.shape[-2:]

    def read(self, box: Box) -> Tensor:
        return self.finish(self.tensor[..., box.top : box.bottom, box.left : box.right].clone())

    def finish(self, x: Tensor) -> Tensor:
        """Apply norm and activation to stored values, in place."""
        if self._norm is not None:
            x = self._norm(x)
        return x if self.activation is None else self.activation(x)


class Conv:
    """A convolution of stride 1 or 2, or a transposed one, of the plane below, with activations before and after it."""

    def __init__(
        self,
        below: Plane,
        conv: nn.Conv2d | nn.ConvTranspose2d,
        *,
        mirrored: int = 0,
        before: Activation | None = None,
        after: Activation | None = None,
        weights: tuple[Tensor, Tensor | None] | None = None,
    ) -> None:
        """mirrored: pixels of reflection padding, for a convolution without padding."""
        self.below, self.conv, self.before, self.after = below, conv, before, after
        self.weight, self.bias = (conv.weight, conv.bias) if weights is None else weights
        if channels_last_is_fast(self.weight):
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)
        (self.kernel, _), (self.stride, _) = conv.kernel_size, conv.stride
        own = conv.padding[0]
        assert isinstance(own, int)
        self.mirrored, self.padding = bool(mirrored) or conv.padding_mode == "reflect", mirrored or own
        if isinstance(conv, nn.ConvTranspose2d):
            self.height, self.width = below.height * self.stride, below.width * self.stride
        else:
            self.height, self.width = below.height // self.stride, below.width // self.stride

    def normalised(self, affine: Affine | None, after: Activation | None) -> "Conv":
        """The same with a norm on its output, and then an activation."""
        weights = None if affine is None else fold(self.conv, affine)
        mirrored = self.padding if self.mirrored else 0
        return Conv(self.below, self.conv, mirrored=mirrored, before=self.before, after=after, weights=weights)

    def read(self, box: Box) -> Tensor:
        return self._up(box) if isinstance(self.conv, nn.ConvTranspose2d) else self._down(box)

    def apply(self, x: Tensor) -> Tensor:
        """The convolution of a region with its border."""
        if channels_last_is_fast(x):
            x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, self.weight, self.bias, self.stride)
        y = y if self.after is None else self.after(y)
        end_step()
        return y

    def _down(self, box: Box) -> Tensor:
        below, stride, first = self.below, self.stride, -self.padding
        last = self.kernel - self.padding
        # The region of the plane below, and beyond its borders, that the box depends on.
        want = Box(
            box.top * stride + first,
            (box.bottom - 1) * stride + last,
            box.left * stride + first,
            (box.right - 1) * stride + last,
        )
        have = needed(want, below.height, below.width, mirrored=self.mirrored)
        x = below.read(have)
        if self.before is not None:
            x = self.before(x)
        return self.apply(take(x, have, want, below.height, below.width, mirrored=self.mirrored))

    def _up(self, box: Box) -> Tensor:
        # Input i of a transposed convolution adds to the outputs i * stride - padding + (0 .. kernel - 1).
        top, bottom = self._inputs(box.top, box.bottom, self.below.height)
        left, right = self._inputs(box.left, box.right, self.below.width)
        height, width, mirrored = self.below.height, self.below.width, self.mirrored
        want = Box(top, bottom, left, right)
        have = needed(want, height, width, mirrored=mirrored)
        x = self.below.read(have)
        if self.before is not None:
            x = self.before(x)
        x = take(x, have, want, height, width, mirrored=mirrored)
        if channels_last_is_fast(x):
            x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride)
        y = y if self.after is None else self.after(y)
        end_step()
        first_row, first_column = top * self.stride - self.padding, left * self.stride - self.padding
        return y[..., box.top - first_row : box.bottom - first_row, box.left - first_column : box.right - first_column]

    def _inputs(self, start: int, stop: int, length: int) -> tuple[int, int]:
        first = -(-(start + self.padding - self.kernel + 1) // self.stride)
        last = (stop - 1 + self.padding) // self.stride
        return (first, last + 1) if self.mirrored else (max(first, 0), min(last + 1, length))


class Block:
    """A residual block on the plane below: x + conv2(relu(conv1(x))), both 3x3 and mirrored, norms in their weights.

    The plane below is read once: reading it again for the sum would double the work with every block.
    """

    def __init__(self, below: Plane, conv1: Conv, conv2: Conv) -> None:
        self.below, self.conv1, self.conv2 = below, conv1, conv2
        self.height, self.width = below.height, below.width

    def read(self, box: Box) -> Tensor:
        height, width = self.height, self.width
        middle = needed(box.grow(1), height, width, mirrored=True)
        have = needed(middle.grow(1), height, width, mirrored=True)
        x = self.below.read(have)
        h = self.conv1.apply(take(x, have, middle.grow(1), height, width, mirrored=True))
        change = self.conv2.apply(take(h, middle, box.grow(1), height, width, mirrored=True))
        return change.add_(take(x, have, box, height, width, mirrored=True))


class Finished:
    """The output image: the last convolution added to the input."""

    def __init__(self, change: Plane, picture: Plane) -> None:
        self.change, self.picture = change, picture
        self.height, self.width = change.height, change.width

    def read(self, box: Box) -> Tensor:
        return to_image(self.change.read(box).float(), self.picture.read(box))


class Local:
    """The output of a network whose output pixels depend only on the input up to `reach` pixels away.

    A box is computed from the input around it, cut where the network's own padding at the border of the image applies.
    """

    def __init__(self, network: Generator, picture: Picture) -> None:
        self.network, self.picture = network, picture
        self.height, self.width = picture.height, picture.width

    def read(self, box: Box) -> Tensor:
        top, bottom = self._around(box.top, box.bottom, self.height)
        left, right = self._around(box.left, box.right, self.width)
        y: Tensor = self.network(self.picture.read(Box(top, bottom, left, right)))
        return y[..., box.top - top : box.bottom - top, box.left - left : box.right - left]

    def _around(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """Where the input begins and ends along a side: at multiples, so that strides fall on the same pixels."""
        multiple = self.picture.multiple
        start, stop = max(start - self.network.reach, 0) // multiple * multiple, stop + self.network.reach
        stop = min(-(-max(stop, start + self.picture.smallest) // multiple) * multiple, length)
        return max(min(start, (stop - self.picture.smallest) // multiple * multiple), 0), stop


class Sum:
    """The sum of two planes of one shape."""

    def __init__(self, first: Plane, second: Plane) -> None:
        self.first, self.second = first, second
        self.height, self.width = first.height, first.width

    def read(self, box: Box) -> Tensor:
        return self.first.read(box).add_(self.second.read(box))


class Joined:
    """The channels of two planes of one size, concatenated."""

    def __init__(self, first: Plane, second: Plane) -> None:
        self.first, self.second = first, second
        self.height, self.width = first.height, first.width

    def read(self, box: Box) -> Tensor:
        return torch.cat([self.first.read(box), self.second.read(box)], 1)


def channels_last_is_fast(x: Tensor) -> bool:
    """Whether convolutions are faster with channels last, as those of a CPU are."""
    return x.device.type == "cpu"


def _in_place(affine: Affine, like: Tensor) -> Activation:
    """(y - center) * scale + offset for tensors like this one."""
    center, scale, offset = (values.to(like.device, like.dtype).reshape(1, -1, 1, 1) for values in affine)
    if not bool(offset.any()):
        return lambda y: y.sub_(center).mul_(scale)
    return lambda y: y.sub_(center).mul_(scale).add_(offset)


def affine_of(norm: nn.Module, moments: Moments | None) -> Affine | None:
    """A norm as an affine map of each channel, or None. moments: of the whole image, for an instance norm."""
    if isinstance(norm, nn.Identity | LayerNorm):  # `then` adds a layer norm to the activation
        return None
    assert isinstance(norm, nn.BatchNorm2d | nn.InstanceNorm2d), norm
    if is_instance_norm(norm):
        assert moments is not None
        mean, variance = moments
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    scale = (variance + norm.eps).rsqrt()
    if not norm.affine:
        return mean, scale, torch.zeros_like(mean)
    return mean, scale * norm.weight.cpu().double(), norm.bias.cpu().double()


def then(norm: nn.Module, after: Activation | None) -> Activation | None:
    """What follows a convolution and the affine map of its norm: a layer norm, and the activation."""
    if not isinstance(norm, LayerNorm):
        return after
    return lambda y: y.copy_(norm(y)) if after is None else after(y.copy_(norm(y)))


def is_instance_norm(norm: nn.Module) -> bool:
    """Whether a layer normalises each image with its own statistics."""
    return isinstance(norm, nn.InstanceNorm2d) and not norm.track_running_stats


def fold(conv: nn.Conv2d | nn.ConvTranspose2d, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution followed by a norm, computed in float64."""
    (center, scale, offset), weight = affine, conv.weight
    shift = offset - center * scale
    shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    bias = shift if conv.bias is None else shift + scale * conv.bias.cpu().double()
    folded = weight.cpu().double() * scale.reshape(shape)
    return folded.to(weight.device, weight.dtype), bias.to(weight.device, weight.dtype)
