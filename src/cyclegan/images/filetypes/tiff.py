"""TIFF files: 8-bit pictures by Pillow, everything else by tifffile."""

import io
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.filetypes import pillow
from cyclegan.images.filetypes.sidecars import with_sidecars
from cyclegan.images.filetypes.tiff_tags import (
    GDAL_NODATA,
    LAB_KINDS,
    MIN_IS_BLACK,
    MIN_IS_WHITE,
    PALETTE,
    RGB,
    WEBP,
    YCBCR,
    TiffLayout,
    TiffPage,
    invert,
    is_tiff,
    read_layout,
)
from cyclegan.images.formats import Decoded, Header, check_page
from cyclegan.images.holes import both, find_numbers
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Mask, Metadata, Raster, Tag
from cyclegan.system.advice import advise


def read(path: Path) -> Decoded:
    """The samples of a file with one page, or several pages of grey as channels, in their own type.

    A file of another format under this name is read by Pillow. Raises InputError for several pages of colours, sizes or
    types.
    """
    if not is_tiff(path):
        return pillow.read(path)
    layout = read_layout(path)
    first = layout.pages[0]
    _check_size(first, len(layout.pages))
    advice = advise("choose one with --page, such as --page 1", "save one of them as a file of its own")
    several = InputError(f"{path} has {len(layout.pages)} pages; {advice}.")
    if len(layout.pages) > 1 and any(page.samples > 1 for page in layout.pages):
        raise several
    with TiffFile(path, layout) as file:
        found = [file.read(page) for page in layout.pages]
    if len(found) == 1:
        return found[0]
    kinds = {(each.values.shape, each.values.dtype) for each in found}
    if len(kinds) > 1 or found[0].values.shape[2] > 1:
        raise several
    return Raster(
        np.concatenate([each.values for each in found], axis=2),
        valid=reduce(both, [each.valid for each in found]),
        metadata=replace(found[0].metadata, extra_samples=None, band_names=()),
    )


def read_page(path: Path, page: str) -> Raster:
    """One page of a file, counted from 1. Raises InputError if there is none of this number."""
    layout = read_layout(path)
    chosen = layout.pages[check_page(path, page, len(layout.pages)) - 1]
    _check_size(chosen)
    with TiffFile(path, layout) as file:
        return file.read(chosen)


def _check_size(page: TiffPage, count: int = 1) -> None:
    itemsize = np.dtype(page.dtype or "uint16").itemsize
    check_pixels(page.height, page.width, count * page.samples * itemsize)


