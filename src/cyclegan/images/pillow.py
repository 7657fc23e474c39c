"""The formats that Pillow reads and writes: JPEG, PNG, WebP, AVIF, BMP, and others to read."""

from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.quick_headers import quick_size

# Modes with at most 8 bits a channel, which convert among each other: see `codecs.read_image`.
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read(path: Path, min_side: int = 0) -> Decoded:
    """An 8-bit picture, or an array of 16-bit grey, 16-bit colour, 32-bit integers or floats.

    min_side: if given, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while its sides have at least so many pixels.
    """
    with Image.open(path) as picture:
        if min_side:
            picture.draft(None, (min_side, min_side))
        if not _is_deep(path, picture):
            return _load(picture)
        mode, is_png = picture.mode, picture.format == "PNG"
        if mode.startswith("I;16") or mode in ("I", "F"):
            array = np.asarray(picture)
            if is_png and array.dtype != np.uint16:  # 16-bit grey, widened by some releases of Pillow
                array = array.astype(np.uint16)
            return array
    import imagecodecs

    return imagecodecs.imread(path)


def read_eight_bit(path: Path) -> Image.Image | None:
    """An 8-bit picture, or None for a file with more depth or channels, or more pages, than Pillow returns."""
    with Image.open(path) as picture:
        return None if _is_deep(path, picture) else _load(picture)


def probe(path: Path) -> Header | None:
    """The header of an 8-bit picture; None for a file with more depth."""
    with Image.open(path) as picture:
        if _is_deep(path, picture):
            return None
        width, height = picture.size
        # EXIF orientations 5 to 8 swap height and width; of a TIFF Pillow has swapped them already. The base class does
        # not decode a whole PNG to look for them.
        if picture.format != "TIFF" and Image.Image.getexif(picture).get(0x0112, 1) >= 5:
            width, height = height, width
        return Header(height, width, "uint8", None)


def quick_probe(path: str) -> Header | None:
    """The header of a plain JPEG or PNG without Pillow, by its content; None for everything else."""
    size = quick_size(path)
    return None if size is None else Header(*size, "uint8", None)


def size(path: str) -> tuple[int, int]:
    """Height and width as they are stored."""
    quick = quick_size(path)
    if quick is not None:
        return quick
    with Image.open(path) as picture:
        return picture.height, picture.width


def write(file: IO[bytes], array: Array, *, format: str, **options: Any) -> None:
    """Write an 8-bit array (H, W, 1, 3 or 4)."""
    to_pillow(array).save(file, format, **options)


def write_png(file: IO[bytes], array: Array) -> None:
    """Write 8 or 16 bits, (H, W, 1, 3 or 4). 16-bit colour needs imagecodecs."""
    if array.dtype == np.uint8 or array.shape[2] == 1:
        to_pillow(array).save(file, "PNG")
        return
    import imagecodecs

    file.write(imagecodecs.png_encode(array))


def to_pillow(array: Array) -> Image.Image:
    """An array (H, W, C) of 8 bits with 1, 3 or 4 channels, or of 16 bits with one, as a Pillow image."""
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pillow(picture: Image.Image, channels: int) -> Array:
    """An 8-bit Pillow image of any mode, upright, as uint8 (H, W, channels) with 1, 3 or 4 channels.

    Grey is repeated, colour becomes luma, palettes and CMYK become RGB, transparent pixels are composited on white
    unless `channels` is 4. Raises InputError for a mode with more than 8 bits, whose values would be lost.
    """
    if picture.mode not in _EIGHT_BIT_MODES:
        raise InputError(
            f"The image has mode {picture.mode}, which is not 8-bit; pass it as an array (H, W, channels)."
        )
    picture = ImageOps.exif_transpose(picture)
    transparent = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if channels == 4:
        picture = picture.convert("RGBA")
    else:
        if transparent:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB" if channels == 3 else "L")
    array = np.asarray(picture)
    return array if array.ndim == 3 else array[..., None]


def _load(picture: ImageFile.ImageFile) -> Image.Image:
    picture.load()
    return picture.copy() if picture.fp is None else picture


def _is_deep(path: Path, picture: ImageFile.ImageFile) -> bool:
    """Whether a file holds more than Pillow returns."""
    if picture.mode not in _EIGHT_BIT_MODES:
        return True
    if picture.format == "PNG":
        # Pillow silently drops the low byte of 16-bit colour. Byte 24 of a PNG is its bit depth.
        with path.open("rb") as file:
            return file.read(25)[24] == 16
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        bits, pages = tags.get(258, (1,)), getattr(picture, "n_frames", 1)
        return any(b > 8 for b in bits) or len(bits) > 4 or pages > 1
    return False
