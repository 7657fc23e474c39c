"""The table of all metrics, one row each: how it is computed, printed, charted and compared.

To add a metric, write a function and add its row to METRICS; `evaluate`, the terminal, the pages and `compare` read the
table in its order.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from cyclegan.metrics import functions, spectrum
from cyclegan.metrics.functions import MS_SSIM_SMALLEST, SSIM_WINDOW

# What is known of one translated test image; each is (C, H, W) in [-1, 1]. cycled: the translation, translated back;
# cycled_noisy: the same with noise on the translation; truth: what the output should be, with --paired only.
Picture = Literal["input", "output", "cycled", "cycled_noisy", "truth"]
_TRUTH: tuple[Picture, ...] = ("output", "truth")


@dataclass(frozen=True)
class Metric:
    """How to read one score. Rows of this class alone are numbers of an external tool.

    ranked: whether a better value means a better run. in_training: whether it is also computed on validation images,
    logged and charted.
    """

    label: str
    better: Literal["less", "more"]
    meaning: str
    _: KW_ONLY
    digits: int = 3
    unit: str = ""
    ranked: bool = True
    in_training: bool = False

    def title(self, features: str) -> str:  # noqa: ARG002
        """The label in tables. features: title of the feature network."""
        return self.label

    def show(self, value: float) -> str:
        """The value with its digits."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class ImageMetric(Metric):
    """A score of single images, reported as their mean with its 95 % interval.

    measure: called with the pictures named by `compares`; None where an image has no such score. It runs wherever these
    pictures are known, and only for images with sides of at least `smallest_side` pixels. in_units: a difference in
    [-1, 1], also given in the values of the files unless they are 8-bit. takes_mask: `measure` takes `mask`, see
    `cyclegan.metrics.functions`; images with holes have no score by a metric that does not.
    """

    measure: Callable[..., float | None]
    compares: tuple[Picture, ...]
    _: KW_ONLY
    smallest_side: int = 1
    in_units: bool = False
    takes_mask: bool = False

    def __post_init__(self) -> None:
        for picture in self.compares:
            if picture not in get_args(Picture):
                raise ValueError(f"{self.label} compares {picture!r}; expected one of: {', '.join(get_args(Picture))}.")


class SetDistance(Protocol):
    """A distance of two sets of features, (N, D) and (M, D): its value, or the value and both ends of its interval."""

    def __call__(
        self, x: Tensor, y: Tensor, /, *, num_bootstrap: int, seed: int
    ) -> float | tuple[float, float, float]: ...


@dataclass(frozen=True)
class SetMetric(Metric):
    """A distance between the translations and the real test images of the target, on features of both.

    on: whether `measure` gets features of a feature network or those of `cyclegan.metrics.spectrum`. features: that
    network, by its name in FEATURE_NETWORKS; None for the one that was asked for. biased: it depends on the number of
    images, so that only distances of equally large sets can be compared.
    """

    measure: SetDistance
    _: KW_ONLY
    on: Literal["network", "spectra"] = "network"
    biased: bool = False
    features: str | None = None

    def title(self, features: str) -> str:
        named = self.on == "spectra" or self.features is not None
        return self.label if named else f"{self.label}, {features}"


def _frechet_distance(x: Tensor, y: Tensor, /, **_: int) -> float:
    return functions.frechet_distance(x, y)


