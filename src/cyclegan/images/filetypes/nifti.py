"""Volumes of NIfTI, Analyze and MGH files: read slice by slice, and written with the place of another volume.

Slices are shown as radiologists see them and as DICOM stores them, whatever the order of the voxels in the file: axial
ones with anterior at the top and the patient's right at the left, coronal ones with superior at the top and the
patient's right at the left, sagittal ones with superior at the top and anterior at the left. Voxels are never
resampled: of an oblique volume, the axes of its grid that are nearest to those of the patient count.

Slices are numbered from 0 on, towards the patient's right (x), anterior (y) and superior (z): `brain.nii.gz/z120`. In
a file with several volumes the volume comes first: `scan.nii.gz/t3z120`.
"""

import gzip
import io
import math
import re
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.config import AXES, DEFAULT_AXIS, Axis
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.formats import Header
from cyclegan.images.limits import check_pixels
from cyclegan.system.atomic import write_bytes

# Suffixes of files. An .img has its header beside it, in an .hdr.
NIFTI_SUFFIXES = (".nii", ".nii.gz", ".img")
MGH_SUFFIXES = (".mgh", ".mgz")
SUFFIXES = (*NIFTI_SUFFIXES, *MGH_SUFFIXES)

# numpy type of values -> the type that a file of this kind holds them in, without loss.
NIFTI_TYPES = {
    **{name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")},
    **{"float16": "float32", "float32": "float32", "float64": "float64"},
}
MGH_TYPES = {"uint8": "uint8", "int8": "int16", "int16": "int16", "uint16": "int32", "int32": "int32"}
MGH_TYPES |= {"float16": "float32", "float32": "float32"}

# The letter of an axis in the name of a slice, and its place among the axes right, anterior, superior.
_LETTERS: dict[Axis, str] = {"sagittal": "x", "coronal": "y", "axial": "z"}
_PLACES: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
_SLICE_NAME = re.compile(r"(?:t(?P<volume>\d{1,9}))?(?P<axis>[xyz])(?P<index>\d{1,9})")

# Lengths of the headers of NIfTI 1, with those of Analyze, and NIfTI 2.
_HEADER_BYTES = (348, 540)

# Decoded volumes that are kept, so that the slices of a compressed one do not decode it each time.
_CACHE_BYTES = 2 * 2**30
_CACHE_FILES = 64

# Suffixes of files that are decoded as a whole. nibabel knows them by their names, too.
_COMPRESSED = (".gz", ".mgz", ".bz2", ".zst")

# A file is listed slice by slice.
_MOST_SLICES = 1_000_000

# A byte of a gzip file holds at most so many bytes.
_MAX_COMPRESSION = 1040

# Types of scaled values that are whole numbers, the smallest first.
_INTEGERS = ("int16", "int32", "int64")


@dataclass(frozen=True)
class Volume:
    """An open file. Its voxels are mapped or decoded when the first slice is read.

    shape: (X, Y, Z) of the stored grid. num_volumes: how many of these the file holds. channels: 1, or 3 or 4 of
    colours. dtype: the numpy type of values, after scaling by slope and intercept. orientation: (3, 2), the patient's
    axis and the direction of each stored axis. image: of nibabel.
    """

    path: Path
    shape: tuple[int, int, int]
    num_volumes: int
    channels: int
    dtype: str
    slope: float
    intercept: float
    orientation: NDArray[np.float64]
    image: Any

    @property
    def is_compressed(self) -> bool:
        """Whether all voxels are decoded at once; else they are mapped, and a slice is read alone."""
        return _voxel_file(self.path, self.image).suffix.lower() in _COMPRESSED

    def num_slices(self, axis: Axis) -> int:
        """Slices of each volume along an axis of the patient."""
        return self.shape[self._stored_axis(axis)]

    def slice_names(self, axis: Axis) -> list[str]:
        """The names of all slices along an axis, volume by volume; this is their alphabetical order, too.

        Raises UnreadableError for more than a million, which a forged header may claim.
        """
        if (count := self.num_slices(axis) * self.num_volumes) > _MOST_SLICES:
            raise UnreadableError(f"its header claims {count:,} slices; expected at most {_MOST_SLICES:,}")
        width, prefixes = len(str(self.num_slices(axis) - 1)), [""]
        if self.num_volumes > 1:
            digits = len(str(self.num_volumes - 1))
            prefixes = [f"t{volume:0{digits}}" for volume in range(self.num_volumes)]
        slices = [f"{_LETTERS[axis]}{index:0{width}}" for index in range(self.num_slices(axis))]
        return [prefix + name for prefix in prefixes for name in slices]

    def find(self, name: str) -> tuple[Axis, int, int]:
        """Axis, index and volume of the slice with this name. Raises InputError if there is none."""
        match = _SLICE_NAME.fullmatch(name)
        if match is not None:
            axis = next(axis for axis, letter in _LETTERS.items() if letter == match["axis"])
            index, volume = int(match["index"]), int(match["volume"] or 0)
            is_complete = match["volume"] is not None or self.num_volumes == 1
            if is_complete and index < self.num_slices(axis) and volume < self.num_volumes:
                return axis, index, volume
        first, last = (self.slice_names(DEFAULT_AXIS)[at] for at in (0, -1))
        raise InputError(f"{self.path} has no slice {name}; its {DEFAULT_AXIS} slices are {first} to {last}.")

    def slice_header(self, axis: Axis) -> Header:
        """Size and type of each slice along an axis."""
        across: Axis = "coronal" if axis == "sagittal" else "sagittal"
        down: Axis = "coronal" if axis == "axial" else "axial"
        return Header(self.num_slices(down), self.num_slices(across), self.dtype, self.channels)

    def read_slice(self, axis: Axis, index: int, volume: int = 0) -> Array:
        """The values (H, W, C) of a slice. Raises UnreadableError for more pixels than are allowed."""
        height, width, *_ = self.slice_header(axis)
        check_pixels(height, width, self.channels * np.dtype(self.dtype).itemsize)
        stored = self.view(_voxels(self), axis, index, volume)
        if (self.slope, self.intercept) == (1, 0):
            return np.array(stored, self.dtype)
        # In float64, so that a value is rounded only once.
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(self.dtype)

    def view(self, voxels: Array, axis: Axis, index: int, volume: int = 0) -> Array:
        """A slice (H, W, C) of an array (X, Y, Z, volumes, C) in the file's order. Writing to it changes the array."""
        # To right, anterior, superior.
        patient: Array = _nibabel().orientations.apply_orientation(voxels[:, :, :, volume], self.orientation)
        place: list[int | slice] = [slice(None)] * 3
        place[_PLACES[axis]] = index
        plane: Array = patient[tuple(place)]
        return plane[::-1, ::-1].swapaxes(0, 1)

    def check_voxels(self) -> None:
        """Raise UnreadableError for more pixels than are allowed among those that are decoded at once.

        These are all slices of a compressed file; of another one a slice, which `read_slice` checks.
        """
        if self.is_compressed:
            height, width, slices = *self.slice_header(DEFAULT_AXIS)[:2], self.num_slices(DEFAULT_AXIS)
            num_bytes = self.image.get_data_dtype().itemsize
            check_pixels(height, width, num_bytes, slices=slices * self.num_volumes)

    def _stored_axis(self, axis: Axis) -> int:
        return int(np.flatnonzero(self.orientation[:, 0] == _PLACES[axis])[0])


def _nibabel() -> Any:
    """The package, which has types for half of its functions."""
    import nibabel

    return nibabel


def is_pair(path: Path) -> bool:
    """Whether a file `.img` holds voxels: its header beside it, `.hdr`, begins with the length of such headers."""
    for suffix in (".hdr", ".HDR"):
        with suppress(OSError), path.with_suffix(suffix).open("rb") as file:
            begin = file.read(4)
            return any(int.from_bytes(begin, order) in _HEADER_BYTES for order in ("little", "big"))
    return False


def open_volume(path: Path) -> Volume:
    """Open a file by its header. Raises UnreadableError for a damaged one, InputError for one without slices."""
    nibabel = _nibabel()
    try:
        image: Any = nibabel.load(path)
        orientation = nibabel.orientations.io_orientation(image.affine)
        stored, shape = np.dtype(image.get_data_dtype()), tuple(map(int, image.shape))
        proxy = image.dataobj
    except FileNotFoundError as error:
        raise UnreadableError(f"{path.name} belongs to a file that is missing, {Path(error.filename).name}") from None
    except (nibabel.filebasedimages.ImageFileError, AttributeError) as error:
        raise UnreadableError(f"it is no volume that nibabel reads ({type(error).__name__})") from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) not in (3, 4) or min(shape) < 1:
        size = " x ".join(map(str, image.shape)) or "nothing"
        raise InputError(f"{path} holds {size} values; expected a volume of three dimensions, or several of one size.")
    if np.isnan(orientation).any():
        raise UnreadableError("its header does not say how the volume lies: two of its axes have the same direction")
    channels = len(stored.names or ("value",))
    if stored.kind not in "uif" and (stored.kind, channels) not in (("V", 3), ("V", 4)):
        raise InputError(f"{path} holds values of type {stored}; expected whole numbers, real numbers or colours.")
    _check_length(path, image, math.prod(image.shape) * stored.itemsize)
    slope, intercept = (float(value) for value in (proxy.slope, proxy.inter))
    return Volume(
        path,
        (shape[0], shape[1], shape[2]),
        shape[3] if len(shape) == 4 else 1,
        channels,
        _scaled_type(stored, slope, intercept),
        slope,
        intercept,
        orientation,
        image,
    )


