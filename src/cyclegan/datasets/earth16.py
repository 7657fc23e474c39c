"""The dataset `earth16`: the photo of `earth` against elevation in metres, as one 16-bit channel."""

from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan.datasets.earth import BLOCK, PHOTO_NAME, TILE, WORLD, Box, cut_tiles, open_world, write_about
from cyclegan.datasets.elevation import recover_elevation

# A pixel of value v stands for v + OFFSET metres above sea level. All heights and depths of the Earth fit, whole metres
# are exact, and sea level is not at the edge of anything.
OFFSET = -11000

# The map's JPEG keeps colour at half of its resolution, so elevation is recovered there: pixels of WORLD to one.
_REDUCTION = 2


def build_earth16(out: Path, *, tile: int = TILE, block: int = BLOCK, size: int = 108, stride: int = 30) -> None:
    """NASA's Blue Marble photo (domain A, 8-bit RGB) and elevation (B, one 16-bit channel), cut into tiles.

    Elevation is recovered from the colours of the ETOPO1 map (see `recover_elevation`) and resampled in float32.
    Places, roles and the photo's tiles are those of `build_earth`, and so are the lengths.
    """
    with open_world("etopo1.jpg") as picture:
        relief = np.asarray(picture.convert("RGB").resize(WORLD, Image.Resampling.LANCZOS).reduce(_REDUCTION))
    # Tiles end at 60 degrees north and south; a few pixels more are for the filters.
    first, last = WORLD[1] // 6 // _REDUCTION - 4, WORLD[1] * 5 // 6 // _REDUCTION + 4
    elevation = Image.fromarray(recover_elevation(relief[first:last]))

    def save_elevation(box: Box, path: Path) -> None:
        left, top, right, bottom = (side / _REDUCTION for side in box)
        # Bilinear, because a filter with negative weights would raise beaches and dig moats along steep coasts.
        metres = elevation.resize(
            (size, size), Image.Resampling.BILINEAR, (left, top - first, right, bottom - first), reducing_gap=None
        )
        Image.fromarray(np.rint(np.asarray(metres) - OFFSET).astype(np.uint16)).save(path)

    about = cut_tiles(out, save_elevation, tile=tile, block=block, size=size, stride=stride)
    write_about(
        out,
        {
            "name": "earth16",
            "a": PHOTO_NAME,
            "b": "elevation recovered from the colours of NOAA's ETOPO1 map (etopo1.jpg), public domain",
            "b_values": {
                "type": "uint16, one channel",
                "unit": "metre above sea level",
                "scale": 1,
                "offset": OFFSET,
                "meaning": f"metres = value * scale + offset; sea level is {-OFFSET}",
            },
            **about,
        },
    )
