"""Measure how a translation answers a known change of its input.

The translation of the changed image is compared with that of the unchanged one. A change counts as shown where a person
would see it in the translation by the same rule as in the input (WEBER, ROSE), and where it is stronger than 99 % of
what imperceptible noise on the input does to this translation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cyclegan.images.tensors import same_size_batches
from cyclegan.storage.probe_rates import ProbeKind
from cyclegan.translate.probes.making import (
    CONTRASTS,
    KINDS,
    SIZES,
    WEBER,
    Probe,
    capsule,
    footprint,
    highest,
    local_spread,
    make_probes,
    seen_from,
)

Translate: TypeAlias = Callable[[Tensor], Tensor]

# Standard deviation of the noise that nobody sees, as a share of the value range: about one of 255 grey levels.
NOISE = 0.005
_NUM_NOISE = 4

# Share of the places where nothing but that noise changed that count as shown.
FALSE_ALARMS = 0.01

# A change that shows up within this many pixels of its place, or 1.5 diameters, is moved; further away it is invented.
# Generators compute at a quarter of the resolution, so that a point spreads over a few pixels.
_NEAR = 8.0

# First entry of the counter-based seeds of the noise.
_SEED = 48


@dataclass(frozen=True)
class ProbeResponse:
    """What a translation makes of one change.

    kind, size, nominal, contrast, row, column, is_seen: of the change, see `Probe`.
    outcome: where the translation changes most, up to 1.5 diameters or eight pixels from the place: kept if that is
    within half a diameter and visible, moved if it is further away and visible, lost if it is not visible.
    invented: whether it changes visibly anywhere beyond that; for a shift of brightness, whether it changes by more
    than another brightness and contrast of the same picture.
    response: strength of that change, and threshold: the least that counts there, as shares of the value
    range of the target domain.
    remaining: strength over the contrast of the probe, divided by the same ratio of the variation of both pictures, so
    1 is as strong as anything else of the picture is.
    share_inside: share of the squared change that lies at the place. displacement: from the place to the centre of the
    change around it, in pixels. They are None where nothing changes, and for a shift of brightness.
    """

    kind: ProbeKind
    size: float
    nominal: float
    contrast: float
    row: int
    column: int
    is_seen: bool
    outcome: Literal["kept", "moved", "lost"]
    invented: bool
    response: float
    threshold: float
    remaining: float | None
    share_inside: float | None
    displacement: float | None


@dataclass(frozen=True, eq=False)
class Probed:
    """A change, the translation with it, the map of what changed, (H, W) as a share of the range, and what it means."""

    probe: Probe
    translation: Tensor
    change: Tensor
    response: ProbeResponse


@dataclass(eq=False)
class Unchanged:
    """An image and its translation, both (C, H, W) in [-1, 1] without transparency, which changes are compared with.

    valid: (H, W), bool, False in holes, or None. noise: (N, H, W), mean squares over channels of what imperceptible
    noise on the image changes in the translation.
    """

    image: Tensor
    translation: Tensor
    valid: Tensor | None
    noise: Tensor
    _levels: dict[object, tuple[float, float]] = field(default_factory=dict)
    _spreads: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def spreads(self, diameter: float) -> tuple[Tensor, Tensor]:
        """`local_spread` of the image and of its translation."""
        if diameter not in self._spreads:
            image, translation = (
                local_spread(picture, self.valid, diameter) for picture in (self.image, self.translation)
            )
            self._spreads[diameter] = image, translation
        return self._spreads[diameter]

    def noise_levels(self, shape: Tensor, tolerance: float) -> tuple[float, float]:
        """What noise does to a footprint of this shape: the level that FALSE_ALARMS of all places exceed, the most."""
        key = (shape.numpy().tobytes(), tolerance)
        if key not in self._levels:
            strength = highest(slide(self.noise, shape, self.valid), int(tolerance))
            inside = strength if self.valid is None else strength[:, self.valid]
            self._levels[key] = float(np.quantile(inside.numpy(), 1 - FALSE_ALARMS)), float(inside.max())
        return self._levels[key]


def probe_image(
    translate: Translate,
    image: Tensor,
    valid: Tensor | None = None,
    *,
    kinds: Sequence[ProbeKind] = KINDS,
    sizes: Sequence[float] = SIZES,
    contrasts: Sequence[float] = CONTRASTS,
    places: int = 1,
    seed: int = 0,
    number: int = 0,
    alpha: tuple[bool, bool] = (False, False),
    batch_size: int = 1,
) -> Iterator[Probed]:
    """Put changes into an image and measure the response of the translation to each of them.

    translate: (N, C, H, W) in [-1, 1] -> the same of the other domain, on the CPU. alpha: whether the last channel of
    an input and of a translation is transparency. Others: as in `make_probes`.
    """
    noisy = [_with_noise(image, seed, number, index, alpha[0]) for index in range(_NUM_NOISE)]
    batches = same_size_batches(((None, each) for each in (image, *noisy)), batch_size)
    plain = torch.cat([translate(some) for _, some in batches])
    plain = plain[:, : plain.shape[1] - alpha[1]]
    unchanged = Unchanged(image[: len(image) - alpha[0]], plain[0], valid, _energy(plain[1:], plain[0], valid))
    probes = make_probes(
        image,
        valid,
        kinds=kinds,
        sizes=sizes,
        contrasts=contrasts,
        places=places,
        seed=seed,
        number=number,
        alpha=alpha[0],
    )
    for some, images in same_size_batches(((probe, probe.image) for probe in probes), batch_size):
        for probe, result in zip(some, translate(images), strict=True):
            colours = result[: len(result) - alpha[1]]
            energy = _energy(colours, unchanged.translation, valid)
            yield Probed(probe, result, energy.sqrt() / 2, measure_response(unchanged, probe, colours))


def measure_response(unchanged: Unchanged, probe: Probe, translation: Tensor) -> ProbeResponse:
    """Compare the translation of an image with a change, (C, H, W) without transparency, with that of the image."""
    energy = _energy(translation, unchanged.translation, unchanged.valid)
    total = float(energy.sum())
    measured = _whole_response if probe.is_whole else _local_response
    outcome, invented, response, threshold, share_inside, displacement = measured(unchanged, probe, translation, energy)
    return ProbeResponse(
        kind=probe.kind,
        size=probe.size,
        nominal=probe.nominal,
        contrast=probe.contrast,
        row=probe.row,
        column=probe.column,
        is_seen=probe.is_seen,
        outcome=outcome,
        invented=invented,
        response=response,
        threshold=threshold,
        remaining=_remaining(unchanged, probe, response),
        share_inside=share_inside if total > 0 else None,
        displacement=displacement if total > 0 else None,
    )


_Measured: TypeAlias = tuple[Literal["kept", "moved", "lost"], bool, float, float, float | None, float | None]


def _local_response(unchanged: Unchanged, probe: Probe, translation: Tensor, energy: Tensor) -> _Measured:
    """Response to a change of one place."""
    # What is around a structure is the picture without it, as in the input.
    if probe.kind == "missing":
        spread = local_spread(translation, unchanged.valid, probe.diameter)
    else:
        _, spread = unchanged.spreads(probe.diameter)
    shape = footprint(capsule(probe.radius, probe.half_length, probe.angle))
    tolerance = max(1.0, probe.diameter / 2)
    near = max(_NEAR, 1.5 * probe.diameter)
    usual, _most = unchanged.noise_levels(shape, near)
    thresholds = seen_from(spread, int(shape.sum())).clamp_min(usual)
    strengths = slide(energy, shape, unchanged.valid)

    # By how far the footprint is moved from its place.
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in energy.shape)
    shift = torch.hypot(rows[:, None] - probe.row, columns - probe.column)
    around = torch.where(shift <= near, strengths, -1.0)
    peak = divmod(int(around.argmax()), energy.shape[1])
    is_shown = bool(strengths[peak] >= thresholds[peak])
    outcome: Literal["kept", "moved", "lost"] = (
        "lost" if not is_shown else "kept" if shift[peak] <= tolerance else "moved"
    )

    distances = probe.distances()
    disc = footprint(capsule(probe.diameter / 2))
    _usual, most = unchanged.noise_levels(disc, 0.0)
    visible = seen_from(spread, int(disc.sum()))
    far = torch.where(distances > near, energy, 0.0)
    invented = bool((slide(far, disc, unchanged.valid) > visible.clamp_min(most)).any())

    close = torch.where(distances <= near, energy, 0.0)
    displacement = None
    if (weight := float(close.sum())) > 0:
        row, column = float((close.sum(1) @ rows) / weight), float((close.sum(0) @ columns) / weight)
        displacement = float(np.hypot(row - probe.row, column - probe.column))
    share_inside = float(energy[distances <= tolerance].sum()) / max(float(energy.sum()), 1e-30)
    return (
        outcome,
        invented,
        float(strengths[peak]),
        float(thresholds[peak]),
        share_inside,
        displacement,
    )


def _whole_response(unchanged: Unchanged, probe: Probe, translation: Tensor, energy: Tensor) -> _Measured:
    """Response to a change of the whole image. Invented is what another brightness and contrast do not explain."""
    valid = torch.ones(energy.shape, dtype=torch.bool) if unchanged.valid is None else unchanged.valid
    response = float(energy[valid].mean().sqrt()) / 2
    threshold = max(WEBER, float(unchanged.noise[:, valid].mean(-1).max().sqrt()) / 2)
    rest = torch.zeros_like(translation)
    for channel, (before, after) in enumerate(zip(unchanged.translation, translation, strict=True)):
        x, y = before[valid], (after - before)[valid]
        spread = (x - x.mean()).square().sum()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / spread.clamp_min(1e-12)
        rest[channel][valid] = y - y.mean() - slope * (x - x.mean())
    diameter = SIZES[1] * probe.diameter
    disc = footprint(capsule(diameter / 2))
    _, spread = unchanged.spreads(diameter)
    visible = seen_from(spread, int(disc.sum()))
    _, most = unchanged.noise_levels(disc, 0.0)
    strengths = slide(rest.square().mean(0), disc, unchanged.valid)
    invented = bool((strengths > visible.clamp_min(most)).any())
    return ("kept" if response >= threshold else "lost"), invented, response, threshold, None, None


def _remaining(unchanged: Unchanged, probe: Probe, response: float) -> float | None:
    """The strength of a response over what the contrast of the probe is worth in the translation."""
    if probe.is_whole:
        source, target = (
            float(picture.flatten(1).std(1, correction=0).square().mean().sqrt())
            for picture in (unchanged.image, unchanged.translation)
        )
    else:
        source, target = (float(spread.mean()) for spread in unchanged.spreads(probe.diameter))
    worth = abs(probe.contrast) * target / source if source > 0 else 0.0
    return response / worth if worth > 0 else None


def slide(energy: Tensor, shape: Tensor, valid: Tensor | None = None) -> Tensor:
    """(..., H, W): strength of a change under a footprint around each pixel, as a share of the value range.

    energy: (..., H, W), mean squares over channels. shape: (K, K), bool, K odd. The strength is half the root of the
    mean under the footprint, and 0 where less than half of it lies on valid pixels.
    """
    height, width = energy.shape[-2:]
    weights = torch.ones(height, width) if valid is None else valid.float()
    sizes = (height + len(shape) - 1, width + len(shape) - 1)
    kernel = torch.fft.rfft2(shape.flip(0, 1).float(), s=sizes)
    reach = len(shape) // 2

    def summed(values: Tensor) -> Tensor:
        result = torch.fft.irfft2(torch.fft.rfft2(values, s=sizes) * kernel, s=sizes)
        return torch.clamp(result[..., reach : reach + height, reach : reach + width], min=0)

    count = summed(weights)
    enough = count >= float(shape.sum()) / 2 - 1e-3
    mean = summed(energy * weights) / count.clamp_min(0.5)
    return torch.where(enough, mean.sqrt() / 2, 0.0)


def _energy(translations: Tensor, unchanged: Tensor, valid: Tensor | None) -> Tensor:
    """(..., H, W): mean squares over channels of what changed, 0 in holes."""
    energy = (translations - unchanged).square().mean(-3)
    return energy if valid is None else torch.where(valid, energy, 0.0)


def _with_noise(image: Tensor, seed: int, number: int, index: int, alpha: bool) -> Tensor:
    noise = np.random.default_rng([_SEED, seed, number, index]).standard_normal(image.shape, np.float32)
    noisy = (image + 2 * NOISE * torch.from_numpy(noise)).clamp(-1, 1)
    return torch.cat([noisy[:-1], image[-1:]]) if alpha else noisy
