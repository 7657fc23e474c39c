"""Georeferenced images that GDAL reads through rasterio: VRTs, .img and .hgt, whole or by region."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.raster import Mask, Metadata, Raster, Tag
from cyclegan.images.regions import Box

# ModelPixelScale, ModelTiepoint, ModelTransformation, the GeoKeys, the coefficients of an RPC, and GDAL's own metadata.
PLACE_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
GDAL_METADATA = 42112

# Megabytes of blocks that GDAL keeps. A VRT cannot run code, whatever the file asks for.
_OPTIONS = {"GDAL_CACHEMAX": 256, "GDAL_VRT_ENABLE_PYTHON": "NO"}

# Python's filters of warnings are those of all threads.
_WARNINGS = Lock()


def import_rasterio() -> Any:
    """Raises InputError with the install line if rasterio is missing."""
    try:
        import rasterio
    except ImportError:
        raise InputError("This needs the package rasterio: pip install 'cyclegan[geo]'.") from None
    return rasterio


@contextmanager
def open_dataset(path: Path, mode: str = "r") -> Iterator[Any]:
    """An open dataset of rasterio. Raises ImportError if rasterio is missing."""
    with _environment():
        dataset = _open(path, mode)
        with dataset:
            yield dataset


def _environment() -> Any:
    import rasterio

    return rasterio.Env(**_OPTIONS)


def _open(path: Path, mode: str = "r") -> Any:
    """Open without rasterio's warning that a picture has no place on the earth."""
    import rasterio

    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, mode)


def read(path: Path) -> Raster:
    """All bands of a file in their own type, with its holes and its place on the earth."""
    with open_dataset(path) as dataset:
        return _read(dataset, None)


def probe(path: Path) -> Any:
    """The header; see `cyclegan.images.formats.Header`."""
    from cyclegan.images.formats import Header

    with open_dataset(path) as dataset:
        bands = _Bands(dataset)
        has_alpha = bands.alpha is not None
        return Header(dataset.height, dataset.width, dataset.dtypes[0], bands.num_channels + has_alpha, has_alpha)


def size(path: str) -> tuple[int, int]:
    """Height and width in pixels."""
    with open_dataset(Path(path)) as dataset:
        return dataset.height, dataset.width


class _Bands:
    """Which bands of a dataset are values, which one is transparency, and which colours a palette has."""

    def __init__(self, dataset: Any) -> None:
        from rasterio.enums import ColorInterp

        interp = dataset.colorinterp
        is_alpha = [kind == ColorInterp.alpha for kind in interp]
        self.alpha = is_alpha.index(True) + 1 if any(is_alpha) and dataset.count > 1 else None
        self.values = [number for number in range(1, dataset.count + 1) if number != self.alpha]
        self.palette: Array | None = None
        if len(self.values) == 1 and interp[0] == ColorInterp.palette and dataset.dtypes[0] == "uint8":
            table = np.zeros((256, 3), np.uint8)
            for index, colour in dataset.colormap(1).items():
                table[index] = colour[:3]
            self.palette = table

    @property
    def num_channels(self) -> int:
        return len(self.values) if self.palette is None else 3


def _read(dataset: Any, box: Box | None, metadata: Metadata | None = None) -> Raster:
    """A box of a dataset, or all of it."""
    window = None if box is None else ((box.top, box.bottom), (box.left, box.right))
    bands = _Bands(dataset)
    values = np.ascontiguousarray(np.moveaxis(dataset.read(bands.values, window=window), 0, -1))
    if bands.palette is not None:
        values = bands.palette[values[..., 0]]
    alpha = None if bands.alpha is None else dataset.read(bands.alpha, window=window)
    return Raster(values, alpha, _mask(dataset, window), metadata_of(dataset) if metadata is None else metadata)


def _mask(dataset: Any, window: Any) -> Mask | None:
    """The mask band of a dataset; None if it has none. Holes by number and by alpha are found by the caller."""
    from rasterio.enums import MaskFlags

    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset not in flags or MaskFlags.alpha in flags:
        return None
    valid: Mask = dataset.read_masks(1, window=window) > 0
    return valid


def metadata_of(dataset: Any) -> Metadata:
    """The place of a dataset on the earth and what its bands are, as TIFF tags, and its number for holes."""
    tags = dataset.tags()
    numbers = [number for number in dataset.nodatavals if number is not None]
    return Metadata(
        resolution=_resolution(tags),
        description=tags.get("TIFFTAG_IMAGEDESCRIPTION"),
        tags=_tags_of(dataset),
        nodata=numbers[0] if numbers else None,
    )


def _resolution(tags: dict[str, str]) -> tuple[float, float] | None:
    try:
        across, down = float(tags["TIFFTAG_XRESOLUTION"]), float(tags["TIFFTAG_YRESOLUTION"])
    except (KeyError, ValueError):
        return None
    unit = tags.get("TIFFTAG_RESOLUTIONUNIT", "2")[:1]  # 2: inch, 3: centimetre
    factor = {"2": 1.0, "3": 2.54}.get(unit)
    return None if factor is None else (across * factor, down * factor)


def _tags_of(dataset: Any) -> tuple[Tag, ...]:
    """The tags of a GeoTIFF in the place of this dataset; GDAL itself writes them into a file of one pixel."""
    import tifffile
    from rasterio.io import MemoryFile

    gcps, gcps_crs = dataset.gcps
    place = {"gcps": gcps, "crs": gcps_crs} if gcps else {"transform": dataset.transform, "crs": dataset.crs}
    count = len(_Bands(dataset).values)
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=1, height=1, count=count, dtype="uint8", **place) as twin:
            own = {name: text for name, text in dataset.tags().items() if not name.startswith("TIFFTAG_")}
            twin.update_tags(**own)
            if dataset.rpcs is not None:
                twin.rpcs = dataset.rpcs
            twin.descriptions = [dataset.descriptions[number - 1] for number in _Bands(dataset).values]
        content = memory.read()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        found = [tag for tag in file.pages[0].tags.values() if tag.code in (*PLACE_TAGS, GDAL_METADATA)]
        return tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found)


class GeoReader:
    """A file by region, (h, w, C), through rasterio."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self._path, self._dataset = path, dataset
        self.height, self.width = int(dataset.height), int(dataset.width)
        self.metadata = metadata_of(dataset)

    @classmethod
    def open(cls, path: Path) -> "GeoReader":
        """Raises UnreadableError for a damaged file, InputError without rasterio."""
        import_rasterio()
        try:
            with _environment():
                return cls(path, _open(path))
        except Exception as error:
            raise UnreadableError(f"{path} cannot be read: {error}") from error

    def read_raster(self, box: Box) -> Raster:
        """All bands of a box inside the image, holes unfilled. Raises UnreadableError if the file is damaged."""
        try:
            with _environment():
                return _read(self._dataset, box, self.metadata)
        except Exception as error:
            raise UnreadableError(f"{self._path} is damaged: {error}") from error

    def close(self) -> None:
        self._dataset.close()
