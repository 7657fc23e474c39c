"""The image file formats. A new format is one row of `FILE_FORMATS`; docs/extending.md has an example."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from cyclegan.images.filetypes import (
    dicom,
    geo,
    gif,
    heif,
    jpeg2000,
    jpegxl,
    nifti,
    npy,
    ome,
    pillow,
    pnm,
    sidecars,
    slides,
    tiff,
)
from cyclegan.images.filetypes.tiff_regions import TiffReader
from cyclegan.images.filetypes.tiled_tiff import TILED_TIFF
from cyclegan.images.formats import FileFormat, ImageFormat, Kept, Pages, Regions, Shortcuts
from cyclegan.images.pages import is_zip, split_page
from cyclegan.images.raster import Raster
from cyclegan.images.regions import RegionReader

_ALL: frozenset[Kept] = frozenset(("alpha", "profile", "resolution", "description", "exif", "place", "nodata"))
_ALPHA: frozenset[Kept] = frozenset(("alpha",))

# Formats that Pillow, or a plugin of it, reads.
_of_pillow = partial(
    FileFormat,
    read=pillow.read,
    probe=pillow.probe,
    shortcuts=Shortcuts(probe=pillow.quick_probe, size=pillow.size),
)

# The same for formats that may hold several pictures, such as the frames of an animation.
_pages_of_pillow = partial(_of_pillow, pages=Pages(read=pillow.read_page, probe=pillow.probe_page))

# PBM, PGM, PPM and PFM, which Pillow reads in part.
_pnm = partial(FileFormat, read=pnm.read, probe=pnm.probe, write=pnm.write)

_jpeg2000 = partial(
    FileFormat,
    read=partial(sidecars.with_place, jpeg2000.read),
    probe=jpeg2000.probe,
    holds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
    install="cyclegan[data]",
)


def _writer(format: str, **options: Any) -> Callable[[IO[bytes], Raster], None]:
    return partial(pillow.write, format=format, **options)


def _open_tiff(path: Path, image_format: ImageFormat) -> RegionReader | None:
    """A pyramid at the microns per pixel of the format, if it has such a scale; else one page."""
    if slides.has_scale(path, image_format):
        return slides.SlideReader.open(path, image_format)
    return TiffReader.open(path, image_format)


_tiff_regions = partial(
    Regions,
    open=_open_tiff,
    only=slides.has_scale,
    at_scale=slides.read_scaled,
    also_reads=sidecars.find_sidecars,
)

_of_tiff = partial(
    FileFormat,
    read=tiff.read,
    probe=tiff.probe,
    keeps=_ALL - {"exif"},
    shortcuts=Shortcuts(size=tiff.size),
    pages=Pages(read=tiff.read_page),
)

# JPEG, BMP and the like cannot keep transparency, WebP and AVIF have no grey.
FILE_FORMATS: dict[str, FileFormat] = {
    "jpeg": _of_pillow(
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
        write=_writer("JPEG", quality=95, subsampling=0),
        holds={"uint8": (1, 3)},
        keeps=_ALL - {"alpha", "place", "nodata"},
        has_quality=True,
        shortcuts=Shortcuts(probe=pillow.quick_probe, size=pillow.size, read_reduced=pillow.read),
    ),
    "png": _pages_of_pillow(
        suffixes=(".png", ".apng"),
        write=pillow.write_png,
        holds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
        fourth_is_alpha=True,
        keeps=_ALL - {"place", "nodata"},
        install="cyclegan[data]",
        install_reason="has 16-bit colour",
    ),
    **{
        name: _pages_of_pillow(
            suffixes=(f".{name}",),
            write=_writer(name.upper(), quality=95),
            holds={"uint8": (3, 4)},
            fourth_is_alpha=True,
            keeps=_ALPHA | {"profile", "exif"},
            has_quality=True,
        )
        for name in ("webp", "avif")
    },
    "bmp": _of_pillow(
        suffixes=(".bmp", ".dib"), write=_writer("BMP"), holds={"uint8": (1, 3)}, keeps=frozenset(("resolution",))
    ),
    # A GIF of grey is exact; 256 colours are too few for the translation of a picture.
    "gif": _pages_of_pillow(suffixes=(".gif",), write=gif.write, holds={"uint8": (1,)}, keeps=frozenset(("mask",))),
    "ome-tiff": _of_tiff(
        suffixes=ome.SUFFIXES,
        write=ome.write,
        holds=ome.HOLDS,
        install="cyclegan[data]",
        install_reason="is an OME-TIFF",
        regions=_tiff_regions(writer=ome.TILED_OME),
    ),
    "tiff": _of_tiff(
        suffixes=(".tif", ".tiff"),
        write=tiff.write,
        holds=None,
        install="cyclegan[data]",
        install_reason="is a TIFF with more than 8 bits or 4 channels",
        regions=_tiff_regions(writer=TILED_TIFF),
    ),
    "slide": FileFormat(
        suffixes=slides.SUFFIXES,
        read=slides.read,
        probe=slides.read,
        install="cyclegan[slides]",
        install_reason="is a whole slide",
        shortcuts=Shortcuts(size=slides.size),
        regions=Regions(open=slides.SlideReader.open, only=lambda _path, _format: True, written_as=ome.SUFFIXES[0]),
    ),
    # What GDAL reads beside TIFF: one image of many files, Erdas Imagine and ENVI, and heights of SRTM.
    "gdal": FileFormat(
        suffixes=(".vrt", ".img", ".hgt"),
        read=geo.read,
        probe=geo.probe,
        install="cyclegan[geo]",
        shortcuts=Shortcuts(size=geo.size),
        regions=Regions(open=geo.GeoReader.open, also_reads=geo.also_reads, written_as=".tif"),
    ),
    "ppm": _pnm(suffixes=(".ppm",), holds={"uint8": (3,), "uint16": (3,)}),
    "pgm": _pnm(suffixes=(".pgm",), holds={"uint8": (1,), "uint16": (1,)}),
    "pnm": _pnm(suffixes=(".pnm",), holds={"uint8": (1, 3), "uint16": (1, 3)}),
    "pfm": _pnm(suffixes=(".pfm",), holds={"float32": (1, 3)}),
    "tga": _of_pillow(
        suffixes=(".tga",), write=_writer("TGA"), holds={"uint8": (1, 3, 4)}, fourth_is_alpha=True, keeps=_ALPHA
    ),
    "jp2": _jpeg2000(suffixes=(".jp2", ".jpx", ".jpf"), write=jpeg2000.write_jp2, keeps=_ALPHA | {"place"}),
    "j2k": _jpeg2000(suffixes=(".j2k", ".j2c", ".jpc"), write=jpeg2000.write_j2k, keeps=_ALPHA),
    "jxl": FileFormat(
        suffixes=(".jxl",),
        read=jpegxl.read,
        write=jpegxl.write,
        holds={"uint8": (1, 3, 4), "uint16": (1, 3, 4), "float32": (1, 3, 4)},
        fourth_is_alpha=True,
        keeps=_ALPHA,
        install="cyclegan[data]",
        shortcuts=Shortcuts(size=jpegxl.size),
        pages=Pages(read=jpegxl.read_page),
    ),
    "heif": FileFormat(
        suffixes=(".heic", ".heif", ".hif"),
        read=heif.read,
        probe=heif.probe,
        pages=Pages(read=heif.read_page, probe=heif.probe_page),
        write=heif.write,
        holds={"uint8": (1, 3, 4)},
        fourth_is_alpha=True,
        keeps=_ALPHA | {"profile", "exif"},
        install="cyclegan[data]",
    ),
    "jxr": FileFormat(
        suffixes=(".jxr", ".wdp", ".hdp"),
        read=jpegxl.read_jxr,
        install="cyclegan[data]",
        shortcuts=Shortcuts(size=jpegxl.jxr_size),
    ),
    # Read only: they have few colours, one purpose, or no writer. A translation of them is a PNG.
    "others": _pages_of_pillow(suffixes=(".pbm", ".mpo", ".ico", ".icns", ".dds", ".pcx", ".sgi", ".xpm")),
    "dicom": FileFormat(
        suffixes=dicom.SUFFIXES,
        read=dicom.read,
        probe=dicom.probe,
        install="cyclegan[medical]",
        install_reason="is a DICOM file",
        shortcuts=Shortcuts(size=dicom.size),
        pages=Pages(read=dicom.read_frame, probe=dicom.probe_frame, names=dicom.list_frames, in_patient=True),
    ),
    "volume": FileFormat(
        suffixes=nifti.SUFFIXES,
        read=nifti.read,
        install="cyclegan[medical]",
        install_reason="is a volume",
        pages=Pages(read=nifti.read_slice, probe=nifti.probe_slice, names=nifti.list_slices, in_patient=True),
    ),
    "npy": FileFormat(suffixes=(".npy",), read=npy.read, probe=npy.probe, write=npy.write, holds=None),
}

# For files with other suffixes, which a user names explicitly.
_OTHER = _pages_of_pillow(suffixes=())


def image_suffixes() -> tuple[str, ...]:
    """Suffixes of image files, lower case, with their dot. Files with others are not found in folders."""
    return tuple(dict.fromkeys(suffix for file_format in FILE_FORMATS.values() for suffix in file_format.suffixes))


def file_format_of(path: Path | str) -> FileFormat:
    """The row for a file's suffix, or for the file of a page.

    For another suffix it is that of DICOM if the file's content says so, else one that reads what Pillow reads and
    writes nothing. Whole slides in DICOM are slides.
    """
    name = os.fspath(path).lower()  # a string, since there may be a million
    for file_format in FILE_FORMATS.values():
        if name.endswith(file_format.suffixes):
            # Medicine and the earth sciences have a kind of file each under this suffix.
            if name.endswith(".img") and nifti.is_pair(Path(path)):
                return FILE_FORMATS["volume"]
            is_slide = file_format.suffixes is dicom.SUFFIXES and dicom.is_slide(path)
            return FILE_FORMATS["slide"] if is_slide else file_format
    file, page = split_page(path) if "/" in name or os.sep in name else (Path(path), None)
    if page is not None and not is_zip(file):
        return file_format_of(file)
    if not dicom.is_dicom(path):
        return _OTHER
    return FILE_FORMATS["slide" if dicom.is_slide(path) else "dicom"]


def is_image_name(path: Path) -> bool:
    """Whether a file has the suffix of an image format."""
    return path.name.lower().endswith(image_suffixes())


def can_hold(suffix: str, channels: int, dtype: str, alpha: bool | None = None) -> bool:
    """Whether files of this suffix keep such images without loss of depth; see `FileFormat.can_hold`."""
    return file_format_of(f"x{suffix}").can_hold(channels, dtype, alpha)
