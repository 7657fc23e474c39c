"""Translate files: which file becomes which, and the work itself."""

import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.config import InputError
from cyclegan.images.codecs import (
    EXTENSIONS,
    Array,
    ImageFormat,
    UnreadableError,
    can_hold,
    cast,
    read_as,
    resize,
    scale,
    write_image,
)
from cyclegan.images.file_list import FileList, list_files
from cyclegan.images.headers import decoded_bytes
from cyclegan.system.prefetch import MOST_BYTES, num_cores, work_ahead
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import Translator

# Threads that decode, and as many that write: a PNG takes longer to compress than a GPU takes to translate.
_MOST_THREADS = 8


class TranslationPlan(Sequence[tuple[Path, Path]]):
    """Which file becomes which, in order: pairs of a source and a target. A slice is a TranslationPlan."""

    def __init__(self, sources: FileList, targets: FileList) -> None:
        self.sources, self.targets = sources, targets

    @classmethod
    def of(cls, pairs: Sequence[tuple[Path, Path]]) -> "TranslationPlan":
        """A plan of a few files."""
        sources, targets = ([str(pair[i]) for pair in pairs] for i in (0, 1))
        return cls(FileList(Path(), sources), FileList(Path(), targets))

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> tuple[Path, Path]: ...
    @overload
    def __getitem__(self, index: slice) -> "TranslationPlan": ...
    def __getitem__(self, index: int | slice) -> "tuple[Path, Path] | TranslationPlan":
        if isinstance(index, slice):
            return TranslationPlan(self.sources[index], self.targets[index])
        return self.sources[index], self.targets[index]

    def take(self, indices: NDArray[np.integer]) -> "TranslationPlan":
        """The pairs at these places."""
        return TranslationPlan(self.sources.take(indices), self.targets.take(indices))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        return zip(self.sources, self.targets, strict=True)


def plan_outputs(inputs: Iterable[Path], out: Path, translator: Translator) -> TranslationPlan:
    """Which file becomes which: files go into `out`, folders are mirrored below it.

    A file keeps its name. Its suffix changes only where that format cannot hold the result (PNG, else TIFF). Where
    `out` has the name of an image, the one input becomes that file.
    Raises InputError if an input is missing, holds no image, or would be overwritten.
    """
    inputs = [Path(path) for path in inputs]
    if out.suffix.lower() in EXTENSIONS and not out.is_dir():
        for path in inputs:
            if not path.exists():
                raise InputError(f"There is no file or folder {path}.")
        if len(inputs) != 1 or not inputs[0].is_file() or inputs[0].suffix.lower() not in EXTENSIONS:
            raise InputError(f"--out {out} is one image, and the input is not one image file; give a folder as --out.")
        if out.resolve() == inputs[0].resolve():
            raise InputError(f"{out} would be overwritten by its own translation; choose another --out.")
        if image_suffix(out.suffix, translator) != out.suffix:
            suffix = image_suffix(out.suffix, translator)
            raise InputError(f"--out {out}: that format cannot hold {translator.target}; use {suffix} instead.")
        return TranslationPlan.of([(inputs[0], out)])
    for path in inputs:
        if path.is_dir() and not find_files(path, out, EXTENSIONS):
            raise InputError(f"{path} holds no images.")
    return mirror(inputs, out, EXTENSIONS, lambda suffix: image_suffix(suffix, translator))


def image_suffix(suffix: str, translator: Translator) -> str:
    """The suffix of a translated image: its own, or .png or .tif where that format cannot hold the result."""
    target = translator.target
    return next(s for s in (suffix, ".png", ".tif") if can_hold(s, target.channels, target.dtype))


