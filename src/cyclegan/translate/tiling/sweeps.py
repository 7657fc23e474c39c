"""Passes over all tiles of a plane: gather its statistics, store it, rewrite it in place."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cyclegan.images.regions import Box
from cyclegan.networks.external_statistics import instance_statistics
from cyclegan.translate.tiling.boxes import tile_boxes
from cyclegan.translate.tiling.planes import Moments, Plane, Stored, channels_last_is_fast, end_step

# Values whose squares are summed together: as many as fit into the caches of a core.
_CHUNK_VALUES = 2**17

# Called with the share of a pass that is done, 0 to 1, after every tile.
Tick = Callable[[float], None]


class Gather:
    """Mean and variance of each channel over all tiles, as exact as over the whole plane.

    The means and squared deviations of tiles are combined in float64 (Chan, Golub and LeVeque 1979), so that no large
    numbers are subtracted.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, y: Tensor) -> None:
        """(1, C, h, w)."""
        count = y.shape[-2] * y.shape[-1]
        mean, variance = tile_moments(y)
        change, total = mean - self._mean, self._count + count
        self._mean = self._mean + change * (count / total)
        self._squares = self._squares + variance * count + change.square() * (self._count * count / total)
        self._count = total

    def moments(self) -> Moments:
        return self._mean, self._squares / self._count


def tile_moments(y: Tensor) -> Moments:
    """Mean and variance of each channel of (1, C, h, w)."""
    if not channels_last_is_fast(y) or y.dtype != torch.float32:
        mean, variance = instance_statistics(y)
        return mean[0].cpu().double(), variance[0].cpu().double()
    values = y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])
    parts = torch.split(values, max(_CHUNK_VALUES // y.shape[1], 1))
    ones = torch.ones(len(parts[0]))
    # Column sums as products with ones are several times faster than sum(0); in parts, so that they stay exact.
    center = torch.stack([ones[: len(part)] @ part for part in parts]).sum(0) / len(values)
    rest, squares = torch.zeros(2, y.shape[1], dtype=torch.float64)
    for part in parts:
        deviation = part - center
        rest += ones[: len(part)] @ deviation
        squares += deviation.square_().sum(0)
    rest /= len(values)
    return center.double() + rest, squares / len(values) - rest.square()


def gather(plane: Plane, side: int, tick: Tick, into: Tensor | None = None) -> Moments:
    """The statistics of a plane, read by tiles of `side`. into: a tensor to store it in."""
    gathered = Gather()
    for box in _tiles(plane, side, tick):
        y = plane.read(box)
        gathered.add(y)
        if into is not None:
            view(into, box).copy_(y)
    return gathered.moments()


def add_into(tensor: Tensor, change: Stored) -> None:
    """tensor += change, whose tensor is overwritten."""
    rows = max(1, 2**20 // (tensor.shape[1] * tensor.shape[3]))
    for top in range(0, tensor.shape[2], rows):
        part = change.finish(change.tensor[..., top : top + rows, :])
        tensor[..., top : top + rows, :].add_(part)
        end_step()


def finish_in_place(stored: Stored) -> Tensor:
    """The tensor with its norm and activation applied."""
    rows = max(1, 2**20 // (stored.tensor.shape[1] * stored.width))
    for top in range(0, stored.height, rows):
        stored.finish(stored.tensor[..., top : top + rows, :])
        end_step()
    return stored.tensor


class InPlace:
    """A stored plane that is overwritten tile by tile, and still reads as the old values around the next tile.

    Tiles come in the order of `tile_boxes`, with the same side, which is at least `halo`. The old values of the last
    rows of the row of tiles above and of the last columns of the tile to the left are kept.
    """

    def __init__(self, stored: Stored, halo: int) -> None:
        self.stored, self.halo = stored, halo
        self.height, self.width = stored.height, stored.width
        self._above = stored.tensor[..., :0, :]
        self._next = torch.empty_like(stored.tensor[..., :halo, :])
        self._left = stored.tensor[..., :0, :0]
        self._tile = Box(0, 0, 0, 0)

    def begin(self, tile: Box) -> None:
        """Select the tile that is read around and then written."""
        if tile.left == 0:
            self._above, self._next = self._next, torch.empty_like(self._next)
            self._left = self._left[..., :0]
        self._tile = tile

    def read(self, box: Box) -> Tensor:
        tile, halo, tensor = self._tile, self.halo, self.stored.tensor
        x = view(tensor, box).clone()
        if box.top < tile.top:  # the rows above are overwritten: over the whole width
            x[..., : tile.top - box.top, :] = self._above[..., halo - (tile.top - box.top) :, box.left : box.right]
        if box.left < tile.left:  # so are the columns to the left, of this row of tiles
            rows = slice(max(box.top, tile.top), min(box.bottom, tile.bottom))
            x[..., rows.start - box.top : rows.stop - box.top, : tile.left - box.left] = self._left[
                ..., rows.start - tile.top : rows.stop - tile.top, halo - (tile.left - box.left) :
            ]
        return self.stored.finish(x)

    def write(self, values: Tensor) -> None:
        """Write the new values of the tile."""
        tile, halo = self._tile, self.halo
        old = view(self.stored.tensor, tile)
        if tile.bottom < self.height:
            self._next[..., tile.left : tile.right] = old[..., -halo:, :]
        self._left = old[..., -halo:].clone()
        old.copy_(values)


def rewrite(
    stored: Stored, halo: int, side: int, make: Callable[[InPlace], Plane], tick: Tick, *, is_gathered: bool
) -> Moments | None:
    """Replace a stored tensor by the plane that `make` builds on it, of the same size, reading `halo` pixels around.

    Returns the statistics of the new plane if `is_gathered`.
    """
    old, gathered = InPlace(stored, halo), Gather()
    plane = make(old)
    for box in _tiles(old, side, tick):
        old.begin(box)
        y = plane.read(box)
        if is_gathered:
            gathered.add(y)
        old.write(y)
    return gathered.moments() if is_gathered else None


def view(tensor: Tensor, box: Box) -> Tensor:
    return tensor[..., box.top : box.bottom, box.left : box.right]


def _tiles(plane: Plane, side: int, tick: Tick) -> Iterator[Box]:
    """The tiles of a plane; calls `tick` after each."""
    total = -(-plane.height // side) * -(-plane.width // side)
    for number, box in enumerate(tile_boxes(plane.height, plane.width, side), 1):
        yield box
        tick(number / total)
