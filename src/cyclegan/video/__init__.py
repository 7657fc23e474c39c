"""Translate clips frame by frame. Sound, frame times, size and colours stay those of the source.

Memory holds one batch of frames and what the codecs buffer, whatever the length of a clip.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.file_formats import is_image_name
from cyclegan.images.file_list import FileList, describe_left_out
from cyclegan.images.pages import is_folder, split_page
from cyclegan.images.resizing import scale
from cyclegan.sequences.registry import find_sequence, format_by_name
from cyclegan.system.arguments import check_path, real_path
from cyclegan.translate.inputs import Unusable, expand_patterns, find_files, only_path
from cyclegan.translate.output_names import mirror
from cyclegan.translate.plan import TranslationPlan, input_suffixes, mirror_images, plan_outputs, sequence_of
from cyclegan.translate.results import translate_items
from cyclegan.translate.sequence import translate_sequence
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import BatchSize, Translator
from cyclegan.video.conversion import CLIP, timed
from cyclegan.video.frames import ClipReport, clip_damage, read_frames
from cyclegan.video.reading import HDR_TRANSFERS, import_av, open_input, probe_clip, ticks, to_array
from cyclegan.video.writing import CONTAINERS, PictureWriter, open_output, open_sounds

__all__ = ["VIDEO_SUFFIXES", "TranslatedClip", "plan_translation", "translate_video"]

# Clips among other inputs. A file with another suffix that PyAV reads can be the only input.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)


@dataclass(frozen=True)
class TranslatedClip:
    """The result of `translate_video`. notes: sentences on differences from the source; damage: on losses."""

    num_frames: int
    seconds: float
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


def plan_translation(
    inputs: Iterable[Path | FileList], out: Path, translator: Translator, *, all_pages: bool = False
) -> tuple[TranslationPlan, TranslationPlan]:
    """Plans of images and of clips, as `cyclegan.translate.plan.plan_outputs` makes them.

    Animations are among the images. If `out` has the name of a clip, an animation or an image, the one input is written
    to that file; an animation becomes a clip so, and a clip an animation. Otherwise `out` is a folder, and a clip keeps
    its name, with the suffix .mp4 if its own cannot be written. all_pages, errors: as in `plan_outputs`.
    """
    suffixes = input_suffixes() + VIDEO_SUFFIXES
    paths = expand_patterns(inputs, out, suffixes)
    source = only_path(paths)
    nothing = TranslationPlan(FileList(Path(), []), FileList(Path(), []))
    if _is_clip_name(out) and not out.is_dir():
        if source is None or source.is_dir():
            raise InputError(f"--out {out} is one clip, and the inputs are more than one; give a folder as --out.")
        if is_image_name(source) and sequence_of(source, translator, all_pages=all_pages) is None:
            raise InputError(f"--out {out} is a clip, and {source} is an image; give a folder as --out.")
        return nothing, TranslationPlan.of([(source, out)])
    row = format_by_name(out, all_pages=all_pages)
    if (is_image_name(out) or row is not None) and not out.is_dir():
        # A PNG is a picture first: a clip becomes an animation of that kind only as .apng.
        if source is not None and _is_clip_name(source) and row is not None and out.suffix.lower() != ".png":
            return nothing, TranslationPlan.of([(source, out)])
        return plan_outputs(paths, out, translator, all_pages=all_pages), nothing
    if source is not None and source.is_dir() and sequence_of(source, translator) is not None:
        return plan_outputs(paths, out, translator, all_pages=all_pages), nothing

    images: list[Path | FileList] = []
    clips: list[Path | FileList] = []
    for path in paths:
        if isinstance(path, Unusable):
            images.append(path)
            clips.append(path)
        elif isinstance(path, FileList):
            names = {
                is_clip: [n for n in path.names() if _is_clip_name(Path(n)) == is_clip] for is_clip in (False, True)
            }
            images.append(FileList(path.root, names[False], left_out=path.left_out))
            clips.append(FileList(path.root, names[True]))
        elif is_folder(path):
            if not (found := find_files(path, out, suffixes)):
                raise InputError(f"{path} holds no images and no clips. {describe_left_out(found.left_out)}".rstrip())
            images.append(path)
            clips.append(path)
        else:
            (clips if _is_clip_name(path) else images).append(path)
    # From the same folders as the images, so that the places below `out` are the same.
    found_clips = TranslationPlan(
        *mirror(
            clips, out, VIDEO_SUFFIXES, lambda path: s if (s := Path(path).suffix).lower() in CONTAINERS else ".mp4"
        )
    )
    on_disk = [index for index, (clip, _) in enumerate(found_clips) if split_page(clip)[1] is None]  # not in a zip
    return (
        mirror_images(images, out, translator, all_pages=all_pages),
        found_clips.take(np.array(on_disk, int)),
    )


def _is_clip_name(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def translate_video(
    translator: Translator,
    source: Path,
    target: Path,
    *,
    batch_size: BatchSize = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    on_frame: Callable[[int, int | None], None] = lambda _done, _expected: None,
) -> TranslatedClip:
    """Translate every frame of a clip. Frame times, size, colour tags and sound stay.

    target: its suffix, one of .mp4 .m4v .mov .mkv .webm, selects the container. The source may also be an animation,
    and the target one, such as .gif or .webp, which has no sound. batch_size, short_side, scale_width, stabilise,
    memory_frames: as in `cyclegan.translate.folder.translate_folder`.
    on_frame(done, expected): called after each frame; expected is None if the length is unknown.
    The target is complete or absent; an interrupted call leaves nothing. All frames of a damaged clip that can be
    decoded are kept, and `damage` lists what is missing.
    Raises InputError if the clip or the model cannot be used, or the target cannot be written.
    """
    source, target = check_path("source", source), check_path("target", target)
    reader, writer = find_sequence(source, all_pages=True) or CLIP, format_by_name(target) or CLIP
    if reader is not CLIP or writer is not CLIP:
        writer, shown = timed(writer)
        made = translate_sequence(
            translator,
            source,
            target,
            batch_size=batch_size,
            short_side=short_side,
            scale_width=scale_width,
            stabilise=stabilise,
            memory_frames=memory_frames,
            on_frame=on_frame,
            reader=reader,
            writer=writer,
        )
        return TranslatedClip(made.num_frames, sum(shown) / 1000, made.notes, made.damage)
    av = import_av()
    _check(translator, source, target)
    info, report = probe_clip(av, source), ClipReport()
    if info.transfer in HDR_TRANSFERS:
        report.notes.append(f"{source.name} is HDR; its values were translated as they are, with 8 bits each.")

    done = 0
    with open_input(av, source) as clip, open_output(av, target) as out:
        pictures = PictureWriter(av, out, target, info, report.notes)
        sounds = open_sounds(av, clip, out, target, info.start, report.notes)

        def items() -> Iterator[tuple[tuple[int | None, int], Array]]:
            for frame in read_frames(av, clip, info, sounds, report):
                array = to_array(av, frame, info, translator.source.channels)
                when = ticks(frame, info), frame.duration or 0
                yield when, scale(array, short_side=short_side, width=scale_width)

        for when, result in translate_items(
            translator,
            items(),
            batch_size=batch_size,
            stabilise=stabilise,
            memory_frames=memory_frames,
            on_note=report.notes.append,
        ):
            if isinstance(result, InputError):
                raise result
            pictures.write(result, *when)
            done += 1
            on_frame(done, info.expected_frames)
        if done == 0:
            raise InputError(f"{source} holds no frame that can be decoded.")
        pictures.close()
        for sound in sounds.values():
            sound.close()
        report.damage += clip_damage(av, clip, info, report, source.name, done, sounds.values())

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
