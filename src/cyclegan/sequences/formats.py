"""A sequence of pictures in one file, read and written one picture at a time.

A format is one row of `cyclegan.sequences.registry.SEQUENCE_FORMATS`. It needs three functions:

    def is_sequence(path):                  # by the header: several pictures, or one?
        ...

    @contextmanager
    def read(path, image_format):           # Raster by Raster, as the model takes them
        with open_my_file(path) as file:
            frames = (Frame(read_raster(file, index, image_format)) for index in range(file.count))
            yield PictureSequence(path, file.height, file.width, file.count, frames, carried=file.header)

    def write(place, frames, target):       # frames come while the network computes: write each, then forget it
        header = target.source.carried      # what the same format takes over from the source, else None
        with create_my_file(place, header) as file:
            for frame in frames:
                file.append(frame.raster.values)

`cyclegan.translate.sequence.translate_sequence` does the rest for every pair of a reader and a writer: network,
scaling, stabilising, holes, progress, damage, and the rename of the complete file.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cyclegan.errors import UnreadableError
from cyclegan.images.filetypes.derived_dicom import PatientData
from cyclegan.images.formats import ImageFormat, Kept
from cyclegan.images.limits import check_pixels
from cyclegan.images.raster import Raster


@dataclass(frozen=True)
class Frame:
    """One picture of a sequence.

    milliseconds: how long it is shown; None where pictures have no time. file: what the writer of the same format knows
    its file by, where a folder is the sequence. volume: number of the volume or series that a slice lies in; frames of
    others are not its neighbours, so stabilising restarts there.
    """

    raster: Raster
    milliseconds: float | None = None
    file: object = None
    volume: int = 0


@dataclass
class PictureSequence:
    """A file that is open for reading.

    height, width: of every frame, in pixels. num_frames: None if only reading to the end shows it.
    frames: in order, each read when it is asked for, so that one of them is in memory at a time. Raises InputError for
        a picture that the model cannot take, UnreadableError if not even the first can be read. Later damage ends the
        iterator and is reported in `damage`.
    plays: how often an animation is shown; 0: for ever. has_alpha: whether a frame may have transparency.
    carried: what else a file of the same format takes over, such as the affine of a volume. Each format has its own
        type for it, and its `write` checks with isinstance whether the source had that type.
    leave_out: where a folder is the sequence: leaves out a file, since its picture of this number, from 1 on, has no
        translation for this reason. None: all pictures are one file, which is whole or nothing.
    notes: sentences on differences from the source. damage: sentences on frames that are lost; complete once `frames`
        has ended. num_lost: frames that were read and are not written.
    """

    path: Path
    height: int
    width: int
    num_frames: int | None
    frames: Iterator[Frame]
    plays: int = 0
    has_alpha: bool = False
    carried: object = None
    leave_out: Callable[[object, int, Exception], None] | None = None
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    num_lost: int = 0


@dataclass(frozen=True)
class SequenceTarget:
    """What is written, for `SequenceFormat.write`.

    path: where the file will lie; its suffix selects a variant of the format. What is written lies at another, hidden
    place until it is complete. image_format: type, channels and range of the frames' values. source: the open source,
    whose `notes` may be added to. method: a sentence on how the values were made. patient_data: what a format of
    medicine keeps of the patient: `none` or `keep`.
    """

    path: Path
    image_format: ImageFormat
    source: PictureSequence
    method: str = ""
    patient_data: PatientData = "none"


Write: TypeAlias = Callable[[Path, Iterator[Frame], SequenceTarget], None]


def check_size(path: Path, height: int, width: int, pixel_bytes: int) -> None:
    """Raises UnreadableError for frames of more pixels than are allowed, see `cyclegan.images.limits.check_pixels`."""
    try:
        check_pixels(height, width, pixel_bytes)
    except UnreadableError as error:
        raise UnreadableError(f"{path} cannot be translated: {error}.") from None


@dataclass(frozen=True, kw_only=True)
class SequenceFormat:
    """A kind of file with several pictures: one row of `cyclegan.sequences.registry.SEQUENCE_FORMATS`.

    Functions may raise any error for a damaged file; it is reported as an `UnreadableError`. Packages are imported
    inside the functions, so that a missing one is reported with its install line.

    kind: what messages call such a file, such as animation.
    suffixes: lower case, with their dot, and with several dots where needed, such as .nii.gz.
    is_sequence: whether this file holds several pictures, by its header. Where it holds one, it is an ordinary image.
    is_picture: whether this file holds one picture only, and counts as a sequence to become a file of the same kind, as
        a DICOM image does. Where another kind is wanted it is an ordinary image.
    read: open a file; the frames are rasters in the type and channels of the image format.
    write: write all frames to a new file, or for `is_folder` into a new folder. None: the format is read only.
    holds: numpy type -> numbers of channels that `write` takes, without alpha. None: everything.
    keeps: what else `write` keeps of a Raster, as `cyclegan.images.formats.FileFormat.keeps`; what it does not keep is
        taken away before, and said.
    on_request: only where the user asks for all pages; otherwise the file is an image, of its first page or the one
        that is configured.
    is_folder: the sequence is a folder of files, as a DICOM series; `is_sequence` and `read` are given the folder.
    is_written: for `is_folder`: whether nothing is left to write of a source folder, given it, the folder of its
        results, and the formats that the model takes and makes.
    install: what `pip install` takes if a package is missing, such as cyclegan[data].
    """

    kind: str
    suffixes: tuple[str, ...]
    is_sequence: Callable[[Path], bool]
    read: Callable[[Path, ImageFormat], AbstractContextManager[PictureSequence]]
    write: Write | None = None
    is_picture: Callable[[Path], bool] = lambda _: False
    holds: Mapping[str, tuple[int, ...]] | None = None
    keeps: frozenset[Kept] = frozenset()
    on_request: bool = False
    is_folder: bool = False
    is_written: Callable[[Path, Path, ImageFormat, ImageFormat], bool] = lambda *_: False
    install: str = ""

    def can_hold(self, image_format: ImageFormat) -> bool:
        """Whether frames of this type and these channels can be written."""
        is_other = image_format.channels == 4 and image_format.alpha is False
        if self.write is None or (is_other and "uint8" in (self.holds or ())):  # of 8 bits, four channels are RGBA
            return False
        return self.holds is None or image_format.channels in self.holds.get(image_format.dtype, ())
