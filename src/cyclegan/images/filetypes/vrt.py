"""Write one VRT of a scene whose bands are single files, or of several scenes beside each other; no pixel is copied."""

import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from cyclegan.errors import InputError
from cyclegan.images.file_list import list_files
from cyclegan.images.filetypes.geo import GEO_SUFFIXES, import_rasterio, open_dataset
from cyclegan.system.atomic import write_bytes
from cyclegan.system.words import counted

# Folders of Sentinel-2 whose files are masks and previews, not bands.
_NOT_BANDS = {"QI_DATA", "AUX_DATA"}

# numpy type -> type of GDAL.
_TYPES = {
    **{"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32"},
    **{"float32": "Float32", "float64": "Float64"},
}

# Names in a message.
_MAX_NAMED = 12

# Grids that differ by less than this share of a pixel are the same.
_SAME = 1e-3

_Element: TypeAlias = ElementTree.Element


@dataclass(frozen=True)
class Grid:
    """Where a file's pixels lie. crs and transform as rasterio has them; gcps: points with x, y, z, row and col."""

    crs: Any
    transform: Any
    height: int
    width: int
    gcps: tuple[Any, ...] = ()
    gcps_crs: Any = None

    @property
    def is_upright(self) -> bool:
        return bool(self.transform.b == 0 and self.transform.d == 0)

    @property
    def pixel(self) -> float:
        """The side of a pixel, of one that is not square the mean."""
        return math.sqrt(abs(self.transform.determinant))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, bottom, right, top."""
        (left, top), (right, bottom) = self.transform * (0, 0), self.transform * (self.width, self.height)
        return left, bottom, right, top

    def offset(self, other: "Grid") -> tuple[float, float]:
        """Column and row of another grid's first pixel."""
        column, row = ~self.transform * (other.transform * (0, 0))
        return column, row

    def corner_of(self, other: "Grid") -> tuple[int, int]:
        """Column and row of another grid's first pixel, rounded."""
        column, row = self.offset(other)
        return round(column), round(row)

    def has_pixels_of(self, other: "Grid") -> bool:
        """Whether the pixels of both coincide where they overlap."""
        mine, theirs = tuple(self.transform)[:6], tuple(other.transform)[:6]
        size = max(map(abs, mine[:2] + mine[3:5]))
        extent = max(self.height, self.width, other.height, other.width)
        same = all(abs(mine[i] - theirs[i]) * extent <= _SAME * size for i in (0, 1, 3, 4))
        return same and all(abs(value - round(value)) <= _SAME for value in self.offset(other))

    def coincides(self, other: "Grid") -> bool:
        """Whether both cover the same pixels."""
        shapes = (self.height, self.width) == (other.height, other.width)
        return shapes and self.has_pixels_of(other) and max(map(abs, self.offset(other))) <= _SAME


