"""Bring images to the training size: resize, crop and mirror them, at random for training and without for samples."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cyclegan.config import DataConfig, ModelConfig
from cyclegan.data.pixels import Pixels
from cyclegan.data.scenes import Scene, open_scene
from cyclegan.errors import InputError
from cyclegan.images.codecs import read_raster
from cyclegan.images.formats import ImageFormat
from cyclegan.images.limits import pixel_limit
from cyclegan.images.tensors import pad_to_multiple, to_tensor

# Images and crops of which less is valid are not used.
LEAST_VALID = 0.5

SIZE_ADVICE = "Pass a smaller --crop-size, or --preprocess resize-and-crop."


def load_for_crops(path: Path, image_format: ImageFormat, config: DataConfig, *, free_bytes: int = 0) -> Pixels | Scene:
    """As `load_resized`; a large scene is not decoded if its crops are not resized. free_bytes: as in `open_scene`."""
    if config.preprocess == "crop":
        scene = open_scene(path, image_format, free_bytes=free_bytes)
        if scene is not None:
            check_size(path, scene.height, scene.width, config)
            return scene
    return load_resized(path, image_format, config)


def load_resized(path: Path, image_format: ImageFormat, config: DataConfig) -> Pixels:
    """Read an image and resize it as training does.

    Raises UnreadableError or InputError if the file is damaged, too small, or not of this format.
    """
    pixels = _load(path, image_format, config)
    height, width = pixels.values.shape[:2]
    return pixels.resized(*scaled_size(height, width, config))


def _load(path: Path, image_format: ImageFormat, config: DataConfig) -> Pixels:
    with pixel_limit(config.max_pixels):
        raster = read_raster(path, image_format)
    check_size(path, raster.values.shape[0], raster.values.shape[1], config)
    return Pixels(raster.values, raster.valid)


def scaled_size(height: int, width: int, config: DataConfig) -> tuple[int, int]:
    """Height and width of an image after the resizing that precedes the crop."""
    size = config.resolved_load_size
    if config.preprocess == "resize-and-crop":
        return size, size
    if config.preprocess.startswith("scale-width"):
        return max(1, round(height * size / width)), size
    if config.preprocess.startswith("scale-short-side"):
        scale = size / min(height, width)
        return max(size, round(height * scale)), max(size, round(width * scale))
    return height, width


def check_size(path: Path, height: int, width: int, config: DataConfig) -> None:
    """Raises InputError if an image of this size is smaller than the crop."""
    if problem := size_problem(height, width, config):
        raise InputError(f"{path} is {problem}. {SIZE_ADVICE}")


def size_problem(height: int, width: int, config: DataConfig) -> str:
    """Why an image of this size cannot be cropped; empty if it can."""
    if not config.crops:
        return ""
    scaled_height, scaled_width = scaled_size(height, width, config)
    if min(scaled_height, scaled_width) >= config.crop_size:
        return ""
    return (
        f"{width}x{height} pixels ({scaled_width}x{scaled_height} after {config.preprocess}), smaller than the crop of "
        f"{config.crop_size}"
    )


def augment(image: Pixels | Scene, config: DataConfig, rng: np.random.Generator) -> Pixels:
    """Crop and mirror a resized image at random. The number of draws does not depend on the settings.

    Raises UnreadableError or InputError for a scene that cannot be read.
    """
    vertical, horizontal, mirror = rng.random(3)
    if config.crops:
        top = int(vertical * (image.height - config.crop_size + 1))
        left = int(horizontal * (image.width - config.crop_size + 1))
        pixels = image.cropped(top, left, config.crop_size)
    else:
        assert isinstance(image, Pixels)
        pixels = image
    return pixels.mirrored() if config.flip and mirror < 0.5 else pixels


class Sample(NamedTuple):
    """An image, (C, H, W) in [-1, 1], and its mask, (H, W), bool, False in holes; None without holes."""

    image: Tensor
    mask: Tensor | None = None


def load_sample(path: Path, image_format: ImageFormat, data: DataConfig, model: ModelConfig) -> Sample:
    """An image without randomness, for sample grids and validation: its center crop at the training size.

    With `resize-and-crop` the whole image is resized to the crop size. Raises errors as `load_resized` does, and
    InputError for a crop that is mostly hole.
    """
    if data.preprocess == "resize-and-crop":
        pixels = _load(path, image_format, data).resized(data.crop_size, data.crop_size)
    else:
        loaded = load_for_crops(path, image_format, data)
        if data.crops:
            top, left = (loaded.height - data.crop_size) // 2, (loaded.width - data.crop_size) // 2
            pixels = loaded.cropped(top, left, data.crop_size)
        else:
            assert isinstance(loaded, Pixels)
            pixels = loaded
    if pixels.valid_share < LEAST_VALID:
        raise InputError(f"{path} is mostly hole: {pixels.valid_share:.0%} of the pixels to be used have values.")
    image = pad_to_multiple(to_tensor(pixels.values, image_format), model.multiple, model.smallest_crop)
    if pixels.valid is None or pixels.valid.all():
        return Sample(image)
    mask = torch.from_numpy(np.array(pixels.valid))[None]
    return Sample(image, pad_to_multiple(mask, model.multiple, model.smallest_crop)[0])
