"""An actor of Ray: translates the files of one item after the other, as `translate_folder` does."""

import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch

from cyclegan.cluster.connection import Share
from cyclegan.cluster.places import fetch, send, text_of
from cyclegan.errors import CycleganError, InputError, reason_of
from cyclegan.images.file_list import FileList
from cyclegan.images.limits import pixel_limit
from cyclegan.images.remote import address_of, is_address
from cyclegan.system.atomic import is_place_lost
from cyclegan.system.prefetch import use_cores
from cyclegan.translate.folder import translate_plan
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan
from cyclegan.translate.progress import FolderProgress, OnFrame, OnProgress, not_written
from cyclegan.translate.recipe import Recipe
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.translator import Translator
from cyclegan.video import translate_video

COLUMNS = ("source", "target", "state", "reason", "worker")

# A value for each column.
Row: TypeAlias = tuple[str, str, str, str | None, str]

Translate: TypeAlias = Callable[[TranslationPlan], list[Row]]

# Seconds between two looks for the file by which the command asks to stop.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """What an actor needs besides its items.

    out: the folder that all targets are below, or its address. stop: a file that is there when the command asks to
    stop. max_pixels: as in `translate_folder`.
    """

    model: Recipe
    share: Share
    options: TranslateOptions
    out: Path
    stop: Path | None
    max_pixels: int | None


class Stopped(BaseException):
    """The command asked to stop, in the middle of an item."""


class Worker:
    """Holds a translator, and gives rows for the files of an item.

    A row has the columns of the manifest. Other states are for the command: note (a sentence in `reason`), damage, lost
    (counts of a ResultMaker, pickled), end (why nothing can be done any more) and stopped.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._progress = job, _Progress(job.stop)
        use_share(job.share)

    @cached_property
    def _translator(self) -> Translator:
        options, model = self._job.options, self._job.model.load(self._job.share.device)
        return options.apply(model, lambda _: None)[0]

    def __call__(self, item: Any) -> Any:
        """One item: a table with the columns source, target (below `out`) and is_clip, equal in all rows."""
        if self._progress.is_stop_asked():
            return table_of([_message("stopped")])
        sources, targets = ([os.fsdecode(name) for name in item[side].to_pylist()] for side in ("source", "target"))
        translate = self._translate_clip if item["is_clip"][0].as_py() else self._translate_images
        try:
            if any(map(is_address, (*sources, str(self._job.out)))):
                return table_of(self._with_copies(translate, sources, targets))
            plan = TranslationPlan(FileList(Path(), sources), FileList(self._job.out, targets))
            return table_of(_one_by_one(translate, plan))
        except Stopped:
            return table_of([_message("stopped")])
        except CycleganError as error:  # also of the model
            return table_of([_message("end", str(error))])

    def _with_copies(self, translate: Translate, sources: list[str], targets: list[str]) -> list[Row]:
        """The rows of files of which one side is at an address, by way of a folder of this machine."""
        out = self._job.out
        wholes = [
            (
                address_of(source) if is_address(source) else source,
                f"{address_of(out)}/{target}" if is_address(out) else str(out / target),
            )
            for source, target in zip(sources, targets, strict=True)
        ]
        with TemporaryDirectory(prefix="cyclegan") as folder:
            here = list(fetch(sources, Path(folder)))
            rows = [
                _row(*whole, "failed", f"{whole[0]} cannot be read: {type(path).__name__}: {reason_of(path)}.")
                for whole, path in zip(wholes, here, strict=True)
                if isinstance(path, Exception)
            ]
            good = [index for index, path in enumerate(here) if isinstance(path, Path)]
            place = Path(folder) / "out" if is_address(out) else out
            plan = TranslationPlan(
                FileList(Path(), [str(here[index]) for index in good]),
                FileList(place, [targets[index] for index in good]),
            )
            known = {str(here[index]): wholes[index] for index in good}
            sent: list[tuple[Path, str]] = []
            for source, target, state, text, _ in _one_by_one(translate, plan) if good else ():
                whole = known.get(source, ("", ""))
                if text and state != "lost":
                    for local, (there, _) in known.items():
                        text = text.replace(local, there)
                rows.append(_row(*whole, state, text))
                if state == "done" and is_address(out):
                    sent.append((Path(target), whole[1]))
            errors = {target: error for (_, target), error in zip(sent, send(sent), strict=True) if error is not None}
        return [
            _row(row[0], row[1], "failed", f"{row[1]} could not be written: {reason_of(errors[row[1]])}.")
            if row[2] == "done" and row[1] in errors
            else row
            for row in rows
        ]

    def _translate_images(self, plan: TranslationPlan) -> list[Row]:
        maker, options = ResultMaker(self._translator.target), self._job.options
        with pixel_limit(self._job.max_pixels):
            result = translate_plan(self._translator, plan, options, self._progress, counts=maker)
        targets = dict(plan) if result.skipped else {}
        return [
            *(_row(source, target, "done") for source, target in result.written),
            *(_row(source, target, "existing") for source, target in result.existing),
            *(_row(source, targets[source], "failed", reason) for source, reason in result.skipped),
            *(_message("note", note) for note in result.notes),
            *(_message("damage", note) for note in result.damage),
            *([_message("lost", pickle.dumps(maker).hex())] if maker.sentences() else []),
        ]

    def _translate_clip(self, plan: TranslationPlan) -> list[Row]:
        (source, target), options = plan[0], self._job.options
        if options.skip_existing and target.is_file() and target.stat().st_size:
            return [_row(source, target, "existing")]
        try:
            with self._progress.translating_frames(source) as on_frame:
                clip = translate_video(self._translator, source, target, on_frame=on_frame, **options.for_network)
        except (CycleganError, OSError) as error:
            if is_place_lost(error, self._job.out):
                raise InputError(not_written(target, error)) from error
            return [_row(source, target, "failed", not_written(target, error))]
        return [
            _row(source, target, "done"),
            *(_message("note", note) for note in clip.notes),
            *(_message("damage", note) for note in clip.damage),
        ]


