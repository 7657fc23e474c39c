"""Georeferenced images that GDAL reads through rasterio: VRTs, .img and .hgt, whole or by region."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.filetypes.sample_reader import SampleReader
from cyclegan.images.filetypes.tiff_tags import GDAL_METADATA, PLACE_TAGS, may_be_alpha
from cyclegan.images.formats import Header, ImageFormat
from cyclegan.images.holes import find_numbers
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Mask, Metadata, Raster, Tag
from cyclegan.images.regions import Box

# Files that may have a place on the earth.
GEO_SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".hgt", ".vrt")

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
def open_dataset(path: Path | str, mode: str = "r", **options: Any) -> Iterator[Any]:
    """An open dataset of rasterio. options: settings of GDAL. Raises ImportError if rasterio is missing."""
    with _environment(**options):
        dataset = _open(path, mode)
        with dataset:
            yield dataset


def _environment(**options: Any) -> Any:
    import rasterio

    return rasterio.Env(**_OPTIONS, **options)


def _open(path: Path | str, mode: str = "r") -> Any:
    import rasterio

    with _without_warning():
        return rasterio.open(path, mode)


@contextmanager
def _without_warning() -> Iterator[None]:
    """Open datasets without rasterio's warning that a picture has no place on the earth."""
    from rasterio.errors import NotGeoreferencedWarning

    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def read(path: Path) -> Raster:
    """All bands of a file in their own type, with its mask and its place on the earth."""
    with open_dataset(path) as dataset:
        bands = _Bands.of(dataset)
        check_pixels(dataset.height, dataset.width, bands.num_channels * np.dtype(dataset.dtypes[0]).itemsize)
        return _read(dataset, bands, metadata_of(dataset), None)


def probe(path: Path) -> Header:
    """The header, without decoding."""
    with open_dataset(path) as dataset:
        bands = _Bands.of(dataset)
        channels: int | None = bands.num_channels
        if dataset.dtypes[0] == "uint8" and bands.num_channels - bands.has_alpha in (1, 3):
            channels = None  # a picture
        return Header(
            dataset.height, dataset.width, dataset.dtypes[0], channels, channels is not None and bands.has_alpha
        )


def size(path: str) -> tuple[int, int]:
    """Height and width in pixels."""
    with open_dataset(Path(path)) as dataset:
        return dataset.height, dataset.width


def also_reads(path: Path) -> list[Path]:
    """The files on disk that a dataset consists of, without itself; none for one in a zip, which is alone there."""
    if not path.is_file():
        return []
    with open_dataset(path) as dataset:
        others = [Path(name) for name in dataset.files]
    return [other for other in others if other.is_file() and not other.samefile(path)]


@dataclass(frozen=True)
class _Bands:
    """How the bands of a dataset become channels. order: band numbers; has_alpha: the last one is transparency.

    has_colours: the first three are red, green and blue. palette: the colours of a dataset of one band, (256, 3), or
    None.
    """

    order: list[int]
    has_alpha: bool
    has_colours: bool
    palette: Array | None

    @classmethod
    def of(cls, dataset: Any) -> "_Bands":
        from rasterio.enums import ColorInterp

        interp, numbers = dataset.colorinterp, list(range(1, dataset.count + 1))
        names = [name or "" for name in dataset.descriptions]
        alpha = [number for number in numbers if interp[number - 1] == ColorInterp.alpha][:1]
        alpha = [number for number in alpha if may_be_alpha(names[number - 1])]
        order = [number for number in numbers if number not in alpha] + alpha
        palette = None
        if order == [1] and interp[0] == ColorInterp.palette and dataset.dtypes[0] == "uint8":
            palette = np.zeros((256, 3), np.uint8)
            for index, colour in dataset.colormap(1).items():
                palette[index] = colour[:3]
        # Three bytes are colours also where nobody says so, as when GDAL writes a TIFF.
        colours = len(order) - len(alpha)
        has_colours = palette is not None or (colours == 3 and dataset.dtypes[0] == "uint8")
        has_colours = has_colours or list(interp[:3]) == [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        return cls(order, bool(alpha) and len(order) > 1, has_colours, palette)

    @property
    def num_channels(self) -> int:
        return len(self.order) if self.palette is None else 3

    @property
    def extra_samples(self) -> tuple[int, ...] | None:
        """As `Metadata.extra_samples`."""
        colours = self.num_channels - self.has_alpha
        extra = (*(0,) * (colours - (3 if self.has_colours else 1)), *((2,) if self.has_alpha else ()))
        return extra or None


def _read(dataset: Any, bands: _Bands, metadata: Metadata, box: Box | None) -> Raster:
    """A box of a dataset, or all of it."""
    window = None if box is None else ((box.top, box.bottom), (box.left, box.right))
    values = np.ascontiguousarray(np.moveaxis(dataset.read(bands.order, window=window), 0, -1))
    valid = _read_mask(dataset, bands, window)
    if bands.palette is not None:
        if valid is None and metadata.nodata is not None:
            valid = find_numbers(values, metadata.nodata)
        values = bands.palette[values[..., 0]]
    return Raster(values, None, valid, metadata)


def _read_mask(dataset: Any, bands: _Bands, window: Any) -> Mask | None:
    """The mask of a dataset, or those of its bands; holes by a number or by alpha are found as in every format."""
    kind = _kind_of_mask(dataset)
    if kind is None:
        return None
    if kind == "dataset":
        return np.asarray(dataset.read_masks(1, window=window) > 0)
    mask: Mask = np.moveaxis(dataset.read_masks(bands.order, window=window) > 0, 0, -1)
    return mask


def _kind_of_mask(dataset: Any) -> Literal["dataset", "bands"] | None:
    from rasterio.enums import MaskFlags

    # A dataset without a mask has those of numbers or of alpha.
    ordinary = (MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha)
    flags = [set(each) for each in dataset.mask_flag_enums]
    if MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]:
        return "dataset"
    return "bands" if any(each.isdisjoint(ordinary) for each in flags) else None


