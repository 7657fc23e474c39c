"""What an evaluation found, as it stands in scores.json and is shown on screen, in reports and beside other runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from cyclegan.config import Config, Direction, describe_validation_error
from cyclegan.errors import InputError
from cyclegan.metrics.features import FeatureInfo
from cyclegan.system.atomic import write_bytes


@dataclass(frozen=True)
class Metric:
    """How to read one kind of score."""

    label: str
    better: Literal["less", "more"]
    meaning: str
    digits: int = 3
    unit: str = ""


# Every score that there is, in the order in which they are shown.
METRICS: dict[str, Metric] = {
    "kid": Metric("KID, EfficientNet-Lite0", "less", "Kernel distance of translations and real images of the target."),
    "frechet": Metric(
        "Frechet distance, EfficientNet-Lite0",
        "less",
        "Distance of two normal distributions fitted to the features; it grows when there are few images.",
        digits=2,
    ),
    "fid": Metric("FID, Inception", "less", "Standard FID as the named tool prints it.", digits=2),
    "kid_inception": Metric("KID, Inception", "less", "Standard KID as the named tool prints it.", digits=4),
    "cycle": Metric("cycle error", "less", "Mean absolute difference of an image and its way there and back."),
    "cycle_noisy": Metric(
        "cycle error with noise", "less", "The same with noise on the translation, in the target's own depth."
    ),
    "cycle_rise": Metric(
        "its rise by noise", "less", "A large rise: the translation hides what the way back needs in invisible detail."
    ),
    "ssim_input": Metric("SSIM with the input", "more", "Structural similarity of the brightness of input and output."),
    "edges": Metric(
        "edges kept", "more", "Correlation of edge strength of input and output; 1: the same edges, 0: unrelated."
    ),
    "l1": Metric("L1", "less", "Mean absolute difference from the truth in [-1, 1]."),
    "psnr": Metric("PSNR", "more", "Peak signal-to-noise ratio to the truth.", digits=1, unit="dB"),
    "ssim": Metric("SSIM", "more", "Structural similarity to the truth."),
    "ms_ssim": Metric("MS-SSIM", "more", "Multi-scale structural similarity to the truth."),
    "colour": Metric("colour error", "less", "Mean CIE76 difference from the truth; 2.3 is just visible.", digits=1),
}


class Estimate(Config):
    """A number, and its 95 % interval where one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    def show_interval(self, digits: int = 3) -> str:
        """The interval as text, or nothing."""
        return "" if self.low is None else f"{self.low:.{digits}f} .. {self.high:.{digits}f}"


class Score(Config):
    """One score of one direction, and the same score of what is known to be good and bad.

    floor: real training images of the target against its real test images: what no translator should be expected to
    beat. ceiling: the input itself, untranslated. mean_image: the average training image of the target, for scores
    against the truth.
    """

    value: Estimate
    floor: Estimate | None = None
    ceiling: Estimate | None = None
    mean_image: Estimate | None = None
    num_images: int = Field(description="translations that were scored")
    num_real: int | None = Field(None, description="real images that they were compared with, for distances of sets")
    note: str = ""


def verdict(kid: Score) -> list[str]:
    """What a KID says between its ends, in sentences; the first one is the verdict."""
    value, ceiling = kid.value.value, kid.ceiling
    floor = kid.floor.value if kid.floor is not None else 0.0
    if ceiling is None:
        return ["There is nothing to compare this KID with."]
    sentences = []
    covered = (ceiling.value - value) / (ceiling.value - floor) if ceiling.value > floor else 0.0
    if ceiling.value <= floor:
        sentences.append(
            "By KID, untranslated images are as near to the target as its own training images are, so it cannot tell "
            "good from bad here. Are the two test folders swapped?"
        )
    elif covered < 0:
        sentences.append("By KID, the translations are less like the target than untranslated images are.")
    elif covered >= 1:
        sentences.append("By KID, the translations are as near to the target as its own real images are.")
    else:
        way = f"{100 * covered:.0f} % of the way from untranslated images to real ones"
        sentences.append(f"By KID, the translations are {way}.")
    if kid.value.low is not None and kid.value.high is not None and kid.value.low <= ceiling.value <= kid.value.high:
        sentences.append("That may be chance: its interval holds the KID of untranslated images.")
    return sentences


class ImageScores(Config):
    """Scores of one test image, by name. `unlike`: how far its features are from the nearest real images' features."""

    file: str
    scores: dict[str, float]


class DirectionScores(Config):
    """One direction. notes: what a reader must know, such as too few images."""

    metrics: dict[str, Score]
    images: tuple[ImageScores, ...]
    notes: tuple[str, ...] = ()

    @property
    def ranked_by(self) -> str:
        """The score of single images by which the best and the worst are told."""
        return "l1" if "l1" in self.metrics else "unlike"

    @property
    def ranked(self) -> list[ImageScores]:
        """The images from best to worst."""
        return sorted(self.images, key=lambda image: image.scores[self.ranked_by])


class FileList(Config):
    """Images that went into a score. root: their folder, as it was given."""

    root: str
    files: tuple[str, ...]


class Scores(Config):
    """All that is in scores.json."""

    format_version: Literal[1] = 1
    cyclegan_version: str
    torch_version: str
    created: str
    model: str
    step: int
    weights: Literal["final", "average"]
    device: str
    seconds: float
    peak_mib: float | None
    features: FeatureInfo
    paired: bool
    short_side: int | None
    noise_sigma: float
    seed: int
    num_bootstrap: int
    command: str = ""
    files: dict[str, FileList]
    directions: dict[Direction, DirectionScores]

    def write(self, path: Path) -> None:
        """Write scores.json."""
        write_bytes(path, (self.model_dump_json(indent=1) + "\n").encode())


def read_scores(path: Path) -> Scores:
    """The scores of a run directory, or of a file. Raises InputError if there are none or they cannot be read."""
    file = path / "scores.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There is no {file}; make it with: cyclegan evaluate {path} --a DIR --b DIR")
    try:
        return Scores.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    except ValidationError as error:
        raise InputError(
            f"{file} is not one of this release ({describe_validation_error(error)[:200]}); evaluate the run again."
        ) from None
