"""Which files the inputs of a command mean: files, folders, zips and patterns."""

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import (
    BROKEN_LINK,
    PIPE,
    FileList,
    describe_left_out,
    is_counted,
    list_files,
    suffix_of,
    without_slide_parts,
)
from cyclegan.images.pages import is_file, is_folder, is_zip, split_page
from cyclegan.images.zip_folder import open_zip
from cyclegan.system.arguments import real_path
from cyclegan.translate.progress import Skipped


def expand_patterns(
    inputs: Iterable[Path | FileList], out: Path, suffixes: tuple[str, ...], *, skipped: list[Skipped] | None = None
) -> list[Path | FileList]:
    """Inputs with each pattern, such as `photos/*.jpg` or `photos/**`, in the place of the files that match it.

    Only what is no file or folder itself is a pattern, as shells leave one in quotes. Its files stand below the folder
    before the first wildcard, and keep their place below it; those in an `out` below that folder, from earlier calls,
    are left out. suffixes: of the files that are taken from folders and zips, and by a pattern without a suffix.
    skipped: receives damaged zips that match, with the reason. Raises InputError for a pattern that nothing matches,
    and without `skipped` for a damaged zip.
    """
    paths = [path if isinstance(path, FileList) else Path(path) for path in inputs]
    return [
        _matches(path, out, suffixes, skipped) if isinstance(path, Path) and _is_pattern(path) else path
        for path in paths
    ]


class Unusable(FileList):
    """An input that is missing or damaged, in its place among the others: without files."""

    __slots__ = ()


def leave_out_unusable(
    inputs: Iterable[Path], out: Path, suffixes: tuple[str, ...]
) -> tuple[list[Path | FileList], list[Skipped]]:
    """Inputs as `expand_patterns` returns them, and those that are missing or damaged zips, with the reason.

    Raises InputError if none can be used.
    """
    found: list[Path | FileList] = []
    skipped: list[Skipped] = []
    for path in inputs:
        try:
            [expanded] = expand_patterns([path], out, suffixes, skipped=skipped)
            if isinstance(expanded, Path):
                check_there(expanded)
            found.append(expanded)
        except (InputError, UnreadableError) as error:
            found.append(Unusable(path, []))
            skipped.append((path, str(error)))
    if all(isinstance(expanded, Unusable) for expanded in found) and skipped:
        raise InputError(skipped[0][1])
    return found, skipped


def check_there(path: Path) -> None:
    """Raises InputError unless this is a file, or a folder or a zip that can be opened."""
    if is_folder(path):
        if not path.is_dir():
            open_zip(split_page(path)[0])
    elif not is_file(path):
        if path.exists():
            raise InputError(f"{path} is a pipe or a device; send an image to standard input, and give - for it.")
        raise InputError(f"There is no file or folder {path}.")


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path) and not is_file(path)


def _matches(pattern: Path, out: Path, suffixes: tuple[str, ...], skipped: list[Skipped] | None) -> FileList:
    parts = pattern.parts
    first = next(index for index in range(len(parts)) if _is_pattern(Path(*parts[: index + 1])))
    root, rest = Path(*parts[:first]), parts[first:]
    has_suffix = pattern.suffix != "" and not glob.has_magic(pattern.suffix)
    names: dict[str, None] = {}  # in order, each once: ** matches a folder and what it holds
    left_out, damaged = Counter[str](), list[Skipped]()
    for path in sorted(_glob(root, rest)):
        name = path.relative_to(root).as_posix()
        if "**" not in rest if path.is_dir() else has_suffix and is_zip(path):
            try:
                inside = find_files(path, out, suffixes)
            except InputError as error:
                if skipped is None:
                    raise
                damaged.append((path, str(error)))
                continue
            names |= dict.fromkeys(f"{name}/{file}" for file in inside.names())
            left_out.update(inside.left_out)
        elif is_file(path):
            if has_suffix or name.lower().endswith(suffixes):
                names[name] = None
            elif is_counted(path.name):
                left_out[suffix_of(path.name)] += 1
        elif not path.is_dir():
            left_out[PIPE if path.exists() else BROKEN_LINK] += 1
    matches = _outside(FileList(root, names, left_out=dict(left_out.most_common())), root, out)
    if skipped is not None and damaged:
        skipped += damaged
        return matches or Unusable(root, [])
    if not matches:
        raise InputError(f"No file matches {pattern}. {describe_left_out(left_out)}".rstrip())
    return matches


def _glob(root: Path, parts: Sequence[str]) -> list[Path]:
    """What matches a pattern below a folder, as `glob` finds it, but links in a circle end.

    ** lists everything below a folder and follows each link once; the parts after it are matched with what it finds.
    Below a zip are the files in it.
    """
    if not root.is_dir() and is_folder(root):
        return [path for path in list_files(root, ("",)) if _matches_in_zip(path.relative_to(root).parts, parts)]
    if "**" not in parts:
        return [root / name for name in glob.glob(os.path.join(*parts), root_dir=root)]  # noqa: PTH118, PTH207
    at = parts.index("**")
    starts = [path for path in _glob(root, parts[:at]) if path.is_dir()] if at else [root]
    behind = parts[at + 1 :] or ("*",)
    found: dict[Path, None] = {}
    for start in starts:
        for path in list_files(start, ("",)):
            inside = path.relative_to(start).parts
            if _matches_parts(inside, behind):
                found[path] = None
    return list(found)


def _matches_in_zip(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a pattern matches the names of a path in a zip, or a folder that it lies in."""
    at = parts.index("**") if "**" in parts else len(parts)
    if len(names) < at or not all(map(fnmatch.fnmatch, names[:at], parts[:at])):
        return False
    return at == len(parts) or _matches_parts(names[at:], parts[at + 1 :] or ("*",))


def _matches_parts(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the names of a path, below the folder of a **, end as the parts behind it ask for."""
    if "**" in parts:
        at = parts.index("**")
        return any(
            _matches_parts(names[:end], parts[:at]) and _matches_parts(names[end:], parts[at + 1 :] or ("*",))
            for end in range(len(names) + 1)
        )
    tail = names[len(names) - len(parts) :]
    return len(names) >= len(parts) and all(map(fnmatch.fnmatch, tail, parts))


def only_path(inputs: Sequence[Path | FileList]) -> Path | None:
    """The one path that the inputs are, or None."""
    first = inputs[0] if len(inputs) == 1 else None
    if isinstance(first, FileList):
        return first[0] if len(first) == 1 else None
    return first


def find_files(folder: Path, out: Path, suffixes: tuple[str, ...]) -> FileList:
    """Input files with these suffixes below a folder, without those in an `out` below it, from earlier calls."""
    return _outside(without_slide_parts(list_files(folder, suffixes)), folder, out)


def _outside(found: FileList, folder: Path, out: Path) -> FileList:
    """The files found below a folder, without those in an `out` below it."""
    real, root, prefix = RealPaths(), slashed(folder), str(real_path(out)).rstrip(os.sep) + os.sep
    if f"{real_path(folder)}{os.sep}".startswith(prefix):  # the folder itself, or one that it lies in
        return found
    names = (name for name in found.names() if not real(root + name).startswith(prefix))
    return FileList(found.root, names, left_out=found.left_out)


def slashed(folder: Path) -> str:
    """The path of a folder with forward slashes, one at its end."""
    return folder.as_posix().rstrip("/") + "/"


class RealPaths:
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
