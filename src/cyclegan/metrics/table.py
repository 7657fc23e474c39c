"""Every score that there is, one row each: how it is computed, printed, charted and compared.

To add a metric, write a function and add its row to METRICS; `evaluate`, the terminal, the pages and `compare` read the
table in its order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from cyclegan.metrics import functions
from cyclegan.metrics.functions import MS_SSIM_SMALLEST, SSIM_WINDOW

# What is known of one translated test image; each is (C, H, W) in [-1, 1]. cycled: the translation, translated back;
# cycled_noisy: the same with noise on the translation; truth: what the output should be, with --paired only.
Picture = Literal["input", "output", "cycled", "cycled_noisy", "truth"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How to read one score. Rows of this class alone are numbers of an external tool.

    ranked: whether a better value means a better run.
    """

    label: str
    better: Literal["less", "more"]
    meaning: str
    digits: int = 3
    unit: str = ""
    ranked: bool = True

    def title(self, features: str) -> str:  # noqa: ARG002
        """The label as it stands in tables. features: title of the feature network."""
        return self.label

    def show(self, value: float) -> str:
        """The value with its digits."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class ImageMetric(Metric):
    """A score of single images, reported as their mean with its 95 % interval.

    measure: called with the pictures named by `compares`; None where an image has no such score. It runs wherever these
    pictures are known, and only for images with sides of at least `smallest_side` pixels. in_units: a difference in
    [-1, 1], also given in the values of the files unless they are 8-bit.
    """

    measure: Callable[..., float | None]
    compares: tuple[Picture, ...]
    smallest_side: int = 1
    in_units: bool = False


class SetDistance(Protocol):
    """A distance of two sets of features, (N, D) and (M, D): its value, or the value and both ends of its interval."""

    def __call__(
        self, x: Tensor, y: Tensor, /, *, num_bootstrap: int, seed: int
    ) -> float | tuple[float, float, float]: ...


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A distance between the translations and the real test images of the target, on features of both.

    biased: it depends on the number of images, so that only distances of equally large sets can be compared.
    """

    measure: SetDistance
    biased: bool = False

    def title(self, features: str) -> str:
        return f"{self.label}, {features}"


def _frechet_distance(x: Tensor, y: Tensor, /, **_: int) -> float:
    return functions.frechet_distance(x, y)


METRICS: dict[str, Metric] = {
    "kid": SetMetric(
        label="KID",
        better="less",
        meaning="Kernel distance of translations and real images of the target.",
        measure=functions.kernel_distance,
    ),
    "frechet": SetMetric(
        label="Frechet distance",
        better="less",
        meaning="Distance of two normal distributions fitted to the features; it grows when there are few images.",
        digits=2,
        measure=_frechet_distance,
        biased=True,
    ),
    "fid": Metric(label="FID, Inception", better="less", meaning="Standard FID as the named tool prints it.", digits=2),
    "kid_inception": Metric(
        label="KID, Inception", better="less", meaning="Standard KID as the named tool prints it.", digits=4
    ),
    "cycle": ImageMetric(
        label="cycle error",
        better="less",
        meaning="Mean absolute difference of an image and its way there and back.",
        measure=functions.l1,
        compares=("cycled", "input"),
    ),
    "cycle_noisy": ImageMetric(
        label="cycle error with noise",
        better="less",
        meaning="The same with noise on the translation, in the target's own depth.",
        measure=functions.l1,
        compares=("cycled_noisy", "input"),
    ),
    "cycle_rise": ImageMetric(
        label="its rise by noise",
        better="less",
        meaning="A large rise: the translation hides what the way back needs in invisible detail.",
        ranked=False,  # near 0 it is good on either side
        measure=lambda noisy, cycled, image: functions.l1(noisy, image) - functions.l1(cycled, image),
        compares=("cycled_noisy", "cycled", "input"),
    ),
    "ssim_input": ImageMetric(
        label="SSIM with the input",
        better="more",
        meaning="Structural similarity of the brightness of input and output.",
        measure=lambda output, image: functions.ssim(functions.luma(output)[None], functions.luma(image)[None]),
        compares=("output", "input"),
        smallest_side=SSIM_WINDOW,
    ),
    "edges": ImageMetric(
        label="edges kept",
        better="more",
        meaning="Correlation of edge strength of input and output; 1: the same edges, 0: unrelated.",
        measure=functions.edge_correlation,
        compares=("input", "output"),
    ),
    "l1": ImageMetric(
        label="L1",
        better="less",
        meaning="Mean absolute difference from the truth in [-1, 1].",
        measure=functions.l1,
        compares=("output", "truth"),
        in_units=True,
    ),
    "psnr": ImageMetric(
        label="PSNR",
        better="more",
        meaning="Peak signal-to-noise ratio to the truth.",
        digits=1,
        unit="dB",
        measure=functions.psnr,
        compares=("output", "truth"),
    ),
    "ssim": ImageMetric(
        label="SSIM",
        better="more",
        meaning="Structural similarity to the truth.",
        measure=functions.ssim,
        compares=("output", "truth"),
        smallest_side=SSIM_WINDOW,
    ),
    "ms_ssim": ImageMetric(
        label="MS-SSIM",
        better="more",
        meaning="Multi-scale structural similarity to the truth.",
        measure=functions.ms_ssim,
        compares=("output", "truth"),
        smallest_side=MS_SSIM_SMALLEST,
    ),
    "colour": ImageMetric(
        label="colour error",
        better="less",
        meaning="Mean CIE76 difference from the truth; 2.3 is just visible.",
        digits=1,
        measure=lambda output, truth: functions.colour_difference(output, truth) if truth.shape[0] == 3 else None,
        compares=("output", "truth"),
    ),
}