class _RealPaths:
    """`Path.resolve` for many files of few folders, given with forward slashes: each folder is looked at once."""

    def __init__(self) -> None:
        # Folder -> where it really is, and the names in it that are links.
        self._folders: dict[str, tuple[str, set[str]]] = {}

    def __call__(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        place, links = self.folder(folder)
        return os.path.realpath(path) if name in links else f"{place}{os.sep}{name}"

    def folder(self, folder: str) -> tuple[str, set[str]]:
        if folder not in self._folders:
            links: set[str] = set()
            with suppress(OSError), os.scandir(folder or "/") as entries:
                links.update(entry.name for entry in entries if entry.is_symlink())
            self._folders[folder] = os.path.realpath(folder or "/").rstrip(os.sep), links
        return self._folders[folder]

    def is_one_to_one(self) -> bool:
        """Whether different paths were different files."""
        places = [place for place, _ in self._folders.values()]
        return len(set(places)) == len(places) and not any(links for _, links in self._folders.values())


def find_files(folder: Path, out: Path, extensions: tuple[str, ...]) -> FileList:
    """Input files of these kinds below a folder. What an earlier call wrote into an `out` below it is not input."""
    found = list_files(folder, extensions)
    place = str(out.resolve())
    if place == str(folder.resolve()):
        return found
    real, root, inside = _RealPaths(), _slashed(folder), place.rstrip(os.sep) + os.sep
    return FileList(found.root, (name for name in found.names() if not real(root + name).startswith(inside)))


def mirror(
    inputs: list[Path], out: Path, extensions: tuple[str, ...], suffix_of: Callable[[str], str]
) -> TranslationPlan:
    """Which file becomes which: all files of `inputs`, and those of these kinds in its folders.

    suffix_of: the suffix of an input -> that of its output. Raises InputError if an input is missing or would be
    overwritten. No two outputs have one name.
    """
    # Strings and not paths: there may be a million.
    found: list[tuple[str, str, FileList]] = []  # folder, where it is mirrored, files
    prefixes = _prefixes([path for path in inputs if path.is_dir()])
    for path in inputs:
        if path.is_dir():
            prefix = "" if prefixes[path] == Path() else f"{prefixes[path].as_posix()}/"
            found.append((_slashed(path), prefix, find_files(path, out, extensions)))
        elif path.is_file():
            found.append((_slashed(path.parent), "", FileList(path.parent, [path.name])))
        else:
            raise InputError(f"There is no file or folder {path}.")

    def files() -> Iterator[tuple[str, str]]:
        for folder, prefix, names in found:
            for name in names.names():
                yield folder + name, prefix + name

    real, below, suffixes = _RealPaths(), _slashed(out), cache(suffix_of)

    def keeps_name(relative: str) -> bool:
        suffix = os.path.splitext(relative)[1]  # noqa: PTH122
        return suffixes(suffix) == suffix

    folders: set[str] = set()
    renames = False
    for source, relative in files():
        place = real(below + relative)
        if place == real(source):
            raise InputError(f"{source} would be overwritten; choose an --out other than the folder of the inputs.")
        folders.add(place.rpartition(os.sep)[0])
        renames |= not keeps_name(relative)
    # No output hits a source that lies where none goes.
    taken = {place for source, _ in files() if (place := real(source)).rpartition(os.sep)[0] in folders}
    # Places of outputs that keep their whole name, to which they have a right, and whether they are given away. Files
    # of one folder have different names.
    kept: dict[str, bool] = {}
    if renames or taken or len(found) > 1 or not real.is_one_to_one():
        kept = {real(below + relative): False for _, relative in files() if keeps_name(relative)}

    sources, targets = bytearray(), bytearray()
    for source, relative in files():
        target = relative
        if kept or renames:
            place = real(below + relative)
            if keeps_name(relative) and not kept[place] and place not in taken:
                kept[place] = True
            else:
                names = _names(Path(relative), suffixes(Path(relative).suffix))
                target, place = next(
                    (name.as_posix(), place)
                    for name in names
                    if (place := real(below + name.as_posix())) not in taken and place not in kept
                )
                taken.add(place)
        sources += os.fsencode(source) + b"\0"
        targets += os.fsencode(target) + b"\0"
    return TranslationPlan(FileList.of_bytes(Path(), sources), FileList.of_bytes(out, targets))


def _slashed(folder: Path) -> str:
    return folder.as_posix().rstrip("/") + "/"


def _prefixes(folders: list[Path]) -> dict[Path, Path]:
    """Where each folder is mirrored: a single one in place, several under their own names, numbered if equal."""
    if len(folders) < 2:
        return {folder: Path() for folder in folders}
    prefixes: dict[Path, Path] = {}
    for folder in folders:
        name, number = folder.resolve().name or "root", 2
        prefix = Path(name)
        while prefix in prefixes.values():
            prefix = Path(f"{name}_{number}")
            number += 1
        prefixes[folder] = prefix
    return prefixes


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """Names for an output, the wanted one first, then ones that no other output has."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    number = 2
    while True:
        yield relative.with_name(f"{relative.stem}_{number}{suffix}")
        number += 1


def sequences(plan: Iterable[tuple[Path, Path]]) -> list[list[tuple[Path, Path]]]:
    """A plan cut into sequences of frames: each folder is one, in the natural order of names, 2 before 10."""
    folders: dict[Path, list[tuple[Path, Path]]] = {}
    for source, target in plan:
        folders.setdefault(source.parent.resolve(), []).append((source, target))
    return [sorted(files, key=lambda item: _natural_key(item[0].name)) for files in folders.values()]


def _natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Letters compare as letters and numbers as numbers; the name itself decides between x1 and x01."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)], name


def translate_files(
    translator: Translator,
    plan: Sequence[tuple[Path, Path]],
    *,
    batch_size: int = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    on_done: Callable[[Path], None] = lambda _: None,
) -> list[tuple[Path, str]]:
    """Translate and write every file of a plan. Returns the files that could not be read, and why.

    Files are decoded ahead of the network and written behind it in threads, a few at a time.
    short_side: pixels to which the shorter side is brought for the network; the result has the input's size again.
    scale_width: the same for the width. Raises InputError if both are given.
    stabilise: each folder is a sequence of frames (see `sequences`), and flicker is reduced as in `cyclegan.translate.stabilise`;
    memory_frames: its time constant.
    """
    if short_side is not None and scale_width is not None:
        scale(np.zeros((1, 1, 1), np.uint8), short_side=short_side, width=scale_width)  # raises
    failed: list[tuple[Path, str]] = []
    parts = sequences(plan) if stabilise else [plan]
    num_threads = min(_MOST_THREADS, num_cores())

    def read(item: tuple[Path, Path]) -> _Image:
        array = read_as(item[0], translator.source, translator.target)
        scaled = scale(array, short_side=short_side, width=scale_width)
        return _Image(*item, array.shape[0], array.shape[1], scaled)

    # One look ahead over all parts, so that the network need not wait where one ends.
    reading = work_ahead(
        read,
        itertools.chain.from_iterable(parts),
        num_threads=num_threads,
        most_items=num_threads + 2 * batch_size,
        size_of=lambda image: image.array.nbytes,
        # A decoder holds the whole image, however small the network takes it.
        estimate=lambda item: decoded_bytes(item[0], translator.source),
        most_bytes=MOST_BYTES,
    )

    def readable(count: int) -> Iterator[_Image]:
        for item, future in itertools.islice(reading, count):
            try:
                yield future.result()
            except (InputError, UnreadableError) as error:
                failed.append((item[0], str(error)))
                on_done(item[0])

    waiting: deque[_Image] = deque()

    def arrays(images: Iterable[_Image]) -> Iterator[Array]:
        for image in images:
            waiting.append(image)
            yield image.array

    def translated() -> Iterator[tuple[_Image, Array]]:
        for part in parts:
            images = readable(len(part))
            if batch_size > 1 and not stabilise:
                images = _sizes_together(images, batch_size)
            for result in translator.translate(
                arrays(images), batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames
            ):
                yield waiting.popleft(), np.asarray(result)

    try:
        _write_behind(translated(), translator.target, num_threads, on_done)
    finally:
        reading.close()
    return failed


@dataclass(frozen=True)
class _Image:
    """A decoded file on its way: height and width are those of the file, the array is at the network's scale."""

    source: Path
    target: Path
    height: int
    width: int
    array: Array


def _sizes_together(images: Iterable[_Image], batch_size: int) -> Iterator[_Image]:
    """The same images, those of one size behind one another as soon as they fill a batch; the others after a while."""
    groups: dict[tuple[int, ...], list[_Image]] = {}
    num_waiting, num_bytes = 0, 0
    for image in images:
        shape = image.array.shape
        groups.setdefault(shape, []).append(image)
        num_waiting, num_bytes = num_waiting + 1, num_bytes + image.array.nbytes
        while len(groups.get(shape, ())) == batch_size or num_waiting >= 4 * batch_size or num_bytes > MOST_BYTES:
            # The full group, else the one that has waited longest.
            ready = groups.pop(shape if len(groups.get(shape, ())) == batch_size else next(iter(groups)))
            num_waiting, num_bytes = num_waiting - len(ready), num_bytes - sum(each.array.nbytes for each in ready)
            yield from ready
    for ready in groups.values():
        yield from ready


def _write_behind(
    results: Iterable[tuple[_Image, Array]],
    image_format: ImageFormat,
    num_threads: int,
    on_done: Callable[[Path], None],
) -> None:
    """Write results at the size of their files. Raises InputError for a disk that takes no more."""
    done = 0

    def write(image: _Image, array: Array) -> None:
        array = resize(array, image.height, image.width)
        if array.dtype.kind == "f":  # bicubic resizing overshoots at edges
            array = array.clip(image_format.low, image_format.high)
        write_image(image.target, cast(array, image_format.dtype))

    def finish() -> None:
        nonlocal done
        image, _, future = writing.popleft()
        try:
            future.result()
        except OSError as error:
            done += sum(not other.cancel() and other.exception() is None for *_, other in writing)
            raise InputError(
                f"{image.target} could not be written: {error.strerror or error}. {done} images are done and kept."
            ) from error
        done += 1
        on_done(image.source)

    pool, itemsize = ThreadPoolExecutor(num_threads), np.dtype(image_format.dtype).itemsize
    # With the bytes that each holds until it is written, the array at the size of the file included.
    writing: deque[tuple[_Image, int, Future[None]]] = deque()
    try:
        for image, array in results:
            size = image.array.nbytes + array.nbytes
            if array.shape[:2] != (image.height, image.width):
                size += image.height * image.width * array.shape[2] * itemsize
            while writing and (
                writing[0][2].done()
                or len(writing) >= 2 * num_threads
                or sum(size for _, size, _ in writing) + size > MOST_BYTES
            ):
                finish()
            writing.append((image, size, pool.submit(write, image, array)))
        while writing:
            finish()
    finally:
        pool.shutdown(cancel_futures=True)
