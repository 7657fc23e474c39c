"""JPEG XL and JPEG XR, by imagecodecs."""

from pathlib import Path
from typing import IO

import numpy as np

from cyclegan.images import Array
from cyclegan.images.filetypes import pillow
from cyclegan.images.filetypes.boxes import walk_boxes
from cyclegan.images.formats import Decoded, check_page
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster

# Width by height of the ratios that a header may name instead of a width, from 1 on.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))

# Bytes that hold what is read of a header.
_HEAD = 32


def read(path: Path) -> Decoded:
    """A JPEG XL of any depth, upright; of an animation the first frame."""
    return _with_alpha(_frames(path)[0])


def read_page(path: Path, page: str) -> Decoded:
    """One frame of an animation, counted from 1. Raises InputError if there is none of this number."""
    frames = _frames(path)
    return _with_alpha(frames[check_page(path, page, len(frames)) - 1])


def _frames(path: Path) -> Array:
    """All frames, (N, H, W) or (N, H, W, C)."""
    import imagecodecs

    check_pixels(*size(path))
    array: Array = imagecodecs.jpegxl_decode(path.read_bytes())
    return array if is_animation(path) else array[None]


def read_jxr(path: Path) -> Decoded:
    """A JPEG XR of any depth."""
    import imagecodecs

    check_pixels(*jxr_size(path))
    return _with_alpha(imagecodecs.jpegxr_decode(path.read_bytes()))


def _with_alpha(array: Array) -> Decoded:
    if array.ndim == 3 and array.shape[2] in (2, 4):
        return Raster(array, metadata=Metadata(extra_samples=(2,)))
    return array


def write(file: IO[bytes], raster: Raster) -> None:
    """Write 8 or 16 bits or floats without loss."""
    import imagecodecs

    array = pillow.with_alpha(raster)
    array = array[..., 0] if array.shape[2] == 1 else array
    file.write(imagecodecs.jpegxl_encode(np.ascontiguousarray(array), lossless=True))


def size(path: Path | str) -> tuple[int, int]:
    """Height and width as they are stored. Raises ValueError for a file without a header (ISO/IEC 18181-1, D.2)."""
    return _size(_header(path))


def is_animation(path: Path | str) -> bool:
    """Whether a file holds several frames. Raises ValueError as `size` does (ISO/IEC 18181-1, D.3)."""
    bits = _header(path)
    _size(bits)
    if bits.take(1) or not bits.take(1):  # all by default, no extra fields
        return False
    bits.take(3)  # the orientation
    if bits.take(1):
        _size(bits)  # the intrinsic one
    # A preview has a size of its own kind; no known program writes one.
    return not bits.take(1) and bool(bits.take(1))


def _header(path: Path | str) -> "_Bits":
    """The bits of the header from the size on."""
    with open(path, "rb") as file:  # noqa: PTH123
        head = file.read(_HEAD)
        if head[:2] != b"\xff\x0a":  # a container
            box = next((box for box in walk_boxes(file) if box.kind in (b"jxlc", b"jxlp")), None)
            if box is not None:
                file.seek(box.content + 4 * (box.kind == b"jxlp"))
                head = file.read(_HEAD)
        if len(head) < 3 or head[:2] != b"\xff\x0a":
            raise ValueError("it is no JPEG XL file, or it is cut off")
    return _Bits(int.from_bytes(head[2:], "little"))


def _size(bits: "_Bits") -> tuple[int, int]:
    is_small = bits.take(1)
    height = (bits.take(5) + 1) * 8 if is_small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height, height * across // down
    return height, (bits.take(5) + 1) * 8 if is_small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])


class _Bits:
    """Bits of a number, the lowest first."""

    def __init__(self, number: int) -> None:
        self._number = number

    def take(self, count: int) -> int:
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        return value


def jxr_size(path: Path | str) -> tuple[int, int]:
    """Height and width of a JPEG XR, whose file is built like a TIFF. Raises ValueError for one without."""
    with open(path, "rb") as file:  # noqa: PTH123
        head = file.read(8)
        if head[:3] != b"II\xbc":
            raise ValueError("it is no JPEG XR file")
        file.seek(int.from_bytes(head[4:8], "little"))
        count = int.from_bytes(file.read(2), "little")
        entries = file.read(12 * count)
    found = {
        int.from_bytes(entries[at : at + 2], "little"): int.from_bytes(entries[at + 8 : at + 12], "little")
        for at in range(0, len(entries) - 11, 12)
    }
    if not (found.get(0xBC80) and found.get(0xBC81)):
        raise ValueError("its header is damaged")
    return found[0xBC81], found[0xBC80]
