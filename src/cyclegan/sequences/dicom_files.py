"""DICOM as sequences: the frames of a file, and the files of a folder, series by series in the order of their places.

What is written has as many files and frames as the source, under the same names, as new series of derived images.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from cyclegan.errors import InputError, MissingPackageError, UnreadableError, damage_of
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.file_list import list_files
from cyclegan.images.filetypes.derived_dicom import DerivedImages, Shown
from cyclegan.images.filetypes.dicom import (
    SUFFIXES,
    count_frames,
    is_dicom,
    is_slide,
    list_frames,
    read_dataset,
    read_header,
)
from cyclegan.images.filetypes.dicom_series import Series, find_series, plane_of
from cyclegan.images.formats import ImageFormat
from cyclegan.images.holes import find_marked
from cyclegan.images.raster import Raster
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceTarget
from cyclegan.system.atomic import atomic_path


@dataclass(frozen=True)
class OpenDicom:
    """What written files take over. root: the folder that their names are kept below. source: how they were read."""

    root: Path
    source: ImageFormat


@dataclass(eq=False)
class OpenFile:
    """A file whose frames are on their way.

    is_damaged: one of them could not be read or has no translation, so its result is not written.
    """

    path: Path
    is_damaged: bool = False


def is_dicom_image(path: Path) -> bool:
    """Whether a file is a DICOM image of one or more frames; a whole slide is one image."""
    return not is_slide(path) and count_frames(read_header(path)) > 0


def is_one_frame(path: Path) -> bool:
    """Whether a DICOM file is a single picture."""
    return count_frames(read_header(path)) == 1


def is_dicom_folder(folder: Path) -> bool:
    """Whether all images below a folder are DICOM files. The first file that is one decides in most cases."""
    first = next(_image_files(folder), None)
    if first is None or not (first.name.lower().endswith(SUFFIXES) or is_dicom(first)) or is_slide(first):
        return False
    dicom, others = list_files(folder, SUFFIXES), list_files(folder, image_suffixes())
    return len(dicom) == len(others)


def _image_files(folder: Path) -> Iterator[Path]:
    """Files that may be images, in no order, each found when it is asked for."""
    suffixes = image_suffixes()
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and (name.lower().endswith(suffixes) or is_dicom(path)):
                yield path


@contextmanager
def read_dicom(path: Path, image_format: ImageFormat) -> Iterator[PictureSequence]:
    """The frames of a file, or of all files below a folder."""
    is_folder, left_out = path.is_dir(), list[tuple[Path, str]]()
    series = [Series("", (path,))]
    if is_folder:
        series, left_out = find_series(list_files(path, SUFFIXES))
    if not series:
        raise InputError(f"{path} holds no DICOM image that can be read.")
    first = read_header(series[0].files[0])
    num_frames = sum(len(each.files) for each in series) if is_folder else count_frames(first)
    carried = OpenDicom(path if is_folder else path.parent, image_format)
    sequence = PictureSequence(path, int(first.Rows), int(first.Columns), num_frames, iter(()), carried=carried)
    sequence.damage += [_left_out(file, reason) for file, reason in left_out]

    def leave_out(file: object, number: int, problem: Exception) -> None:
        assert isinstance(file, OpenFile)
        if not file.is_damaged:
            frames = list_frames(file.path)
            which = f"frame {number} of its {len(frames)}: " if frames else ""
            sequence.damage.append(_left_out(file.path, f"{which}{problem}"))
        file.is_damaged = True

    if is_folder:
        sequence.leave_out = leave_out
    if len(series) > 1:
        sequence.notes.append(f"{path} holds {len(series)} series; each becomes a series of its own.")
    sequence.frames = _frames(series, image_format, sequence)
    yield sequence


def _frames(series: Iterable[Series], image_format: ImageFormat, sequence: PictureSequence) -> Iterator[Frame]:
    """The frames of all files. A file of a folder with one that cannot be read is left out as a whole."""
    num_files, is_folder = 0, sequence.path.is_dir()
    problems: list[InputError | UnreadableError] = []
    with_text: list[Path] = []
    for number, path in ((number, path) for number, each in enumerate(series) for path in each.files):
        file = OpenFile(path)
        try:
            for raster in _read_all(path, image_format):
                yield Frame(raster, file=file, volume=number)
            num_files += 1
            if read_header(path).get("BurnedInAnnotation") == "YES":
                with_text.append(path)
        except Exception as error:  # a damaged file raises errors of every kind
            problem = _in_words(error)
            # Folders of series hold reports, scouts and pictures of the screen, too.
            if isinstance(error, MissingPackageError) or not is_folder:
                raise problem from None
            file.is_damaged = True
            problems.append(problem)
            sequence.damage.append(_left_out(path, problem))
    if with_text:
        others = f" and {len(with_text) - 1} more of these files say" if len(with_text) > 1 else " says"
        sequence.notes.append(
            f"{with_text[0]}{others} that the pixels show text, which may name the patient (BurnedInAnnotation); they "
            "are translated as they are."
        )
    if num_files == 0:
        raise problems[0] if problems else UnreadableError(f"{sequence.path} holds no image that can be read")


def _read_all(path: Path, image_format: ImageFormat) -> Iterator[Raster]:
    """The image of a file, or its frames. Raises an error that names the frame, of which no other makes a whole."""
    _check_plane(path, image_format)
    names = list_frames(path)
    if not names:
        yield read_raster(path, image_format)
    for name in names:
        try:
            yield read_raster(path / name, image_format)
        except UnreadableError as error:
            raise UnreadableError(f"frame {int(name)} of its {len(names)}: {error}") from error


def _in_words(error: Exception) -> InputError | UnreadableError:
    return error if isinstance(error, InputError | UnreadableError) else UnreadableError(damage_of(error))


def _left_out(path: Path, error: Exception | str) -> str:
    """A sentence on a file or, where the reason speaks of a frame, such as x.dcm/1, with that path once."""
    reason = str(error).rstrip(".")
    if reason.startswith((f"{path} ", f"{path}/")):
        name, _, rest = reason.removeprefix(str(path)).partition(" ")
        frame = f"frame {name[1:].rstrip(':')}" if name else "it"
        reason = f"{frame} {rest}"
    return f"Left out: {path}: {reason}."


def _check_plane(path: Path, image_format: ImageFormat) -> None:
    """Raise InputError for slices along another axis than the model was told to take."""
    plane = plane_of(read_header(path))
    if image_format.axis is not None and plane is not None and plane != image_format.axis:
        raise InputError(
            f"The slices of {path} are {plane}, and the model takes {image_format.axis} ones; DICOM is translated in "
            f"the slices that it has: pass --axis {plane}, or convert the series to NIfTI."
        )


def write_dicom(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write derived images: one file, or one for each file of the source folder below the folder `place`.

    Raises InputError if the source is not DICOM, or its images cannot be made of such values.
    """
    carried = target.source.carried
    if not isinstance(carried, OpenDicom):
        raise InputError(
            f"{target.path.name} is a DICOM file, and {target.source.path} is none, from which patient and place could "
            "be taken over; choose another kind of file."
        )
    derived = DerivedImages(carried.source, target.image_format, target.method, target.patient_data)
    is_folder = target.source.path.is_dir()
    written: dict[int, list[Path]] = {}  # of each series
    shown: dict[int, Shown] = {}
    for (file, series), of_file in groupby(frames, key=lambda frame: (frame.file, frame.volume)):
        rasters = [frame.raster for frame in of_file]
        assert isinstance(file, OpenFile)
        if file.is_damaged:
            target.source.num_lost += len(rasters)
            continue
        path = file.path
        try:
            original = read_dataset(path, with_pixels=False)
            derived.check(original, str(path))
            valid = [find_marked(each) for each in rasters]
            made, of_image = derived.make_in_window(original, [each.values for each in rasters], valid)
            result = place / path.relative_to(carried.root) if is_folder else place
            with atomic_path(result) as partial:
                derived.write(partial, made)
            written.setdefault(series, []).append(result)
            shown[series] = shown.get(series, Shown()) + of_image
        except OSError:
            raise
        except Exception as error:  # of the attributes that are copied
            if not is_folder:
                raise _in_words(error) from error
            target.source.num_lost += len(rasters)
            target.source.damage.append(_left_out(path, _in_words(error)))
    for result in (result for series in written if not shown[series].is_enough for result in written[series]):
        made = read_dataset(result)
        derived.show_range(made)
        with atomic_path(result) as partial:
            derived.write(partial, made)


def is_written(folder: Path, out: Path, source: ImageFormat, target: ImageFormat) -> bool:
    """Whether every file of a folder has its result in `out`, apart from those that cannot be translated.

    All or none: the files of a series share identifiers, which are new with each call.
    """
    derived = DerivedImages(source, target, "")

    def is_done(path: Path) -> bool:
        return _is_there(out / path.relative_to(folder))

    def can_translate(path: Path) -> bool:
        with suppress(InputError, UnreadableError):
            derived.check(read_header(path), str(path))
            for _ in _read_all(path, source):
                pass
            return True
        return False

    files = [file for each in find_series(list_files(folder, SUFFIXES))[0] for file in each.files]
    there = [is_done(path) for path in files]
    return any(there) and not any(can_translate(path) for path, done in zip(files, there, strict=True) if not done)


def _is_there(path: Path) -> bool:
    """Whether this is a DICOM image with a header that can be read."""
    try:
        return path.is_file() and is_dicom_image(path)
    except (InputError, UnreadableError, OSError):
        return False
