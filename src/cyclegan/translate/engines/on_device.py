"""Send 8-bit images to a GPU as bytes, a quarter of what floats are, and convert them there, without waiting."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat

# Types of devices where values are converted. Tests add the CPU, which computes the same bits.
DEVICE_TYPES = ["cuda"]


def converts(device: torch.device, source: ImageFormat, target: ImageFormat) -> bool:
    """Whether a device converts the values of images itself: those of 8 bits on both sides."""
    return device.type in DEVICE_TYPES and source.dtype == target.dtype == "uint8"


@dataclass(frozen=True)
class Started:
    """Images whose results a device is computing."""

    _values: Tensor
    _is_finite: Tensor
    _event: torch.cuda.Event | None

    def results(self) -> tuple[NDArray[np.uint8], list[bool]]:
        """Wait for the results: (N, H, W, C), and whether all values of each were finite before they were rounded."""
        if self._event is not None:
            self._event.synchronize()
        # A copy: memory that a GPU can reach is scarce, and results may be kept for long.
        return self._values.numpy().copy(), self._is_finite.tolist()


def start(
    images: Tensor, network: Callable[[Tensor], Tensor], device: torch.device, source: ImageFormat, target: ImageFormat
) -> Started:
    """Send (N, H, W, C) in uint8 to a device and start the network on them: (N, C, H, W) in [-1, 1] -> the same size.

    Returns without waiting for the device.
    """
    on_gpu = device.type == "cuda"
    with torch.inference_mode():
        given = images.pin_memory().to(device, non_blocking=True) if on_gpu else images
        output = network(_to_signal(given.permute(0, 3, 1, 2), source))
        is_finite = output.isfinite().flatten(1).all(1)
        values = _from_signal(output, target).permute(0, 2, 3, 1)
        if not on_gpu:
            return Started(values.contiguous(), is_finite, None)
        with torch.cuda.device(device):
            found = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in (values, is_finite)]
            for kept, x in zip(found, (values, is_finite), strict=True):
                kept.copy_(x.contiguous(), non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return Started(found[0], found[1], event)


def _to_signal(values: Tensor, image_format: ImageFormat) -> Tensor:
    """`cyclegan.images.tensors.to_tensor` on the device of the values, to the same bits."""
    low, high = image_format.low, image_format.high
    scale = float(np.float32(2 / (high - low)))
    return values.to(torch.float32).sub_(float(np.float32(low))).mul_(scale).sub_(1).clamp_(-1, 1)


def _from_signal(signal: Tensor, image_format: ImageFormat) -> Tensor:
    """`cyclegan.images.tensors.from_tensor` on the device of the values, to the same bits."""
    low, high = image_format.low, image_format.high
    values = signal.double().clamp_(-1, 1).add_(1).mul_((high - low) / 2).add_(low)
    return values.round_().clamp_(0, 255).to(torch.uint8)


def is_eight_bit(array: Array) -> bool:
    """Whether `start` takes an image."""
    return array.dtype == np.uint8 and array.ndim == 3
