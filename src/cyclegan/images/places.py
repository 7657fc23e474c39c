"""Whether images lie in the same place on the earth, or at least have pixels of one kind; nothing is reprojected."""

import math
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.images.file_list import evenly_spaced
from cyclegan.images.filetypes.geo import open_dataset
from cyclegan.images.filetypes.vrt import crs_name, grid_of, warp_command

# Files that may have a coordinate system.
_SUFFIXES = (".tif", ".tiff", ".vrt", ".img", ".jp2", ".hgt")

# Files of a folder whose coordinate systems are read.
_MAX_FILES = 64

# Pairs may lie apart by this part of a pixel.
_MAX_SHIFT = 0.5


def _place(path: Path) -> tuple[Any, Any] | None:
    """Coordinate system and grid of a file; None for one without, or without rasterio."""
    if path.suffix.lower() not in _SUFFIXES or find_spec("rasterio") is None:
        return None
    with suppress(Exception), open_dataset(path) as dataset:  # reading the file reports its damage
        grid = grid_of(dataset)
        return (grid.crs, grid) if grid.crs else None
    return None


def check_same_place(first: Path, second: Path) -> None:
    """Raises InputError if two images that should show the same thing say that they lie apart on the earth."""
    here, there = _place(first), _place(second)
    if here is None or there is None:
        return
    (crs, grid), (other_crs, other) = here, there
    command = f"bring it to the same grid: {warp_command(second, crs, grid)}"
    if crs != other_crs:
        raise InputError(f"{second} lies in {crs_name(other_crs)} and {first} in {crs_name(crs)}; {command}")
    corners = ((0, 0), (grid.width, 0), (0, grid.height))
    moved = [~grid.transform * (other.transform * corner) for corner in corners]
    shift = max(math.dist(corner, at) for corner, at in zip(corners, moved, strict=True))
    if shift > _MAX_SHIFT:
        raise InputError(f"{second} lies up to {shift:.4g} pixels from {first} on the earth; {command}")


def check_units(paths: Sequence[Path]) -> None:
    """Raises InputError if some images of a folder have pixels of degrees and others of metres.

    Up to 64 of them are looked at. Zones of one projection may differ: their pixels are alike.
    """
    found: dict[bool, tuple[Path, Any]] = {}
    for path in evenly_spaced(paths, _MAX_FILES):
        place = _place(path)
        if place is not None:
            found.setdefault(bool(place[0].is_geographic), (path, place[0]))
    if len(found) == 2:
        (degrees, degrees_crs), (metres, metres_crs) = found[True], found[False]
        raise InputError(
            f"{degrees} has pixels of degrees ({crs_name(degrees_crs)}) and {metres} of metres "
            f"({crs_name(metres_crs)}); reproject one kind: {warp_command(degrees, metres_crs, None)}"
        )
