"""The files of a folder: found in one pass, and kept in a few bytes each."""

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.config import Axis
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of, image_suffixes
from cyclegan.images.filetypes.dicom import SUFFIXES as DICOM_SUFFIXES
from cyclegan.images.filetypes.dicom import is_dicom, is_slide, slide_pixels
from cyclegan.images.filetypes.nifti import SUFFIXES as VOLUME_SUFFIXES
from cyclegan.images.pages import HEADER, SIDECAR_SUFFIXES, is_folder, local_file, split_page
from cyclegan.images.zip_folder import open_zip

Item = TypeVar("Item")

# Names that are decoded together when all are read.
_CHUNK = 4096


class FileList(Sequence[Path]):
    """Paths below one folder, in a fixed order.

    A million `Path` objects take 400 MB, and long to send to another process. Here a path is its name and 8 bytes, and
    becomes a `Path` when it is read. A slice is a FileList.
    """

    __slots__ = ("_ends", "_names", "left_out", "root")

    def __init__(
        self, root: Path, names: Iterable[str] | bytes, *, left_out: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """names: relative to the root; or their bytes as the file system encodes them, each followed by a zero byte.

        left_out: how many other files were found beside these, by suffix; parts of the list have none.
        """
        self.left_out = dict(left_out)
        # No file name contains a zero byte. Names that are not UTF-8 survive.
        joined = names if isinstance(names, bytes) else b"".join(os.fsencode(name) + b"\0" for name in names)
        self.root, self._names = Path(root), joined
        self._ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "FileList": ...
    def __getitem__(self, index: int | slice) -> "Path | FileList":
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step == 1 and begin < end:
                first = self._ends[begin - 1] + 1 if begin else 0
                return FileList(self.root, self._names[first : self._ends[end - 1] + 1])
            return self.take(np.arange(*index.indices(len(self))))
        return Path(self.root, self.name(index))

    def __iter__(self) -> Iterator[Path]:
        return (Path(self.root, name) for name in self.names())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileList) and (self.root, self._names) == (other.root, other._names)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FileList({str(self.root)!r}, {len(self)} files)"

    def name(self, index: int) -> str:
        """The path relative to the root, with forward slashes."""
        index = range(len(self))[index]
        begin = self._ends[index - 1] + 1 if index else 0
        return os.fsdecode(self._names[begin : self._ends[index]])

    def names(self) -> Iterator[str]:
        """All names, as `name` returns them; faster than one by one."""
        begin = 0
        for last in range(_CHUNK - 1, len(self) + _CHUNK - 1, _CHUNK):
            end = int(self._ends[min(last, len(self) - 1)])
            yield from os.fsdecode(self._names[begin:end]).split("\0")
            begin = end + 1

    def mentions(self, text: str) -> bool:
        """Whether any of the names holds this text; in no time, however many there are."""
        return os.fsencode(text) in self._names

    def has_same_names(self, other: "FileList") -> bool:
        """Whether both have the same names in the same order, below whichever root."""
        return self._names == other._names

    def plus(self, other: "FileList") -> "FileList":
        """These names, then those of another list."""
        return FileList(self.root, self._names + other._names)

    def take(self, indices: NDArray[np.integer]) -> "FileList":
        """The paths at these indices."""
        return FileList(self.root, (self.name(index) for index in indices.tolist()))

    def without(self, paths: Collection[Path]) -> "FileList":
        """All other paths."""
        if not paths:
            return self
        excluded = {path.relative_to(self.root).as_posix() for path in paths}
        return FileList(self.root, (name for name in self.names() if name not in excluded))


def list_files(root: Path, suffixes: tuple[str, ...]) -> FileList:
    """Files with these (lower case) suffixes below a folder or a zip file, in order of their paths.

    Hidden files and what systems put into every folder are passed over; all others are counted in `left_out`. Links to
    files and to folders are followed. A folder that several names lead to counts once, under its own name if that lies
    below the root, else under the first link, so that links in a circle end. A link to nothing is a `broken link`, a
    folder without permission an `unreadable folder`, and what is no file a `pipe or device`. Raises InputError for a
    damaged zip.
    """
    is_in_zip = is_folder(root) and not root.is_dir()
    found = _Found(suffixes, root)
    if is_in_zip:
        file, below = split_page(root)
        for name in open_zip(file).names(below or ""):
            found.add(name)
    else:
        _walk(root, found)
    found.names.sort()
    return FileList(root, found.names, left_out=found.counts())


