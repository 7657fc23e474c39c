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
from cyclegan.images.filetypes.geo import import_rasterio, open_dataset
from cyclegan.images.filetypes.vrt import crs_name
from cyclegan.images.formats import ImageFormat
from cyclegan.images.pages import local_file
from cyclegan.images.raster import Metadata, Raster, Tag
from cyclegan.images.regions import Box, RegionReader, crop
from cyclegan.system.json_files import shown


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, or of coordinates on the earth.

    pixels: column and row of its first pixel, width and height. bounds: left, bottom, right and top, in the coordinate
    system `bounds_crs`, such as EPSG:4326 for longitude and latitude; default: that of each file. One of them is given.
    """

    pixels: tuple[int, int, int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None
    bounds_crs: str | None = None

    def __str__(self) -> str:
        name, values = ("bounds", self.bounds) if self.pixels is None else ("window", self.pixels)
        system = f" of {self.bounds_crs}" if self.bounds_crs is not None else ""
        return f"{name} {' '.join(f'{value:.12g}' for value in values or ())}{system}"

    @classmethod
    def of(
        cls, pixels: Any, bounds: Any, bounds_crs: str | None = None, name_of: Callable[[str], str] = str
    ) -> "Window | None":
        """The window of these arguments; None if neither pixels nor bounds are given.

        name_of: an argument -> its name in the message. Raises InputError for what is no rectangle.
        """
        if bounds_crs is not None:
            if bounds is None:
                raise InputError(f"{name_of('bounds_crs')} is for {name_of('bounds')}; give both.")
            _parse_crs(bounds_crs, name_of("bounds_crs"))
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
                return cls(bounds=(first, second, third, fourth), bounds_crs=bounds_crs)
        shown_values = " ".join(f"{number:g}" for number in numbers) if numbers else shown(given)
        raise InputError(f"{name_of(name)} is {shown_values}; {expected}.")

    def size(self, path: Path, height: int, width: int) -> tuple[int, int] | None:
        """Height and width of its part of an image of this size; None if reading it reports an error."""
        with suppress(Exception):
            box, _ = self.box(path, height, width)
            return box.bottom - box.top, box.right - box.left
        return None

    def box(self, path: Path, height: int, width: int) -> tuple[Box, bool]:
        """Its rows and columns in an image of this size, and whether a part that lies outside the image was cut off.

        Raises InputError if it lies outside altogether, or if it is given by bounds and the file has no place.
        """
        if self.pixels is not None:
            column, row, across, down = self.pixels
            wanted = Box(row, row + down, column, column + across)
        else:
            wanted = self._rows_and_columns(path)
        box = Box(max(wanted.top, 0), min(wanted.bottom, height), max(wanted.left, 0), min(wanted.right, width))
        if box.top >= box.bottom or box.left >= box.right:
            where = self._bounds_of(path) if self.pixels is None else f"{width}x{height} pixels."
            raise InputError(f"{path} has nothing in the {self}; it has {where}")
        return box, box != wanted

    def _rows_and_columns(self, path: Path) -> Box:
        import_rasterio()
        with local_file(path) as (file, _), open_dataset(file) as dataset:
            if dataset.transform.is_identity:
                raise InputError(f"{path} does not say where it lies on the earth; give a window in pixels.")
            to_pixels, crs = ~dataset.transform, dataset.crs
        left, bottom, right, top = self._bounds_in(path, crs)
        corners = [to_pixels * (x, y) for x in (left, right) for y in (bottom, top)]
        columns, rows = zip(*corners, strict=True)
        # Pixels that lie in the bounds by at least a thousandth.
        first, last = (
            [math.floor(min(at) + 1e-3) for at in (rows, columns)],
            [math.ceil(max(at) - 1e-3) for at in (rows, columns)],
        )
        return Box(first[0], last[0], first[1], last[1])

    def _bounds_in(self, path: Path, crs: Any) -> tuple[float, float, float, float]:
        """The bounds in the coordinate system of a file."""
        assert self.bounds is not None
        if self.bounds_crs is None:
            return self.bounds
        import rasterio.warp

        given = _parse_crs(self.bounds_crs)
        if not crs:
            raise InputError(
                f"{path} does not say its coordinate system; give bounds in its own, without --bounds-crs."
            )
        try:
            left, bottom, right, top = rasterio.warp.transform_bounds(given, crs, *self.bounds)
        except rasterio.errors.RasterioError:
            left = bottom = right = top = math.inf
        if not all(map(math.isfinite, (left, bottom, right, top))):
            raise InputError(f"The {self} have no place in {crs_name(crs)}, in which {path} lies.")
        return left, bottom, right, top

    def _bounds_of(self, path: Path) -> str:
        """Where a file lies, and what may be wrong with bounds that lie elsewhere."""
        with local_file(path) as (file, _), open_dataset(file) as dataset:
            crs, bounds = dataset.crs, dataset.bounds
        text = f"bounds {' '.join(f'{value:.12g}' for value in bounds)}, in {crs_name(crs)}."
        if self.bounds is None or self.bounds_crs is not None or not crs:
            return text
        is_in_degrees = all(abs(at) <= most for at, most in zip(self.bounds, (360, 90, 360, 90), strict=True))
        if is_in_degrees == crs.is_geographic:
            return text
        seems, example = ("look like", "EPSG:4326") if is_in_degrees else ("are no", "EPSG:32632")
        return (
            f"{text} The bounds {seems} degrees, and the unit of {crs_name(crs)} is {crs.units_factor[0]}: name their "
            f"system, such as --bounds-crs {example}."
        )


def _parse_crs(text: str, name: str = "bounds_crs") -> Any:
    """A coordinate system of rasterio. name: of the argument.

    Raises InputError for a text that names none, or if rasterio is missing.
    """
    rasterio = import_rasterio()
    try:
        return rasterio.crs.CRS.from_user_input(text)
    except rasterio.errors.CRSError:
        raise InputError(f"{name} is {shown(text)}; expected a coordinate system, such as EPSG:4326.") from None


def move(metadata: Metadata, box: Box, is_cut: bool) -> Metadata:
    """The metadata of the part of an image that begins at a box. is_cut: as in `Metadata`."""
    tags = tuple(_move_tag(tag, box.left, box.top) for tag in metadata.tags)
    return replace(metadata, tags=tags, is_cut=is_cut)


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

    def __init__(self, reader: RegionReader, box: Box, is_cut: bool) -> None:
        self._reader, self._box = reader, box
        self.height, self.width = box.bottom - box.top, box.right - box.left
        self.metadata = move(reader.metadata, box, is_cut)

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
            yield reader if window is None else WindowReader(reader, *window.box(path, reader.height, reader.width))


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
    box, is_cut = window.box(path, *raster.values.shape[:2])
    return crop(replace(raster, metadata=move(raster.metadata, box, is_cut)), box)
