"""What GDAL keeps of an image outside of its samples: masks (.msk), world files, .aux.xml, and places in a JP2.

Files beside an image are read through rasterio. Without it a mask is an error, and the rest is passed over.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan.errors import InputError
from cyclegan.images.filetypes import pillow
from cyclegan.images.filetypes.geo import import_rasterio, metadata_of, open_dataset
from cyclegan.images.formats import Decoded
from cyclegan.images.pages import sidecar_names
from cyclegan.images.raster import Mask, Metadata, Raster
from cyclegan.images.regions import Box


def find_sidecars(path: Path) -> list[Path]:
    """The files beside an image that say where it lies, what its bands are, and where it has holes."""
    names = sidecar_names(str(path))  # strings: this is asked of every TIFF
    return [Path(name) for name in names if os.path.isfile(name)]  # noqa: PTH113


def describe(path: Path, metadata: Metadata) -> Metadata:
    """The metadata of a file with what GDAL knows of its place, its bands and its number for holes."""
    if find_spec("rasterio") is None:
        return metadata
    with suppress(Exception), open_dataset(path) as dataset:  # the file is decoded by others: GDAL may lack its kind
        found = metadata_of(dataset)
        return replace(
            metadata,
            tags=found.tags,
            nodata=found.nodata,
            band_nodata=found.band_nodata,
            band_names=found.band_names or metadata.band_names,
        )
    return metadata


def with_sidecars(path: Path, raster: Raster) -> Raster:
    """The samples of a file of one image, with its metadata and its mask from beside it."""
    sidecars = find_sidecars(path)
    if not sidecars:
        return raster
    raster = replace(raster, metadata=describe(path, raster.metadata))
    if has_mask(sidecars):
        return replace(raster, valid=read_mask(path))
    return raster


def has_mask(sidecars: list[Path]) -> bool:
    """Whether there is a mask among these. Raises InputError if that cannot be read without rasterio."""
    is_there = any(sidecar.suffix == ".msk" for sidecar in sidecars)
    if is_there:
        import_rasterio()
    return is_there


def read_mask(path: Path, box: Box | None = None) -> Mask:
    """The mask beside a file, (h, w), of a box or of all of it. Raises InputError if it is of another size."""
    window = None if box is None else ((box.top, box.bottom), (box.left, box.right))
    file = path.with_name(f"{path.name}.msk")
    with open_dataset(path) as dataset, open_dataset(file) as mask:
        if mask.shape != dataset.shape:  # GDAL would pass over it
            raise InputError(
                f"{file} is the mask of {path.name} and has {mask.width}x{mask.height} pixels, and the image has "
                f"{dataset.width}x{dataset.height}; remove the mask, or write it again."
            )
        return np.asarray(dataset.read_masks(1, window=window) > 0)


def with_place(read: Callable[[Path], Decoded], path: Path) -> Decoded:
    """What a reader of a JPEG 2000 returns, with the place on the earth and the bands that GDAL finds in the file."""
    decoded = read(path)
    metadata = pillow.metadata_of(decoded, 1) if isinstance(decoded, Image.Image) else Metadata()
    metadata = decoded.metadata if isinstance(decoded, Raster) else metadata
    sidecars = find_sidecars(path)
    if (found := describe(path, metadata)) == metadata and not has_mask(sidecars):
        return decoded
    if isinstance(decoded, Image.Image):
        if decoded.mode not in ("L", "LA", "RGB", "RGBA"):
            return decoded
        if decoded.mode in ("LA", "RGBA"):
            found = replace(found, extra_samples=(2,))
        decoded = np.asarray(decoded)
    if not isinstance(decoded, Raster):
        decoded = Raster(decoded[..., None] if decoded.ndim == 2 else decoded)
    decoded = replace(decoded, metadata=found)
    return replace(decoded, valid=read_mask(path)) if has_mask(sidecars) else decoded
