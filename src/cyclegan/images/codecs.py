"""Read, probe and write image files."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.formats import ImageFormat, can_hold
from cyclegan.system.atomic import write_bytes

Array = NDArray[np.generic]


# Modes of Pillow with 8 bits or fewer a channel: these convert among each other on purpose (see `read_image`).
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read_image(path: Path, channels: int) -> Array:
    """The image of a file as (H, W, channels), in the file's own depth.

    8-bit files are brought to 1, 3 or 4 channels: grey is repeated, colour becomes luma, palettes and CMYK become RGB,
    transparent pixels are laid on white (or kept as a fourth channel when 4 are asked for), EXIF rotation is applied.
    Files of another depth or with other channels must have exactly `channels`. `.npy` holds (H, W) or (H, W, C).
    Raises InputError if they do not or if they hold NaN or infinity, UnreadableError if the file cannot be decoded.
    """
    with _decoding():
        picture = _open_eight_bit(path)
    if picture is not None:
        if channels not in (1, 3, 4):
            raise InputError(
                f"{path} is an 8-bit image of mode {picture.mode}, which can give 1, 3 or 4 channels; the model takes "
                f"{channels}. Pass the channels of your images (--channels-a, --channels-b)."
            )
        with _decoding():
            return pil_to_array(picture, channels)
    with _decoding():
        array = _read_deep(path)
    if array.shape[2] != channels:
        raise InputError(
            f"{path} has {array.shape[2]} channel(s) of type {array.dtype}; the model takes {channels}. "
            f"Pass --channels-a or --channels-b {array.shape[2]}, or convert the file."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise InputError(f"{path} holds {count} values that are NaN or infinite; fill them with a number first.")
    return array


def read_as(path: Path, image_format: ImageFormat, other: ImageFormat | None = None) -> Array:
    """The image of a file of the type and channels that a model takes, (H, W, C); other: what it takes the other way.

    Raises InputError for a file of another type or with other channels, which is never converted: nobody can tell what
    its values would be in the range of the model. UnreadableError as in `read_image`.
    """
    try:
        array = read_image(path, image_format.channels)
        if str(array.dtype) == image_format.dtype:
            return array
        dtype, channels = str(array.dtype), None if array.dtype == np.uint8 else array.shape[2]
    except InputError:
        _, _, dtype, channels = probe_image(path)
        takes_pictures = channels is None and image_format.channels in (1, 3, 4)
        if dtype == image_format.dtype and (takes_pictures or channels == image_format.channels):
            raise  # for another reason, such as NaN
    found = f"{channels} x {dtype}" if channels is not None else "an 8-bit picture"
    fits_other = False
    if other is not None and dtype == other.dtype:
        fits_other = other.channels in (1, 3, 4) if channels is None else channels == other.channels
    advice = "that is its other direction" if fits_other else "convert the file"
    raise InputError(f"{path} is {found}, and the model takes {image_format}: {advice}.")


@contextmanager
def _decoding() -> Iterator[None]:
    """Decoders raise errors of every kind over a damaged file; here they become one."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def pil_to_array(picture: Image.Image, channels: int) -> Array:
    """An 8-bit Pillow image of any mode, upright, as uint8 (H, W, channels) with 1, 3 or 4 channels.

    Raises InputError for a mode of more depth, which would be squashed.
    """
    if picture.mode not in _EIGHT_BIT_MODES:
        raise InputError(
            f"The image has mode {picture.mode}, which is not 8-bit; pass it as an array (H, W, channels)."
        )
    picture = ImageOps.exif_transpose(picture)
    transparent = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if channels == 4:
        picture = picture.convert("RGBA")
    else:
        if transparent:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB" if channels == 3 else "L")
    array = np.asarray(picture)
    return array if array.ndim == 3 else array[..., None]


def probe_image(path: Path) -> tuple[int, int, str, int | None]:
    """Height, width (upright), numpy type and channels of a file, read from its header where the format allows it.

    The channels are None for 8-bit images that can be brought to 1, 3 or 4. Raises UnreadableError, or InputError if an
    extra is missing.
    """
    with _decoding():
        if path.suffix.lower() == ".npy":
            array = open_npy(path)
            _check_array(path, array)
            channels = 1 if array.ndim == 2 else array.shape[2]
            return array.shape[0], array.shape[1], array.dtype.newbyteorder("=").name, channels
        if _pillow_can_open(path):
            with Image.open(path) as picture:
                if not _is_deep(path, picture):
                    width, height = picture.size
                    # EXIF orientations 5 to 8 lie on their side; Pillow has turned the size of a TIFF already. The base
                    # class does not decode a whole PNG to look for them.
                    if picture.format != "TIFF" and Image.Image.getexif(picture).get(0x0112, 1) >= 5:
                        width, height = height, width
                    return height, width, "uint8", None
        array = _read_deep(path)
        return array.shape[0], array.shape[1], array.dtype.name, array.shape[2]


