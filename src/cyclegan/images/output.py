"""Put a translation together with the transparency, holes and metadata of its input, as its format keeps them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from cyclegan.images import Array
from cyclegan.images.colour import array_from_srgb, is_srgb, mode_of
from cyclegan.images.filetypes.tiff_tags import describe_result
from cyclegan.images.formats import ImageFormat, Kept
from cyclegan.images.holes import can_hold_nodata
from cyclegan.images.raster import Mask, Metadata, Raster, composite, convert_alpha, opaque

# How messages call what a format cannot keep.
LOST: Mapping[Kept, str] = {
    "alpha": "the transparency",
    "mask": "the half transparency",
    "profile": "the colour profile",
    "resolution": "the resolution",
    "description": "the description",
    "exif": "the EXIF data",
    "place": "the place on earth",
    "nodata": "the holes",
    "patient": "the place in the patient",
}


def make_output(
    values: Array,
    given: Raster,
    target: ImageFormat,
    keeps: frozenset[Kept],
    *,
    keep_profile: bool = False,
    background: str | None = None,
) -> tuple[Raster, tuple[Kept, ...]]:
    """A translation (H, W, C) as it is written, and what its format cannot keep of the input.

    given: the input, of the same size; its values are not used. keeps: what the format keeps. keep_profile: convert the
    result back to the colours of the input's profile. background: behind transparent pixels where the format has no
    transparency; default: white.
    """
    metadata, lost = describe_result(given.metadata, target.channels), list[Kept]()
    if target.channels != given.values.shape[2]:
        metadata = replace(metadata, extra_samples=None)
    alpha = None if given.alpha is None else convert_alpha(given.alpha, target.dtype)
    # A model that does not say what its fourth channel is takes the word of the input.
    says_otherwise = target.alpha is None and (metadata.extra_samples or (2,))[-1] == 0
    if has_mask := "mask" in keeps:
        keeps = keeps | {"alpha"}
    is_split = target.last_is_alpha and "alpha" in keeps and not says_otherwise
    if is_split:
        values, alpha = values[..., :-1], values[..., -1]
    elif metadata.extra_samples is None and target.channels == 4:
        metadata = replace(metadata, extra_samples=(0,))
    if values.shape[2] not in (1, 3):  # where other programs do not take a further channel for transparency
        keeps = keeps - {"alpha"}

    if metadata.profile is not None:
        was_converted = metadata.is_srgb
        values, metadata = _in_profile(values, metadata, is_wanted=keep_profile and "profile" in keeps)
        if keep_profile and was_converted and metadata.profile is None:
            lost.append("profile")

    # Holes that are not only transparent pixels, unless these can be holes alone.
    valid = given.valid
    is_seen_by_alpha = "alpha" in keeps or "nodata" not in keeps
    if alpha is not None and valid is not None and is_seen_by_alpha and (valid | (alpha == 0)).all():
        valid = None
    if valid is not None or metadata.nodata is not None:
        nodata = _written_nodata(metadata.nodata, target, keeps)
        if nodata is not None:
            values, metadata = _with_holes(values, valid, nodata, target), replace(metadata, nodata=nodata)
            if is_split and alpha is not None and valid is not None:  # readers look for holes in all bands
                alpha = np.where(valid, alpha, np.array(nodata, alpha.dtype))
        elif valid is not None and "alpha" in keeps:
            full = np.full(valid.shape, opaque(values.dtype)).astype(values.dtype)
            alpha = np.where(valid, full if alpha is None else alpha, 0).astype(values.dtype)
            metadata = replace(metadata, nodata=None)
        elif valid is not None:
            lost.append("nodata")
    if alpha is not None and "alpha" not in keeps:
        if values.shape[2] in (1, 3):
            values = composite(values, alpha, background or "white")
        alpha = None
        lost.append("alpha")
    elif alpha is not None and has_mask:
        most = opaque(alpha.dtype)
        mask = np.where(np.greater_equal(alpha, most / 2), most, 0).astype(alpha.dtype)
        if not np.array_equal(mask, alpha):
            lost.append("mask")
        alpha = mask
    lost += [name for name in _present(metadata) if name not in keeps]
    return Raster(values, alpha, None, metadata), tuple(lost)


def _in_profile(values: Array, metadata: Metadata, *, is_wanted: bool) -> tuple[Array, Metadata]:
    """Values in the colours of the input's profile if that is wanted and possible; else sRGB, without the profile.

    A profile of the same colours stays: its values were not converted.
    """
    profile = metadata.profile
    assert profile is not None
    if is_wanted and metadata.is_srgb and (converted := array_from_srgb(values, profile)) is not None:
        return converted, replace(metadata, is_srgb=False)
    fits = mode_of(profile) == {1: "L", 3: "RGB"}.get(values.shape[2])
    if metadata.is_srgb or not is_srgb(profile) or not fits:
        metadata = replace(metadata, profile=None)
    return values, metadata


def _present(metadata: Metadata) -> Iterator[Kept]:
    """What an input says that a format may keep, beside transparency and holes."""
    present: dict[Kept, bool] = {
        "profile": metadata.profile is not None,
        "resolution": metadata.resolution is not None,
        "description": metadata.description is not None,
        "exif": metadata.exif is not None,
        "place": bool(metadata.tags),
        "patient": metadata.in_patient,
    }
    return (name for name, is_there in present.items() if is_there)


def _written_nodata(given: float | None, target: ImageFormat, keeps: frozenset[Kept]) -> float | None:
    """The value of holes in a file that keeps these; None if transparency marks them, or nothing can."""
    if "nodata" not in keeps:  # without a tag, NaN alone is known for a hole
        return math.nan if target.dtype.startswith("float") and "alpha" not in keeps else None
    nodata = output_nodata(given, target)
    return 0.0 if nodata is None and "alpha" not in keeps else nodata


def output_nodata(given: float | None, target: ImageFormat) -> float | None:
    """The value of holes in a result: that of the input if the type can hold it, else NaN or one outside the range.

    None if there is no such value.
    """
    dtype = np.dtype(target.dtype)
    if given is not None and can_hold_nodata(dtype, given):
        return given
    if dtype.kind == "f":
        return math.nan
    limits = np.iinfo(dtype)
    if limits.min < target.low:
        return float(limits.min)
    return float(limits.max) if limits.max > target.high else None


def _with_holes(values: Array, valid: Mask | None, nodata: float, target: ImageFormat) -> Array:
    """Values with holes, and no other pixel with the value that marks them."""
    values = values.copy()
    if not math.isnan(nodata):
        marked = values == values.dtype.type(nodata)
        marked = marked.all(-1) if values.dtype == np.uint8 else marked
        values[marked] = _neighbour(nodata, target)
    if valid is not None:
        values[~valid] = values.dtype.type(nodata)
    return values


def _neighbour(nodata: float, target: ImageFormat) -> float:
    """The nearest value to that of holes, towards the middle of the range."""
    up = nodata < (target.low + target.high) / 2
    dtype = np.dtype(target.dtype)
    if dtype.kind == "f":
        # Far enough to be told apart after the tag is rounded.
        step = max(abs(nodata) * 1e-5, float(np.finfo(dtype).tiny) * 2)
        return nodata + step if up else nodata - step
    return nodata + 1 if up else nodata - 1
