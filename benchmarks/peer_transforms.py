"""The transforms of torchvision that the code of benchmarks/peers.py uses, on Pillow images. Not a command.

Written from torchvision's documentation, because a torchvision that fits the installed torch is not always at hand.
Random numbers are torch's, as there.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Compose:
    """Apply transforms in order."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda:
    """Apply a function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, image: Any) -> Any:
        return self.function(image)


class Resize:
    """Resize to (height, width) in pixels with a filter of Pillow, which averages when it makes an image smaller."""

    def __init__(self, size: Sequence[int], interpolation: Image.Resampling = Image.Resampling.BILINEAR) -> None:
        self.height, self.width = size
        self.interpolation = interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.width, self.height), self.interpolation)


class RandomCrop:
    """Cut out a square of `size` pixels anywhere. Raises ValueError if the image is smaller."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        room = (image.height - self.size, image.width - self.size)
        if min(room) < 0:
            raise ValueError(f"The image has {image.width}x{image.height} pixels; expected at least {self.size}.")
        top, left = (int(torch.randint(0, free + 1, ())) for free in room)
        return image.crop((left, top, left + self.size, top + self.size))


class RandomHorizontalFlip:
    """Mirror left and right, in half of all cases."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if float(torch.rand(())) < 0.5 else image


class ToTensor:
    """An 8-bit RGB image to (3, H, W), float32 in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1).contiguous() / 255


class Normalize:
    """Subtract the mean of each channel, and divide by its deviation."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __call__(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


@contextmanager
def as_torchvision() -> Iterator[None]:
    """In the block, `import torchvision.transforms` gives this module. Later imports look for the real one again."""
    package, transforms = ModuleType("torchvision"), sys.modules[__name__]
    package.transforms = transforms  # type: ignore[attr-defined]
    replaced = {"torchvision": package, "torchvision.transforms": transforms}
    before = {name: sys.modules.pop(name) for name in replaced if name in sys.modules}
    sys.modules |= replaced
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
        sys.modules |= before
