"""Signs that a training goes wrong, each with what it means and what to try. Pure functions of numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config import Direction
from cyclegan.metrics import correlation, luma

# Where each sign begins. Found on runs of the earth data, good ones and ones made to fail; lengths are in [-1, 1].
COPY_CHANGE = 0.02  # mean change of a translation that still counts as the input itself
DOMAIN_GAP = 0.1  # domains closer than this may be translated by hardly any change
COLLAPSE_DIVERSITY = 0.1  # differences among translations, in those among real images
INVERSION_CORRELATION = -0.3  # of the brightness of input and output
HIDDEN_RISE = 0.1  # of the cycle error by noise of 0.05, which by itself is a mean change of 0.04
DISCRIMINATOR_SHARE = 0.02  # of the loss of a discriminator that cannot decide
DISCRIMINATOR_STEPS = 200  # for so many steps in a row

# Loss of a discriminator that gives real and fake images the same score: halved sums, as in losses.py.
_UNDECIDED = {"lsgan": 0.25, "vanilla": 0.6931, "hinge": 1.0}


@dataclass(frozen=True)
class Finding:
    """One sign. check: its name. message: what was seen, what it means, what to try."""

    check: str
    message: str


@dataclass(frozen=True)
class Vitals:
    """What is known of one direction after translating some images there and back; lengths in [-1, 1].

    change: mean |translation - input|, None where the domains have different channels. gap: mean difference of images
    of the two domains. diversity: mean difference among translations over that among real images. brightness: mean
    correlation of the brightness of input and output. mirrored: whether the target's brightness is distributed more
    like the input's negative than like the input. cycle, cycle_noisy: errors of the way back, without and with noise.
    """

    change: float | None
    gap: float | None
    diversity: float
    brightness: float
    mirrored: bool
    cycle: float
    cycle_noisy: float


def thumbnails(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 8, 8), means of areas: what is compared among images of any size."""
    return functional.adaptive_avg_pool2d(images.float(), 8)


def measure_vitals(
    inputs: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    changes: list[float],
    brightness: list[float],
    cycle: float,
    cycle_noisy: float,
) -> Vitals:
    """Vitals of one direction, from thumbnails of its real inputs, their translations and real images of the target."""
    same_channels = inputs.shape[1] == targets.shape[1]
    scale = max(min(_diversity(inputs), _diversity(targets)), 1e-6)
    return Vitals(
        change=sum(changes) / len(changes) if changes else None,
        gap=float((inputs[:, None] - targets[None]).abs().mean()) if same_channels else None,
        diversity=_diversity(outputs) / scale,
        brightness=sum(brightness) / len(brightness) if brightness else 0.0,
        mirrored=_mirrored(inputs, targets),
        cycle=cycle,
        cycle_noisy=cycle_noisy,
    )


def brightness_correlation(image: Tensor, other: Tensor) -> float | None:
    """Correlation of the brightness of two (C, H, W) images of one size; None if one of them is flat."""
    return correlation(luma(image), luma(other))


def _diversity(images: Tensor) -> float:
    """Mean absolute difference of all pairs of different images."""
    count = len(images)
    flat = images.flatten(1)
    return float(torch.cdist(flat, flat, p=1).sum()) / (max(count * (count - 1), 1) * flat.shape[1])


def _mirrored(inputs: Tensor, targets: Tensor) -> bool:
    source, target = (torch.stack([luma(image) for image in images]).flatten() for images in (inputs, targets))
    shares = torch.linspace(0, 1, 101)
    wanted = torch.quantile(target, shares)
    as_is, negative = ((torch.quantile(x, shares) - wanted).abs().mean() for x in (source, -source))
    return bool(negative < as_is)


def check_direction(direction: Direction, vitals: Vitals) -> list[Finding]:
    """The signs that one direction shows."""
    arrow, target = ("A to B", "B") if direction == "a2b" else ("B to A", "A")
    findings: list[Finding] = []

    def add(check: str, message: str) -> None:
        findings.append(Finding(f"{direction}/{check}", message))

    change, gap = vitals.change, vitals.gap
    if change is not None and gap is not None and change < COPY_CHANGE and gap > DOMAIN_GAP:
        add(
            "copies",
            f"{arrow} returns its input: it changes it by {change:.3f} on average, while images of the two domains "
            f"differ by {gap:.2f}. Nothing is translated yet. If it stays so, try a lower --identity-weight and "
            "--cycle-weight, or a higher --adversarial-weight.",
        )
    if vitals.diversity < COLLAPSE_DIVERSITY:
        add(
            "collapse",
            f"{arrow} gives nearly one image for every input: its translations differ among themselves "
            f"{100 * vitals.diversity:.0f} % as much as real images do. The generator has collapsed onto what fools "
            f"the discriminator of {target}. Try a higher --cycle-weight, a lower --learning-rate or another --seed; "
            "an earlier checkpoint may still be good.",
        )
    if vitals.brightness < INVERSION_CORRELATION and not vitals.mirrored:
        add(
            "inverted",
            f"{arrow} turns bright into dark: the brightness of input and output has a correlation of "
            f"{vitals.brightness:.2f}, and the distributions of the two domains give no reason for it. A negative "
            "can be turned back as well as any image, so training does not mend this by itself. Try a higher "
            "--identity-weight, which ties the colours, or another --seed.",
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
    """Follows the losses of both discriminators, as they are logged."""

    adversarial: str
    steps: dict[str, int] = field(default_factory=dict)

    def update(self, losses: Mapping[str, float], num_steps: int) -> list[Finding]:
        """Means of the losses over the last `num_steps` steps -> signs. A Wasserstein loss has no such scale."""
        undecided = _UNDECIDED.get(self.adversarial)
        findings: list[Finding] = []
        if undecided is None:
            return findings
        for domain in ("a", "b"):
            loss = losses[f"discriminator_{domain}"]
            won = 0 <= loss < DISCRIMINATOR_SHARE * undecided
            self.steps[domain] = self.steps.get(domain, 0) + num_steps if won else 0
            if self.steps[domain] >= DISCRIMINATOR_STEPS:
                seen, name = self.steps[domain], domain.upper()
                findings.append(
                    Finding(
                        f"{domain}/discriminator",
                        f"The discriminator of {name} wins outright: its loss was {loss:.2g} over {seen} steps, "
                        f"where {undecided:.2g} would be undecided. It knows every translation, and the generator "
                        "learns little from it. Try a lower --cycle-weight, a smaller discriminator "
                        "(--discriminator-width, --discriminator-layers), or more images.",
                    )
                )
        return findings
