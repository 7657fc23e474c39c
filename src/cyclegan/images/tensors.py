"""Convert arrays of image values to tensors in [-1, 1] and back, and pad and batch tensors for a network."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import cast
from cyclegan.images.resizing import mirrored_indices

Label = TypeVar("Label")

# Pixels of a batch of images whose sizes were not chosen.
BATCH_PIXELS = 8 * 256 * 256


def to_tensor(array: Array, image_format: ImageFormat) -> Tensor:
    """(H, W, C) in the file's type -> (C, H, W), float32 in [-1, 1]; values outside the range are clipped."""
    return torch.from_numpy(to_signal(array, image_format))


def to_signal(array: Array, image_format: ImageFormat) -> NDArray[np.float32]:
    """The values of `to_tensor` as a new array, computed without torch."""
    low, high = image_format.low, image_format.high
    signal = np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")
    signal -= np.float32(low)
    signal *= np.float32(2 / (high - low))
    signal -= np.float32(1)
    return np.clip(signal, -1, 1, out=signal)


def from_tensor(tensor: Tensor, image_format: ImageFormat) -> Array:
    """(C, H, W) in [-1, 1] -> (H, W, C) in the format's type and range, rounded to the nearest value."""
    low, high = image_format.low, image_format.high
    # In float64, because 32-bit integers and large ranges have more digits than float32; in place, which is faster.
    values = tensor.detach().cpu().to(torch.float64, copy=True)
    values.clamp_(-1, 1).add_(1).mul_((high - low) / 2).add_(low)
    if image_format.dtype == "uint8":  # the same in a fraction of the time
        return values.round_().clamp_(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return cast(values.numpy().transpose(1, 2, 0), image_format.dtype)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite. It costs one sum."""
    # A sum of finite values may overflow, and then each one is looked at.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def pad_to_multiple(images: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Pad (..., C, H, W) by reflection at the right and bottom until H and W are multiples and at least `smallest`."""
    for dim in (-2, -1):
        if (indices := mirrored_indices(images.shape[dim], multiple, smallest)) is not None:
            images = images.index_select(dim, torch.from_numpy(indices).to(images.device))
    return images


def same_size_batches(
    images: Iterable[tuple[Label, Tensor]], batch_size: int, max_pixels: int | None = BATCH_PIXELS
) -> Iterator[tuple[list[Label], Tensor]]:
    """Labelled (C, H, W) images -> (labels, (N, C, H, W)) of neighbours of one size, reading one image ahead.

    Batches of large images are smaller, down to one image, so that they hold at most `max_pixels` pixels.
    """
    waiting: list[tuple[Label, Tensor]] = []
    for label, image in images:
        limit = batch_size if max_pixels is None else max(1, min(batch_size, max_pixels // image[0].numel()))
        if waiting and (len(waiting) >= limit or waiting[0][1].shape != image.shape):
            yield [each for each, _ in waiting], torch.stack([each for _, each in waiting])
            waiting = []
        waiting.append((label, image))
    if waiting:
        yield [each for each, _ in waiting], torch.stack([each for _, each in waiting])
