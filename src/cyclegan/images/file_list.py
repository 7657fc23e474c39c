"""The files of a folder, however many: found in one pass, kept in a few bytes each."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.images.formats import EXTENSIONS

# Names that are taken apart at once, where all are gone through.
_CHUNK = 4096


class FileList(Sequence[Path]):
    """Paths below one folder, in a fixed order.

    A million `Path` objects take 400 MB and as long to send to another process; here a path is its name and 8 bytes,
    and becomes a `Path` when it is asked for. A slice is a FileList.
    """

    __slots__ = ("_ends", "_names", "root")

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        # No name of a file holds a zero byte. What is not UTF-8 in a name comes back as it was.
        self._hold(root, b"".join(os.fsencode(name) + b"\0" for name in names))

    @classmethod
    def of_bytes(cls, root: Path, names: bytes | bytearray) -> "FileList":
        """Names as the system has them, a zero byte behind each."""
        files = cls.__new__(cls)
        files._hold(root, bytes(names))
        return files

    def _hold(self, root: Path, names: bytes) -> None:
        self.root, self._names = Path(root), names
        self._ends = np.flatnonzero(np.frombuffer(names, np.uint8) == 0)

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
                return FileList.of_bytes(self.root, self._names[first : self._ends[end - 1] + 1])
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
        """The path from the root on, with forward slashes."""
        index = range(len(self))[index]
        begin = self._ends[index - 1] + 1 if index else 0
        return os.fsdecode(self._names[begin : self._ends[index]])

    def names(self) -> Iterator[str]:
        """All of them, as in `name`; faster than one by one."""
        begin = 0
        for last in range(_CHUNK - 1, len(self) + _CHUNK - 1, _CHUNK):
            end = int(self._ends[min(last, len(self) - 1)])
            yield from os.fsdecode(self._names[begin:end]).split("\0")
            begin = end + 1

    def take(self, indices: NDArray[np.integer]) -> "FileList":
        """The paths at these places."""
        return FileList(self.root, (self.name(index) for index in indices.tolist()))

    def without(self, paths: Collection[Path]) -> "FileList":
        """All but these."""
        if not paths:
            return self
        left_out = {path.relative_to(self.root).as_posix() for path in paths}
        return FileList(self.root, (name for name in self.names() if name not in left_out))


def list_files(root: Path, extensions: tuple[str, ...]) -> FileList:
    """Files of these (lower case) extensions below a folder, nested ones too, hidden ones not, ordered by their path.

    Links to files count, links to folders are not followed.
    """
    names: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        # As unreadable folders below it, one that vanishes meanwhile, or that is none, holds nothing.
        with (
            suppress(PermissionError, FileNotFoundError, NotADirectoryError),
            os.scandir(Path(root, folder)) as entries,
        ):
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name.lower().endswith(extensions) and entry.is_file():
                    names.append(folder + name)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{folder}{name}/")
    names.sort()
    return FileList(root, names)


T = TypeVar("T")


def list_images(root: Path) -> FileList:
    """Image files below a folder, nested ones too, hidden ones not, ordered by their path."""
    return list_files(root, EXTENSIONS)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` items at equal distances, in their order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
