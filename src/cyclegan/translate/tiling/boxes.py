"""Regions of an activation, extended beyond its borders by reflection or zeros."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cyclegan.images.regions import Box

Index = NDArray[np.int64]


def tile_boxes(height: int, width: int, side: int) -> Iterator[Box]:
    """Squares that cover a plane, row by row; those at the right and bottom may be smaller."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, min(top + side, height), left, min(left + side, width))


def needed(box: Box, height: int, width: int, *, mirrored: bool) -> Box:
    """The part of a plane that determines `box`, which may extend beyond it: mirrored there, or zeros."""
    top, bottom = _needed(box.top, box.bottom, height, mirrored)
    left, right = _needed(box.left, box.right, width, mirrored)
    return Box(top, bottom, left, right)


def take(x: Tensor, have: Box, want: Box, height: int, width: int, *, mirrored: bool) -> Tensor:
    """The values of box `want` from x, which holds box `have` with everything `needed`. (N, C, h, w) -> (N, C, h', w').

    A view if `want` lies inside the plane.
    """
    inner = Box(max(want.top, 0), min(want.bottom, height), max(want.left, 0), min(want.right, width))
    if inner == want or not mirrored:
        x = x[..., inner.top - have.top : inner.bottom - have.top, inner.left - have.left : inner.right - have.left]
        if inner == want:
            return x
        beyond = (inner.left - want.left, want.right - inner.right, inner.top - want.top, want.bottom - inner.bottom)
        return F.pad(x, beyond)
    rows = reflected(want.top, want.bottom, height) - have.top
    columns = reflected(want.left, want.right, width) - have.left
    return select(x, rows, columns)


def reflected(start: int, stop: int, length: int) -> Index:
    """Indices of start..stop - 1, reflected at the first and the last as often as needed, without repeating them."""
    if length == 1:
        return np.zeros(stop - start, np.int64)
    period = 2 * (length - 1)
    place = np.arange(start, stop) % period
    return np.where(place < length, place, period - place)


def select(x: Tensor, rows: Index, columns: Index) -> Tensor:
    """These rows and columns of (N, C, h, w), as a view if they are ranges."""
    for dim, index in ((-2, rows), (-1, columns)):
        if np.array_equal(index, np.arange(index[0], index[0] + len(index))):
            x = x.narrow(dim, int(index[0]), len(index))
        else:
            x = x.index_select(dim, torch.from_numpy(index).to(x.device))
    return x


def _needed(start: int, stop: int, length: int, mirrored: bool) -> tuple[int, int]:
    if not mirrored or (start >= 0 and stop <= length):
        return max(start, 0), min(stop, length)
    index = reflected(start, stop, length)
    return int(index.min()), int(index.max()) + 1