def _pillow_can_open(path: Path) -> bool:
    if path.suffix.lower() == ".npy":
        return False
    if path.suffix.lower() not in (".tif", ".tiff"):
        return True
    try:
        Image.open(path).close()
    except UnidentifiedImageError:  # a TIFF of a kind that Pillow has no mode for
        return False
    return True


def _open_eight_bit(path: Path) -> Image.Image | None:
    """The decoded picture, or None if the file is one for `_read_deep`."""
    if not _pillow_can_open(path):
        return None
    with Image.open(path) as picture:
        if _is_deep(path, picture):
            return None
        picture.load()
        return picture.copy() if picture.fp is None else picture


def _is_deep(path: Path, picture: Image.Image) -> bool:
    """Whether a file that Pillow opens holds more than Pillow would give."""
    if picture.mode not in _EIGHT_BIT_MODES:
        return True
    if picture.format == "PNG":
        # Pillow silently drops the low byte of 16-bit colour. Byte 24 of a PNG is its bit depth.
        with path.open("rb") as file:
            return file.read(25)[24] == 16
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        bits, pages = tags.get(258, (1,)), getattr(picture, "n_frames", 1)
        return any(b > 8 for b in bits) or len(bits) > 4 or pages > 1
    return False


# The header of an .npy file is a piece of Python, and some releases of Python (3.11.7 for one) count the depth of what
# they parse over all threads together: of two that parse at once, one fails now and then.
_PARSING = Lock()


def open_npy(path: Path | str) -> Array:
    """The array of an .npy file, left on disk until it is read. Raises errors of many kinds."""
    with _PARSING:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _read_deep(path: Path) -> Array:
    """An image that is not 8-bit grey or colour: (H, W, C) in its own type."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = open_npy(path)
        _check_array(path, array)
        array = np.array(array)  # in memory, whatever becomes of the file
    elif suffix in (".tif", ".tiff"):
        array = _read_tiff(path)
    else:
        with Image.open(path) as picture:
            mode, is_png = picture.mode, picture.format == "PNG"
            if mode.startswith("I;16") or mode in ("I", "F"):
                array = np.asarray(picture)
                if is_png and array.dtype != np.uint16:  # 16-bit grey, widened by some releases of Pillow
                    array = array.astype(np.uint16)
            else:
                array = _imagecodecs(path).imread(path)
        _check_array(path, array)
    array = array[..., None] if array.ndim == 2 else array
    native: Array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _read_tiff(path: Path) -> Array:
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f"{path} is a TIFF with more than 8 bits or 4 channels; reading it needs: pip install 'cyclegan[data]'."
        ) from None
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        array, axes = series.asarray(), series.axes
    # Planes and pages are channels: what stands before the rows goes behind the columns.
    if array.ndim == 3 and axes.endswith("YX"):
        array = np.moveaxis(array, 0, -1)
    _check_array(path, array)
    return np.asarray(array)


def _imagecodecs(path: Path):  # type: ignore[no-untyped-def]
    try:
        import imagecodecs
    except ImportError:
        raise InputError(f"{path} has 16-bit colour; reading it needs: pip install 'cyclegan[data]'.") from None
    return imagecodecs


def _check_array(path: Path, array: Array) -> None:
    if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}; "
            "expected (height, width) or (height, width, channels) of numbers."
        )


def write_image(path: Path, array: Array) -> None:
    """Write (H, W, C) in the format of the path's suffix, without loss of depth. JPEG has quality 95.

    Raises InputError if the format cannot hold the array.
    """
    if not can_hold(path.suffix, array.shape[2], str(array.dtype)):
        raise InputError(f"{path.name}: {path.suffix} files cannot hold {array.shape[2]} channels of {array.dtype}.")
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, array)
    elif array.dtype == np.uint8 and array.shape[2] in (1, 3, 4):
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        options = {"quality": 95, "subsampling": 0} if suffix in (".jpg", ".jpeg") else {}
        options |= {"quality": 95} if suffix in (".webp", ".avif") else {}
        picture.save(buffer, Image.registered_extensions()[suffix], **options)
    elif suffix == ".png" and array.shape[2] == 1:
        Image.fromarray(array[..., 0]).save(buffer, "PNG")
    elif suffix == ".png":
        buffer.write(_imagecodecs(path).png_encode(array))
    else:
        import tifffile

        planar = array.shape[2] not in (1, 3, 4)
        pixels = array[..., 0] if array.shape[2] == 1 else np.moveaxis(array, -1, 0) if planar else array
        kind = "rgb" if array.shape[2] in (3, 4) else "minisblack"
        tifffile.imwrite(buffer, pixels, photometric=kind, planarconfig="separate" if planar else None)
    write_bytes(path, buffer.getbuffer())
