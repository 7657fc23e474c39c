"""The order of the images of one domain, as a pure function of the step, also when images come and go between sessions.

Each pass shows every image once, in a new order. While the images stay the same, the order of a pass is a permutation
drawn from (seed, domain, pass). When a session finds other images, the pass goes on: those that were shown in it are
left out, the others keep their order, and new ones get random places among them. So in every pass the images that a run
knew before keep their order, whatever is added or removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int32]

# First entry of the counter-based seed.
_ORDER = 11


@dataclass(frozen=True)
class Stretch:
    """Part of a run, from `step` on, in which images and batch size stay the same.

    num_known: images that the run has known so far. absent: the indices of those that are gone.
    """

    step: int
    batch_size: int
    num_known: int
    absent: Indices = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def num_images(self) -> int:
        """Images that a pass shows."""
        return self.num_known - len(self.absent)

    def is_same(self, other: "Stretch") -> bool:
        """Whether both begin at the same step and have the same images and batch size."""
        return self.step == other.step and self.is_like(other)

    def is_like(self, other: "Stretch") -> bool:
        """Whether both have the same images and batch size."""
        sizes = (self.batch_size, self.num_known) == (other.batch_size, other.num_known)
        return sizes and np.array_equal(self.absent, other.absent)


@dataclass
class ImageOrder:
    """The order of the images of one domain, from the last of its stretches on.

    domain: 0 or 1. Images are counted as the run came to know them. places: the position in the list of files of each
    image, -1 for one that is gone; None if both are the same. ranks: the place by name of each image, for runs that do
    not shuffle; needed if there are several stretches.
    """

    seed: int
    domain: int
    shuffle: bool
    stretches: Sequence[Stretch]
    places: NDArray[np.intp] | None = None
    ranks: NDArray[np.intp] | None = None
    # The pass in which each stretch begins, and the share of the pass that was shown before it.
    _passes: list[int] = field(default_factory=lambda: [0], repr=False)
    _shares: list[float] = field(default_factory=lambda: [0.0], repr=False)
    # Of the pass in which the last stretch begins: images that were shown before it, and the others, in order.
    _shown: Indices = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    _rest: Indices = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    _rest_count: int = 0  # of these, still to be shown; later ones replace those that cannot be read
    _orders: dict[int, Indices] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for number in range(1, len(self.stretches)):
            self._continue(number)
        if len(self.stretches) > 1:
            absent = self.stretches[-1].absent
            shown = self._shown[~np.isin(self._shown, absent)]
            self._rest, self._rest_count = self._to_places(np.concatenate([self._rest, shown])), len(self._rest)

    def at(self, step: int, slot: int) -> tuple[Indices, int]:
        """The image of a slot of a batch: the positions in the list of files of a pass, in order, and which of them."""
        last = self.stretches[-1]
        position = (step - last.step) * last.batch_size + slot - self._rest_count
        if position < 0:
            return self._rest, position + self._rest_count
        number, index = divmod(position, last.num_images)
        number += self._passes[-1] + (len(self.stretches) > 1)
        if number not in self._orders:
            while len(self._orders) > 1:  # a batch may span two passes
                del self._orders[next(iter(self._orders))]
            self._orders[number] = self._to_places(self._order(len(self.stretches) - 1, number))
        return self._orders[number], index

    def _continue(self, number: int) -> None:
        """Find the pass in which a stretch begins, and what is left of it."""
        before, stretch = self.stretches[number - 1], self.stretches[number]
        position = (stretch.step - before.step) * before.batch_size
        if position < len(self._rest):
            first = self._passes[-1]
            shown = np.concatenate([self._shown, self._rest[:position]])
            total = len(self._shown) + len(self._rest)
        else:
            total = before.num_images
            passes, position = divmod(position - len(self._rest), total)
            first = self._passes[-1] + passes + (number > 1)
            shown = self._order(number - 1, first)[:position]
        self._passes.append(first)
        self._shares.append(len(shown) / total)
        self._shown, self._rest = shown, self._order(number, first, shown)

    def _order(self, number: int, which: int, without: Indices | None = None) -> Indices:
        """The images of a pass in the order of a stretch, all or `without` some."""
        stretch = self.stretches[number]
        if number == 0 and len(stretch.absent) == 0:
            return self._base(which)
        wanted = np.ones(stretch.num_known, bool)
        wanted[stretch.absent] = False
        if without is not None:
            wanted[without] = False
        chosen = np.flatnonzero(wanted)
        order: Indices = chosen[np.argsort(self._keys(number, which)[chosen], kind="stable")].astype(np.int32)
        return order

    def _base(self, which: int) -> Indices:
        """The order of the images of the first stretch."""
        count = self.stretches[0].num_known
        if self.shuffle:
            return _permutation(self.seed, self.domain, which, count)
        return np.arange(count, dtype=np.int32)  # a run begins with its images in order of their names

    def _keys(self, number: int, which: int) -> NDArray[np.float64]:
        """Numbers that order all images known in a stretch. That of an image never changes while a pass lasts."""
        if not self.shuffle:
            assert self.ranks is not None
            return self.ranks.astype(np.float64)
        counts = [stretch.num_known for stretch in self.stretches[: number + 1]]
        keys = np.empty(counts[-1])
        keys[self._base(which)] = (np.arange(counts[0]) + 0.5) / counts[0]
        for index, (begin, end) in enumerate(pairwise(counts), 1):
            drawn = np.random.default_rng([_ORDER, self.seed, self.domain, which, index]).random(end - begin)
            # In the pass in which they come they are spread over what is left of it.
            low = self._shares[index] if which == self._passes[index] else 0.0
            keys[begin:end] = low + (1 - low) * drawn
        return keys

    def _to_places(self, images: Indices) -> Indices:
        return images if self.places is None else self.places[images].astype(np.int32)


@lru_cache(maxsize=4)  # two passes of two domains: a batch may span both
def _permutation(seed: int, domain: int, which: int, count: int) -> Indices:
    return np.random.default_rng([_ORDER, seed, domain, which]).permutation(count).astype(np.int32)
