"""TIFF files: 8-bit pictures by Pillow, everything else by tifffile."""

from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from cyclegan.images import Array, pillow
from cyclegan.images.formats import Decoded, Header


def read(path: Path) -> Decoded:
    """An 8-bit picture of one page, or all pages and planes as channels, in their own type."""
    try:
        picture = pillow.read_eight_bit(path)
    except UnidentifiedImageError:  # a kind of TIFF for which Pillow has no mode
        picture = None
    return _read_deep(path) if picture is None else picture


def _read_deep(path: Path) -> Array:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        array, axes = series.asarray(), series.axes
    # Planes and pages become channels: move the first axis behind rows and columns.
    if array.ndim == 3 and axes.endswith("YX"):
        array = np.moveaxis(array, 0, -1)
    return np.asarray(array)


def probe(path: Path) -> Header | None:
    try:
        return pillow.probe(path)
    except UnidentifiedImageError:
        return None


def size(path: str) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except UnidentifiedImageError:
        import tifffile

        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            return int(page.imagelength), int(page.imagewidth)


def write(file: IO[bytes], array: Array) -> None:
    """Write any type and number of channels. 8-bit pictures are written by Pillow, without tifffile."""
    channels = array.shape[2]
    if array.dtype == np.uint8 and channels in (1, 3, 4):
        pillow.to_pillow(array).save(file, "TIFF")
        return
    import tifffile

    planar = channels not in (1, 3, 4)
    pixels = array[..., 0] if channels == 1 else np.moveaxis(array, -1, 0) if planar else array
    kind = "rgb" if channels in (3, 4) else "minisblack"
    tifffile.imwrite(file, pixels, photometric=kind, planarconfig="separate" if planar else None)
