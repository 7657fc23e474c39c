"""Scores of a model on test images: the contents of scores.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from cyclegan.config import MAX_COUNT, MAX_SIDE, Config, Direction, SelfEnsemble
from cyclegan.errors import InputError, UnreadableError
from cyclegan.metrics.features import FeatureInfo
from cyclegan.metrics.table import METRICS, Metric
from cyclegan.storage.probe_rates import ProbeRate
from cyclegan.system.atomic import write_bytes
from cyclegan.system.json_files import read_json
from cyclegan.system.terminal import shell_quote

# What a score is compared with: its key in scores.json, and what tables call it.
BASELINES = {"floor": "real images", "ceiling": "input", "mean_image": "mean image"}

# How to read a distance of sets of images.
READ_BASELINES = (
    "Read it between its baselines: real images (training images of the target against its test images) and input (the "
    "test images as they are, not translated)."
)

# How to read the charts of spectra.
READ_SPECTRUM = (
    "Means over windows of the images. Power below that of real images: translations are too smooth; above: too sharp "
    "or noisy. A peak of the patterns of 1 dB or more is stripes, dots or zigzags of that size; up to 0.5 is chance."
)


class Estimate(Config):
    """A number, and its 95 % interval where one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    def show_interval(self, digits: int = 3) -> str:
        """The interval as text, or nothing."""
        return "" if self.low is None else f"{self.low:.{digits}f} to {self.high:.{digits}f}"


class Score(Config):
    """One score of one direction, and its baselines: the same score of images that are known to be good or bad.

    floor: real training images of the target against its real test images, which a translator cannot be expected to
    beat. ceiling: the input, not translated. mean_image: the mean training image of the target, for scores against the
    truth.
    """

    value: Estimate
    floor: Estimate | None = None
    ceiling: Estimate | None = None
    mean_image: Estimate | None = None
    num_images: int = Field(ge=0, description="translations that were scored")
    num_real: int | None = Field(
        None, ge=0, description="real images that they were compared with, for distances of sets"
    )
    note: str = ""

    @property
    def baselines(self) -> dict[str, Estimate]:
        """The baselines that are known, by their keys in BASELINES."""
        known = {"floor": self.floor, "ceiling": self.ceiling, "mean_image": self.mean_image}
        return {name: estimate for name, estimate in known.items() if estimate is not None}


def verdict(kid: Score) -> list[str]:
    """Sentences on where a KID lies between its baselines; the first one is the verdict."""
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
    else:
        sentences.append(f"By KID, the translations are {_place(covered)}.")
    if kid.value.low is not None and kid.value.high is not None and kid.value.low <= ceiling.value <= kid.value.high:
        sentences.append("That may be chance: its interval holds the KID of untranslated images.")
    return sentences


def _place(covered: float) -> str:
    """Where translations lie, by the share of the way from untranslated images to real ones."""
    if covered < 0:
        return "less like the target than untranslated images are"
    if covered >= 1:
        return "as near to the target as its own real images are"
    return f"{100 * covered:.0f} % of the way from untranslated images to real ones"


def verdicts(of: "DirectionScores") -> list[str]:
    """Sentences on where the translations lie by KID, and by KID of the second network; empty without KID.

    They say so where one network finds the translations better than untranslated images and the other worse, both
    outside their intervals.
    """
    if (kid := of.metrics.get("kid")) is None:
        return []
    sentences, second = verdict(kid), of.metrics.get("kid_resnet")
    floor = second.floor.value if second is not None and second.floor is not None else 0.0
    if second is not None and second.ceiling is not None and second.ceiling.value > floor:
        covered = (second.ceiling.value - second.value.value) / (second.ceiling.value - floor)
        sentences.append(f"By features of the thin ResNet-50 they are {_place(covered)}.")
        if {_side(kid), _side(second)} == {-1, 1}:
            sentences.append("The two networks disagree: do not trust either without looking at the images.")
    return sentences


