"""NumPy's .npy files: (H, W) or (H, W, C) of any number type."""

import io
import math
import zipfile
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from cyclegan.errors import InputError, UnreadableError, reason_of
from cyclegan.images import Array
from cyclegan.images.formats import Header
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster
from cyclegan.system.zip_files import harm_in

# The header of an .npy file is a Python literal, and some releases of Python (3.11.7 for one) count the depth of what
# they parse over all threads together: of two threads that parse at once, one fails now and then.
_PARSING = Lock()


def open_mapped(path: Path | str) -> Array:
    """The array of a file, mapped from disk. Raises ValueError for Python objects."""
    try:
        with _PARSING:
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except ValueError as error:
        if "Python objects" in str(error):
            raise ValueError("it holds Python objects; expected numbers") from None
        raise


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


def read(path: Path) -> Raster:
    array = _open_image(path)
    check_pixels(array.shape[0], array.shape[1], array.nbytes // (array.shape[0] * array.shape[1]))
    # In memory: the file may change later.
    return Raster(np.array(array), metadata=Metadata(is_flat=array.ndim == 2))


def probe(path: Path) -> Header | None:
    return Header.of_array(_open_image(path))


# A first axis of so many, before a second and a third that are longer, holds channels: no picture is as low.
_MOST_CHANNELS_FIRST = 4


def _open_image(path: Path) -> Array:
    """(H, W) or (H, W, C), mapped. Raises InputError for other shapes and types: what it is, and what to save."""
    array = open_mapped(path)
    shape = array.shape
    expected = "expected (height, width) or (height, width, channels) of numbers"
    if array.ndim == 3 and shape[0] <= _MOST_CHANNELS_FIRST < min(shape[1:]) and shape[2] > 2 * _MOST_CHANNELS_FIRST:
        save = "array[0]" if shape[0] == 1 else CHANNELS_LAST
        expected = f"that looks like (channels, height, width): save {save} instead"
    elif array.ndim == 4:
        expected = "a stack of images: save each in a file of its own"
    elif array.ndim in (2, 3) and 0 not in shape and array.dtype.kind in "uif":
        return array
    raise InputError(f"{path} holds an array of shape {shape} and type {array.dtype}; {expected}.")


# Moves channels from the first axis to the last.
CHANNELS_LAST = "np.moveaxis(array, 0, -1)"


def write(file: IO[bytes], raster: Raster) -> None:
    is_flat = raster.metadata.is_flat and raster.values.shape[2] == 1
    np.save(file, raster.values[..., 0] if is_flat else raster.values)
