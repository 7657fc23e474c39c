"""Local spectra of images: are translations as sharp as real images, and do they hold stripes, dots or zigzags?

Convolutions of stride 2 leave patterns of a few pixels (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts"),
which power spectra show (Durall et al. 2020, "Watch your Up-Convolution"; Frank et al. 2020, "Leveraging Frequency
Analysis for Deep Fake Image Recognition"). A spectrum of whole images hides patterns that cover some places only, so
these are spectra of windows, in decibels above what is just visible, with the power of all channels together: coloured
stripes count as grey ones do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

# Side of a window in pixels, and the distance of neighbours; images with a shorter side have no spectrum.
WINDOW = 32
_STEP = 16
# Windows of an image are at equal distances, at most so many in a row and in a column.
_MOST_WINDOWS = 16

# Power that is just visible: a standard deviation of two of 255 grey levels, in [-1, 1].
_VISIBLE = (2 / 127.5) ** 2

# Bands of period in pixels. Detail of these sizes is measured beside the coarse detail.
BANDS = ((0.0, 3.0), (3.0, 5.0), (5.0, 8.0))
_COARSE = (8.0, 16.0)

# The highest frequency of a window counts from this height on, in dB; in nearly all windows of photos it is lower.
_HEIGHT = 6.0

# Along which stripes of a sector run.
SECTORS = ("vertical", "rising", "horizontal", "falling")
NUM_RADII = WINDOW // 2


@dataclass(frozen=True)
class Pattern:
    """A pattern of translations. period: in pixels. excess: in dB, see `patterns`.

    stripes: along which of SECTORS they run, None if in more than one direction.
    """

    period: float
    stripes: str | None
    excess: float


@dataclass(frozen=True)
class _Grid:
    """The frequencies of a window. taper: (W, W), its weights. ring: (1, 1, 7, 7), the neighbours of a frequency.

    noise: power at a frequency of white noise with a variance of 1, where the peak of a sinusoid has 1. means:
    (NUM_RADII * sectors, W * W), weights of radii and sectors. lines: indices of one of each pair of frequencies
    with periods up to 8 pixels, in W * W; periods, sectors: of these; bands: which of them are in each of BANDS.
    """

    taper: Tensor
    ring: Tensor
    noise: float
    means: Tensor
    lines: Tensor
    periods: tuple[float, ...]
    sectors: tuple[int, ...]
    bands: tuple[Tensor, ...]


@cache
def _grid() -> _Grid:
    frequencies = torch.fft.fftfreq(WINDOW) * WINDOW
    down, across = torch.meshgrid(frequencies, frequencies, indexing="ij")
    radius, angle = (down.square() + across.square()).sqrt(), torch.atan2(down, across) % math.pi
    apart = torch.stack([(angle - sector * math.pi / 4).abs() for sector in range(4)])
    apart = torch.minimum(apart, math.pi - apart)
    share = (apart - apart.amin(0) < 1e-4).float()  # a frequency between two sectors belongs to both
    share /= share.sum(0)
    rounded = radius.round().clamp(max=NUM_RADII)
    means = torch.stack([share * (rounded == each) for each in range(1, NUM_RADII + 1)]).flatten(2).flatten(0, 1)
    means = means / means.sum(1, keepdim=True)

    # Of each frequency and its negative, which have equal power, one counts.
    half = (across > 0) | (down > 0) & ((across == 0) | (across == -NUM_RADII)) | (down == -NUM_RADII) & (across <= 0)
    lines = (half & (radius >= WINDOW / 8)).flatten().nonzero()[:, 0]
    ring = torch.ones(7, 7)
    ring[2:5, 2:5] = 0  # the width of a line in a Hann window
    taper = torch.hann_window(WINDOW, periodic=True)
    taper = taper[:, None] * taper
    periods = WINDOW / radius.flatten()[lines]
    return _Grid(
        taper,
        (ring / ring.sum())[None, None],
        2 * float(taper.square().sum() / taper.sum() ** 2),
        means,
        lines,
        tuple(periods.tolist()),
        tuple(share.flatten(1).argmax(0)[lines].tolist()),
        tuple(((periods > low) & (periods <= high)).nonzero()[:, 0] for low, high in BANDS),
    )


def spectrum_features(images: Tensor) -> Tensor:
    """What the scores of this module compare, of each image: (N, C, H, W) in [-1, 1] -> (N, D), float32 on the CPU.

    Means over windows, in dB: of the power by radius and sector; of the height of each frequency above those around it,
    where it is higher; and of the greatest of these heights in each band, as far as it is above _HEIGHT, because
    patterns need not have one direction everywhere. Images with a side below WINDOW have NaN.
    """
    grid = _grid()
    if min(images.shape[-2:]) < WINDOW:
        return torch.full((len(images), len(grid.means) + len(grid.lines) + len(BANDS)), torch.nan)
    return torch.stack([_image_features(image.float().cpu(), grid) for image in images])


@torch.no_grad()
def _image_features(image: Tensor, grid: _Grid) -> Tensor:
    rows, columns = (_places(side) for side in image.shape[1:])
    windows = torch.stack([image[:, y : y + WINDOW, x : x + WINDOW] for y in rows for x in columns])
    taper = grid.taper
    windows = windows - (windows * taper).sum((-1, -2), keepdim=True) / taper.sum()
    power = torch.fft.fft2(windows * taper).abs().square().mean(1) * 2 / taper.sum() ** 2 / _VISIBLE
    # Noise is as visible as a sinusoid of equal variance, which all frequencies share.
    texture = 10 * torch.log10(power / grid.noise + 1).mean(0)
    level = 10 * torch.log10(power + 1)
    around = functional.conv2d(functional.pad(level[:, None], (3, 3, 3, 3), mode="circular"), grid.ring)[:, 0]
    heights = (level - around).flatten(1)[:, grid.lines].clamp(min=0)
    highest = torch.stack([(heights[:, band].amax(1) - _HEIGHT).clamp(min=0).mean() for band in grid.bands])
    return torch.cat([grid.means @ texture.flatten(), heights.mean(0), highest])


def _places(side: int) -> list[int]:
    """Where the windows of a side begin."""
    count = min((side - WINDOW) // _STEP + 1, _MOST_WINDOWS)
    return [index * (side - WINDOW) // max(count - 1, 1) for index in range(count)]


def radial_levels(features: Tensor) -> Tensor:
    """The power of images in dB above what is just visible, mean over them: (N, D) -> (NUM_RADII, 4).

    Row i is of i + 1 cycles in WINDOW pixels, the last one of all finer ones; columns are SECTORS.
    """
    return _usable(features).mean(0)[: NUM_RADII * 4].reshape(NUM_RADII, 4)


def spectrum_distance(x: Tensor, y: Tensor, /, *, num_bootstrap: int = 0, seed: int = 0) -> tuple[float, float, float]:
    """How far the fine detail of images is from that of others, in dB, with its 95 % interval; 0 is equal.

    The mean over bands and directions of |difference of power|, each beside that of the coarse detail (8 to 16 pixels),
    so that places with more content are not sharper. x, y: (N, D) and (M, D) of `spectrum_features`.
    Raises ValueError for fewer than 2 images with a spectrum.
    """

    def distance(means_x: Tensor, means_y: Tensor) -> Tensor:
        levels = (means_x - means_y)[..., : NUM_RADII * 4]
        levels = levels.reshape(*levels.shape[:-1], NUM_RADII, 4)
        coarse = _band(levels, *_COARSE)
        return torch.stack([(_band(levels, *band) - coarse).abs() for band in BANDS]).mean((0, -1))

    return _with_interval(distance, x, y, num_bootstrap, seed)


def _band(levels: Tensor, low: float, high: float) -> Tensor:
    """The mean over periods from `low` to `high` pixels of (..., NUM_RADII, 4)."""
    periods = WINDOW / torch.arange(1.0, NUM_RADII + 1)
    return levels[..., (periods > low) & (periods <= high), :].mean(-2)


def patterns(x: Tensor, y: Tensor, /, *, num_bootstrap: int = 0, seed: int = 0) -> tuple[float, float, float]:
    """The strongest pattern of 2 to 8 pixels in images beside that of others, in dB, with its 95 % interval.

    A pattern, such as stripes, is a frequency that stands above those around it, in windows. This is how much more it
    does so in images x than in images y, for the frequency, or for the band of frequencies, where it is most. 0: in
    none. Blur, noise and texture have no such frequencies. x, y, errors: as in `spectrum_distance`.
    """

    def excess(means_x: Tensor, means_y: Tensor) -> Tensor:
        return (means_x - means_y)[..., NUM_RADII * 4 :].amax(-1).clamp(min=0)

    return _with_interval(excess, x, y, num_bootstrap, seed)


def has_spectra(features: Tensor) -> int:
    """How many of the images have a spectrum; 0 if fewer than the two that every score needs."""
    count = int(features.isfinite().all(1).sum()) if features.ndim == 2 else 0
    return count if count >= 2 else 0


def pattern_excess(x: Tensor, y: Tensor) -> Tensor:
    """`patterns` by radius and sector, in dB, (NUM_RADII, 4); 0 where there is none, and above 8 pixels."""
    excess = _line_excess(x, y)
    found = torch.zeros(NUM_RADII * 4)
    radii = [min(round(WINDOW / period), NUM_RADII) - 1 for period in _grid().periods]
    places = torch.tensor(radii) * 4 + torch.tensor(_grid().sectors)
    return found.scatter_reduce(0, places, excess, "amax").reshape(NUM_RADII, 4)


def strongest_pattern(x: Tensor, y: Tensor) -> Pattern:
    """The pattern whose excess `patterns` is. Raises ValueError as it does."""
    grid = _grid()
    excess = _line_excess(x, y)
    value = patterns(x, y)[0]
    if float(excess.max()) >= value:
        index = int(excess.argmax())
        return Pattern(grid.periods[index], SECTORS[grid.sectors[index]], value)
    highest = (_usable(x).mean(0) - _usable(y).mean(0))[-len(BANDS) :]
    band = grid.bands[int(highest.argmax())]
    return Pattern(grid.periods[int(band[excess[band].argmax()])], None, value)


def _line_excess(x: Tensor, y: Tensor) -> Tensor:
    return (_usable(x).mean(0) - _usable(y).mean(0))[NUM_RADII * 4 : -len(BANDS)]


def _with_interval(
    score: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, num_bootstrap: int, seed: int
) -> tuple[float, float, float]:
    """A score of the means of two sets, and 1.96 standard deviations over resamplings of their images on both sides."""
    x, y = _usable(x), _usable(y)
    value = float(score(x.mean(0), y.mean(0)))
    if num_bootstrap < 2:
        return value, value, value
    generator = torch.Generator().manual_seed(seed)

    def resampled(features: Tensor) -> Tensor:
        count = len(features)
        chosen = torch.randint(count, (num_bootstrap, count), generator=generator)
        weights = torch.zeros(num_bootstrap, count).scatter_add_(1, chosen, torch.ones(num_bootstrap, count))
        return weights / count @ features

    half = 1.96 * float(score(resampled(x), resampled(y)).std())
    return value, max(value - half, 0.0), value + half


def _usable(features: Tensor) -> Tensor:
    """The rows of images that have a spectrum."""
    usable = features[features.isfinite().all(1)].float()
    if len(usable) < 2:
        raise ValueError(f"it needs 2 images of each set with sides of at least {WINDOW} pixels, not {len(usable)}")
    return usable
