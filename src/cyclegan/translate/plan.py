"""Which file becomes which."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError
from cyclegan.images.file_formats import can_hold, image_suffixes
from cyclegan.images.file_list import FileList, list_files
from cyclegan.translate.translator import Translator


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
    if out.suffix.lower() in image_suffixes() and not out.is_dir():
        for path in inputs:
            if not path.exists():
                raise InputError(f"There is no file or folder {path}.")
        if len(inputs) != 1 or not inputs[0].is_file() or inputs[0].suffix.lower() not in image_suffixes():
            raise InputError(f"--out {out} is one image, and the input is not one image file; give a folder as --out.")
        if out.resolve() == inputs[0].resolve():
            raise InputError(f"{out} would be overwritten by its own translation; choose another --out.")
        if image_suffix(out.suffix, translator) != out.suffix:
            suffix = image_suffix(out.suffix, translator)
            raise InputError(f"--out {out}: that format cannot hold {translator.target}; use {suffix} instead.")
        return TranslationPlan.of([(inputs[0], out)])
    for path in inputs:
        if path.is_dir() and not find_files(path, out, image_suffixes()):
            raise InputError(f"{path} holds no images.")
    return mirror(inputs, out, image_suffixes(), lambda suffix: image_suffix(suffix, translator))


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
