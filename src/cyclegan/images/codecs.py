"""Files <-> arrays <-> tensors.

The one image convention: a tensor is float32, (N, C, H, W) or (C, H, W), in [-1, 1], RGB or any C channels. An array is
(H, W, C) in the type of its file. An `ImageFormat` says how the two belong together, and is recorded in the model.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from pydantic import Field
from torch import Tensor

from cyclegan.config import Config, InputError
from cyclegan.images.file_list import FileList, list_files
from cyclegan.system.atomic import write_bytes

Array = NDArray[np.generic]
T = TypeVar("T")

# Most pixels of a batch of images whose sizes nobody has chosen.
BATCH_PIXELS = 8 * 256 * 256

EXTENSIONS: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".npy")

# Modes of Pillow with 8 bits or fewer a channel: these convert among each other on purpose (see `read_image`).
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")

# Channels that files of these kinds hold at 8 bits. JPEG, BMP and the like cannot keep transparency.
_CHANNELS = {
    ".png": (1, 3, 4),
    ".webp": (3, 4),
    ".avif": (3, 4),
    ".jpg": (1, 3),
    ".jpeg": (1, 3),
    ".bmp": (1, 3),
}


class UnreadableError(ValueError):
    """A file that is damaged or of another kind than its name says. One such file does not end a run."""


class ImageFormat(Config):
    """Type, channels and value range of a domain's images."""

    channels: int = Field(3, ge=1)
    dtype: str = Field("uint8", description="numpy type of the file's values")
    low: float = Field(0.0, description="value that becomes -1")
    high: float = Field(255.0, description="value that becomes 1")

    def __str__(self) -> str:
        return f"{self.channels} x {self.dtype} in [{self.low:g}, {self.high:g}]"


