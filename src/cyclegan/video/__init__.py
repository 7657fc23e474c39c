"""Clips: decoded, translated and encoded frame by frame; sound, times, size and colours are those of the source.

Whatever the length of a clip, no more than a batch of frames (and what the codecs look ahead) is in memory.
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
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.resizing import scale
from cyclegan.translate.plan import TranslationPlan, find_files, image_suffix, mirror, plan_outputs
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import Translator
from cyclegan.video.reading import HDR_TRANSFERS, Clock, Look, decode, import_av, look_at, open_input, ticks, to_array
from cyclegan.video.writing import CONTAINERS, PictureWriter, Sound, open_output, open_sounds

__all__ = ["VIDEO_EXTENSIONS", "TranslatedClip", "plan_translation", "translate_video"]

# What counts as a clip among other inputs. A file of another name that PyAV reads can be the only input.
VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".gif"),
)

# A clip that stops so long before its announced end, in seconds, is one of which a part is missing.
_MISSING_SECONDS = 0.5


@dataclass(frozen=True)
class TranslatedClip:
    """What `translate_video` made. notes, damage: sentences on what is not as in the source, and on what is lost."""

    num_frames: int
    seconds: float
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


def plan_translation(
    inputs: Iterable[Path], out: Path, translator: Translator
) -> tuple[TranslationPlan, TranslationPlan]:
    """Which file becomes which, images and clips apart, as in `cyclegan.translate.plan.plan_outputs`.

    Where `out` has the name of a clip or an image, the one input becomes that file. Otherwise it is a folder, and a
    clip keeps its name, with the suffix .mp4 where its own is not written. Raises InputError like `plan_outputs`.
    """
    inputs = [Path(path) for path in inputs]
    if out.suffix.lower() in VIDEO_EXTENSIONS and not out.is_dir():
        if len(inputs) > 1 or inputs[0].is_dir():
            raise InputError(f"--out {out} is one clip, and the inputs are more than one; give a folder as --out.")
        if inputs[0].suffix.lower() in image_suffixes():
            raise InputError(f"--out {out} is a clip, and {inputs[0]} is an image; give a folder as --out.")
        return TranslationPlan.of([]), TranslationPlan.of([(inputs[0], out)])

    if out.suffix.lower() in image_suffixes() and not out.is_dir():
        return plan_outputs(inputs, out, translator), TranslationPlan.of([])

    for path in inputs:
        if path.is_dir() and not find_files(path, out, image_suffixes() + VIDEO_EXTENSIONS):
            raise InputError(f"{path} holds no images and no clips.")
    images = [path for path in inputs if path.suffix.lower() not in VIDEO_EXTENSIONS or path.is_dir()]
    clips = [path for path in inputs if path.suffix.lower() in VIDEO_EXTENSIONS or path.is_dir()]
    return (
        mirror(images, out, image_suffixes(), lambda suffix: image_suffix(suffix, translator)),
        mirror(clips, out, VIDEO_EXTENSIONS, lambda suffix: suffix if suffix.lower() in CONTAINERS else ".mp4"),
    )


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
    """Translate every frame of a clip; the times of frames, size, colour tags and sound stay.

    target: its suffix, one of .mp4 .m4v .mov .mkv .webm, says the container. short_side, scale_width: pixels to
    which the shorter side or the width is brought for the network. stabilise, memory_frames: as in
    `Translator.translate`. on_frame(done, expected): called after each frame; expected is None where a clip does not
    tell its length.
    The target is written whole or not at all; an interrupted call leaves nothing. Of a damaged clip all that could be
    decoded is kept, and `damage` says what is missing.
    Raises InputError if the clip or the model cannot be used, or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    av = import_av()
    _check(translator, source, target)
    look, told = look_at(av, source), _Told()
    if look.transfer in HDR_TRANSFERS:
        told.notes.append(f"{source.name} is HDR; its values were translated as they are, with 8 bits each.")

    waiting: deque[tuple[int | None, int]] = deque()
    done = 0
    with open_input(av, source) as clip, open_output(av, target) as out:
        pictures = PictureWriter(av, out, target, look, told.notes)
        sounds = open_sounds(av, clip, out, target, look.start, told.notes)

        def arrays() -> Iterator[Array]:
            for frame in _frames(av, clip, look, sounds, told):
                array = to_array(av, frame, look, translator.source.channels)
                waiting.append((ticks(frame, look), frame.duration or 0))
                yield scale(array, short_side=short_side, width=scale_width)

        for result in translator.translate(
            arrays(), batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames
        ):
            pictures.write(np.asarray(result), *waiting.popleft())
            done += 1
            on_frame(done, look.expected_frames)
        if done == 0:
            raise InputError(f"{source} holds no frame that can be decoded.")
        pictures.close()
        for sound in sounds.values():
            sound.close()
        promised = Fraction(clip.duration or 0, av.time_base)

    missing = promised + look.start - told.end
    if told.bad_packets:
        told.damage.append(f"{source.name}: {told.bad_packets} packets could not be decoded; the rest is translated.")
    if dropped := sum(sound.num_dropped for sound in sounds.values()):
        told.damage.append(f"{source.name}: {dropped} packets of sound came twice or too late; they are left out.")
    if jumps := told.clock.num_jumps:
        often = "once" if jumps == 1 else f"{jumps} times"
        told.damage.append(f"{source.name}: its clock jumps {often}; what follows was put behind what came before.")
    if missing > _MISSING_SECONDS and not told.clock.num_jumps:  # else the announced end means nothing
        told.damage.append(
            f"{source.name} ends {float(missing):.1f} s early; the {done} frames that are there are kept."
        )
    return TranslatedClip(done, float(pictures.end), tuple(told.notes), tuple(told.damage))


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
    if source.resolve() == target.resolve():
        raise InputError(f"{source} would be overwritten; choose another --out.")


@dataclass
class _Told:
    """What is counted and said while a clip goes through."""

    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    bad_packets: int = 0
    end: Fraction = Fraction(0)  # seconds, the latest of all streams, on the clip's own clock


def _frames(av: Any, clip: Any, look: Look, sounds: "dict[int, Sound]", told: _Told) -> Iterator[Any]:
    """The frames of the clip; its sound goes to the output on the way."""
    for frame, packet in decode(av, clip, look.index, told.clock):
        if frame is not None:
            yield frame
        elif packet is None:
            told.bad_packets += 1
        else:
            if packet.pts is not None:
                told.end = max(told.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index in sounds:
                try:
                    sounds[packet.stream.index].write(packet)
                except av.FFmpegError:
                    told.bad_packets += 1
