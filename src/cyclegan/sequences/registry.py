"""The formats with several pictures in one file. A new format is one row of `SEQUENCE_FORMATS`."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.filetypes import dicom, heif, jpegxl, nifti
from cyclegan.images.formats import Kept
from cyclegan.images.limits import without_pixel_limit
from cyclegan.images.pages import local_file
from cyclegan.sequences import animation_writers, animations, dicom_files, stacks, volumes
from cyclegan.sequences.formats import SequenceFormat

_animation = partial(
    SequenceFormat,
    kind="animation",
    is_sequence=animations.is_animation,
    read=animations.read_animation,
    holds={"uint8": (1, 3, 4)},
)

_OF_PICTURES: frozenset[Kept] = frozenset(("alpha", "profile", "exif"))

_volume = partial(
    SequenceFormat,
    kind="volume",
    is_sequence=volumes.is_volume,
    is_picture=volumes.is_one_slice,
    read=volumes.read_volume,
    write=volumes.write_volume,
    keeps=frozenset(("nodata", "patient")),
    install="cyclegan[medical]",
)
_dicom = partial(
    SequenceFormat,
    read=dicom_files.read_dicom,
    write=dicom_files.write_dicom,
    keeps=frozenset(("nodata", "patient")),
    install="cyclegan[medical]",
)

SEQUENCE_FORMATS: dict[str, SequenceFormat] = {
    "gif": _animation(suffixes=(".gif",), write=animation_writers.write_gif, keeps=frozenset(("mask",))),
    "webp": _animation(suffixes=(".webp",), write=animation_writers.write_webp, keeps=_OF_PICTURES),
    "apng": _animation(
        suffixes=(".png", ".apng"),
        write=animation_writers.write_png,
        keeps=_OF_PICTURES | {"resolution", "description"},
    ),
    "avif": _animation(suffixes=(".avif",), write=animation_writers.write_avif, keeps=_OF_PICTURES),
    # Their frames are not read; without these rows such a file would silently be its first picture.
    **{
        name: SequenceFormat(
            kind="animation",
            suffixes=FILE_FORMATS[name].suffixes,
            is_sequence=is_animation,
            read=animations.refuse_animation,
        )
        for name, is_animation in (("heif", heif.is_animation), ("jxl", jpegxl.is_animation))
    },
    "tiff": SequenceFormat(
        kind="stack",
        suffixes=(".tif", ".tiff"),
        is_sequence=stacks.is_stack,
        read=stacks.read_stack,
        write=stacks.write_stack,
        keeps=_OF_PICTURES - {"exif"} | {"resolution", "description", "place", "nodata"},
        on_request=True,
        install="cyclegan[data]",
    ),
    "nifti": _volume(
        suffixes=nifti.NIFTI_SUFFIXES, holds={**dict.fromkeys(nifti.NIFTI_TYPES, (1,)), "uint8": (1, 3, 4)}
    ),
    "mgh": _volume(suffixes=nifti.MGH_SUFFIXES, holds=dict.fromkeys(nifti.MGH_TYPES, (1,))),
    "dicom": _dicom(
        kind="DICOM file",
        suffixes=dicom.SUFFIXES,
        is_sequence=dicom_files.is_dicom_image,
        is_picture=dicom_files.is_one_frame,
    ),
    "dicom-series": _dicom(
        kind="DICOM series",
        suffixes=(),
        is_sequence=dicom_files.is_dicom_folder,
        is_folder=True,
        is_written=dicom_files.is_written,
    ),
}


def sequence_suffixes() -> tuple[str, ...]:
    """Suffixes of all files that may hold a sequence, lower case, with their dot."""
    return tuple(suffix for row in SEQUENCE_FORMATS.values() for suffix in row.suffixes)


def format_by_name(path: Path | str, *, all_pages: bool = True) -> SequenceFormat | None:
    """The row for a file's suffix, whatever else the file holds. all_pages: rows that need a request count, too."""
    name = os.fspath(path).lower()  # a string, since there may be a million
    for row in SEQUENCE_FORMATS.values():
        if name.endswith(row.suffixes) and not row.is_folder and (all_pages or not row.on_request):
            return row
    # DICOM files need no suffix.
    return SEQUENCE_FORMATS["dicom"] if file_format_of(path) is FILE_FORMATS["dicom"] else None


def find_sequence(path: Path | str, *, all_pages: bool = False) -> SequenceFormat | None:
    """The format of a file or folder that holds a sequence; None for an image, a page, and what cannot be read.

    A file in a zip counts as the file itself.
    all_pages: whether the user asks for all pages of files that are images otherwise, such as TIFFs.
    """
    if os.path.isdir(path):  # noqa: PTH112
        rows = [row for row in SEQUENCE_FORMATS.values() if row.is_folder]
    else:
        row = format_by_name(path, all_pages=all_pages)
        rows = [row] if row is not None else []
    for row in rows:
        # Decoders raise errors of many kinds; reading the file reports them.
        with suppress(Exception), without_pixel_limit(), local_file(Path(path)) as (file, page):
            if page is None and row.is_sequence(file):
                return row
    return None
