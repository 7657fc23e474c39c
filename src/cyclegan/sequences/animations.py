"""Animations: GIF, WebP, APNG and AVIF, read by Pillow and written frame by frame.

Pillow's own writers of GIF, WebP and APNG join equal frames, and hold all of a GIF or an APNG in memory. Here Pillow
encodes each frame as a picture by itself, and its data is put into the container of an animation. So a file keeps the
number of its frames, and memory holds one of them.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.filetypes.pillow import EIGHT_BIT_MODES, options_of, orientation_of, to_pillow, with_alpha, write
from cyclegan.images.formats import ImageFormat
from cyclegan.images.interpret import interpret_as
from cyclegan.images.raster import Metadata, Raster
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceTarget, check_size

# Frames of sources that have no time, such as the pages of a stack, are shown this long.
_MILLISECONDS = 100.0

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LOOP_EXTENSION = b"\x21\xff\x0bNETSCAPE2.0\x03\x01"

# Flags of an animated WebP.
_ANIMATED, _EXIF, _TRANSPARENT, _PROFILE = 0x02, 0x08, 0x10, 0x20

_GIF_COLOURS = 256


def is_animation(path: Path) -> bool:
    """Whether a file holds several frames, by its first bytes as far as they say."""
    with path.open("rb") as file:
        begin = file.read(64)
        if begin.startswith(_PNG_SIGNATURE):
            file.seek(len(_PNG_SIGNATURE))
            return _announced_frames(file) > 1
    may_be_animated = (
        begin.startswith(b"GIF8")
        or (begin[:4] == b"RIFF" and begin[12:16] == b"VP8X" and begin[20] & 2 != 0)
        or (begin[4:8] == b"ftyp" and b"avis" in begin)
    )
    if not may_be_animated:
        return False
    with _open(path) as picture:
        return bool(getattr(picture, "is_animated", False))


def _announced_frames(file: IO[bytes]) -> int:
    """The frames that the chunks of a PNG announce before its pixels."""
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"acTL":
            return int(struct.unpack(">I", file.read(4))[0])
        if name in (b"IDAT", b"IEND"):
            return 1
        file.seek(size + 4, io.SEEK_CUR)
    return 1


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except Exception:
        # The decoder of WebP refuses a file whose end is missing.
        content = path.read_bytes()
        if content[:4] != b"RIFF" or (whole := _whole_frames(content)) is None:
            raise
        return Image.open(io.BytesIO(whole))


def _whole_frames(content: bytes) -> bytes | None:
    """An animated WebP up to its last whole frame; None if it has none, or nothing is missing."""
    end, place = 0, 12
    while place + 8 <= len(content):
        name, size = struct.unpack("<4sI", content[place : place + 8])
        place += 8 + size + size % 2
        if name == b"ANMF" and place <= len(content):
            end = place
    if not end or place <= len(content):
        return None
    return content[:4] + struct.pack("<I", end - 8) + content[8:end]


@contextmanager
def read_animation(path: Path, image_format: ImageFormat) -> Iterator[PictureSequence]:
    """The frames of an animation, composited to the full picture, with their transparency and durations.

    Raises InputError for a model whose images are not 8-bit grey or colour, UnreadableError for a damaged file.
    """
    if not image_format.is_picture:
        raise InputError(
            f"{path} is an animation, which holds 8-bit grey or colour, and the model takes {image_format}."
        )
    try:
        picture = _open(path)
        is_deep = picture.format == "PNG" and _png_bits(path) > 8
    except Exception as error:
        raise UnreadableError(f"{path} cannot be read as an animation: {error}") from error
    with picture:
        if is_deep or picture.mode not in EIGHT_BIT_MODES:
            raise InputError(f"{path} is an animation of 16 bits; the model takes {image_format}: convert it.")
        check_size(path, picture.height, picture.width, 4)
        num_frames, plays = int(getattr(picture, "n_frames", 1)), _plays(picture)
        has_default = bool(picture.info.get("default_image"))
        has_alpha = picture.format == "GIF" or picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        width, height = picture.size
        if orientation_of(partial(Image.Image.getexif, picture)) >= 5:  # frames are turned upright
            width, height = height, width
        sequence = PictureSequence(path, height, width, num_frames - has_default, iter(()), plays, has_alpha)
        if has_default:
            sequence.notes.append(f"The still picture that {path.name} shows instead of its animation is left out.")
        sequence.frames = _frames(picture, sequence, image_format, int(has_default))
        yield sequence


def _png_bits(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _plays(picture: Image.Image) -> int:
    """How often an animation is shown; 0: for ever."""
    loop = picture.info.get("loop")
    if picture.format == "GIF":  # it counts the repetitions after the first showing
        return 1 if loop is None else 0 if loop == 0 else int(loop) + 1
    return int(loop or 0)


def _frames(picture: Image.Image, sequence: PictureSequence, image_format: ImageFormat, first: int) -> Iterator[Frame]:
    path, num_frames, index = sequence.path, sequence.num_frames or 0, 0
    while True:
        try:
            picture.seek(first + index)
            picture.load()
            frame = Frame(_read(path, picture, image_format), float(picture.info.get("duration") or 0))
        except InputError:
            raise
        except Exception as error:  # decoders raise errors of many kinds
            if isinstance(error, EOFError) and index >= num_frames:
                break
            if index == 0:
                raise UnreadableError(f"{path} holds no frame that can be decoded: {error}") from error
            sequence.damage.append(
                f"{path.name} is damaged after frame {index} of {num_frames}; the frames before it are kept."
            )
            return
        yield frame
        index += 1
    if _lacks_its_end(path):
        sequence.damage.append(f"The end of {path.name} is missing; the {index} frames that are there are kept.")


def _read(path: Path, picture: Image.Image, image_format: ImageFormat) -> Raster:
    # The composited frames of a GIF are in mode P only if they are opaque and alone.
    frame = picture.convert("RGBA") if picture.has_transparency_data else picture.copy()
    return interpret_as(path, frame, image_format)


def _lacks_its_end(path: Path) -> bool:
    """Whether a file stops between two frames, which decoders do not report."""
    with path.open("rb") as file:
        begin = file.read(12)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 64))
        end = file.read()
    if begin.startswith(b"GIF8"):
        return not end.rstrip(b"\0\r\n").endswith(b";")
    return begin[:4] == b"RIFF" and size < struct.unpack("<I", begin[4:8])[0] + 8


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
    has_part, is_reduced = False, False
    control_at, before = 0, None  # of the frame before
    with place.open("wb") as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", source.width, source.height, 0x70, 0, 0))
        if source.plays != 1:
            file.write(_LOOP_EXTENSION + struct.pack("<HB", max(source.plays - 1, 0), 0))
        for frame in frames:
            shown = _to_palette(_picture(frame.raster, has_alpha=source.has_alpha), spare=source.has_alpha)
            has_part, is_reduced = has_part or shown.is_partly_transparent, is_reduced or not shown.is_exact
            if before is not None and shown.is_transparent:  # the frame before would be seen through this one
                here = file.tell()
                file.seek(control_at)
                file.write(bytes([2 << 2 | (before.spare is not None)]))
                file.seek(here)
            control_at, before = file.tell() + 3, shown
            table, image = _gif_image(shown.picture)
            control = 1 << 2 | shown.is_transparent, clock.ticks(frame, 0xFFFF), shown.spare or 0, 0
            file.write(b"\x21\xf9\x04" + struct.pack("<BHBB", *control))
            size = (len(table) // 3 - 1).bit_length() - 1
            file.write(b"\x2c" + struct.pack("<HHHHB", 0, 0, source.width, source.height, 0x80 | size) + table + image)
        file.write(b";")
    if is_reduced:
        source.notes.append(f"{target.path.name} is a GIF, which has 256 colours a frame: the others are dithered.")
    if has_part:
        source.notes.append(f"{target.path.name} is a GIF: a pixel is transparent or not, and nothing between.")


@dataclass(frozen=True)
class _Palette:
    """A frame in the colours of a GIF. spare: the index that no colour has, for transparent pixels; None: all are used.

    is_exact: whether it has all colours of the frame.
    """

    picture: Image.Image
    spare: int | None
    is_transparent: bool
    is_partly_transparent: bool
    is_exact: bool


def _to_palette(picture: Image.Image, *, spare: bool) -> _Palette:
    """spare: whether an index is kept for transparent pixels where colours are dithered anyway."""
    alpha = (
        np.asarray(picture.getchannel("A")) if picture.mode == "RGBA" else np.full(picture.size[::-1], 255, np.uint8)
    )
    holes = alpha < 128
    is_transparent = bool(holes.any())
    rgb = np.array(picture.convert("RGB"))
    rgb[holes] = 0
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, indices = np.unique(packed, return_inverse=True)
    is_exact = len(colours) <= _GIF_COLOURS - is_transparent
    if is_exact:
        table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
        indices = indices.reshape(packed.shape)
    else:
        opaque = Image.fromarray(rgb)
        limited = opaque.quantize(palette=opaque.quantize(_GIF_COLOURS - (spare or is_transparent)))
        table, indices = np.reshape(limited.getpalette() or [0, 0, 0], (-1, 3)), np.asarray(limited)
        table = table[: _GIF_COLOURS - (spare or is_transparent)]
    free = len(table) if len(table) < _GIF_COLOURS else None
    if free is not None:
        indices = np.where(holes, free, indices)
        table = np.concatenate([table, [[0, 0, 0]]])
    result = Image.fromarray(indices.astype(np.uint8), "P")
    result.putpalette(table.astype(np.uint8).tobytes())
    return _Palette(result, free, is_transparent, bool(((alpha > 0) & (alpha < 255)).any()), is_exact)


def _gif_image(picture: Image.Image) -> tuple[bytes, bytes]:
    """The table of colours, of 2, 4, 8 ... 256 entries, and the compressed indices of a palette picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", optimize=False, interlace=0)
    content = buffer.getvalue()
    size = 3 * (2 << (content[10] & 7))
    table, place = content[13 : 13 + size], 13 + size
    while content[place] == 0x21:  # extensions
        place += 2
        while content[place]:
            place += 1 + content[place]
        place += 1
    return table, content[place + 10 : -1]


