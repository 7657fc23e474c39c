"""NumPy's .npy files: (H, W) or (H, W, C) of any number type."""

import io
import math
import zipfile
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from cyclegan.errors import UnreadableError, reason_of
from cyclegan.images import Array
from cyclegan.images.formats import Header
from cyclegan.images.raster import Raster
from cyclegan.system.zip_files import harm_in

# The header of an .npy file is a Python literal, and some releases of Python (3.11.7 for one) count the depth of what
# they parse over all threads together: of two threads that parse at once, one fails now and then.
_PARSING = Lock()


def open_mapped(path: Path | str) -> Array:
    """The array of a file, mapped from disk. Python objects in it are refused."""
    with _PARSING:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def read_stored_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file that `np.savez` wrote. Nothing in it may take more memory than the file is long.

    Raises UnreadableError if it is missing, damaged, compressed, or holds something else than numbers and text.
    """
    try:
        num_bytes = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if (harm := harm_in(archive, num_bytes)) is not None:
                raise ValueError(harm)
            return {entry.filename.removesuffix(".npy"): _parse(archive.read(entry)) for entry in entries}
    except Exception as error:  # a damaged file raises errors of every kind
        raise UnreadableError(f"{path} cannot be read: {reason_of(error)}.") from None


def _parse(content: bytes) -> Array:
    """The array of the content of an .npy file, without a copy."""
    file = io.BytesIO(content)
    with _PARSING:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, in_columns, dtype = read_header(file)
    if dtype.hasobject or in_columns or dtype.itemsize == 0:
        raise ValueError("it holds something else than numbers and text")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("an array has another length than its header says")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def read(path: Path) -> Array:
    return np.array(open_mapped(path))  # in memory: the file may change later


def probe(path: Path) -> Header | None:
    array = open_mapped(path)
    return Header.of_array(array) if array.ndim in (2, 3) else None  # reading it reports the error


def size(path: str) -> tuple[int, int]:
    height, width = open_mapped(path).shape[:2]
    return height, width


def write(file: IO[bytes], raster: Raster) -> None:
    np.save(file, raster.values)
