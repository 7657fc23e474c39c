"""Inspect folders of images before training on them, and run directories."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cyclegan.config import INSPECTED_SETTINGS, TrainConfig, resumed_config, saved_config
from cyclegan.data.domains import Folders, find_folders, holds_domains
from cyclegan.data.volumes import volumes_of
from cyclegan.errors import InputError
from cyclegan.images.file_list import FileList
from cyclegan.images.limits import pixel_limit
from cyclegan.images.remote import local_copy
from cyclegan.inspection.advice import Advice, advise
from cyclegan.inspection.distance import Distance, domain_distance
from cyclegan.inspection.duplicates import Copies, Fingerprints, find_copies
from cyclegan.inspection.run_summary import RunSummary, summarise_run
from cyclegan.inspection.survey import (
    FolderReport,
    OnFile,
    check_folder,
    survey_folder,
)
from cyclegan.storage.run import read_run_config, run_of
from cyclegan.system.arguments import check_bool, check_path
from cyclegan.system.host_state import host_state
from cyclegan.system.messages import make_console
from cyclegan.system.terminal import printable

# Called with the name of the work at hand, how many files are done, and how many there are.
OnProgress = Callable[[str, int, int], None]

# Pairs of folders that are searched for copies, besides each folder itself.
_BORDERS = (
    ("test A", "A"),
    ("test B", "B"),
    ("B", "A"),
    ("test A", "B"),
    ("test B", "A"),
    ("test B", "test A"),
)


@dataclass(frozen=True)
class Inspection:
    """All results. folders: by the names A, B, test A and test B, as far as they exist.

    distance: None for a single domain or too few images; `distance_missing` then says why.
    """

    folders: dict[str, FolderReport]
    copies: tuple[Copies, ...] = ()
    distance: Distance | None = None
    distance_missing: str | None = None
    advice: tuple[Advice, ...] = ()
    run: RunSummary | None = None


@host_state()
def inspect_folders(
    a: str | Path,
    b: str | Path | None = None,
    *,
    test_a: str | Path | None = None,
    test_b: str | Path | None = None,
    quiet: bool = False,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> Inspection:
    """Inspect folders of images, or a run directory and the folders that it was trained on.

    a: a folder, one root that holds trainA and trainB, or a run directory. b: the folder of the other domain.
    test_a, test_b: folders of test images. settings: those of `train` by which files are read: channels_a, range_a,
    bands_a, nodata_a, background_a, the same for b, page, axis and max_pixels (default: those of the run).
    Progress goes to stderr. on_progress: called with the name of the work at hand, and how many files are done of how
    many; what it raises ends the inspection and reaches the caller. Raises InputError for a folder that is missing or
    holds no readable images (for a run, `run.missing` says so instead), and for settings that cannot be used.
    """
    if unknown := settings.keys() - set(INSPECTED_SETTINGS):
        raise InputError(f"inspect_folders has no setting {min(unknown)}; it takes {', '.join(INSPECTED_SETTINGS)}.")
    config = saved_config(settings)
    path, quiet = check_path("a", a), check_bool("quiet", quiet)
    named = (("b", b), ("test_a", test_a), ("test_b", test_b))
    others = [check_path(name, folder) if folder is not None else None for name, folder in named]
    note = make_console(stderr=True, quiet=quiet).print
    path, others = local_copy(path, note), [folder and local_copy(folder, note) for folder in others]
    is_model = (path / "model" / "config.json").is_file() or (path / "config.json").is_file()
    if is_model and (run := run_of(path)) is not None:
        path = run  # a checkpoint stands for its run
    if path.is_dir() and (run_config := read_run_config(path)) is not None:
        if any(others):
            raise InputError(f"{path} is a run directory, which names its folders itself; give it alone.")
        run_config = resumed_config(run_config, settings) if settings else run_config
        return _inspect_run(path, run_config, quiet, on_progress)
    for folder in (path, *others):
        if folder is not None:
            check_folder(folder)
    if b is not None or holds_domains(path):
        return _inspect(_by_name(find_folders(path, *others)), config, quiet, on_progress)
    if test_b is not None:
        raise InputError(
            f"--test-b {test_b} is for a domain B, which was not given; give two folders, or use --test-a."
        )
    test = others[1]
    return _inspect({"A": path, **({"test A": test} if test is not None else {})}, config, quiet, on_progress)


def _inspect_run(path: Path, config: TrainConfig, quiet: bool, on_progress: OnProgress | None) -> Inspection:
    run = summarise_run(path, config)
    try:
        if config.a is None:
            raise InputError("Its configuration names no folder.")
        note = make_console(stderr=True, quiet=quiet).print
        given = config.a, config.b, config.test_a, config.test_b
        folders = find_folders(*(place and local_copy(place, note) for place in given))  # type: ignore[arg-type]
        return replace(_inspect(_by_name(folders), config, quiet, on_progress), run=run)
    except InputError as error:
        where = " and ".join(str(folder) for folder in (config.a, config.b) if folder is not None)
        hint = " (as seen from here; relative paths start where training was started)"
        missing = f"The images that it was trained on, {where}{hint}, cannot be inspected: {error}"
        return Inspection({}, run=replace(run, missing=printable(missing)))


def _by_name(folders: Folders) -> dict[str, Path]:
    places = {"A": folders.a, "B": folders.b, "test A": folders.test_a, "test B": folders.test_b}
    return {name: place for name, place in places.items() if place is not None}


def _inspect(places: dict[str, Path], config: TrainConfig, quiet: bool, on_progress: OnProgress | None) -> Inspection:
    folders: dict[str, FolderReport] = {}
    prints: dict[str, Fingerprints] = {}
    ranges = {"A": config.data.range_a, "B": config.data.range_b}
    channels = {"A": config.model.channels_a, "B": config.model.channels_b}
    with _progress(quiet, on_progress) as task, pixel_limit(config.data.max_pixels):
        for name, place in places.items():
            of = name.removeprefix("test ")
            folders[name], prints[name] = survey_folder(
                place, ranges[of], task(f"Reading {name}"), reading=config.data.reading(of), channels=channels[of]
            )
            if folders[name].middle is not None:  # test images are shown in the range of the training images
                ranges[of] = (folders[name].low, folders[name].high)
        pairs = [(name, name) for name in prints] + [(x, y) for x, y in _BORDERS if x in prints and y in prints]
        copies = []
        for x, y in pairs:
            on_step = task(f"Looking for copies, {x} and {y}" if x != y else f"Looking for copies in {x}")
            volumes = volumes_of(FileList(places[x], map(str, prints[x].files))) if x == y else None
            copies.append(Copies(x, y, find_copies(prints[x], prints[y], on_step, volumes=volumes)))
        distance, reason = None, None
        if "B" in folders:
            try:
                distance = domain_distance(folders["A"], folders["B"], task("Comparing A and B"))
            except InputError as error:
                reason = printable(error)
    return Inspection(folders, tuple(copies), distance, reason, advise(folders, copies, distance, config))


@contextmanager
def _progress(quiet: bool, on_progress: OnProgress | None) -> Iterator[Callable[[str], OnFile]]:
    """Yields a function that starts a line of progress and returns a function to call with (done, total)."""
    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:

        def task(name: str) -> OnFile:
            identity = progress.add_task(name, total=None)

            def on_file(done: int, total: int) -> None:
                progress.update(identity, completed=done, total=total)
                if on_progress is not None:
                    on_progress(name, done, total)

            return on_file

        yield task
