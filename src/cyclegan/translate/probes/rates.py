"""Summarise the responses of many images as rates with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from cyclegan.storage.probe_rates import ProbeRate
from cyclegan.translate.probes.making import KINDS
from cyclegan.translate.probes.response import ProbeResponse

# Of the normal distribution, for 95 %.
_Z = 1.96


@dataclass(frozen=True)
class ProbeResult:
    """What the translation of one image makes of known changes, one response each."""

    responses: tuple[ProbeResponse, ...]

    @property
    def rates(self) -> tuple[ProbeRate, ...]:
        """How often changes are kept, by kind, size and contrast, see `summarise`."""
        return summarise([self.responses])


def summarise(images: Sequence[Sequence[ProbeResponse]]) -> tuple[ProbeRate, ...]:
    """Rates for each kind, size and contrast, and after them those of all probes that a person sees in the input.

    images: the responses of each image. In the order of KINDS, then by size and contrast.
    """
    groups = {(each.kind, each.size) for responses in images for each in responses}
    rates = []
    for kind, size in sorted(groups, key=lambda group: (KINDS.index(group[0]), group[1])):
        of_group = [[each for each in responses if (each.kind, each.size) == (kind, size)] for responses in images]
        for contrast in sorted({each.nominal for responses in of_group for each in responses}):
            rates.append(_rate([[each for each in some if each.nominal == contrast] for some in of_group], contrast))
        seen = [[each for each in some if each.is_seen] for some in of_group]
        if any(seen):
            rates.append(_rate(seen, None))
    return tuple(rates)


def _rate(images: Sequence[Sequence[ProbeResponse]], contrast: float | None) -> ProbeRate:
    """The rate of all these responses, at least one."""
    of_images = [responses for responses in images if responses]
    chosen = [each for responses in of_images for each in responses]

    def share(holds: Callable[[ProbeResponse], bool]) -> float:
        return sum(map(holds, chosen)) / len(chosen)

    def middle(name: str) -> float | None:
        values = [value for each in chosen if (value := getattr(each, name)) is not None]
        return median(values) if values else None

    hits = [(sum(each.outcome == "kept" for each in responses), len(responses)) for responses in of_images]
    low, high = interval(hits)
    return ProbeRate(
        kind=chosen[0].kind,
        size=chosen[0].size,
        contrast=contrast,
        num_probes=len(chosen),
        num_images=len(of_images),
        seen=share(lambda each: each.is_seen),
        kept=share(lambda each: each.outcome == "kept"),
        moved=share(lambda each: each.outcome == "moved"),
        lost=share(lambda each: each.outcome == "lost"),
        invented=share(lambda each: each.invented),
        low=low,
        high=high,
        remaining=middle("remaining"),
        share_inside=middle("share_inside"),
        displacement=middle("displacement"),
    )


def interval(shares: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The 95 % interval of a rate, from the hits and tries of each image (Wilson 1927).

    Probes of one image are alike. Their number is divided by the design effect (Kish 1965), the variance over images
    over that of independent probes; where all are hits or all are misses it is unknown, and each image counts once.
    """
    hits, tries = np.asarray(shares, float).T
    total, rate = float(tries.sum()), float(hits.sum() / tries.sum())
    count = float(len(shares))
    if 0 < rate < 1 and len(shares) > 1:
        between = count / (count - 1) * float(((hits - rate * tries) ** 2).sum()) / total**2
        count = total / max(1.0, between / (rate * (1 - rate) / total))
    centre = (rate + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * (rate * (1 - rate) / count + _Z**2 / (4 * count**2)) ** 0.5
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))
