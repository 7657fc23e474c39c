"""Resize and pad arrays of image values, without torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.filetypes.pillow import to_pillow
from cyclegan.images.formats import PICTURE_CHANNELS


def resize(array: Array, height: int, width: int) -> Array:
    """Bicubic, with anti-aliasing when it shrinks. 8-bit stays 8-bit; other types become float32."""
    if array.shape[:2] == (height, width):
        return array
    if array.dtype == np.uint8 and array.shape[2] in PICTURE_CHANNELS:
        resized = np.asarray(to_pillow(array).resize((width, height), Image.Resampling.BICUBIC))
        return resized if resized.ndim == 3 else resized[..., None]
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(array, -1, 0)
    ]
    return np.stack(planes, -1)


def resize_mask(valid: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """A mask, (H, W), in another size: a pixel is valid if at least half of its area is."""
    if valid.shape == (height, width):
        return valid
    shares = _area_means(_area_means(valid, height).T, width).T
    return np.asarray(shares >= 0.5 - 1e-9)  # rounding may leave a half a little below


# Columns of a mask that are summed up at once, so that a large one needs little memory.
_COLUMNS = 256


def _area_means(values: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Means over the areas of `size` pixels in the place of the rows of (H, W)."""
    count = len(values)
    edges = np.arange(size + 1) * count / size
    rows = np.minimum(edges.astype(int), count - 1)
    means = np.empty((size, values.shape[1]))
    for left in range(0, values.shape[1], _COLUMNS):
        block = values[:, left : left + _COLUMNS]
        sums = np.zeros((count + 1, block.shape[1]))
        np.cumsum(block, 0, out=sums[1:])
        until_edges = sums[rows] + (edges - rows)[:, None] * block[rows]
        means[:, left : left + _COLUMNS] = np.diff(until_edges, axis=0) * (size / count)
    return means


def scale(array: Array, *, short_side: int | None = None, width: int | None = None) -> Array:
    """Resize to this shorter side or this width in pixels, the other side in proportion; None leaves the size.

    Raises InputError if both are given.
    """
    if short_side is not None and width is not None:
        raise InputError(f"short_side is {short_side} and scale_width is {width}; pass one of them.")
    if short_side is None and width is None:
        return array
    rows, columns = array.shape[:2]
    factor = short_side / min(rows, columns) if short_side is not None else (width or columns) / columns
    return resize(array, max(1, round(rows * factor)), max(1, round(columns * factor)))


def mirror_to_multiple(array: Array, multiple: int, smallest: int = 1) -> Array:
    """Pad (H, W, C) by reflection at the right and bottom until H and W are multiples and at least `smallest`."""
    for axis in (0, 1):
        if (indices := mirrored_indices(array.shape[axis], multiple, smallest)) is not None:
            array = array.take(indices, axis)
    return array


def mirrored_indices(size: int, multiple: int, smallest: int) -> NDArray[np.int64] | None:
    """Indices that extend a side by reflection to a multiple of at least `smallest`; None if it is one already."""
    missing = -(-max(size, smallest) // multiple) * multiple - size
    if missing == 0:
        return None
    return np.pad(np.arange(size, dtype=np.int64), (0, missing), "reflect" if size > 1 else "edge")
