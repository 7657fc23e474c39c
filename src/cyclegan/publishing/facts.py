"""The facts about a model that its card states, read from disk, without paths of this machine."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Literal

from cyclegan.config import Direction, TrainConfig
from cyclegan.errors import InputError
from cyclegan.report.record import RunRecord, read_record
from cyclegan.report.run_charts import DIRECTIONS, domain_names
from cyclegan.storage.hub import GENERATORS, is_address
from cyclegan.storage.model import ModelInfo, find_model, read_info
from cyclegan.storage.run import evaluation_of, read_run_config, run_of
from cyclegan.storage.scores import DirectionScores, FileList, Scores, read_scores
from cyclegan.storage.showcase import Showcase, read_showcase

# Addresses, which may be published.
_ADDRESS = r"(?<!\w)(?:https?://(?:[^\s'\"`<>|,;]|[,;](?![\s/\\]))+|hf:/{0,2}[\w.-]+/[\w.-]+(?:@[\w./-]+)?(?![\w./-]))"
# What looks like a path from a root, a drive, a home or the folder above. Names of folders may have spaces, commas and
# brackets, so this may match a few words too many rather than one too few.
_START = r"(?:(?<![\w./\\])(?:file:|~[\w.-]*|[A-Za-z]:)?|(?<![\w.])\.+)[\\/](?=\S)"
_IN_FOLDERS = rf"(?!{_ADDRESS})(?:[^\n'\"`:|/\\]|:(?![\s/\\])|(?<=\w)'(?=\w))"
_FOLDERS = rf"(?:(?:{_IN_FOLDERS})*(?<![,;:)\]]\s)[\\/])*"
_LAST = r"[^\s'\"`()\[\],;:|/\\]*"
_PATH = re.compile(rf"(?P<address>{_ADDRESS})|{_START}{_FOLDERS}{_LAST}")

# The reason in a note of an evaluation about a file that cannot be read.
_REASON = re.compile(r"(?<=cannot be read) \(.*\)", re.DOTALL)


@dataclass(frozen=True)
class Subject:
    """A model and everything on disk about it.

    files: the generators to publish. config, log: of its run, if it has one, the log up to the step of the model.
    scores: of this model, else None, and `no_scores` says why. examples: its translations; sheet: its sample grid, if
    there are none. places: paths that must not be published; own: those of them whose files may be named, such as
    run/samples.
    """

    repo_id: str
    model: Path
    info: ModelInfo
    files: tuple[str, ...]
    config: TrainConfig | None
    log: RunRecord
    scores: Scores | None
    no_scores: str
    examples: Showcase
    sheet: Path | None
    places: tuple[Path, ...] = field(repr=False)
    own: tuple[Path, ...] = field(repr=False)

    @property
    def directions(self) -> list[Direction]:
        return [direction for direction in DIRECTIONS if any(name.startswith(direction) for name in self.files)]

    @property
    def names(self) -> dict[str, str]:
        """Names of the domains."""
        return domain_names(self.config)

    def clean(self, text: str) -> str:
        """The text with paths shortened to names of files and folders."""
        for place in sorted(self.places, key=lambda place: len(str(place)), reverse=True):
            # With a slash in front, the next line also drops folders inside it.
            name = "~" if place == Path.home() else place.name if place in self.own else f"/{place.name}"
            text = re.sub(re.escape(str(place)) + r"(?![\w-]|\.\w)", name.replace("\\", r"\\"), text)
        return _PATH.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    return match["address"] or PureWindowsPath(match[0]).name


def read_subject(path: Path, repo_id: str, weights: Literal["final", "average"] | None = None) -> Subject:
    """Read everything about the model of a run, a checkpoint or a model directory.

    weights: take only these. Raises InputError if there is no such model.
    """
    if is_address(path):
        raise InputError(f"{path} is on the Hub already; expected a run directory, a checkpoint or a model directory.")
    model = find_model(path)
    info = read_info(model)
    files = tuple(name for name in GENERATORS if (model / name).is_file())
    if weights is not None:
        files = tuple(name for name in files if ("_average" in name) == (weights == "average"))
        info = info.replace(translate_with=weights)
    if not files:
        kind = f"{weights} weights" if weights else "weights"
        raise InputError(
            f"{model} holds no {kind} of a generator; expected {GENERATORS[0 if weights != 'average' else 2]}."
        )
    info = info.replace(
        directions=tuple(name for name in DIRECTIONS if any(file.startswith(name) for file in files)),
        averages=any("_average" in file for file in files),
    )

    run, place = run_of(path), evaluation_of(path)
    config = read_run_config(run) if run is not None else None
    scores, no_scores = _scores_of(place, info)
    examples, sheet = Showcase(), None
    # Training shows images of the weights that it was configured for.
    of_training = config is None or info.translate_with == config.translate_with
    if scores is not None or (of_training and not (place / "scores.json").is_file()):
        examples = read_showcase(place)
    if not examples.examples and run is not None and of_training:
        sheet = run / "samples" / f"step_{info.step:07d}.png"
    own = _absolute(path, model, run, config.out if config is not None else None)
    images = (config.a, config.b, config.test_a, config.test_b) if config is not None else ()
    return Subject(
        repo_id,
        model,
        info,
        files,
        config,
        read_record(run, until=info.step) if run is not None else RunRecord(),
        scores,
        no_scores,
        examples,
        sheet if sheet is not None and sheet.is_file() else None,
        places=(*own, *(place for place in _absolute(Path.home(), Path.cwd(), *images) if place not in own)),
        own=own,
    )


def _absolute(*given: Path | None) -> tuple[Path, ...]:
    """These paths, as given and with links resolved, if they are absolute and not a root."""
    places = {place for path in given if path is not None for place in (path, path.resolve())}
    return tuple(place for place in places if place.is_absolute() and place.name)


def _scores_of(place: Path, info: ModelInfo) -> tuple[Scores | None, str]:
    """The scores of this model, or why there are none."""
    if not (place / "scores.json").is_file():
        return None, "This model was not scored on test images."
    try:
        scores = read_scores(place)
    except InputError:
        return None, "Its scores cannot be read by this release."
    if scores.step != info.step:
        return None, f"It was scored at step {scores.step:,}; this is step {info.step:,}."
    if scores.weights != info.translate_with:
        return None, f"It was scored with its {scores.weights} weights; these are the {info.translate_with} ones."
    if scores.self_ensemble != "none":
        return None, f"It was scored with --self-ensemble {scores.self_ensemble}; score it without."
    return scores, ""


def public_scores(subject: Subject) -> Scores | None:
    """The scores without the command, the paths of folders and the names of images.

    Names of images may be those of patients, so images get numbers; an image has the same number everywhere.
    """
    scores = subject.scores
    if scores is None:
        return None

    numbers: dict[str, dict[str, str]] = {}  # of the images of each folder

    def numbered(root: str, file: str) -> str:
        known = numbers.setdefault(root, {})
        return known.setdefault(file, f"image {len(known) + 1}")

    def cleaned(direction: Direction, of: DirectionScores) -> DirectionScores:
        tested = scores.files.get(f"test_{direction[0]}")
        root = "" if tested is None else tested.root
        images = tuple(image.replace(file=numbered(root, image.file)) for image in of.images)
        metrics = {name: score.replace(note=subject.clean(score.note)) for name, score in of.metrics.items()}
        notes = tuple(subject.clean(_REASON.sub("", note)) for note in of.notes)
        return of.replace(metrics=metrics, images=images, notes=notes)

    files = {
        name: FileList(root=PurePath(of.root).name, files=tuple(numbered(of.root, file) for file in of.files))
        for name, of in scores.files.items()
    }
    directions = {direction: cleaned(direction, of) for direction, of in scores.directions.items()}
    return scores.replace(model=subject.repo_id, command="", files=files, directions=directions)
