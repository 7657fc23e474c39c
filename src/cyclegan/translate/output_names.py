"""Mirror inputs into an output folder under names that collide neither with each other nor with an input."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.file_list import FileList, list_files
from cyclegan.system.arguments import real_path


def find_files(folder: Path, out: Path, suffixes: tuple[str, ...]) -> FileList:
    """Input files with these suffixes below a folder, without those in an `out` below it, from earlier calls."""
    found = list_files(folder, suffixes)
    real_out = str(real_path(out))
    if real_out == str(real_path(folder)):
        return found
    real, root, prefix = _RealPaths(), _slashed(folder), real_out.rstrip(os.sep) + os.sep
    return FileList(found.root, (name for name in found.names() if not real(root + name).startswith(prefix)))


def mirror(
    inputs: list[Path],
    out: Path,
    suffixes: tuple[str, ...],
    suffix_of: Callable[[str], str],
    keeps_suffix: Callable[[str], bool] = lambda _: False,
) -> tuple[FileList, FileList]:
    """Sources and targets: all files of `inputs`, and those with these suffixes in its folders, mirrored into `out`.

    suffix_of: the suffix of an input -> that of its output. keeps_suffix: whether an input is an exception, whose
    output has its own suffix, asked only where `suffix_of` changes it. No two outputs have the same name. Raises
    InputError if an input is missing or would be overwritten.
    """
    # Strings instead of paths: there may be a million.
    found: list[tuple[str, str, FileList]] = []  # folder, prefix below `out`, files
    prefixes = _prefixes([path for path in inputs if path.is_dir()])
    for path in inputs:
        if path.is_dir():
            prefix = "" if prefixes[path] == Path() else f"{prefixes[path].as_posix()}/"
            found.append((_slashed(path), prefix, find_files(path, out, suffixes)))
        elif path.is_file():
            found.append((_slashed(path.parent), "", FileList(path.parent, [path.name])))
        else:
            raise InputError(f"There is no file or folder {path}.")

    def files() -> Iterator[tuple[str, str]]:
        for folder, prefix, names in found:
            for name in names.names():
                yield folder + name, prefix + name

    real_path, out_prefix, new_suffix, is_exception = _RealPaths(), _slashed(out), cache(suffix_of), cache(keeps_suffix)

    def keeps_name(source: str, relative: str) -> bool:
        suffix = os.path.splitext(relative)[1]  # noqa: PTH122
        return new_suffix(suffix) == suffix or is_exception(source)

    target_folders: set[str] = set()
    has_renames = False
    for source, relative in files():
        place = real_path(out_prefix + relative)
        if place == real_path(source):
            raise InputError(f"{source} would be overwritten; choose an --out other than the folder of the inputs.")
        target_folders.add(place.rpartition(os.sep)[0])
        has_renames |= not keeps_name(source, relative)
    # Only sources in a folder of targets can be overwritten by a target.
    taken = {place for source, _ in files() if (place := real_path(source)).rpartition(os.sep)[0] in target_folders}
    # Outputs that keep their whole name go first: their places, and whether one has taken it. Files of one folder have
    # different names, so this is needed only where names change, folders are merged, or a link leads elsewhere.
    kept: dict[str, bool] = {}
    if has_renames or taken or len(found) > 1 or not real_path.is_one_to_one():
        kept = {real_path(out_prefix + relative): False for source, relative in files() if keeps_name(source, relative)}

    sources, targets = bytearray(), bytearray()
    for source, relative in files():
        target = relative
        if kept or has_renames:
            place = real_path(out_prefix + relative)
            is_kept = keeps_name(source, relative)
            if is_kept and not kept[place] and place not in taken:
                kept[place] = True
            else:
                suffix = Path(relative).suffix
                names = _names(Path(relative), suffix if is_kept else new_suffix(suffix))
                target, place = next(
                    (name.as_posix(), place)
                    for name in names
                    if (place := real_path(out_prefix + name.as_posix())) not in taken and place not in kept
                )
                taken.add(place)
        sources += os.fsencode(source) + b"\0"
        targets += os.fsencode(target) + b"\0"
    return FileList(Path(), bytes(sources)), FileList(out, bytes(targets))


def _slashed(folder: Path) -> str:
    return folder.as_posix().rstrip("/") + "/"


def _prefixes(folders: list[Path]) -> dict[Path, Path]:
    """Prefix of each folder below `out`: none for a single one; the name for several, numbered if equal."""
    if len(folders) < 2:
        return {folder: Path() for folder in folders}
    prefixes: dict[Path, Path] = {}
    for folder in folders:
        name, number = real_path(folder).name or "root", 2
        prefix = Path(name)
        while prefix in prefixes.values():
            prefix = Path(f"{name}_{number}")
            number += 1
        prefixes[folder] = prefix
    return prefixes


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """Candidates for the name of an output, the best first."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    number = 2
    while True:
        yield relative.with_name(f"{relative.stem}_{number}{suffix}")
        number += 1


class _RealPaths:
    """`Path.resolve` for many files of few folders, given with forward slashes: each folder is read once."""

    def __init__(self) -> None:
        # Folder -> its real path, and the names in it that are links.
        self._folders: dict[str, tuple[str, set[str]]] = {}

    def __call__(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        real_folder, links = self.folder(folder)
        return os.path.realpath(path) if name in links else f"{real_folder}{os.sep}{name}"

    def folder(self, folder: str) -> tuple[str, set[str]]:
        if folder not in self._folders:
            links: set[str] = set()
            with suppress(OSError), os.scandir(folder or "/") as entries:
                links.update(entry.name for entry in entries if entry.is_symlink())
            self._folders[folder] = os.path.realpath(folder or "/").rstrip(os.sep), links
        return self._folders[folder]

    def is_one_to_one(self) -> bool:
        """Whether all paths seen so far that differ are different files."""
        real_folders = [folder for folder, _ in self._folders.values()]
        return len(set(real_folders)) == len(real_folders) and not any(links for _, links in self._folders.values())
