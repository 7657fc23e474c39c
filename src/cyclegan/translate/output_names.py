"""Mirror inputs into an output folder under names that collide neither with each other nor with an input."""

import difflib
import fnmatch
import glob
import itertools
import mimetypes
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.file_formats import file_format_of, image_suffixes
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
from cyclegan.images.pages import is_file, is_folder, is_zip
from cyclegan.system.arguments import real_path

# Kinds of pictures that Python's table of types lacks, and ends of folders' names that are one letter from a picture's.
_PICTURES = (".psd", ".exr", ".dds", ".xcf", ".raw", ".dng", ".cr2", ".nef", ".arw", ".pdf", ".eps", ".qoi")
_ARRAYS = (".npz", ".h5", ".hdf5", ".mat", ".zip")
_FOLDERS = (".tmp", ".temp", ".test", ".train", ".dir", ".out", ".old", ".new", ".run")


def expand_patterns(inputs: Iterable[Path | FileList], out: Path, suffixes: tuple[str, ...]) -> list[Path | FileList]:
    """Inputs with each pattern, such as `photos/*.jpg` or `photos/**`, in the place of the files that match it.

    Only what is no file or folder itself is a pattern, as shells leave one in quotes. Its files stand below the folder
    before the first wildcard, and keep their place below it; those in an `out` below that folder, from earlier calls,
    are left out. suffixes: of the files that are taken from folders and zips, and by a pattern without a suffix. Raises
    InputError for a pattern that nothing matches.
    """
    paths = [path if isinstance(path, FileList) else Path(path) for path in inputs]
    return [_matches(path, out, suffixes) if isinstance(path, Path) and _is_pattern(path) else path for path in paths]


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path) and not is_file(path)


def _matches(pattern: Path, out: Path, suffixes: tuple[str, ...]) -> FileList:
    first = next(index for index, part in enumerate(pattern.parts) if glob.has_magic(part))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    has_suffix = pattern.suffix != "" and not glob.has_magic(pattern.suffix)
    names: dict[str, None] = {}  # in order, each once: ** matches a folder and what it holds
    left_out = Counter[str]()
    for path in sorted(_glob(root, rest)):
        name = path.relative_to(root).as_posix()
        if "**" not in rest if path.is_dir() else has_suffix and is_zip(path):
            inside = find_files(path, out, suffixes)
            names |= dict.fromkeys(f"{name}/{file}" for file in inside.names())
            left_out.update(inside.left_out)
        elif path.is_file():
            if has_suffix or name.lower().endswith(suffixes):
                names[name] = None
            elif is_counted(path.name):
                left_out[suffix_of(path.name)] += 1
        elif not path.is_dir():
            left_out[PIPE if path.exists() else BROKEN_LINK] += 1
    matches = _outside(FileList(root, names, left_out=dict(left_out.most_common())), root, out)
    if not matches:
        raise InputError(f"No file matches {pattern}. {describe_left_out(left_out)}".rstrip())
    return matches


def _glob(root: Path, parts: Sequence[str]) -> list[Path]:
    """What matches a pattern below a folder, as `glob` finds it, but links in a circle end.

    The last ** stands for a listing that follows links with a guard; the parts behind it are compared with its names.
    """
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


def check_folder_name(out: str | Path, suffixes: Collection[str], flag: str = "--out") -> None:
    """Raises InputError for an output folder whose name looks like that of a file in a format that is not known.

    A folder that is there, and a name that ends with a slash, are folders. suffixes: of all formats.
    """
    text = os.fspath(out)
    suffix = Path(text).suffix.lower()
    if (
        text.endswith(("/", os.sep))
        or Path(text).is_dir()
        or suffix in suffixes
        or not _looks_like_a_file(suffix, suffixes)
    ):
        return
    written = [known for known in suffixes if known not in image_suffixes() or file_format_of(f"x{known}").write]
    nearest = max(written, key=lambda known: _likeness(suffix, known))  # the first of several
    meant = "choose another format, such as .png."
    if _likeness(suffix, nearest) > 0.6:
        meant = f"did you mean {Path(text).with_suffix(nearest)}?"
    raise InputError(
        f"{flag} is {text}, and files {suffix} are not written; {meant} For a folder of that name: {text}/"
    )


def _likeness(a: str, b: str) -> float:
    """From 0 to 1, and more for one typing error."""
    return difflib.SequenceMatcher(None, a, b).ratio() + _is_one_change(a, b)


def _looks_like_a_file(suffix: str, suffixes: Collection[str]) -> bool:
    """Whether a suffix is of a kind of picture, array or clip, or a typing error away from one of these suffixes."""
    if suffix in _PICTURES + _ARRAYS or (mimetypes.guess_type(f"x{suffix}")[0] or "").startswith(("image/", "video/")):
        return True
    return len(suffix) > 3 and suffix not in _FOLDERS and any(_is_one_change(suffix, known) for known in suffixes)


