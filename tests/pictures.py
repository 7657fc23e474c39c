"""Translators that do something simple, and animations whose frames tell their number, for tests of sequences."""

import numpy as np
import torch
from PIL import Image, features
from torch import nn

from cyclegan import ModelConfig, Translator
from cyclegan.images.formats import ImageFormat
from cyclegan.networks.protocol import Generator, Sizes
from cyclegan.storage.model import ModelInfo

DURATIONS = [40, 100, 70, 500, 1000]

# Suffix -> how Pillow writes it.
ANIMATIONS = {
    ".gif": {},
    ".webp": {"lossless": True},
    ".png": {},
    ".apng": {"format": "PNG"},
    **({".avif": {"quality": 95}} if features.check("avif") else {}),
}


class Same(Generator):
    """A network that returns its input; also in tiles."""

    tiling = "local"

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)  # not used: the memory of a network is estimated by its convolutions

    def forward(self, x):
        return x

    @classmethod
    def sizes(cls, settings):  # noqa: ARG003
        return Sizes(1, 1)


class Negative(nn.Module):
    def forward(self, x):
        return -x


class Black(nn.Module):
    def forward(self, x):
        return torch.full_like(x, -1)


def make_translator(network=None, a=3, b=3, dtype="uint8", high=255.0, **reading):
    """A translator from A to B that returns its input, or what the network makes of it. reading: of files of A."""
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final"}
    formats = {
        "a": ImageFormat(channels=a, dtype=dtype, high=high, **reading),
        "b": ImageFormat(channels=b, dtype=dtype, high=high),
    }
    info = ModelInfo(
        cyclegan_version="0", model=ModelConfig(norm="none", channels_a=a, channels_b=b), **formats, **about
    )
    return Translator(network or Same(), info, "a2b", torch.device("cpu"))


def level(index):
    """The brightness of a frame."""
    return 30 + 20 * index


def numbered(count=5, width=24, height=20):
    """Frames that tell their number by their brightness, with a few flat colours in their upper half."""
    frames = []
    for index in range(count):
        array = np.full((height, width, 3), level(index), np.uint8)
        array[: height // 2, : width // 2] = (200, level(index), 40)
        frames.append(Image.fromarray(array))
    return frames


def save_animation(path, frames=None, durations=DURATIONS, **options):
    first, *more = frames or numbered()
    options = {**ANIMATIONS[path.suffix], **options}
    first.save(path, save_all=True, append_images=more, duration=durations[: 1 + len(more)], **options)
    return path
