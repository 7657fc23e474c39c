"""What is known of a model that is published, read from disk and freed of everything that tells of the machine."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Literal

from cyclegan.checkpoint import ModelInfo, find_model, read_info
from cyclegan.config import Direction, InputError, TrainConfig
from cyclegan.examples import SavedExamples, read_examples
from cyclegan.hub import GENERATORS, is_address
from cyclegan.report.record import RunRecord, read_record
from cyclegan.report.run_charts import DIRECTIONS, domain_names
from cyclegan.run_directory import evaluation_of, read_run_config, run_of
from cyclegan.scores import DirectionScores, FileList, Scores, read_scores

# What looks like a path that begins at a root, a drive or a home; not the slashes of an address. Its folders may have
# spaces in their names, so it may take a few words too many: better than one too few.
_IN_NAMES = r"[^\n'\"`()\[\],;:|/\\]"
_PATH = re.compile(rf"(?<![\w./:\\])(?:~\w*|[A-Za-z]:)?[\\/](?=\S)(?:{_IN_NAMES}*[\\/])*(?:(?!\s){_IN_NAMES})*")


@dataclass(frozen=True)
class Subject:
    """A model and what is on disk about it.

    files: the generators that are sent. config, log: of its run, if it has one. scores: of this very model, else None,
    and `no_scores` says why. examples: its translations; sheet: else its sample grid. places: paths that must not
    be told.
    """

    repo_id: str
    model: Path
    info: ModelInfo
    files: tuple[str, ...]
    config: TrainConfig | None
    log: RunRecord
    scores: Scores | None
    no_scores: str
    examples: SavedExamples
    sheet: Path | None
    places: tuple[Path, ...] = field(repr=False)

    @property
    def directions(self) -> list[Direction]:
        return [direction for direction in DIRECTIONS if any(name.startswith(direction) for name in self.files)]

    @property
    def names(self) -> dict[str, str]:
        """What the domains are called."""
        return domain_names(self.config)

    def clean(self, text: str) -> str:
        """The text with names of files and folders in place of their paths."""
        for place in sorted(map(str, self.places), key=len, reverse=True):
            text = text.replace(place, "~" if place == str(Path.home()) else PurePath(place).name)
        return _PATH.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    return PureWindowsPath(match[0]).name


def read_subject(path: Path, repo_id: str, weights: Literal["final", "average"] | None = None) -> Subject:
    """All that is on disk about the model of a run, a checkpoint or a model directory.

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
    info = info.replace(
        directions=tuple(name for name in DIRECTIONS if any(file.startswith(name) for file in files)),
        averages=any("_average" in file for file in files),
    )
    if not files:
        kind = f"{weights} weights" if weights else "weights"
        raise InputError(
            f"{model} holds no {kind} of a generator; expected {GENERATORS[0 if weights != 'average' else 2]}."
        )

    run, place = run_of(path), evaluation_of(path)
    config = read_run_config(run) if run is not None else None
    scores, no_scores = _scores_of(place, info)
    examples, sheet = SavedExamples(), None
    # What a training shows was made with the weights that it was configured for.
    of_training = config is None or info.translate_with == config.translate_with
    if scores is not None or (of_training and not (place / "scores.json").is_file()):
        examples = read_examples(place)
    if not examples.examples and run is not None and of_training:
        sheet = run / "samples" / f"step_{info.step:07d}.png"
    known = [path, model, run, Path.home(), Path.cwd()]
    known += [config.a, config.b, config.test_a, config.test_b, config.out] if config is not None else []
    places = {place for given in known if given is not None for place in (given, given.resolve())}
    return Subject(
        repo_id,
        model,
        info,
        files,
        config,
        read_record(run) if run is not None else RunRecord(),
        scores,
        no_scores,
        examples,
        sheet if sheet is not None and sheet.is_file() else None,
        tuple(place for place in places if place.is_absolute() and place.name),
    )


def _scores_of(place: Path, info: ModelInfo) -> tuple[Scores | None, str]:
    """The scores that hold for this model, or why there are none."""
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
    return scores, ""


def public_scores(subject: Subject) -> Scores | None:
    """The scores as they may be published: without the command and the paths of folders."""
    scores = subject.scores
    if scores is None:
        return None

    def cleaned(of: DirectionScores) -> DirectionScores:
        metrics = {name: score.replace(note=subject.clean(score.note)) for name, score in of.metrics.items()}
        return of.replace(metrics=metrics, notes=tuple(map(subject.clean, of.notes)))

    files = {name: FileList(root=PurePath(of.root).name, files=of.files) for name, of in scores.files.items()}
    directions = {direction: cleaned(of) for direction, of in scores.directions.items()}
    return scores.replace(model=subject.repo_id, command="", files=files, directions=directions)
