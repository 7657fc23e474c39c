"""HEIF and HEIC, the photos of phones, by pillow-heif, without its plugin, which would change Pillow for the host."""

from pathlib import Path
from typing import IO, Any

import numpy as np

from cyclegan.images.filetypes import pillow
from cyclegan.images.filetypes.boxes import walk_boxes
from cyclegan.images.formats import Decoded, Header, check_page
from cyclegan.images.limits import check_pixels
from cyclegan.images.named_colours import named_profile
from cyclegan.images.raster import Metadata, Raster


def _open(path: Path | str) -> Any:
    import pillow_heif

    # Files with 10 and 12 bits come as 16 bits.
    return pillow_heif.open_heif(path, convert_hdr_to_8bit=False)


def read(path: Path) -> Decoded:
    """The main picture of a file, upright; with more than 8 bits an array of 16."""
    return _read(_open(path))


def read_page(path: Path, page: str) -> Decoded:
    """One picture of a file, counted from 1. Raises InputError if there is none of this number."""
    return _read(_page_of(path, page))


def is_animation(path: Path) -> bool:
    """Whether a file has a track of frames, beside its pictures or without any (ISO/IEC 23008-12, 7)."""
    with path.open("rb") as file:
        return any(box.kind == b"moov" for box in walk_boxes(file))


def _page_of(path: Path, page: str) -> Any:
    found = _open(path)
    return found[check_page(path, page, len(found)) - 1]


def _read(found: Any) -> Decoded:
    width, height = found.size
    is_deep = found.mode.endswith(";16")
    check_pixels(height, width, (2 if is_deep else 1) * 4)
    if not is_deep:
        picture = found.to_pillow()
        if (picture.info.get("original_orientation") or 1) >= 5:  # which is all that was changed of the EXIF data
            metadata = Metadata(exif=found.info["exif"], profile=picture.info.get("icc_profile") or b"unknown")
            picture.info["exif"] = pillow.clean_exif(metadata)
        return picture  # type: ignore[no-any-return]
    array = np.asarray(found)
    metadata = Metadata(
        profile=found.info.get("icc_profile") or named_profile(found.info, is_grey=found.mode.startswith("L")),
        exif=found.info.get("exif") or None,
        extra_samples=(2,) if found.has_alpha else None,
    )
    return Raster(array if array.ndim == 3 else array[..., None], metadata=metadata)


def probe(path: Path) -> Header:
    return _probe(_open(path))


def probe_page(path: Path, page: str) -> Header:
    """The header of one picture of a file. Raises InputError if there is none of this number."""
    return _probe(_page_of(path, page))


def _probe(found: Any) -> Header:
    width, height = found.size
    if not found.mode.endswith(";16"):
        return Header(height, width, "uint8", None)
    channels = {"L;16": 1, "LA;16": 2, "RGB;16": 3, "RGBA;16": 4}[found.mode]
    return Header(height, width, "uint16", channels, found.has_alpha)


def write(file: IO[bytes], raster: Raster) -> None:
    """Write 8-bit RGB, with transparency and profile, at the quality of our JPEGs."""
    import pillow_heif

    picture = pillow.to_pillow(pillow.with_alpha(raster))
    metadata = raster.metadata
    if metadata.profile is not None:
        picture.info["icc_profile"] = metadata.profile
    if (exif := pillow.clean_exif(metadata)) is not None:
        picture.info["exif"] = exif
    pillow_heif.from_pillow(picture).save(file, quality=95, chroma=444)
