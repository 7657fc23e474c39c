"""Find images with nearly the same pixels by their thumbnails: copies that were resized, compressed again or mirrored.

Takes time in proportion to the number of images, and memory that is bounded by blocks, also if all are alike.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyclegan.images.thumbnails import THUMBNAIL, FloatArray

Thumbnails = FloatArray | NDArray[np.uint16]

# Called with how much of the work is done and how much there is.
OnStep = Callable[[int, int], None]

_VALUES = THUMBNAIL * THUMBNAIL * 3

# A near copy differs from its original by at most this (root of the mean squared difference, of values in 0..1), and
# correlates with it by at least that. See `near_copies` for how the two were found.
LARGEST_DIFFERENCE, SMALLEST_CORRELATION = 0.025, 0.97

# Standard deviation, in 0..1, below which a thumbnail has too little in it to be compared: two steps of 8 bits.
SMALLEST_DEVIATION = 0.008

# Rows and columns of the matrix of products that are in memory at once.
_ROWS, _COLUMNS = 512, 4096

# All pairs are compared while there are at most so many in all, or for each image; in larger sets only those that a
# hash finds. The first number is that of 4096 images.
_ALL_PAIRS, _PAIRS_EACH = 4096**2, 1024

# Hashes of an image, bits of each, and images next to it in the order of a hash that it is compared with. Sides of
# random planes differ for two vectors as often as their angle is a part of 180 degrees: 1 in 13 bits at the smallest
# correlation. In every hash the images next to one share the first bits, about log2(images / _NEXT) of them.
_HASHES, _BITS, _NEXT = 16, 16, 32

# Of all 256 bits, that a near copy may have different: 20 are expected at the smallest correlation.
_MOST_BITS = 48


class NearCopies(NamedTuple):
    """The most similar near copy of each of N images: four arrays of N.

    source: its index, or -1 where there is none. difference: root mean square, in 0..1. mirrored: left-right.
    """

    source: NDArray[np.intp]
    difference: FloatArray
    correlation: FloatArray
    mirrored: NDArray[np.bool_]


def near_copies(
    thumbnails: Thumbnails,
    others: Thumbnails | None = None,
    *,
    only: Sequence[int] | None = None,
    only_others: Sequence[int] | None = None,
    on_step: OnStep = lambda *_: None,
) -> NearCopies:
    """The most similar near copy of each thumbnail among `others`, or among the earlier ones of its own set.

    thumbnails, others: (N, 16, 16, 3) and (M, 16, 16, 3) in 0..1, or integers up to 65535. only, only_others: indices
    of those that are compared; default: all.

    Both must hold: a difference of at most LARGEST_DIFFERENCE (pictures of the open sea differ less, but correlate
    little) and a correlation of at least SMALLEST_CORRELATION, each channel less its own mean (with their mean colours
    all pictures of the sea would correlate). Below SMALLEST_DEVIATION a picture can be compared only exactly.

    The limits were tried on the tiles of `cyclegan download earth`, 108 pixels wide. Copies saved as JPEG of quality 95
    to 50, halved, doubled, reduced to a third, halved and saved with quality 75, cut by 2 % or mirrored are all found;
    90 to 100 % at quality 30, half at quality 10. No two different tiles are mistaken for copies, though neighbours are
    shifted by only 12.5 % of their width: they correlate by up to 0.96 and differ by 0.025 or more. At random places of
    three world maps a shift of 12.5 % was called a copy 1 time in 800, one of 5 % 1 in 16, one of 3 % 1 in 4, one of
    1 % always. Of 18 million pairs of other places 631 were called copies, four in five of them bare ice at the poles.

    Thumbnails are compared with all of like mean brightness, which cannot differ by more than the pictures do: always
    in sets of up to 4096 images, in larger ones if there are few enough of them. Otherwise each is compared with those
    that have a similar hash. In 22,000 images of one brightness (noise, or smooth pictures) that found 998 of 1000 near
    copies of the smallest correlation and all of a correlation of 0.985. Where many are near copies of one picture, the
    one that is named need not be the most similar one. Time is in proportion to the number of images, and memory is
    bounded by blocks.
    """
    x = _Vectors(thumbnails, only)
    y = x if others is None else _Vectors(others, only_others)
    found = _search(x, y, len(thumbnails), on_step)
    return NearCopies(found.source, found.difference, np.minimum(found.correlation, 1), found.mirrored)


class _Vectors:
    """The thumbnails of a set that can be compared, sorted by brightness. index: where each stands in the set.

    chosen: indices of those that are wanted; default: all.
    """

    def __init__(self, thumbnails: Thumbnails, chosen: Sequence[int] | NDArray[np.intp] | None = None) -> None:
        self._thumbnails = thumbnails
        index = np.arange(len(thumbnails)) if chosen is None else np.asarray(chosen, np.intp)
        means, norms = np.zeros((len(index), 3), np.float32), np.zeros(len(index), np.float32)
        for start in range(0, len(index), _COLUMNS):
            block = slice(start, start + _COLUMNS)
            values = self._values(index[block])
            means[block] = values.mean((1, 2))
            norms[block] = np.sqrt(np.square(values - means[block, None, None]).sum((1, 2, 3)))
        order = np.argsort(means.mean(1), kind="stable")
        order = order[norms[order] >= SMALLEST_DEVIATION * _VALUES**0.5]
        self.index, self.means, self.norm = index[order], means[order], norms[order]
        self.brightness = self.means.mean(1)

    def __len__(self) -> int:
        return len(self.index)

    def centred(self, rows: slice | NDArray[np.intp]) -> FloatArray:
        """(rows, 768): each channel less its own mean."""
        values: FloatArray = self._values(self.index[rows]) - self.means[rows, None, None]
        return values.reshape(-1, _VALUES)

    def take(self, rows: NDArray[np.intp]) -> "_Vectors":
        """Some of them, as a set of its own."""
        return _Vectors(self._thumbnails, np.sort(self.index[rows]))

    def _values(self, index: NDArray[np.intp]) -> FloatArray:
        found = self._thumbnails[index]
        values: FloatArray = found.astype(np.float32)
        if found.dtype == np.uint16:
            values /= 65535
        return values


class _Found:
    """The best near copy of each of `count` images so far; a source of -1 where there is none."""

    def __init__(self, count: int) -> None:
        self.source, self.mirrored = np.full(count, -1, np.intp), np.zeros(count, bool)
        self.difference, self.correlation = np.zeros(count, np.float32), np.zeros(count, np.float32)

    def offer(
        self, place: NDArray[np.intp], source: NDArray[np.intp], value: FloatArray, apart: FloatArray, mirrored: bool
    ) -> None:
        """A source for each place, with correlation and difference; it is kept where it is near and the best yet."""
        better = (value >= SMALLEST_CORRELATION) & (apart <= LARGEST_DIFFERENCE) & (value > self.correlation[place])
        place = place[better]
        self.source[place], self.mirrored[place] = source[better], mirrored
        self.correlation[place], self.difference[place] = value[better], apart[better]


def _search(x: _Vectors, y: _Vectors, count: int, on_step: OnStep) -> _Found:
    """`near_copies` of x among y, which are the same object for one set. count: size of the whole set of x."""
    found, within = _Found(count), x is y
    while len(x) and len(y):
        low = np.searchsorted(y.brightness, x.brightness - LARGEST_DIFFERENCE)
        high = np.searchsorted(y.brightness, x.brightness + LARGEST_DIFFERENCE)
        if int((high - low).sum()) <= max(_ALL_PAIRS, _PAIRS_EACH * len(x)):
            _compare_all(x, y, found, on_step)
            break
        later = _compare_hashed(x, y, found, on_step)
        # Where very many are alike, the images next to an early one may all be later ones. Those are searched again
        # among themselves, which are few; each pass leaves out what has an original.
        again = np.flatnonzero(later & (found.source[x.index] < 0))
        if not within or len(again) > len(x) // 2:
            break
        x = y = x.take(again)
    return found


def _compare_all(x: _Vectors, y: _Vectors, found: _Found, on_step: OnStep) -> None:
    """Compare all pairs of like brightness."""
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        place, ours = x.index[rows], x.centred(rows)
        dark, bright = x.brightness[rows][0] - LARGEST_DIFFERENCE, x.brightness[rows][-1] + LARGEST_DIFFERENCE
        low, high = np.searchsorted(y.brightness, [dark, bright])
        for left in range(low, high, _COLUMNS):
            columns = slice(left, min(left + _COLUMNS, high))
            theirs = y.centred(columns)
            for mirrored, target in ((False, theirs), (True, _flipped(theirs))):
                value = _products(ours, target) / (x.norm[rows, None] * y.norm[None, columns])
                if x is y:
                    value[place[:, None] <= y.index[None, columns]] = -1
                if not (value >= SMALLEST_CORRELATION).any():
                    continue
                apart = _difference(
                    value, x.norm[rows, None], y.norm[None, columns], x.means[rows, None], y.means[None, columns]
                )
                value[apart > LARGEST_DIFFERENCE] = -1
                best, each = value.argmax(1), np.arange(len(place))
                found.offer(place, y.index[best + left], value[each, best], apart[each, best], mirrored)
        on_step(min(start + _ROWS, len(x)), len(x))


def _compare_hashed(x: _Vectors, y: _Vectors, found: _Found, on_step: OnStep) -> NDArray[np.bool_]:
    """Compare each with the most similar of those next to it in the order of each hash. Returns which are like a later
    one of the same set.

    A hash says on which side of random planes a vector lies (Charikar 2002). In each order the images are compared by
    all their hashes, and the best one by its pixels.
    """
    planes = np.random.default_rng(0).standard_normal((_HASHES * _BITS, _VALUES), np.float32)
    codes = _hashes(y, planes)
    # Images of one hash are in order of their brightness. In every other order the hash has only as many bits as are
    # needed to tell the images apart.
    num_bits = min(_BITS, max(1, (len(y) // _NEXT).bit_length()))
    drops = [(_BITS - num_bits) * (number % 2) for number in range(_HASHES)]
    sides = [(False, codes if x is y else _hashes(x, planes)), (True, _hashes(x, _flipped(planes)))]
    orders = []
    for number, drop in enumerate(drops):
        keys = _keys(codes[:, number], drop, y)
        order = np.argsort(keys, kind="stable")
        orders.append((order, keys[order]))
    window = np.arange(_NEXT) - _NEXT // 2
    impossible = 16 * _HASHES + 1
    later = np.zeros(len(x), bool)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        place, ours, each = x.index[rows], x.centred(rows), np.arange(len(x.index[rows]))
        for mirrored, hashes in sides:
            for number, (order, sorted_keys) in enumerate(orders):
                keys = _keys(hashes[rows, number], drops[number], x, rows)
                at = np.searchsorted(sorted_keys, keys)[:, None] + window
                near = order[np.clip(at, 0, len(y) - 1)]
                bits = _COUNTS[hashes[rows, None] ^ codes[near]].sum(2, dtype=np.int16)
                bits[np.abs(x.brightness[rows, None] - y.brightness[near]) > LARGEST_DIFFERENCE] = impossible
                if x is y:
                    late = place[:, None] <= y.index[near]
                    later[rows] |= ((bits <= _MOST_BITS) & late & (place[:, None] != y.index[near])).any(1)
                    bits[late] = impossible
                best = bits.argmin(1)
                kept = np.flatnonzero(bits[each, best] <= _MOST_BITS)
                if not len(kept):
                    continue
                to = near[kept, best[kept]]
                theirs = y.centred(to)
                value = _products(ours[kept], _flipped(theirs) if mirrored else theirs, paired=True)
                value /= x.norm[rows][kept] * y.norm[to]
                apart = _difference(value, x.norm[rows][kept], y.norm[to], x.means[rows][kept], y.means[to])
                found.offer(place[kept], y.index[to], value, apart, mirrored)
        on_step(min(start + _ROWS, len(x)), len(x))
    return later


# How many bits are set in each 16-bit number.
_COUNTS = np.array([number.bit_count() for number in range(2**16)], np.uint8)


def _hashes(vectors: _Vectors, planes: FloatArray) -> NDArray[np.uint16]:
    """(N, _HASHES)"""
    result = np.empty((len(vectors), _HASHES), np.uint16)
    for start in range(0, len(vectors), _COLUMNS):
        block = slice(start, start + _COLUMNS)
        result[block] = np.packbits(vectors.centred(block) @ planes.T > 0, axis=1).view(np.uint16)
    return result


def _keys(hashes: NDArray[np.uint16], drop: int, vectors: _Vectors, rows: slice = slice(None)) -> NDArray[np.int64]:
    """Numbers to sort by: the hash less its last `drop` bits, then the brightness."""
    brightness = np.clip(vectors.brightness[rows] * 65535, 0, 65535).astype(np.int64)
    keys: NDArray[np.int64] = ((hashes >> drop).astype(np.int64) << 16) | brightness
    return keys


def _flipped(vectors: FloatArray) -> FloatArray:
    """Mirrored left-right."""
    return vectors.reshape(-1, THUMBNAIL, THUMBNAIL, 3)[:, :, ::-1].reshape(vectors.shape)


def _products(x: FloatArray, y: FloatArray, *, paired: bool = False) -> FloatArray:
    """Products of all rows of x with all of y, or of each row of x with the same row of y."""
    result: FloatArray = np.einsum("nd,nd->n", x, y) if paired else x @ y.T
    return result


def _difference(
    correlation: FloatArray, norms: FloatArray, other_norms: FloatArray, means: FloatArray, other_means: FloatArray
) -> FloatArray:
    """Root mean squared difference of pairs, from their correlation, norms and means. The arrays are broadcast."""
    square = (norms - other_norms) ** 2 + 2 * (1 - correlation) * norms * other_norms
    shift = np.square(means - other_means).sum(-1) / 3
    result: FloatArray = np.sqrt(np.maximum(square / _VALUES + shift, 0))
    return result
