"""Engines compute a translation: torch, ONNX Runtime or OpenVINO, in exactly the requested precision.

`registry.ENGINES` lists them. This module holds what they share.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import torch
from torch import Tensor, nn

from cyclegan.errors import InputError


@dataclass(frozen=True)
class Engine:
    """(N, C, H, W) float32 in [-1, 1] of a size that the network takes -> the same of the other domain, float32.

    network: the torch module behind it, for access to its layers, float32 in and out; None if there is none.
    channels: of the input and the output of an exported file, None where it does not say.
    original: the float32 generator on the same device, which computes tiles for every engine; None for an export.
    reason: a sentence on why `auto` chose this precision, or why it is slow on this device.
    """

    name: str
    precision: str
    device: torch.device
    compute: Callable[[Tensor], Tensor]
    network: nn.Module | None = None
    original: nn.Module | None = None
    reason: str = ""
    channels: tuple[int | None, int | None] = (None, None)

    def __call__(self, images: Tensor) -> Tensor:
        return self.compute(images)

    def __str__(self) -> str:
        words = f"{self.name} {version(self.name).partition('+')[0]} on {self.device}, {self.precision}"
        return f"{words} ({self.reason})" if self.reason else words


def require(package: str, *others: str) -> Any:
    """Import an engine's package. Raises InputError with its install line if it or one of `others` is missing."""
    extra = {"onnxruntime": "onnx", "onnx": "onnx", "onnxscript": "onnx", "bioimageio.spec": "bioimageio"}.get(
        package, "openvino"
    )
    # OpenVINO's tools report each use to their maker unless this package is absent.
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    for name in (*others, package):
        try:
            module = import_module(name)
        except ImportError:
            raise InputError(f"{name} is not installed; run pip install 'cyclegan[{extra}]'.") from None
    return module


def installed_version(package: str) -> str | None:
    """The version of a package without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def smooth_picture(channels: int, height: int, width: int | None = None, seed: int = 0) -> Tensor:
    """(1, channels, height, width) in [-1, 1]: coarse and fine noise with the spectrum of a photo.

    A seed gives the same picture on every machine.
    """
    width = width or height
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, channels, height, width)
    for cells in (2, 4, 8, 16, 32):
        noise = torch.rand(1, channels, cells, cells, generator=generator) - 0.5
        picture += nn.functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False) * 4 / cells
    return (picture + 0.1 * (torch.rand(picture.shape, generator=generator) - 0.5)).clamp_(-1, 1)


def psnr(exact: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [-1, 1], so with a peak of 2; infinite if they are equal."""
    error = float((exact.float() - other.float()).square().mean())
    return float("inf") if error == 0 else float(10 * torch.tensor(4 / error, dtype=torch.float64).log10())
