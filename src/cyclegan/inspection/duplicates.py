"""Find copies: images with the same pixels, or nearly the same after saving or scaling them again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Side of the thumbnails that are compared, in pixels.
THUMBNAIL = 16

# A near copy differs from its original by at most this (root of the mean squared difference, of values in 0..1), and
# correlates with it by at least that. See `near_copies` for how the two were found.
LARGEST_DIFFERENCE, SMALLEST_CORRELATION = 0.025, 0.97

# Standard deviation, in 0..1, below which a thumbnail has too little in it to be compared: two steps of 8 bits.
SMALLEST_DEVIATION = 0.008

# Rows and columns of the matrix of products that are in memory at once.
_ROWS, _COLUMNS = 512, 4096


@dataclass(frozen=True)
class Fingerprints:
    """Data of the images of a folder to find copies by.

    files: relative to the folder. digests: of the decoded pixels. thumbnails: (N, 16, 16, 3) in 0..1.
    """

    files: tuple[Path, ...]
    digests: tuple[bytes, ...]
    thumbnails: FloatArray


@dataclass(frozen=True)
class Copy:
    """One file that repeats another. difference: root mean square of their thumbnails, in 0..1; 0 for exact copies."""

    file: Path
    of: Path
    exact: bool
    mirrored: bool = False
    difference: float = 0.0
    correlation: float = 1.0


@dataclass(frozen=True)
class Copies:
    """The files of one folder that repeat a file of `of`; inside one folder, that repeat an earlier one."""

    folder: str
    of: str
    copies: tuple[Copy, ...]

    @property
    def counts(self) -> str:
        """How many have the same pixels, and how many nearly the same, in words."""
        num_exact = sum(copy.exact for copy in self.copies)
        return f"{num_exact} exact, {len(self.copies) - num_exact} nearly so"


def find_copies(images: Fingerprints, of: Fingerprints) -> tuple[Copy, ...]:
    """Every file that repeats one of `of`; an earlier one if both are the same folder.

    Each file is named once, with its exact original if there is one, else with the most similar one.
    """
    within = images is of
    first: dict[bytes, int] = {}
    for index, digest in enumerate(of.digests):
        first.setdefault(digest, index)
    near = zip(*near_copies(images.thumbnails, None if within else of.thumbnails), strict=True)

    copies = []
    for index, (file, digest, found) in enumerate(zip(images.files, images.digests, near, strict=True)):
        original = first.get(digest)
        source, difference, correlation, mirrored = found
        if original is not None and not (within and original == index):
            copies.append(Copy(file, of.files[original], exact=True))
        elif source >= 0:
            rounded = round(float(difference), 4), round(float(correlation), 4)
            copies.append(Copy(file, of.files[source], False, bool(mirrored), *rounded))
    return tuple(copies)


def near_copies(
    thumbnails: FloatArray, others: FloatArray | None = None
) -> tuple[NDArray[np.intp], FloatArray, FloatArray, NDArray[np.bool_]]:
    """The most similar near copy of each thumbnail among `others`, or among the earlier ones of its own set.

    thumbnails, others: (N, 16, 16, 3) and (M, 16, 16, 3) in 0..1. Returns four arrays of N: the index into `others`, or
    -1 where there is none; the difference; the correlation; whether it is mirrored left-right.

    Both must hold: a difference of at most LARGEST_DIFFERENCE (pictures of the open sea differ less, but correlate
    little) and a correlation of at least SMALLEST_CORRELATION, each channel less its own mean (with their mean colours
    all pictures of the sea would correlate). Below SMALLEST_DEVIATION a picture can be compared only exactly.

    The limits were tried on the tiles of `cyclegan download earth`, 108 pixels wide. Copies saved as JPEG of quality 95
    to 50, halved, doubled, reduced to a third, halved and saved with quality 75, cut by 2 % or mirrored are all found;
    90 to 100 % at quality 30, half at quality 10. No two different tiles are mistaken for copies, though neighbours are
    shifted by only 12.5 % of their width: they correlate by up to 0.96 and differ by 0.025 or more. At random places of
    three world maps a shift of 12.5 % was called a copy 1 time in 800, one of 5 % 1 in 16, one of 3 % 1 in 4, one of
    1 % always. Of 18 million pairs of other places 631 were called copies, four in five of them bare ice at the poles.

    Memory is bounded by blocks of the matrix of products; time by comparing only thumbnails of like mean brightness,
    which cannot differ by more than the pictures do.
    """
    own = others is None
    x = _Vectors(thumbnails)
    y = x if others is None else _Vectors(others)
    source = np.full(len(thumbnails), -1, np.intp)
    difference, mirrored = np.zeros(len(thumbnails), np.float32), np.zeros(len(thumbnails), bool)
    correlation = np.zeros(len(thumbnails), np.float32)
    for start in range(0, len(x.index), _ROWS):
        rows = slice(start, start + _ROWS)
        dark, bright = x.brightness[rows][0] - LARGEST_DIFFERENCE, x.brightness[rows][-1] + LARGEST_DIFFERENCE
        low, high = np.searchsorted(y.brightness, [dark, bright])
        for left in range(low, high, _COLUMNS):
            columns = slice(left, min(left + _COLUMNS, high))
            centred = y.centred[columns]
            flipped = centred.reshape(-1, THUMBNAIL, THUMBNAIL, 3)[:, :, ::-1].reshape(centred.shape)
            for is_mirrored, target in ((False, centred), (True, flipped)):
                found = x.centred[rows] @ target.T / (x.norm[rows, None] * y.norm[None, columns])
                if own:
                    found[x.index[rows, None] <= y.index[None, columns]] = -1
                if not (found >= SMALLEST_CORRELATION).any():
                    continue
                apart = _difference(found, x, rows, y, columns)
                found[apart > LARGEST_DIFFERENCE] = -1
                best = found.argmax(1)
                value = found[np.arange(len(best)), best]
                place = x.index[rows]
                better = (value >= SMALLEST_CORRELATION) & (value > correlation[place])
                place, at, to = place[better], np.flatnonzero(better), best[better]
                source[place], mirrored[place] = y.index[to + left], is_mirrored
                correlation[place], difference[place] = value[better], apart[at, to]
    return source, difference, np.minimum(correlation, 1), mirrored


class _Vectors:
    """The thumbnails of a set that can be compared, sorted by brightness. index: where each stood in the set."""

    def __init__(self, thumbnails: FloatArray) -> None:
        means = thumbnails.mean((1, 2))
        deviations = np.sqrt(np.square(thumbnails - means[:, None, None]).mean((1, 2, 3)))
        order = np.argsort(means.mean(1), kind="stable")
        self.index = order[deviations[order] >= SMALLEST_DEVIATION]
        self.means = means[self.index]
        self.brightness = self.means.mean(1)
        self.centred = (thumbnails[self.index] - self.means[:, None, None]).reshape(-1, THUMBNAIL * THUMBNAIL * 3)
        self.norm = np.linalg.norm(self.centred, axis=1)


def _difference(correlation: FloatArray, x: _Vectors, rows: slice, y: _Vectors, columns: slice) -> FloatArray:
    """Root mean squared difference of all pairs of a block, from their correlation, norms and means."""
    norms, other_norms = x.norm[rows, None], y.norm[None, columns]
    square = (norms - other_norms) ** 2 + 2 * (1 - correlation) * norms * other_norms
    means, other_means = x.means[rows], y.means[columns]
    shift = (np.square(means).sum(1)[:, None] + np.square(other_means).sum(1) - 2 * means @ other_means.T) / 3
    result: FloatArray = np.sqrt(np.maximum(square / (THUMBNAIL * THUMBNAIL * 3) + shift, 0))
    return result
