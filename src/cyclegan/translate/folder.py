"""Translate a folder, or a list of files, as the command `cyclegan translate` does: plan, translate, large files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from cyclegan.config import Axis, Direction, SelfEnsemble
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.filetypes.derived_dicom import PatientData
from cyclegan.images.filetypes.slides import describe_scale
from cyclegan.images.limits import pixel_limit
from cyclegan.images.remote import check_local, local_copy
from cyclegan.sequences.formats import SequenceFormat
from cyclegan.system.arguments import check_choice, check_int, check_path
from cyclegan.system.atomic import is_place_lost
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import shown
from cyclegan.translate.engine_choice import choose_engine
from cyclegan.translate.files import translate_files
from cyclegan.translate.folder_name import check_folder_name
from cyclegan.translate.inputs import leave_out_unusable
from cyclegan.translate.jobs import sort_jobs, tile_of_frames
from cyclegan.translate.large_files import Compression, StatisticsKind, translate_large
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan, describe_other_files, input_suffixes, plan_outputs, sequences
from cyclegan.translate.progress import MAX_NAMED, FolderProgress, Skipped, not_written
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.sequence import translate_sequence
from cyclegan.translate.tiling.pictures import TILE
from cyclegan.translate.translator import BatchSize, Translator


@dataclass(frozen=True)
class FolderResult:
    """The result of `translate_folder`.

    written: (source, target) of every file that was written. skipped: (source, reason) of every file that could not
    be translated, and of every input that is missing or damaged. notes: sentences on what was converted, on what
    results cannot keep, on work of an earlier call that was resumed, and on files of the inputs that are no images.
    damage: sentences about frames of sequences that are lost; those before them are written.
    existing: (source, target) of every file that was left out because its result was there (`skip_existing`).
    """

    written: TranslationPlan
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    existing: TranslationPlan = field(default_factory=lambda: TranslationPlan.of([]))


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
    batch_size: BatchSize = "auto",
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
    shard: str | None = None,
    window: Sequence[int] | None = None,
    bounds: Sequence[float] | None = None,
    bounds_crs: str | None = None,
    cog: bool = False,
    self_ensemble: SelfEnsemble | None = None,
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
    direction, device, engine, precision, weights: as in `Translator.load`, but the default of precision is `auto`, and
    engine `auto` is the fastest that is installed where the work takes minutes, see `choose_engine`.
    batch_size: images of one size that are translated together; `auto`: one on a CPU, and up to 32 on a GPU, of large
    images fewer. Fewer where they do not fit into memory.
    short_side, scale_width: pixels to which the shorter side or the width is scaled for the network; the result has the
    input's size again. Give at most one.
    tile: side in pixels of the squares that an image is translated in; `auto`: in tiles only where it does not fit into
    memory as a whole; None: never. statistics: what tiles are normalised with, see `translate_large`.
    skip_existing: leave out the images whose result is there already, as a call that was stopped left it. It is not
    compared: not with the model, and not with the time of the input. Of frames that are stabilised, whole folders only.
    shard: such as 1/8, to translate this part of the files, every eighth; eight calls with 1/8 to 8/8, on as many
    machines that see the same files, translate all of them. Of frames that are stabilised, every eighth folder.
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
    same by left, bottom, right and top, in the coordinate system `bounds_crs`, such as EPSG:4326; default: that of each
    file. The result has its own place on earth.
    cog: write TIFFs with overviews, as cloud-optimised GeoTIFFs.
    self_ensemble: average the translations of views of each image, see `cyclegan.translate.self_ensemble`; default: as
    the translator does, and for a path none.
    max_images: translate only the first images. max_pixels: largest number of pixels of an image that is decoded as a
    whole (default 2^30, and what fits into memory).
    progress: receives reports during the work.

    Images that cannot be read, results that cannot be written, and inputs that are missing or damaged beside others
    that are there, are skipped and returned with the reason. Raises InputError for options, a model or inputs that
    cannot be used, and if nothing can be written any more, because the disk is full or the output folder is lost.
    """
    given = locals()
    options = TranslateOptions(**{field.name: given[field.name] for field in fields(TranslateOptions)})
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
    chooses_engine = engine == "auto" and not isinstance(model, Translator)
    if not isinstance(model, Translator):
        model = Translator.load(
            model, direction=direction or "a2b", device=device, weights=weights, engine=engine, precision=precision
        )
    elif direction not in (None, model.direction):
        raise InputError(f"The translator translates {model.direction}, and direction is {direction}; leave it out.")
    model, options = options.apply(model, progress.note)
    usable, unusable = leave_out_unusable(paths, place, input_suffixes())
    plan = plan_outputs(usable, place, model, all_pages=pages is not None)
    if unusable:
        progress.skipped(unusable, len(paths))
    other_files = describe_other_files(plan)
    if other_files:
        progress.note(other_files)
    plan = plan[:max_images]
    if chooses_engine:
        model = choose_engine(model, plan, options, on_note=progress.note)
    plan = options.take_shard(plan)
    with pixel_limit(max_pixels):
        result = translate_plan(model, plan, options, progress, is_only_input=len(plan) == 1 and not unusable)
    result = replace(result, skipped=(*unusable, *result.skipped))
    return replace(result, notes=(*result.notes, other_files)) if other_files else result


