"""JPEG 2000: 8-bit pictures by Pillow, everything else by imagecodecs."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from PIL import Image

from cyclegan.images.filetypes import pillow
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster

# A JP2 header is shorter, but for a palette of thousands of colours.
_MOST_HEADER_BYTES = 2**20

# What marks the beginning of the codestream, and its size behind it.
_CODESTREAM = b"\xff\x4f\xff\x51"


class _Size(NamedTuple):
    height: int
    width: int
    bits: tuple[int, ...]  # of each component
    is_signed: bool
    has_alpha: bool  # whether the last of 2 or 4 components is transparency; a codestream alone does not say
    profile: bytes | None

    @property
    def is_picture(self) -> bool:
        is_known = len(self.bits) in (1, 3) or self.has_alpha
        return max(self.bits) <= 8 and not self.is_signed and is_known

    @property
    def dtype(self) -> str:
        bits = next(bits for bits in (8, 16, 32, 64) if bits >= max(self.bits) or bits == 64)
        return f"{'int' if self.is_signed else 'uint'}{bits}"


def _size_of(path: Path | str) -> _Size:
    """The header of a codestream, alone or in a JP2 file. Raises ValueError if there is none."""
    with open(path, "rb") as file:  # noqa: PTH123
        begin, says_alpha, profile = 0, True, None
        if file.read(4) != _CODESTREAM:
            says_alpha = False
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
                if kind == b"jp2h":
                    file.seek(begin + header)
                    boxes = file.read(min(length - header, _MOST_HEADER_BYTES))
                    says_alpha, profile = _says_alpha(boxes), _profile(boxes)
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
    is_signed = any(value & 0x80 for value in components)
    return _Size(height - top, width - left, bits, is_signed, count in (2, 4) and says_alpha, profile)


def _says_alpha(boxes: bytes) -> bool:
    """Whether the boxes of a JP2 header define a channel of transparency (ISO 15444-1, I.5.3.6)."""
    for kind, content in _contents(boxes):
        if kind == b"cdef":
            channels = (content[at : at + 6] for at in range(2, len(content), 6))
            return any(channel[2:4] in (b"\0\1", b"\0\2") for channel in channels)
    return False


def _profile(boxes: bytes) -> bytes | None:
    """The ICC profile in the boxes of a JP2 header, restricted (JP2) or any (JPX); None without one (I.5.3.3)."""
    return next((text[3:] for kind, text in _contents(boxes) if kind == b"colr" and text[:1] in b"\2\3" and text), None)


def _contents(boxes: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box."""
    at = 0
    while at + 8 <= len(boxes):
        length = int.from_bytes(boxes[at : at + 4], "big")
        yield boxes[at + 4 : at + 8], boxes[at + 8 : at + length]
        at += max(length, 8)


def _with_alpha_defined(content: bytes, channels: int) -> bytes:
    """A JP2 file whose header says that the last channel is transparency; imagecodecs leaves that out."""
    at = content.index(b"jp2h") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    colours = b"".join(struct.pack(">HHH", index, 0, index + 1) for index in range(channels - 1))
    defined = struct.pack(">H", channels) + colours + struct.pack(">HHH", channels - 1, 1, 0)
    box = struct.pack(">I", len(defined) + 8) + b"cdef" + defined
    longer = struct.pack(">I", length + len(box))
    return content[:at] + longer + content[at + 4 : at + length] + box + content[at + length :]


def read(path: Path) -> Decoded:
    size = _size_of(path)
    check_pixels(size.height, size.width, len(size.bits) * np.dtype(size.dtype).itemsize)
    if size.is_picture:
        with suppress(OSError):  # Pillow refuses sound files, such as GDAL's in colours; damage is found below as well
            picture = pillow.read(path)
            if isinstance(picture, Image.Image) and size.profile is not None:
                picture.info["icc_profile"] = size.profile
            return picture
    import imagecodecs

    content = path.read_bytes()
    if size.profile is not None:  # by which OpenJPEG converts colours with a coarse table, if it knows the method
        at = content.index(size.profile) - 3
        content = content[:at] + b"\xff" + content[at + 1 :]
    array = imagecodecs.jpeg2k_decode(content)
    metadata = Metadata(profile=size.profile)
    return Raster(array, metadata=replace(metadata, extra_samples=(2,)) if size.has_alpha else metadata)


def probe(path: Path) -> Header:
    size = _size_of(path)
    if size.is_picture:
        return Header(size.height, size.width, "uint8", None)
    channels = len(size.bits)
    return Header(size.height, size.width, size.dtype, channels, size.has_alpha)


def _write(file: IO[bytes], raster: Raster, *, kind: Literal["jp2", "j2k"]) -> None:
    """Write 8 or 16 bits without loss."""
    import imagecodecs

    array = pillow.with_alpha(raster)
    channels = array.shape[2]
    array = array[..., 0] if channels == 1 else array
    content = imagecodecs.jpeg2k_encode(np.ascontiguousarray(array), level=0, codecformat=kind, reversible=True)
    # Without a word of the domain four channels are RGBA, as in a PNG.
    is_alpha = raster.alpha is not None or (channels == 4 and raster.metadata.extra_samples is None)
    file.write(_with_alpha_defined(bytes(content), channels) if is_alpha and kind == "jp2" else content)


write_jp2, write_j2k = partial(_write, kind="jp2"), partial(_write, kind="j2k")
