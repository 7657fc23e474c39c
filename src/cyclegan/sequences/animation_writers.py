"""Write animations: GIF, WebP, APNG and AVIF, frame by frame.

Pillow's own writers of GIF, WebP and APNG join equal frames, and hold all of a GIF or an APNG in memory. Here Pillow
encodes each frame as a picture by itself, and its data is put into the container of an animation. So a file keeps the
number of its frames, and memory holds one of them.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclegan.images.filetypes import gif, png
from cyclegan.images.filetypes.pillow import options_of, to_pillow, with_alpha, write
from cyclegan.images.raster import Metadata, Raster
from cyclegan.sequences.formats import Frame, SequenceTarget

# Frames of sources that have no time, such as the pages of a stack, are shown this long.
_MILLISECONDS = 100.0

_LOOP_EXTENSION = b"\x21\xff\x0bNETSCAPE2.0\x03\x01"

# Flags of an animated WebP.
_ANIMATED, _EXIF, _TRANSPARENT, _PROFILE = 0x02, 0x08, 0x10, 0x20


def _raster(raster: Raster, *, has_alpha: bool) -> Raster:
    """A frame with alpha if any frame of its sequence has some, since all frames of a PNG are of one kind."""
    if raster.alpha is not None or not has_alpha or raster.values.shape[2] == 4:
        return raster
    return replace(raster, alpha=np.full(raster.values.shape[:2], 255, np.uint8))


def _picture(raster: Raster, *, has_alpha: bool) -> Image.Image:
    """A frame as RGB or RGBA."""
    picture = to_pillow(with_alpha(_raster(raster, has_alpha=has_alpha)))
    return picture.convert("RGBA" if picture.mode in ("LA", "RGBA") else "RGB")


def _shown(frame: Frame) -> float:
    return _MILLISECONDS if frame.milliseconds is None else frame.milliseconds


class _Clock:
    """Durations in whole ticks, whose errors do not add up."""

    def __init__(self, milliseconds: float) -> None:
        self._tick, self._time = milliseconds, 0.0

    def ticks(self, frame: Frame, most: int) -> int:
        begin = round(self._time / self._tick)
        self._time += _shown(frame)
        return min(round(self._time / self._tick) - begin, most)


def write_gif(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write an animated GIF. Frames of more than 256 colours are dithered to colours of their own."""
    source, clock = target.source, _Clock(10)
    is_reduced, control_at, before = False, 0, None  # of the frame before
    with place.open("wb") as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", source.width, source.height, 0x70, 0, 0))
        if source.plays != 1:
            file.write(_LOOP_EXTENSION + struct.pack("<HB", max(source.plays - 1, 0), 0))
        for frame in frames:
            shown = gif.to_palette(frame.raster, spare=source.has_alpha)
            is_reduced |= not shown.is_exact
            if before is not None and shown.is_transparent:  # the frame before would be seen through this one
                here = file.tell()
                file.seek(control_at)
                file.write(bytes([2 << 2 | (before.spare is not None)]))
                file.seek(here)
            control_at, before = file.tell() + 3, shown
            table, image = gif.encode(shown.picture)
            control = 1 << 2 | shown.is_transparent, clock.ticks(frame, 0xFFFF), shown.spare or 0, 0
            file.write(b"\x21\xf9\x04" + struct.pack("<BHBB", *control))
            size = (len(table) // 3 - 1).bit_length() - 1
            file.write(b"\x2c" + struct.pack("<HHHHB", 0, 0, source.width, source.height, 0x80 | size) + table + image)
        file.write(b";")
    if is_reduced:
        source.notes.append(f"{target.path.name} is a GIF, which has 256 colours a frame: the others are dithered.")


def write_png(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write an APNG, without loss."""
    source, count, sequence = target.source, 0, 0
    with place.open("w+b") as file:
        file.write(png.SIGNATURE)
        for frame in frames:
            buffer = io.BytesIO()
            write(buffer, _raster(frame.raster, has_alpha=source.has_alpha), format="PNG")
            head, data = png.split(buffer.getvalue())
            if count == 0:
                file.write(head)
                counts_at = file.tell()
                file.write(png.chunk(b"acTL", bytes(8)))
            control = (sequence, source.width, source.height, 0, 0, *_png_delay(_shown(frame)), 0, 0)
            file.write(png.chunk(b"fcTL", struct.pack(">5I2H2B", *control)))
            sequence += 1
            if count == 0:
                file.write(png.chunk(b"IDAT", data))
            else:
                file.write(png.chunk(b"fdAT", struct.pack(">I", sequence) + data))
                sequence += 1
            count += 1
        file.write(png.chunk(b"IEND", b""))
        if count:
            file.seek(counts_at)
            file.write(png.chunk(b"acTL", struct.pack(">II", count, source.plays)))


def _png_delay(milliseconds: float) -> tuple[int, int]:
    """A duration as a fraction of a second of two 16-bit numbers."""
    delay = Fraction(milliseconds / 1000).limit_denominator(0xFFFF)
    if delay.numerator <= 0xFFFF:
        return delay.numerator, delay.denominator
    return (round(milliseconds), 1000) if milliseconds <= 0xFFFF else (min(round(milliseconds / 1000), 0xFFFF), 1)


def write_webp(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write an animated WebP of quality 95."""
    source, clock, flags, exif = target.source, _Clock(1), _ANIMATED, b""
    size = _uint24(source.width - 1) + _uint24(source.height - 1)
    with place.open("wb") as file:
        file.write(bytes(12 + 18))  # written at the end, when they are known
        for index, frame in enumerate(frames):
            raster = frame.raster if index == 0 else replace(frame.raster, metadata=Metadata())
            buffer = io.BytesIO()
            write(buffer, raster, format="WEBP", quality=95)
            chunks = _webp_chunks(buffer.getvalue())
            if index == 0:
                flags |= (_PROFILE if b"ICCP" in chunks else 0) | (_EXIF if b"EXIF" in chunks else 0)
                file.write(chunks.get(b"ICCP", b""))
                exif = chunks.get(b"EXIF", b"")
                file.write(b"ANIM" + struct.pack("<IIH", 6, 0, min(source.plays, 0xFFFF)))
            if raster.alpha is not None or raster.values.shape[2] == 4:
                flags |= _TRANSPARENT
            data = b"".join(chunks.get(name, b"") for name in (b"ALPH", b"VP8 ", b"VP8L"))
            # 2: pixels replace those of the frame before, transparent ones too.
            head = bytes(6) + size + _uint24(clock.ticks(frame, 0xFFFFFF)) + b"\x02"
            file.write(b"ANMF" + struct.pack("<I", len(head) + len(data)) + head + data)
        file.write(exif)
        end = file.tell()
        file.seek(0)
        file.write(b"RIFF" + struct.pack("<I", end - 8) + b"WEBP")
        file.write(b"VP8X" + struct.pack("<II", 10, flags) + size)


def _uint24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _webp_chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a still WebP by name, each with its head."""
    chunks, place = {}, 12
    while place + 8 <= len(content):
        name, size = struct.unpack("<4sI", content[place : place + 8])
        end = place + 8 + size + size % 2
        chunks[name] = content[place:end]
        place = end
    return chunks


class _Frames(Image.Image):
    """The frames of an iterator as one Pillow image of several frames, for writers that read one after the other.

    durations: in milliseconds, of the frames that were read. Each is there before its frame is written.
    """

    is_animated = True

    def __init__(self, pictures: Iterator[tuple[Image.Image, int]]) -> None:
        super().__init__()
        self._pictures, self._index = pictures, -1
        self.durations: list[int] = []
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame <= self._index:
            return
        picture, duration = next(self._pictures, (None, 0))
        if picture is None:
            raise EOFError
        self._index += 1
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size
        self.durations.append(duration)

    def tell(self) -> int:
        return self._index


def write_avif(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write an AVIF sequence of quality 95. Pillow cannot say how often it is shown."""
    source, clock, options = target.source, _Clock(1), dict[str, Any]()

    def pictures() -> Iterator[tuple[Image.Image, int]]:
        for index, frame in enumerate(frames):
            if index == 0:
                options.update(options_of(frame.raster.metadata, "AVIF"))
            yield _picture(frame.raster, has_alpha=source.has_alpha), clock.ticks(frame, 0xFFFFFF)

    shown = _Frames(pictures())
    with place.open("wb") as file:
        shown.save(file, "AVIF", save_all=True, append_images=[], duration=shown.durations, quality=95, **options)
