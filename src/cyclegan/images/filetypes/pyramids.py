"""Pyramids: an image in a TIFF with copies of half the size, a quarter and so on, which viewers show from afar.

The copies are made from the finished tiles of the image while these are written, in a single pass. Memory holds one row
of tiles of each level; finished tiles of the copies wait in unnamed files on disk, a third of the size of the image.
"""

import io
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.system.atomic import atomic_path

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class TileCodec:
    """How tiles of a TIFF are compressed.

    encode: rows (h, width, C) and the tiles' side -> compressed tiles in row-major order, those at the borders padded.
    decode: a compressed tile and its shape (side, side, C) and numpy type -> its values.
    options: what `tifffile.TiffWriter.write` takes to describe it, for a numpy type and channels.
    """

    encode: Callable[[Array, int], list[bytes]]
    decode: Callable[[bytes, tuple[int, int, int], str], Array]
    options: Callable[[str, int], dict[str, Any]]


def num_reduced(height: int, width: int, side: int) -> int:
    """How many times an image is halved until it fits into one tile of this side."""
    return max(0, math.ceil(math.log2(max(height, width) / side)))


def halve(values: Array, nodata: float | None = None) -> Array:
    """Means of squares of 2x2 pixels, (h, w, C) -> (ceil(h / 2), ceil(w / 2), C), in the same type.

    nodata: the value of holes, which may be NaN: means are of the other values, and a square of holes is one.
    """
    values = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2), (0, 0)), "edge")
    quarters = [values[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    dtype = values.dtype
    if nodata is not None:
        return _mean_of_valid(quarters, nodata)
    if dtype.kind == "f" or dtype.itemsize == 8:
        return _cast(np.mean([quarter.astype(np.float64) for quarter in quarters], axis=0), dtype)
    # Integers of up to 32 bits: exact, halves rounded up.
    wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
    total = sum((quarter.astype(wide) for quarter in quarters), wide.type(2))
    return (total >> 2).astype(dtype)


def _mean_of_valid(quarters: list[Array], nodata: float) -> Array:
    dtype = quarters[0].dtype
    total, count = np.zeros(quarters[0].shape, np.float64), np.zeros(quarters[0].shape, np.uint8)
    for quarter in quarters:
        is_hole = np.isnan(quarter) if math.isnan(nodata) else quarter == np.asarray(nodata).astype(dtype)
        total += np.where(is_hole, 0.0, quarter)
        count += ~is_hole
    mean = _cast(total / np.maximum(count, 1), dtype)
    return np.where(count > 0, mean, np.asarray(nodata).astype(dtype))


def _cast(mean: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return mean.astype(dtype)
    info = np.iinfo(dtype)
    rounded = np.floor(mean + 0.5)
    # The largest 64-bit integers have no float64 of their own.
    is_top = rounded >= float(info.max)
    return np.where(is_top, dtype.type(info.max), np.where(is_top, 0, rounded).astype(dtype))


def write_pyramid(
    target: Path | IO[bytes],
    tiles: Iterable[bytes],
    shape: tuple[int, int, int],
    dtype: str,
    side: int,
    *,
    codec: "TileCodec | None" = None,
    levels: int | None = None,
    nodata: float | None = None,
    options: dict[str, Any] | None = None,
    common: dict[str, Any] | None = None,
) -> None:
    """Write a tiled BigTIFF with its pyramid to an open file, or to a path: complete or absent.

    tiles: what `codec.encode` returned for the whole image of `shape` (H, W, C), row by row. levels: how many copies;
    default: until one fits into a tile. They are SubIFDs of the image, as OME-TIFF asks, and also pages after it, as
    OpenSlide expects. nodata: as in `halve`. options: what `tifffile.TiffWriter.write` takes for the image, such as its
    description and tags; common: what it takes for the copies as well, such as `extrasamples`.
    """
    import tifffile

    codec = DEFLATE if codec is None else codec
    height, width, channels = shape
    count = num_reduced(height, width, side) if levels is None else levels
    settings: dict[str, Any] = {
        "dtype": dtype,
        "tile": (side, side),
        "planarconfig": None if channels == 1 else "contig",
        "metadata": None,
        "software": "cyclegan",
        **codec.options(dtype, channels),
        **(common or {}),
    }
    with ExitStack() as stack:
        folder = None
        if isinstance(target, Path):
            # Beside the target there is room for it.
            target, folder = stack.enter_context(atomic_path(target)), target.parent
        reduced = _Reduced(shape, side, count, codec, nodata, folder, stack)
        with tifffile.TiffWriter(target, bigtiff=True, byteorder="<") as writer:
            writer.write(
                reduced.watch(tiles, dtype),
                shape=shape[:2] if channels == 1 else shape,
                subifds=count,
                **{**settings, **(options or {})},
            )
            for level in reduced.levels:
                shown = (level.height, level.width, channels)
                size = shown[:2] if channels == 1 else shown
                writer.write(level.tiles(), shape=size, subfiletype=1, **settings)
        if count:
            with target.open("r+b") if isinstance(target, Path) else nullcontext(target) as file:
                _chain_copies(file)


def _chain_copies(file: IO[bytes]) -> None:
    """Let the SubIFDs of the first page of a BigTIFF follow it as pages, too: OpenSlide finds copies there."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as found:
        page: Any = found.pages[0]
        offsets = [int(page.offset), *map(int, page.subifds)]
    for offset, following in zip(offsets, [*offsets[1:], 0], strict=True):
        file.seek(offset)
        (num_tags,) = struct.unpack("<Q", file.read(8))
        file.seek(offset + 8 + 20 * num_tags)
        file.write(struct.pack("<Q", following))


class _Reduced:
    """All copies of an image, made while its tiles pass."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        side: int,
        count: int,
        codec: TileCodec,
        nodata: float | None,
        folder: Path | None,
        stack: ExitStack,
    ) -> None:
        self.shape, self.side, self.codec, self.nodata = shape, side, codec, nodata
        self.levels: list[_Level] = []
        height, width, _ = shape
        for _ in range(count):
            height, width = -(-height // 2), -(-width // 2)
            spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            stack.enter_context(spool)
            self.levels.append(_Level(height, width, spool))

    def watch(self, tiles: Iterable[bytes], dtype: str) -> Iterator[bytes]:
        """The tiles as they are. With the last one, all copies are complete."""
        if not self.levels:
            yield from tiles
            return
        height, width, channels = self.shape
        across = -(-width // self.side)
        iterator = iter(tiles)
        for top in range(0, height, self.side):
            row = list(islice(iterator, across))
            values = np.empty((self.side, across * self.side, channels), dtype)
            for index, tile in enumerate(row):
                left = index * self.side
                values[:, left : left + self.side] = self.codec.decode(tile, (self.side, self.side, channels), dtype)
            self._add(0, values[: height - top, :width])
            if top + self.side >= height:  # before the last row is taken, after which nobody asks for more
                for level in range(len(self.levels)):
                    self._flush(level)
            yield from row

    def _add(self, index: int, rows: Array) -> None:
        """Halve rows of the level before, and keep them until a row of tiles is full."""
        level = self.levels[index]
        level.waiting.append(halve(rows, self.nodata))
        if sum(map(len, level.waiting)) >= self.side:
            self._flush(index)

    def _flush(self, index: int) -> None:
        level = self.levels[index]
        if not level.waiting:
            return
        rows = np.concatenate(level.waiting)
        level.waiting = []
        level.keep(self.codec.encode(rows, self.side))
        if index + 1 < len(self.levels):
            self._add(index + 1, rows)


class _Level:
    """One copy. waiting: rows that do not fill a row of tiles yet."""

    def __init__(self, height: int, width: int, spool: IO[bytes]) -> None:
        self.height, self.width, self._spool = height, width, spool
        self.waiting: list[Array] = []
        self._counts: list[int] = []

    def keep(self, tiles: list[bytes]) -> None:
        self._counts += map(len, tiles)
        self._spool.writelines(tiles)

    def tiles(self) -> Iterator[bytes]:
        self._spool.seek(0)
        for count in self._counts:
            yield self._spool.read(count)


def _has_differences(dtype: np.dtype[Any]) -> bool:
    """Whether tiles hold the differences of neighbours (TIFF predictor 2), which readers know up to 32 bits."""
    return dtype.kind in "ui" and dtype.itemsize <= 4


def _encode_deflate(row: NDArray[Any], side: int) -> list[bytes]:
    """Rows of an image, (h, width, C), as compressed TIFF tiles in row-major order, those at the borders padded."""
    height, width = row.shape[:2]
    full = np.pad(row, ((0, -height % side), (0, -width % side), (0, 0)), "edge")
    full = full.astype(full.dtype.newbyteorder("<"), copy=False)
    tiles: list[bytes] = []
    for top in range(0, full.shape[0], side):
        for left in range(0, full.shape[1], side):
            tile = full[top : top + side, left : left + side]
            if _has_differences(tile.dtype):
                tile = np.concatenate([tile[:, :1], tile[:, 1:] - tile[:, :-1]], axis=1)
            tiles.append(zlib.compress(np.ascontiguousarray(tile).tobytes(), 6))
    return tiles


def _decode_deflate(tile: bytes, shape: tuple[int, int, int], dtype: str) -> Array:
    values = np.frombuffer(zlib.decompress(tile), np.dtype(dtype).newbyteorder("<")).reshape(shape)
    if _has_differences(values.dtype):
        return np.cumsum(values, axis=1, dtype=np.dtype(dtype))
    return values


def _deflate_options(dtype: str, channels: int) -> dict[str, Any]:
    return {
        "compression": "adobe_deflate",
        "predictor": _has_differences(np.dtype(dtype)),
        "photometric": "rgb" if channels in (3, 4) else "minisblack",
    }


def _encode_jpeg(rows: Array, side: int) -> list[bytes]:
    from PIL import Image

    height, width, channels = rows.shape
    if channels not in (1, 3):
        raise InputError(f"JPEG holds grey or RGB, and the image has {channels} channels; compress it without loss.")
    full = np.pad(rows, ((0, -height % side), (0, -width % side), (0, 0)), "edge")
    tiles: list[bytes] = []
    for top in range(0, full.shape[0], side):
        for left in range(0, full.shape[1], side):
            tile, buffer = full[top : top + side, left : left + side], io.BytesIO()
            picture = Image.fromarray(np.ascontiguousarray(tile[..., 0] if channels == 1 else tile))
            picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            tiles.append(buffer.getvalue())
    return tiles


def _decode_jpeg(tile: bytes, shape: tuple[int, int, int], _dtype: str) -> Array:
    from PIL import Image

    with Image.open(io.BytesIO(tile)) as picture:
        return np.asarray(picture).reshape(shape)


def _jpeg_options(_dtype: str, channels: int) -> dict[str, Any]:
    if channels == 1:
        return {"compression": "jpeg", "photometric": "minisblack"}
    return {"compression": "jpeg", "photometric": "rgb", "subsampling": (1, 1)}


# Without loss, for every type.
DEFLATE = TileCodec(_encode_deflate, _decode_deflate, _deflate_options)

# Quality 90 without chroma subsampling, for 8-bit grey and RGB: a tenth of the size.
JPEG = TileCodec(_encode_jpeg, _decode_jpeg, _jpeg_options)
