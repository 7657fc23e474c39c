"""Read animations: GIF, WebP, APNG and AVIF, by Pillow. `animation_writers` writes them."""

import io
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from PIL import Image

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.filetypes import png
from cyclegan.images.filetypes.pillow import EIGHT_BIT_MODES, find_depth, orientation_of
from cyclegan.images.formats import ImageFormat
from cyclegan.images.interpret import interpret_as
from cyclegan.images.raster import Raster
from cyclegan.sequences.formats import Frame, PictureSequence, check_size


def is_animation(path: Path) -> bool:
    """Whether a file holds several frames, by its first bytes as far as they say."""
    with path.open("rb") as file:
        begin = file.read(64)
        if begin.startswith(png.SIGNATURE):
            file.seek(len(png.SIGNATURE))
            return png.announced_frames(file) > 1
    may_be_animated = (
        begin.startswith(b"GIF8")
        or (begin[:4] == b"RIFF" and begin[12:16] == b"VP8X" and begin[20] & 2 != 0)
        or (begin[4:8] == b"ftyp" and b"avis" in begin)
    )
    if not may_be_animated:
        return False
    with _open(path) as picture:
        return bool(getattr(picture, "is_animated", False))


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


def refuse_animation(path: Path, _format: ImageFormat) -> AbstractContextManager[PictureSequence]:
    """Raises InputError: for kinds of animations of which single frames are read at most."""
    raise InputError(
        f"{path} is an animation, and {path.suffix} files are not translated frame by frame; convert it to a GIF, "
        "WebP, APNG or clip, or take one of its pictures with --page."
    )


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
        is_deep = find_depth(path, picture) > 8
    except Exception as error:
        raise UnreadableError(f"{path} cannot be read as an animation: {error}") from error
    with picture:
        if is_deep or picture.mode not in EIGHT_BIT_MODES:
            raise InputError(f"{path} is an animation of 16 bits; the model takes {image_format}: convert it.")
        check_size(path, picture.height, picture.width, 4)
        num_frames, plays = int(getattr(picture, "n_frames", 1)), _plays(picture)
        has_default = bool(picture.info.get("default_image"))
        has_alpha = picture.format == "GIF" or picture.has_transparency_data
        width, height = picture.size
        if orientation_of(partial(Image.Image.getexif, picture)) >= 5:  # frames are turned upright
            width, height = height, width
        sequence = PictureSequence(path, height, width, num_frames - has_default, iter(()), plays, has_alpha)
        if has_default:
            sequence.notes.append(f"The still picture that {path.name} shows instead of its animation is left out.")
        sequence.frames = _frames(picture, sequence, image_format, int(has_default))
        yield sequence


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
