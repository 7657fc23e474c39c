"""Images that are read and written by region."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from cyclegan.images import Array
from cyclegan.images.raster import Metadata, Raster


class Box(NamedTuple):
    """Rows top..bottom - 1 and columns left..right - 1 of an image or an activation; may exceed its borders."""

    top: int
    bottom: int
    left: int
    right: int

    def grow(self, pixels: int) -> "Box":
        """The box with `pixels` more on each side."""
        return Box(self.top - pixels, self.bottom + pixels, self.left - pixels, self.right + pixels)


def crop(raster: Raster, box: Box) -> Raster:
    """The part of a raster in a box inside it. Its metadata stay."""
    place = slice(box.top, box.bottom), slice(box.left, box.right)
    alpha = None if raster.alpha is None else raster.alpha[place]
    valid = None if raster.valid is None else raster.valid[place]
    return Raster(raster.values[place], alpha, valid, raster.metadata)


class ImageSource(Protocol):
    """An image in its file's type that is read by region."""

    height: int
    width: int

    def read(self, box: Box) -> Array:
        """(h, w, C) of a box inside the image."""
        ...


class RegionReader(ImageSource, Protocol):
    """An open file that is read by region. Reading raises InputError for infinity, UnreadableError for damage."""

    metadata: Metadata

    def has_holes(self) -> bool:
        """Whether the image may have holes other than transparent pixels."""
        ...

    def read_raster(self, box: Box) -> Raster:
        """A box inside the image with its transparency and holes; `read` gives its values alone."""
        ...

    def close(self) -> None: ...


class ArraySource:
    """An array (H, W, C) as an `ImageSource`, in memory or mapped from a file."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.height, self.width = array.shape[:2]

    def read(self, box: Box) -> Array:
        return self.array[box.top : box.bottom, box.left : box.right]


class RasterSource(ArraySource):
    """A Raster in memory as a `RegionReader`."""

    def __init__(self, raster: Raster) -> None:
        super().__init__(raster.values)
        self._raster, self.metadata = raster, raster.metadata

    def read_raster(self, box: Box) -> Raster:
        return crop(self._raster, box)

    def has_holes(self) -> bool:
        return self._raster.valid is not None

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class TiledImage:
    """An image whose tiles are written. shape: (H, W, C), alpha included. side: of the tiles, in pixels.

    has_alpha: whether the last channel is transparency.
    """

    shape: tuple[int, int, int]
    dtype: str
    side: int
    has_alpha: bool
    metadata: Metadata


@dataclass(frozen=True)
class TiledWriter:
    """How a format is written tile by tile.

    package: the package that `write` imports.
    multiple: sides of tiles are multiples of this.
    tile_side: the side of the file's tiles for rows of so many pixels, which it divides.
    encode_rows: rows (h, width, C) and the tiles' side -> compressed tiles, row by row.
    write: path or open file, all compressed tiles, and what they are the tiles of.
    lossy: the same with JPEG, for 8-bit grey and RGB.
    """

    package: str
    multiple: int
    tile_side: Callable[[int], int]
    encode_rows: Callable[[Array, int], list[bytes]]
    write: Callable[[Path | IO[bytes], Iterable[bytes], TiledImage], None]
    lossy: "TiledWriter | None" = None