def find_names(names: Iterable[str], suffixes: tuple[str, ...]) -> tuple[list[str], dict[str, int]]:
    """Those of some names of files, relative to a folder, that `list_files` would find in it, and its counts."""
    found = _Found(suffixes)
    for name in names:
        found.add(name)
    return sorted(found.names), found.counts()


# What Windows and macOS leave in folders, and the index of a DICOM disc.
_HABITUAL = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dicomdir"))

# How what is no file is counted. Opening a pipe would wait for ever.
BROKEN_LINK, PIPE = "broken link", "pipe or device"

# DICOM files have no suffix, or end with a number.
_DICOM_SUFFIX = re.compile(r"\.\d+|without suffix")


class _Found:
    """Names of files with these suffixes, and how many there are with others.

    root: the folder or zip that they lie below; None if they cannot be opened. Among DICOM files those without a suffix
    are found by content.
    """

    def __init__(self, suffixes: tuple[str, ...], root: Path | None = None) -> None:
        self._dicom_root = root if set(DICOM_SUFFIXES) <= set(suffixes) else None
        self.names: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.suffixes = suffixes
        self._headers: list[str] = []

    def add(self, path: str) -> None:
        """Add a file, or count it, unless it is hidden."""
        name = path[path.rfind("/") + 1 :].lower()
        if path.startswith(".") or "/." in path:
            return
        if name.endswith(self.suffixes):
            self.names.append(path)
        elif is_counted(name):
            suffix = suffix_of(name)
            if self._dicom_root and _DICOM_SUFFIX.fullmatch(suffix) and is_dicom(self._dicom_root / path):
                self.names.append(path)
            elif suffix == HEADER:
                self._headers.append(path)
            else:
                self.left_out[suffix] += 1

    def counts(self) -> dict[str, int]:
        """How many files were left out, the most frequent suffix first."""
        images = {name[: -len(HEADER)] for name in self.names if name.lower().endswith(".img")}
        alone = sum(header[: -len(HEADER)] not in images for header in self._headers)
        counts = self.left_out + Counter({HEADER: alone})
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def is_counted(name: str) -> bool:
    """Whether a file of this name is one that somebody put into a folder to be read."""
    return name.lower() not in _HABITUAL and not name.lower().endswith(SIDECAR_SUFFIXES)


