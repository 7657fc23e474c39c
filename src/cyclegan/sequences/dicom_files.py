"""DICOM as sequences: the frames of a file, and the files of a folder, series by series in the order of their places.

What is written has as many files and frames as the source, under the same names, as new series of derived images.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cyclegan.errors import InputError, MissingPackageError, UnreadableError
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.file_list import list_files
from cyclegan.images.filetypes.derived_dicom import DerivedImages
from cyclegan.images.filetypes.dicom import (
    SUFFIXES,
    count_frames,
    find_series,
    is_dicom,
    list_frames,
    plane_of,
    read_dataset,
)
from cyclegan.images.formats import ImageFormat
from cyclegan.images.holes import find_holes
from cyclegan.images.raster import Mask, Raster
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceTarget
from cyclegan.system.atomic import atomic_path


@dataclass
class OpenDicom:
    """What written files take over from their sources.

    root: the folder that the names of files are kept below. read: path and number of frames of each file whose frames
    are on their way, in order. source: how they were read.
    """

    root: Path
    source: ImageFormat
    read: deque[tuple[Path, int]] = field(default_factory=deque)


def is_dicom_image(path: Path) -> bool:
    """Whether a file is a DICOM image of one or more frames."""
    return count_frames(read_dataset(path, with_pixels=False)) > 0


def is_one_frame(path: Path) -> bool:
    """Whether a DICOM file is a single picture."""
    return count_frames(read_dataset(path, with_pixels=False)) == 1


def is_dicom_folder(folder: Path) -> bool:
    """Whether all images below a folder are DICOM files. The first file that is one decides in most cases."""
    first = next(_image_files(folder), None)
    if first is None or not (first.name.lower().endswith(SUFFIXES) or is_dicom(first)):
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
    is_folder = path.is_dir()
    if is_folder:
        series, left_out = find_series(list_files(path, SUFFIXES))
        files = [file for each in series for file in each.files]
        if not files:
            raise InputError(f"{path} holds no DICOM image that can be read.")
    else:
        files, left_out = [path], []
    first = read_dataset(files[0], with_pixels=False)
    carried = OpenDicom(path if is_folder else path.parent, image_format)
    num_frames = len(files) if is_folder else count_frames(first)
    sequence = PictureSequence(path, int(first.Rows), int(first.Columns), num_frames, iter(()), carried=carried)
    sequence.damage += [_left_out(file, reason) for file, reason in left_out]
    if is_folder and len(series) > 1:
        sequence.notes.append(f"{path} holds {len(series)} series; each becomes a series of its own.")
    if first.get("BurnedInAnnotation") == "YES":
        sequence.notes.append(
            f"{files[0]} says that its pixels show text, which may name the patient (BurnedInAnnotation); they are "
            "translated as they are."
        )
    sequence.frames = _frames(files, image_format, sequence, carried)
    yield sequence


def _frames(
    files: Iterable[Path], image_format: ImageFormat, sequence: PictureSequence, carried: OpenDicom
) -> Iterator[Frame]:
    num_files, is_folder = 0, sequence.path.is_dir()
    problems: list[InputError | UnreadableError] = []
    for path in files:
        try:
            _check_plane(path, image_format)
            names = list_frames(path)
            frames = (read_raster(path / name if names else path, image_format) for name in names or [""])
            first = next(frames)
        except (InputError, UnreadableError) as error:
            # Folders of series hold reports, scouts and pictures of the screen, too.
            if isinstance(error, MissingPackageError) or (isinstance(error, InputError) and not is_folder):
                raise
            problems.append(error)
            sequence.damage.append(_left_out(path, error))
            continue
        carried.read.append((path, len(names) or 1))
        num_files += 1
        yield Frame(first)
        yield from map(Frame, frames)
    if num_files == 0:
        raise problems[0] if problems else UnreadableError(f"{sequence.path} holds no image that can be read")


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
    plane = plane_of(read_dataset(path, with_pixels=False))
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
    for first in frames:
        path, count = carried.read.popleft()
        rasters = [frame.raster for frame in (first, *islice(frames, count - 1))]
        original = read_dataset(path, with_pixels=False)
        try:
            derived.check(original, str(path))
        except InputError as error:
            if not is_folder:
                raise
            target.source.damage.append(_left_out(path, error))
            continue
        made = derived.make(original, [each.values for each in rasters], [_valid(each) for each in rasters])
        if is_folder:
            with atomic_path(place / path.relative_to(carried.root)) as partial:
                derived.write(partial, made)
        else:
            derived.write(place, made)


def is_written(folder: Path, out: Path, source: ImageFormat, target: ImageFormat) -> bool:
    """Whether every file of a folder has its result in `out`, apart from those that cannot be translated.

    All or none: the files of a series share identifiers, which are new with each call.
    """
    derived = DerivedImages(source, target, "")

    def is_done(path: Path) -> bool:
        return _is_there(out / path.relative_to(folder))

    def can_translate(path: Path) -> bool:
        with suppress(InputError, UnreadableError):
            _check_plane(path, source)
            derived.check(read_dataset(path, with_pixels=False), str(path))
            names = list_frames(path)
            read_raster(path / names[0] if names else path, source)
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


def _valid(raster: Raster) -> Mask | None:
    """(H, W), False in holes, which have a value of their own in results; None if there are none."""
    nodata = raster.metadata.nodata
    if nodata is None:
        return None
    return find_holes(raster.values, nodata)
