"""Inspect folders of images before training on them, and run directories."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cyclegan.config import Config, TrainConfig
from cyclegan.data.domains import Folders, find_folders, holds_domains
from cyclegan.errors import InputError
from cyclegan.inspection.advice import Advice, advise
from cyclegan.inspection.duplicates import Copies, find_copies
from cyclegan.inspection.survey import (
    FEWEST_FEATURES,
    Distance,
    FolderReport,
    Survey,
    check_folder,
    domain_distance,
    printable,
    survey_folder,
)
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_log, read_run_config, run_of
from cyclegan.training.checkpoint import read_best

# Pairs of folders that are searched for copies, besides each folder itself.
_BORDERS = (
    ("test A", "A"),
    ("test B", "B"),
    ("B", "A"),
    ("test A", "B"),
    ("test B", "A"),
    ("test B", "test A"),
)

# Events of log.jsonl that the summary of a run shows.
_EVENTS = {"warning", "unreadable", "not finite"}

# Keys of a line of log.jsonl that are no losses.
_NOT_A_LOSS = {"step", "epoch", "seconds", "images_per_second", "learning_rate"}


class LoggedEvent(Config):
    """An event of a run: a file that was left out, a warning, a loss that was not finite."""

    event: str
    step: int
    message: str


class RunSummary(Config):
    """A run directory. step, seconds: at the newest checkpoint; share: of the run's length, None where unknown.

    logged_step and losses are those of the last line of the log. best_step, best_kid: of the best checkpoint, by the
    KID on validation images. missing: why its folders cannot be inspected.
    """

    directory: Path
    preset: str
    length: str
    step: int | None
    seconds: float | None
    share: float | None
    checkpoints: tuple[str, ...]
    model_step: int | None
    num_bytes: int
    logged_step: int | None
    losses: dict[str, float]
    best_step: int | None
    best_kid: float | None
    events: tuple[LoggedEvent, ...]
    missing: str | None = None


class Inspection(Config):
    """All results. folders: by the names A, B, test A and test B, as far as they exist.

    distance: None for a single domain or too few images; `distance_missing` then says why.
    """

    folders: dict[str, FolderReport]
    copies: tuple[Copies, ...] = ()
    distance: Distance | None = None
    distance_missing: str | None = None
    advice: tuple[Advice, ...] = ()
    run: RunSummary | None = None


def inspect(
    a: str | Path,
    b: str | Path | None = None,
    *,
    test_a: str | Path | None = None,
    test_b: str | Path | None = None,
    quiet: bool = False,
) -> Inspection:
    """Inspect folders of images, or a run directory and the folders that it was trained on.

    a: a folder, one root that holds trainA and trainB, or a run directory. b: the folder of the other domain.
    test_a, test_b: folders of test images. Progress goes to stderr. Raises InputError for a folder that is missing or
    holds no readable images; of a run, `run.missing` says so instead.
    """
    path = Path(a)
    given = [Path(folder) if folder is not None else None for folder in (b, test_a, test_b)]
    is_model = (path / "model" / "config.json").is_file() or (path / "config.json").is_file()
    if is_model and (run := run_of(path)) is not None:
        path = run  # a checkpoint stands for its run
    if path.is_dir() and (config := read_run_config(path)) is not None:
        if any(given):
            raise InputError(f"{path} is a run directory, which names its folders itself; give it alone.")
        return _inspect_run(path, config, quiet)
    return _inspect_folders(_choose(path, *given), TrainConfig(), quiet)


def _choose(a: Path, b: Path | None, test_a: Path | None, test_b: Path | None) -> dict[str, Path]:
    """The folders by their names."""
    for folder in (a, b, test_a, test_b):
        if folder is not None:
            check_folder(folder)
    if b is not None or holds_domains(a):
        return _named(find_folders(a, b, test_a, test_b))
    if test_b is not None:
        raise InputError(
            f"--test-b {test_b} is for a domain B, which was not given; give two folders, or use --test-a."
        )
    return {"A": a, **({"test A": test_a} if test_a is not None else {})}


def _named(folders: Folders) -> dict[str, Path]:
    places = {"A": folders.a, "B": folders.b, "test A": folders.test_a, "test B": folders.test_b}
    return {name: place for name, place in places.items() if place is not None}


def _inspect_folders(places: dict[str, Path], config: TrainConfig, quiet: bool) -> Inspection:
    surveys: dict[str, Survey] = {}
    with _progress(quiet) as task:
        for name, place in places.items():
            ranges = {"A": config.data.range_a, "B": config.data.range_b}
            # Test images are shown in the range of the training images.
            of = name.removeprefix("test ")
            known = surveys[of].report if of in surveys and surveys[of].report.middle is not None else None
            value_range = (known.low, known.high) if known is not None else ranges[of]
            surveys[name] = survey_folder(place, value_range, task(f"Reading {name}"))
        copies = _find_all_copies(surveys)
        folders = {name: survey.report for name, survey in surveys.items()}
        distance, reason = None, None
        if "B" in folders:
            try:
                distance = domain_distance(folders["A"], folders["B"], task("Comparing A and B"))
            except InputError as error:
                reason = printable(error)
            if distance is None and reason is None:
                reason = f"The domains are not compared by features, which takes {FEWEST_FEATURES} images of each."
    return Inspection(
        folders=folders,
        copies=copies,
        distance=distance,
        distance_missing=reason,
        advice=advise(folders, copies, distance, config),
    )


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Gives a function that starts a line of progress and returns a function to call with (done, total)."""
    console = Console(stderr=True, highlight=False, markup=False)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:

        def task(name: str) -> Callable[[int, int], None]:
            identity = progress.add_task(name, total=None)
            return lambda done, total: progress.update(identity, completed=done, total=total)

        yield task


