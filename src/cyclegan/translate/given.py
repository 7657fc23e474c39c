"""What a `Translator` is given in Python: arrays are checked, files are read. A wrong one is one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import read_raster
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Raster
from cyclegan.system.json_files import shown

_EXPECTED = "expected a Pillow image, a numpy array of shape (H, W, channels), or the path of an image"


def read_given(path: Path, source: ImageFormat, target: ImageFormat) -> Raster:
    """The image of a file as the model takes it. Raises InputError or UnreadableError that names it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; translate_folder translates folders.")
    try:
        return read_raster(path, source, target)
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise InputError(f"There is no file {path}.") from None
        raise UnreadableError(f"{path} cannot be read: {error}") from error


def check_array(image: Any, source: ImageFormat) -> Array:
    """An array of a caller as (H, W, C) in the type that the model takes, in the byte order of this machine.

    Values are not converted: their range is known to the caller alone. Raises InputError with the conversion.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"{_described(image)}; {_EXPECTED}.")
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        raise InputError("The array has masked values; fill them with a number first: array.filled(...).")
    array = image[..., None] if image.ndim == 2 else image
    if array.ndim != 3 or array.shape[2] != source.channels or 0 in array.shape:
        remedy = _shape_remedy(image.shape, source.channels)
        raise InputError(f"The array has shape {image.shape}; this model takes (H, W, {source.channels}){remedy}.")
    if array.dtype.newbyteorder("=") != np.dtype(source.dtype):
        remedy = _type_remedy(array, source)
        raise InputError(f"The array is of type {image.dtype}, and this model takes {source}: {remedy}.")
    return array.astype(source.dtype, copy=False)


def check_tensor(images: Any, source: ImageFormat) -> None:
    """Raises InputError for anything but floats (N, C, H, W), and for values of files in the place of [-1, 1]."""
    expected = f"expected a torch tensor of floats (N, {source.channels}, H, W) in [-1, 1]"
    if not isinstance(images, Tensor):
        raise InputError(f"{shown(images)} was given; {expected}, or call the translator with an image.")
    if images.ndim != 4 or images.shape[1] != source.channels or 0 in images.shape[2:]:
        raise InputError(f"The tensor has shape {tuple(images.shape)}; {expected}.")
    if not images.is_floating_point():
        raise InputError(f"The tensor is of type {images.dtype}; {expected}: images / 127.5 - 1 if it is 0 to 255.")
    # Values outside the range of training are inputs, too, but not where the file's type has no others.
    if source.dtype == "uint8" and (source.low, source.high) == (0, 255) and images.numel() and images.max() > 2:
        raise InputError(
            f"The tensor has values up to {float(images.max()):g}; {expected}: images / 127.5 - 1 if it is 0 to 255."
        )


def find_not_finite(array: Array, source: ImageFormat) -> str | None:
    """A sentence on values that are NaN or infinite, or None if there are none."""
    if array.dtype.kind != "f" or (is_finite := np.isfinite(array)).all():
        return None
    count = array.size - int(np.count_nonzero(is_finite))
    return (
        "The image itself holds NaN or infinity; fill these values with a number first "
        f"({count:,} of {array.size:,} values; this model takes {source})."
    )


def check_several(images: Any) -> None:
    """Raises InputError for what is not an iterable of images, such as a single one."""
    if isinstance(images, str | bytes) or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        raise InputError(f"images is {shown(images)}; pass several, such as a list, or call the translator with one.")


def _described(value: Any) -> str:
    kind = type(value)
    if kind.__module__.partition(".")[0] == "torch" and hasattr(value, "shape"):
        return (
            f"A torch tensor of shape {tuple(value.shape)} was given; pass (N, channels, H, W) in [-1, 1] to "
            "translator.translate_tensor, or an array such as tensor.permute(1, 2, 0).cpu().numpy()"
        )
    if isinstance(value, list | tuple):
        return f"A {kind.__name__} of {len(value):,} was given; pass several images to translator.translate"
    return f"{shown(value)} was given"


def _shape_remedy(shape: tuple[int, ...], channels: int) -> str:
    if 0 in shape:
        return "; it is empty"
    if len(shape) == 4:
        return "; pass several images to translator.translate"
    if len(shape) == 2 and channels > 1:
        return f": np.stack([array] * {channels}, axis=-1) repeats a grey one"
    if len(shape) == 3 and shape[0] == channels:
        return ": array.transpose(1, 2, 0) puts the channels last"
    if len(shape) == 3 and shape[2] == channels + 1 and channels in (1, 3):
        return f": array[..., :{channels}] leaves alpha out"
    return ""


def _type_remedy(array: Array, source: ImageFormat) -> str:
    """How an array of another type becomes what the model takes."""
    kind = array.dtype.kind
    if kind not in "uifb":
        return "pass an array of numbers"
    if kind == "b":
        return f"pass np.where(array, {source.high:g}, {source.low:g}).astype('{source.dtype}')"
    try:
        low, high = float(array.min()), float(array.max())
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high)):
        return "fill NaN and infinity with a number, then convert it"
    target = np.dtype(source.dtype)
    if target.kind == "f":
        return f"bring its values to this range and pass array.astype('{source.dtype}')"
    rounded = ".round()" if kind == "f" else ""
    if kind == "f" and low >= 0 and high <= 1 and source.high > 1:
        return f"pass (array * {source.high:g}).round().astype('{source.dtype}') if its values are 0 to 1"
    if kind == "f" and low >= -1 and high <= 1 and source.high > 1 and source.low == 0:
        return f"pass ((array + 1) * {source.high / 2:g}).round().astype('{source.dtype}') if its values are -1 to 1"
    limits = np.iinfo(target)
    if limits.min <= low and high <= limits.max and not (kind == "u" and array.dtype.itemsize > target.itemsize):
        return f"pass array{rounded}.astype('{source.dtype}') if its values are in this range"
    if kind == "u" and target.kind == "u" and array.dtype.itemsize > target.itemsize:
        most = np.iinfo(array.dtype).max  # type: ignore[type-var]
        return f"pass (array / {most // limits.max}).round().astype('{source.dtype}') if its values are 0 to {most}"
    return f"bring its values to this range and pass array.astype('{source.dtype}')"
