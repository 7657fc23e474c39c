"""What an image holds (`ImageFormat`, `Header`), and how a kind of file is read and written (`FileFormat`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from cyclegan.config import MAX_CHANNELS, Axis, Reading, check_range
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.raster import Raster
from cyclegan.images.regions import RegionReader, TiledWriter
from cyclegan.system.words import counted

# Channels of 8-bit images that Pillow holds: grey, RGB and RGBA.
PICTURE_CHANNELS = (1, 3, 4)


# The numpy types of images.
ImageType: TypeAlias = Literal[
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"
]


class ImageFormat(Reading):
    """Type, channels and value range of a domain's images, and how their files are read."""

    channels: int = Field(3, ge=1, le=MAX_CHANNELS)
    dtype: ImageType = Field("uint8", description="numpy type of the file's values")
    low: float = Field(0.0, description="value that becomes -1")
    high: float = Field(255.0, description="value that becomes 1")
    alpha: bool | None = Field(None, description="whether the last channel is transparency; by default of 4 x uint8")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_range("the range of values", self.low, self.high)
        return self

    def __str__(self) -> str:
        return f"{self.channels} x {self.dtype} in [{self.low:g}, {self.high:g}]"

    @property
    def is_picture(self) -> bool:
        """Whether Pillow can hold such an image: 8-bit grey, RGB or RGBA."""
        return self.dtype == "uint8" and self.channels in PICTURE_CHANNELS

    @property
    def last_is_alpha(self) -> bool:
        """Whether the last channel is transparency, which the networks see and write."""
        return (self.dtype == "uint8" and self.channels == 4) if self.alpha is None else self.alpha

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one decoded pixel."""
        return int(self.channels * np.dtype(self.dtype).itemsize)


class Header(NamedTuple):
    """Height and width in pixels (upright), numpy type and channels of a file.

    channels: samples of a pixel, alpha included; None for an 8-bit picture, which can be converted to 1, 3 or 4
    channels. has_alpha: whether the last of these channels is transparency, which a model need not take.
    """

    height: int
    width: int
    dtype: str
    channels: int | None
    has_alpha: bool = False

    @classmethod
    def of_array(cls, array: NDArray[np.generic]) -> "Header":
        """The header of an array (H, W) or (H, W, C)."""
        channels = 1 if array.ndim == 2 else array.shape[2]
        return cls(array.shape[0], array.shape[1], array.dtype.newbyteorder("=").name, channels)


def gives_channels(channels: int | None, has_alpha: bool, wanted: int) -> bool:
    """Whether a file with these channels, see `Header`, can be read as an image of `wanted` channels."""
    if channels is None:
        return wanted in PICTURE_CHANNELS
    return wanted in (channels, channels - has_alpha)


def check_page(path: Path, page: str, count: int, noun: str = "page") -> int:
    """The number of a page of a file with `count` pages, from 1 on. Raises InputError if there is no such page.

    noun: what such a page is called.
    """
    if not page.isdecimal() or not 1 <= int(page) <= count:
        raise InputError(f"{path} has {counted(count, noun)}, and {noun} {page} is asked for.")
    return int(page)


# What a format may keep beside values; see `Raster` and `Metadata`. Mask: whether a pixel is transparent, of a format
# that cannot keep how much. Place: the tags of a GeoTIFF. Patient: where a volume or a slice lies in space.
Kept: TypeAlias = Literal["alpha", "mask", "profile", "resolution", "description", "exif", "place", "nodata", "patient"]

Decoded: TypeAlias = Image.Image | Array | Raster


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """How to know or read less of a file in less time.

    probe: the header of a common file in a fraction of the time of `FileFormat.probe`, or None.
    size: height and width as they are stored, never decoding; default: those of `FileFormat.probe`.
    read_reduced: the image at a fraction of its size whose sides have at least so many pixels.
    """

    probe: Callable[[str], Header | None] = lambda _: None
    size: Callable[[str], tuple[int, int] | None] | None = None
    read_reduced: Callable[[Path, int], Decoded] | None = None


@dataclass(frozen=True, kw_only=True)
class Regions:
    """How images that need not fit into memory are read by region and written in tiles.

    open: open a file for reading by region, or None if it must be read as a whole.
    only: whether a file is read by region only, and translated in tiles; None: no file is.
    at_scale: all of a file at so many microns per pixel; None for one that does not say its scale.
    also_reads: other files that the image comes from, such as those of a VRT.
    writer: how an image is written in tiles.
    written_as: suffix of the translations of files that the format cannot write; default: .png, or .tif.
    """

    open: Callable[[Path, ImageFormat], RegionReader | None] = lambda _path, _format: None
    only: Callable[[Path, ImageFormat], bool] | None = None
    at_scale: Callable[[Path, float], Raster | None] = lambda _path, _mpp: None
    also_reads: Callable[[Path], list[Path]] = lambda _: []
    writer: TiledWriter | None = None
    written_as: str = ""


@dataclass(frozen=True, kw_only=True)
class Pages:
    """How the images in a file that holds several are read. A page has a path below its file, such as `stack.tif/2`.

    read, probe: like those of `FileFormat`, for the page of this name.
    names: of all pages in order, without dots and slashes, of a volume along an axis of the patient. Folders
        list these pages in place of the file. Without it a file is one image, and its pages are numbered from 1 on.
    in_patient: whether images have a position in the coordinates of the patient.
    """

    read: Callable[[Path, str], Decoded]
    probe: Callable[[Path, str], Header | None] = lambda _path, _page: None
    names: Callable[[Path, Axis | None], list[str]] | None = None
    in_patient: bool = False


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A file format: one row of `cyclegan.images.file_formats.FILE_FORMATS`. Only `suffixes` and `read` are required.

    Functions may raise any error for a damaged file; it is reported as an `UnreadableError`. Packages are imported
    inside the functions, so that a missing one is reported with its install line and costs other formats no time.

    suffixes: lower case, with their dot.
    read: decode a file: an 8-bit Pillow image, which is turned upright and converted to the channels that are wanted,
        or an array (H, W) or (H, W, C) or a Raster in the file's own type, which must have the channels that are
        wanted.
    probe: the header without decoding, or None if the file must be read for it, as happens without `probe`.
    write: write a Raster to an open binary file. Without it the format is read only.
    holds: what `write` keeps without loss: numpy type -> numbers of channels, without alpha. None: everything.
    fourth_is_alpha: a fourth channel is transparency in such a file, so no other fits, such as near infrared.
    keeps: what else `write` keeps of a Raster.
    has_quality: `write` takes a keyword `quality`, 1 to 100.
    install: what `pip install` takes if a package is missing, such as cyclegan[data].
    install_reason: which files need it, such as `has 16-bit colour`; empty for all.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Decoded]
    probe: Callable[[Path], Header | None] = lambda _: None
    write: Callable[[IO[bytes], Raster], None] | None = None
    holds: Mapping[str, tuple[int, ...]] | None = field(default_factory=dict)
    fourth_is_alpha: bool = False
    keeps: frozenset[Kept] = frozenset()
    has_quality: bool = False
    install: str = ""
    install_reason: str = ""
    shortcuts: Shortcuts = Shortcuts()
    regions: Regions = Regions()
    pages: Pages | None = None

    def __post_init__(self) -> None:
        for suffix in self.suffixes:
            if suffix != suffix.lower() or not suffix.startswith("."):
                raise ValueError(f"The suffix {suffix!r} of a file format is not lower case with a dot, such as .tif.")

    def can_hold(self, channels: int, dtype: str, alpha: bool | None = None) -> bool:
        """Whether files of this format keep images of these channels and this numpy type without loss of depth.

        alpha: whether the last channel is transparency, as in `ImageFormat`.
        """
        if self.write is None or (alpha is False and channels == 4 and self.fourth_is_alpha):
            return False
        return self.holds is None or channels in self.holds.get(dtype, ())
