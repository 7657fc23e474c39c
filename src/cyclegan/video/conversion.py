"""Animations into clips, and clips into animations: a clip as a sequence of pictures, without its sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Raster
from cyclegan.images.resizing import resize
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceFormat, SequenceTarget
from cyclegan.video.frames import ClipReport, clip_damage, read_frames
from cyclegan.video.reading import RGB, ClipInfo, import_av, open_input, probe_clip, ticks, to_array
from cyclegan.video.writing import CONTAINERS, PictureWriter, open_container, write_errors

# Players show a frame without a duration, or of 0, so long.
_MILLISECONDS = 100.0


@contextmanager
def read_clip(path: Path, image_format: ImageFormat) -> Iterator[PictureSequence]:
    """The frames of a clip, 8-bit grey or colour. Sound is left out, with a note."""
    av = import_av()
    info, report = probe_clip(av, path), ClipReport()
    with open_input(av, path) as clip:
        sequence = PictureSequence(path, info.height, info.width, info.expected_frames, iter(()))
        if clip.streams.audio:
            sequence.notes.append(f"The sound of {path.name} is left out.")
        if info.pixel_aspect not in (None, 1):
            sequence.notes.append(f"Pixels of {path.name} are {info.pixel_aspect} as wide as high, which is lost.")
        sequence.frames = _frames(av, clip, info, report, sequence, image_format.channels)
        yield sequence


def _frames(
    av: Any, clip: Any, info: ClipInfo, report: ClipReport, sequence: PictureSequence, channels: int
) -> Iterator[Frame]:
    """Each frame is shown until the next one, the last one as long as its packet says."""
    waiting: tuple[Array, Fraction] | None = None
    length, end, count = 1 / info.rate, Fraction(0), 0
    for frame in read_frames(av, clip, info, {}, report):
        time = ticks(frame, info)
        begin = end if time is None else time * info.time_base
        length = (frame.duration or 0) * info.time_base or 1 / info.rate
        end = begin + length
        if waiting is not None:
            yield _frame(waiting[0], begin - waiting[1])
        waiting = resize(to_array(av, frame, info, channels), info.height, info.width), begin
        count += 1
    if waiting is not None:
        yield _frame(waiting[0], length)
    sequence.damage += clip_damage(av, clip, info, report, sequence.path.name, count)


def _frame(array: Array, seconds: Fraction) -> Frame:
    return Frame(Raster(array), max(0.0, float(1000 * seconds)))


def write_clip(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write frames as a clip without sound."""
    av, source = import_av(), target.source
    container = CONTAINERS[target.path.suffix.lower()][0]
    time = 0.0
    first = next(frames, None)
    if first is None:
        return
    with write_errors(av, target.path), open_container(av, place, container) as out:
        pictures = PictureWriter(av, out, target.path, _info(source, _shown(first)), source.notes)
        for frame in _chained(first, frames):
            begin, time = round(time), time + _shown(frame)
            pictures.write(frame.raster.values, begin, round(time) - begin)
        pictures.close()


def _chained(first: Frame, others: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from others


def _shown(frame: Frame) -> float:
    return frame.milliseconds or _MILLISECONDS


def _info(source: PictureSequence, milliseconds: float) -> ClipInfo:
    """Properties of a clip of RGB whose times are milliseconds."""
    rate = Fraction(1000 / milliseconds).limit_denominator(1000)
    return ClipInfo(
        index=0,
        width=source.width,
        height=source.height,
        turns=0,
        rate=max(rate, Fraction(1, 10)),
        time_base=Fraction(1, 1000),
        start=Fraction(0),
        pixel_aspect=None,
        matrix=RGB,
        color_range=0,
        primaries=2,
        transfer=2,
        expected_frames=source.num_frames,
        has_decoding_times=False,
    )


CLIP = SequenceFormat(
    kind="clip",
    suffixes=tuple(CONTAINERS),
    is_sequence=lambda _: True,
    read=read_clip,
    write=write_clip,
    holds={"uint8": (1, 3)},
    install="cyclegan[video]",
)


def timed(row: SequenceFormat) -> tuple[SequenceFormat, list[float]]:
    """The row, and the milliseconds that each frame is shown, once it is written."""
    shown: list[float] = []
    write = row.write
    if write is None:
        return row, shown

    def counted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            shown.append(_shown(frame))
            yield frame

    return replace(row, write=lambda place, frames, target: write(place, counted(frames), target)), shown
