"""Read, probe and write image files of every format in `FILE_FORMATS`."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import PICTURE_CHANNELS, Decoded, FileFormat, Header, ImageFormat
from cyclegan.images.pillow import from_pillow
from cyclegan.system.atomic import write_bytes
from cyclegan.system.json_files import cut


def read_image(path: Path, channels: int, *, min_side: int = 0) -> Array:
    """The image of a file as (H, W, channels), in the file's own depth.

    8-bit files are converted to 1, 3 or 4 channels: grey is repeated, colour becomes luma, palettes and CMYK become
    RGB, transparent pixels are composited on white (or kept as a fourth channel if `channels` is 4), EXIF rotation is
    applied. Files of another depth or with other channels must have exactly `channels`.
    min_side: if given, a format that can be decoded at reduced size is, with sides of at least so many pixels.
    Raises InputError for other channels, for NaN or infinity, or if a package is missing; UnreadableError if the
    file cannot be decoded.
    """
    decoded = _decode(path, min_side)
    if isinstance(decoded, Image.Image):
        if channels not in PICTURE_CHANNELS:
            raise InputError(
                f"{path} is an 8-bit image of mode {decoded.mode}, which can give 1, 3 or 4 channels; the model takes "
                f"{channels}. Pass the channels of your images (--channels-a, --channels-b)."
            )
        with _decoding(path):
            return from_pillow(decoded, channels)
    if decoded.shape[2] != channels:
        raise InputError(
            f"{path} has {decoded.shape[2]} channel(s) of type {decoded.dtype}; the model takes {channels}. "
            f"Pass --channels-a or --channels-b {decoded.shape[2]}, or convert the file."
        )
    if decoded.dtype.kind == "f" and not np.isfinite(decoded).all():
        count = int(np.count_nonzero(~np.isfinite(decoded)))
        raise InputError(f"{path} holds {count} values that are NaN or infinite; fill them with a number first.")
    return decoded


def read_as(path: Path, image_format: ImageFormat, other: ImageFormat | None = None) -> Array:
    """The image of a file in the type and channels that a model takes, (H, W, C).

    other: what the model takes in its other direction, for the message. Raises InputError for a file of another type
    or with other channels; it is not converted, since its values would have no defined place in the model's range.
    Raises UnreadableError as `read_image` does.
    """
    try:
        array = read_image(path, image_format.channels)
        if str(array.dtype) == image_format.dtype:
            return array
        dtype, channels = str(array.dtype), None if array.dtype == np.uint8 else array.shape[2]
    except InputError:
        _, _, dtype, channels = probe_image(path)
        if _fits(dtype, channels, image_format):
            raise  # for another reason, such as NaN
    found = f"{channels} x {dtype}" if channels is not None else "an 8-bit picture"
    advice = "that is its other direction" if other and _fits(dtype, channels, other) else "convert the file"
    raise InputError(f"{path} is {found}, and the model takes {image_format}: {advice}.")


def _fits(dtype: str, channels: int | None, image_format: ImageFormat) -> bool:
    if dtype != image_format.dtype:
        return False
    return image_format.channels in PICTURE_CHANNELS if channels is None else channels == image_format.channels


def probe_image(path: Path) -> Header:
    """Size, type and channels of a file, from its header where its format allows that.

    Raises UnreadableError, or InputError if a package is missing.
    """
    with _decoding(path):
        header = file_format_of(path).probe(path)
    if header is not None:
        return header
    decoded = _decode(path)
    if isinstance(decoded, Image.Image):
        width, height = ImageOps.exif_transpose(decoded).size
        return Header(height, width, "uint8", None)
    return Header.of_array(decoded)


def write_image(path: Path, array: Array) -> None:
    """Write (H, W, C) in the format of the path's suffix, without loss of depth. JPEG has quality 95.

    The file is complete or absent. Raises InputError if the format cannot hold the array, or a package is missing.
    """
    file_format = file_format_of(path)
    if file_format.write is None or not file_format.can_hold(array.shape[2], str(array.dtype)):
        raise InputError(f"{path.name}: {path.suffix} files cannot hold {array.shape[2]} channels of {array.dtype}.")
    buffer = io.BytesIO()
    try:
        file_format.write(buffer, array)
    except ImportError as error:
        raise _missing_package(path, "writing", file_format, error) from None
    write_bytes(path, buffer.getbuffer())


def _decode(path: Path, min_side: int = 0) -> Decoded:
    """An 8-bit picture, or an array (H, W, C) in the byte order of this machine."""
    with _decoding(path):
        file_format = file_format_of(path)
        if min_side and file_format.read_reduced is not None:
            decoded = file_format.read_reduced(path, min_side)
        else:
            decoded = file_format.read(path)
        if not isinstance(decoded, Image.Image | np.ndarray):
            raise TypeError(f"its reader returned {type(decoded).__name__}, not a Pillow image or a numpy array")
    if isinstance(decoded, Image.Image):
        return decoded
    if decoded.ndim not in (2, 3) or 0 in decoded.shape or decoded.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds an array of shape {decoded.shape} and type {decoded.dtype}; "
            "expected (height, width) or (height, width, channels) of numbers."
        )
    array = decoded[..., None] if decoded.ndim == 2 else decoded
    return array.astype(array.dtype.newbyteorder("="), copy=False)


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
        raise UnreadableError(cut(" ".join(str(error).split()) or type(error).__name__, 300)) from error


def _missing_package(path: Path, verb: str, file_format: FileFormat, error: ImportError) -> InputError:
    reason = f" {file_format.install_reason};" if file_format.install_reason else ":"
    install = f": pip install '{file_format.install}'" if file_format.install else ""
    return InputError(f"{path}{reason} {verb} it needs the package {error.name or error}{install}.")
