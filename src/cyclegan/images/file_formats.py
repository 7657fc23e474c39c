"""The image file formats. A new format is one row of `FILE_FORMATS`; docs/extending.md has an example."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from cyclegan.images import Array, dicom, nifti, npy, pillow, tiff
from cyclegan.images.formats import FileFormat
from cyclegan.images.pages import is_zip, split_page
from cyclegan.images.tiff_regions import TILED_TIFF, TiffReader

# A format that Pillow, or a plugin of it, reads.
_of_pillow = partial(FileFormat, read=pillow.read, probe=pillow.probe, quick_probe=pillow.quick_probe, size=pillow.size)


def _writer(format: str, **options: Any) -> Callable[[IO[bytes], Array], None]:
    return partial(pillow.write, format=format, **options)


# JPEG, BMP and the like cannot keep transparency, WebP and AVIF have no grey.
FILE_FORMATS: dict[str, FileFormat] = {
    "jpeg": _of_pillow(
        suffixes=(".jpg", ".jpeg"),
        read_reduced=pillow.read,
        write=_writer("JPEG", quality=95, subsampling=0),
        holds={"uint8": (1, 3)},
    ),
    "png": _of_pillow(
        suffixes=(".png",),
        write=pillow.write_png,
        holds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
        install="cyclegan[data]",
        install_reason="has 16-bit colour",
    ),
    "webp": _of_pillow(suffixes=(".webp",), write=_writer("WEBP", quality=95), holds={"uint8": (3, 4)}),
    "avif": _of_pillow(suffixes=(".avif",), write=_writer("AVIF", quality=95), holds={"uint8": (3, 4)}),
    "bmp": _of_pillow(suffixes=(".bmp",), write=_writer("BMP"), holds={"uint8": (1, 3)}),
    "tiff": FileFormat(
        suffixes=(".tif", ".tiff"),
        read=tiff.read,
        write=tiff.write,
        holds=None,
        install="cyclegan[data]",
        install_reason="is a TIFF with more than 8 bits or 4 channels",
        probe=tiff.probe,
        size=tiff.size,
        open_regions=TiffReader.open,
        tiled_writer=TILED_TIFF,
    ),
    "npy": FileFormat(suffixes=(".npy",), read=npy.read, write=npy.write, holds=None, probe=npy.probe, size=npy.size),
    "dicom": FileFormat(
        suffixes=dicom.SUFFIXES,
        read=dicom.read,
        install="cyclegan[medical]",
        install_reason="is a DICOM file",
        probe=dicom.probe,
        size=dicom.size,
        list_pages=dicom.list_frames,
        read_page=dicom.read_frame,
        probe_page=dicom.probe_frame,
        pages_are_images=True,
    ),
    "volume": FileFormat(
        suffixes=nifti.SUFFIXES,
        read=nifti.read,
        install="cyclegan[medical]",
        install_reason="is a volume",
        list_pages=nifti.list_slices,
        list_slices=nifti.list_slices,
        read_page=nifti.read_slice,
        probe_page=nifti.probe_slice,
        pages_are_images=True,
    ),
}

# For files with other suffixes, which a user names explicitly.
_OTHER = _of_pillow(suffixes=())


def image_suffixes() -> tuple[str, ...]:
    """Suffixes of image files, lower case, with their dot. Files with others are not found in folders."""
    return tuple(suffix for file_format in FILE_FORMATS.values() for suffix in file_format.suffixes)


def file_format_of(path: Path | str) -> FileFormat:
    """The row for a file's suffix, or for the file of a page.

    For another suffix it is that of DICOM if the file's content says so, else one that reads what Pillow reads and
    writes nothing.
    """
    name = os.fspath(path).lower()  # a string, since there may be a million
    for file_format in FILE_FORMATS.values():
        if name.endswith(file_format.suffixes):
            return file_format
    file, page = (path, None) if "/" not in name and os.sep not in name else split_page(path)
    if page is None or is_zip(file):
        return FILE_FORMATS["dicom"] if page is None and dicom.is_dicom(path) else _OTHER
    return file_format_of(file)


def is_image_name(path: Path) -> bool:
    """Whether a file has the suffix of an image format."""
    return path.name.lower().endswith(image_suffixes())


def can_hold(suffix: str, channels: int, dtype: str) -> bool:
    """Whether files of this suffix keep images of these channels and this numpy type without loss of depth."""
    return file_format_of(f"x{suffix}").can_hold(channels, dtype)
