"""Inspect folders of images before training on them, and run directories."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cyclegan.config import Config, TrainConfig
from cyclegan.data.domains import Folders, find_folders, holds_domains
from cyclegan.errors import InputError
from cyclegan.inspection.advice import Advice, advise
from cyclegan.inspection.duplicates import Copies, find_copies
from cyclegan.inspection.run_summary import RunSummary, summarise_run
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
from cyclegan.storage.run import read_run_config, run_of

# Pairs of folders that are searched for copies, besides each folder itself.
_BORDERS = (
    ("test A", "A"),
    ("test B", "B"),
    ("B", "A"),
    ("test A", "B"),
    ("test B", "A"),
    ("test B", "test A"),
)


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


def inspect_folders(
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
