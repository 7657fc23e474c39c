"""The formats that Pillow reads and writes: JPEG, PNG, WebP, AVIF, BMP, and others to read."""

import struct
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageFile, PngImagePlugin

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.colour import can_convert, to_srgb
from cyclegan.images.filetypes import png
from cyclegan.images.filetypes.quick_headers import quick_size
from cyclegan.images.formats import Decoded, Header, check_page
from cyclegan.images.holes import fill_holes
from cyclegan.images.limits import check_pixels
from cyclegan.images.named_colours import named_profile
from cyclegan.images.raster import Metadata, Raster

# Modes with at most 8 bits a channel, which convert among each other: see `raster_of`.
EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B")

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

# Orientations of images whose rows and columns are swapped in the file.
_ON_ITS_SIDE = (5, 6, 7, 8)

# Modes of pictures that a profile of another mode describes.
_SAME_COLOURS = {"1": "L", "P": "RGB", "RGBX": "RGB"}

# Bytes in which the properties of an AVIF stand.
_NEAR = 4096

# What fills a picture that is transparent everywhere.
_MIDDLE = 127

# Names under which PNG and GIF keep a description.
_DESCRIPTIONS = ("Description", "description", "comment", "Comment")


def read(path: Path, min_side: int = 0) -> Decoded:
    """An 8-bit picture, or 16-bit grey, 16-bit colour, 32-bit integers or floats.

    min_side: if given, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while its sides have at least so many pixels.
    """
    return _read(path, None, min_side)


def read_page(path: Path, page: str) -> Decoded:
    """One picture of a file, counted from 1, such as a frame of an animation, composited. Raises InputError."""
    return _read(path, page)


def _read(path: Path, page: str | None, min_side: int = 0) -> Decoded:
    with Image.open(path) as picture:
        if min_side:
            picture.draft(None, (min_side, min_side))
        check_pixels(picture.height, picture.width, 4)
        bits = find_depth(path, picture)
        if page is not None:
            _seek(path, picture, page)
            if bits > 8 and getattr(picture, "n_frames", 1) > 1:
                raise InputError(f"{path} is an animation of 16 bits, which is not read; convert it to 8 bits.")
        if bits <= 8:
            picture.load()
            png.scale_transparency(picture, bits)
            return picture.copy() if getattr(picture, "fp", None) is None else picture
        orientation = orientation_of(picture.getexif)
        metadata = metadata_of(picture, orientation)
        if picture.format == "PNG":
            found = png.read_deep(path, picture, metadata)
            return replace(found, values=upright(found.values, orientation))
        return Raster(upright(np.asarray(picture)[..., None], orientation), metadata=metadata)


def _seek(path: Path, picture: ImageFile.ImageFile, page: str) -> None:
    """Go to a page. The still picture that an APNG shows instead of its animation is not one of its pages."""
    first = int(bool(picture.info.get("default_image")))
    count = int(getattr(picture, "n_frames", 1)) - first
    picture.seek(first + check_page(path, page, count) - 1)


def probe(path: Path) -> Header | None:
    """The header of an 8-bit picture; None for a file with more depth."""
    return _probe(path, None)


def probe_page(path: Path, page: str) -> Header | None:
    """The header of one picture of a file, as `probe` gives it. Raises InputError."""
    return _probe(path, page)


def _probe(path: Path, page: str | None) -> Header | None:
    with Image.open(path) as picture:
        if find_depth(path, picture) > 8:
            return None
        if page is not None:
            _seek(path, picture, page)
        width, height = picture.size
        # EXIF orientations 5 to 8 swap height and width; of a TIFF Pillow has swapped them already. The base class does
        # not decode a whole PNG to look for them.
        if picture.format != "TIFF" and orientation_of(partial(Image.Image.getexif, picture)) in _ON_ITS_SIDE:
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
    if orientation in _ON_ITS_SIDE:
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
    orientation = orientation_of(picture.getexif)
    metadata = metadata_of(picture, orientation)
    # `exif_transpose` of Pillow encodes the EXIF data again, which fails for odd tags.
    if orientation != 1:
        picture = picture.transpose(_TURNS[orientation])
    if picture.has_transparency_data:
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
    if profile is None:
        return picture, metadata
    if (mode := _SAME_COLOURS.get(picture.mode)) is not None and can_convert(profile, mode):
        picture = picture.convert(mode)
    converted = to_srgb(picture, profile)
    return (picture, metadata) if converted is None else (converted, replace(metadata, is_srgb=True))


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


