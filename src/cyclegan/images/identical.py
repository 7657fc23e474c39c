"""Find files with the same content, without reading most of them."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.images.file_list import FileList
from cyclegan.system.prefetch import prefetch

# Bytes from the middle of a file that are compared first: files of one size seldom share them by chance.
_SAMPLE = 4096
_THREADS = 8


def find_identical(of: Sequence[Path], files: Sequence[Path], num_bytes: NDArray[np.int64]) -> dict[int, list[int]]:
    """For each of `files` that has the same bytes as some of `of`, by index: the indices of those, in order.

    num_bytes: (N,) sizes of `files`. Only files that are as large as one of `of` are opened, and only those that have
    the same bytes in the middle are read whole. Files that cannot be read are identical to none.
    """
    same_size: dict[int, list[int]] = {}
    for index, path in enumerate(of):
        with suppress(OSError):
            same_size.setdefault(path.stat().st_size, []).append(index)
    candidates = np.flatnonzero(np.isin(num_bytes, np.fromiter(same_size, np.int64, len(same_size)))).tolist()
    if not candidates:
        return {}
    sample, digest = cache(_sample), cache(_digest)

    def matches(place: int) -> list[int]:
        path, alike = files[place], same_size[int(num_bytes[place])]
        own = [index for index in alike if of[index] == path]
        others = [index for index in alike if of[index] != path]
        if others and (part := _sample(path)) is not None:
            others = [index for index in others if sample(of[index]) == part]
        if others and (whole := _digest(path)) is not None:
            return sorted(own + [index for index in others if digest(of[index]) == whole])
        return own

    found = prefetch(matches, candidates, num_threads=_THREADS, max_items=2 * _THREADS)
    return {place: same for place, future in found if (same := future.result())}


def sizes_of(files: FileList) -> NDArray[np.int64]:
    """(N,) sizes of files in bytes; -1 for one that is gone."""

    def size(name: str) -> int:
        with suppress(OSError):
            return os.stat(root + name).st_size  # noqa: PTH116
        return -1

    root = os.path.join(files.root, "")  # noqa: PTH118
    return np.fromiter(map(size, files.names()), np.int64, len(files))


def _sample(path: Path) -> bytes | None:
    """Bytes from the middle of a file, or None if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, (path.stat().st_size - _SAMPLE) // 2))
            return file.read(_SAMPLE)
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    """A hash of the bytes of a file, or None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
