"""Look at one image file: what is kept of it for the summary of its folder."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan.config import Reading
from cyclegan.images import Array
from cyclegan.images.codecs import load_raster, probe_image
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.formats import Header, gives_channels
from cyclegan.images.identical import file_bytes
from cyclegan.images.limits import without_pixel_limit
from cyclegan.images.pages import local_file
from cyclegan.images.places import Place, find_place
from cyclegan.images.raster import Mask, Raster, is_air
from cyclegan.images.resizing import resize_mask
from cyclegan.images.thumbnails import THUMBNAIL, make_thumbnail, three_channels

# Samples of all channels that are kept of an image with more or fewer than three.
_MOST_SAMPLES = 2048

# Rows of FILE_FORMATS that Pillow names by their content, and the names of files that it does not open.
_PILLOWS = {
    **dict.fromkeys(("tiff", "ome-tiff"), "TIFF"),
    **dict.fromkeys(("jp2", "j2k"), "JPEG2000"),
    **dict.fromkeys(("ppm", "pgm", "pnm"), "PPM"),
    **{name: name.upper() for name in ("jpeg", "png", "webp", "avif", "bmp", "gif", "tga")},
    "others": "unknown",
}

# Rows that hold more than one format, which the suffix names.
_FAMILIES = ("volume", "slide", "gdal")


@dataclass(frozen=True, slots=True)
class SeenFile:
    """Data kept of one file. thumbnail, samples: (16, 16, 3) in the file's own values.

    values: samples of all channels, without holes, of an image whose channels `samples` does not all hold.
    valid: (2, 16, 16), False where the thumbnail and the samples lie in holes, with `hole_share` of all pixels;
    `marked_by`: what marks these. low, high: infinite if no pixel has a value.
    """

    file: Path
    num_bytes: int
    width: int
    height: int
    dtype: str
    kind: str
    format: str
    deep_channels: int | None
    digest: bytes
    thumbnail: Array
    samples: Array
    low: float
    high: float
    values: Array | None = None
    valid: Mask | None = None
    hole_share: float = 0.0
    marked_by: str = ""
    place: Place | None = None


def look_at_file(path: Path, root: Path, reading: Reading, channels: int) -> SeenFile:
    """Decode a file, and keep what the summary of its folder needs. Raises errors as `load_raster` does."""
    raster, header = load(path, reading, channels)
    dtype, array, valid = header.dtype, raster.values, raster.valid
    deep_channels = None if header.channels is None and reading.bands is None else array.shape[2]
    file_format, mode = _name_format(path)
    mode = mode or {1: "L", 3: "RGB", 4: "RGBA"}.get(array.shape[2] + (raster.alpha is not None), "picture")
    height, width = array.shape[:2]
    # With the shape: the same bytes in another shape are another image.
    digest = hashlib.blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    if valid is not None:
        digest.update(np.ascontiguousarray(valid).data)
    rows, columns = ((np.arange(THUMBNAIL) + 0.5) * side / THUMBNAIL for side in (height, width))
    places = rows.astype(int)[:, None], columns.astype(int)
    visible, counted = three_channels(array), array if valid is None else array[valid]
    low, high = 0.0, 255.0
    if dtype != "uint8":
        low, high = (float(counted.min()), float(counted.max())) if counted.size else (np.inf, -np.inf)
    seen = SeenFile(
        file=path.relative_to(root),
        num_bytes=file_bytes(path) or 0,
        width=width,
        height=height,
        dtype=dtype,
        kind=f"{mode} 8-bit" if deep_channels is None else f"{dtype} {deep_channels}-channel",
        format=file_format,
        deep_channels=deep_channels,
        digest=b"" if is_air(raster) else digest.digest(),
        thumbnail=make_thumbnail(visible),
        samples=visible[places].copy(),
        low=low,
        high=high,
        values=_all_channels(array[places], None if valid is None else valid[places]) if dtype != "uint8" else None,
        place=find_place(path),
    )
    if valid is None:
        return seen
    return replace(
        seen,
        valid=np.stack([resize_mask(valid, THUMBNAIL, THUMBNAIL), valid[places]]),
        hole_share=1 - float(valid.mean()),
        marked_by=_marked_by(raster),
    )


def _all_channels(samples: Array, valid: Mask | None) -> Array | None:
    """Some of these samples, (16, 16, C), in all channels and without holes; None where three channels are all."""
    channels = samples.shape[2]
    if channels in (1, 3):
        return None
    kept = np.linspace(0, THUMBNAIL**2 - 1, min(THUMBNAIL**2, max(1, _MOST_SAMPLES // channels))).astype(int)
    values: Array = samples.reshape(-1, channels)[kept]
    if valid is not None:
        values = values[valid.ravel()[kept]]
    return values


def sampled(image: SeenFile) -> Array:
    """Values of an image, of all its channels and without holes."""
    if image.values is not None:
        return image.values.ravel()
    return (image.samples if image.valid is None else image.samples[image.valid[1]]).ravel()


def load(path: Path, reading: Reading, channels: int) -> tuple[Raster, Header]:
    """An image as training reads it, or with its own channels if it cannot give these; and its header."""
    header = probe_image(path, reading.page)
    if reading.bands is not None:
        channels = len(reading.band_names)
    elif not gives_channels(header.channels, header.has_alpha, channels):
        channels = 3 if header.channels is None else header.channels - header.has_alpha
    return load_raster(path, channels, reading), header


def _marked_by(raster: Raster) -> str:
    nodata = raster.metadata.nodata
    if nodata is not None and not np.isnan(nodata):
        replaced = raster.metadata.replaced_nodata
        return f"no data {nodata:.9g}" + ("" if replaced is None else f" instead of {replaced:.9g}")
    if raster.alpha is not None:
        return "transparent pixels"
    return "NaN" if raster.values.dtype.kind == "f" else "a mask"


def _name_format(path: Path) -> tuple[str, str]:
    """Name of the format of a file and mode of its pixels; the mode is empty if Pillow does not read it."""
    with local_file(path) as (file, _):
        row = file_format_of(file)
        name = next((name for name, found in FILE_FORMATS.items() if found is row), "others")
        if name in _PILLOWS:
            with suppress(OSError), without_pixel_limit(), Image.open(file) as picture:
                return picture.format or _PILLOWS[name], picture.mode
            return _PILLOWS[name], ""
    if name in _FAMILIES:
        suffix = next((suffix for suffix in row.suffixes if file.name.lower().endswith(suffix)), name)
        return suffix.removeprefix(".").upper(), ""
    return name.upper(), ""
