"""The files of a folder: found in one pass, and kept in a few bytes each."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.images.file_formats import image_suffixes

Item = TypeVar("Item")

# Names that are decoded together when all are read.
_CHUNK = 4096


class FileList(Sequence[Path]):
    """Paths below one folder, in a fixed order.

    A million `Path` objects take 400 MB, and long to send to another process. Here a path is its name and 8 bytes, and
    becomes a `Path` when it is read. A slice is a FileList.
    """

    __slots__ = ("_ends", "_names", "root")

    def __init__(self, root: Path, names: Iterable[str] | bytes) -> None:
        """names: relative to the root; or their bytes as the file system encodes them, each followed by a zero byte."""
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
    """Files with these (lower case) suffixes below a folder, in order of their paths; hidden files are left out.

    Links to files count, links to folders are not followed.
    """
    names: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        # An unreadable folder, one removed during the scan, and a root that is no folder count as empty.
        with (
            suppress(PermissionError, FileNotFoundError, NotADirectoryError),
            os.scandir(Path(root, folder)) as entries,
        ):
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name.lower().endswith(suffixes) and entry.is_file():
                    names.append(folder + name)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{folder}{name}/")
    names.sort()
    return FileList(root, names)


def list_images(root: Path) -> FileList:
    """Image files below a folder, in order of their paths; hidden files are left out."""
    return list_files(root, image_suffixes())


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Up to `count` items at equal distances, in order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
