"""Signs of trouble in training, each with its meaning and a remedy. Pure functions of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config import Direction
from cyclegan.metrics.functions import correlation, luma
from cyclegan.metrics.spectrum import Pattern, has_spectra, strongest_pattern

# Thresholds, found on runs of the earth data, good ones and ones made to fail; lengths are in [-1, 1].
COPY_CHANGE = 0.02  # a smaller mean change of a translation counts as none
COPY_REALISM = 0.5  # share of the way from untranslated to real images, by KID; with less, so little change is a copy
COLLAPSE_DIVERSITY = 0.1  # differences among translations over those among real images
INVERSION_CORRELATION = -0.3  # correlation of the brightness, or a colour, of input and output
INVERSION_CONTRAST = 0.05  # smallest standard deviation for which such a correlation means anything
PATTERN_EXCESS = 1.0  # dB of stripes or dots beyond those of real images; two sets of real images differ by up to 0.5
PATTERN_IMAGES = 8  # fewer images of each kind may hold a pattern by chance
HIDDEN_RISE = 0.1  # rise of the cycle error by noise of 0.05, which by itself is a mean change of 0.04
DISCRIMINATOR_SHARE = 0.02  # share of the loss of an undecided discriminator
DISCRIMINATOR_STEPS = 200  # so many steps in a row

# Loss of a discriminator that gives real and fake images the same score: halved sums, as in cyclegan.step.losses.
_UNDECIDED = {"lsgan": 0.25, "vanilla": 0.6931, "hinge": 1.0}


@dataclass(frozen=True)
class Finding:
    """One sign of trouble. check: its name. message: the observation, its meaning, a remedy."""

    check: str
    message: str


@dataclass(frozen=True)
class Vitals:
    """Measurements of one direction after translating some images there and back; lengths in [-1, 1].

    change: mean |translation - input|, None where the domains have different channels. realism: share of the way from
    untranslated images (0) to real ones (1) by KID, None where the two cannot be told apart. diversity: mean difference
    among translations over that among real images. inversions: planes (brightness, two colours) that are inverted, with
    the correlation of input and output. cycle, cycle_noisy: errors of the way back, without and with noise. pattern:
    the strongest one beyond those of real images, None where there are too few images, or only small ones.
    """

    change: float | None
    realism: float | None
    diversity: float
    inversions: Mapping[str, float]
    cycle: float
    cycle_noisy: float
    pattern: Pattern | None = None


def thumbnails(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 8, 8), means of areas, so that images of any size can be compared."""
    return functional.adaptive_avg_pool2d(images.float(), 8)


def diversity(outputs: Tensor, inputs: Tensor, targets: Tensor) -> float:
    """Differences among translations over those among real images of the less varied domain. All are thumbnails."""
    return _mean_difference(outputs) / max(min(_mean_difference(inputs), _mean_difference(targets)), 1e-6)


def _mean_difference(images: Tensor) -> float:
    """Mean absolute difference of all pairs of different images."""
    count = len(images)
    flat = images.flatten(1)
    return float(torch.cdist(flat, flat, p=1).sum()) / (max(count * (count - 1), 1) * flat.shape[1])


