"""A part of an image: where it lies, and the tags that say so in its own file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.raster import Metadata, Raster, Tag
from cyclegan.images.regions import Box, RegionReader


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, or of coordinates on the earth.

    pixels: column and row of its first pixel, width and height. bounds: left, bottom, right and top, in the coordinate
    system of each file. One of them is given.
    """

    pixels: tuple[int, int, int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None

    def __str__(self) -> str:
        name, values = ("bounds", self.bounds) if self.pixels is None else ("window", self.pixels)
        return f"{name} {' '.join(f'{value:.12g}' for value in values or ())}"

    def check(self, name_of: Any = str) -> None:
        """Raises InputError for a rectangle without area. name_of: a field -> its name in the message."""
        if self.pixels is not None and self.bounds is not None:
            raise InputError(f"{name_of('window')} and {name_of('bounds')} are given; pass one of them.")
        if self.pixels is not None:
            column, row, width, height = self.pixels
            if min(column, row) < 0 or min(width, height) < 1:
                raise InputError(
                    f"{name_of('window')} is {column} {row} {width} {height}; expected the first column and row, from 0 "
                    "on, then width and height, at least 1."
                )
        if self.bounds is not None:
            left, bottom, right, top = self.bounds
            if not (left < right and bottom < top and all(map(math.isfinite, self.bounds))):
                raise InputError(
                    f"{name_of('bounds')} is {left:g} {bottom:g} {right:g} {top:g}; expected left, bottom, right and top "
                    "with left < right and bottom < top."
                )

    def box(self, path: Path, height: int, width: int) -> Box:
        """Its rows and columns in an image of this size; what lies outside the image is cut off.

        Raises InputError if it lies outside altogether, or if it is given by bounds and the file has no place.
        """
        if self.pixels is not None:
            column, row, across, down = self.pixels
            top, bottom, left, right = row, row + down, column, column + across
        else:
            top, bottom, left, right = self._rows_and_columns(path)
        box = Box(max(top, 0), min(bottom, height), max(left, 0), min(right, width))
        if box.top >= box.bottom or box.left >= box.right:
            where = self._bounds_of(path) if self.pixels is None else f"{width}x{height} pixels"
            raise InputError(f"{path} has nothing in the {self}; it has {where}.")
        return box

    def _rows_and_columns(self, path: Path) -> tuple[int, int, int, int]:
        from cyclegan.images.geo import import_rasterio, open_dataset

        import_rasterio()
        with open_dataset(path) as dataset:
            if dataset.transform.is_identity:
                raise InputError(f"{path} does not say where it lies on the earth; give a window in pixels.")
            to_pixels = ~dataset.transform
        left, bottom, right, top = self.bounds or (0.0, 0.0, 0.0, 0.0)
        corners = [to_pixels * (x, y) for x in (left, right) for y in (bottom, top)]
        columns, rows = zip(*corners, strict=True)
        # Pixels that lie in the bounds by at least a thousandth.
        first, last = (
            [math.floor(min(at) + 1e-3) for at in (rows, columns)],
            [math.ceil(max(at) - 1e-3) for at in (rows, columns)],
        )
        return first[0], last[0], first[1], last[1]

    def _bounds_of(self, path: Path) -> str:
        from cyclegan.images.geo import open_dataset

        with open_dataset(path) as dataset:
            return f"bounds {' '.join(f'{value:.12g}' for value in dataset.bounds)}"


def crop(raster: Raster, box: Box) -> Raster:
    """The part of an image in a box inside it, at its own place on the earth."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    return replace(
        raster,
        values=raster.values[rows, columns],
        alpha=None if raster.alpha is None else raster.alpha[rows, columns],
        valid=None if raster.valid is None else raster.valid[rows, columns],
        metadata=move(raster.metadata, box),
    )


def move(metadata: Metadata, box: Box) -> Metadata:
    """The metadata of the part of an image that begins at a box."""
    return replace(metadata, tags=tuple(_move_tag(tag, box.left, box.top) for tag in metadata.tags))


def _move_tag(tag: Tag, column: int, row: int) -> Tag:
    """A tag of the image, for the part that begins at this column and row."""
    code, dtype, count, value, once = tag
    if code in (33922, 34264, 50844) and not isinstance(value, str | bytes):
        numbers: list[float] = [float(number) for number in value]
        if code == 33922:  # column, row, depth, x, y, z of each point
            numbers[0::6] = [at - column for at in numbers[0::6]]
            numbers[1::6] = [at - row for at in numbers[1::6]]
        elif code == 34264 and len(numbers) == 16:  # an affine matrix, row by row
            for line in range(3):
                numbers[4 * line + 3] += numbers[4 * line] * column + numbers[4 * line + 1] * row
        elif code == 50844:  # the third and fourth numbers are the offsets of line and sample
            numbers[2:4] = [numbers[2] - row, numbers[3] - column]
        return code, dtype, count, tuple(numbers), once
    return tag


class WindowReader:
    """The part of an open file in a box, as an image of its own."""

    def __init__(self, reader: RegionReader, box: Box) -> None:
        self._reader, self._box = reader, box
        self.height, self.width = box.bottom - box.top, box.right - box.left
        self.metadata = move(reader.metadata, box)

    def read(self, box: Box) -> Array:
        return self._reader.read(self._shift(box))

    def read_raster(self, box: Box) -> Raster:
        return replace(self._reader.read_raster(self._shift(box)), metadata=self.metadata)

    def _shift(self, box: Box) -> Box:
        top, left = self._box.top, self._box.left
        return Box(box.top + top, box.bottom + top, box.left + left, box.right + left)

    def close(self) -> None:
        self._reader.close()


def parse_window(values: Sequence[int] | None, bounds: Sequence[float] | None) -> Window | None:
    """The window of two flags or arguments; None if neither is given. Raises InputError for other than four numbers."""
    if values is None and bounds is None:
        return None
    for name, numbers in (("window", values), ("bounds", bounds)):
        if numbers is not None and len(numbers) != 4:
            raise InputError(f"{name} has {len(numbers)} numbers; expected four.")
    pixels = None if values is None else tuple(int(value) for value in values)
    edges = None if bounds is None else tuple(float(value) for value in bounds)
    return Window(pixels, edges)  # type: ignore[arg-type]
