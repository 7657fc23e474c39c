"""An actor of Ray: translates the files of one item after the other, as `translate_folder` does."""

import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from cyclegan.config import Direction
from cyclegan.errors import CycleganError, InputError
from cyclegan.images.file_list import FileList
from cyclegan.images.limits import pixel_limit
from cyclegan.system.atomic import is_place_lost
from cyclegan.system.prefetch import use_cores
from cyclegan.translate.folder import translate_plan
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan
from cyclegan.translate.progress import FolderProgress, OnFrame, OnProgress, not_written
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.translator import Translator
from cyclegan.video import translate_video

# Source, target, state, reason, worker.
Row: TypeAlias = tuple[str | bytes, str | bytes, str, str | None, str]

# Seconds between two looks for the file by which the command asks to stop.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Model:
    """How a translator is loaded, and the digest of its files. The other fields are as in `Translator.load`."""

    path: str
    digest: str
    direction: Direction
    device: str
    weights: str | None
    engine: str
    precision: str

    def load(self) -> Translator:
        """Raises InputError if the model is missing, or another one."""
        translator = Translator.load(
            self.path,
            direction=self.direction,
            device=self.device,
            weights=self.weights,
            engine=self.engine,
            precision=self.precision,
        )
        if translator.origin is None or translator.origin.digest() != self.digest:
            raise InputError(f"{self.path} on {platform.node()} holds another model than where the command runs.")
        return translator


@dataclass(frozen=True)
class Job:
    """What an actor needs besides its items.

    out: the folder that all targets are below. stop: a file that is there when the command asks to stop. cores: of the
    actor. max_pixels: as in `translate_folder`.
    """

    model: Model
    options: TranslateOptions
    out: Path
    stop: Path
    cores: int
    max_pixels: int | None


class Stopped(BaseException):
    """The command asked to stop, in the middle of an item."""


class Worker:
    """Holds a translator, and gives rows for the files of an item.

    A row has the columns of the manifest. Other states are for the command: note (a sentence in `reason`), damage, lost
    (counts of a ResultMaker, pickled), end (why nothing can be done any more) and stopped.
    """

    def __init__(self, job: Job) -> None:
        import torch

        self._job, self._progress = job, _Progress(job.stop)
        torch.set_num_threads(job.cores)
        use_cores(job.cores)

    @cached_property
    def _translator(self) -> Translator:
        options, model = self._job.options, self._job.model.load()
        return options.apply(model, lambda _: None)[0]

    def __call__(self, item: Any) -> Any:
        """One item: a table with the columns source, target (below `out`) and is_clip, equal in all rows."""
        if self._progress.is_stop_asked():
            return _rows([("", "", "stopped", "", _name())])
        sources, targets = item["source"].to_pylist(), item["target"].to_pylist()
        plan = TranslationPlan(FileList(Path(), _joined(sources)), FileList(self._job.out, _joined(targets)))
        translate = self._translate_clip if item["is_clip"][0].as_py() else self._translate_images
        try:
            return _rows(_one_by_one(translate, plan))
        except Stopped:
            return _rows([("", "", "stopped", "", _name())])
        except CycleganError as error:  # also of the model
            return _rows([("", "", "end", str(error), _name())])

    def _translate_images(self, plan: TranslationPlan) -> list[Row]:
        maker, options = ResultMaker(self._translator.target), self._job.options
        with pixel_limit(self._job.max_pixels):
            result = translate_plan(self._translator, plan, options, self._progress, counts=maker)
        name = _name()
        rows: list[Row] = []
        for pairs, state in ((result.written, "done"), (result.existing, "existing")):
            rows += [(os.fsencode(source), os.fsencode(target), state, None, name) for source, target in pairs]
        targets = dict(plan) if result.skipped else {}
        for source, reason in result.skipped:
            rows.append((os.fsencode(source), os.fsencode(targets[source]), "failed", reason, name))
        rows += [("", "", "note", note, name) for note in result.notes]
        rows += [("", "", "damage", note, name) for note in result.damage]
        if maker.sentences():
            rows.append(("", "", "lost", pickle.dumps(maker).hex(), name))
        return rows

    def _translate_clip(self, plan: TranslationPlan) -> list[Row]:
        (source, target), options, name = plan[0], self._job.options, _name()
        row = os.fsencode(source), os.fsencode(target)
        if options.skip_existing and target.is_file() and target.stat().st_size:
            return [(*row, "existing", None, name)]
        try:
            with self._progress.translating_frames(source) as on_frame:
                clip = translate_video(self._translator, source, target, on_frame=on_frame, **options.for_network)
        except (CycleganError, OSError) as error:
            if is_place_lost(error, self._job.out):
                raise InputError(not_written(target, error)) from error
            return [(*row, "failed", not_written(target, error), name)]
        notes = [("", "", "note", note, name) for note in clip.notes]
        return [(*row, "done", None, name), *notes, *(("", "", "damage", note, name) for note in clip.damage)]


class _Progress(FolderProgress):
    """Raises Stopped between files, tiles and frames, if the command asks to stop."""

    def __init__(self, stop: Path) -> None:
        self._stop, self._looked = stop, 0.0

    def is_stop_asked(self) -> bool:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        return self._stop.exists()

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


def _one_by_one(translate: Callable[[TranslationPlan], list[Row]], plan: TranslationPlan) -> list[Row]:
    """The rows of a plan. After an error that is not foreseen its files are tried one by one, so that one is lost."""
    try:
        return translate(plan)
    except CycleganError:
        raise
    except Exception as error:
        if len(plan) > 1:
            return [row for index in range(len(plan)) for row in _one_by_one(translate, plan[index : index + 1])]
        source, target = plan[0]
        return [(os.fsencode(source), os.fsencode(target), "failed", f"{type(error).__name__}: {error}", _name())]


def _name() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _joined(names: list[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


def _rows(rows: list[Row]) -> Any:
    import pyarrow as pa

    names = ("source", "target", "state", "reason", "worker")
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    texts = [pa.array(map(_text, column), pa.string()) for column in columns]
    return pa.table(dict(zip(names, texts, strict=True)))


def _text(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
