"""Run directories: find their checkpoints, configuration, log and evaluations."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cyclegan.config import MAX_COUNT, TrainConfig, read_config_file, saved_config
from cyclegan.errors import InputError, UnreadableError
from cyclegan.system.arguments import real_path
from cyclegan.system.json_files import read_json_lines
from cyclegan.system.terminal import warn_once
from cyclegan.system.words import counted

_STEP = re.compile(r"step_[0-9]{1,15}")


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run directory, newest first."""
    folder = run / "checkpoints"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _STEP.fullmatch(path.name) and path.is_dir()), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint of `list_checkpoints`."""
    return int(checkpoint.name.removeprefix("step_"))


def read_run_config(run: Path) -> TrainConfig | None:
    """The resolved configuration of a run directory, or None if there is no run."""
    file = run / "config.toml"
    if not file.is_file():
        return None
    try:
        saved = read_config_file(file)
        # Release 0.1.0 had no such setting and held no images out; resuming with another value must be explicit.
        config = saved_config({"num_validation": 0}, saved)
        if "model" not in saved:
            raise InputError("It is empty or cut off, because it has no table [model].")
        return config
    except InputError as error:
        raise InputError(
            f"{file} is not the configuration of a run of this release: {error} "
            "Restore the file, or train anew with --fresh, which keeps the old run aside."
        ) from None


def run_of(path: Path) -> Path | None:
    """The run directory that a model belongs to: itself, or one up to three folders above, as of RUN/best/model."""
    path = real_path(path)
    for place in (path, *path.parents[:3]):
        if (place / "config.toml").is_file() and (place / "log.jsonl").is_file():
            return place
    return None


def evaluation_of(path: Path) -> Path:
    """Where the evaluation of a run, checkpoint or model directory is kept.

    For a run and its model/: in the run. For RUN/best, checkpoints and the models of epochs: in RUN/evaluations/, since
    training replaces them; such a folder is its own place. For any other model: in its directory.
    """
    run = run_of(path)
    if run is None or real_path(path) == run:
        return path
    parts = real_path(path).relative_to(run).parts
    names = [part for part in parts if part not in ("model", "models", "checkpoints", "evaluations")]
    return run.joinpath("evaluations", *names) if names else run


def evaluated_run(place: Path) -> Path | None:
    """The run whose checkpoint was evaluated in this place, a folder of RUN/evaluations/; None for any other place."""
    run = run_of(place)
    return run if run is not None and run / "evaluations" in real_path(place).parents else None


def read_log(path: Path, warn: Callable[[str], object] = warn_once) -> list[dict[str, Any]]:
    """The lines of a log.jsonl, as `LINES` describes them; empty if there is no file.

    Lines that do not fit, and an incomplete last line, which a kill may leave, are left out. `warn` gets one sentence
    that says how many.
    """
    try:
        lines, num_damaged = read_json_lines(path, _LINE) if path.exists() else ([], 0)
    except UnreadableError as error:
        warn(f"{error} The run is shown without its log.")
        return []
    if num_damaged:
        warn(f"{path}: {counted(num_damaged, 'line')} left out, incomplete or damaged.")
    return lines


def follow_log(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """The complete lines of a log.jsonl from byte `start` on, and the byte after each; None for a damaged line.

    For a log that is being written: a last line without its end comes with the next call. Raises OSError.
    """
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            try:
                yield _LINE.validate_json(line), start
            except ValidationError:
                yield None, start


class LogLine(BaseModel):
    """A line of log.jsonl: what is read of it again. Other keys may hold anything."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: int = Field(ge=0, le=MAX_COUNT)
    event: str | None = None


class LossesLine(LogLine):
    """Losses, which are all further keys, and the pace of training."""

    __pydantic_extra__: dict[str, float]

    event: None = None
    epoch: float | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0)


class SessionLine(LogLine):
    """The start of a session. held_out: digest of the names of its validation images."""

    held_out: str | None = None


class ValidationLine(LogLine):
    """The validation images, and KID of the baselines in each direction."""

    origin: str = ""
    num_images: dict[str, int] = {}
    directions: dict[str, Any] = {}


class ScoresLine(LogLine):
    """Scores on the validation images at one step."""

    seconds: float | None = Field(None, ge=0)
    kid: float | None = None
    best: bool = False
    scoring_seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    directions: dict[str, Any] = {}


class WarningLine(LogLine):
    """A warning of a health check."""

    check: str | None = None
    message: str


class UnreadableLine(LogLine):
    """A file that was left out."""

    path: str
    reason: str


# The lines of log.jsonl by their event; losses have none.
LINES: dict[str | None, type[LogLine]] = {
    None: LossesLine,
    "session": SessionLine,
    "validation": ValidationLine,
    "scores": ScoresLine,
    "warning": WarningLine,
    "unreadable": UnreadableLine,
}


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """The line as it stands, so that it can be written again without a change."""
    event = line.get("event")
    LINES.get(event if isinstance(event, str) else None, LogLine).model_validate(line)
    return line


_LINE: TypeAdapter[dict[str, Any]] = TypeAdapter(Annotated[dict[str, Any], AfterValidator(_checked)])
