"""TIFF files too large for memory, read by region."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.filetypes.blocks import BlockCache, fill_region
from cyclegan.images.filetypes.sample_reader import SampleReader
from cyclegan.images.filetypes.sidecars import describe, find_sidecars, has_mask, read_mask
from cyclegan.images.filetypes.tiff import mask_of
from cyclegan.images.filetypes.tiff_tags import MIN_IS_BLACK, MIN_IS_WHITE, RGB, YCBCR, TiffPage, invert, read_layout
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Mask, Raster
from cyclegan.images.regions import Box

# Decoded strips and tiles that are kept, since neighbouring regions read the same ones.
_CACHE_BYTES = 256 * 2**20

# A file with larger strips or tiles is not read by region.
_MAX_SEGMENT_BYTES = 64 * 2**20


class _PageReader:
    """The samples of one page by region, as they are stored. Memory is bounded by one row of its strips or tiles."""

    def __init__(self, path: Path, file: Any, page: Any) -> None:
        self._path, self._file, self._page = path, file, page
        self.height, self.width, self.num_samples = map(int, (page.imagelength, page.imagewidth, page.samplesperpixel))
        self._is_planar = page.planarconfig == 2 and self.num_samples > 1
        if page.is_tiled:
            self.rows, self.columns = int(page.tilelength), int(page.tilewidth)
        else:
            self.rows, self.columns = min(int(page.rowsperstrip), self.height), self.width
        self._across, self._down = -(-self.width // self.columns), -(-self.height // self.rows)
        self._segments = BlockCache(_CACHE_BYTES, self._across * self.num_samples)

    @property
    def can_be_read(self) -> bool:
        """Whether no segment is missing or too large."""
        count = self._across * self._down * (self.num_samples if self._is_planar else 1)
        num_bytes = self.rows * self.columns * self.num_samples * self._page.dtype.itemsize
        return len(self._page.databytecounts) >= count and num_bytes <= _MAX_SEGMENT_BYTES

    def read(self, box: Box) -> Array:
        """(h, w, samples)."""
        result = np.empty((box.bottom - box.top, box.right - box.left, self.num_samples), self._page.dtype)
        for plane in range(self.num_samples if self._is_planar else 1):
            part = result[..., plane : plane + 1] if self._is_planar else result
            fill_region(part, box, self.rows, self.columns, partial(self._segment, plane))
        return result

    def _segment(self, plane: int, row: int, column: int) -> Array:
        index = (plane * self._down + row) * self._across + column
        return self._segments.get((index,), lambda: self._decode(index))

    def _decode(self, index: int) -> Array:
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
        return segment


class TiffReader(SampleReader):
    """One page of a TIFF by region, (h, w, C), with its mask."""

    def __init__(self, file: Any, page: Any, path: Path, image_format: ImageFormat, described: TiffPage) -> None:
        self._opened = ExitStack()
        self._pixels = _PageReader(path, file, page)
        size = self._pixels.height, self._pixels.width
        super().__init__(path, image_format, *size, page.dtype, described.metadata)
        self._page, self._tags = page, described
        self._read_mask: Callable[[Box], Mask] | None = None

    @classmethod
    def open(cls, path: Path, image_format: ImageFormat) -> "TiffReader | None":
        """None for a file that must be read as a whole: a palette, several pages, a single strip; or without tifffile.

        Raises UnreadableError if it is damaged, InputError for other channels than those of the format.
        """
        try:
            import tifffile
        except ImportError:
            return None
        with ExitStack() as stack:
            # Opened here, since tifffile follows links to a name that a file in memory does not have.
            content = stack.enter_context(path.open("rb"))
            try:
                file = stack.enter_context(tifffile.TiffFile(content))
            except OSError:
                raise
            except Exception:  # perhaps another format under this name; reading it as a whole reports the error
                return None
            with _reading(path):
                source = cls._of(file, path, image_format)
            if source is not None:
                source._opened = stack.pop_all()
        return source

    @classmethod
    def _of(cls, file: Any, path: Path, image_format: ImageFormat) -> "TiffReader | None":
        layout = read_layout(path)
        number = image_format.page or 1
        if (image_format.page is None and len(layout.pages) > 1) or number > len(layout.pages):
            return None
        described = layout.pages[number - 1]
        page: Any = file.pages[described.position]
        dtype = page.dtype
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
        sidecars = find_sidecars(path) if len(layout.pages) == 1 else []
        if sidecars:
            described = replace(described, metadata=describe(path, described.metadata))
        source = cls(file, page, path, image_format, described)
        if not source._pixels.can_be_read:
            return None
        if has_mask(sidecars):
            source._read_mask = partial(read_mask, path)
        elif (mask := mask_of(file, layout, described)) is not None:
            reader = _PageReader(path, file, mask)
            if not reader.can_be_read:
                return None
            source._read_mask = lambda box: reader.read(box)[..., 0].astype(np.bool_)
        return source if source.fits_format(source._pixels.num_samples) else None

    def close(self) -> None:
        self._opened.close()

    @property
    def has_mask(self) -> bool:
        return self._read_mask is not None

    @property
    def is_exact(self) -> bool:
        return self._page.compression not in (6, 7)  # JPEG

    @property
    def num_rows(self) -> int:
        return self._pixels.rows

    def samples(self, box: Box) -> Raster:
        values = self._pixels.read(box)
        if self._tags.photometric == MIN_IS_WHITE:
            values = invert(values, self._tags.bits)
        return Raster(values, valid=None if self._read_mask is None else self._read_mask(box), metadata=self._described)


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