class TiffFile:
    """A TIFF whose pages are read one after the other, in an open file: a later page lies far down a chain."""

    def __init__(self, path: Path, layout: TiffLayout | None = None) -> None:
        self.layout = read_layout(path) if layout is None else layout
        self._path = path
        self._picture: Image.Image | None = None
        self._content: IO[bytes] | None = None
        self._file: Any = None

    def __enter__(self) -> "TiffFile":
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._picture, self._file, self._content):
            if opened is not None:
                opened.close()

    def read(self, page: TiffPage) -> Raster:
        """The samples of a page in their own type."""
        raster = self._read(page)
        is_alone = len(self.layout.pages) == 1 and page.orientation == 1
        return with_sidecars(self._path, raster) if is_alone else raster

    def _read(self, page: TiffPage) -> Raster:
        if page.is_picture and not self.layout.masks and (picture := self._read_picture(page)) is not None:
            if picture.mode == "1":
                picture = picture.convert("L")
            if picture.mode in ("L", "LA", "RGB", "RGBA"):
                array = np.asarray(picture)
                # Pillow has divided premultiplied colours by alpha.
                metadata = replace(page.metadata, extra_samples=(2,)) if picture.mode == "RGBA" else page.metadata
                return Raster(array if array.ndim == 3 else array[..., None], metadata=metadata)
            # Palettes, CMYK and the like are colours only once they are converted.
            picture.info["icc_profile"] = page.metadata.profile
            found = pillow.raster_of(picture, 3)
            is_converted = found.metadata.is_srgb
            # A profile that does not fit these samples does not fit the colours that they became either.
            profile = page.metadata.profile if is_converted else None
            metadata = replace(page.metadata, extra_samples=None, is_srgb=is_converted, profile=profile)
            if picture.mode == "P" and page.metadata.nodata is not None:
                numbers = pillow.upright(np.asarray(picture)[..., None], page.orientation)
                valid = both(found.valid, find_numbers(numbers, page.metadata.nodata))
                return Raster(found.values, found.alpha, valid, replace(metadata, nodata=None))
            return Raster(found.values, found.alpha, found.valid, metadata)
        return self._read_deep(page)

    def _read_picture(self, page: TiffPage) -> Image.Image | None:
        """The page by Pillow, or None for what it cannot read: a compression, or strips and tiles that are left out."""
        if page.compression == WEBP:
            return None
        if page.has_gaps:
            if page.bits != 8 or page.photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, YCBCR):
                raise InputError(f"{self._path} leaves out empty strips or tiles, which is read for grey and RGB only.")
            return None
        try:
            if self._picture is None:
                # Pillow maps a file into memory by its name, and then gets pages on their side wrong.
                is_on_its_side = any(each.orientation >= 5 for each in self.layout.pages)
                content = io.BytesIO(self._path.read_bytes()) if is_on_its_side else self._path
                self._picture = Image.open(content)
            self._picture.seek(page.position)
            self._picture.load()
            return self._picture
        except UnidentifiedImageError:
            return None
        except OSError as error:
            if "not available" in str(error):
                return None
            raise

    def _read_deep(self, page: TiffPage) -> Raster:
        import tifffile

        if page.photometric == PALETTE:
            raise InputError(
                f"{self._path} is a palette of {page.bits} bits, which is not read; convert the file to colours."
            )
        if page.photometric in LAB_KINDS:
            raise InputError(
                f"{self._path} has CIELAB colours of {page.bits} bits, which are not read; convert the file to RGB."
            )
        if self._file is None:
            # Opened here, since tifffile follows links to a name that a file in memory does not have.
            self._content = self._path.open("rb")
            self._file = tifffile.TiffFile(self._content)
        # A page may hold several planes, as those of ImageJ do; the series that it begins has them all.
        is_alone = len(self.layout.pages) == 1 and page.position == 0
        stored = self._file.series[0] if is_alone else self._file.pages[page.position]
        array, axes = stored.asarray(), stored.axes
        mask = mask_of(self._file, self.layout, page)
        array = _channels_last(array, axes)
        if page.photometric == MIN_IS_WHITE:
            array = invert(array, page.bits)
        if array.dtype == np.bool_:
            array = array.astype(np.uint8) * 255
        array = pillow.upright(array, page.orientation) if array.ndim == 3 else array
        valid: Mask | None = None
        if mask is not None:
            valid = pillow.upright(mask.asarray()[..., None], page.orientation)[..., 0].astype(np.bool_)
        return Raster(array, valid=valid, metadata=page.metadata)


def _channels_last(array: Array, axes: str) -> Array:
    """(H, W) or (H, W, C) from the planes or pages of a file."""
    if array.ndim == 3 and axes.endswith("YX"):
        array = np.moveaxis(array, 0, -1)
    return array[..., None] if array.ndim == 2 else np.asarray(array)


def mask_of(file: Any, layout: TiffLayout, page: TiffPage) -> Any:
    """The page of an open `tifffile.TiffFile` that is the mask of a page: the one that follows it, of its size."""
    for position in layout.masks:
        found = file.pages[position]
        if position > page.position and (found.imagelength, found.imagewidth) == (page.height, page.width):
            return found
    return None


def probe(path: Path) -> Header | None:
    """The header, from the tags of the file; None for an unusual file, which must be read for it."""
    if not is_tiff(path):
        return pillow.probe(path)
    layout = read_layout(path)
    page = layout.pages[0]
    height, width = (page.width, page.height) if page.orientation >= 5 else (page.height, page.width)
    is_hyperstack = (page.metadata.description or "").startswith("ImageJ=")
    if page.dtype is None or len(layout.pages) > 1 or is_hyperstack:
        return None
    colours = page.samples - page.has_alpha
    if page.is_picture or (page.dtype == "uint8" and colours in (1, 3)):
        return Header(height, width, "uint8", None)
    return Header(height, width, page.dtype, page.samples, page.has_alpha)


