"""PNG: what Pillow does not read or write, which is 16-bit colour, some transparency, and chunks of metadata."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from cyclegan.images import Array
from cyclegan.images.raster import Metadata, Raster

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Signature and header.
_HEAD = 33

# Bytes in which the chunk of colours stands, which comes before all large ones.
_NEAR = 256


def depth_and_codes(path: Path) -> tuple[int, tuple[int, ...] | None]:
    """Bits of a sample, 1, 2, 4, 8 or 16, and the four numbers of cICP, which Pillow does not read; None without."""
    with path.open("rb") as file:
        head = file.read(_NEAR)
    at = head.find(b"cICP", 0, head.find(b"IDAT"))
    return head[24], tuple(head[at + 4 : at + 8]) if at > 0 else None


def read_deep(path: Path, picture: ImageFile.ImageFile, metadata: Metadata) -> Raster:
    """All samples of 16 bits, alpha last, of a file that Pillow has opened. Colour needs imagecodecs."""
    if picture.mode in ("I", "I;16", "I;16B"):
        # Some releases of Pillow widen them.
        array = np.asarray(picture).astype(np.uint16)[..., None]
        hidden = picture.info.get("transparency")  # the one grey that is transparent
        if hidden is not None:
            array = np.concatenate([array, np.where(array == hidden, 0, 65535).astype(np.uint16)], axis=2)
    else:
        import imagecodecs

        array = imagecodecs.png_decode(path.read_bytes())
    has_alpha = array.shape[2] in (2, 4)
    return Raster(array, metadata=replace(metadata, extra_samples=(2,)) if has_alpha else metadata)


def scale_transparency(picture: Image.Image, bits: int) -> None:
    """Bring the transparent grey of a picture of 2 or 4 bits to 8 bits, as Pillow does with the values themselves."""
    hidden = picture.info.get("transparency")
    if picture.mode == "L" and bits < 8 and isinstance(hidden, int):
        picture.info["transparency"] = hidden * 255 // (2**bits - 1)


def encode_deep(array: Array, metadata: Metadata) -> bytes:
    """A file of 16 bits with 2 to 4 channels, (H, W, C), alpha last, and its metadata. It needs imagecodecs."""
    import imagecodecs

    png = bytes(imagecodecs.png_encode(array))
    return png[:_HEAD] + b"".join(_describe(metadata)) + png[_HEAD:]


def _describe(metadata: Metadata) -> Iterator[bytes]:
    """Chunks that stand behind the header."""
    if metadata.profile is not None:
        yield chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.profile))
    if metadata.resolution is not None:
        across, down = (min(round(part / 0.0254), 2**31 - 1) for part in metadata.resolution)
        yield chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif is not None:
        yield chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.description is not None:
        yield chunk(b"iTXt", b"Description\0\0\0\0\0" + metadata.description.encode())


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def announced_frames(file: IO[bytes]) -> int:
    """The frames that the chunks of a PNG announce before its pixels. file: behind the signature."""
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"acTL":
            return int(struct.unpack(">I", file.read(4))[0])
        if name in (b"IDAT", b"IEND"):
            return 1
        file.seek(size + 4, 1)
    return 1


def split(content: bytes) -> tuple[bytes, bytes]:
    """The chunks of a PNG before its pixels, with its metadata, and its compressed pixels."""
    head, data, place = b"", [], len(SIGNATURE)
    while place < len(content):
        size, name = struct.unpack(">I4s", content[place : place + 8])
        if name == b"IDAT":
            data.append(content[place + 8 : place + 8 + size])
        elif not data:
            head += content[place : place + size + 12]
        place += size + 12
    return head, b"".join(data)
