"""Find files with the same content, without reading most of them."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import UnreadableError
from cyclegan.images.file_list import FileList
from cyclegan.images.pages import open_file, stat_file
from cyclegan.system.prefetch import prefetch

# Bytes from the middle of a file, then from its end, that are compared before the whole: files of one size seldom share
# them by chance.
_PART = 4096
_THREADS = 8

_new_hash = partial(hashlib.blake2b, digest_size=16)


def find_identical(of: Sequence[Path], files: Sequence[Path], num_bytes: NDArray[np.int64]) -> dict[int, list[int]]:
    """For each of `files` that has the same bytes as some of `of`, by index: the indices of those, in order.

    num_bytes: (N,) sizes of `files`. Only files that are as large as one of `of` are opened, and only those that have
    the same bytes in the middle and at the end are read whole. Files that cannot be read are identical to none.
    """
    same_size: dict[int, list[int]] = {}
    for index, path in enumerate(of):
        if (size := file_bytes(path)) is not None:
            same_size.setdefault(size, []).append(index)
    candidates = np.flatnonzero(np.isin(num_bytes, np.fromiter(same_size, np.int64, len(same_size)))).tolist()
    if not candidates:
        return {}
    stages = [(key, cache(key)) for key in (_middle, _end, _digest)]

    def matches(place: int) -> list[int]:
        path, alike = files[place], same_size[int(num_bytes[place])]
        own = [index for index in alike if of[index] == path]
        others = [index for index in alike if of[index] != path]
        for key, known_key in stages:
            if others:
                value = key(path)
                others = [index for index in others if value is not None and known_key(of[index]) == value]
        return sorted(own + others)

    found = prefetch(matches, candidates, num_threads=_THREADS, max_items=2 * _THREADS)
    return {place: same for place, future in found if (same := future.result())}


def equal_files(files: Sequence[Path]) -> list[list[int]]:
    """Groups of files with the same bytes, as indices in order; files that have no copy are left out.

    Reads parts of those files that are of one size, and the whole of those whose parts are equal. A file that cannot
    be read equals none. Takes time in proportion to the number of files, also if all are alike.
    """
    groups = [list(range(len(files)))]
    for key in (file_bytes, _middle, _end, _digest):
        groups = [equal for group in groups for equal in _split(files, group, key)]
    return groups


def _split(files: Sequence[Path], group: list[int], key: Callable[[Path], Hashable]) -> Iterator[list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index in group:
        if (value := key(files[index])) is not None:
            found.setdefault(value, []).append(index)
    return (equal for equal in found.values() if len(equal) > 1)


def sizes_of(files: FileList) -> NDArray[np.int64]:
    """(N,) sizes of files in bytes; -1 for one that is gone."""

    def size(name: str) -> int:
        with suppress(OSError, UnreadableError):
            return stat_file(root + name)[0]
        return -1

    root = os.path.join(files.root, "")  # noqa: PTH118
    return np.fromiter(map(size, files.names()), np.int64, len(files))


def file_bytes(path: Path) -> int | None:
    """Bytes of a file, or None if it is gone."""
    with suppress(OSError, UnreadableError):
        return stat_file(str(path))[0]
    return None


def _middle(path: Path) -> bytes | None:
    """A hash of bytes from the middle of a file, or None if it cannot be read."""
    return _hash_part(path, lambda size: (size - _PART) // 2)


def _end(path: Path) -> bytes | None:
    """A hash of the last bytes of a file, or None if it cannot be read."""
    return _hash_part(path, lambda size: size - _PART)


def _hash_part(path: Path, begin: Callable[[int], int]) -> bytes | None:
    with suppress(OSError, UnreadableError), open_file(path) as file:
        file.seek(max(0, begin(file.seek(0, os.SEEK_END))))
        return _new_hash(file.read(_PART)).digest()
    return None


def _digest(path: Path) -> bytes | None:
    """A hash of all bytes of a file, or None if it cannot be read."""
    with suppress(OSError, UnreadableError), open_file(path) as file:
        return hashlib.file_digest(file, _new_hash).digest()  # type: ignore[arg-type]
    return None
