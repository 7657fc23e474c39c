"""Find tissue on the glass of a slide, from a small picture of it."""

import numpy as np
from numpy.typing import NDArray

from cyclegan.images import Array
from cyclegan.images.raster import Mask

# Optical density above that of the glass at which tissue begins, at least and at most: of fat, and of a weak stain.
_THINNEST, _WEAKEST = 0.02, 0.05

# Levels of 255: what is darker is a border, a coverslip's edge or black ink; what has less colour is dust or shadow.
_DARKEST, _GREYEST = 60, 6

# Vivid green and blue, with so much less red, is a pen's: stains that are as blue have more red in them.
_INK = 100

_BINS = 256


def find_tissue(picture: Array) -> Mask:
    """(H, W), True where a picture (H, W, 3) of a whole slide in 8-bit RGB shows stained tissue.

    Tissue is what absorbs more light than the glass, and is neither grey nor black nor the blue or green of a pen. The
    limit is Otsu's between the two classes of optical density (Otsu 1979), within bounds: a slide of glass alone has no
    tissue, and one of tissue alone no glass. Red ink is taken for tissue. For slides in transmitted light.
    """
    values = picture.astype(np.int16)
    brightest, darkest = values.max(-1), values.min(-1)
    glass = _glass_colour(picture)
    density = np.log10(glass / np.maximum(picture, 1)).mean(-1).clip(0, None)
    limit = float(np.clip(_otsu(density[brightest >= _DARKEST]), _THINNEST, _WEAKEST))
    # The colour of the glass itself does not count as colour.
    chroma = np.ptp(picture.astype(np.float64) * (255 / glass), axis=-1)
    is_ink = (brightest - values[..., 0] >= _INK) & (values[..., 0] <= darkest)
    found = (density > limit) & (chroma >= _GREYEST) & (brightest >= _DARKEST) & ~is_ink
    return _majority(found)


def _glass_colour(picture: Array) -> NDArray[np.float64]:
    """(3,): the most frequent bright value of each channel; near white if nothing is bright."""
    bright = picture[(picture.min(-1) >= 200)]
    if len(bright) < picture.shape[0] * picture.shape[1] / 1000:
        return np.full(3, 245.0)
    return np.array([np.bincount(bright[:, channel], minlength=256).argmax() for channel in range(3)], np.float64)


def _otsu(values: NDArray[np.floating]) -> float:
    """The limit between two classes that makes the variance between them largest; 0 without values."""
    if not len(values):
        return 0.0
    counts, edges = np.histogram(values, _BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum().astype(np.float64)
    sums = (counts * centers).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums * below[-1] - sums[-1] * below) ** 2 / (below * above)
    return float(centers[np.nanargmax(np.where(np.isfinite(between), between, -1))])


def _majority(mask: Mask) -> Mask:
    """Without specks and pinholes: what most of the 3x3 pixels around each are."""
    padded = np.pad(mask.astype(np.uint8), 1, "edge")
    height, width = mask.shape
    total = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.asarray(total >= 5)


def shares(mask: Mask, tops: NDArray[np.float64], lefts: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """The share of True in squares of a mask, (N,). tops, lefts: (N,) of their corners, in its pixels, as is `side`."""
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = (np.floor(corner).astype(int).clip(0) for corner in (tops, lefts))
    bottom = np.maximum(np.ceil(tops + side).astype(int), top + 1).clip(max=mask.shape[0])
    right = np.maximum(np.ceil(lefts + side).astype(int), left + 1).clip(max=mask.shape[1])
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(inside / np.maximum((bottom - top) * (right - left), 1), np.float64)