def read(path: Path) -> Array:
    """The only slice of a file. Raises InputError for a file with more."""
    volume = open_volume(path)
    if volume.num_volumes * min(volume.shape) > 1:
        size = " x ".join(map(str, volume.shape))
        which = f"holds {volume.num_volumes} volumes" if volume.num_volumes > 1 else "is a volume"
        example = volume.slice_names(DEFAULT_AXIS)[volume.num_slices(DEFAULT_AXIS) // 2]
        raise InputError(f"{path} {which} of {size} voxels; name one of its slices, such as {path}/{example}.")
    axis = next(axis for axis in AXES if volume.num_slices(axis) == 1)
    return volume.read_slice(axis, 0)


def list_slices(path: Path, axis: Axis | None = None) -> list[str]:
    """The names of all slices of a file along an axis."""
    return open_volume(path).slice_names(axis or DEFAULT_AXIS)


def read_slice(path: Path, name: str) -> Array:
    """The values (H, W, C) of the slice with this name."""
    volume = open_volume(path)
    return volume.read_slice(*volume.find(name))


def probe_slice(path: Path, name: str) -> Header:
    """Size and type of the slice with this name, from the file's header. Raises errors as reading it does."""
    volume = open_volume(path)
    if _key_of(path) not in _kept:
        volume.check_voxels()
    return volume.slice_header(volume.find(name)[0])


def write_like(place: Path, voxels: Array, source: Volume, *, name: Path, keep_texts: bool = False) -> None:
    """Write voxels (X, Y, Z, volumes, C), in the order of the source, with its affine, units and times.

    place: where. name: of the file that it becomes; its suffix decides between NIfTI and MGH, and the version of NIfTI
    is the source's. The header of an .img is written beside that file. keep_texts: keep descriptions and extensions of
    the header, which may name the patient. Values must have a type of NIFTI_TYPES or MGH_TYPES and one channel, or be
    colours of uint8 for NIfTI.
    """
    nibabel = _nibabel()
    lower, affine, header = name.name.lower(), source.image.affine, source.image.header
    is_nifti = lower.endswith(NIFTI_SUFFIXES)
    if voxels.shape[-1] == 1:
        values = voxels[..., 0].astype((NIFTI_TYPES if is_nifti else MGH_TYPES)[str(voxels.dtype)], copy=False)
    else:
        colours = np.dtype([(letter, "u1") for letter in "RGBA"[: voxels.shape[-1]]])
        values = np.ascontiguousarray(voxels).view(colours)[..., 0]
    values = values.reshape(source.image.shape)
    if is_nifti:
        version = 2 if isinstance(header, nibabel.Nifti2Header) else 1
        kind = getattr(nibabel, f"Nifti{version}{'Pair' if lower.endswith('.img') else 'Image'}")
        was_nifti = isinstance(header, nibabel.Nifti1Header)  # of which Nifti2Header is a kind
        image: Any = kind(values, affine, header if was_nifti else None, dtype=values.dtype)
        _copy_place(image, source.image, was_nifti=was_nifti)
        _clean(image.header, keep_texts=keep_texts)
    else:
        # Its header holds place, times and no text.
        mgh = nibabel.freesurfer.mghformat
        image = mgh.MGHImage(values, affine, header if isinstance(header, mgh.MGHHeader) else None)
        image.set_data_dtype(values.dtype)
        if isinstance(header, nibabel.Nifti1Header):
            image.header["tr"] = _repetition_time(header)
    with place.open("wb") as file:
        if lower.endswith(".img"):
            texts = io.BytesIO()
            image.file_map["header"].fileobj, image.file_map["image"].fileobj = texts, file
            image.to_file_map()
            write_bytes(name.with_suffix(".hdr"), texts.getvalue())
        elif lower.endswith("z"):
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _repetition_time(header: Any) -> float:
    """Milliseconds between the volumes of a NIfTI file, as MGH files store them; 0 if unknown.

    Without a unit they are milliseconds, as FreeSurfer has it. A 3-D file without volumes has 0 or 1 for unknown.
    """
    time, unit = float(header["pixdim"][4]), header.get_xyzt_units()[1]
    if header["dim"][0] < 4 and (time == 1 or unit not in ("sec", "msec", "usec")):
        return 0.0
    return time * {"sec": 1000.0, "usec": 0.001}.get(unit, 1.0)


def _copy_place(image: Any, source: Any, *, was_nifti: bool) -> None:
    """Give a NIfTI image the place in space and time that the source has."""
    if was_nifti:
        for get, put in ((source.get_qform, image.set_qform), (source.get_sform, image.set_sform)):
            place, code = get(coded=True)
            put(place if place is not None else source.affine, int(code), update_affine=False)
        return
    image.header.set_zooms(source.header.get_zooms()[: image.ndim])
    image.header["pixdim"][4] = source.header["tr"]
    image.header.set_xyzt_units("mm", "msec")


def _clean(header: Any, *, keep_texts: bool) -> None:
    """Remove what was true of the source's values only, and its texts; say what made the file."""
    header.set_slope_inter(1, 0)
    header["cal_max"], header["cal_min"] = 0, 0
    header.set_intent("none")
    for field in ("glmax", "glmin"):
        if field in header:
            header[field] = 0
    if keep_texts:
        return
    for field in ("aux_file", "intent_name", "db_name", "data_type"):
        if field in header:
            header[field] = b""
    header["descrip"] = f"translated by cyclegan {__version__}".encode()
    header.extensions.clear()


def _scaled_type(stored: np.dtype[Any], slope: float, intercept: float) -> str:
    """The numpy type of scaled values: the stored one, whole numbers where all are, else real numbers."""
    if stored.kind == "V":
        return "uint8"
    name = stored.newbyteorder("=").name
    if (slope, intercept) == (1, 0):
        return "float64" if name == "float128" else name
    if stored.kind in "ui" and slope.is_integer() and intercept.is_integer():
        limits = np.iinfo(stored)
        ends = [value * int(slope) + int(intercept) for value in (int(limits.min), int(limits.max))]
        for integer in _INTEGERS:
            if np.iinfo(integer).min <= min(ends) and max(ends) <= np.iinfo(integer).max:
                return integer
    # Values of 16 bits and fewer stay different in float32.
    return "float32" if stored.itemsize <= 2 or name == "float32" else "float64"


def _voxel_file(path: Path, image: Any) -> Path:
    """The file that holds the voxels, which an .img does not share with its header."""
    return Path(image.file_map["image"].filename or path)


def _check_length(path: Path, image: Any, num_bytes: int) -> None:
    """Raise UnreadableError if the file is too short for what its header says, before memory is asked for."""
    file = _voxel_file(path, image)
    try:
        length = file.stat().st_size
    except OSError:
        raise UnreadableError(f"the file of its voxels is missing, {file.name}") from None
    most = length * _MAX_COMPRESSION if file.suffix.lower() in _COMPRESSED else length
    if num_bytes > most:
        raise UnreadableError(f"its header claims {num_bytes:,} bytes, and the file has {length:,}")


# (file, size, time of change) -> voxels, the one used last at the end.
_kept: "OrderedDict[tuple[str, int, int], Future[Array]]" = OrderedDict()
_lock = Lock()


def _key_of(path: Path) -> tuple[str, int, int]:
    about = path.stat()
    return str(path), about.st_size, about.st_mtime_ns


def _voxels(volume: Volume) -> Array:
    """The stored voxels (X, Y, Z, volumes, C): mapped from the file, or kept in memory if it is compressed."""
    key = _key_of(volume.path)
    with _lock:
        future = _kept.get(key)
        is_first = future is None
        if future is None:
            future = _kept[key] = Future()
        _kept.move_to_end(key)
    if not is_first:
        return future.result()
    try:
        voxels = _load(volume)
    except BaseException as error:
        with _lock:
            _kept.pop(key, None)
        future.set_exception(error)
        raise
    future.set_result(voxels)
    with _lock:
        done = [(key, each.result()) for key, each in _kept.items() if each.done() and not each.exception()]
        size = sum(map(_memory, (each for _, each in done)))
        for key, each in done[:-1]:
            if size <= _CACHE_BYTES and len(_kept) <= _CACHE_FILES:
                break
            size -= _memory(each)
            del _kept[key]
    return voxels


def _load(volume: Volume) -> Array:
    volume.check_voxels()
    stored: Any = np.asanyarray(volume.image.dataobj.get_unscaled())
    if stored.dtype.names:
        stored = np.stack([stored[name] for name in stored.dtype.names], -1)
    voxels: Array = stored.reshape((*volume.shape, volume.num_volumes, volume.channels), order="A")
    return voxels


def _memory(voxels: Array) -> int:
    """Bytes of memory; none for what is mapped from a file."""
    base: Any = voxels
    while base is not None:
        if isinstance(base, np.memmap):
            return 0
        base = getattr(base, "base", None)
    return voxels.nbytes
