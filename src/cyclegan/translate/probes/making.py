"""Known changes to put into images: round lesions, removed structures, lines and shifts of brightness.

Contrasts are shares of the value range, so 0.1 is a tenth of the way from black to white. A change is the same in all
channels except transparency.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.errors import InputError
from cyclegan.images.holes import push_pull
from cyclegan.storage.probe_rates import ProbeKind
from cyclegan.system.arguments import check_choice, check_float, check_int
from cyclegan.system.json_files import shown

KINDS: tuple[ProbeKind, ...] = ("lesion", "missing", "line", "brightness")

# Diameters as shares of the shorter side, and contrasts as shares of the value range.
SIZES = (1 / 32, 1 / 16, 1 / 8)
CONTRASTS = (0.025, 0.05, 0.1, 0.2, 0.4)

# A person sees a change of 2 % (the threshold of large targets on an even ground is about 1 % with forced choice and
# 2 % with certainty: Blackwell 1946, "Contrast Thresholds of the Human Eye"), whose contrast times the root of its
# number of pixels is at least 5 standard deviations of its surroundings (Rose 1948, "The Sensitivity Performance of
# the Human Eye on an Absolute Scale").
WEBER = 0.02
ROSE = 5.0

# Places whose surroundings vary less than this share of the range are air or a bare margin.
_FLAT = 0.001

# First entry of the counter-based seeds of the places.
_PLACES = 47

# Places that are looked at for structures to remove.
_NUM_CANDIDATES = 32


@dataclass(frozen=True, eq=False)
class Probe:
    """An image with one known change.

    size: diameter of a lesion as a share of the shorter side; a line is four times as long and a quarter as wide.
    nominal: the contrast that was asked for. contrast: root mean square of the change over the footprint, negative if
    it is darker. row, column: its centre. diameter, half_length, radius: in pixels; the footprint is all that is within
    `radius` of a segment of twice `half_length`, at `angle`; a shift of brightness has the whole image. is_seen:
    whether a person sees the change in the input. image: (C, H, W), float32 in [-1, 1], with the change.
    """

    kind: ProbeKind
    size: float
    nominal: float
    contrast: float
    row: int
    column: int
    diameter: float
    radius: float
    half_length: float
    angle: float
    is_seen: bool
    image: Tensor

    @property
    def is_whole(self) -> bool:
        """Whether the whole image is changed."""
        return self.kind == "brightness"

    def distances(self) -> Tensor:
        """(H, W): how far each pixel is from the footprint, in pixels; 0 or less inside."""
        height, width = self.image.shape[-2:]
        rows = torch.arange(height, dtype=torch.float32) - self.row
        columns = torch.arange(width, dtype=torch.float32) - self.column
        return _to_segment(rows[:, None], columns, self.half_length, self.angle) - self.radius


def check_probes(kinds: Any, sizes: Any, contrasts: Any, places: Any, seed: Any, number: Any) -> None:
    """Raises InputError for kinds that do not exist, and for numbers out of range."""
    for name, values in (("kinds", kinds), ("sizes", sizes), ("contrasts", contrasts)):
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or len(values) == 0:
            raise InputError(f"{name} is {shown(values)}; expected a list with at least one value.")
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    for name, values, most in (("sizes", sizes, 0.5), ("contrasts", contrasts, 1.0)):
        for value in values:
            if not 0 < check_float(name, value, least=0) <= most:
                raise InputError(f"{name} holds {value:g}; expected shares above 0, up to {most:g}.")
    check_int("places", places, least=1, most=10_000)
    check_int("seed", seed, least=0)
    check_int("number", number, least=0)


def make_probes(
    image: Tensor,
    valid: Tensor | None = None,
    *,
    kinds: Sequence[ProbeKind] = KINDS,
    sizes: Sequence[float] = SIZES,
    contrasts: Sequence[float] = CONTRASTS,
    places: int = 1,
    seed: int = 0,
    number: int = 0,
    alpha: bool = False,
) -> Iterator[Probe]:
    """Images with one change each: every kind, size and contrast in `places` places.

    image: (C, H, W) in [-1, 1]. valid: (H, W), bool, False in holes, which are never changed. alpha: whether the last
    channel is transparency. seed, number: of the random places, directions and signs; number: that of the image. All
    contrasts of a kind and size are in the same places, except removed structures, whose contrast is their own. Places
    with nothing around them, such as the air of a scan, are left out. What does not fit into the image is left out.
    """
    for kind in kinds:
        if kind == "brightness":
            rng = np.random.default_rng([_PLACES, seed, number, KINDS.index(kind)])
            yield from (_brightness(image, valid, contrast, rng, alpha) for contrast in contrasts)
            continue
        for size in sizes:
            rng = np.random.default_rng([_PLACES, seed, number, KINDS.index(kind), round(size * 2**20)])
            if kind == "missing":
                yield from _missing(image, valid, size, contrasts, places, rng, alpha)
            else:
                yield from _drawn(kind, image, valid, size, contrasts, places, rng, alpha)


def visible_contrast(image: Tensor, valid: Tensor | None, diameter: float, num_pixels: int) -> Tensor:
    """(H, W): the least contrast that a person sees of a change of so many pixels at each place, see WEBER and ROSE.

    image: (C, H, W) in [-1, 1]. The noise is the standard deviation in a square of three diameters. Shares of the value
    range; some are above 1.
    """
    return seen_from(local_spread(image, valid, diameter), num_pixels)


def seen_from(spread: Tensor, num_pixels: int) -> Tensor:
    """`visible_contrast` from the result of `local_spread`."""
    return torch.clamp(ROSE * spread / 2 / num_pixels**0.5, min=WEBER)


def _threshold(image: Tensor, valid: Tensor | None, diameter: float, num_pixels: int, row: int, column: int) -> float:
    """`visible_contrast` at one place."""
    reach = max(1, round(1.5 * diameter))
    top, left = max(0, row - reach), max(0, column - reach)
    around = slice(top, row + reach + 1), slice(left, column + reach + 1)
    found = visible_contrast(image[:, *around], None if valid is None else valid[around], diameter, num_pixels)
    return float(found[row - top, column - left])


def local_spread(image: Tensor, valid: Tensor | None, diameter: float) -> Tensor:
    """(H, W): standard deviation in a square of three diameters around each pixel, root mean square over channels.

    A plane is taken out of each square first: a slow change of the background hides nothing.
    """
    height, width = image.shape[-2:]
    weights = torch.ones(1, height, width) if valid is None else valid[None]
    weights = weights.double()  # sums of squares of positions need the digits
    reach = max(1, round(1.5 * diameter))
    share = _box_sum(weights, reach).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return _box_sum(weights * values, reach) / share

    image = image.double() - image.double().mean((-2, -1), keepdim=True)
    average = mean(image)
    variance = mean(image.square()) - average.square()
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    for position in (rows[:, None].expand(1, height, width), columns.expand(1, height, width)):
        place = mean(position)
        slope = mean(position * image) - place * average
        variance = variance - slope.square() / (mean(position.square()) - place.square()).clamp_min(1e-3)
    return variance.clamp_min(0).mean(0).sqrt().float()


def _box_sum(values: Tensor, reach: int) -> Tensor:
    """(N, H, W): the sum over a square of `reach` pixels to each side, as far as it is inside."""
    for dim, padding in ((-2, (0, 0, 1, 0)), (-1, (1, 0))):
        place, size = torch.arange(values.shape[dim]), values.shape[dim]
        sums = functional.pad(values, padding).cumsum(dim)
        first, last = (place - reach).clamp_min(0), (place + reach + 1).clamp_max(size)
        values = sums.index_select(dim, last) - sums.index_select(dim, first)
    return values


def highest(values: Tensor, reach: int) -> Tensor:
    """(N, H, W): the highest value of a square of so many pixels to each side."""
    side = 2 * reach + 1
    rows = functional.max_pool2d(values, (side, 1), stride=1, padding=(reach, 0))
    return functional.max_pool2d(rows, (1, side), stride=1, padding=(0, reach))


def capsule(radius: float, half_length: float = 0.0, angle: float = 0.0) -> Tensor:
    """(K, K), K odd: weights from 0 to 1 of what is within `radius` of a segment, with an edge of one pixel."""
    reach = math.ceil(radius + half_length)
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    return (radius + 0.5 - _to_segment(line[:, None], line, half_length, angle)).clamp(0, 1)


def footprint(weights: Tensor) -> Tensor:
    """The pixels that a capsule changes by at least half, bool."""
    return weights >= 0.5


def _to_segment(rows: Tensor, columns: Tensor, half_length: float, angle: float) -> Tensor:
    along = (columns * math.cos(angle) + rows * math.sin(angle)).clamp(-half_length, half_length)
    return torch.hypot(columns - along * math.cos(angle), rows - along * math.sin(angle))


def _drawn(
    kind: ProbeKind,
    image: Tensor,
    valid: Tensor | None,
    size: float,
    contrasts: Sequence[float],
    places: int,
    rng: np.random.Generator,
    alpha: bool,
) -> Iterator[Probe]:
    """Lesions or lines that are added to the image."""
    diameter = size * min(image.shape[-2:])
    radius = diameter / 2 if kind == "lesion" else max(1.0, diameter / 4) / 2
    half_length = 0.0 if kind == "lesion" else max(0.0, 2 * diameter - radius)
    angles = rng.uniform(0, math.pi, places) if kind == "line" else np.zeros(places)
    reach = math.ceil(radius + half_length)
    centres = _centres(image, valid, diameter, reach, places, rng)
    signs = rng.choice([-1, 1], places)
    for (row, column), angle, sign in zip(centres, angles, signs, strict=False):
        weights = capsule(radius, half_length, angle)
        inside = footprint(weights)
        threshold = _threshold(image, valid, diameter, int(inside.sum()), row, column)
        place = _place(row, column, reach)
        for contrast in contrasts:
            patch, realised = _shifted(image[place], weights, inside, contrast, int(sign), alpha)
            changed = image.clone()
            changed[place] = patch
            yield Probe(
                kind,
                size,
                contrast,
                realised,
                row,
                column,
                diameter,
                radius,
                half_length,
                float(angle),
                abs(realised) >= threshold,
                changed,
            )


def _missing(
    image: Tensor,
    valid: Tensor | None,
    size: float,
    contrasts: Sequence[float],
    places: int,
    rng: np.random.Generator,
    alpha: bool,
) -> Iterator[Probe]:
    """Round structures that are there, filled by what is around them, which differ from it by about each contrast."""
    diameter = size * min(image.shape[-2:])
    radius = diameter / 2
    weights = capsule(radius)
    inside = footprint(weights)
    reach = len(weights) // 2
    found = []
    for row, column in _centres(image, valid, diameter, reach, max(_NUM_CANDIDATES, places), rng):
        place = _place(row, column, reach)
        patch = _filled(image, weights > 0, row, column, reach, alpha)
        found.append((_realised(image[place], patch, inside, alpha), row, column, patch))
    for contrast in contrasts:
        # Half an octave, so that each structure belongs to one of the default contrasts.
        near = [
            index
            for index, (realised, *_) in enumerate(found)
            if contrast / 2**0.5 <= abs(realised) < contrast * 2**0.5
        ]
        for index in near[:places]:
            realised, row, column, patch = found[index]
            changed = image.clone()
            changed[_place(row, column, reach)] = patch
            # What is around the structure is the image without it.
            threshold = _threshold(changed, valid, diameter, int(inside.sum()), row, column)
            yield Probe(
                "missing",
                size,
                contrast,
                realised,
                row,
                column,
                diameter,
                radius,
                0.0,
                0.0,
                abs(realised) >= threshold,
                changed,
            )


def _brightness(image: Tensor, valid: Tensor | None, contrast: float, rng: np.random.Generator, alpha: bool) -> Probe:
    """All of the image, brighter or darker."""
    height, width = image.shape[-2:]
    weights = torch.ones(height, width) if valid is None else valid.float()
    changed, realised = _shifted(image, weights, weights > 0, contrast, int(rng.choice([-1, 1])), alpha)
    side = float(min(height, width))
    centre = height // 2, width // 2
    return Probe(
        "brightness", 1.0, contrast, realised, *centre, side, math.inf, 0.0, 0.0, abs(realised) >= WEBER, changed
    )


def _shifted(
    patch: Tensor, weights: Tensor, inside: Tensor, contrast: float, sign: int, alpha: bool
) -> tuple[Tensor, float]:
    """The patch with a contrast, and the contrast that it gets within the range; the other sign where that is more."""
    tries = []
    for each in (sign, -sign):
        change = 2 * contrast * each * weights
        changed = (patch + change).clamp(min=patch.clamp(max=-1), max=patch.clamp(min=1))
        if alpha:
            changed = torch.cat([changed[:-1], patch[-1:]])
        tries.append((changed, _realised(patch, changed, inside, alpha)))
        if abs(tries[0][1]) >= 0.9 * contrast:
            break
    return max(tries, key=lambda tried: abs(tried[1]))


def _realised(before: Tensor, after: Tensor, inside: Tensor, alpha: bool) -> float:
    """Root mean square of a change over its footprint as a share of the range; negative if it is darker."""
    change = (after - before)[: len(after) - alpha, inside] / 2
    if change.numel() == 0:
        return 0.0
    return math.copysign(float(change.square().mean().sqrt()), float(change.mean()))


def _filled(image: Tensor, inside: Tensor, row: int, column: int, reach: int, alpha: bool) -> Tensor:
    """The patch around a place with its footprint filled from around it."""
    margin = 3 * reach
    height, width = image.shape[-2:]
    top, left = max(0, row - margin), max(0, column - margin)
    around = image[:, top : min(height, row + margin + 1), left : min(width, column + margin + 1)]
    known = np.ones(around.shape[-2:], bool)
    place = (slice(row - reach - top, row + reach + 1 - top), slice(column - reach - left, column + reach + 1 - left))
    known[place] = ~inside.numpy()
    values = around.permute(1, 2, 0).numpy()
    filled = push_pull(np.where(known[..., None], values, np.float32(0)), known)
    patch = torch.from_numpy(filled).permute(2, 0, 1)[:, place[0], place[1]]
    return torch.cat([patch[:-1], image[_place(row, column, reach)][-1:]]) if alpha else patch


def _centres(
    image: Tensor, valid: Tensor | None, diameter: float, reach: int, count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to `count` different centres whose surroundings hold something, and whose footprints lie in the image."""
    height, width = image.shape[-2:]
    free = torch.zeros(height, width, dtype=torch.bool)
    free[reach : height - reach, reach : width - reach] = True
    if valid is not None:
        free &= highest((~valid).float()[None], reach)[0] == 0
    lively = free & (local_spread(image, valid, diameter) / 2 > _FLAT)
    candidates = (lively if lively.any() else free).nonzero()
    chosen = torch.from_numpy(rng.permutation(len(candidates))[:count])
    return [(int(row), int(column)) for row, column in candidates[chosen]]


def _place(row: int, column: int, reach: int) -> tuple[slice, slice, slice]:
    return slice(None), slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)
