"""The PNM formats: PBM, PGM and PPM of 8 or 16 bits, as text or binary, and PFM with floats."""

import re
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from cyclegan.images import Array
from cyclegan.images.filetypes import pillow
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Raster

# Kind, three numbers (the last a fraction in PFM), comments between them, and one space before the pixels.
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"(P[2356Ff])" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)" + _SPACE + rb"(-?[0-9.eE+-]+)\s")

# Enough for a header with long comments.
_HEAD_BYTES = 4096


class _Deep(NamedTuple):
    """The header of a file with more than 8 bits. begin: where its pixels begin."""

    kind: bytes
    height: int
    width: int
    channels: int
    scale: float
    begin: int

    @property
    def dtype(self) -> str:
        return "float32" if self.kind in (b"PF", b"Pf") else "uint16"


def _deep_header(path: Path) -> _Deep | None:
    """The header of a file with 16 bits or floats; None for others, which Pillow reads."""
    with path.open("rb") as file:
        found = _HEADER.match(file.read(_HEAD_BYTES))
    if found is None:
        return None
    kind, width, height, scale = found[1], int(found[2]), int(found[3]), float(found[4])
    if kind not in (b"PF", b"Pf") and not 255 < scale < 65536:
        return None
    return _Deep(kind, height, width, 3 if kind in (b"P3", b"P6", b"PF") else 1, scale, found.end())


def read(path: Path) -> Decoded:
    header = _deep_header(path)
    if header is None:
        return pillow.read(path)
    check_pixels(header.height, header.width, header.channels * np.dtype(header.dtype).itemsize)
    shape = (header.height, header.width, header.channels)
    with path.open("rb") as file:
        file.seek(header.begin)
        content = file.read()
    if header.kind in (b"P2", b"P3"):
        numbers = np.array(re.sub(rb"#[^\n]*", b"", content).split(), np.int64)
        if numbers.size < np.prod(shape) or (numbers.size and not 0 <= numbers.min() <= numbers.max() <= header.scale):
            raise ValueError("its numbers are too few, or not from 0 to the largest that it names")
        return numbers[: np.prod(shape)].astype(np.uint16).reshape(shape)
    if header.dtype == "uint16":
        return _from_bytes(content, ">u2", shape).astype(np.uint16)
    # The sign of the scale is the byte order; the last row comes first.
    return _from_bytes(content, "<f4" if header.scale < 0 else ">f4", shape)[::-1].astype(np.float32)


def _from_bytes(content: bytes, dtype: str, shape: tuple[int, int, int]) -> Array:
    count = int(np.prod(shape))
    if len(content) < count * np.dtype(dtype).itemsize:
        raise ValueError("it is cut off")
    return np.frombuffer(content, dtype, count).reshape(shape)


def probe(path: Path) -> Header | None:
    header = _deep_header(path)
    if header is None:
        return pillow.probe(path)
    return Header(header.height, header.width, header.dtype, header.channels)


def write(file: IO[bytes], raster: Raster) -> None:
    """Write 8 or 16 bits, or floats, grey or RGB."""
    array = raster.values
    height, width, channels = array.shape
    if array.dtype == np.float32:
        file.write(f"{'Pf' if channels == 1 else 'PF'}\n{width} {height}\n-1.0\n".encode())
        file.write(np.ascontiguousarray(array[::-1].astype("<f4")).data)
        return
    most = 255 if array.dtype == np.uint8 else 65535
    file.write(f"{'P5' if channels == 1 else 'P6'}\n{width} {height}\n{most}\n".encode())
    file.write(np.ascontiguousarray(array.astype(array.dtype.newbyteorder(">"))).data)