@dataclass(frozen=True)
class _Band:
    """One band of a file. name: its description, empty if it has none. has_mask: it has holes of its own.

    colours: red, green, blue, alpha of each number of a palette; empty for other bands.
    """

    path: Path
    number: int
    count: int
    name: str
    dtype: str
    nodata: float | None
    has_mask: bool
    grid: Grid
    colours: tuple[tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        return str(self.path) if self.count == 1 else f"{self.path} band {self.number}"

    def is_named(self, name: str) -> bool:
        """Whether this is the band B04: by its description, or as a part of the name of a file of one band.

        B4 and B04 are the same band, and B04_10m is one of T32TQM_20200101_B04_10m.jp2.
        """
        if self.name.casefold() == name.casefold():
            return True
        if self.count > 1:
            return False
        return f"_{_parts(name)}_" in f"_{_parts(self.path.stem)}_" or self.path.name.casefold() == name.casefold()


def _parts(name: str) -> str:
    """A name in lower case, its parts joined by _, without zeros before numbers."""
    return re.sub(r"(?<=[^\d])0+(?=\d)", "", re.sub(r"[^0-9a-z]+", "_", name.casefold()))


@dataclass(frozen=True)
class StackedImage:
    """The result of `write_vrt`. bands: their names. num_files: files that they come from. notes: what was chosen."""

    path: Path
    height: int
    width: int
    bands: tuple[str, ...]
    num_files: int
    notes: tuple[str, ...] = ()


def write_vrt(
    inputs: Sequence[Path], out: Path, *, bands: Sequence[str] | None = None, nodata: float | None = None
) -> StackedImage:
    """Write a VRT, one image of many files, that GDAL, QGIS and this program read.

    inputs: files, or folders in which georeferenced files are looked for: a scene whose bands are single files
    (Sentinel-2, Landsat), or scenes beside each other. out: a name that ends in .vrt; it refers to the files by
    relative paths.
    bands: names of bands in their order: the descriptions in the files, or a part of the name of a file with one band,
    such as B04. Of several resolutions the finest is taken. Default: all bands, in natural order of the file names.
    nodata: the number that marks holes; default: that of the files.
    Raises InputError if a band is missing or ambiguous, or if the files differ in coordinate system, pixel grid or
    type; the message has the command that converts them. Needs rasterio.
    """
    if out.suffix.lower() != ".vrt":
        raise InputError(f"--out is {out}; expected a name that ends in .vrt.")
    import_rasterio()
    files = _find_files(inputs, out)
    found = [band for path in files for band in _bands_of(path, is_given=path in inputs)]
    if not found:
        raise InputError(f"{inputs[0]} holds no georeferenced images; expected files of type {' '.join(GEO_SUFFIXES)}.")
    notes: list[str] = []
    if bands:
        groups = [(name, _choose(name, found, notes)) for name in bands]
    else:
        groups = _all_bands(found)
    chosen = [band for _, group in groups for band in group]
    _check(chosen)
    full = _union([band.grid for band in chosen])
    _check_places(groups, full)
    write_bytes(out, _to_xml(groups, full, out, nodata))
    names = tuple(name for name, _ in groups)
    return StackedImage(out, full.height, full.width, names, len({band.path for band in chosen}), tuple(notes))


def _find_files(inputs: Sequence[Path], out: Path) -> list[Path]:
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            names = [Path(name) for name in list_files(path, GEO_SUFFIXES).names()]
            files += [path / name for name in names if _NOT_BANDS.isdisjoint(name.parts)]
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"There is no file or folder {path}.")
    files = [path for path in files if not (out.exists() and path.samefile(out))]
    return sorted(files, key=lambda path: inputs.index(path) if path in inputs else -1)


def _bands_of(path: Path, *, is_given: bool) -> list[_Band]:
    """The bands of a file; none of one that cannot be read, unless it was given by name."""
    import rasterio
    from rasterio.enums import MaskFlags

    try:
        with open_dataset(path) as file:
            grid = grid_of(file)
            return [
                _Band(
                    path,
                    index + 1,
                    file.count,
                    file.descriptions[index] or "",
                    file.dtypes[index],
                    file.nodatavals[index],
                    MaskFlags.all_valid not in file.mask_flag_enums[index],
                    grid,
                    _colours_of(file, index + 1),
                )
                for index in range(file.count)
            ]
    except rasterio.errors.RasterioError as error:
        if is_given:
            raise InputError(f"{path} cannot be read: {error}") from None
        return []


def grid_of(dataset: Any) -> Grid:
    """Where the pixels of a dataset of rasterio lie."""
    gcps, gcps_crs = dataset.gcps
    return Grid(dataset.crs, dataset.transform, dataset.height, dataset.width, tuple(gcps), gcps_crs)


def _choose(name: str, found: Sequence[_Band], notes: list[str]) -> list[_Band]:
    """The files of one band: one, or several that lie beside each other."""
    named = [band for band in found if band.is_named(name)]
    if not named:
        known = sorted({band.name or band.path.name for band in found})
        more = f" and {len(known) - _MAX_NAMED} more" if len(known) > _MAX_NAMED else ""
        raise InputError(f"There is no band {name}; the files are {', '.join(known[:_MAX_NAMED])}{more}.")
    finest = min(band.grid.pixel for band in named)
    chosen = [band for band in named if band.grid.pixel <= finest * (1 + _SAME)]
    if len(chosen) < len(named):
        notes.append(f"{name}: of several resolutions the finest is taken, {chosen[0]}.")
    for index, band in enumerate(chosen):
        for other in chosen[:index]:
            if band.grid.crs == other.grid.crs and band.grid.coincides(other.grid):
                raise InputError(
                    f"{name} is ambiguous: {other} and {band} lie in the same place; give the files themselves, the "
                    "folder of one scene, or more of the name."
                )
    return chosen


def _all_bands(found: Sequence[_Band]) -> list[tuple[str, list[_Band]]]:
    """All bands of files that lie in the same place; or of files beside each other, which have the same bands."""
    first = found[0]
    if all(band.grid.crs == first.grid.crs and band.grid.coincides(first.grid) for band in found):
        return [(band.name or (band.path.stem if band.count == 1 else ""), [band]) for band in found]
    for band in found:
        if band.count != first.count:
            raise InputError(
                f"{first.path} has {counted(first.count, 'band')} and {band.path} {band.count}; name them with --bands."
            )
    return [(found[index].name, [band for band in found if band.number == index + 1]) for index in range(first.count)]