def suffix_of(name: str) -> str:
    """The suffix of a file's name, by which files are counted; `without suffix` for none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else "without suffix"


def describe_left_out(left_out: Mapping[str, int], most: int = 8) -> str:
    """A sentence such as `12 files are left out: 10 .txt, 2 .psd.`; empty if there are none."""
    if not left_out:
        return ""
    total, named = sum(left_out.values()), list(left_out.items())[:most]
    parts = [f"{count:,} {suffix}" for suffix, count in named]
    rest = total - sum(count for _, count in named)
    parts += [f"{rest:,} others"] if rest else []
    return f"{total:,} {'file is' if total == 1 else 'files are'} left out: {', '.join(parts)}."


def _walk(root: Path, found: _Found) -> None:
    """All files below a folder on disk."""
    links: list[str] = []
    folders = _scan(root, [""], found, links)
    if not links:
        return  # without links to folders none can be reached twice
    seen = {identity for folder in folders if (identity := _identity(root, folder)) is not None}
    while links:
        links.sort()
        more: list[str] = []
        for link in links:
            _scan(root, [f"{link}/"], found, more, seen)
        links = more


def _scan(
    root: Path, waiting: list[str], found: _Found, links: list[str], seen: set[tuple[int, int]] | None = None
) -> list[str]:
    """Scan folders and all below them. Links to folders are added to `links`; returns the folders that were scanned.

    seen: identities of folders that are passed over; those that are scanned are added.
    """
    scanned: list[str] = []
    names, suffixes = found.names, found.suffixes
    while waiting:
        folder = waiting.pop()
        if seen is not None:
            identity = _identity(root, folder)
            if identity is None or identity in seen:
                continue
            seen.add(identity)
        scanned.append(folder)
        # A folder removed during the scan, and a root that is no folder, count as empty.
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            _counting_locked(found),
            os.scandir(Path(root, folder)) as entries,
        ):
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name.lower().endswith(suffixes) and _is_file(entry):
                    names.append(folder + name)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{folder}{name}/")
                elif _is_file(entry):
                    found.add(folder + name)
                else:
                    try:
                        if stat.S_ISDIR(entry.stat().st_mode):  # of a link
                            links.append(folder + name)
                        else:
                            found.left_out[PIPE] += 1
                    except FileNotFoundError:  # what it led to was moved
                        found.left_out[BROKEN_LINK] += 1
                    except OSError:  # a link to itself
                        continue
    return scanned


@contextmanager
def _counting_locked(found: _Found) -> Iterator[None]:
    """Let a folder that may not be read be one of the files that are left out."""
    try:
        yield
    except PermissionError:
        found.left_out["unreadable folder"] += 1


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _identity(root: Path, folder: str) -> tuple[int, int] | None:
    with suppress(OSError):
        about = os.stat(Path(root, folder))  # noqa: PTH116
        return about.st_dev, about.st_ino
    return None


def list_images(root: Path, axis: Axis | None = None) -> FileList:
    """Image files below a folder or a zip, in order of their paths, as `list_files` finds them.

    Volumes and DICOM files of several frames, whose pages are images, are listed page by page. axis: the slices of
    volumes; default: axial.
    """
    files, pictures = list_files(root, image_suffixes()), picture_suffixes()
    if all(name.lower().endswith(pictures) for name in files.names()):
        return files
    files = without_slide_parts(files)
    names = (page for name in files.names() for page in _pages(files.root, name, pictures, axis))
    return FileList(files.root, names, left_out=files.left_out)


def without_slide_parts(files: FileList) -> FileList:
    """The files, and of those that are one whole slide in DICOM only the largest level, which stands for all."""
    parts: dict[str, list[tuple[int, str]]] = {}  # negative pixels and name, by series
    others = tuple(suffix for suffix in image_suffixes() if suffix not in DICOM_SUFFIXES)
    for name in files.names():
        if not name.lower().endswith(others) and is_slide(path := Path(files.root, name)):
            with suppress(Exception):  # reading the file reports the error
                series, pixels = slide_pixels(path)
                parts.setdefault(series, []).append((-pixels, name))
    excluded = {name for found in parts.values() for _, name in sorted(found)[1:]}
    if not excluded:
        return files
    return FileList(files.root, (name for name in files.names() if name not in excluded), left_out=files.left_out)


def picture_suffixes() -> tuple[str, ...]:
    """Suffixes of files that are one image each. A file without any is DICOM, which was found by its content."""
    volumes = {suffix for row in FILE_FORMATS.values() if row.pages and row.pages.names for suffix in row.suffixes}
    return tuple(suffix for suffix in image_suffixes() if suffix not in volumes)


def _pages(root: Path, name: str, pictures: tuple[str, ...], axis: Axis | None) -> list[str]:
    """The pages of a volume; the name itself of another file, or of one whose pages cannot be listed."""
    if not name.lower().endswith(pictures):
        # Reading the file reports the error.
        with suppress(Exception), local_file(Path(root, name)) as (file, _):
            pages = file_format_of(file).pages
            if pages is not None and pages.names is not None:  # not another kind of file under this suffix
                return [f"{name}/{page}" for page in pages.names(file, axis)] or [name]
    return [name]


def is_slice(name: str) -> bool:
    """Whether a path is that of a slice of a volume, by the name of its file."""
    file, _, page = name.rpartition("/")
    return bool(page) and file.lower().endswith(VOLUME_SUFFIXES)


def has_slices(files: FileList) -> bool:
    """Whether any of these paths is that of a slice of a volume."""
    return any(files.mentions(f"{suffix}/") or files.mentions(f"{suffix.upper()}/") for suffix in VOLUME_SUFFIXES)


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Up to `count` items at equal distances, in order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