def list_images(root: Path) -> FileList:
    """Image files below a folder, nested ones too, hidden ones not, ordered by their path."""
    return list_files(root, EXTENSIONS)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` items at equal distances, in their order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def same_size_batches(images: Iterable[tuple[T, Tensor]], batch_size: int) -> Iterator[tuple[list[T], Tensor]]:
    """Things with their (C, H, W) images -> neighbours of one size together, as (N, C, H, W).

    Large images come in smaller batches, of at most as many pixels as `BATCH_PIXELS`, or alone.
    """
    waiting: list[tuple[T, Tensor]] = []
    for thing, image in images:
        most = max(1, min(batch_size, BATCH_PIXELS // image[0].numel()))
        if waiting and (len(waiting) >= most or waiting[0][1].shape != image.shape):
            yield [t for t, _ in waiting], torch.stack([i for _, i in waiting])
            waiting = []
        waiting.append((thing, image))
    if waiting:
        yield [t for t, _ in waiting], torch.stack([i for _, i in waiting])


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


def can_hold(suffix: str, channels: int, dtype: str) -> bool:
    """Whether files of this suffix hold images of these channels and this numpy type without loss of depth."""
    suffix = suffix.lower()
    if suffix in (".tif", ".tiff", ".npy"):
        return True
    if dtype == "uint8":
        return channels in _CHANNELS.get(suffix, ())
    return suffix == ".png" and dtype == "uint16" and channels in (1, 3, 4)


def to_tensor(array: Array, image_format: ImageFormat) -> Tensor:
    """(H, W, C) in the file's type -> (C, H, W), float32 in [-1, 1]; values outside the range are clipped."""
    return torch.from_numpy(to_signal(array, image_format))


def to_signal(array: Array, image_format: ImageFormat) -> NDArray[np.float32]:
    """What `to_tensor` holds, as an array of its own memory, made without torch."""
    low, high = image_format.low, image_format.high
    signal = np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")
    signal -= np.float32(low)
    signal *= np.float32(2 / (high - low))
    signal -= np.float32(1)
    return np.clip(signal, -1, 1, out=signal)


def from_tensor(tensor: Tensor, image_format: ImageFormat) -> Array:
    """(C, H, W) in [-1, 1] -> (H, W, C) in the format's type and range, rounded to the nearest value."""
    low, high = image_format.low, image_format.high
    # Doubles, because 32-bit integers and large ranges have more digits than float32.
    values = (tensor.detach().cpu().double().clamp(-1, 1).add(1).mul((high - low) / 2).add(low)).numpy()
    return cast(values.transpose(1, 2, 0), image_format.dtype)


def cast(array: Array, dtype: str) -> Array:
    """Another numpy type: rounded to the nearest value and kept within the type where it holds integers."""
    kind = np.dtype(dtype)
    if kind.kind in "ui" and array.dtype.kind == "f":
        limits = np.iinfo(kind)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return np.ascontiguousarray(array, dtype=kind)


def resize(array: Array, height: int, width: int) -> Array:
    """Bicubic, anti-aliased when it shrinks. 8-bit stays 8-bit; other types become float32."""
    if array.shape[:2] == (height, width):
        return array
    if array.dtype == np.uint8 and array.shape[2] in (1, 3, 4):
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        return resized if resized.ndim == 3 else resized[..., None]
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(array, -1, 0)
    ]
    return np.stack(planes, -1)


def scale(array: Array, *, short_side: int | None = None, width: int | None = None) -> Array:
    """Bring the shorter side or the width to so many pixels, the other one in proportion; None leaves the size.

    Raises InputError if both are given.
    """
    if short_side is not None and width is not None:
        raise InputError(f"short_side is {short_side} and scale_width is {width}; pass one of them.")
    if short_side is None and width is None:
        return array
    rows, columns = array.shape[:2]
    factor = short_side / min(rows, columns) if short_side is not None else (width or columns) / columns
    return resize(array, max(1, round(rows * factor)), max(1, round(columns * factor)))


def pad_to_multiple(images: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Mirror (..., C, H, W) at its right and lower border until H and W are multiples and at least `smallest`."""
    for dim in (-2, -1):
        if (places := _mirrored(images.shape[dim], multiple, smallest)) is not None:
            images = images.index_select(dim, torch.from_numpy(places).to(images.device))
    return images


def mirror_to_multiple(array: Array, multiple: int, smallest: int = 1) -> Array:
    """The same for (H, W, C)."""
    for axis in (0, 1):
        if (places := _mirrored(array.shape[axis], multiple, smallest)) is not None:
            array = array.take(places, axis)
    return array


def _mirrored(size: int, multiple: int, smallest: int) -> NDArray[np.int64] | None:
    """Places to take for a side that is long enough; None if it is."""
    missing = -(-max(size, smallest) // multiple) * multiple - size
    if missing == 0:
        return None
    return np.pad(np.arange(size, dtype=np.int64), (0, missing), "reflect" if size > 1 else "edge")


def grid(rows: list[list[Tensor]], labels: list[str]) -> Image.Image:
    """A picture of rows of (C, H, W) images in [-1, 1], each row under its label; extra channels are left out."""
    gap, head = 4, 16
    height = sum(head + gap + max(image.shape[1] for image in row) for row in rows)
    width = max(sum(image.shape[2] + gap for image in row) for row in rows) - gap
    sheet = Image.new("RGB", (max(width, 96), height - gap), "white")
    draw = ImageDraw.Draw(sheet)
    y = 0
    for row, label in zip(rows, labels, strict=True):
        draw.text((2, y + 2), label, fill="black")
        y += head
        x = 0
        for image in row:
            sheet.paste(displayable(image), (x, y))
            x += image.shape[2] + gap
        y += max(image.shape[1] for image in row) + gap
    return sheet


def displayable(image: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] as an 8-bit RGB picture: the first three channels, or the first one in grey."""
    channels = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    return Image.fromarray(from_tensor(channels, ImageFormat()))


def upscale(image: Tensor, factor: int) -> Tensor:
    """Repeat every pixel of (C, H, W) `factor` times in both directions, so that small images can be looked at."""
    return image.repeat_interleave(factor, -1).repeat_interleave(factor, -2) if factor > 1 else image