def plane_correlations(image: Tensor, other: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Correlation of each plane of two (C, H, W) images of one size, where both have contrast in it.

    mask: (H, W), bool, False in holes, which are left out.
    """
    if mask is not None:
        if int(mask.sum()) < 2:
            return {}
        image, other = image[:, None, mask], other[:, None, mask]
    found: dict[str, float] = {}
    others = _planes(other)
    for name, plane in _planes(image).items():
        if name in others and min(float(plane.std()), float(others[name].std())) >= INVERSION_CONTRAST:
            value = correlation(plane, others[name])
            if value is not None:
                found[name] = value
    return found


def _planes(image: Tensor) -> dict[str, Tensor]:
    """Brightness, and the differences of red and blue from it: the planes that a negative inverts."""
    bright = luma(image)
    if image.shape[0] < 3:
        return {"brightness": bright}
    return {"brightness": bright, "red against green": image[0] - bright, "blue against yellow": image[2] - bright}


def inversions(correlations: Sequence[Mapping[str, float]], inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Planes whose mean correlation over images is negative although the domains are not negatives of each other.

    correlations: of single images. inputs, targets: thumbnails of real images. Domains are negatives of each other in a
    plane if the target's values are distributed more like the negative of the input's than like the input's own.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for each in correlations for name in each):
        values = [each[name] for each in correlations if name in each]
        mean = sum(values) / len(values)
        # A plane with contrast in few images says nothing of the translator.
        if mean < INVERSION_CORRELATION and 2 * len(values) >= len(correlations):
            source, target = (torch.cat([_planes(image)[name].flatten() for image in x]) for x in (inputs, targets))
            shares = torch.linspace(0, 1, 101)
            wanted = torch.quantile(target, shares)
            as_is, negative = ((torch.quantile(x, shares) - wanted).abs().mean() for x in (source, -source))
            if as_is <= negative:
                found[name] = mean
    return found


def pattern(outputs: Tensor, targets: Tensor) -> Pattern | None:
    """The strongest pattern of translations beyond those of real images. Both are of `spectrum_features`."""
    if min(has_spectra(outputs), has_spectra(targets)) < PATTERN_IMAGES:
        return None
    return strongest_pattern(outputs, targets)


def check_direction(direction: Direction, vitals: Vitals) -> list[Finding]:
    """The signs of trouble in one direction."""
    arrow, target = ("A to B", "B") if direction == "a2b" else ("B to A", "A")
    findings: list[Finding] = []

    def add(check: str, message: str) -> None:
        findings.append(Finding(f"{direction}/{check}", message))

    change, realism = vitals.change, vitals.realism
    if change is not None and change < COPY_CHANGE and realism is not None and realism < COPY_REALISM:
        add(
            "copies",
            f"{arrow} returns its input: it changes it by {change:.3f} on average, and by KID the result is "
            f"{100 * max(realism, 0):.0f} % of the way from untranslated images to real ones of {target}. Nothing is "
            "translated yet. If it stays so, try a lower --identity-weight and --cycle-weight, or a higher "
            "--adversarial-weight.",
        )
    if vitals.diversity < COLLAPSE_DIVERSITY:
        add(
            "collapse",
            f"{arrow} gives nearly one image for every input: its translations differ among themselves "
            f"{100 * vitals.diversity:.0f} % as much as real images do. The generator has collapsed onto images that "
            f"fool the discriminator of {target}. Try a higher --cycle-weight, a lower --learning-rate or another "
            "--seed; an earlier checkpoint may still be good.",
        )
    if vitals.inversions:
        planes = " and ".join(f"{name} (correlation {value:.2f})" for name, value in vitals.inversions.items())
        way_out = (
            "Try a higher --identity-weight, which ties the colours, or another --seed."
            if change is not None
            else "Domains of different channels have no identity term, which would tie them: try another --seed."
        )
        add(
            "inverted",
            f"{arrow} inverts the {planes} of its input, although the two domains are not negatives of each other. The "
            f"way back can undo an inversion, so training does not correct it by itself. {way_out}",
        )
    if vitals.pattern is not None and vitals.pattern.excess > PATTERN_EXCESS:
        found = vitals.pattern
        where = f"{found.stripes} stripes" if found.stripes else "stripes, dots or zigzags of several directions"
        add(
            "pattern",
            f"{arrow} paints a pattern that is not in real images of {target}: {where}, about {found.period:.2g} "
            f"pixels from one to the next, {found.excess:.1f} dB beyond real images. Look for it in the samples, where "
            "images are dark or flat first. Dots of 2 pixels come from --resampling strided, which --preset paper "
            "has and --preset modern has not. Else try an earlier checkpoint or another --seed.",
        )
    if vitals.cycle_noisy - vitals.cycle > HIDDEN_RISE:
        add(
            "hidden",
            f"{arrow} hides information: invisible noise on its translations raises the error of the way back from "
            f"{vitals.cycle:.3f} to {vitals.cycle_noisy:.3f}. They carry their inputs in detail too fine to see, so "
            "a low cycle error does not show that content is kept. Try a lower --cycle-weight, or an earlier "
            "checkpoint.",
        )
    return findings


@dataclass
class DiscriminatorWatch:
    """Watches the logged losses of both discriminators."""

    adversarial: str
    steps: dict[str, int] = field(default_factory=dict)

    def update(self, losses: Mapping[str, float], num_steps: int) -> list[Finding]:
        """Signs of trouble in the mean losses of the last `num_steps` steps. A Wasserstein loss has no such scale."""
        undecided = _UNDECIDED.get(self.adversarial)
        findings: list[Finding] = []
        if undecided is None:
            return findings
        for domain in ("a", "b"):
            loss = losses[f"discriminator_{domain}"]
            won = 0 <= loss < DISCRIMINATOR_SHARE * undecided
            self.steps[domain] = self.steps.get(domain, 0) + num_steps if won else 0
            if self.steps[domain] >= DISCRIMINATOR_STEPS:
                # If it continues, the warning comes again after as many steps.
                seen, name = self.steps[domain], domain.upper()
                self.steps[domain] = 0
                findings.append(
                    Finding(
                        f"{domain}/discriminator",
                        f"The discriminator of {name} wins outright: its loss was {loss:.2g} over {seen} steps, "
                        f"where {undecided:.2g} would be undecided. It recognises every translation, and the generator "
                        "learns little from it. Try a lower --cycle-weight, a smaller discriminator "
                        "(--discriminator-width, --discriminator-layers), or more images.",
                    )
                )
        return findings