def metadata_of(picture: Image.Image, orientation: int) -> Metadata:
    """What a picture says about itself, once it is upright."""
    info = picture.info
    description = next((info[name] for name in _DESCRIPTIONS if info.get(name)), None)
    if isinstance(description, bytes):
        description = description.decode("utf-8", "replace")
    resolution = None
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        across, down = (float(value) for value in info.get("dpi") or ())
        if orientation in _ON_ITS_SIDE:
            across, down = down, across
        resolution = (across, down) if across > 0 and down > 0 else None
    exif = info.get("exif")
    return Metadata(
        profile=info.get("icc_profile") or named_profile(info, is_grey=picture.mode in GREY_MODES),
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
    cleaned = replace(raster.metadata, exif=clean_exif(raster.metadata))
    file.write(png.encode_deep(array, cleaned))


def with_alpha(raster: Raster) -> Array:
    """(H, W, C), or (H, W, C + 1) with alpha last."""
    if raster.alpha is None:
        return raster.values
    return np.concatenate([raster.values, raster.alpha[..., None]], axis=2)


def to_pillow(array: Array) -> Image.Image:
    """An array (H, W, C) of 8 bits with 1 to 4 channels, or of 16 bits with one, as a Pillow image."""
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def clean_exif(metadata: Metadata) -> bytes | None:
    """EXIF that is true of an upright translation; None if there is none, or it is damaged or empty.

    Orientation and thumbnail are left out, what it says across and down is swapped if the image was turned, and the
    colours are those of the profile, else sRGB.
    """
    parsed = Image.Exif()
    try:
        parsed.load(metadata.exif or b"")
        details = parsed.get_ifd(ExifTags.IFD.Exif)
        if parsed.pop(_ORIENTATION, 1) in _ON_ITS_SIDE:
            _swap(parsed, ExifTags.Base.XResolution, ExifTags.Base.YResolution)
            _swap(details, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
        if metadata.profile is None and ExifTags.Base.ColorSpace in details:
            details[ExifTags.Base.ColorSpace] = 1
            details.pop(ExifTags.IFD.Interop, None)
        return parsed.tobytes() if len(parsed) else None
    except Exception:  # damaged EXIF raises errors of every kind
        return None


def _swap(tags: MutableMapping[int, Any], one: int, other: int) -> None:
    if one in tags and other in tags:
        tags[one], tags[other] = tags[other], tags[one]


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
        exif = clean_exif(metadata)
        if exif is not None and not (format == "JPEG" and len(exif) > 65533):
            options["exif"] = exif
    if metadata.description is not None and format == "JPEG":
        options["comment"] = metadata.description.encode()[:65533]
    if metadata.description is not None and format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("Description", metadata.description)
    return options


def find_depth(path: Path, picture: Image.Image) -> int:
    """Bits of a sample, at least 9 if a file holds more than Pillow returns as 8 bits.

    The codes of its colour space, which Pillow does not read, are added to `info` as `cicp`.
    """
    bits, codes = None, None
    if picture.format == "PNG":  # Pillow silently drops the low byte of 16-bit colour
        bits, codes = png.depth_and_codes(path)
    elif picture.format == "AVIF":
        codes = _codes_of_avif(path)
    if codes is not None:
        picture.info["cicp"] = codes
    if bits is not None:
        return bits
    return 8 if picture.mode in EIGHT_BIT_MODES else 16


def _codes_of_avif(path: Path) -> tuple[int, ...] | None:
    """Primaries and transfer of the first image of a file, by its property nclx (ISO 14496-12, 12.1.5)."""
    with path.open("rb") as file:
        head = file.read(_NEAR)
    at = head.find(b"colrnclx") + 8
    return struct.unpack(">HH", head[at : at + 4]) if 8 <= at <= len(head) - 4 else None
