"""GIF: pictures in 256 colours, of which one may be transparent."""

import io
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

from cyclegan.images.filetypes import pillow
from cyclegan.images.raster import Raster

_COLOURS = 256


@dataclass(frozen=True)
class PalettePicture:
    """An image in the colours of a GIF.

    spare: the index that no colour has, for transparent pixels; None: all are used.
    is_exact: whether it has all colours of the image.
    """

    picture: Image.Image
    spare: int | None
    is_transparent: bool
    is_exact: bool


def write(file: IO[bytes], raster: Raster) -> None:
    """Write 8-bit grey; with transparent pixels at most 255 greys of it."""
    if raster.alpha is None:
        pillow.write(file, raster, format="GIF")
        return
    shown = to_palette(raster, spare=True)
    shown.picture.save(file, "GIF", optimize=False, transparency=shown.spare)


def to_palette(raster: Raster, *, spare: bool) -> PalettePicture:
    """An image with at most 256 colours, dithered if it has more. Pixels below half alpha are transparent.

    spare: whether an index is kept for transparent pixels where colours are dithered anyway.
    """
    picture = pillow.to_pillow(pillow.with_alpha(raster))
    holes = np.zeros(raster.values.shape[:2], bool)
    if picture.mode in ("LA", "RGBA"):
        holes = np.asarray(picture.getchannel("A")) < 128
    rgb = np.array(picture.convert("RGB"))
    is_transparent = bool(holes.any())
    if is_transparent:  # transparent pixels need no colour of their own
        rgb[holes] = 0 if holes.all() else rgb[~holes][0]
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, indices = np.unique(packed, return_inverse=True)
    is_exact = len(colours) <= _COLOURS - is_transparent
    if is_exact:
        table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
        indices = indices.reshape(packed.shape)
    else:
        opaque = Image.fromarray(rgb)
        limited = opaque.quantize(palette=opaque.quantize(_COLOURS - (spare or is_transparent)))
        table, indices = np.reshape(limited.getpalette() or [0, 0, 0], (-1, 3)), np.asarray(limited)
        table = table[: _COLOURS - (spare or is_transparent)]
    free = len(table) if len(table) < _COLOURS else None
    if free is not None:
        indices = np.where(holes, free, indices)
        table = np.concatenate([table, [[0, 0, 0]]])
    result = Image.fromarray(indices.astype(np.uint8), "P")
    result.putpalette(table.astype(np.uint8).tobytes())
    return PalettePicture(result, free, is_transparent, is_exact)


def encode(picture: Image.Image) -> tuple[bytes, bytes]:
    """The table of colours, of 2, 4, 8 ... 256 entries, and the compressed indices of a palette picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", optimize=False, interlace=0)
    content = buffer.getvalue()
    size = 3 * (2 << (content[10] & 7))
    table, place = content[13 : 13 + size], 13 + size
    while content[place] == 0x21:  # extensions
        place += 2
        while content[place]:
            place += 1 + content[place]
        place += 1
    return table, content[place + 10 : -1]
