"""One image with all that belongs to it: values, transparency, holes, and what its file says about it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from cyclegan.images import Array

# Code, type, count, value and whether only the first page has it: a TIFF tag as tifffile writes it.
Tag: TypeAlias = tuple[int, int, int, Any, bool]

Mask: TypeAlias = NDArray[np.bool_]

# Grey from red, green and blue: Rec. 601, as Pillow computes it.
LUMA = np.array([299, 587, 114]) / 1000


@dataclass(frozen=True)
class Metadata:
    """What a file says about its image beside the values; a translation keeps it where its own format can.

    profile: the ICC profile of the file. is_srgb: whether the values were converted from that profile to sRGB.
    resolution: pixels per inch, across and down. exif: without orientation, because images are upright, and without
    thumbnail. tags: those of a GeoTIFF that say where the image lies on the earth and what its bands are.
    nodata: the number that marks holes in the file; may be NaN. replaced_nodata: the one that the file names, where
    another was asked for. band_nodata: one for each channel of the file, or None, where they differ; `nodata` is then
    the first of them. extra_samples: meaning of the channels of a TIFF beyond those of its colours: 0 unspecified, 1
    alpha of premultiplied colours, 2 alpha. band_names: one for each channel of the file, empty for one without a name;
    none at all if the file names no channel. in_patient: whether the file says where in the patient it is.
    is_cut: whether the image is a part of its file, by a window that exceeds the file. is_flat: whether the file holds
    an array (H, W), without an axis of channels.
    """

    profile: bytes | None = None
    is_srgb: bool = False
    resolution: tuple[float, float] | None = None
    description: str | None = None
    exif: bytes | None = None
    tags: tuple[Tag, ...] = ()
    nodata: float | None = None
    replaced_nodata: float | None = None
    band_nodata: tuple[float | None, ...] = ()
    extra_samples: tuple[int, ...] | None = None
    band_names: tuple[str, ...] = ()
    in_patient: bool = False
    is_cut: bool = False
    is_flat: bool = False


@dataclass(frozen=True)
class Raster:
    """An image in the type of its file.

    values: (H, W, C). alpha: (H, W) in the same type, whose largest value (1 for floats) is opaque; None: all opaque.
    valid: (H, W), False in holes, where the image has no value: "no data", NaN, transparent, or masked out; None: there
    are none. Values in holes are filled from around them. A reader of samples gives the mask of its file, also where
    that is True everywhere; (H, W, C) if each channel has its own.
    """

    values: Array
    alpha: Array | None = None
    valid: Mask | None = None
    metadata: Metadata = Metadata()


def is_air(raster: Raster) -> bool:
    """Whether a slice of a patient has one value at most, as in the air above a head. Holes do not count."""
    if not raster.metadata.in_patient:
        return False
    values = raster.values if raster.valid is None else raster.values[raster.valid]
    return not (values.size and (values != values.flat[0]).any())


def cast(array: Array, dtype: str) -> Array:
    """Another numpy type: rounded to the nearest value and kept within the type's limits where it holds integers."""
    kind = np.dtype(dtype)
    if kind.kind in "ui" and array.dtype.kind == "f":
        limits = np.iinfo(kind)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return np.ascontiguousarray(array, dtype=kind)


def composite(values: Array, alpha: Array, background: str) -> Array:
    """Values (H, W, C) with alpha (H, W) on a background colour, such as white; unless C is 3, on its grey."""
    colour = np.array(ImageColor.getrgb(background)[:3]) / 255
    colour = (colour if values.shape[2] == 3 else colour @ LUMA) * opaque(values.dtype)
    share = np.divide(alpha, opaque(alpha.dtype))[..., None]
    return cast(values * share + colour * (1 - share), values.dtype.name)


def opaque(dtype: np.dtype[Any]) -> float:
    """The alpha of an opaque pixel in a numpy type."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def convert_alpha(alpha: Array, dtype: str) -> Array:
    """Alpha in another numpy type, with the same transparency."""
    target = np.dtype(dtype)
    if alpha.dtype == target:
        return alpha
    scaled = alpha.astype(np.float64) * (opaque(target) / opaque(alpha.dtype))
    return (scaled if target.kind == "f" else scaled.clip(0, opaque(target)).round()).astype(target)
