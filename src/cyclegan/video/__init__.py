"""Translate clips frame by frame. Sound, frame times, size and colours stay those of the source.

Memory holds one batch of frames and what the codecs buffer, whatever the length of a clip.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.file_formats import image_suffixes, is_image_name
from cyclegan.images.file_list import FileList, describe_left_out
from cyclegan.images.pages import is_folder
from cyclegan.images.resizing import scale
from cyclegan.system.arguments import real_path
from cyclegan.translate.output_names import find_files, mirror
from cyclegan.translate.plan import TranslationPlan, image_suffix, plan_outputs
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import Translator
from cyclegan.video.reading import (
    HDR_TRANSFERS,
    ClipInfo,
    Clock,
    decode,
    import_av,
    open_input,
    probe_clip,
    ticks,
    to_array,
)
from cyclegan.video.writing import CONTAINERS, PictureWriter, Sound, open_output, open_sounds

__all__ = ["VIDEO_SUFFIXES", "TranslatedClip", "plan_translation", "translate_video"]

# Clips among other inputs. A file with another suffix that PyAV reads can be the only input.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".gif"),
)

# A clip that ends so many seconds before its announced end is incomplete.
_MISSING_SECONDS = 0.5


@dataclass(frozen=True)
class TranslatedClip:
    """The result of `translate_video`. notes: sentences on differences from the source; damage: on losses."""

    num_frames: int
    seconds: float
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


def plan_translation(
    inputs: Iterable[Path], out: Path, translator: Translator
) -> tuple[TranslationPlan, TranslationPlan]:
    """Plans of images and of clips, as `cyclegan.translate.plan.plan_outputs` makes them.

    If `out` has the name of a clip or an image, the one input is written to that file. Otherwise it is a folder, and a
    clip keeps its name, with the suffix .mp4 if its own cannot be written. Raises InputError as `plan_outputs` does.
    """
    inputs = [Path(path) for path in inputs]
    nothing = TranslationPlan(FileList(Path(), []), FileList(Path(), []))
    if _is_clip_name(out) and not out.is_dir():
        if len(inputs) > 1 or inputs[0].is_dir():
            raise InputError(f"--out {out} is one clip, and the inputs are more than one; give a folder as --out.")
        if is_image_name(inputs[0]):
            raise InputError(f"--out {out} is a clip, and {inputs[0]} is an image; give a folder as --out.")
        return nothing, TranslationPlan.of([(inputs[0], out)])
    if is_image_name(out) and not out.is_dir():
        return plan_outputs(inputs, out, translator), nothing

    for path in inputs:
        if is_folder(path) and not (found := find_files(path, out, image_suffixes() + VIDEO_SUFFIXES)):
            raise InputError(f"{path} holds no images and no clips. {describe_left_out(found.left_out)}".rstrip())
    images = [path for path in inputs if is_folder(path) or not _is_clip_name(path)]
    clips = [path for path in inputs if path.is_dir() or _is_clip_name(path)]  # clips in a zip are left out
    return (
        TranslationPlan(*mirror(images, out, image_suffixes(), lambda suffix: image_suffix(suffix, translator))),
        TranslationPlan(
            *mirror(clips, out, VIDEO_SUFFIXES, lambda suffix: suffix if suffix.lower() in CONTAINERS else ".mp4")
        ),
    )


def _is_clip_name(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def translate_video(
    translator: Translator,
    source: Path,
    target: Path,
    *,
    batch_size: int = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    on_frame: Callable[[int, int | None], None] = lambda _done, _expected: None,
) -> TranslatedClip:
    """Translate every frame of a clip. Frame times, size, colour tags and sound stay.

    target: its suffix, one of .mp4 .m4v .mov .mkv .webm, selects the container. batch_size, short_side,
    scale_width, stabilise, memory_frames: as in `cyclegan.translate.folder.translate_folder`.
    on_frame(done, expected): called after each frame; expected is None if the length is unknown.
    The target is complete or absent; an interrupted call leaves nothing. All frames of a damaged clip that can be
    decoded are kept, and `damage` lists what is missing.
    Raises InputError if the clip or the model cannot be used, or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    av = import_av()
    _check(translator, source, target)
    info, report = probe_clip(av, source), _Report()
    if info.transfer in HDR_TRANSFERS:
        report.notes.append(f"{source.name} is HDR; its values were translated as they are, with 8 bits each.")

    in_network: deque[tuple[int | None, int]] = deque()
    done = 0
    with open_input(av, source) as clip, open_output(av, target) as out:
        pictures = PictureWriter(av, out, target, info, report.notes)
        sounds = open_sounds(av, clip, out, target, info.start, report.notes)

        def arrays() -> Iterator[Array]:
            for frame in _frames(av, clip, info, sounds, report):
                array = to_array(av, frame, info, translator.source.channels)
                in_network.append((ticks(frame, info), frame.duration or 0))
                yield scale(array, short_side=short_side, width=scale_width)

        for result in translator.translate(
            arrays(), batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames
        ):
            pictures.write(np.asarray(result), *in_network.popleft())
            done += 1
            on_frame(done, info.expected_frames)
        if done == 0:
            raise InputError(f"{source} holds no frame that can be decoded.")
        pictures.close()
        for sound in sounds.values():
            sound.close()
        announced = Fraction(clip.duration or 0, av.time_base)

    missing = announced + info.start - report.end
    if report.bad_packets:
        report.damage.append(
            f"{source.name}: {report.bad_packets} packets could not be decoded; the rest is translated."
        )
    if dropped := sum(sound.num_dropped for sound in sounds.values()):
        report.damage.append(f"{source.name}: {dropped} packets of sound came twice or too late; they are left out.")
    if jumps := report.clock.num_jumps:
        often = "once" if jumps == 1 else f"{jumps} times"
        report.damage.append(f"{source.name}: its clock jumps {often}; the parts are joined.")
    if missing > _MISSING_SECONDS and not report.clock.num_jumps:  # else the announced end means nothing
        report.damage.append(
            f"{source.name} ends {float(missing):.1f} s early; the {done} frames that are there are kept."
        )
    return TranslatedClip(done, float(pictures.end), tuple(report.notes), tuple(report.damage))


def _check(translator: Translator, source: Path, target: Path) -> None:
    for image_format in (translator.source, translator.target):
        if image_format.dtype != "uint8" or image_format.channels not in (1, 3):
            raise InputError(
                f"A clip holds 8-bit grey or colour, and this model is for images of {image_format}; translate the "
                "frames as files instead."
            )
    if target.suffix.lower() not in CONTAINERS:
        raise InputError(f"{target.name}: clips are written as {', '.join(CONTAINERS)}; choose one of these.")
    if not source.is_file():
        raise InputError(f"There is no clip {source}.")
    if real_path(source) == real_path(target):
        raise InputError(f"{source} would be overwritten; choose another --out.")


@dataclass
class _Report:
    """Counts and sentences collected while a clip is translated."""

    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    bad_packets: int = 0
    end: Fraction = Fraction(0)  # seconds, the latest of all streams, on the clip's own clock


def _frames(av: Any, clip: Any, info: ClipInfo, sounds: "dict[int, Sound]", report: _Report) -> Iterator[Any]:
    """The frames of the clip. Packets of sound are written to the output on the way."""
    for frame, packet in decode(av, clip, info.index, report.clock):
        if frame is not None:
            yield frame
        elif packet is None:
            report.bad_packets += 1
        else:
            if packet.pts is not None:
                report.end = max(report.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index in sounds:
                try:
                    sounds[packet.stream.index].write(packet)
                except av.FFmpegError:
                    report.bad_packets += 1
