"""Read, probe and write image files of every format in `FILE_FORMATS`."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from cyclegan.config import AS_IT_IS, Reading
from cyclegan.errors import InputError, MissingPackageError, UnreadableError, damage_of
from cyclegan.images import Array
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import Decoded, FileFormat, Header, ImageFormat, Pages, check_page, gives_channels
from cyclegan.images.interpret import has_alpha, interpret
from cyclegan.images.limits import check_pixels, without_pixel_limit
from cyclegan.images.pages import local_file
from cyclegan.images.raster import Raster
from cyclegan.system.advice import advise
from cyclegan.system.atomic import write_bytes
from cyclegan.system.json_files import cut


def read_image(path: Path, channels: int, *, min_side: int = 0) -> Array:
    """The values of `load_raster`, (H, W, channels)."""
    return load_raster(path, channels, min_side=min_side).values


def load_raster(
    path: Path, channels: int, reading: Reading = AS_IT_IS, *, min_side: int = 0, fallback: float | None = None
) -> Raster:
    """The image of a file with `channels`, in the file's own depth, upright, with its transparency and holes.

    8-bit files are converted to 1, 3 or 4 channels: grey is repeated, colour becomes luma, palettes and CMYK become
    RGB. Files of another depth or with other channels must have exactly `channels`, or one more that is transparency.
    Colours with a profile become sRGB. Transparency becomes alpha (or a fourth channel if `channels` is 4), and fully
    transparent pixels are holes, as are NaN, "no data" and what a mask leaves out; holes are filled.
    reading: which bands and page, what marks holes, and a background for transparent pixels.
    min_side: if given, a format that can be decoded at reduced size is, with sides of at least so many pixels.
    fallback: fills parts of the image that are all hole; default: the middle of 8 bits, else 0.
    Raises InputError for other channels, for infinite values, or if a package is missing; UnreadableError if the
    file cannot be decoded.
    """
    decoded = _decode(path, reading.page, min_side, reading.mpp)
    with _decoding(path):
        return interpret(path, decoded, channels, reading, fallback)


def read_as(path: Path, image_format: ImageFormat, other: ImageFormat | None = None) -> Array:
    """The values of `read_raster`, (H, W, C)."""
    return read_raster(path, image_format, other).values


def read_raster(path: Path, image_format: ImageFormat, other: ImageFormat | None = None) -> Raster:
    """The image of a file in the type and channels that a model takes, with its transparency and holes.

    other: what the model takes in its other direction, for the message. Raises InputError for a file of another type
    or with other channels; it is not converted, since its values would have no defined place in the model's range.
    Raises UnreadableError as `load_raster` does.
    """
    try:
        middle = (image_format.low + image_format.high) / 2
        raster = load_raster(path, image_format.channels, image_format, fallback=middle)
    except InputError as error:
        header = probe_image(path, image_format.page)
        if image_format.bands is not None and other is not None and _gives(path, other):
            raise InputError(f"{error} The model takes this file in its other direction.") from None
        if image_format.bands is not None or _fits(header, image_format):
            raise  # for another reason, such as infinite values
    else:
        header = Header.of_array(raster.values)
        if header.dtype == image_format.dtype:
            return raster
        header = header._replace(channels=None if header.dtype == "uint8" else header.channels)
    found = f"{header.channels} x {header.dtype}" if header.channels is not None else "an 8-bit picture"
    raise InputError(
        f"{path} is {found}, and the model takes {image_format}: {_advice_on(header, image_format, other)}."
    )


def _advice_on(header: Header, image_format: ImageFormat, other: ImageFormat | None) -> str:
    """What to do about a file that a model does not take."""
    if other is not None and _fits(header._replace(has_alpha=False), other):
        return "that is its other direction"
    choices = ["convert the file"]
    if header.dtype == image_format.dtype and (header.channels or 0) > image_format.channels:
        bands = ",".join(map(str, range(1, image_format.channels + 1)))
        choices.insert(0, f"choose {image_format.channels} of its bands, such as --bands {bands}")
    return advise(*choices)


def _gives(path: Path, image_format: ImageFormat) -> bool:
    """Whether a file can be read in this format."""
    with suppress(InputError, UnreadableError):
        return str(load_raster(path, image_format.channels, image_format).values.dtype) == image_format.dtype
    return False


def _fits(header: Header, image_format: ImageFormat) -> bool:
    if header.dtype != image_format.dtype:
        return False
    return gives_channels(header.channels, header.has_alpha, image_format.channels)


def probe_image(path: Path, page: int | None = None) -> Header:
    """Size, type and channels of a file, or of one of its pages, from its header where its format allows that.

    Raises UnreadableError, also for more pixels than are allowed; InputError if a package is missing, or for a file
    that must be read in another way.
    """
    with _opened(path, page) as (file, file_format, paged):
        header = file_format.probe(file) if paged is None else paged[0].probe(file, paged[1])
        if header is not None:
            channels = header.channels or 3
            check_pixels(header.height, header.width, channels * np.dtype(header.dtype).itemsize)
            return header
    decoded = _decode(path, page)
    if isinstance(decoded, Image.Image):
        width, height = ImageOps.exif_transpose(decoded).size
        return Header(height, width, "uint8", None)
    header = Header.of_array(decoded.values)
    alpha = has_alpha(decoded)
    if header.dtype == "uint8" and (header.channels or 0) - alpha in (1, 3):
        return header._replace(channels=None)
    return header._replace(has_alpha=alpha)


def write_image(path: Path, image: Raster | Array) -> None:
    """Write a Raster, or its values (H, W, C), in the format of the path's suffix without loss of depth.

    JPEG has quality 95. What the format cannot keep beside the values is left out; see `FileFormat.keeps`. The file is
    complete or absent. Raises InputError if the format cannot hold the values, or a package is missing.
    """
    buffer = io.BytesIO()
    encode_image(path, image, buffer)
    write_bytes(path, buffer.getbuffer())


def encode_image(path: Path, image: Raster | Array, file: IO[bytes], *, quality: int | None = None) -> None:
    """Write what `write_image` writes to an open file. Only the suffix of the path counts.

    quality: 1 to 100, of a format with `FileFormat.has_quality`; others ignore it. Errors as in `write_image`.
    """
    raster = image if isinstance(image, Raster) else Raster(image)
    if raster.metadata.is_srgb:  # they are no longer those of the profile
        raster = replace(raster, metadata=replace(raster.metadata, profile=None))
    array, file_format = raster.values, file_format_of(path)
    if file_format.write is None or not file_format.can_hold(array.shape[2], str(array.dtype)):
        raise InputError(f"{path.name}: {path.suffix} files cannot hold {array.shape[2]} channels of {array.dtype}.")
    write: Callable[..., None] = file_format.write
    options = {"quality": quality} if quality is not None and file_format.has_quality else {}
    try:
        write(file, raster, **options)
    except ImportError as error:
        raise _missing_package(path, "writing", file_format, error) from None


def _decode(path: Path, page: int | None = None, min_side: int = 0, mpp: float | None = None) -> Image.Image | Raster:
    """An 8-bit picture, or all samples of a file in the byte order of this machine."""
    with _opened(path, page) as (file, file_format, paged):
        decoded: Decoded
        if paged is not None:
            decoded = paged[0].read(file, paged[1])
        elif mpp is not None and (scaled := file_format.regions.at_scale(file, mpp)) is not None:
            decoded = scaled
        elif min_side and file_format.shortcuts.read_reduced is not None:
            decoded = file_format.shortcuts.read_reduced(file, min_side)
        else:
            decoded = file_format.read(file)
        in_patient = file_format.pages is not None and file_format.pages.in_patient
        if isinstance(decoded, Image.Image):
            if not in_patient:
                return decoded
            decoded = np.asarray(decoded)
        raster = Raster(decoded) if isinstance(decoded, np.ndarray) else decoded
        if not isinstance(raster, Raster):
            raise TypeError(f"its reader returned {type(decoded).__name__}, not a Pillow image or a numpy array")
    if in_patient:
        raster = replace(raster, metadata=replace(raster.metadata, in_patient=True))
    array = raster.values
    if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}; "
            "expected (height, width) or (height, width, channels) of numbers."
        )
    array = array[..., None] if array.ndim == 2 else array
    return replace(raster, values=array.astype(array.dtype.newbyteorder("="), copy=False))


@contextmanager
def _opened(path: Path, page: int | None) -> Iterator[tuple[Path, FileFormat, tuple[Pages, str] | None]]:
    """A file for its reader, its format, and how its page is read and which: that of its path, else the given one.

    None instead of a page: the whole file. Errors are those of `_decoding`; Pillow's own limit on pixels is off.
    """
    with _decoding(path), without_pixel_limit(), local_file(path) as (file, name):
        file_format = file_format_of(file)
        pages = file_format.pages
        if name is not None and pages is None:
            raise UnreadableError(f"There is no {path}: {file.name} is a file, and has no pages")
        if name is None and page is not None:
            name = str(page)
            if pages is None and file_format.regions.only is None:  # of a slide the page is a level, read by region
                check_page(path, name, 1)
        yield file, file_format, None if pages is None or name is None else (pages, name)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn every error that a decoder raises into an UnreadableError or, for a missing package, an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        file_format = file_format_of(path)
        if isinstance(error, ImportError) and file_format.install:
            raise _missing_package(path, "reading", file_format, error) from None
        # Some libraries list the reasons of all their decoders, one a line.
        raise UnreadableError(cut(damage_of(error), 300)) from error


def _missing_package(path: Path, verb: str, file_format: FileFormat, error: ImportError) -> MissingPackageError:
    reason = f" {file_format.install_reason};" if file_format.install_reason else ":"
    install = f": pip install '{file_format.install}'" if file_format.install else ""
    return MissingPackageError(f"{path}{reason} {verb} it needs the package {error.name or error}{install}.")
