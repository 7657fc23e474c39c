"""DICOM images: values with their rescaling applied, of one file, of a frame of a file, and of the files of a series.

Grey values are those that the modality means, such as Hounsfield units: the rescale slope and intercept, or the
modality LUT, are applied, and MONOCHROME1, where high values are dark, is inverted. Windows are for display and change
no value. Colours become RGB.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclegan.config import Axis
from cyclegan.errors import InputError, UnreadableError, damage_of
from cyclegan.images import Array
from cyclegan.images.formats import Decoded, Header
from cyclegan.images.raster import Metadata, Raster

SUFFIXES = (".dcm", ".dicom", ".ima")

# A DICOM file has this at byte 128.
_MARK, _MARK_AT = b"DICM", 128

# What imagecodecs decodes, and pydicom only with packages under the GPL: JPEG of 12 bits, lossless JPEG, JPEG-LS.
_JPEG = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# What describes the pixels of a file, and is read before them.
_GREY, _COLOUR = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"


def is_dicom(path: Path | str) -> bool:
    """Whether a file is DICOM by its content: many have no suffix, or numbers in its place."""
    try:
        with Path(path).open("rb") as file:
            file.seek(_MARK_AT)
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


def read_dataset(path: Path, *, with_pixels: bool = True) -> Any:
    """The attributes of a file, as pydicom has them. Raises UnreadableError for another kind of file."""
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except pydicom.errors.InvalidDicomError:
        raise UnreadableError("it has no DICM at byte 128, as every DICOM file") from None


def count_frames(dataset: Any) -> int:
    """Frames of a file; 1 for a plain image. Raises UnreadableError for a file without an image, such as a report."""
    if dataset.get("Rows") is None or dataset.get("Columns") is None:
        kind = dataset.file_meta.get("MediaStorageSOPClassUID") if hasattr(dataset, "file_meta") else None
        name = getattr(kind, "name", "") or dataset.get("Modality") or "other data"
        raise UnreadableError(f"it holds no image ({name})")
    return max(int(dataset.get("NumberOfFrames") or 1), 1)


def list_frames(path: Path, _axis: Axis | None = None) -> list[str]:
    """The names of the frames of a file, from 1 on; empty for a plain image."""
    count = count_frames(read_dataset(path, with_pixels=False))
    return [f"{number:0{len(str(count))}}" for number in range(1, count + 1)] if count > 1 else []


def read(path: Path) -> Decoded:
    """The only image of a file. Raises InputError for several frames."""
    dataset = read_dataset(path)
    if (count := count_frames(dataset)) > 1:
        raise InputError(f"{path} holds {count} frames; name one of them, such as {path}/{(count + 1) // 2}.")
    return decode_frame(dataset, 0)


def read_frame(path: Path, name: str) -> Decoded:
    """The frame with this name, from 1 on."""
    about = path.stat()
    dataset = _read_whole(path, about.st_size, about.st_mtime_ns)
    return decode_frame(dataset, _index_of(path, name, count_frames(dataset)))


@lru_cache(maxsize=2)
def _read_whole(path: Path, _num_bytes: int, _changed: int) -> Any:
    """All of a file, kept while its frames are read one after the other."""
    return read_dataset(path)


def probe(path: Path) -> Header | None:
    """Size and type of the image of a file, from its attributes; None if only its values tell the type."""
    return header_of(read_dataset(path, with_pixels=False))


def probe_frame(path: Path, name: str) -> Header | None:
    """Size and type of a frame."""
    dataset = read_dataset(path, with_pixels=False)
    return header_of(dataset, _index_of(path, name, count_frames(dataset)))


def size(path: str) -> tuple[int, int]:
    """Height and width of a file's image."""
    dataset = read_dataset(Path(path), with_pixels=False)
    count_frames(dataset)
    return int(dataset.Rows), int(dataset.Columns)


def _index_of(path: Path, name: str, count: int) -> int:
    if name.isdigit() and len(name) < 10 and 1 <= int(name) <= count:
        return int(name) - 1
    raise InputError(f"{path} has no frame {name}; it has {count}, from 1 on.")


def header_of(dataset: Any, frame: int = 0) -> Header | None:
    """Size and type of a frame; None if only its values tell the type."""
    count_frames(dataset)
    height, width, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.get("BitsAllocated") or 0)
    if dataset.get("PhotometricInterpretation") not in _GREY:
        deep = 8 if dataset.get("PhotometricInterpretation") == _COLOUR else bits
        return Header(height, width, "uint8", None) if deep <= 8 else Header(height, width, f"uint{deep}", 3)
    if "ModalityLUTSequence" in dataset or bits == 0:
        return None
    scale = scale_of(dataset, frame)
    if bits == 1 or (bits == 8 and scale.is_none and not dataset.get("PixelRepresentation")):
        return Header(height, width, "uint8", None)
    dtype = scale.dtype(dataset)
    return None if dtype is None else Header(height, width, dtype, 1)


