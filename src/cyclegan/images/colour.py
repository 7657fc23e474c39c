"""Colour profiles: convert the colours of files to sRGB, and back. Profiles are read by littlecms through Pillow."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from cyclegan.images import Array

# Colour spaces of ICC profiles, and the mode of the pictures that they describe.
_MODES = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}

# Largest difference, of 255, between colours and their sRGB values for a profile that counts as sRGB.
_SAME = 1

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# Where littlecms would put a coarse table in the place of the conversion: grey and 16 bits were up to 27 of 255 levels
# off. A table of CMYK is too slow to do without, and a fine one costs no more.
_EXACT_FLAGS = _FLAGS | ImageCms.Flags.NOOPTIMIZE
_FINE_FLAGS = _FLAGS | ImageCms.Flags.HIGHRESPRECALC


def mode_of(profile: bytes) -> str | None:
    """The mode of pictures that a profile describes: RGB, CMYK or L; None for others and for a damaged profile."""
    opened = _open(profile)
    return None if opened is None else _MODES.get(opened.profile.xcolor_space.strip())


@lru_cache(maxsize=64)
def is_srgb(profile: bytes) -> bool:
    """Whether a profile is sRGB by any name, or the grey of it, so that its colours need no conversion."""
    mode, transform = mode_of(profile), _transform(profile)
    if transform is None or mode == "CMYK":
        return False
    given = _lattice(mode or "RGB")
    converted = np.asarray(ImageCms.applyTransform(given, transform)).astype(int)
    return bool(np.abs(converted - np.asarray(given.convert("RGB"))).max() <= _SAME)


def can_convert(profile: bytes, mode: str) -> bool:
    """Whether pictures of a mode, L, RGB or CMYK, with this profile are converted to sRGB: it fits, and is another."""
    return mode_of(profile) == mode and _transform(profile) is not None and not is_srgb(profile)


def describe_profile(profile: bytes) -> str:
    """The name of a profile, such as Display P3."""
    opened = _open(profile)
    text = "" if opened is None else (opened.profile.profile_description or "")
    return " ".join(text.split())[:60] or "a colour profile without a name"


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """An L, RGB or CMYK picture in sRGB, as L or RGB; None if the profile does not fit, or is sRGB."""
    if not can_convert(profile, picture.mode):
        return None
    if picture.mode == "L":
        return picture.point(_grey_table(profile, is_back=False))
    return ImageCms.applyTransform(picture, _transform(profile))


def array_to_srgb(values: Array, profile: bytes) -> Array | None:
    """8- or 16-bit values (H, W, 1 or 3) in sRGB; None if the profile does not fit or is sRGB.

    16 bits need imagecodecs.
    """
    return _convert(values, profile, is_back=False)


def array_from_srgb(values: Array, profile: bytes) -> Array | None:
    """The reverse of `array_to_srgb`: sRGB values (H, W, 1 or 3) as a profile of RGB or grey has them, or None."""
    return _convert(values, profile, is_back=True)


def _convert(values: Array, profile: bytes, *, is_back: bool) -> Array | None:
    mode = {1: "L", 3: "RGB"}.get(values.shape[2])
    if mode is None or not can_convert(profile, mode) or values.dtype not in (np.uint8, np.uint16):
        return None
    if values.dtype == np.uint16:
        if is_back and _back(profile) is None:
            return None
        return _convert_deep(values, profile, is_back=is_back)
    picture = Image.fromarray(values if mode == "RGB" else values[..., 0])
    if not is_back:
        converted = to_srgb(picture, profile)
    elif _back(profile) is None:
        converted = None
    elif mode == "L":
        converted = picture.point(_grey_table(profile, is_back=True))
    else:
        converted = ImageCms.applyTransform(picture, _back(profile))
    if converted is None:
        return None
    array = np.asarray(converted)
    return array if array.ndim == 3 else array[..., None]


@lru_cache(maxsize=64)
def _grey_table(profile: bytes, *, is_back: bool) -> list[int]:
    """What each grey of 8 bits becomes."""
    given = _lattice("L")
    transform = _back(profile) if is_back else _transform(profile)
    converted = ImageCms.applyTransform(given.convert("RGB") if is_back else given, transform)
    levels = np.asarray(converted).reshape(256, -1)[:, 0]
    return [int(level) for level in levels]


def _convert_deep(values: Array, profile: bytes, *, is_back: bool) -> Array:
    import imagecodecs

    srgb, is_grey = _srgb_bytes(), values.shape[2] == 1
    if is_back:
        colours = values.repeat(3, -1) if is_grey else values
        converted = imagecodecs.cms_transform(
            np.ascontiguousarray(colours),
            srgb,
            profile,
            colorspace="rgb",
            outcolorspace="gray" if is_grey else "rgb",
            intent=int(_INTENT),
            flags=int(_EXACT_FLAGS),
        )
    else:
        converted = imagecodecs.cms_transform(
            np.ascontiguousarray(values[..., 0] if is_grey else values),
            profile,
            srgb,
            colorspace="gray" if is_grey else "rgb",
            outcolorspace="rgb",
            intent=int(_INTENT),
            flags=int(_EXACT_FLAGS),
        )
        converted = converted[..., :1] if is_grey else converted
    array: Array = np.asarray(converted)
    return array if array.ndim == 3 else array[..., None]


@lru_cache(maxsize=64)
def _open(profile: bytes) -> Any:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, TypeError, ValueError):
        return None


@lru_cache(maxsize=1)
def _srgb_bytes() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@lru_cache(maxsize=64)
def _transform(profile: bytes) -> Any:
    """From a profile to sRGB; None for a profile that cannot be used."""
    mode = mode_of(profile)
    if mode is None:
        return None
    try:
        srgb, flags = ImageCms.createProfile("sRGB"), {"L": _EXACT_FLAGS, "CMYK": _FINE_FLAGS}.get(mode, _FLAGS)
        return ImageCms.buildTransform(_open(profile), srgb, mode, "RGB", _INTENT, flags)
    except ImageCms.PyCMSError:
        return None


@lru_cache(maxsize=64)
def _back(profile: bytes) -> Any:
    """From sRGB to a profile; None if the profile knows no way back, as those of scanners."""
    mode = mode_of(profile)
    assert mode is not None
    flags = _EXACT_FLAGS if mode == "L" else _FLAGS
    try:
        return ImageCms.buildTransform(ImageCms.createProfile("sRGB"), _open(profile), "RGB", mode, _INTENT, flags)
    except ImageCms.PyCMSError:
        return None


def _lattice(mode: str) -> Image.Image:
    """A picture with colours from all over the cube, or all greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(27, 27, 3))