def _is_one_change(a: str, b: str) -> bool:
    """Whether one letter is changed, added or left out, or two neighbours are swapped."""
    if len(a) == len(b):
        differ = [index for index in range(len(a)) if a[index] != b[index]]
        swapped = len(differ) == 2 and differ[1] == differ[0] + 1 and a[differ[0]] == b[differ[1]]
        return len(differ) == 1 or (swapped and a[differ[1]] == b[differ[0]])
    short, long = sorted((a, b), key=len)
    return len(long) - len(short) == 1 and any(long[:index] + long[index + 1 :] == short for index in range(len(long)))


def find_files(folder: Path, out: Path, suffixes: tuple[str, ...]) -> FileList:
    """Input files with these suffixes below a folder, without those in an `out` below it, from earlier calls."""
    return _outside(without_slide_parts(list_files(folder, suffixes)), folder, out)


def _outside(found: FileList, folder: Path, out: Path) -> FileList:
    """The files found below a folder, without those in an `out` below it."""
    real, root, prefix = _RealPaths(), _slashed(folder), str(real_path(out)).rstrip(os.sep) + os.sep
    if f"{real_path(folder)}{os.sep}".startswith(prefix):  # the folder itself, or one that it lies in
        return found
    names = (name for name in found.names() if not real(root + name).startswith(prefix))
    return FileList(found.root, names, left_out=found.left_out)


def mirror(
    inputs: Sequence[Path | FileList],
    out: Path,
    suffixes: tuple[str, ...],
    suffix_of: Callable[[str], str],
    keeps_suffix: Callable[[str], bool] = lambda _: False,
) -> tuple[FileList, FileList]:
    """Sources and targets: all files of `inputs`, and those with these suffixes in its folders, mirrored into `out`.

    Files of a FileList are mirrored below its root.
    A zip counts as a folder; `left_out` of the sources counts the other files in folders.
    suffix_of: an input -> the suffix of its output. keeps_suffix: whether an input is an exception, whose output has
    its own suffix, asked only where `suffix_of` changes it. No two outputs have the same name. Raises InputError if an
    input is missing or would be overwritten.
    """
    found = _find(inputs, out, suffixes)
    left_out = sum((Counter(listed.left_out) for *_, listed in found), Counter[str]())

    def files() -> Iterator[tuple[str, str]]:
        for folder, prefix, names in found:
            for name in names.names():
                yield folder + name, prefix + name

    real_path, out_prefix, is_exception = _RealPaths(), _slashed(out), cache(keeps_suffix)

    def keeps_name(source: str, relative: str) -> bool:
        suffix = os.path.splitext(relative)[1]  # noqa: PTH122
        return suffix_of(source) == suffix or is_exception(source)

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
                names = _names(Path(relative), suffix if is_kept else suffix_of(source))
                target, place = next(
                    (name.as_posix(), place)
                    for name in names
                    if (place := real_path(out_prefix + name.as_posix())) not in taken and place not in kept
                )
                taken.add(place)
        sources += os.fsencode(source) + b"\0"
        targets += os.fsencode(target) + b"\0"
    return FileList(Path(), bytes(sources), left_out=dict(left_out.most_common())), FileList(out, bytes(targets))


def _find(inputs: Sequence[Path | FileList], out: Path, suffixes: tuple[str, ...]) -> list[tuple[str, str, FileList]]:
    """For each input its folder, the prefix of its results below `out`, and its files."""
    # Strings instead of paths: there may be a million.
    found: list[tuple[str, str, FileList]] = []
    prefixes = _prefixes([path for path in inputs if isinstance(path, Path) and is_folder(path)])
    for path in inputs:
        if isinstance(path, FileList):
            found.append((_slashed(path.root), "", without_slide_parts(path)))
        elif is_folder(path):
            found.append((_slashed(path), prefixes[path], find_files(path, out, suffixes)))
        elif is_file(path):
            found.append((_slashed(path.parent), "", FileList(path.parent, [path.name])))
        else:
            if path.exists():
                raise InputError(f"{path} is a pipe or a device; send an image to standard input, and give - for it.")
            raise InputError(f"There is no file or folder {path}.")
    return found


def _slashed(folder: Path) -> str:
    return folder.as_posix().rstrip("/") + "/"


def _prefixes(folders: list[Path]) -> dict[Path, str]:
    """Prefix of each folder below `out`: none for a single one; the name for several, numbered if equal."""
    if len(folders) < 2:
        return dict.fromkeys(folders, "")
    prefixes: dict[Path, str] = {}
    for folder in folders:
        name = real_path(folder.with_suffix("") if is_zip(folder) else folder).name or "root"
        numbered = itertools.chain([f"{name}/"], (f"{name}_{number}/" for number in itertools.count(2)))
        prefixes[folder] = next(prefix for prefix in numbered if prefix not in prefixes.values())
    return prefixes


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """Candidates for the name of an output, the best first."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    yield from (relative.with_name(f"{relative.stem}_{number}{suffix}") for number in itertools.count(2))


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
