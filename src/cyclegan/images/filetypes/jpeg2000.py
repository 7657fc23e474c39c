"""JPEG 2000: 8-bit pictures by Pillow, everything else by imagecodecs."""

import io
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
from cyclegan.images.filetypes.boxes import make_box, walk_boxes
from cyclegan.images.filetypes.tiff_tags import PLACE_TAGS
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Metadata, Raster, Tag

# A JP2 header is shorter, but for a palette of thousands of colours.
_MOST_HEADER_BYTES = 2**20

# The identity of a GeoJP2 box.
_GEOJP2 = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")

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
            for box in walk_boxes(file):
                if box.kind == b"jp2c":
                    begin = box.content
                    break
                if box.kind == b"jp2h" and box.length is not None:
                    file.seek(box.content)
                    header = file.read(min(box.length, _MOST_HEADER_BYTES))
                    says_alpha, profile = _says_alpha(header), _profile(header)
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


def _says_alpha(header: bytes) -> bool:
    """Whether the boxes of a JP2 header define a channel of transparency (ISO 15444-1, I.5.3.6)."""
    for kind, content in _contents(header):
        if kind == b"cdef":
            channels = (content[at : at + 6] for at in range(2, len(content), 6))
            return any(channel[2:4] in (b"\0\1", b"\0\2") for channel in channels)
    return False


def _profile(header: bytes) -> bytes | None:
    """The ICC profile in the boxes of a JP2 header, restricted (JP2) or any (JPX); None without one (I.5.3.3)."""
    found = (text[3:] for kind, text in _contents(header) if kind == b"colr" and text[:1] in b"\2\3" and text)
    return next(found, None)


def _contents(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in a JP2 header."""
    for box in walk_boxes(io.BytesIO(header)):
        if box.length is not None:
            yield box.kind, header[box.content : box.content + box.length]


def _complete(content: bytes, channels: int, *, is_alpha: bool, place: list[Tag]) -> bytes:
    """A JP2 file with what imagecodecs leaves out.

    is_alpha: whether the last channel is transparency, which its header says. place: the tags of a GeoTIFF, which
    follow as GeoJP2: a TIFF of one pixel in a box of its own (https://github.com/OSGeo/gdal, `GDALJP2Metadata`).
    """
    header = next(box for box in walk_boxes(io.BytesIO(content)) if box.kind == b"jp2h")
    assert header.length is not None
    end = header.content + header.length
    boxes = content[header.content : end]
    if is_alpha:
        colours = b"".join(struct.pack(">HHH", index, 0, index + 1) for index in range(channels - 1))
        defined = struct.pack(">H", channels) + colours + struct.pack(">HHH", channels - 1, 1, 0)
        boxes += make_box(b"cdef", defined)
    geo = b""
    if place:
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros((1, 1), np.uint8), metadata=None, software=False, extratags=place)
        geo = make_box(b"uuid", _GEOJP2 + buffer.getvalue())
    return content[: header.begin] + make_box(b"jp2h", boxes) + geo + content[end:]


def read(path: Path) -> Decoded:
    size = _size_of(path)
    check_pixels(size.height, size.width, len(size.bits) * np.dtype(size.dtype).itemsize)
    if size.is_picture:
        with suppress(OSError):  # Pillow refuses some valid files, such as GDAL's in colours
            picture = pillow.read(path)
            if isinstance(picture, Image.Image):
                picture.info.pop("comment", None)  # of the encoder, such as "Created by OpenJPEG version 2.5.0"
                if size.profile is not None:
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
    place = [tag for tag in raster.metadata.tags if tag[0] in PLACE_TAGS]
    if kind == "jp2" and (is_alpha or place):
        content = _complete(bytes(content), channels, is_alpha=is_alpha, place=place)
    file.write(content)


write_jp2, write_j2k = partial(_write, kind="jp2"), partial(_write, kind="j2k")
