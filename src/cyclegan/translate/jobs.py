"""Sort the files of a plan by what is to be done with each: nothing, as a whole, in tiles, or as a sequence."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images.file_formats import is_image_name
from cyclegan.images.filetypes.overviews import check_cog
from cyclegan.images.headers import read_sizes
from cyclegan.sequences.formats import SequenceFormat
from cyclegan.sequences.registry import find_sequence, format_by_name
from cyclegan.translate.large_files import find_large, only_regions, why_too_large
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan, find_sequences, sequence_of, sequences
from cyclegan.translate.progress import Skipped
from cyclegan.translate.tiling.pictures import TILE, check_tile
from cyclegan.translate.translator import Translator


@dataclass(frozen=True)
class Jobs:
    """The files of a plan.

    existing: those whose result is there already. todo: all others, of which each is one of whole, large and sequences,
    or refused, with the reason: too large to be translated without tiles.
    notes: sentences for the user.
    """

    existing: TranslationPlan
    todo: TranslationPlan
    whole: TranslationPlan
    large: TranslationPlan
    sequences: list[tuple[Path, Path, SequenceFormat]]
    refused: list[Skipped]
    notes: list[str]


def sort_jobs(translator: Translator, plan: TranslationPlan, options: TranslateOptions) -> Jobs:
    """Sort the files of a plan by their headers.

    Raises InputError if one of the files cannot be translated with these options.
    """
    todo, existing = _split_existing(translator, plan, options) if options.skip_existing else (plan, plan[:0])
    images, several = _split_sequences(translator, todo, options)
    if options.part is not None or options.cog:
        for source, _, _ in several:
            options.check_single(source)
    if options.cog:
        check_cog(translator.target.dtype, images.targets)
    notes = _notes_on_gifs(images)
    if options.tile_side is not None:
        check_tile(options.tile_side, translator.original)
        if images:
            notes.append(f"Images are translated in tiles of {options.tile_side} pixels, in float32.")
    whole, large = _split_large(translator, images, options)
    refused: list[Skipped] = []
    if options.pages is not None:
        is_slide = np.array([only_regions(source, translator.source) for source in large.sources], bool)
        large, slides = _split(large, is_slide)
        refused = [
            (
                path,
                f"{path} is a whole slide, whose pages are levels of one image; leave out --pages all: its result "
                "has levels of its own, too.",
            )
            for path in slides.sources
        ]
    if options.tile is None and large:
        refused += _refuse(translator, large, options)
        # The others are read as a whole, which reports what is wrong with them.
        out = {source for source, _ in refused}
        whole, large = _split(images, np.array([source in out for source in images.sources], bool))[0], images[:0]
    return Jobs(existing, todo, whole, large, several, refused, notes)


def tile_of_frames(translator: Translator, source: Path, options: TranslateOptions) -> int | None:
    """Side of the tiles that each frame of a file is translated in; None: as a whole.

    Raises InputError if they would have to be stabilised in tiles.
    """
    if options.tile_side is not None:
        return options.tile_side
    _, large = _split_large(translator, TranslationPlan.of([(source, source)]), options)
    if options.tile is None:
        for _, reason in _refuse(translator, large, options):
            raise InputError(reason)
        return None
    return TILE if large else None


def _split_existing(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions
) -> tuple[TranslationPlan, TranslationPlan]:
    """The images that are still to be translated, and those whose result is there; of sequences, all or none."""
    sizes = zip(plan, read_sizes(plan.targets), strict=True)
    is_there = np.array([size is not None or _is_other(translator, *pair) for pair, size in sizes], bool)
    if options.stabilise:  # a frame depends on the frames before it
        there = {source for source, is_done in zip(plan.sources, is_there, strict=True) if is_done}
        whole = {s for frames in sequences(plan) if all(s in there for s, _ in frames) for s, _ in frames}
        is_there = np.array([source in whole for source in plan.sources], bool)
    return _split(plan, is_there)


def _is_other(translator: Translator, source: Path, target: Path) -> bool:
    """Whether a result is there that is no single image: a volume, a folder of DICOM files, or another file."""
    if target.is_dir():
        row = sequence_of(source, translator) if source.is_dir() else None
        return row is not None and row.is_written(source, target, translator.source, translator.target)
    if not target.is_file() or target.stat().st_size == 0:
        return False
    return not is_image_name(target) or find_sequence(target, all_pages=True) is not None


def _split_sequences(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions
) -> tuple[TranslationPlan, list[tuple[Path, Path, SequenceFormat]]]:
    """The files that hold one image, and those that hold several."""
    found = find_sequences(plan.sources, translator, all_pages=options.pages is not None)
    found = {index: row for index, row in found.items() if not _is_picture(row, *plan[index])}
    is_several = np.zeros(len(plan), bool)
    is_several[list(found)] = True
    return _split(plan, is_several)[0], [(*plan[index], row) for index, row in found.items()]


def _is_picture(row: SequenceFormat, source: Path, target: Path) -> bool:
    """Whether a sequence is one picture that becomes a file of another kind."""
    is_other_kind = not row.is_folder and target.suffix != source.suffix and format_by_name(target) is not row
    return is_other_kind and row.is_picture(source)


def _notes_on_gifs(images: TranslationPlan) -> list[str]:
    if not any(name.lower().endswith(".gif") for name in images.sources.names()):
        return []
    count = sum(source.suffix.lower() == ".gif" and target.suffix.lower() == ".png" for source, target in images)
    if not count:
        return []
    which = "A GIF of one picture becomes" if count == 1 else f"{count} GIFs of one picture become"
    return [f"{which} a PNG, which keeps all colours; a GIF has 256."]


def _split_large(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions
) -> tuple[TranslationPlan, TranslationPlan]:
    """The images that are translated as a whole, and those that are translated in tiles."""
    if options.tile_side is not None:
        return plan[:0], plan
    if options.is_scaled:
        return plan, plan[:0]
    is_large = find_large(translator, plan.sources, batch_size=options.min_batch_size, window=options.part)
    whole, large = _split(plan, is_large)
    if large and options.stabilise and options.tile is not None:
        raise InputError(
            f"{large[0][0]} is too large to be translated as a whole, and frames are not stabilised in tiles; "
            "pass --short-side."
        )
    return whole, large


def _refuse(translator: Translator, large: TranslationPlan, options: TranslateOptions) -> list[Skipped]:
    """Images that are too large to be translated as a whole, with the reason."""
    found = [
        (source, why_too_large(translator, source, batch_size=options.min_batch_size, window=options.part))
        for source in large.sources
    ]
    return [(source, reason) for source, reason in found if reason is not None]


def _split(plan: TranslationPlan, is_second: np.ndarray) -> tuple[TranslationPlan, TranslationPlan]:
    """The pairs for which the mask, (N,), is False, and those for which it is True."""
    if not is_second.any():
        return plan, plan[:0]
    return plan.take(np.flatnonzero(~is_second)), plan.take(np.flatnonzero(is_second))
