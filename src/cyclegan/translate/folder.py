"""Translate a folder, or a list of files, as the command `cyclegan translate` does: plan, translate, large files."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cyclegan.config import AXES, Axis, Direction
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_formats import is_image_name
from cyclegan.images.filetypes.derived_dicom import PATIENT_DATA, PatientData
from cyclegan.images.filetypes.overviews import check_cog
from cyclegan.images.filetypes.slides import describe_scale
from cyclegan.images.headers import read_sizes
from cyclegan.images.limits import pixel_limit
from cyclegan.images.remote import check_local, local_copy
from cyclegan.images.windows import Window
from cyclegan.sequences.formats import SequenceFormat
from cyclegan.sequences.registry import find_sequence, format_by_name
from cyclegan.system.arguments import MAX_SIDE, check_bool, check_choice, check_float, check_int, check_path
from cyclegan.system.atomic import is_place_lost
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import shown
from cyclegan.translate.carried import Carried
from cyclegan.translate.files import translate_files
from cyclegan.translate.large_files import Compression, StatisticsKind, find_large, translate_large
from cyclegan.translate.output_names import check_folder_name
from cyclegan.translate.plan import (
    TranslationPlan,
    describe_other_files,
    find_sequences,
    input_suffixes,
    plan_outputs,
    sequences,
)
from cyclegan.translate.progress import MAX_NAMED, FolderProgress, Skipped, not_written
from cyclegan.translate.sequence import TranslatedSequence, translate_sequence
from cyclegan.translate.stabilise import MEMORY_FRAMES, check_memory, needs_stabilising
from cyclegan.translate.tiling.pictures import TILE, check_tile
from cyclegan.translate.translator import Translator


@dataclass(frozen=True)
class TranslateOptions:
    """How images are translated; the fields are those of `translate_folder`."""

    batch_size: int = 1
    short_side: int | None = None
    scale_width: int | None = None
    tile: int | Literal["auto"] | None = "auto"
    statistics: StatisticsKind = "exact"
    stabilise: bool = False
    memory_frames: float | None = None
    bands: str | None = None
    nodata: float | str | None = None
    page: int | None = None
    pages: Literal["all"] | None = None
    axis: Axis | None = None
    patient_data: PatientData = "none"
    background: str | None = None
    keep_profile: bool = False
    mpp: float | None = None
    compression: Compression = "auto"
    skip_existing: bool = False
    window: Sequence[int] | None = None
    bounds: Sequence[float] | None = None
    cog: bool = False

    def check(self, name_of: Callable[[str], str] = str) -> None:
        """Raises InputError for values that cannot be used. name_of: a field -> its name in the message."""
        for field in ("short_side", "scale_width"):
            if (value := getattr(self, field)) is not None:
                check_int(name_of(field), value, least=1, most=MAX_SIDE, unit=" pixel")
        if self.short_side is not None and self.scale_width is not None:
            raise InputError(
                f"{name_of('short_side')} is {self.short_side} and {name_of('scale_width')} is {self.scale_width}; "
                "pass one of them."
            )
        check_int(name_of("batch_size"), self.batch_size, least=1)
        check_bool(name_of("stabilise"), self.stabilise)
        check_bool(name_of("keep_profile"), self.keep_profile)
        check_bool(name_of("skip_existing"), self.skip_existing)
        check_bool(name_of("cog"), self.cog)
        Window.of(self.window, self.bounds, name_of)
        check_choice(name_of("statistics"), self.statistics, ("exact", "crops", "reduced"))
        check_choice(name_of("compression"), self.compression, ("auto", "lossless", "jpeg"))
        if self.mpp is not None and check_float(name_of("mpp"), self.mpp, least=0) == 0:
            raise InputError(f"{name_of('mpp')} is 0; expected microns per pixel, such as 0.5.")
        if self.mpp is not None and self.page is not None:
            raise InputError(
                f"{name_of('mpp')} is {self.mpp:g} and {name_of('page')} is {self.page}; give one of them."
            )
        if self.pages is not None:
            if self.pages != "all":
                raise InputError(f"{name_of('pages')} is {shown(self.pages)}; expected all.")
            if self.page is not None:
                raise InputError(f"{name_of('page')} is one page, and {name_of('pages')} is all; give one of them.")
        check_choice(name_of("patient_data"), self.patient_data, PATIENT_DATA)
        if self.axis is not None:
            check_choice(name_of("axis"), self.axis, AXES)
        if self.memory_frames is not None:
            if not self.stabilise:
                raise InputError(f"{name_of('memory_frames')} is for {name_of('stabilise')}; give both.")
            check_memory(check_float(name_of("memory_frames"), self.memory_frames, least=1))
        if isinstance(self.tile, str) and self.tile != "auto":
            raise InputError(f"{name_of('tile')} is {shown(self.tile)}; expected a number of pixels, auto or None.")
        if self.tile is not None and self.tile != "auto":
            check_int(name_of("tile"), self.tile, least=0)
        if isinstance(self.tile, int) and (self.is_scaled or self.stabilise):
            scaling = f"{name_of('short_side')} and {name_of('scale_width')}"
            raise InputError(
                f"{name_of('tile')} {self.tile} is for images by themselves and at their own size, "
                f"{name_of('stabilise') if self.stabilise else scaling} is not; give one."
            )

    def apply_reading(self, translator: Translator) -> Translator:
        """The translator, which reads files as these options say. Raises InputError for a bad value."""
        names = ("bands", "nodata", "page", "axis", "background", "mpp")
        changes = {name: getattr(self, name) for name in names}
        changes = {name: value for name, value in changes.items() if value is not None}
        if self.page is not None:  # a level of a slide, instead of the scale that the model was trained at
            changes["mpp"] = None
        return translator.with_reading(**changes) if changes else translator

    @property
    def part(self) -> Window | None:
        """The part of each image that is translated; None: all of it."""
        return Window.of(self.window, self.bounds)

    def check_single(self, path: Path) -> None:
        """Raises InputError if these options are for single images, and this file holds several."""
        name = "a window" if self.part is not None else "a COG" if self.cog else None
        if name is not None:
            raise InputError(f"{path} holds several pictures, and {name} is for files with one; leave out one of both.")

    @property
    def network_options(self) -> dict[str, Any]:
        """What `translate_files` and `translate_video` take of these."""
        names = ("batch_size", "short_side", "scale_width", "stabilise")
        chosen = {name: getattr(self, name) for name in names}
        return chosen | {"memory_frames": self.memory_frames or MEMORY_FRAMES}

    @property
    def is_scaled(self) -> bool:
        return self.short_side is not None or self.scale_width is not None


@dataclass(frozen=True)
class FolderResult:
    """The result of `translate_folder`.

    written: (source, target) of every file that was written. skipped: (source, reason) of every file that could not
    be translated. notes: sentences about images in tiles, such as that the work of an earlier call was resumed, about
    sequences, and about files of the inputs that are no images. damage: sentences about frames of sequences that are
    lost; those before them are written.
    existing: (source, target) of every file that was left out because its result was there (`skip_existing`).
    """

    written: TranslationPlan
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    existing: TranslationPlan = dataclasses.field(default_factory=lambda: TranslationPlan.of([]))


@host_state()
def translate_folder(
    model: str | Path | Translator,
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    direction: Direction | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    weights: str | None = None,
    batch_size: int = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    tile: int | Literal["auto"] | None = "auto",
    statistics: StatisticsKind = "exact",
    stabilise: bool = False,
    memory_frames: float | None = None,
    bands: str | None = None,
    nodata: float | str | None = None,
    page: int | None = None,
    pages: Literal["all"] | None = None,
    axis: Axis | None = None,
    patient_data: PatientData = "none",
    background: str | None = None,
    keep_profile: bool = False,
    mpp: float | None = None,
    compression: Compression = "auto",
    skip_existing: bool = False,
    window: Sequence[int] | None = None,
    bounds: Sequence[float] | None = None,
    cog: bool = False,
    max_images: int | None = None,
    max_pixels: int | None = None,
    progress: FolderProgress | None = None,
) -> FolderResult:
    """Translate all images of a folder, or of several inputs, as `cyclegan translate MODEL INPUT --out OUT` does.

    model: what `Translator.load` takes, or a translator, which has its direction, device, engine and precision already.
    inputs: a folder, which is mirrored below `out` with all its folders, an image, a pattern such as `photos/**/*.jpg`,
    or several of them. Animations become animations of their kind, frame by frame.
    out: a folder, or for one image a file; a name that ends with a slash is a folder. An output keeps its name; its
    suffix changes only where that format cannot hold the result. Existing outputs are replaced, inputs never.
    direction, device, engine, precision, weights: as in `Translator.load`, but the default of precision is `auto`.
    batch_size: images of one size that are translated together.
    short_side, scale_width: pixels to which the shorter side or the width is scaled for the network; the result has the
    input's size again. Give at most one.
    tile: side in pixels of the squares that an image is translated in; `auto`: in tiles only where it does not fit into
    memory as a whole; None: never. statistics: what tiles are normalised with, see `translate_large`.
    skip_existing: leave out the images whose result is there already, as a call that was stopped left it. It is not
    compared: not with the model, and not with the time of the input. Of frames that are stabilised, whole folders only.
    stabilise: each folder and each animation is a sequence of frames, and flicker is reduced; memory_frames: its time
    constant in frames (default 6).
    bands, nodata, page: which bands and which page of a file are read, and the value that marks its holes (a number,
    nan or none), instead of what the model was trained with.
    pages: `all` translates every page of a TIFF, into a TIFF of as many; default: such a file is one image.
    axis: the slices of volumes, axial, coronal or sagittal. patient_data: what DICOM files and volumes take over of the
    patient: `none`, or `keep` for all, see `cyclegan.images.filetypes.derived_dicom`.
    background: colour behind transparent pixels, such as white; default: transparency is carried over to the result.
    keep_profile: convert results back to the colour profile of their input; default: results are sRGB.
    mpp: microns per pixel at which whole slides are read; default: those that the model was trained at, else level 0.
    compression: of whole slides and other images in tiles that become an OME-TIFF, see `translate_large`.
    window: translate only this part of each image: column and row of its first pixel, width and height. bounds: the
    same by left, bottom, right and top in the coordinate system of each file. The result has its own place on earth.
    cog: write TIFFs with overviews, as cloud-optimised GeoTIFFs.
    max_images: translate only the first images. max_pixels: largest number of pixels of an image that is decoded as a
    whole (default 2^30, and what fits into memory).
    progress: receives reports during the work.

    Images that cannot be read, and results that cannot be written, are skipped and returned with the reason. Raises
    InputError for options, a model or inputs that cannot be used, and if nothing can be written any more, because the
    disk is full or the output folder is lost.
    """
    options = TranslateOptions(
        batch_size,
        short_side,
        scale_width,
        tile,
        statistics,
        stabilise,
        memory_frames,
        bands,
        nodata,
        page,
        pages,
        axis,
        patient_data,
        background,
        keep_profile,
        mpp,
        compression,
        skip_existing,
        window,
        bounds,
        cog,
    )
    options.check()
    for name, value in (("max_images", max_images), ("max_pixels", max_pixels)):
        if value is not None:
            check_int(name, value, least=1)
    if direction is not None:
        check_choice("direction", direction, ("a2b", "b2a"))
    try:
        several = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    except TypeError:
        raise InputError(f"inputs is {shown(inputs)}; expected a path or several.") from None
    paths, place = [check_path("inputs", path) for path in several], check_path("out", out)
    check_local("out", place)
    check_folder_name(out, input_suffixes(), "out")
    progress = progress or FolderProgress()
    paths = [local_copy(path, progress.note) for path in paths]
    if not isinstance(model, Translator):
        model = Translator.load(
            model, direction=direction or "a2b", device=device, weights=weights, engine=engine, precision=precision
        )
    elif direction not in (None, model.direction):
        raise InputError(f"The translator translates {model.direction}, and direction is {direction}; leave it out.")
    model = options.apply_reading(model)
    progress = progress or FolderProgress()
    options = without_useless_stabilising(options, model, progress)
    plan = plan_outputs(paths, place, model, all_pages=pages is not None)
    other_files = describe_other_files(plan)
    if other_files:
        progress.note(other_files)
    plan = plan[:max_images]
    with pixel_limit(max_pixels):
        result = translate_plan(model, plan, options, progress, is_only_input=len(plan) == 1)
    return replace(result, notes=(*result.notes, other_files)) if other_files else result


def without_useless_stabilising(
    options: TranslateOptions, translator: Translator, progress: FolderProgress
) -> TranslateOptions:
    """The options without `stabilise`, with a note, where the network has no instance norm to stabilise."""
    if not options.stabilise or needs_stabilising(translator.network):
        return options
    progress.note(
        "Stabilising changes nothing here: without instance norm this model translates a frame the same, whatever the "
        "other frames show."
    )
    return replace(options, stabilise=False, memory_frames=None)


def translate_plan(
    translator: Translator,
    plan: TranslationPlan,
    options: TranslateOptions,
    progress: FolderProgress,
    *,
    is_only_input: bool = False,
) -> FolderResult:
    """Translate the images of a plan: first those that fit into memory as a whole, then those in tiles, then sequences.

    is_only_input: the error of an image in tiles, or of a sequence, is raised instead of collected.
    Raises InputError if nothing can be written any more, because the disk is full or the output folder is lost.
    """
    existing = plan[:0]
    if options.skip_existing:
        plan, existing = _split_existing(translator, plan, options, progress)
    images, several = _split_sequences(plan, options, progress)
    for source, _, _ in several:
        options.check_single(source)
    if options.cog:
        check_cog(translator.target.dtype, images.targets)
    whole, large = _split_large(translator, images, options, progress)
    skipped: list[Skipped] = []
    notes: list[str] = []
    damage: list[str] = []
    if whole:
        skipped += _translate_whole(translator, whole, options, progress)
    carried = Carried(keep_profile=options.keep_profile)  # by images in tiles, of which all are said at once
    one_by_one = [(*pair, None) for pair in large] + [*several]
    for num_tried, (source, target, row) in enumerate(one_by_one, len(whole)):
        try:
            if row is None:
                notes += _translate_in_tiles(translator, source, target, options, progress, carried)
            else:
                made = _translate_frames(translator, source, target, row, options, progress)
                notes += made.notes
                damage += made.damage
        except (InputError, UnreadableError, OSError) as error:
            if is_only_input and not isinstance(error, UnreadableError):
                raise
            if is_place_lost(error if isinstance(error, OSError) else error.__cause__, plan.out):
                raise InputError(not_written(target, error, num_tried - len(skipped))) from error
            reason = not_written(target, error)
            progress.skipped([(source, reason)], 1)
            skipped.append((source, reason))
    for sentence in carried.sentences():
        progress.note(sentence)
        notes.append(sentence)
    failed = {source for source, _ in skipped}
    is_written = np.array([source not in failed for source in plan.sources], bool) if failed else None
    written = plan if is_written is None else plan.take(np.flatnonzero(is_written))
    return FolderResult(written, tuple(skipped), tuple(notes), tuple(damage), existing)


def _split_sequences(
    plan: TranslationPlan, options: TranslateOptions, progress: FolderProgress
) -> tuple[TranslationPlan, list[tuple[Path, Path, SequenceFormat]]]:
    """The files that hold one image, and those that hold several."""
    with progress.scanning():
        found = find_sequences(plan.sources, all_pages=options.pages is not None)
    found = {index: row for index, row in found.items() if not _is_picture(row, *plan[index])}
    several = [(*plan[index], row) for index, row in found.items()]
    if found:
        is_image = np.ones(len(plan), bool)
        is_image[list(found)] = False
        plan = plan.take(np.flatnonzero(is_image))
    if num_gifs := sum(name.lower().endswith(".gif") for name in plan.sources.names()):
        which = "A GIF of one picture becomes" if num_gifs == 1 else f"{num_gifs} GIFs of one picture become"
        if not all(target.suffix.lower() == ".gif" for source, target in plan if source.suffix.lower() == ".gif"):
            progress.note(f"{which} a PNG, which keeps all colours; a GIF has 256.")
    return plan, several


def _split_existing(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions, progress: FolderProgress
) -> tuple[TranslationPlan, TranslationPlan]:
    """The images that are still to be translated, and those whose result is there; of sequences, all or none."""
    with progress.scanning():
        sizes = zip(plan, read_sizes(plan.targets), strict=True)
        is_there = np.array([size is not None or _is_other(translator, *pair) for pair, size in sizes], bool)
        if options.stabilise:  # a frame depends on the frames before it
            there = {source for source, is_done in zip(plan.sources, is_there, strict=True) if is_done}
            whole = {s for frames in sequences(plan) if all(s in there for s, _ in frames) for s, _ in frames}
            is_there = np.array([source in whole for source in plan.sources], bool)
    existing = plan.take(np.flatnonzero(is_there))
    if existing:
        progress.existing(len(existing), len(plan))
    return plan.take(np.flatnonzero(~is_there)), existing


def _is_other(translator: Translator, source: Path, target: Path) -> bool:
    """Whether a result is there that is no single image: a volume, a folder of DICOM files, or another file."""
    if target.is_dir():
        row = find_sequence(source) if source.is_dir() else None
        return row is not None and row.is_written(source, target, translator.source, translator.target)
    if not target.is_file() or target.stat().st_size == 0:
        return False
    return not is_image_name(target) or find_sequence(target, all_pages=True) is not None


def _is_picture(row: SequenceFormat, source: Path, target: Path) -> bool:
    """Whether a sequence is one picture that becomes a file of another kind."""
    is_other_kind = not row.is_folder and target.suffix != source.suffix and format_by_name(target) is not row
    return is_other_kind and row.is_picture(source)


def _split_large(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions, progress: FolderProgress
) -> tuple[TranslationPlan, TranslationPlan]:
    """The images that are translated as a whole, and those that are translated in tiles."""
    if isinstance(options.tile, int):
        check_tile(options.tile, translator.original)
        if plan:
            progress.note(f"Images are translated in tiles of {options.tile} pixels, in float32.")
        return plan[:0], plan
    if options.tile is None or options.is_scaled:
        return plan, plan[:0]
    with progress.scanning():
        is_large = find_large(translator, plan.sources, batch_size=options.batch_size, window=options.part)
    if not is_large.any():
        return plan, plan[:0]
    large = plan.take(np.flatnonzero(is_large))
    if options.stabilise:
        raise InputError(
            f"{large[0][0]} is too large to be translated as a whole, and frames are not stabilised in tiles; "
            "pass --short-side."
        )
    return plan.take(np.flatnonzero(~is_large)), large


def _translate_whole(
    translator: Translator, plan: TranslationPlan, options: TranslateOptions, progress: FolderProgress
) -> list[Skipped]:
    if options.stabilise and (alone := [frames[0][0] for frames in sequences(plan) if len(frames) == 1]):
        one = len(alone) == 1
        which = f"{alone[0]} is a single picture" if one else f"{len(alone)} pictures stand alone"
        why = f"no sequence of frames, so stabilising does nothing for {'it' if one else 'them'}"
        progress.note(f"{which}: {why}.")
    with progress.translating(len(plan)) as on_done:
        notes: list[str] = []
        skipped = translate_files(
            translator,
            plan,
            keep_profile=options.keep_profile,
            background=options.background,
            window=options.part,
            cog=options.cog,
            on_done=on_done,
            on_note=notes.append,
            **options.network_options,
        )
    for note in notes:
        progress.note(note)
    if skipped:
        progress.skipped(skipped, len(plan))
    progress.written(len(plan) - len(skipped), None, None)
    return skipped


def _translate_frames(
    translator: Translator,
    source: Path,
    target: Path,
    row: SequenceFormat,
    options: TranslateOptions,
    progress: FolderProgress,
) -> TranslatedSequence:
    tile = options.tile if isinstance(options.tile, int) else None
    if options.tile == "auto" and not options.is_scaled:
        _, large = _split_large(translator, TranslationPlan.of([(source, target)]), options, progress)
        if large:
            tile = TILE
            progress.note(f"{source} is too large to be translated as a whole: in tiles of {tile} pixels, in float32.")
    with progress.translating_frames(source) as on_frame:
        made = translate_sequence(
            translator,
            source,
            target,
            reader=row,
            tile=tile,
            keep_profile=options.keep_profile,
            background=options.background,
            patient_data=options.patient_data,
            on_frame=on_frame,
            **options.network_options,
        )
    for note in made.notes:
        progress.note(note)
    for message in made.damage[:MAX_NAMED]:
        progress.damaged(message)
    if len(made.damage) > MAX_NAMED:
        progress.damaged(f"Left out: {len(made.damage) - MAX_NAMED} more, {len(made.damage)} files of {source} in all.")
    progress.written_frames(made.num_frames, target)
    return made


def _translate_in_tiles(
    translator: Translator,
    source: Path,
    target: Path,
    options: TranslateOptions,
    progress: FolderProgress,
    carried: Carried,
) -> list[str]:
    """Returns the notes about the work, and adds what was converted or lost to `carried`."""
    tile = options.tile if isinstance(options.tile, int) else TILE
    if (scale := describe_scale(source, translator.source)) is not None:
        progress.note(f"{source} is read at {scale}, and translated in tiles of {tile} pixels, in float32.")
    elif not isinstance(options.tile, int):
        progress.note(f"{source} is too large to be translated as a whole: in tiles of {tile} pixels, in float32.")
    with progress.translating_large(source, target) as on_progress:
        made = translate_large(
            translator,
            source,
            target,
            tile=tile,
            statistics=options.statistics,
            keep_profile=options.keep_profile,
            background=options.background,
            compression=options.compression,
            window=options.part,
            cog=options.cog,
            on_progress=on_progress,
        )
    carried.include(made.carried)
    for note in made.about_work:
        progress.note(note)
    progress.written(1, target, tile)
    return made.about_work