METRICS: dict[str, Metric] = {
    "kid": SetMetric(
        "KID",
        "less",
        "Kernel distance of translations and real images of the target.",
        functions.kernel_distance,
        in_training=True,
    ),
    "frechet": SetMetric(
        "Frechet distance",
        "less",
        "Distance of two normal distributions fitted to the features; it grows when there are few images.",
        _frechet_distance,
        biased=True,
        digits=2,
    ),
    "kid_resnet": SetMetric(
        "KID, thin ResNet-50",
        "less",
        "The same distance on features of another family, which choose no checkpoint.",
        functions.kernel_distance,
        features="thin-resnet50",
    ),
    "frechet_resnet": SetMetric(
        "Frechet distance, thin ResNet-50",
        "less",
        "The same for normal distributions fitted to those features.",
        _frechet_distance,
        biased=True,
        digits=2,
        features="thin-resnet50",
    ),
    "spectrum": SetMetric(
        "spectrum",
        "less",
        "Difference in power of detail of 2 to 8 pixels from real images of the target; blur and noise raise it.",
        spectrum.spectrum_distance,
        on="spectra",
        digits=2,
        unit="dB",
    ),
    "patterns": SetMetric(
        "patterns",
        "less",
        "The strongest stripes, dots or zigzags of 2 to 8 pixels beyond those of real images of the target.",
        spectrum.patterns,
        on="spectra",
        digits=2,
        unit="dB",
    ),
    "fid": Metric("FID, Inception", "less", "Standard FID as the named tool prints it.", digits=2),
    "kid_inception": Metric("KID, Inception", "less", "Standard KID as the named tool prints it.", digits=4),
    "cycle": ImageMetric(
        "cycle error",
        "less",
        "Mean absolute difference of an image and its way there and back.",
        functions.l1,
        ("cycled", "input"),
        in_training=True,
        takes_mask=True,
    ),
    "cycle_noisy": ImageMetric(
        "cycle error with noise",
        "less",
        "The same with noise on the translation, in the target's own depth.",
        functions.l1,
        ("cycled_noisy", "input"),
        in_training=True,
        takes_mask=True,
    ),
    "cycle_rise": ImageMetric(
        "rise of the cycle error by noise",
        "less",
        "A large rise: the translation hides what the way back needs in invisible detail.",
        lambda noisy, cycled, image, mask=None: functions.l1(noisy, image, mask) - functions.l1(cycled, image, mask),
        ("cycled_noisy", "cycled", "input"),
        takes_mask=True,
        ranked=False,  # near 0 it is good on either side
    ),
    "ssim_input": ImageMetric(
        "SSIM with the input",
        "more",
        "Structural similarity of the brightness of input and output.",
        lambda output, image, mask=None: functions.ssim(
            functions.luma(output)[None], functions.luma(image)[None], mask
        ),
        ("output", "input"),
        smallest_side=SSIM_WINDOW,
        takes_mask=True,
    ),
    "edges": ImageMetric(
        "edges kept",
        "more",
        "Correlation of edge strength of input and output; 1: the same edges, 0: unrelated.",
        functions.edge_correlation,
        ("input", "output"),
        in_training=True,
        takes_mask=True,
    ),
    "l1": ImageMetric(
        "L1",
        "less",
        "Mean absolute difference from the truth in [-1, 1].",
        functions.l1,
        _TRUTH,
        in_units=True,
        takes_mask=True,
    ),
    "psnr": ImageMetric(
        "PSNR",
        "more",
        "Peak signal-to-noise ratio to the truth.",
        functions.psnr,
        _TRUTH,
        digits=1,
        unit="dB",
        takes_mask=True,
    ),
    "ssim": ImageMetric(
        "SSIM",
        "more",
        "Structural similarity to the truth.",
        functions.ssim,
        _TRUTH,
        smallest_side=SSIM_WINDOW,
        takes_mask=True,
    ),
    "ms_ssim": ImageMetric(
        "MS-SSIM",
        "more",
        "Multi-scale structural similarity to the truth.",
        functions.ms_ssim,
        _TRUTH,
        smallest_side=MS_SSIM_SMALLEST,
    ),
    "colour": ImageMetric(
        "colour error",
        "less",
        "Mean CIE76 difference from the truth; 2.3 is just visible.",
        lambda output, truth, mask=None: (
            functions.colour_difference(output, truth, mask) if truth.shape[0] == 3 else None
        ),
        _TRUTH,
        digits=1,
        takes_mask=True,
    ),
}


def measure_image(
    pictures: Mapping[str, Tensor],
    failures: dict[str, str],
    *,
    masks: Mapping[str, Tensor | None] = MappingProxyType({}),
    in_training: bool = False,
) -> dict[str, float]:
    """All scores of one image whose pictures are known. in_training: only metrics that are computed in training.

    masks: (H, W), bool, False in the holes of a picture; without one, or None, it has none. Pixels count that are valid
    in all pictures that a metric compares.

    A metric that raises an error or whose value is not finite goes to `failures`, with the reason, and is not tried
    again, so that the other scores are kept.
    """
    scores = {}
    for name, metric in METRICS.items():
        if not isinstance(metric, ImageMetric) or name in failures or (in_training and not metric.in_training):
            continue
        compared = [pictures[picture] for picture in metric.compares if picture in pictures]
        if len(compared) < len(metric.compares) or min(compared[0].shape[1:]) < metric.smallest_side:
            continue
        found = [mask for picture in metric.compares if (mask := masks.get(picture)) is not None]
        mask = torch.stack(found).all(0) if found else None
        if mask is not None and not (metric.takes_mask and mask.any()):
            continue
        try:
            value = metric.measure(*compared) if mask is None else metric.measure(*compared, mask=mask)
            if value is not None:
                scores[name] = finite(value)
        except Exception as error:
            failures[name] = failure_reason(error)
    return scores


def finite(value: float) -> float:
    """The value. Raises ValueError if it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"its value is {value}")
    return float(value)


def failure_reason(error: Exception) -> str:
    """The kind of an error and its first line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
