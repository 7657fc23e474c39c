"""Bring images to the training size: resize, crop and mirror them, at random for training and without for samples."""

from pathlib import Path

import numpy as np
from torch import Tensor

from cyclegan.config import DataConfig, ModelConfig
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.codecs import read_as
from cyclegan.images.formats import ImageFormat
from cyclegan.images.limits import pixel_limit
from cyclegan.images.resizing import resize
from cyclegan.images.tensors import pad_to_multiple, to_tensor

SIZE_ADVICE = "Pass a smaller --crop-size, or --preprocess resize-and-crop."


def load_resized(path: Path, image_format: ImageFormat, config: DataConfig) -> Array:
    """Read an image and resize it as training does, (H, W, C).

    Raises UnreadableError or InputError if the file is damaged, too small, or not of this format.
    """
    with pixel_limit(config.max_pixels):
        array = read_as(path, image_format)
    check_size(path, array.shape[0], array.shape[1], config)
    return resize(array, *scaled_size(array.shape[0], array.shape[1], config))


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


def augment(array: Array, config: DataConfig, rng: np.random.Generator) -> Array:
    """Crop and mirror a resized (H, W, C) array at random. The number of draws does not depend on the settings."""
    vertical, horizontal, mirror = rng.random(3)
    if config.crops:
        top = int(vertical * (array.shape[0] - config.crop_size + 1))
        left = int(horizontal * (array.shape[1] - config.crop_size + 1))
        array = array[top : top + config.crop_size, left : left + config.crop_size]
    if config.flip and mirror < 0.5:
        array = array[:, ::-1]
    return array


def load_sample(path: Path, image_format: ImageFormat, data: DataConfig, model: ModelConfig) -> Tensor:
    """An image without randomness, for sample grids and validation: its center crop at the training size, (C, H, W).

    With `resize-and-crop` the whole image is resized to the crop size. Raises errors as `load_resized` does.
    """
    if data.preprocess == "resize-and-crop":
        with pixel_limit(data.max_pixels):
            array = read_as(path, image_format)
        check_size(path, array.shape[0], array.shape[1], data)
        array = resize(array, data.crop_size, data.crop_size)
    else:
        array = load_resized(path, image_format, data)
    if data.crops:
        top, left = (array.shape[0] - data.crop_size) // 2, (array.shape[1] - data.crop_size) // 2
        array = array[top : top + data.crop_size, left : left + data.crop_size]
    return pad_to_multiple(to_tensor(array, image_format), model.multiple, model.smallest_crop)
