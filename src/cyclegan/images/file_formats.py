"""The image file formats. A new format is one row of `FILE_FORMATS`; docs/extending.md has an example."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from cyclegan.images import npy, ome, pillow, slides, tiff
from cyclegan.images.formats import FileFormat, ImageFormat, Kept
from cyclegan.images.raster import Raster
from cyclegan.images.regions import RegionReader
from cyclegan.images.tiff_regions import TILED_TIFF, TiffReader

# A format that Pillow, or a plugin of it, reads.
_of_pillow = partial(FileFormat, read=pillow.read, probe=pillow.probe, quick_probe=pillow.quick_probe, size=pillow.size)


def _writer(format: str, **options: Any) -> Callable[[IO[bytes], Raster], None]:
    return partial(pillow.write, format=format, **options)


_ALL: frozenset[Kept] = frozenset(("alpha", "profile", "resolution", "description", "exif", "place", "nodata"))


def _open_tiff(path: Path, image_format: ImageFormat) -> RegionReader | None:
    """A pyramid at the microns per pixel of the format, if it has such a scale; else one page."""
    if slides.has_scale(path, image_format):
        return slides.SlideReader.open(path, image_format)
    return TiffReader.open(path, image_format)


_of_tiff = partial(
    FileFormat,
    read=tiff.read,
    read_page=tiff.read_page,
    keeps=_ALL - {"exif"},
    install="cyclegan[data]",
    probe=tiff.probe,
    size=tiff.size,
    open_regions=_open_tiff,
    only_regions=slides.has_scale,
)

# JPEG, BMP and the like cannot keep transparency, WebP and AVIF have no grey.
FILE_FORMATS: dict[str, FileFormat] = {
    "jpeg": _of_pillow(
        suffixes=(".jpg", ".jpeg"),
        read_reduced=pillow.read,
        write=_writer("JPEG", quality=95, subsampling=0),
        holds={"uint8": (1, 3)},
        keeps=_ALL - {"alpha", "place", "nodata"},
    ),
    "png": _of_pillow(
        suffixes=(".png",),
        write=pillow.write_png,
        holds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
        keeps=_ALL - {"place", "nodata"},
        install="cyclegan[data]",
        install_reason="has 16-bit colour",
    ),
    "webp": _of_pillow(
        suffixes=(".webp",),
        write=_writer("WEBP", quality=95),
        holds={"uint8": (3, 4)},
        keeps=frozenset(("alpha", "profile", "exif")),
    ),
    "avif": _of_pillow(
        suffixes=(".avif",),
        write=_writer("AVIF", quality=95),
        holds={"uint8": (3, 4)},
        keeps=frozenset(("alpha", "profile", "exif")),
    ),
    "bmp": _of_pillow(
        suffixes=(".bmp",), write=_writer("BMP"), holds={"uint8": (1, 3)}, keeps=frozenset(("resolution",))
    ),
    # A GIF of grey is exact; 256 colours are too few for the translation of a picture.
    "gif": _of_pillow(suffixes=(".gif",), write=_writer("GIF"), holds={"uint8": (1,)}),
    "ome-tiff": _of_tiff(
        suffixes=ome.SUFFIXES,
        write=ome.write,
        holds=ome.HOLDS,
        install_reason="is an OME-TIFF",
        tiled_writer=ome.LOSSLESS,
        lossy_writer=ome.LOSSY,
    ),
    "tiff": _of_tiff(
        suffixes=(".tif", ".tiff"),
        write=tiff.write,
        holds=None,
        install_reason="is a TIFF with more than 8 bits or 4 channels",
        tiled_writer=TILED_TIFF,
    ),
    "slide": FileFormat(
        suffixes=slides.SUFFIXES,
        read=slides.read,
        install="cyclegan[slides]",
        install_reason="is a whole slide",
        probe=slides.probe,
        size=slides.size,
        open_regions=slides.SlideReader.open,
        only_regions=lambda _path, _format: True,
        written_as=ome.SUFFIXES[0],
    ),
    "npy": FileFormat(suffixes=(".npy",), read=npy.read, write=npy.write, holds=None, probe=npy.probe, size=npy.size),
}

# For files with other suffixes, which a user names explicitly.
_OTHER = _of_pillow(suffixes=())


def image_suffixes() -> tuple[str, ...]:
    """Suffixes of image files, lower case, with their dot. Files with others are not found in folders."""
    return tuple(suffix for file_format in FILE_FORMATS.values() for suffix in file_format.suffixes)


def file_format_of(path: Path | str) -> FileFormat:
    """The row for a file's suffix; for an unknown one a row that reads what Pillow reads and writes nothing."""
    name = os.fspath(path).lower()  # a string, since there may be a million
    for file_format in FILE_FORMATS.values():
        if name.endswith(file_format.suffixes):
            return file_format
    return _OTHER


def is_image_name(path: Path) -> bool:
    """Whether a file has the suffix of an image format."""
    return path.suffix.lower() in image_suffixes()


def can_hold(suffix: str, channels: int, dtype: str) -> bool:
    """Whether files of this suffix keep images of these channels and this numpy type without loss of depth."""
    return file_format_of(f"x{suffix}").can_hold(channels, dtype)
