"""Self-ensemble: the mean of the translations of several views of an image, each turned back.

A network whose answer changes when the image is mirrored, turned or moved makes errors that differ between these views,
and their mean has fewer of them. Known as geometric self-ensemble from super-resolution (Lim et al. 2017, EDSR, section
3.4), or test-time augmentation. Every view costs one translation.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from cyclegan.config import SelfEnsemble
from cyclegan.images.regions import Box
from cyclegan.system.arguments import check_choice
from cyclegan.translate.tiling.boxes import reflected, select


@dataclass(frozen=True)
class View:
    """An image that is transposed, upside down, mirrored and moved, in this order.

    down, right: pixels that it is moved by; the gap is filled by reflection, so the view is larger by as much.
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False
    down: int = 0
    right: int = 0

    def apply(self, images: Tensor) -> Tensor:
        """The view of images (..., H, W). Without a change the same tensor."""
        if self == UNCHANGED:
            return images
        turned = self._turn(images)
        height, width = turned.shape[-2:]
        rows, columns = reflected(-self.down, height, height), reflected(-self.right, width, width)
        return select(turned, rows, columns).contiguous()

    def undo(self, view: Tensor) -> Tensor:
        """The image of a view, (..., H, W), without what was filled in."""
        return self.turn_back(view[..., self.down :, self.right :])

    def turn_back(self, region: Tensor) -> Tensor:
        """A region of a view, (..., H, W), as the image shows it."""
        dims = [dim for dim, flipped in ((-2, self.upside_down), (-1, self.mirrored)) if flipped]
        region = region.flip(dims) if dims else region
        return region.transpose(-2, -1) if self.transposed else region

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the view of an image of this size."""
        height, width = self._turned_size(height, width)
        return height + self.down, width + self.right

    def box(self, box: Box, height: int, width: int) -> Box:
        """Where the view of an image of height x width shows a box of that image."""
        top, bottom, left, right = box.top, box.bottom, box.left, box.right
        if self.transposed:
            top, bottom, left, right = left, right, top, bottom
        height, width = self._turned_size(height, width)
        if self.upside_down:
            top, bottom = height - bottom, height - top
        if self.mirrored:
            left, right = width - right, width - left
        return Box(top + self.down, bottom + self.down, left + self.right, right + self.right)

    def reader(self, read: Callable[[Box], Tensor], height: int, width: int) -> Callable[[Box], Tensor]:
        """The function that reads a box of the view. read: the same of the image, of height x width."""
        if self == UNCHANGED:
            return read
        turned_height, turned_width = self._turned_size(height, width)

        def read_turned(box: Box) -> Tensor:
            top, bottom, left, right = box.top, box.bottom, box.left, box.right
            if self.upside_down:
                top, bottom = turned_height - bottom, turned_height - top
            if self.mirrored:
                left, right = turned_width - right, turned_width - left
            if self.transposed:
                top, bottom, left, right = left, right, top, bottom
            return self._turn(read(Box(top, bottom, left, right)))

        def read_view(box: Box) -> Tensor:
            rows = reflected(box.top - self.down, box.bottom - self.down, turned_height)
            columns = reflected(box.left - self.right, box.right - self.right, turned_width)
            have = Box(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
            return select(read_turned(have), rows - have.top, columns - have.left)

        return read_view

    def _turn(self, images: Tensor) -> Tensor:
        if self.transposed:
            images = images.transpose(-2, -1)
        dims = [dim for dim, flipped in ((-2, self.upside_down), (-1, self.mirrored)) if flipped]
        return images.flip(dims) if dims else images

    def _turned_size(self, height: int, width: int) -> tuple[int, int]:
        return (width, height) if self.transposed else (height, width)


UNCHANGED = View()

# The views of each kind, the unchanged image first. Generators with two convolutions of stride 2 repeat every 4 pixels;
# a move by 2 is the farthest from that, and more moves gain nothing: docs/research/translation.md.
VIEWS: dict[SelfEnsemble, tuple[View, ...]] = {
    "none": (UNCHANGED,),
    "mirror": (UNCHANGED, View(mirrored=True)),
    "mirror-and-shift": (
        UNCHANGED,
        View(down=2, right=2),
        View(mirrored=True, right=2),
        View(mirrored=True, down=2),
    ),
    "turns": tuple(itertools.starmap(View, itertools.product((False, True), repeat=3))),
}


def views_of(kind: SelfEnsemble) -> tuple[View, ...]:
    """The views of a kind of self-ensemble, the unchanged image first."""
    return VIEWS[kind]


def check_self_ensemble(name: str, kind: Any) -> SelfEnsemble:
    """The kind of self-ensemble. Raises InputError for another value. name: of the argument."""
    check_choice(name, kind, get_args(SelfEnsemble))
    checked: SelfEnsemble = kind
    return checked


def mean_of(results: Iterable[Tensor]) -> Tensor:
    """The mean of tensors of one shape; of equal ones exactly their value."""
    mean: Tensor | None = None
    for number, result in enumerate(results, 1):
        mean = result if mean is None else torch.lerp(mean, result, 1 / number)
    assert mean is not None
    return mean
