"""The formats that Pillow reads and writes: JPEG, PNG, WebP, AVIF, BMP, and others to read."""

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageColor, ImageFile, PngImagePlugin

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.colour import is_srgb, mode_of, to_srgb
from cyclegan.images.filetypes.quick_headers import quick_size
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.holes import fill_holes
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster

# Modes with at most 8 bits a channel, which convert among each other: see `raster_of`.
EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What fills a picture that is transparent everywhere.
_MIDDLE = 127

# Names under which PNG and GIF keep a description.
_DESCRIPTIONS = ("Description", "description", "comment", "Comment")


def read(path: Path, min_side: int = 0) -> Decoded:
    """An 8-bit picture, or 16-bit grey, 16-bit colour, 32-bit integers or floats.

    min_side: if given, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while its sides have at least so many pixels.
    """
    with Image.open(path) as picture:
        if min_side:
            picture.draft(None, (min_side, min_side))
        check_pixels(picture.height, picture.width, 4)
        if not _is_deep(path, picture):
            return _load(picture)
        mode, is_png = picture.mode, picture.format == "PNG"
        metadata, orientation = metadata_of(picture), orientation_of(picture.getexif)
        if mode.startswith("I;16") or mode in ("I", "F"):
            array = np.asarray(picture)
            if is_png and array.dtype != np.uint16:  # 16-bit grey, widened by some releases of Pillow
                array = array.astype(np.uint16)
            return Raster(upright(array[..., None], orientation), metadata=metadata)
    import imagecodecs

    array = imagecodecs.imread(path)
    array = upright(array if array.ndim == 3 else array[..., None], orientation)
    has_alpha = array.shape[2] in (2, 4)
    return Raster(array, metadata=replace(metadata, extra_samples=(2,)) if has_alpha else metadata)


def probe(path: Path) -> Header | None:
    """The header of an 8-bit picture; None for a file with more depth."""
    with Image.open(path) as picture:
        if _is_deep(path, picture):
            return None
        width, height = picture.size
        # EXIF orientations 5 to 8 swap height and width; of a TIFF Pillow has swapped them already. The base class does
        # not decode a whole PNG to look for them.
        if picture.format != "TIFF" and orientation_of(partial(Image.Image.getexif, picture)) >= 5:
            width, height = height, width
        return Header(height, width, "uint8", None)


def quick_probe(path: str) -> Header | None:
    """The header of a plain JPEG or PNG without Pillow, by its content; None for everything else."""
    found = quick_size(path)
    if found is None:
        return None
    height, width, orientation = found
    return Header(width, height, "uint8", None) if orientation >= 5 else Header(height, width, "uint8", None)


def size(path: str) -> tuple[int, int]:
    """Height and width as they are stored."""
    quick = quick_size(path)
    if quick is not None:
        return quick[:2]
    with Image.open(path) as picture:
        return picture.height, picture.width


