"""Where images lie on the earth, and whether in the same place or with pixels of one kind; nothing is reprojected."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.images.file_list import evenly_spaced
from cyclegan.images.filetypes.geo import GEO_SUFFIXES, open_dataset
from cyclegan.images.filetypes.vrt import Grid, crs_name, grid_of, warp_command
from cyclegan.images.pages import local_file

# Files of a folder whose coordinate systems are read.
_MAX_FILES = 64

# Metres of a degree of latitude, roughly.
_METRES_OF_DEGREE = 111_320.0

# Pairs may lie apart by this part of a pixel.
_MAX_SHIFT = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies on the earth, and what its bands are called.

    system: its coordinate system, such as EPSG:32632. pixel: the sides of a pixel, such as `10 metre`, empty for an
    image that is placed by points on the ground. metres: the mean side, roughly, or 0. in_degrees: whether the system
    counts in degrees. bands: their names, or empty.
    """

    system: str
    pixel: str
    metres: float
    in_degrees: bool
    bands: str


def find_place(path: Path) -> Place | None:
    """The place of an image and the names of its bands; None for a file without either, or without rasterio."""
    with _opened(path) as dataset:
        if dataset is None:
            return None
        grid = grid_of(dataset)
        names = [name or str(number) for number, name in enumerate(dataset.descriptions, 1)]
        bands = ", ".join(names) if any(dataset.descriptions) else ""
        crs = grid.crs or grid.gcps_crs
        if crs is None:
            return Place("no system", "", 0, False, bands) if bands or not grid.transform.is_identity else None
        unit, factor = crs.units_factor
        if grid.crs is None or grid.transform.is_identity:
            return Place(crs_name(crs), "", 0, crs.is_geographic, bands)
        transform = grid.transform
        across, down = math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)
        is_square = math.isclose(across, down, rel_tol=1e-4)
        pixel = f"{across:.6g} {unit}" if is_square else f"{across:.6g} x {down:.6g} {unit}"
        metres = grid.pixel * (_METRES_OF_DEGREE if crs.is_geographic else factor)
        return Place(crs_name(crs), pixel, metres, crs.is_geographic, bands)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A dataset; None for a file of another kind or that cannot be opened, or without rasterio."""
    with ExitStack() as stack:
        dataset = None
        if path.suffix.lower() in GEO_SUFFIXES and find_spec("rasterio") is not None:
            with suppress(Exception):  # reading the file reports its damage
                file, page = stack.enter_context(local_file(path))
                dataset = stack.enter_context(open_dataset(file)) if page is None else None
        yield dataset


def _place(path: Path) -> tuple[Any, Grid] | None:
    """Coordinate system and grid of a file; None for one without, or without rasterio."""
    with _opened(path) as dataset:
        grid = None if dataset is None else grid_of(dataset)
    return None if grid is None or not grid.crs else (grid.crs, grid)


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
