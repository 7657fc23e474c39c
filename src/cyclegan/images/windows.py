"""A part of an image: where it lies, and the tags that say so in its own file."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import ImageFormat
from cyclegan.images.pages import local_file
from cyclegan.images.raster import Metadata, Raster, Tag
from cyclegan.images.regions import Box, RegionReader
from cyclegan.system.json_files import shown


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

    @classmethod
    def of(cls, pixels: Any, bounds: Any, name_of: Callable[[str], str] = str) -> "Window | None":
        """The window of two arguments; None if neither is given.

        name_of: an argument -> its name in the message. Raises InputError for what is no rectangle.
        """
        if pixels is None and bounds is None:
            return None
        if pixels is not None and bounds is not None:
            raise InputError(f"{name_of('window')} and {name_of('bounds')} are given; pass one of them.")
        name, given = ("window", pixels) if bounds is None else ("bounds", bounds)
        expected = (
            "expected the first column and row, from 0 on, then width and height, at least 1"
            if bounds is None
            else "expected left, bottom, right and top, with left < right and bottom < top"
        )
        numbers: list[float] = []
        with suppress(TypeError, ValueError, OverflowError):
            numbers = [float(number) for number in given]
        if len(numbers) == 4 and all(map(math.isfinite, numbers)):
            first, second, third, fourth = numbers
            is_whole = all(number == int(number) for number in numbers)
            if bounds is None and is_whole and min(first, second) >= 0 and min(third, fourth) >= 1:
                return cls(pixels=(int(first), int(second), int(third), int(fourth)))
            if bounds is not None and first < third and second < fourth:
                return cls(bounds=(first, second, third, fourth))
        shown_values = " ".join(f"{number:g}" for number in numbers) if numbers else shown(given)
        raise InputError(f"{name_of(name)} is {shown_values}; {expected}.")

    def size(self, path: Path, height: int, width: int) -> tuple[int, int] | None:
        """Height and width of its part of an image of this size; None if reading it reports an error."""
        with suppress(Exception):
            box = self.box(path, height, width)
            return box.bottom - box.top, box.right - box.left
        return None

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
        from cyclegan.images.filetypes.geo import import_rasterio, open_dataset

        import_rasterio()
        with local_file(path) as (file, _), open_dataset(file) as dataset:
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
        from cyclegan.images.filetypes.geo import open_dataset

        with local_file(path) as (file, _), open_dataset(file) as dataset:
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

    def has_holes(self) -> bool:
        return self._reader.has_holes()

    def _shift(self, box: Box) -> Box:
        top, left = self._box.top, self._box.left
        return Box(box.top + top, box.bottom + top, box.left + left, box.right + left)

    def close(self) -> None:
        self._reader.close()


@contextmanager
def open_part(path: Path, image_format: ImageFormat, window: Window | None) -> Iterator[RegionReader | None]:
    """A file, or its part in a window, to be read by region; None if it must be read as a whole."""
    with local_file(path) as (file, page):  # unpacked for all of the block, if it lies in a zip
        reader = file_format_of(file).regions.open(file, image_format) if page is None else None
        if reader is None:
            yield None
            return
        with closing(reader):
            yield reader if window is None else WindowReader(reader, window.box(path, reader.height, reader.width))


def read_part(path: Path, image_format: ImageFormat, other: ImageFormat | None, window: Window | None) -> Raster:
    """The image of a file, or its part in a window, as `read_raster` gives it; only that part is read if possible.

    Raises InputError if the file has nothing in the window, and errors as `read_raster` does.
    """
    if window is None:
        return read_raster(path, image_format, other)
    with open_part(path, image_format, window) as part:
        if part is not None:
            return part.read_raster(Box(0, part.height, 0, part.width))
    raster = read_raster(path, image_format, other)
    return crop(raster, window.box(path, *raster.values.shape[:2]))
