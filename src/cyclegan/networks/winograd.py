"""3x3 convolutions with fewer multiplications, for training in float32 on a CPU (Lavin and Gray 2016).

An image is cut into tiles of 4x4 output pixels, for each of which 6x6 input pixels are read. Both 3x3 kernels and tiles
are transformed, so that the convolution of a tile becomes 36 products instead of 144. Summed over channels, these are
36 products of matrices, (tiles, in) @ (in, out), which run near the peak of a CPU. Results are those of an ordinary
convolution up to rounding.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# With fewer channels the transforms take longer than the products that they save.
FEWEST_CHANNELS = 64

# Outputs and inputs of a tile along a side.
_OUT, _IN = 4, 6

# The points of the interpolation, beside infinity. The usual 0, 1, -1, 2, -2 have three times the rounding error.
_POINTS = [Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)]


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of input tiles, kernels and output tiles: (36, 36), (36, 9), (16, 36), float32.

    They are those of Toom and Cook in one dimension (Lavin and Gray 2016, section 4; Barabasz et al. 2020), times
    themselves for two.
    """
    others = [[q for q in _POINTS if q != p] for p in _POINTS]
    output = [[p**row for p in _POINTS] + [Fraction(row == _OUT - 1)] for row in range(_OUT)]
    kernel = [
        [p**k / math.prod(p - q for q in rest) for k in range(3)] for p, rest in zip(_POINTS, others, strict=True)
    ]
    kernel += [[Fraction(0), Fraction(0), Fraction(1)]]
    tile = [[*_polynomial(rest), Fraction(0)] for rest in others] + [_polynomial(_POINTS)]

    def both_ways(rows: list[list[Fraction]]) -> Tensor:
        matrix = torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64, device="cpu")
        return torch.kron(matrix, matrix).float()

    return both_ways(tile), both_ways(kernel), both_ways(output)


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [a - root * b for a, b in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


_TILE, _KERNEL, _OUTPUT = _matrices()


class _Plan(NamedTuple):
    """Where the pixels of images (N, H, W) lie in tiles, as flat indices.

    Images are rows of pixels (N * H * W), inputs of tiles (6 * 6 * tiles), outputs of tiles (4 * 4 * tiles).
    """

    tiles: int
    inputs: Tensor  # the pixel of each input of a tile, with reflection at the borders
    pixels: Tensor  # the output of a tile of each pixel
    outputs: Tensor  # the pixel of each output of a tile
    inside: Tensor | None  # (outputs, 1): 1 for an output in the image, 0 beyond it; None if all are inside
    users: Tensor  # the inputs of tiles in the order of their pixels, without those of no use
    first_user: Tensor  # for each pixel its first place in `users`


@lru_cache(maxsize=64)
def _plan(count: int, height: int, width: int) -> _Plan:
    rows, columns = -(-height // _OUT), -(-width // _OUT)
    tiles, num_pixels = count * rows * columns, count * height * width
    image = torch.arange(count).view(count, 1, 1)

    def along(tiles: int, values: int) -> Tensor:
        """Places in an image from its border, for each value of each tile: (values, tiles)."""
        return torch.arange(values)[:, None] + _OUT * torch.arange(tiles)

    def reflect(place: Tensor, size: int) -> Tensor:
        return (size - 1 - (size - 1 - (place - 1).abs()).abs()).clamp(0, size - 1)

    def flat(y: Tensor, x: Tensor) -> Tensor:
        """Pixels at (values, rows) and (values, columns): (values, values, count, rows, columns)."""
        y, x = y.view(len(y), 1, 1, rows, 1), x.view(1, len(x), 1, 1, columns)
        return (image * height + y) * width + x

    y, x = along(rows, _IN), along(columns, _IN)
    inputs = flat(reflect(y, height), reflect(x, width)).flatten()
    useful = (y <= height + 1).view(_IN, 1, 1, rows, 1) & (x <= width + 1).view(1, _IN, 1, 1, columns)
    useful = useful.expand(_IN, _IN, count, rows, columns).flatten()
    users = torch.argsort(torch.where(useful, inputs, num_pixels), stable=True)[: int(useful.sum())]

    y, x = along(rows, _OUT), along(columns, _OUT)
    outputs = flat(y.clamp(max=height - 1), x.clamp(max=width - 1)).flatten()
    inside = (y < height).view(_OUT, 1, 1, rows, 1) & (x < width).view(1, _OUT, 1, 1, columns)
    inside = inside.expand(_OUT, _OUT, count, rows, columns).reshape(-1, 1)

    y, x = torch.arange(height).view(-1, 1), torch.arange(width)
    pixels = (y % _OUT * _OUT + x % _OUT) * tiles + (image * rows + y // _OUT) * columns + x // _OUT
    return _Plan(
        tiles=tiles,
        inputs=inputs,
        pixels=pixels.flatten(),
        outputs=outputs,
        inside=None if bool(inside.all()) else inside.float(),
        users=users,
        first_user=torch.searchsorted(inputs[users], torch.arange(num_pixels)),
    )


@torch.no_grad()
def transform(weight: Tensor) -> Tensor:
    """Transform 3x3 kernels: (O, I, 3, 3) -> (36, O, I)."""
    out, channels = weight.shape[:2]
    return (_KERNEL @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(-1, out, channels)


def _transform_tiles(x: Tensor, plan: _Plan) -> Tensor:
    """(N, C, H, W) -> (36, tiles, C)."""
    channels = x.shape[1]
    tiles = _rows(x).index_select(0, plan.inputs).view(len(_TILE), -1)
    return (_TILE @ tiles).view(-1, plan.tiles, channels)


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C), a view for the channels-last memory format."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, transformed: Tensor) -> Tensor:
        ctx.save_for_backward(x, transformed)
        plan = _plan(len(x), *x.shape[2:])
        products = torch.bmm(_transform_tiles(x, plan), transformed.transpose(1, 2))
        outputs = (_OUTPUT @ products.view(len(_TILE), -1)).view(-1, len(weight))
        # Not a view, so that an activation may work in place.
        shape = (len(x), len(weight), *x.shape[2:])
        result = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        rows = result.permute(0, 2, 3, 1).view(-1, len(weight))
        torch.index_select(outputs, 0, plan.pixels, out=rows)
        if bias is not None:
            rows.add_(bias)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, transformed = ctx.saved_tensors
        plan = _plan(len(x), *x.shape[2:])
        out, channels = transformed.shape[1:]
        rows = _rows(grad)
        outputs = rows.index_select(0, plan.outputs)
        if plan.inside is not None:
            outputs.mul_(plan.inside)
        products = (_OUTPUT.T @ outputs.view(len(_OUTPUT), -1)).view(-1, plan.tiles, out)

        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            inputs = (_TILE.T @ torch.bmm(products, transformed).view(len(_TILE), -1)).view(-1, channels)
            # The gradient of a pixel is the sum of those of the inputs that it is.
            summed = torch.embedding_bag(inputs, plan.users, plan.first_user)[0]
            grad_x = summed.view(len(x), *x.shape[2:], channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            kernels = torch.bmm(products.transpose(1, 2), _transform_tiles(x, plan))
            grad_weight = (_KERNEL.T @ kernels.view(len(_TILE), -1)).view(3, 3, out, channels).permute(2, 3, 0, 1)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias, None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, transformed: Tensor) -> Tensor:
    """A 3x3 convolution with reflection padding of one pixel: (N, I, H, W) -> (N, O, H, W), channels-last, float32.

    transformed: `transform(weight)`. Gradients reach x, the weight and the bias; second derivatives do not exist.
    """
    return _Convolve.apply(x, weight, bias, transformed)  # type: ignore[no-any-return, no-untyped-call]