def _check(bands: Sequence[_Band]) -> None:
    """Raises InputError if bands differ in what a VRT does not convert."""
    first = bands[0]
    finest = min(bands, key=lambda band: band.grid.pixel)
    if first.dtype not in _TYPES:
        raise InputError(f"{first} is of type {first.dtype}; expected one of {', '.join(_TYPES)}.")
    for band in bands[1:]:
        if band.grid.crs != first.grid.crs:
            raise InputError(
                f"{band} lies in {crs_name(band.grid.crs)} and {first} in {crs_name(first.grid.crs)}; reproject it: "
                f"{warp_command(band.path, first.grid.crs, None)}"
            )
        if band.dtype != first.dtype:
            raise InputError(
                f"{band} is {band.dtype} and {first} is {first.dtype}; convert it: gdal_translate -ot "
                f"{_TYPES[first.dtype]} {shlex.quote(str(band.path))} {_new_name(band.path, first.dtype)}"
            )
    for band in bands:
        if not band.grid.has_pixels_of(finest.grid):
            has_size = max(abs(band.grid.pixel / finest.grid.pixel - 1) * band.grid.width, 0) > _SAME
            what = (
                f"has pixels of {band.grid.pixel:g} and {finest} of {finest.grid.pixel:g}"
                if has_size
                else f"lies between the pixels of {finest}"
            )
            command = warp_command(band.path, finest.grid.crs, finest.grid)
            raise InputError(f"{band} {what}; bring it to the same grid: {command}")
        if not band.grid.is_upright and not band.grid.coincides(first.grid):
            raise InputError(
                f"{band} is rotated and lies beside {first}; bring both to north first: "
                f"{warp_command(band.path, first.grid.crs, None)}"
            )


def _check_places(groups: Sequence[tuple[str, list[_Band]]], full: Grid) -> None:
    """Raises InputError if one band has files in other places than the others."""
    places = [
        {(*full.corner_of(band.grid), band.grid.height, band.grid.width): band for band in group} for _, group in groups
    ]
    for index, mine in enumerate(places):
        for other, theirs in enumerate(places):
            missing = sorted(theirs.keys() - mine.keys())
            if missing:
                raise InputError(f"{groups[index][0]} is missing where {groups[other][0]} has {theirs[missing[0]]}.")


def crs_name(crs: Any) -> str:
    """A coordinate system as a short text, such as EPSG:32632."""
    if not crs:
        return "no coordinate system"
    code = crs.to_authority()
    return ":".join(code) if code else "a coordinate system of its own"


def warp_command(path: Path, crs: Any, grid: Grid | None) -> str:
    """The command of GDAL that brings a file to another coordinate system, and to the pixels of a grid."""
    system = ":".join(crs.to_authority() or ()) if crs else ""
    words = ["gdalwarp", "-r", "bilinear"]
    words += ["-t_srs", system or (crs.to_wkt() if crs else "EPSG:CODE")]
    if grid is not None:
        sides = abs(grid.transform.a), abs(grid.transform.e)
        left, bottom, right, top = grid.bounds
        words += ["-tr", *(f"{side:.12g}" for side in sides)]
        words += ["-te", *(f"{side:.12g}" for side in (left, bottom, right, top))]
    return shlex.join([*words, str(path), _new_name(path, "warped")])


def _new_name(path: Path, ending: str) -> str:
    return shlex.quote(f"{path.stem}_{ending}.tif")


def _union(grids: Sequence[Grid]) -> Grid:
    """The grid that covers all of these, which have the same pixels."""
    first = grids[0]
    corners = [(first.corner_of(grid), grid) for grid in grids]
    left, top = min(column for (column, _), _ in corners), min(row for (_, row), _ in corners)
    right = max(column + grid.width for (column, _), grid in corners)
    bottom = max(row + grid.height for (_, row), grid in corners)
    if (left, top, right, bottom) == (0, 0, first.width, first.height):
        return first
    from rasterio.transform import Affine

    transform = first.transform * Affine.translation(left, top)
    return Grid(first.crs, transform, bottom - top, right - left)


def _colours_of(dataset: Any, number: int) -> tuple[tuple[int, ...], ...]:
    from rasterio.enums import ColorInterp

    if dataset.colorinterp[number - 1] != ColorInterp.palette:
        return ()
    return tuple(colour for _, colour in sorted(dataset.colormap(number).items()))


