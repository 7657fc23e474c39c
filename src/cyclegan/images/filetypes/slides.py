"""Whole slides of microscopy, read by region with OpenSlide: at a level of their pyramid, or at microns per pixel.

Values are sRGB. Parts that the scanner left out, which are transparent, have the slide's own background colour.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from cyclegan.config import Reading
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.colour import array_to_srgb, can_convert
from cyclegan.images.filetypes.blocks import BlockCache, fill_region
from cyclegan.images.filetypes.dicom import is_slide
from cyclegan.images.filetypes.ome_xml import MICRONS_PER_INCH
from cyclegan.images.filetypes.sample_reader import SampleReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.interpret import choose_bands
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import Box
from cyclegan.system.json_files import cut
from cyclegan.system.words import counted

# What OpenSlide reads, without names that other formats have: .tif, and .dcm, of which the content decides.
SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi")

INSTALL = "cyclegan[slides]"

# Relative difference at which a level counts as the scale that is wanted, and is not resampled.
_SAME_SCALE = 0.02

# A slide is read in aligned squares of so many pixels, so that no pixel depends on the region that is asked for.
_BLOCK = 512

# Squares that are kept, since neighbouring regions read the same ones; at least a row of them.
_CACHE_BYTES = 128 * 2**20

# Pixels of the source that Lanczos resampling needs on each side, for each pixel of the result's size.
_LANCZOS = 3


@dataclass(frozen=True)
class SlideScale:
    """A size at which a slide is read.

    level: of the pyramid, from 0 on. downsample: pixels of level 0 for one of the result, across and down alike.
    factor: pixels of the level for one of the result; 1 without resampling. mpp: microns per pixel of the result,
    across and down; None if the slide does not say.
    """

    level: int
    downsample: float
    factor: float
    width: int
    height: int
    mpp: tuple[float, float] | None

    def __str__(self) -> str:
        microns = "" if self.mpp is None else f" at {sum(self.mpp) / 2:.4g} microns per pixel"
        return f"level {self.level}{microns}{'' if self.factor == 1 else ', resampled'}"


def open_slide(path: Path) -> Any:
    """An `openslide.OpenSlide`. Raises InputError if the package is missing, UnreadableError if this is no slide."""
    try:
        import openslide
    except ImportError:
        raise InputError(f"{path} is a whole slide; reading it needs: pip install '{INSTALL}'.") from None
    try:
        slide = openslide.OpenSlide(path)
        slide.set_cache(openslide.OpenSlideCache(64 * 2**20))
    except openslide.OpenSlideUnsupportedFormatError:
        raise UnreadableError(f"{path} is no slide that OpenSlide reads.") from None
    except openslide.OpenSlideError as error:
        raise UnreadableError(f"{path} is damaged: {cut(str(error), 300)}.") from None
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error}") from error
    return slide


def own_mpp(slide: Any) -> tuple[float, float] | None:
    """Microns per pixel of level 0, across and down, if the slide says."""
    try:
        across, down = (float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    is_sensible = 0 < across < math.inf and 0 < down < math.inf
    return (across, down) if is_sensible else None


def choose_scale(path: Path, slide: Any, *, mpp: float | None = None, level: int = 0) -> SlideScale:
    """The scale with these microns per pixel, or that of a level.

    A level within 2 % of it is taken as it is; else the next finer one is resampled.
    Raises InputError for a level that is not there, and if the slide is coarser than `mpp` or does not say its scale.
    """
    own = own_mpp(slide)
    if mpp is None:
        if level >= slide.level_count:
            raise InputError(
                f"{path} has {counted(slide.level_count, 'level')}, and the level is {level}, counted from 0."
            )
        return _scale_of_level(slide, level, own)
    if own is None:
        raise InputError(
            f"{path} does not say how many microns a pixel has, so it cannot be read at {mpp:g}; choose a level "
            "instead."
        )
    wanted = mpp / (sum(own) / 2)
    if wanted < 1 - _SAME_SCALE:
        raise InputError(
            f"{path} has {sum(own) / 2:.4g} microns per pixel, which is coarser than {mpp:g}; choose "
            f"{sum(own) / 2:.4g} or more."
        )
    downsamples = [float(factor) for factor in slide.level_downsamples]
    best = max(index for index, factor in enumerate(downsamples) if factor <= wanted * (1 + _SAME_SCALE) or index == 0)
    factor = wanted / downsamples[best]
    if abs(factor - 1) <= _SAME_SCALE:
        return _scale_of_level(slide, best, own)
    width, height = (max(1, math.floor(side / factor)) for side in slide.level_dimensions[best])
    return SlideScale(best, wanted, factor, width, height, (own[0] * wanted, own[1] * wanted))


def _scale_of_level(slide: Any, level: int, own: tuple[float, float] | None) -> SlideScale:
    factor = float(slide.level_downsamples[level])
    width, height = slide.level_dimensions[level]
    mpp = None if own is None else (own[0] * factor, own[1] * factor)
    return SlideScale(level, factor, 1.0, width, height, mpp)


class SlideReader(SampleReader):
    """A slide by region, (h, w, 1 or 3) in 8 bits. Memory is bounded by one row of squares of 512 pixels.

    height, width: at the scale that was chosen. metadata: its colour profile, and its scale as a resolution.
    """

    def __init__(self, path: Path, slide: Any, scale: SlideScale, image_format: ImageFormat | None = None) -> None:
        """image_format: as the model takes it; default: 8-bit RGB."""
        self._slide, self.scale = slide, scale
        profile = slide.color_profile
        self._profile: bytes | None = None if profile is None else profile.tobytes()
        resolution = None
        if scale.mpp is not None:
            resolution = (MICRONS_PER_INCH / scale.mpp[0], MICRONS_PER_INCH / scale.mpp[1])
        is_converted = self._profile is not None and can_convert(self._profile, "RGB")
        described = Metadata(profile=self._profile, is_srgb=is_converted, resolution=resolution)
        super().__init__(path, image_format or ImageFormat(), scale.height, scale.width, np.uint8, described)
        self._background = f"#{slide.properties.get('openslide.background-color', 'ffffff')}"
        # Smaller where each pixel of the result takes many of the level.
        self._side = max(4, _BLOCK >> max(0, math.ceil(math.log2(scale.factor / 4))))
        self._blocks = BlockCache(_CACHE_BYTES, -(-self.width // self._side) + 1)

    @classmethod
    def open(cls, path: Path, image_format: ImageFormat) -> "SlideReader":
        """The slide as the model of this format takes it: at its microns per pixel, or at its page, else at level 0.

        Raises InputError for another type or other channels, and as `choose_scale` does; UnreadableError for damage.
        """
        if image_format.dtype != "uint8" or image_format.channels not in (1, 3):
            raise InputError(f"{path} is a whole slide, 8-bit RGB, and the model takes {image_format}.")
        slide = open_slide(path)
        try:
            if image_format.bands is not None:
                bands = choose_bands(path, 3, image_format, ())
                if len(bands) != image_format.channels:
                    raise InputError(
                        f"The bands {image_format.bands} are {len(bands)}, and the model takes "
                        f"{image_format.channels} channel(s); choose as many."
                    )
            scale = choose_scale(path, slide, mpp=image_format.mpp, level=(image_format.page or 1) - 1)
            reader = cls(path, slide, scale, image_format)
            reader.fits_format(3)
            return reader
        except BaseException:
            slide.close()
            raise

    def close(self) -> None:
        self._slide.close()

    def samples(self, box: Box) -> Raster:
        """Raises UnreadableError if a part of the slide is damaged."""
        result = np.empty((box.bottom - box.top, box.right - box.left, 3), np.uint8)
        fill_region(result, box, self._side, self._side, self._block)
        return Raster(result, metadata=self._described)

    def read_directly(self, box: Box) -> Array:
        """RGB, without the squares that are kept: for boxes that are read once, and by several threads.

        Pixels may differ from those of `read` in their last bits.
        """
        return self._decode(box)

    def _block(self, row: int, column: int) -> Array:
        top, left = row * self._side, column * self._side
        box = Box(top, min(top + self._side, self.height), left, min(left + self._side, self.width))
        return self._blocks.get((row, column), lambda: self._decode(box))

    def _decode(self, box: Box) -> Array:
        factor = self.scale.factor
        if factor == 1:
            picture = self._read_level(box)
        else:
            picture = self._resampled(box, factor)
        values: Array = np.asarray(picture)
        if self._profile is not None:
            converted = array_to_srgb(values, self._profile)
            values = values if converted is None else converted
        return values

    def _resampled(self, box: Box, factor: float) -> Image.Image:
        """A box of the result, from the pixels of the level that Lanczos resampling needs."""
        level_width, level_height = self._slide.level_dimensions[self.scale.level]
        margin = _LANCZOS * factor + 1
        around = Box(
            max(0, math.floor(box.top * factor - margin)),
            min(level_height, math.ceil(box.bottom * factor + margin)),
            max(0, math.floor(box.left * factor - margin)),
            min(level_width, math.ceil(box.right * factor + margin)),
        )
        left, right = (min(side * factor, level_width) - around.left for side in (box.left, box.right))
        top, bottom = (min(side * factor, level_height) - around.top for side in (box.top, box.bottom))
        width, height = box.right - box.left, box.bottom - box.top
        # One direction after the other: Pillow may choose either order, which changes pixels beside edges.
        found = self._read_level(around)
        found = found.resize((width, found.height), Image.Resampling.LANCZOS, box=(left, 0, right, found.height))
        return found.resize((width, height), Image.Resampling.LANCZOS, box=(0, top, width, bottom))

    def _read_level(self, box: Box) -> Image.Image:
        """RGB of a box of the level, on the background."""
        import openslide

        place = (round(box.left * self._downsample), round(box.top * self._downsample))
        try:
            region = self._slide.read_region(place, self.scale.level, (box.right - box.left, box.bottom - box.top))
        except openslide.OpenSlideError as error:
            raise UnreadableError(f"{self._path} is damaged: {cut(str(error), 300)}.") from error
        background = Image.new("RGB", region.size, self._background)
        background.paste(region, mask=region.getchannel("A"))
        return background

    @property
    def _downsample(self) -> float:
        """Pixels of level 0 for one of the level."""
        return float(self._slide.level_downsamples[self.scale.level])


def has_scale(path: Path, reading: Reading) -> bool:
    """Whether a TIFF is read at the microns per pixel that were asked for: OpenSlide knows it, and it says its own."""
    if reading.mpp is None or reading.page is not None:
        return False
    try:
        with open_slide(path) as slide:
            return own_mpp(slide) is not None
    except (InputError, UnreadableError):
        return False


def read_scaled(path: Path, mpp: float) -> Raster | None:
    """All of a pyramid in a TIFF at microns per pixel, RGB; None if it does not say its scale.

    Raises InputError if it is coarser, UnreadableError for damage and for more pixels than are allowed.
    """
    if not has_scale(path, Reading(mpp=mpp)):
        return None
    with open_slide(path) as slide:
        reader = SlideReader(path, slide, choose_scale(path, slide, mpp=mpp))
        check_pixels(reader.height, reader.width, 3)
        return reader.samples(Box(0, reader.height, 0, reader.width))


def describe_scale(path: Path, image_format: ImageFormat) -> str | None:
    """At which scale a slide is read; None for a file that is read otherwise, or cannot be."""
    if not path.name.lower().endswith(SUFFIXES) and not is_slide(path) and not has_scale(path, image_format):
        return None
    try:
        reader = SlideReader.open(path, image_format)
    except (InputError, UnreadableError):  # reading it reports the error
        return None
    reader.close()
    return f"{reader.scale}, {reader.width:,} x {reader.height:,} pixels"


def size(path: str) -> tuple[int, int]:
    """Height and width of level 0."""
    with open_slide(Path(path)) as slide:
        width, height = slide.dimensions
        return height, width


def read(path: Path) -> NoReturn:
    """Whole slides are read by region only: as one image they are refused, from their header on."""
    raise InputError(
        f"{path} is a whole slide, which is read in tiles only; for training cut tiles from it (cyclegan tiles), and "
        "translate it with PyTorch, without --tile none."
    )