def size(path: str) -> tuple[int, int]:
    """Height and width as they are stored."""
    if not is_tiff(Path(path)):
        return pillow.size(path)
    page = read_layout(Path(path)).pages[0]
    return page.height, page.width


def write(file: IO[bytes], raster: Raster) -> None:
    """Write any type and number of channels, and all metadata. 8-bit pictures are written by Pillow."""
    values, metadata = pillow.with_alpha(raster), raster.metadata
    extra = _channel_options(raster)["extrasamples"]
    if values.dtype == np.uint8 and (values.shape[2], extra) in ((1, None), (2, (2,)), (3, None), (4, (2,))):
        picture = pillow.to_pillow(values)
        picture.save(file, "TIFF", tiffinfo=_directory(metadata))
        return
    import tifffile

    pixels, options = page_of(raster)
    tifffile.imwrite(file, pixels, metadata=None, **options)


def page_of(raster: Raster) -> tuple[Array, dict[str, Any]]:
    """The array and the arguments with which tifffile writes an image as a page, with all its metadata."""
    values = pillow.with_alpha(raster)
    channels = values.shape[2]
    planar = channels not in (1, 3, 4) and raster.alpha is None
    pixels = values[..., 0] if channels == 1 else np.moveaxis(values, -1, 0) if planar else values
    return pixels, {
        "planarconfig": "separate" if planar else "contig" if channels > 1 else None,
        **_channel_options(raster),
        **tifffile_options(raster.metadata),
    }


def _channel_options(raster: Raster) -> dict[str, Any]:
    has_alpha = raster.alpha is not None
    return channel_options(raster.values.shape[2], str(raster.values.dtype), raster.metadata, has_alpha=has_alpha)


def channel_options(colours: int, dtype: str, metadata: Metadata, *, has_alpha: bool) -> dict[str, Any]:
    """The arguments with which tifffile writes what the channels mean, alpha last. colours: channels without alpha.

    The first three are RGB if they are in the input. Where it does not say, three or four channels are RGB.
    """
    given = metadata.extra_samples or ()
    is_rgb = colours >= 3 and len(given) == colours - 3
    is_rgb = is_rgb or (colours in (3, 4) and len(given) != colours - 1)
    count = colours - (3 if is_rgb else 1)
    # Where the input does not say, a fourth 8-bit channel is transparency, as in a PNG.
    default = (2,) if colours == 4 and dtype == "uint8" and not has_alpha else (0,) * count
    extra = (*(given if len(given) == count else default), *((2,) if has_alpha else ()))
    return {"photometric": "rgb" if is_rgb else "minisblack", "extrasamples": extra or None}


def nodata_text(nodata: float) -> str:
    """The number as GDAL writes it into its tag."""
    return str(int(nodata)) if nodata == nodata and abs(nodata) < 1e20 and nodata == int(nodata) else f"{nodata:.17g}"


def _all_tags(metadata: Metadata) -> list[Tag]:
    nodata = [] if metadata.nodata is None else [(GDAL_NODATA, 2, 0, nodata_text(metadata.nodata), True)]
    profile = [] if metadata.profile is None else [(34675, 7, len(metadata.profile), metadata.profile, True)]
    return [*metadata.tags, *nodata, *profile]


def tifffile_options(metadata: Metadata) -> dict[str, Any]:
    """The arguments with which tifffile writes the metadata."""
    options: dict[str, Any] = {"extratags": _all_tags(metadata), "software": "cyclegan"}
    if metadata.resolution is not None:
        options |= {"resolution": metadata.resolution, "resolutionunit": 2}
    if metadata.description is not None:
        options["description"] = metadata.description.encode()
    return options


def _directory(metadata: Metadata) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The metadata as Pillow writes it."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for code, kind, _, value, _ in _all_tags(metadata):
        tags.tagtype[code] = kind
        tags[code] = value
    if metadata.resolution is not None:
        tags[282], tags[283], tags[296] = *metadata.resolution, 2
    if metadata.description is not None:
        tags[270] = metadata.description.encode()  # Pillow replaces what is not ASCII in text
    return tags
