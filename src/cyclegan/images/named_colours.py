"""Colour spaces that files name without an ICC profile, as profiles: EXIF, the chunks of PNG, the codes of video.

Without such a word, and where the space is sRGB, there is no profile.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image

# The white, red, green and blue of a colour space, each as x and y.
Primaries: TypeAlias = tuple[tuple[float, float], ...]

_D65 = (0.3127, 0.3290)
_SRGB: Primaries = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE_RGB: Primaries = (_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))

# By their codes in ITU-T H.273: BT.2020, DCI-P3 with its own white, Display P3.
_PRIMARIES: Mapping[int, Primaries] = {
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}

# Curves by their codes: gammas, and those that are shown as sRGB, among them that of BT.709.
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_SRGB_CURVES = (1, 6, 13, 14, 15)

# The interoperability index of EXIF for Adobe RGB (DCF 2.0, the optional colour space).
_EXIF_ADOBE_RGB = "R03"
_INTEROPERABILITY = 1

# A PNG whose gamma is that far from 1/2.2 means sRGB, as programs write it.
_SAME_GAMMA, _SAME_PLACE = 0.02, 0.005

# White of the profile connection space, and the adaptation to it (Bradford).
_D50 = (0.9642, 1.0, 0.8249)
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# When profiles were made: a fixed date, so that the same file gives the same profile.
_DATE = (2026, 1, 1, 0, 0, 0)


def named_profile(info: Mapping[Any, Any], *, is_grey: bool) -> bytes | None:
    """A profile of the colour space that a picture names, by what Pillow and pillow-heif know of it, or None.

    info: cicp, the four numbers of a PNG; nclx_profile of a HEIF; srgb, gamma and chromaticity of a PNG; exif.
    """
    codes = info.get("cicp")
    if codes is None and (nclx := info.get("nclx_profile")):
        codes = nclx["color_primaries"], nclx["transfer_characteristics"]
    if codes is not None:
        return _by_codes(*codes[:2], is_grey=is_grey)
    if "srgb" not in info and ("gamma" in info or "chromaticity" in info):
        return _by_chunks(info.get("gamma"), info.get("chromaticity"), is_grey=is_grey)
    exif = info.get("exif")
    if isinstance(exif, bytes) and _EXIF_ADOBE_RGB.encode() in exif and not is_grey and _is_adobe_rgb(exif):
        return _make("Adobe RGB (1998)", _ADOBE_RGB, 563 / 256, is_grey=False)
    return None


def _by_codes(primaries: int, transfer: int, *, is_grey: bool) -> bytes | None:
    if transfer not in _GAMMAS and transfer not in _SRGB_CURVES:
        return None
    gamma = _GAMMAS.get(transfer)
    if primaries not in _PRIMARIES and gamma is None:
        return None
    return _make(f"H.273 {primaries}/{transfer}", _PRIMARIES.get(primaries, _SRGB), gamma, is_grey=is_grey)


def _by_chunks(gamma: float | None, places: tuple[float, ...] | None, *, is_grey: bool) -> bytes | None:
    exponent = None if gamma is None or abs(gamma - 1 / 2.2) < _SAME_GAMMA or not gamma > 0 else 1 / gamma
    primaries = _SRGB
    if places is not None and len(places) == 8 and np.abs(np.array(places) - np.ravel(_SRGB)).max() > _SAME_PLACE:
        primaries = tuple((float(x), float(y)) for x, y in zip(places[::2], places[1::2], strict=True))
        if any(y <= 0 for _, y in primaries):
            return None
    if exponent is None and (is_grey or primaries is _SRGB):
        return None
    return _make("the gAMA and cHRM of the PNG", primaries, exponent, is_grey=is_grey)


def _is_adobe_rgb(exif: bytes) -> bool:
    parsed = Image.Exif()
    try:
        parsed.load(exif)
        return str(parsed.get_ifd(ExifTags.IFD.Interop).get(_INTEROPERABILITY, "")).startswith(_EXIF_ADOBE_RGB)
    except Exception:  # damaged EXIF raises errors of every kind
        return False


@lru_cache(maxsize=64)
def _make(name: str, primaries: Primaries, gamma: float | None, *, is_grey: bool) -> bytes | None:
    """A profile of version 2 (ICC.1:2001-04). gamma: None for the curve of sRGB."""
    if gamma is None:
        encoded = np.linspace(0, 1, 1024)
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        curve = struct.pack(">4sII", b"curv", 0, 1024) + np.rint(linear * 65535).astype(">u2").tobytes()
    elif not 1 / 256 < gamma < 256:
        return None
    else:
        curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256))
    text = name.encode() + b"\0"
    tags = {
        b"desc": struct.pack(">4sII", b"desc", 0, len(text)) + text + bytes(78),
        b"cprt": struct.pack(">4sI", b"text", 0) + b"CC0\0",
        b"wtpt": _xyz_tag(np.array(_D50)),
    }
    if is_grey:
        tags[b"kTRC"] = curve
    else:
        white, *colours = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries)
        try:
            columns = np.array(colours).T * np.linalg.solve(np.array(colours).T, white)
        except np.linalg.LinAlgError:
            return None
        adapted = np.linalg.solve(_CONES, (_CONES @ _D50 / (_CONES @ white))[:, None] * (_CONES @ columns))
        tags |= {tag: _xyz_tag(adapted[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if is_grey else b"RGB "
    head = struct.pack(">I4xI4s4s4s6H4s", offset + len(body), 0x02400000, b"mntr", space, b"XYZ ", *_DATE, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(128, b"\0") + table + body


def _xyz_tag(values: np.ndarray) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(float(value) * 65536) for value in values))