def _side(kid: Score) -> int:
    """-1 if translations are nearer to the target than untranslated images, 1 if farther, 0 if that may be chance."""
    value, ceiling = kid.value, kid.ceiling
    if ceiling is None or value.low is None or value.high is None or value.low <= ceiling.value <= value.high:
        return 0
    return 1 if value.value > ceiling.value else -1


class ImageScores(Config):
    """Scores of one test image, by name. `unlike`: how far its features are from the nearest real images' features."""

    file: str
    scores: dict[str, float]


class Spectra(Config):
    """Mean local spectra, see `cyclegan.metrics.spectrum`; each value is of a number of waves in a window, from 1 on.

    translations, real, input: the power of their detail in dB above what is just visible. patterns: how much more a
    frequency stands out in translations than in real images, in dB, for each direction of stripes.
    """

    translations: tuple[float, ...]
    real: tuple[float, ...]
    input: tuple[float, ...]
    patterns: tuple[tuple[float, ...], ...]


class DirectionScores(Config):
    """One direction. notes: what a reader must know, such as too few images. probes: how often known changes of the
    input are shown, empty if that was not measured.
    """

    metrics: dict[str, Score]
    images: tuple[ImageScores, ...]
    notes: tuple[str, ...] = ()
    spectra: Spectra | None = None
    probes: tuple[ProbeRate, ...] = ()

    @property
    def ranked_by(self) -> str:
        """The score that ranks single images."""
        return "l1" if "l1" in self.metrics else "unlike"

    @property
    def rows(self) -> list[tuple[str, Metric, Score]]:
        """Name, metric and score of every metric that was measured, in the order of METRICS."""
        return [(name, metric, self.metrics[name]) for name, metric in METRICS.items() if name in self.metrics]

    def with_metrics(self, scores: Mapping[str, Score]) -> "DirectionScores":
        """The same with these scores added, in the order of METRICS."""
        together = {**self.metrics, **scores}
        return self.replace(metrics={name: together[name] for name in METRICS if name in together})

    @property
    def baselines(self) -> dict[str, str]:
        """Keys and titles of the baselines that at least one score has."""
        known = {key for score in self.metrics.values() for key in score.baselines}
        return {key: title for key, title in BASELINES.items() if key in known}

    @property
    def ranked(self) -> list[ImageScores]:
        """The images that have the score `ranked_by`, from best to worst."""
        name = self.ranked_by
        return sorted((image for image in self.images if name in image.scores), key=lambda image: image.scores[name])


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
    step: int = Field(ge=0, le=MAX_COUNT)
    weights: Literal["final", "average"]
    device: str
    seconds: float = Field(ge=0)
    peak_mib: float | None
    features: FeatureInfo
    second_features: FeatureInfo | None = None
    paired: bool
    short_side: int | None = Field(ge=1, le=MAX_SIDE)
    self_ensemble: SelfEnsemble = "none"
    noise_sigma: float
    seed: int
    num_bootstrap: int
    command: str = ""
    files: dict[str, FileList]
    directions: dict[Direction, DirectionScores] = Field(min_length=1)

    def title(self, name: str) -> str:
        """What tables call the metric of this name."""
        return METRICS[name].title(self.features.title)

    def metric_notes(self, direction: Direction) -> list[str]:
        """The notes of single scores of a direction, each with the title of its metric."""
        rows = self.directions[direction].rows
        return [f"{self.title(name)}: {score.note}" for name, _, score in rows if score.note]

    def write(self, path: Path) -> None:
        """Write scores.json."""
        write_bytes(path, (self.model_dump_json(indent=1) + "\n").encode())


def read_scores(path: Path) -> Scores:
    """The scores of a run directory, or of a file. Raises InputError if there are none or they cannot be read."""
    file = path / "scores.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There is no {file}; make it with: cyclegan evaluate {shell_quote(path)} --a DIR --b DIR")
    try:
        return read_json(file, Scores)
    except UnreadableError as error:
        raise InputError(f"{error} Evaluate the run again.") from None