@dataclass(frozen=True)
class Scale:
    """Stored grey values -> values: value = stored * slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_none(self) -> bool:
        return (self.slope, self.intercept) == (1.0, 0.0)

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers stay whole."""
        return self.slope.is_integer() and self.intercept.is_integer()

    def dtype(self, dataset: Any) -> str | None:
        """The numpy type of all values of an image; None if it depends on them.

        Unscaled values keep their type. Scaled ones, such as Hounsfield units, are int16 if they fit and else int32, or
        float32 if they are no whole numbers.
        """
        allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
        if "PixelData" not in dataset and ("FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset):
            return f"float{allocated}"
        is_signed = bool(dataset.get("PixelRepresentation"))
        if self.is_none:
            return f"{'int' if is_signed else 'uint'}{allocated}"
        if not self.is_whole:
            return "float32" if stored <= 24 else "float64"
        ends = [value * int(self.slope) + int(self.intercept) for value in _stored_range(stored, is_signed)]
        if min(ends) >= -(2**15) and max(ends) < 2**15:
            return "int16"
        if stored <= 16 and abs(self.slope) <= 1:
            return None
        return "int32" if min(ends) >= -(2**31) and max(ends) < 2**31 else "float64"

    def apply(self, stored: Array, dataset: Any) -> Array:
        """The values of stored ones."""
        dtype = self.dtype(dataset)
        if self.is_none:
            return stored.astype(dtype, copy=False)
        if dtype in ("float32", "float64"):
            return (stored.astype(np.float64) * self.slope + self.intercept).astype(dtype)
        values = stored.astype(np.int64) * int(self.slope) + int(self.intercept)
        if dtype is None:
            fits = values.min() >= -(2**15) and values.max() < 2**15
            dtype = "int16" if fits else "int32"
        return values.astype(dtype)


def scale_of(dataset: Any, frame: int = 0) -> Scale:
    """How the grey values of a frame are scaled; of a dose, to its unit. Raises UnreadableError for damage."""
    source = functional_group(dataset, "PixelValueTransformationSequence", frame) or dataset
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None and dataset.get("DoseGridScaling") is not None:
        slope, intercept = dataset.DoseGridScaling, 0
    slope, intercept = float(1 if slope in (None, "") else slope), float(0 if intercept in (None, "") else intercept)
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise UnreadableError(f"its values cannot be scaled by {slope:g} and {intercept:g}")
    return Scale(slope, intercept)


def functional_group(dataset: Any, keyword: str, frame: int) -> Any:
    """The item of a functional group of an enhanced image: that of the frame, else that of all frames, else None."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*per_frame[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    return next((group[keyword][0] for group in groups if group.get(keyword)), None)


def decode_frame(dataset: Any, frame: int) -> Decoded:
    """The values of a frame: an 8-bit picture, an array (H, W) or (H, W, 3), or a Raster where padding marks holes."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    stored = _decode(dataset, frame)
    interpretation = dataset.get("PhotometricInterpretation")
    if interpretation == _COLOUR:
        colours = apply_color_lut(stored, dataset)
        return Image.fromarray((colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)[..., :3])
    if stored.ndim == 3:
        return Image.fromarray(stored) if stored.dtype == np.uint8 else stored
    if interpretation not in _GREY:
        raise UnreadableError(f"its photometric interpretation is {interpretation or 'missing'}")
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    padding = _padding(dataset, stored)
    if interpretation == "MONOCHROME1" and stored.dtype.kind in "ui":
        stored = sum(_stored_range(bits, stored.dtype.kind == "i")) - stored.astype(np.int64)
        stored = stored.astype(
            np.dtype(f"{'int' if dataset.get('PixelRepresentation') else 'uint'}{dataset.BitsAllocated}")
        )
    if "ModalityLUTSequence" in dataset:
        return apply_modality_lut(stored, dataset)
    scale = scale_of(dataset, frame)
    if int(dataset.BitsAllocated) == 1:
        return Image.fromarray(stored.astype(np.bool_).astype(np.uint8) * 255)
    if padding is None:
        values = scale.apply(stored, dataset)
        return Image.fromarray(values) if values.dtype == np.uint8 else values
    # All padding gets one value, which then marks holes.
    at = int(np.flatnonzero(padding)[0])
    stored = np.where(padding, stored.flat[at], stored)
    values = scale.apply(stored, dataset)
    return Raster(values[..., None], valid=~padding, metadata=Metadata(nodata=float(values.flat[at])))


def _stored_range(bits: int, is_signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def _padding(dataset: Any, stored: Array) -> Any:
    """Where an image is padded, (H, W): outside the round field of view of a scanner, say; None if nowhere."""
    first = dataset.get("PixelPaddingValue")
    if first is None or stored.dtype.kind not in "ui":
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    # Some files give the value in the other signedness.
    ends = sorted(int(np.array(int(end)).astype(stored.dtype)) for end in (first, first if last is None else last))
    whole = stored.astype(np.int64)
    padding = (whole >= ends[0]) & (whole <= ends[1])
    return padding if padding.any() and not padding.all() else None


def _decode(dataset: Any, frame: int) -> Array:
    """The stored values of a frame, (H, W) or (H, W, 3) in RGB."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    if not any(name in dataset for name in _PIXELS):
        raise UnreadableError("it describes an image and holds no pixels")
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None:
        raise UnreadableError("it does not say how its pixels are stored (no transfer syntax)")
    if syntax not in (*_JPEG, *_JPEG_LS):
        # Frames come with colours converted to RGB.
        return np.asarray(pixel_array(dataset, index=frame))
    import imagecodecs

    packed = get_frame(dataset.PixelData, frame, number_of_frames=count_frames(dataset))
    decoded = np.asarray(imagecodecs.jpeg8_decode(packed) if syntax in _JPEG else imagecodecs.jpegls_decode(packed))
    if decoded.shape[:2] != (dataset.Rows, dataset.Columns):
        raise UnreadableError(f"its pixels have another size than it says, {decoded.shape[1]} x {decoded.shape[0]}")
    if dataset.get("PixelRepresentation"):
        # Codecs know no signs: move that of the stored bits to the front.
        unused = 8 * decoded.itemsize - int(dataset.get("BitsStored") or dataset.BitsAllocated)
        signed = np.left_shift(decoded, unused).view(f"i{decoded.itemsize}")
        decoded = np.right_shift(signed, unused)
    return decoded


@dataclass(frozen=True)
class Series:
    """The files of one series, in the order of their places."""

    uid: str
    files: tuple[Path, ...]


def find_series(files: Iterable[Path]) -> tuple[list[Series], list[tuple[Path, str]]]:
    """The series that files belong to, and files without an image with reasons.

    The files of a series are sorted along the normal of its slices, or by their numbers where places are missing or
    shared, as in a series of times.
    """
    found: dict[str, list[tuple[Path, Any]]] = {}
    left_out: list[tuple[Path, str]] = []
    for path in files:
        try:
            dataset = read_dataset(path, with_pixels=False)
            count_frames(dataset)
            found.setdefault(str(dataset.get("SeriesInstanceUID") or path.parent), []).append((path, dataset))
        except ImportError:
            raise
        except Exception as error:  # a damaged file raises errors of every kind
            left_out.append((path, damage_of(error)))
    return [Series(uid, _sorted(items)) for uid, items in found.items()], left_out


def _sorted(items: list[tuple[Path, Any]]) -> tuple[Path, ...]:
    places = [_place(dataset) for _, dataset in items]
    is_ordered = None not in places and len(set(places)) == len(places)

    def key(number: int) -> tuple[float, str]:
        path, dataset = items[number]
        place = places[number] if is_ordered else dataset.get("InstanceNumber")
        return (float(place) if place is not None else 0.0), path.name

    return tuple(items[number][0] for number in sorted(range(len(items)), key=key))


def _place(dataset: Any) -> float | None:
    """Millimetres along the normal of a slice; None if they are not known."""
    position, direction = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    if not position or not direction or len(position) != 3 or len(direction) != 6:
        return None
    rows, columns = np.array(direction, float).reshape(2, 3)
    return round(float(np.cross(rows, columns) @ np.array(position, float)), 4)


def plane_of(dataset: Any) -> Axis | None:
    """The plane of the patient that a slice is nearest to; None if it does not say how it lies."""
    direction = dataset.get("ImageOrientationPatient")
    if not direction or len(direction) != 6:
        return None
    rows, columns = np.array(direction, float).reshape(2, 3)
    planes: tuple[Axis, ...] = ("sagittal", "coronal", "axial")
    return planes[int(np.abs(np.cross(rows, columns)).argmax())]
