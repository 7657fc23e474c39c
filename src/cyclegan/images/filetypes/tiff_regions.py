"""TIFF files too large for memory: read by region, and written from compressed tiles."""

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.filetypes.sample_reader import SampleReader
from cyclegan.images.filetypes.tiff import extra_samples, mask_beside, tifffile_options
from cyclegan.images.filetypes.tiff_tags import MIN_IS_BLACK, MIN_IS_WHITE, RGB, YCBCR, TiffPage, invert, read_layout
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import Box, TiledWriter
from cyclegan.system.atomic import atomic_path

# Decoded strips and tiles that are kept, since neighbouring regions read the same ones.
_CACHE_BYTES = 256 * 2**20

# A file with larger strips or tiles is not read by region.
_MAX_SEGMENT_BYTES = 64 * 2**20


class TiffReader(SampleReader):
    """One page of a TIFF by region, (h, w, C). Memory is bounded by one row of its strips or tiles."""

    def __init__(self, file: Any, page: Any, path: Path, image_format: ImageFormat, described: TiffPage) -> None:
        height, width = int(page.imagelength), int(page.imagewidth)
        super().__init__(path, image_format, height, width, page.dtype, described.metadata)
        self._file, self._page, self._tags = file, page, described
        self._is_planar = page.planarconfig == 2 and page.samplesperpixel > 1
        if page.is_tiled:
            self._rows, self._columns = int(page.tilelength), int(page.tilewidth)
        else:
            self._rows, self._columns = min(int(page.rowsperstrip), self.height), self.width
        self._across, self._down = -(-self.width // self._columns), -(-self.height // self._rows)
        self._decoded: OrderedDict[int, Array] = OrderedDict()

    @classmethod
    def open(cls, path: Path, image_format: ImageFormat) -> "TiffReader | None":
        """None for a file that must be read as a whole: a palette, several pages, a single strip; or without tifffile.

        Raises UnreadableError if it is damaged, InputError for other channels than those of the format.
        """
        try:
            import tifffile
        except ImportError:
            return None
        try:
            file = tifffile.TiffFile(path)
        except OSError:
            raise
        except Exception:  # perhaps another format under this name; reading it as a whole reports the error
            return None
        source: TiffReader | None = None
        try:
            with _reading(path):
                source = cls._of(file, path, image_format)
        finally:
            if source is None:
                file.close()
        return source

    @classmethod
    def _of(cls, file: Any, path: Path, image_format: ImageFormat) -> "TiffReader | None":
        layout = read_layout(path)
        number = image_format.page or 1
        if (image_format.page is None and len(layout.pages) > 1) or number > len(layout.pages) or layout.masks:
            return None
        if mask_beside(path) is not None:
            return None
        described = layout.pages[number - 1]
        page: Any = file.pages[described.position]
        samples, dtype = int(page.samplesperpixel), page.dtype
        is_plain = (
            dtype is not None
            and dtype.name == image_format.dtype
            and described.dtype == image_format.dtype
            and described.bits == 8 * dtype.itemsize
            and getattr(page, "imagedepth", 1) == 1
            and described.orientation == 1
            and not (described.metadata.description or "").startswith("ImageJ=")
            and (
                page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB)
                or (page.photometric == YCBCR and page.compression == 7)
            )
        )
        if not is_plain:
            return None
        source = cls(file, page, path, image_format, described)
        if len(page.databytecounts) < source._across * source._down * (samples if source._is_planar else 1):
            return None
        if source._rows * source._columns * samples * dtype.itemsize > _MAX_SEGMENT_BYTES:
            return None
        return source if source.fits_format(samples) else None

    def close(self) -> None:
        self._file.close()

    @property
    def is_exact(self) -> bool:
        return self._page.compression not in (6, 7)  # JPEG

    @property
    def num_rows(self) -> int:
        return self._rows

    def samples(self, box: Box) -> Raster:
        samples = int(self._page.samplesperpixel)
        result = np.empty((box.bottom - box.top, box.right - box.left, samples), self._page.dtype)
        for plane in range(samples if self._is_planar else 1):
            part = result[..., plane : plane + 1] if self._is_planar else result
            for row in range(box.top // self._rows, -(-box.bottom // self._rows)):
                for column in range(box.left // self._columns, -(-box.right // self._columns)):
                    self._copy(plane, row, column, box, part)
        if self._tags.photometric == MIN_IS_WHITE:
            result = invert(result, self._tags.bits)
        return Raster(result, metadata=self._described)

    def _copy(self, plane: int, row: int, column: int, box: Box, out: Array) -> None:
        segment = self._segment((plane * self._down + row) * self._across + column)
        top, left = row * self._rows, column * self._columns
        y, x = max(top, box.top), max(left, box.left)
        bottom, right = min(top + segment.shape[0], box.bottom), min(left + segment.shape[1], box.right)
        out[y - box.top : bottom - box.top, x - box.left : right - box.left] = segment[
            y - top : bottom - top, x - left : right - left
        ]

    def _segment(self, index: int) -> Array:
        if index in self._decoded:
            self._decoded.move_to_end(index)
            return self._decoded[index]
        page, handle = self._page, self._file.filehandle
        with _reading(self._path):
            count = page.databytecounts[index]
            data = None
            if count:
                handle.seek(page.dataoffsets[index])
                data = handle.read(count)
                if len(data) < count:  # tifffile would fill the gap
                    raise ValueError("its end is missing")
            values, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
            if values is None:  # a sparse tile
                values = np.full(shape, page.nodata or 0, page.dtype)
            segment: Array = values[0]
        self._decoded[index] = segment
        held = sum(part.nbytes for part in self._decoded.values())
        while held > _CACHE_BYTES and len(self._decoded) > self._across * page.samplesperpixel:
            held -= self._decoded.popitem(last=False)[1].nbytes
        return segment


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error that a decoder raises into an UnreadableError that names the file."""
    try:
        yield
    except (InputError, UnreadableError):
        raise
    except (OSError, MemoryError) as error:
        raise UnreadableError(f"{path} cannot be read: {error}") from error
    except Exception as error:
        raise UnreadableError(f"{path} is damaged: {str(error) or type(error).__name__}") from error


def tile_side(side: int) -> int:
    """The largest side of TIFF tiles, up to 512, that divides `side`, a multiple of 16."""
    return next(size for size in (512, 256, 128, 64, 32, 16) if side % size == 0)


def encode_rows(row: NDArray[Any], side: int) -> list[bytes]:
    """Rows of an image, (h, width, C), as compressed TIFF tiles in row-major order, those at the borders padded."""
    height, width = row.shape[:2]
    full = np.pad(row, ((0, -height % side), (0, -width % side), (0, 0)), "edge")
    full = full.astype(full.dtype.newbyteorder("<"), copy=False)
    tiles: list[bytes] = []
    for top in range(0, full.shape[0], side):
        for left in range(0, full.shape[1], side):
            tile = full[top : top + side, left : left + side]
            if tile.dtype.kind in "ui":  # horizontal differencing, TIFF predictor 2
                tile = np.concatenate([tile[:, :1], tile[:, 1:] - tile[:, :-1]], axis=1)
            tiles.append(zlib.compress(np.ascontiguousarray(tile).tobytes(), 6))
    return tiles


def write_tiff(
    path: Path,
    tiles: Iterable[bytes],
    shape: tuple[int, int, int],
    dtype: str,
    side: int,
    has_alpha: bool,
    metadata: Metadata,
) -> None:
    """Write a tiled BigTIFF with deflate from what `encode_rows` returned for the whole image; complete or absent."""
    import tifffile

    height, width, channels = shape
    colours = channels - has_alpha
    extra = extra_samples(colours, dtype, metadata, has_alpha=has_alpha)
    with atomic_path(path) as partial, tifffile.TiffWriter(partial, bigtiff=True, byteorder="<") as writer:
        writer.write(
            iter(tiles),
            shape=(height, width) if channels == 1 else shape,
            dtype=dtype,
            tile=(side, side),
            compression="adobe_deflate",
            predictor=np.dtype(dtype).kind in "ui",
            photometric="rgb" if colours in (3, 4) else "minisblack",
            planarconfig=None if channels == 1 else "contig",
            extrasamples=extra or None,
            metadata=None,
            **tifffile_options(metadata),
        )


TILED_TIFF = TiledWriter("tifffile", 16, tile_side, encode_rows, write_tiff)