def translate_plan(
    translator: Translator,
    plan: TranslationPlan,
    options: TranslateOptions,
    progress: FolderProgress,
    *,
    is_only_input: bool = False,
    counts: ResultMaker | None = None,
) -> FolderResult:
    """Translate the images of a plan: first those that fit into memory as a whole, then those in tiles, then sequences.

    is_only_input: the error of an image in tiles, or of a sequence, is raised instead of collected. counts: as in
    `translate_files`.
    Raises InputError if nothing can be written any more, because the disk is full or the output folder is lost.
    """
    work = _Work(translator, options, progress, counts)
    with progress.scanning():
        jobs = sort_jobs(translator, plan, options)
    if jobs.existing:
        progress.existing(len(jobs.existing), len(plan))
    for sentence in jobs.notes:
        work.note(sentence)
    for source, reason in jobs.refused:
        if is_only_input:
            raise InputError(reason)
        work.skip(source, reason)
    if jobs.whole:
        num_written = work.translate_whole(jobs.whole)
        if num_written or not (jobs.large or jobs.sequences):
            progress.written(num_written, None, None)
    one_by_one = [(*pair, partial(work.translate_in_tiles, *pair)) for pair in jobs.large]
    one_by_one += [
        (source, target, partial(work.translate_frames, source, target, row)) for source, target, row in jobs.sequences
    ]
    for num_tried, (source, target, translate) in enumerate(one_by_one, len(jobs.whole) + len(jobs.refused)):
        try:
            translate()
        except (InputError, UnreadableError, OSError) as error:  # one bad file of several does not stop the others
            if is_only_input and not isinstance(error, UnreadableError):
                raise
            if is_place_lost(error, jobs.todo.out):
                raise InputError(not_written(target, error, num_tried - len(work.skipped))) from error
            work.skip(source, not_written(target, error))
    if counts is not None:
        counts.include(work.maker)
    else:
        for sentence in work.maker.sentences():
            work.note(sentence)
    failed = {source for source, _ in work.skipped}
    is_written = np.array([source not in failed for source in jobs.todo.sources], bool) if failed else None
    written = jobs.todo if is_written is None else jobs.todo.take(np.flatnonzero(is_written))
    return FolderResult(written, tuple(work.skipped), tuple(work.notes), tuple(work.damage), jobs.existing)


class _Work:
    """Translates files, reports each, and collects what the result holds."""

    def __init__(
        self,
        translator: Translator,
        options: TranslateOptions,
        progress: FolderProgress,
        counts: ResultMaker | None = None,
    ) -> None:
        self._counts = counts
        self._translator, self._options, self._progress = translator, options, progress
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []
        self.damage: list[str] = []
        # Of images in tiles, whose losses are said together.
        self.maker = ResultMaker(translator.target, keep_profile=options.keep_profile)

    def note(self, sentence: str) -> None:
        self._progress.note(sentence)
        self.notes.append(sentence)

    def _note_tiles(self, source: Path, tile: int) -> None:
        self.note(f"{source} is too large to be translated as a whole: in tiles of {tile} pixels, in float32.")

    def skip(self, source: Path, reason: str) -> None:
        self._progress.skipped([(source, reason)], 1)
        self.skipped.append((source, reason))

    def translate_whole(self, plan: TranslationPlan) -> int:
        """Returns how many are written."""
        options = self._options
        if options.stabilise and (alone := [frames[0][0] for frames in sequences(plan) if len(frames) == 1]):
            one = len(alone) == 1
            which = f"{alone[0]} is a single picture" if one else f"{len(alone)} pictures stand alone"
            why = f"no sequence of frames, so stabilising does nothing for {'it' if one else 'them'}"
            self.note(f"{which}: {why}.")
        notes: list[str] = []  # said when the progress bar is gone
        with self._progress.translating(len(plan)) as on_done:
            skipped = translate_files(
                self._translator,
                plan,
                window=options.part,
                cog=options.cog,
                counts=self._counts,
                on_done=on_done,
                on_note=notes.append,
                **options.for_network,
                **options.for_output,
            )
        for note in notes:
            self.note(note)
        if skipped:
            self._progress.skipped(skipped, len(plan))
            self.skipped += skipped
        return len(plan) - len(skipped)

    def translate_in_tiles(self, source: Path, target: Path) -> None:
        options, tile = self._options, self._options.tile_side or TILE
        if (scale := describe_scale(source, self._translator.source)) is not None:
            self.note(f"{source} is read at {scale}, and translated in tiles of {tile} pixels, in float32.")
        elif options.tile_side is None:
            self._note_tiles(source, tile)
        with self._progress.translating_large(source, target) as on_progress:
            made = translate_large(
                self._translator,
                source,
                target,
                tile=tile,
                statistics=options.statistics,
                compression=options.compression,
                window=options.part,
                cog=options.cog,
                on_progress=on_progress,
                **options.for_output,
            )
        self.maker.include(made.maker)
        for note in made.about_work:
            self.note(note)
        self._progress.written(1, target, tile)

    def translate_frames(self, source: Path, target: Path, reader: SequenceFormat) -> None:
        with self._progress.scanning():
            tile = tile_of_frames(self._translator, source, self._options)
        if tile is not None and self._options.tile_side is None:
            self._note_tiles(source, tile)
        with self._progress.translating_frames(source) as on_frame:
            made = translate_sequence(
                self._translator,
                source,
                target,
                reader=reader,
                tile=tile,
                patient_data=self._options.patient_data,
                on_frame=on_frame,
                **self._options.for_network,
                **self._options.for_output,
            )
        for note in made.notes:
            self.note(note)
        for message in made.damage[:MAX_NAMED]:
            self._progress.damaged(message)
        if (count := len(made.damage)) > MAX_NAMED:
            self._progress.damaged(f"Left out: {count - MAX_NAMED} more, {count} files of {source} in all.")
        self.damage += made.damage
        self._progress.written_frames(made.num_frames, target)
