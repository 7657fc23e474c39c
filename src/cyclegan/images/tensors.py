"""Arrays of image values to tensors in [-1, 1] and back; sizes that networks take."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.images.codecs import Array
from cyclegan.images.file_list import T
from cyclegan.images.formats import ImageFormat

# Most pixels of a batch of images whose sizes nobody has chosen.
BATCH_PIXELS = 8 * 256 * 256


def same_size_batches(images: Iterable[tuple[T, Tensor]], batch_size: int) -> Iterator[tuple[list[T], Tensor]]:
    """Things with their (C, H, W) images -> neighbours of one size together, as (N, C, H, W).

    Large images come in smaller batches, of at most as many pixels as `BATCH_PIXELS`, or alone.
    """
    waiting: list[tuple[T, Tensor]] = []
    for thing, image in images:
        most = max(1, min(batch_size, BATCH_PIXELS // image[0].numel()))
        if waiting and (len(waiting) >= most or waiting[0][1].shape != image.shape):
            yield [t for t, _ in waiting], torch.stack([i for _, i in waiting])
            waiting = []
        waiting.append((thing, image))
    if waiting:
        yield [t for t, _ in waiting], torch.stack([i for _, i in waiting])


def to_tensor(array: Array, image_format: ImageFormat) -> Tensor:
    """(H, W, C) in the file's type -> (C, H, W), float32 in [-1, 1]; values outside the range are clipped."""
    return torch.from_numpy(to_signal(array, image_format))


def to_signal(array: Array, image_format: ImageFormat) -> NDArray[np.float32]:
    """What `to_tensor` holds, as an array of its own memory, made without torch."""
    low, high = image_format.low, image_format.high
    signal = np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")
    signal -= np.float32(low)
    signal *= np.float32(2 / (high - low))
    signal -= np.float32(1)
    return np.clip(signal, -1, 1, out=signal)


def from_tensor(tensor: Tensor, image_format: ImageFormat) -> Array:
    """(C, H, W) in [-1, 1] -> (H, W, C) in the format's type and range, rounded to the nearest value."""
    low, high = image_format.low, image_format.high
    # Doubles, because 32-bit integers and large ranges have more digits than float32.
    values = (tensor.detach().cpu().double().clamp(-1, 1).add(1).mul((high - low) / 2).add(low)).numpy()
    return cast(values.transpose(1, 2, 0), image_format.dtype)


def cast(array: Array, dtype: str) -> Array:
    """Another numpy type: rounded to the nearest value and kept within the type where it holds integers."""
    kind = np.dtype(dtype)
    if kind.kind in "ui" and array.dtype.kind == "f":
        limits = np.iinfo(kind)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return np.ascontiguousarray(array, dtype=kind)


def resize(array: Array, height: int, width: int) -> Array:
    """Bicubic, anti-aliased when it shrinks. 8-bit stays 8-bit; other types become float32."""
    if array.shape[:2] == (height, width):
        return array
    if array.dtype == np.uint8 and array.shape[2] in (1, 3, 4):
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        return resized if resized.ndim == 3 else resized[..., None]
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(array, -1, 0)
    ]
    return np.stack(planes, -1)


def scale(array: Array, *, short_side: int | None = None, width: int | None = None) -> Array:
    """Bring the shorter side or the width to so many pixels, the other one in proportion; None leaves the size.

    Raises InputError if both are given.
    """
    if short_side is not None and width is not None:
        raise InputError(f"short_side is {short_side} and scale_width is {width}; pass one of them.")
    if short_side is None and width is None:
        return array
    rows, columns = array.shape[:2]
    factor = short_side / min(rows, columns) if short_side is not None else (width or columns) / columns
    return resize(array, max(1, round(rows * factor)), max(1, round(columns * factor)))


def pad_to_multiple(images: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Mirror (..., C, H, W) at its right and lower border until H and W are multiples and at least `smallest`."""
    for dim in (-2, -1):
        if (places := _mirrored(images.shape[dim], multiple, smallest)) is not None:
            images = images.index_select(dim, torch.from_numpy(places).to(images.device))
    return images


def mirror_to_multiple(array: Array, multiple: int, smallest: int = 1) -> Array:
    """The same for (H, W, C)."""
    for axis in (0, 1):
        if (places := _mirrored(array.shape[axis], multiple, smallest)) is not None:
            array = array.take(places, axis)
    return array


def _mirrored(size: int, multiple: int, smallest: int) -> NDArray[np.int64] | None:
    """Places to take for a side that is long enough; None if it is."""
    missing = -(-max(size, smallest) // multiple) * multiple - size
    if missing == 0:
        return None
    return np.pad(np.arange(size, dtype=np.int64), (0, missing), "reflect" if size > 1 else "edge")