def _add_colours(element: _Element, group: Sequence[_Band]) -> None:
    """The palette of a band. Raises InputError if the files have several, so that a number is no one colour."""
    colours = group[0].colours
    if (other := next((band for band in group if band.colours != colours), None)) is not None:
        raise InputError(
            f"{group[0]} and {other} have different palettes; convert them to colours (gdal_translate -expand rgb)."
        )
    if colours:
        ElementTree.SubElement(element, "ColorInterp").text = "Palette"
        table = ElementTree.SubElement(element, "ColorTable")
        for colour in colours:
            entry = {f"c{index}": str(part) for index, part in enumerate(colour, 1)}
            ElementTree.SubElement(table, "Entry", entry)


def _to_xml(groups: Sequence[tuple[str, list[_Band]]], full: Grid, out: Path, nodata: float | None) -> bytes:
    """The text of the VRT, as https://gdal.org/en/stable/drivers/raster/vrt.html describes it."""
    root = ElementTree.Element("VRTDataset", rasterXSize=str(full.width), rasterYSize=str(full.height))
    if full.crs:
        ElementTree.SubElement(root, "SRS").text = full.crs.to_wkt()
    if full.gcps:
        points = ElementTree.SubElement(root, "GCPList", Projection=full.gcps_crs.to_wkt() if full.gcps_crs else "")
        for number, gcp in enumerate(full.gcps):
            place = {"Pixel": gcp.col, "Line": gcp.row, "X": gcp.x, "Y": gcp.y, "Z": gcp.z or 0.0}
            about = {"Id": str(number)} | {key: repr(float(at)) for key, at in place.items()}
            ElementTree.SubElement(points, "GCP", about)
    else:
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(map(repr, full.transform.to_gdal()))

    is_masked = [_mark_of(group, nodata) is None and _needs_mask(group, full) for _, group in groups]
    is_one_mask = all(is_masked) and len({_masks_of(group) for _, group in groups}) == 1
    for number, (name, group) in enumerate(groups, 1):
        element = ElementTree.SubElement(root, "VRTRasterBand", dataType=_TYPES[group[0].dtype], band=str(number))
        if name:
            ElementTree.SubElement(element, "Description").text = name
        if (mark := _mark_of(group, nodata)) is not None:
            ElementTree.SubElement(element, "NoDataValue").text = mark
        _add_colours(element, group)
        for band in group:
            _add_source(element, band, str(band.number), full, out)
        if is_masked[number - 1] and not is_one_mask:
            _add_mask(element, group, full, out)
    if is_one_mask:
        _add_mask(root, groups[0][1], full, out)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8"))


def _mark_of(group: Sequence[_Band], nodata: float | None) -> str | None:
    """The number that marks holes in all files of a band, as text, since NaN differs from NaN; None without one."""
    marks = {str(band.nodata if nodata is None else nodata) for band in group}
    return None if len(marks) > 1 or marks == {"None"} else marks.pop()


def _needs_mask(group: Sequence[_Band], full: Grid) -> bool:
    """Whether a mask must say what no file covers, or what the files' own masks leave out."""
    return any(band.has_mask or not band.grid.coincides(full) for band in group)


def _masks_of(group: Sequence[_Band]) -> frozenset[object]:
    """What tells the masks of bands apart: the files of those that have one, and the places of the others."""
    return frozenset(band.path if band.has_mask else (*band.grid.bounds, band.grid.height) for band in group)


def _add_mask(parent: _Element, group: Sequence[_Band], full: Grid, out: Path) -> None:
    mask = ElementTree.SubElement(parent, "MaskBand")
    element = ElementTree.SubElement(mask, "VRTRasterBand", dataType="Byte")
    for band in group:
        _add_source(element, band, f"mask,{band.number}", full, out)


def _add_source(element: _Element, band: _Band, number: str, full: Grid, out: Path) -> None:
    source = ElementTree.SubElement(element, "SimpleSource")
    relative = os.path.relpath(band.path.resolve(), out.parent.resolve())
    name = ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1")
    name.text = Path(relative).as_posix()
    ElementTree.SubElement(source, "SourceBand").text = number
    height, width = band.grid.height, band.grid.width
    column, row = full.corner_of(band.grid)
    ElementTree.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=str(width), ySize=str(height))
    ElementTree.SubElement(source, "DstRect", xOff=str(column), yOff=str(row), xSize=str(width), ySize=str(height))