def use_share(share: Share) -> None:
    """Keep this process to its share of a machine."""
    torch.set_num_threads(share.cores)
    use_cores(share.cores)


class _Progress(FolderProgress):
    """Raises Stopped between files, tiles and frames, if the command asks to stop."""

    def __init__(self, stop: Path | None) -> None:
        self._stop, self._looked = stop, 0.0

    def is_stop_asked(self) -> bool:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        return self._stop is not None and self._stop.exists()

    def _look(self) -> None:
        if self.is_stop_asked():
            raise Stopped

    @contextmanager
    def translating(self, num_images: int) -> Iterator[Callable[[Path], None]]:  # noqa: ARG002
        yield lambda _source: self._look()

    @contextmanager
    def translating_large(self, source: Path, target: Path) -> Iterator[OnProgress]:  # noqa: ARG002
        yield lambda _what, _share: self._look()

    @contextmanager
    def translating_frames(self, source: Path) -> Iterator[OnFrame]:  # noqa: ARG002
        yield lambda _done, _expected: self._look()


def _one_by_one(translate: Translate, plan: TranslationPlan) -> list[Row]:
    """The rows of a plan. After an unforeseen error its files are tried one by one, so that only one is lost."""
    try:
        return translate(plan)
    except CycleganError:
        raise
    except Exception as error:
        if len(plan) > 1:
            return [row for index in range(len(plan)) for row in _one_by_one(translate, plan[index : index + 1])]
        source, target = plan[0]
        return [_row(source, target, "failed", f"{type(error).__name__}: {error}")]


def worker_name() -> str:
    """The machine and the number of this process."""
    return f"{platform.node()}:{os.getpid()}"


def _row(source: str | Path, target: str | Path, state: str, reason: str | None = None) -> Row:
    return str(source), str(target), state, reason, worker_name()


def _message(state: str, text: str | None = None) -> Row:
    """A row for the command, of no file."""
    return _row("", "", state, text)


def table_of(rows: Sequence[Row]) -> Any:
    """An Arrow table of rows, with names that are not Unicode as `text_of` writes them."""
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    texts = [pa.array([None if x is None else text_of(x) for x in column], pa.string()) for column in columns]
    return pa.table(dict(zip(COLUMNS, texts, strict=True)))
