"""From the samples of a file to what a model takes: bands, transparency, holes, colours and channels, in this order."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclegan.config import Reading
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.colour import array_to_srgb
from cyclegan.images.filetypes.pillow import raster_of
from cyclegan.images.formats import PICTURE_CHANNELS, ImageFormat
from cyclegan.images.holes import both, fill_holes, find_holes, join_channels
from cyclegan.images.raster import Mask, Metadata, Raster, cast, composite, opaque
from cyclegan.system.advice import advise
from cyclegan.system.words import counted

Scalar = TypeVar("Scalar", bound=np.generic)


def interpret(
    path: Path, found: Raster | Image.Image, channels: int, reading: Reading, fallback: float | None = None
) -> Raster:
    """An image (H, W, channels) from all samples of a file, or from its 8-bit picture.

    fallback: fills parts of the image that are all hole; default: the middle of 8 bits, else 0.
    Raises InputError if the file has not these channels or bands, or holds infinite values (or NaN, if these count).
    """
    if isinstance(found, Image.Image):
        if reading.bands is None:
            if channels not in PICTURE_CHANNELS:
                advice = advise("Pass the channels of your images (--channels-a, --channels-b).", "Convert the file.")
                raise InputError(
                    f"{path} is an 8-bit image of mode {found.mode}, which can give 1, 3 or 4 channels; the model "
                    f"takes {channels}. {advice}"
                )
            if reading.nodata_of(None) is None:
                return raster_of(found, channels, reading.background)
        # Its own channels, which may mark holes; four are those with transparency.
        is_whole = reading.bands is None and channels == 4
        found = raster_of(found, 4 if is_whole else {"1": 1, "L": 1}.get(found.mode, 3))
    picked, chosen, num_colours = _choose_samples(path, found, channels, reading)
    values, alpha = picked.values, picked.alpha
    _check_channels(path, values, channels, found.values.shape[2], reading)

    # Holes by the values of the file, before any of them changes.
    valid, metadata = _find_valid(picked, chosen, reading)
    if values.dtype.kind == "f":
        _check_finite(path, values, valid)
    if alpha is not None:
        if reading.background is not None:
            values, alpha = composite(values, alpha, reading.background), None
        elif not (is_seen := np.greater(alpha, 0)).all():
            valid = both(valid, is_seen)

    is_in_order = chosen[:num_colours] == list(range(num_colours))
    if metadata.profile is not None and not metadata.is_srgb and is_in_order:
        converted = array_to_srgb(values[..., :num_colours], metadata.profile)
        if converted is not None:
            values = np.concatenate([converted, values[..., num_colours:]], axis=2)
            metadata = replace(metadata, is_srgb=True)
    values = _to_channels(values, channels)
    valid = None if valid is None or valid.all() else valid
    if valid is not None:
        middle = (127.0 if values.dtype == np.uint8 else 0.0) if fallback is None else fallback
        values = fill_holes(values, valid, middle)
    return Raster(values, alpha, valid, metadata)


def interpret_as(path: Path, found: Raster | Image.Image, image_format: ImageFormat) -> Raster:
    """What `interpret` makes of a file for a model that takes this format; its type is that of the file."""
    middle = (image_format.low + image_format.high) / 2
    return interpret(path, found, image_format.channels, image_format, middle)


def _choose_samples(path: Path, found: Raster, channels: int, reading: Reading) -> tuple[Raster, list[int], int]:
    """The samples of the image, which samples of the file these are, and how many of them are colours.

    A last sample that is transparency becomes alpha, unless it is one of `channels` or of the chosen bands. The mask
    stays that of all samples.
    """
    metadata, values, alpha = found.metadata, found.values, found.alpha
    last = values.shape[2] - 1
    chosen = list(range(last + 1))
    if reading.bands is not None:
        chosen = choose_bands(path, last + 1, reading, metadata.band_names)
    if has_alpha(found):
        extra = metadata.extra_samples or ()
        if extra[-1] == 1:
            straight = _unmultiply(values[..., :last], values[..., last])
            values = np.concatenate([straight, values[..., last:]], axis=2)
            metadata = replace(metadata, extra_samples=(*extra[:-1], 2))
        if last not in chosen if reading.bands is not None else last + 1 != channels:
            alpha, chosen = values[..., last], [index for index in chosen if index != last]
            metadata = replace(metadata, extra_samples=extra[:-1] or None)
    if reading.bands is not None:
        names = metadata.band_names
        metadata = replace(metadata, extra_samples=None, band_names=tuple(names[i] for i in chosen) if names else ())
    keeps_alpha = has_alpha(found) and alpha is None and len(chosen) == last + 1
    return Raster(_take(values, chosen), alpha, found.valid, metadata), chosen, len(chosen) - keeps_alpha


def _find_valid(picked: Raster, chosen: list[int], reading: Reading) -> tuple[Mask | None, Metadata]:
    """(H, W), False in holes, or None; and the metadata with the number that marked them. chosen: samples of the file.

    GDAL looks for no number in a file that has a mask, either.
    """
    metadata, valid = _with_nodata(picked.metadata, reading), picked.valid
    if valid is not None and valid.ndim == 3:
        valid = join_channels(_take(valid, chosen), picked.values.dtype)
    marks: float | tuple[float | None, ...] | None = metadata.nodata
    if metadata.band_nodata and reading.nodata is None:
        marks = tuple(metadata.band_nodata[index] for index in chosen)
        metadata = replace(metadata, nodata=next((mark for mark in marks if mark is not None), None))
    if valid is not None and reading.nodata is None:
        marks = None
    valid = both(valid, find_holes(picked.values, marks, nan=reading.nodata != "none"))
    return valid, replace(metadata, band_nodata=())


def _with_nodata(metadata: Metadata, reading: Reading) -> Metadata:
    """The metadata with the number for holes that was asked for."""
    own, nodata = metadata.nodata, reading.nodata_of(metadata.nodata)
    is_replaced = own is not None and nodata is not None and str(own) != str(nodata)  # text, since NaN differs from NaN
    return replace(metadata, nodata=nodata, replaced_nodata=own if is_replaced else None)


def _take(array: NDArray[Scalar], chosen: list[int]) -> NDArray[Scalar]:
    """Some channels of (H, W, C); a view where they are the first ones."""
    count = len(chosen)
    return array[..., :count] if chosen == list(range(count)) else array[..., chosen]


def has_alpha(found: Raster) -> bool:
    """Whether the last of the samples of a file is transparency."""
    extra = found.metadata.extra_samples
    return found.alpha is None and bool(extra) and extra[-1] in (1, 2)  # type: ignore[index]


def choose_bands(path: Path, count: int, reading: Reading, names: tuple[str, ...]) -> list[int]:
    """The indices of the chosen bands. Raises InputError for one that the file does not have."""
    chosen = []
    for band in reading.band_names:
        lower = [name.lower() for name in names]
        if band.isdigit() and 1 <= int(band) <= count:
            chosen.append(int(band) - 1)
        elif lower.count(band.lower()) == 1:
            chosen.append(lower.index(band.lower()))
        else:
            known = [name or str(number) for number, name in enumerate(names, 1)]
            called = f", called {', '.join(known)}" if names else ""
            raise InputError(f"{path} has no band {band}; it has {counted(count, 'band')}{called}, counted from 1.")
    return chosen


def _check_channels(path: Path, values: Array, channels: int, count: int, reading: Reading) -> None:
    """Raises InputError unless these values can become an image of `channels`. count: of all samples of the file."""
    given = values.shape[2]
    if given == channels or (values.dtype == np.uint8 and {given, channels} == {1, 3}):
        return
    if reading.bands is not None:
        raise InputError(
            f"The bands {reading.bands} are {given}; choose {channels}, as many as the model has channels."
        )
    bands = ",".join(map(str, range(1, channels + 1)))
    choice = f", choose bands such as {bands} with --bands-a or --bands-b" if channels < given else ""
    advice = advise(f"Pass --channels-a or --channels-b {given}{choice}, or convert the file.", "Convert the file.")
    raise InputError(
        f"{path} has {counted(count, 'channel')} of type {values.dtype}; the model takes {channels}. {advice}"
    )


def _check_finite(path: Path, values: Array, valid: Mask | None) -> None:
    is_finite = np.isfinite(values) if valid is None else np.isfinite(values) | ~valid[..., None]
    if not is_finite.all():
        count = int(np.count_nonzero(~is_finite))
        raise InputError(f"{path} holds {count} values that are NaN or infinite; fill them with a number first.")


def _unmultiply(values: Array, alpha: Array) -> Array:
    """Colours that were multiplied with alpha, as they are without."""
    if values.dtype == np.uint8:  # rounded down as by Pillow, which reads a file as a whole
        divided = values.astype(np.uint32) * 255 // np.maximum(alpha, 1)[..., None]
        return np.where(np.greater(alpha, 0)[..., None], np.minimum(divided, 255), 0).astype(np.uint8)
    share = np.maximum(alpha.astype(np.float64), 1e-9)[..., None] / opaque(alpha.dtype)
    straight = np.where(np.greater(alpha, 0)[..., None], np.divide(values, share), 0)
    return cast(straight, values.dtype.name)


def _to_channels(values: Array, channels: int) -> Array:
    """8-bit grey as colour, or colour as grey; other values stay."""
    if values.shape[2] == channels:
        return values
    if values.shape[2] == 1:
        return values.repeat(channels, -1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).convert("L"))[..., None]
