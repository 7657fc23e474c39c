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
    """One direction. notes: what a reader must know, such as too few images. probes: how often known changes of the
    input are shown, empty if that was not measured.
    """

    metrics: dict[str, Score]
    images: tuple[ImageScores, ...]
    notes: tuple[str, ...] = ()
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
