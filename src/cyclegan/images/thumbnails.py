"""Thumbnails of images, by which copies are found."""

import time
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import load_raster
from cyclegan.images.formats import ImageFormat
from cyclegan.images.resizing import resize
from cyclegan.system.prefetch import num_cores, prefetch

FloatArray = NDArray[np.float32]

# Side in pixels.
THUMBNAIL = 16

# Shortest side that a file is decoded at for its thumbnail, if its format can be decoded at reduced size.
_DECODED = 4 * THUMBNAIL


def read_thumbnails(
    paths: Iterable[Path], image_format: ImageFormat, max_seconds: float = float("inf")
) -> tuple[list[Path], FloatArray]:
    """The readable ones of these files, and their thumbnails, (N, 16, 16, 3) in 0..1.

    A format that can be decoded at reduced size is, a few files at a time. None is begun after `max_seconds`.
    """
    end = time.monotonic() + max_seconds

    def read(path: Path) -> FloatArray:
        array = load_raster(path, image_format.channels, image_format, min_side=_DECODED).values
        return to_unit(make_thumbnail(array), str(array.dtype), image_format.low, image_format.high)

    readable: list[Path] = []
    thumbnails: list[FloatArray] = []
    in_time = takewhile(lambda _: time.monotonic() < end, paths)
    num_threads = min(4, num_cores())  # decoders release Python's lock
    for path, future in prefetch(read, in_time, num_threads=num_threads, max_items=2 * num_threads):
        try:
            thumbnails.append(future.result())
        except (InputError, UnreadableError, OSError):
            continue
        readable.append(path)
    return readable, np.array(thumbnails, np.float32).reshape(-1, THUMBNAIL, THUMBNAIL, 3)


def make_thumbnail(array: Array) -> Array:
    """(16, 16, 3) in the values of the image, (H, W, C)."""
    return resize(three_channels(array), THUMBNAIL, THUMBNAIL)


def three_channels(array: Array) -> Array:
    """The first three channels, or the first one three times."""
    return array[..., :3] if array.shape[2] >= 3 else np.repeat(array[..., :1], 3, axis=2)


def to_unit(values: Array, dtype: str, low: float, high: float) -> FloatArray:
    """Values in 0..1. dtype: of the file. low, high: values that become 0 and 1, if it is not 8-bit."""
    black, white = (0.0, 255.0) if dtype == "uint8" else (low, high)
    # In doubles, because 32-bit integers have more digits than float32.
    scaled = (values.astype(np.float64) - black) / ((white - black) or 1.0)
    return np.clip(scaled, 0, 1).astype(np.float32)
