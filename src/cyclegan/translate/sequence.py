"""Translate a sequence of pictures in one file: an animation, a stack of pages, a volume."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from cyclegan._version import __version__
from cyclegan.errors import InputError, UnreadableError, reason_of, remedy_sentence
from cyclegan.images import Array
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.filetypes.derived_dicom import PatientData
from cyclegan.images.formats import ImageFormat
from cyclegan.images.limits import without_pixel_limit
from cyclegan.images.pages import local_file
from cyclegan.images.raster import Raster
from cyclegan.images.resizing import scale
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceFormat, SequenceTarget, Write
from cyclegan.sequences.registry import find_sequence, format_by_name, sequence_suffixes
from cyclegan.system.arguments import real_path
from cyclegan.system.atomic import atomic_path
from cyclegan.system.host_state import host_state
from cyclegan.translate.results import ResultMaker, translate_items
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import BatchSize, Translator


@dataclass(frozen=True)
class TranslatedSequence:
    """The result of `translate_sequence`. notes: sentences on differences from the source; damage: on losses."""

    num_frames: int
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


@host_state()
def translate_sequence(
    translator: Translator,
    source: str | Path,
    target: str | Path,
    *,
    batch_size: BatchSize = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    keep_profile: bool = False,
    background: str | None = None,
    tile: int | None = None,
    patient_data: PatientData = "none",
    on_frame: Callable[[int, int | None], None] = lambda _done, _expected: None,
    reader: SequenceFormat | None = None,
    writer: SequenceFormat | None = None,
) -> TranslatedSequence:
    """Translate every picture of a file: an animation, all pages of a TIFF, a volume.

    Number, order, size, durations and transparency of the frames stay, and what both formats know besides.
    target: its suffix selects the format, one that `cyclegan.sequences.registry.SEQUENCE_FORMATS` writes.
    batch_size, short_side, scale_width, stabilise, memory_frames, keep_profile, background, tile: as in
    `cyclegan.translate.folder.translate_folder`.
    patient_data: what a DICOM file or a volume takes over of the patient: `none`, or `keep` for all.
    on_frame(done, expected): called after each frame; expected is None if their number is unknown.
    reader, writer: rows of a format; default: by the source's content and the target's name.
    Memory holds a batch of frames. The target is complete or absent; an interrupted call leaves nothing. All frames
    before a damaged one are kept, and `damage` says what is missing.
    Raises InputError if the source holds no sequence, the model cannot take it, or the target cannot hold or be written
    as the result; UnreadableError if not even the first frame can be read.
    """
    source, target = Path(source), Path(target)
    reader = reader or find_sequence(source, all_pages=True)
    if reader is None:
        what = "holds one picture, not several" if source.exists() else "does not exist"
        raise InputError(f"{source} {what}; expected an animation, a TIFF of several pages, or another sequence.")
    writer = writer or _writer_for(reader, source, target)
    writer, write = _check_writer(writer, target, translator.target)
    if real_path(source) == real_path(target):
        raise InputError(f"{source} would be overwritten; choose another --out.")
    if reader.is_folder and real_path(source) in real_path(target).parents:
        raise InputError(f"--out {target} lies in {source}, which it is made from; choose a place outside.")
    method = (
        f"Translated {translator.direction} by cyclegan {__version__} with the model {Path(translator.name).name}; "
        "synthetic values, not for diagnosis"
    )

    with (
        without_pixel_limit(),  # of Pillow; readers check ours
        local_file(source) as (file, _),
        reader.read(file, translator.source) as sequence,
    ):
        maker = ResultMaker(translator.target, keep_profile=keep_profile, background=background)
        finish = partial(maker.make, keeps=writer.keeps, suffix=target.suffix)
        about_batches: list[str] = []
        job = _Job(translator, sequence, finish, on_frame)
        results = job.results(
            short_side=short_side,
            scale_width=scale_width,
            options={
                "batch_size": batch_size,
                "stabilise": stabilise,
                "memory_frames": memory_frames,
                "tile": tile,
                "on_note": about_batches.append,
            },
        )
        try:
            # Files of a folder are complete or absent one by one, and those that are done are kept.
            with nullcontext(target) if reader.is_folder else atomic_path(target.absolute()) as place:
                write(place, results, SequenceTarget(target, translator.target, sequence, method, patient_data))
                if job.lost is not None and job.num_done == sequence.num_lost:
                    raise job.lost
                if job.num_done == 0:
                    raise UnreadableError(f"{source} holds no picture.")
        except Exception as error:
            if job.error is not None:  # of a frame or the network, on its way through the writer
                raise job.error from None
            if isinstance(error, OSError):
                stays = "What was there before stays" if target.exists() else "Nothing is left of it"
                raise InputError(
                    f"{target} could not be written: {reason_of(error)}. {stays}.{remedy_sentence(error)}"
                ) from error
            if isinstance(error, ImportError):
                how = f": pip install '{writer.install}'" if writer.install else ""
                raise InputError(f"{target}: writing it needs the package {error.name or error}{how}.") from None
            raise
        notes = (*about_batches, *maker.sentences("frame"), *sequence.notes)
        return TranslatedSequence(job.num_done - sequence.num_lost, notes, tuple(sequence.damage))


def _writer_for(reader: SequenceFormat, source: Path, target: Path) -> SequenceFormat | None:
    """The row that writes a target: the reader's own if the name is one of its names, else that of the suffix.

    Raises InputError if a folder would get the name of a file.
    """
    if (
        reader.is_folder
        and not target.is_dir()
        and target.name.lower().endswith((*sequence_suffixes(), *image_suffixes()))
    ):
        raise InputError(
            f"{target} is the name of a file, and {source} is a {reader.kind}, a folder of files; name a folder."
        )
    if reader.is_folder or target.name.lower().endswith(reader.suffixes):
        return reader
    # A file that was found by its content has any name.
    return format_by_name(target) or (reader if target.suffix == source.suffix else None)


def _check_writer(
    writer: SequenceFormat | None, target: Path, image_format: ImageFormat
) -> tuple[SequenceFormat, Write]:
    """The row and its function, if it writes sequences of such images. Raises InputError otherwise."""
    if writer is None or writer.write is None:
        raise InputError(
            f"{target.name}: {target.suffix or 'such'} files cannot be written with several pictures; choose another "
            "kind of file, or one picture with --page."
        )
    if not writer.can_hold(image_format):
        raise InputError(
            f"{target.name}: a {target.suffix} {writer.kind} cannot hold {image_format}; translate the pictures as "
            "files instead, or choose .tif."
        )
    return writer, writer.write


class _Job:
    """The frames of one file on their way through the network.

    error: what ended them. lost: why the first of those was left out whose file is, where a folder is the sequence.
    """

    def __init__(
        self,
        translator: Translator,
        sequence: PictureSequence,
        finish: Callable[..., Raster],
        on_frame: Callable[[int, int | None], None],
    ) -> None:
        self._translator, self._sequence, self._finish, self._on_frame = translator, sequence, finish, on_frame
        self.num_done = 0
        self.error: BaseException | None = None
        self.lost: InputError | None = None

    def results(self, *, short_side: int | None, scale_width: int | None, options: dict[str, Any]) -> Iterator[Frame]:
        def items(frames: Iterable[Frame]) -> Iterator[tuple[tuple[Frame, tuple[int, int]], Array]]:
            for frame in frames:
                values = frame.raster.values
                # What waits for its result needs only what is carried over.
                waiting = replace(frame, raster=replace(frame.raster, values=values[:0]))
                size = values.shape[0], values.shape[1]
                yield (waiting, size), scale(values, short_side=short_side, width=scale_width)

        def volumes() -> Iterator[Iterable[Frame]]:
            if not options["stabilise"]:  # then batches may hold slices of two
                yield self._sequence.frames
                return
            for _, frames in groupby(self._sequence.frames, key=lambda frame: frame.volume):
                yield frames

        number, file = 0, None  # of the frame in its file
        try:
            for frames in volumes():
                for (frame, size), result in translate_items(self._translator, items(frames), **options):
                    number = number + 1 if frame.file is file else 1
                    file = frame.file
                    if isinstance(result, InputError):
                        self._leave_out(frame, number, result)
                        continue
                    yield replace(frame, raster=self._finish(result, frame.raster, size=size))
                    self.num_done += 1
                    self._on_frame(self.num_done, self._sequence.num_frames)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    def _leave_out(self, frame: Frame, number: int, problem: InputError) -> None:
        """Leave out the file of a frame without a translation. A sequence in one file is whole or nothing: raises."""
        sequence = self._sequence
        which = f"picture {number} of {sequence.num_frames or 'several'}: " if sequence.num_frames != 1 else ""
        if sequence.leave_out is None:
            raise InputError(f"{sequence.path}: {which}{problem}")
        sequence.leave_out(frame.file, number, problem)
        self.lost = self.lost or problem
