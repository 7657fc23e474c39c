"""Holes in images: pixels without a value. Find them, and fill them from around them for a network."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclegan.images import Array
from cyclegan.images.raster import Mask, Raster

# Holes are filled within aligned squares of so many pixels, so that an image that is read by region is filled alike.
BLOCK = 256

# Relative difference at which a float is still the "no data" value: TIFF keeps that value as text, often shortened.
_ROUNDING = 1e-6

# Nothing has values this large. They mark holes, and are often the lowest float, written with as few as two digits.
_HUGE = 1e30
_ROUNDING_HUGE = 0.01


def find_holes(values: Array, nodata: float | Sequence[float | None] | None, *, nan: bool = True) -> Mask | None:
    """(H, W), False where an image (H, W, C) has no value; None if there are no holes.

    nodata: the value that marks holes, or None; or one for each channel. nan: whether NaN in any channel marks a hole.
    """
    holes: list[Mask] = []
    if nan and values.dtype.kind == "f":
        holes.append(np.asarray(np.isnan(values).any(-1)))
    if isinstance(nodata, Sequence):
        marked = np.stack([_is_marked(values[..., i], mark) for i, mark in enumerate(nodata)], -1)
        holes.append(~join_channels(~marked, values.dtype))
    elif nodata is not None:
        holes.append(~join_channels(~_is_marked(values, nodata), values.dtype))
    if not any(found.any() for found in holes):
        return None
    valid: Mask = ~np.logical_or.reduce(holes)
    return valid


def find_numbers(numbers: Array, nodata: float) -> Mask:
    """(H, W), False where an image of palette numbers (H, W, 1) has the one that marks holes; that is no colour."""
    valid = find_holes(numbers, nodata)
    return np.ones(numbers.shape[:2], bool) if valid is None else valid


def find_marked(raster: Raster) -> Mask | None:
    """(H, W), False where a result has the value that its metadata say marks holes; None if there are none."""
    return None if raster.metadata.nodata is None else find_holes(raster.values, raster.metadata.nodata)


def join_channels(valid: Mask, dtype: np.dtype[Any]) -> Mask:
    """(H, W) from the validity of each channel, (H, W, C).

    8-bit pixels are holes where all channels are, because one channel of a colour may well be 0 or 255; others where
    any is.
    """
    return np.asarray(valid.any(-1) if dtype == np.uint8 else valid.all(-1))


def _is_marked(values: Array, nodata: float | None) -> Mask:
    if nodata is None or math.isnan(nodata) or not can_hold_nodata(values.dtype, nodata):
        return np.zeros(values.shape, bool)
    if values.dtype.kind == "f" and abs(nodata) > _HUGE:
        # As a double the number may be out of the range of the type, which then has infinity or its own limit.
        least = min(abs(nodata) * (1 - _ROUNDING_HUGE), float(np.finfo(values.dtype).max))  # type: ignore[type-var]
        return np.asarray(np.greater_equal(values, least) if nodata > 0 else np.less_equal(values, -least))
    if values.dtype.kind == "f":
        return np.isclose(values, values.dtype.type(nodata), rtol=_ROUNDING, atol=0)
    return np.asarray(values == values.dtype.type(nodata))


def can_hold_nodata(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of a type can have this value."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return math.isfinite(value) and value == round(value) and limits.min <= value <= limits.max


def both(one: Mask | None, other: Mask | None) -> Mask | None:
    """Where both are valid; None is valid everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def fill_holes(values: Array, valid: Mask, fallback: float) -> Array:
    """(H, W, C) with holes filled smoothly from the pixels around them, in the same type.

    Aligned squares of 256 pixels are filled each by itself. One without any valid pixel gets `fallback` everywhere.
    """
    filled = values.copy()
    for top in range(0, values.shape[0], BLOCK):
        for left in range(0, values.shape[1], BLOCK):
            place = slice(top, top + BLOCK), slice(left, left + BLOCK)
            inside = valid[place]
            if inside.all():
                continue
            block = filled[place]
            if not inside.any():
                block[:] = np.asarray(fallback).astype(values.dtype)
                continue
            exact = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
            around = push_pull(np.where(inside[..., None], block, 0).astype(exact), inside)
            around = around if values.dtype.kind == "f" else around.round()
            block[~inside] = around[~inside].astype(values.dtype)
    return filled


def push_pull(values: NDArray[np.floating], valid: Mask) -> NDArray[np.floating]:
    """(H, W, C) with holes, whose values are 0, filled by averages over ever larger squares.

    Source: Gortler et al. 1996, "The Lumigraph", section 3.4.1.
    """
    if valid.all():
        return values
    height, width, channels = values.shape
    pad = (0, height % 2), (0, width % 2)
    weights = np.pad(valid.astype(values.dtype), pad)
    squares = np.pad(values, (*pad, (0, 0))).reshape(-(-height // 2), 2, -(-width // 2), 2, channels)
    counts = weights.reshape(-(-height // 2), 2, -(-width // 2), 2).sum((1, 3))
    means = squares.sum((1, 3)) / np.maximum(counts, 1)[..., None]
    coarse = _smooth(push_pull(means, counts > 0).repeat(2, 0).repeat(2, 1))[:height, :width]
    return np.where(valid[..., None], values, coarse)


def _smooth(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The weighted mean of each pixel and its neighbours, so that the squares of the coarser level leave no edges."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if each == axis else (0, 0) for each in range(3)], "edge")
        before, after = (np.take(padded, np.arange(values.shape[axis]) + shift, axis) for shift in (0, 2))
        values = values / 2 + (before + after) / 4
    return values