def upright(array: Array, orientation: int) -> Array:
    """(H, W, C) as it is to be seen, by the orientation of EXIF and TIFF, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


# ---- from a picture to values


def raster_of(picture: Image.Image, channels: int, background: str | None = None) -> Raster:
    """An 8-bit Pillow image of any mode as uint8 with 1, 3 or 4 channels, upright and in sRGB.

    Grey is repeated, colour becomes luma, palettes and CMYK become RGB. Transparency becomes alpha, unless `channels`
    is 4 or a background is given. Raises InputError for a mode with more than 8 bits, whose values would be lost.
    """
    if picture.mode not in EIGHT_BIT_MODES:
        raise InputError(
            f"The image has mode {picture.mode}, which is not 8-bit; pass it as an array (H, W, channels)."
        )
    metadata = metadata_of(picture)
    picture = _turned(picture)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return _raster_of_transparent(picture, channels, background, metadata)
    picture, metadata = _in_srgb(picture, metadata)
    array = np.asarray(picture.convert("L" if channels == 1 else "RGB" if channels == 3 else "RGBA"))
    return Raster(array if array.ndim == 3 else array[..., None], metadata=metadata)


def _raster_of_transparent(picture: Image.Image, channels: int, background: str | None, metadata: Metadata) -> Raster:
    # A grey profile describes grey pictures.
    is_grey = picture.mode in ("LA", "La")
    picture = picture.convert("LA" if is_grey else "RGBA")
    transparency = picture.getchannel("A")
    colours, metadata = _in_srgb(picture.convert("L" if is_grey else "RGB"), metadata)
    if channels == 4 or background is not None:
        picture = colours.convert("RGB")
        picture.putalpha(transparency)
        if background is not None:
            behind = Image.new("RGBA", picture.size, ImageColor.getcolor(background, "RGBA"))
            picture = Image.alpha_composite(behind, picture)
        if channels == 4:
            return Raster(np.asarray(picture), metadata=metadata)
        colours = picture.convert("RGB")
    array = np.asarray(colours.convert("L" if channels == 1 else "RGB"))
    array = array if array.ndim == 3 else array[..., None]
    if background is not None:
        return Raster(array, metadata=metadata)
    alpha = np.asarray(transparency)
    is_seen = alpha > 0
    if is_seen.all():
        return Raster(array, alpha, metadata=metadata)
    return Raster(fill_holes(array, is_seen, _MIDDLE), alpha, is_seen, metadata)


def _in_srgb(picture: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """The picture in sRGB, if it has a profile of another colour space."""
    profile = metadata.profile
    if profile is None or is_srgb(profile):
        return picture, metadata
    mode = mode_of(profile)
    if mode == "RGB" and picture.mode in ("P", "RGBX"):
        picture = picture.convert("RGB")
    converted = to_srgb(picture, profile)
    return (picture, metadata) if converted is None else (converted, replace(metadata, is_srgb=True))


def _turned(picture: Image.Image) -> Image.Image:
    """The picture upright.

    `exif_transpose` of Pillow does more: it encodes the EXIF data again, which fails for odd tags.
    """
    turn = _TURNS.get(orientation_of(picture.getexif))
    return picture if turn is None else picture.transpose(turn)


def orientation_of(read_exif: Callable[[], Image.Exif]) -> int:
    """The orientation, 1 to 8; 1 if the EXIF data are damaged, which is no reason to refuse a picture."""
    try:
        orientation = read_exif().get(_ORIENTATION, 1)
    except Exception:  # of many kinds
        return 1
    return orientation if orientation in _TURNS else 1


def from_pillow(picture: Image.Image, channels: int) -> Array:
    """The values of `raster_of`, (H, W, channels)."""
    return raster_of(picture, channels).values


def metadata_of(picture: Image.Image) -> Metadata:
    """What a picture says about itself."""
    info = picture.info
    description = next((info[name] for name in _DESCRIPTIONS if info.get(name)), None)
    if isinstance(description, bytes):
        description = description.decode("utf-8", "replace")
    resolution = None
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        across, down = (float(value) for value in info.get("dpi") or ())
        resolution = (across, down) if across > 0 and down > 0 else None
    exif = info.get("exif")
    return Metadata(
        profile=info.get("icc_profile") or None,
        resolution=resolution,
        description=description if isinstance(description, str) else None,
        exif=exif if isinstance(exif, bytes) else None,
    )


# ---- writing


def write(file: IO[bytes], raster: Raster, *, format: str, **options: Any) -> None:
    """Write 8-bit values with 1, 3 or 4 channels, and what the format keeps of the rest."""
    to_pillow(with_alpha(raster)).save(file, format, **options, **options_of(raster.metadata, format))


def write_png(file: IO[bytes], raster: Raster) -> None:
    """Write 8 or 16 bits with 1, 3 or 4 channels, and transparency. 16-bit colour needs imagecodecs."""
    array = with_alpha(raster)
    if array.dtype == np.uint8 or array.shape[2] == 1:
        write(file, raster, format="PNG")
        return
    import imagecodecs

    file.write(_with_chunks(bytes(imagecodecs.png_encode(array)), raster.metadata))


def with_alpha(raster: Raster) -> Array:
    """(H, W, C), or (H, W, C + 1) with alpha last."""
    if raster.alpha is None:
        return raster.values
    return np.concatenate([raster.values, raster.alpha[..., None]], axis=2)


def to_pillow(array: Array) -> Image.Image:
    """An array (H, W, C) of 8 bits with 1 to 4 channels, or of 16 bits with one, as a Pillow image."""
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def clean_exif(exif: bytes) -> bytes | None:
    """EXIF without orientation and thumbnail, which are not true of the translation; None if it is damaged or empty."""
    parsed = Image.Exif()
    try:
        parsed.load(exif)
        parsed.pop(_ORIENTATION, None)
        return parsed.tobytes() if len(parsed) else None
    except Exception:  # damaged EXIF raises errors of every kind
        return None


def options_of(metadata: Metadata, format: str) -> dict[str, Any]:
    """The options with which Pillow keeps the metadata in a format."""
    options: dict[str, Any] = {}
    if metadata.profile is not None and format in ("JPEG", "PNG", "WEBP", "AVIF"):
        options["icc_profile"] = metadata.profile
    if metadata.resolution is not None and format in ("JPEG", "PNG", "BMP"):
        across, down = metadata.resolution
        # JPEG and BMP keep whole numbers below 2^16.
        options["dpi"] = (
            (across, down) if format == "PNG" else tuple(min(round(part), 65535) for part in (across, down))
        )
    if metadata.exif is not None and format in ("JPEG", "PNG", "WEBP", "AVIF"):
        exif = clean_exif(metadata.exif)
        if exif is not None and not (format == "JPEG" and len(exif) > 65533):
            options["exif"] = exif
    if metadata.description is not None and format == "JPEG":
        options["comment"] = metadata.description.encode()[:65533]
    if metadata.description is not None and format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("Description", metadata.description)
    return options


def _with_chunks(png: bytes, metadata: Metadata) -> bytes:
    """A PNG file with the chunks of its metadata, which stand behind the header (33 bytes)."""
    chunks = b""
    if metadata.profile is not None:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.profile))
    if metadata.resolution is not None:
        across, down = (min(round(part / 0.0254), 2**31 - 1) for part in metadata.resolution)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif is not None and (exif := clean_exif(metadata.exif)) is not None:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if metadata.description is not None:
        chunks += _chunk(b"iTXt", b"Description\0\0\0\0\0" + metadata.description.encode())
    return png[:33] + chunks + png[33:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _load(picture: ImageFile.ImageFile | Image.Image) -> Image.Image:
    picture.load()
    return picture.copy() if getattr(picture, "fp", None) is None else picture


def _is_deep(path: Path, picture: ImageFile.ImageFile) -> bool:
    """Whether a file holds more than Pillow returns as 8 bits."""
    if picture.mode not in EIGHT_BIT_MODES:
        return True
    if picture.format == "PNG":
        # Pillow silently drops the low byte of 16-bit colour. Byte 24 of a PNG is its bit depth.
        with path.open("rb") as file:
            return file.read(25)[24] == 16
    return False