def _find_all_copies(surveys: dict[str, Survey]) -> tuple[Copies, ...]:
    def compared(name: str) -> tuple[tuple[Path, ...], tuple[bytes, ...], Any]:
        return surveys[name].report.files, surveys[name].digests, surveys[name].thumbnails

    borders = [(name, of) for name, of in _BORDERS if name in surveys and of in surveys]
    return tuple(
        Copies(folder=name, of=of, copies=find_copies(*compared(name), compared(of) if name != of else None))
        for name, of in [*((name, name) for name in surveys), *borders]
    )


# ---- a run


def _inspect_run(path: Path, config: TrainConfig, quiet: bool) -> Inspection:
    run = summarise_run(path, config)
    try:
        if config.a is None:
            raise InputError("Its configuration names no folder.")
        found = _inspect_folders(_named(find_folders(config.a, config.b, config.test_a, config.test_b)), config, quiet)
    except InputError as error:
        where = " and ".join(str(folder) for folder in (config.a, config.b) if folder is not None)
        hint = " (as seen from here; relative paths start where training was started)"
        missing = f"The images that it was trained on, {where}{hint}, cannot be inspected: {error}"
        return Inspection(folders={}, run=run.replace(missing=printable(missing)))
    return found.replace(run=run)


def summarise_run(path: Path, config: TrainConfig) -> RunSummary:
    """Summarise a run directory, without loading weights."""
    checkpoints = list_checkpoints(path)
    step, seconds, model_step = None, None, None
    with suppress(OSError, json.JSONDecodeError, KeyError, IndexError):
        progress = json.loads((checkpoints[0] / "training.json").read_text(encoding="utf-8"))
        step, seconds = int(progress["step"]), float(progress["seconds"])
    with suppress(InputError):
        model_step = read_info(path / "model").step
    log = read_log(path / "log.jsonl")
    last: dict[str, Any] = next((line for line in reversed(log) if "event" not in line), {})
    best = read_best(path) or {}
    if config.minutes is not None:
        length, done = f"{config.minutes:g} minutes", seconds / (60 * config.minutes) if seconds is not None else None
    elif config.steps is not None:
        length, done = f"{config.steps} steps", step / config.steps if step is not None else None
    else:
        assert config.epochs is not None
        length, done = f"{config.epochs:g} epochs", last["epoch"] / config.epochs if "epoch" in last else None
    return RunSummary(
        directory=path,
        preset=config.preset,
        length=length,
        step=step,
        seconds=seconds,
        share=min(done, 1.0) if done is not None else None,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        model_step=model_step,
        num_bytes=_size_on_disk(path),
        logged_step=int(last["step"]) if "step" in last else None,
        losses={name: value for name, value in last.items() if name not in _NOT_A_LOSS},
        best_step=best.get("step"),
        best_kid=best.get("kid"),
        events=tuple(_describe(line) for line in log if line.get("event") in _EVENTS),
    )


def _size_on_disk(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # the run may be writing
            total += file.stat().st_size if file.is_file() else 0
    return total


def _describe(values: dict[str, Any]) -> LoggedEvent:
    known = {"event", "step", "message"}
    details = [str(values["message"])] if "message" in values else []
    details += [f"{name} {value}" for name, value in values.items() if name not in known and not details]
    return LoggedEvent(
        event=str(values["event"]), step=int(values.get("step", 0)), message=printable(", ".join(details))
    )
