"""NumPy's .npy files: (H, W) or (H, W, C) of any number type."""

from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from cyclegan.images import Array
from cyclegan.images.formats import Header

# The header of an .npy file is a Python literal, and some releases of Python (3.11.7 for one) count the depth of what
# they parse over all threads together: of two threads that parse at once, one fails now and then.
_PARSING = Lock()


def open_mapped(path: Path | str) -> Array:
    """The array of a file, mapped from disk. Python objects in it are refused."""
    with _PARSING:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def read(path: Path) -> Array:
    return np.array(open_mapped(path))  # in memory: the file may change later


def probe(path: Path) -> Header | None:
    array = open_mapped(path)
    return Header.of_array(array) if array.ndim in (2, 3) else None  # reading it reports the error


def size(path: str) -> tuple[int, int]:
    height, width = open_mapped(path).shape[:2]
    return height, width


def write(file: IO[bytes], array: Array) -> None:
    np.save(file, array)