def metadata_of(dataset: Any) -> Metadata:
    """The place of a dataset on the earth and what its bands are, as TIFF tags, and its number for holes."""
    tags, bands = dataset.tags(), _Bands.of(dataset)
    marks = tuple(dataset.nodatavals[number - 1] for number in bands.order)
    colours = marks[: len(marks) - bands.has_alpha]
    names = [dataset.descriptions[number - 1] for number in bands.order]
    return Metadata(
        resolution=_resolution(tags),
        description=tags.get("TIFFTAG_IMAGEDESCRIPTION"),
        tags=_tags_of(dataset, bands.order),
        nodata=next((mark for mark in marks if mark is not None), None),
        band_nodata=() if len({str(mark) for mark in colours}) == 1 else marks,
        extra_samples=bands.extra_samples,
        band_names=tuple(name or "" for name in names) if any(names) else (),
    )


def _resolution(tags: dict[str, str]) -> tuple[float, float] | None:
    try:
        across, down = float(tags["TIFFTAG_XRESOLUTION"]), float(tags["TIFFTAG_YRESOLUTION"])
    except (KeyError, ValueError):
        return None
    unit = tags.get("TIFFTAG_RESOLUTIONUNIT", "2")[:1]  # 2: inch, 3: centimetre
    factor = {"2": 1.0, "3": 2.54}.get(unit)
    return None if factor is None else (across * factor, down * factor)


def _tags_of(dataset: Any, order: list[int]) -> tuple[Tag, ...]:
    """The tags of a GeoTIFF in the place of this dataset; GDAL itself writes them into a file of one pixel."""
    import tifffile
    from rasterio.io import MemoryFile

    gcps, gcps_crs = dataset.gcps
    place = {"gcps": gcps, "crs": gcps_crs} if gcps else {"transform": dataset.transform, "crs": dataset.crs}
    if not gcps and dataset.transform.is_identity:  # rasterio's word for none
        del place["transform"]
    with MemoryFile() as memory:
        with _without_warning():
            twin = memory.open(driver="GTiff", width=1, height=1, count=len(order), dtype="uint8", **place)
        with twin:
            own = {name: text for name, text in dataset.tags().items() if not name.startswith("TIFFTAG_")}
            twin.update_tags(**own)
            if dataset.rpcs is not None:
                twin.rpcs = dataset.rpcs
            twin.descriptions = [dataset.descriptions[number - 1] for number in order]
        content = memory.read()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages[0]
        found = [tag for tag in page.tags.values() if tag.code in (*PLACE_TAGS, GDAL_METADATA)]
        return tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found)


class GeoReader(SampleReader):
    """A file by region, (h, w, C), through rasterio."""

    def __init__(self, path: Path, image_format: ImageFormat, dataset: Any) -> None:
        super().__init__(path, image_format, dataset.height, dataset.width, dataset.dtypes[0], metadata_of(dataset))
        self._dataset, self._bands = dataset, _Bands.of(dataset)

    @classmethod
    def open(cls, path: Path, image_format: ImageFormat) -> "GeoReader | None":
        """None for a file whose type or channels are not those of the format, which reading it as a whole reports.

        Raises UnreadableError for a damaged file, ImportError without rasterio.
        """
        try:
            with _environment():
                dataset = _open(path)
                reader = cls(path, image_format, dataset)
        except ImportError:
            raise
        except Exception as error:
            raise UnreadableError(f"{path} cannot be read: {error}") from error
        if dataset.dtypes[0] == image_format.dtype and reader.fits_format(reader._bands.num_channels):
            return reader
        reader.close()
        return None

    @property
    def has_mask(self) -> bool:
        return _kind_of_mask(self._dataset) is not None

    def samples(self, box: Box) -> Raster:
        try:
            with _environment():
                return _read(self._dataset, self._bands, self._described, box)
        except Exception as error:
            raise UnreadableError(f"{self._path} is damaged: {error}") from error

    def close(self) -> None:
        self._dataset.close()
