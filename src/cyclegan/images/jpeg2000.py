"""JPEG 2000: 8-bit pictures by Pillow, everything else by imagecodecs."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from cyclegan.images import pillow
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster

# What marks the beginning of the codestream, and its size behind it.
_CODESTREAM = b"\xff\x4f\xff\x51"


class _Size(NamedTuple):
    height: int
    width: int
    bits: tuple[int, ...]  # of each component
    is_signed: bool

    @property
    def is_picture(self) -> bool:
        return max(self.bits) <= 8 and not self.is_signed and len(self.bits) <= 4

    @property
    def dtype(self) -> str:
        bits = next(bits for bits in (8, 16, 32, 64) if bits >= max(self.bits) or bits == 64)
        return f"{'int' if self.is_signed else 'uint'}{bits}"


def _size_of(path: Path | str) -> _Size:
    """The header of a codestream, alone or in a JP2 file. Raises ValueError if there is none."""
    with open(path, "rb") as file:  # noqa: PTH123
        begin = 0
        if file.read(4) != _CODESTREAM:
            while True:  # box after box: their length and kind
                file.seek(begin)
                box = file.read(16)
                length, kind = int.from_bytes(box[:4], "big"), box[4:8]
                header = 8
                if length == 1:
                    length, header = int.from_bytes(box[8:16], "big"), 16
                if kind == b"jp2c":
                    begin += header
                    break
                if len(box) < 8 or length < header:
                    raise ValueError("it is no JPEG 2000 file, or it is cut off")
                begin += length
        file.seek(begin)
        head = file.read(42)
        if len(head) < 42 or head[:4] != _CODESTREAM:
            raise ValueError("it is no JPEG 2000 file, or it is cut off")
        width, height, left, top = (int.from_bytes(head[at : at + 4], "big") for at in (8, 12, 16, 20))
        count = int.from_bytes(head[40:42], "big")
        components = file.read(3 * count)[::3]
    if not 0 < count <= 16384 or len(components) < count or width <= left or height <= top:
        raise ValueError("its header is damaged")
    bits = tuple((value & 0x7F) + 1 for value in components)
    return _Size(height - top, width - left, bits, any(value & 0x80 for value in components))


def read(path: Path) -> Decoded:
    size = _size_of(path)
    check_pixels(size.height, size.width, len(size.bits) * np.dtype(size.dtype).itemsize)
    if size.is_picture:
        with suppress(OSError):  # Pillow refuses sound files, such as GDAL's in colours; damage is found below as well
            return pillow.read(path)
    import imagecodecs

    array = imagecodecs.jpeg2k_decode(path.read_bytes())
    has_alpha = array.ndim == 3 and array.shape[2] in (2, 4)
    return Raster(array, metadata=Metadata(extra_samples=(2,))) if has_alpha else array


def probe(path: Path) -> Header:
    size = _size_of(path)
    if size.is_picture:
        return Header(size.height, size.width, "uint8", None)
    channels = len(size.bits)
    return Header(size.height, size.width, size.dtype, channels, channels in (2, 4))


def size(path: str) -> tuple[int, int]:
    found = _size_of(path)
    return found.height, found.width


def _write(file: IO[bytes], raster: Raster, *, kind: Literal["jp2", "j2k"]) -> None:
    """Write 8 or 16 bits without loss."""
    import imagecodecs

    array = pillow.with_alpha(raster)
    array = array[..., 0] if array.shape[2] == 1 else array
    file.write(imagecodecs.jpeg2k_encode(np.ascontiguousarray(array), level=0, codecformat=kind, reversible=True))


write_jp2, write_j2k = partial(_write, kind="jp2"), partial(_write, kind="j2k")