def write_png(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write an APNG, without loss."""
    source, count, sequence = target.source, 0, 0
    with place.open("w+b") as file:
        file.write(_PNG_SIGNATURE)
        for frame in frames:
            buffer = io.BytesIO()
            write(buffer, _raster(frame.raster, has_alpha=source.has_alpha), format="PNG")
            head, data = _png_parts(buffer.getvalue())
            if count == 0:
                file.write(head)
                counts_at = file.tell()
                _write_chunk(file, b"acTL", bytes(8))
            control = (sequence, source.width, source.height, 0, 0, *_png_delay(_shown(frame)), 0, 0)
            _write_chunk(file, b"fcTL", struct.pack(">5I2H2B", *control))
            sequence += 1
            if count == 0:
                _write_chunk(file, b"IDAT", data)
            else:
                _write_chunk(file, b"fdAT", struct.pack(">I", sequence) + data)
                sequence += 1
            count += 1
        _write_chunk(file, b"IEND", b"")
        if count:
            file.seek(counts_at)
            _write_chunk(file, b"acTL", struct.pack(">II", count, source.plays))


def _png_delay(milliseconds: float) -> tuple[int, int]:
    """A duration as a fraction of a second of two 16-bit numbers."""
    delay = Fraction(milliseconds / 1000).limit_denominator(0xFFFF)
    if delay.numerator <= 0xFFFF:
        return delay.numerator, delay.denominator
    return (round(milliseconds), 1000) if milliseconds <= 0xFFFF else (min(round(milliseconds / 1000), 0xFFFF), 1)


def _write_chunk(file: IO[bytes], name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


def _png_parts(content: bytes) -> tuple[bytes, bytes]:
    """The chunks of a PNG before its pixels, with its metadata, and its compressed pixels."""
    head, data, place = b"", [], len(_PNG_SIGNATURE)
    while place < len(content):
        size, name = struct.unpack(">I4s", content[place : place + 8])
        if name == b"IDAT":
            data.append(content[place + 8 : place + 8 + size])
        elif not data:
            head += content[place : place + size + 12]
        place += size + 12
    return head, b"".join(data)


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
