"""DICOM images: values with their rescaling applied, of one file, and of a frame of a file.

Grey values are those that the modality means, such as Hounsfield units: the rescale slope and intercept, or the
modality LUT, are applied, and MONOCHROME1, where high values are dark, is inverted. Windows are for display and change
no value. Colours become RGB.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cyclegan.config import Axis
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.formats import Decoded, Header, check_page
from cyclegan.images.limits import check_pixels
from cyclegan.images.pages import read_head
from cyclegan.images.raster import Mask, Metadata, Raster
from cyclegan.images.zip_folder import MOST_FREE_BYTES, MOST_RATIO

SUFFIXES = (".dcm", ".dicom", ".ima")

# A DICOM file has this at byte 128.
_MARK, _MARK_AT = b"DICM", 128

# What imagecodecs decodes, and pydicom only with packages under the GPL: JPEG of 12 bits, lossless JPEG, JPEG-LS.
_JPEG = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")

# How the codestreams of JPEG 2000 and of the other JPEGs begin, and the markers of the latter that a size follows.
_JPEG_2000, _OTHER_JPEG = b"\xff\x4f\xff\x51", b"\xff\xd8"
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}

# A file is listed frame by frame, and a forged header may claim any number of them.
_MOST_FRAMES = 1_000_000

# Transfer syntax of files whose attributes and pixels are deflated together.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# The kind of the images of a whole slide, which OpenSlide reads, and where in a file its kind stands.
_SLIDE, _HEAD_BYTES = b"1.2.840.10008.5.1.4.1.1.77.1.6", 1024

# What describes the pixels of a file, and is read before them.
_GREY, _COLOUR = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"


def is_dicom(path: Path | str) -> bool:
    """Whether a file is DICOM by its content: many have no suffix, or numbers in its place."""
    try:
        return read_head(Path(path), _MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except (OSError, UnreadableError):
        return False


def is_slide(path: Path | str) -> bool:
    """Whether a file is an image of a whole slide: a level of its pyramid, or its label."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head[_MARK_AT : _MARK_AT + len(_MARK)] == _MARK and _SLIDE in head


def slide_pixels(path: Path) -> tuple[str, int]:
    """The series that an image of a slide belongs to, and its pixels; none if it is no level but a label, say."""
    header = read_header(path)
    is_level = "VOLUME" in (header.get("ImageType") or ())
    pixels = int(header.get("TotalPixelMatrixColumns") or 0) * int(header.get("TotalPixelMatrixRows") or 0)
    return str(header.get("SeriesInstanceUID") or path.parent), pixels if is_level else 0


def read_dataset(path: Path, *, with_pixels: bool = True) -> Any:
    """The attributes of a file, as pydicom has them. Raises UnreadableError for another kind of file."""
    import pydicom

    try:
        with path.open("rb") as file:
            if _DEFLATED in file.read(_HEAD_BYTES):
                _check_deflated(file)
            file.seek(0)
            return pydicom.dcmread(file, stop_before_pixels=not with_pixels)
    except pydicom.errors.InvalidDicomError:
        raise UnreadableError("it has no DICM at byte 128, as every DICOM file") from None


def _check_deflated(file: IO[bytes]) -> None:
    """Raise UnreadableError for a deflated file that becomes far larger than images do, before all of it is unpacked.

    The first 144 bytes end with the length of the attributes before the deflated ones.
    """
    file.seek(140)
    file.seek(144 + int.from_bytes(file.read(4), "little"))
    packed, unpacker = file.read(), zlib.decompressobj(-zlib.MAX_WBITS)
    unpacker.decompress(packed, max(MOST_FREE_BYTES, MOST_RATIO * len(packed)))
    if unpacker.unconsumed_tail:
        raise UnreadableError(f"its {len(packed):,} deflated bytes become more than those of an image can")


def count_frames(dataset: Any) -> int:
    """Frames of a file; 1 for a plain image. Raises UnreadableError for a file without an image, such as a report."""
    if dataset.get("Rows") is None or dataset.get("Columns") is None:
        kind = dataset.file_meta.get("MediaStorageSOPClassUID") if hasattr(dataset, "file_meta") else None
        name = getattr(kind, "name", "") or dataset.get("Modality") or "other data"
        raise UnreadableError(f"it holds no image ({name})")
    if min(int(dataset.Rows), int(dataset.Columns)) < 1:
        raise UnreadableError(f"it has {int(dataset.Columns)}x{int(dataset.Rows)} pixels")
    return max(int(dataset.get("NumberOfFrames") or 1), 1)


def list_frames(path: Path, _axis: Axis | None = None) -> list[str]:
    """The names of the frames of a file, from 1 on; empty for a plain image."""
    count = _frames_of(path, read_header(path))
    return [f"{number:0{len(str(count))}}" for number in range(1, count + 1)] if count > 1 else []


def _frames_of(path: Path, dataset: Any) -> int:
    """As `count_frames`. Raises UnreadableError for more than the file has bytes, or than a million."""
    count = count_frames(dataset)
    if count > (most := min(path.stat().st_size, _MOST_FRAMES)):
        raise UnreadableError(f"its header claims {count:,} frames; expected at most {most:,} in such a file")
    return count


def read(path: Path) -> Decoded:
    """The only image of a file. Raises InputError for several frames."""
    dataset = read_dataset(path)
    if (count := _frames_of(path, dataset)) > 1:
        raise InputError(f"{path} holds {count} frames; name one of them, such as {path}/{(count + 1) // 2}.")
    return decode_frame(dataset, 0)


def read_frame(path: Path, name: str) -> Decoded:
    """The frame with this name, from 1 on."""
    about = path.stat()
    dataset = _read_whole(path, about.st_size, about.st_mtime_ns)
    return decode_frame(dataset, check_page(path, name, _frames_of(path, dataset), "frame") - 1)


# Kept while the frames of a file are read one after the other.
_read_whole = lru_cache(maxsize=2)(lambda path, _num_bytes, _changed: read_dataset(path))
_read_header = lru_cache(maxsize=8)(lambda path, _num_bytes, _changed: read_dataset(path, with_pixels=False))


def read_header(path: Path) -> Any:
    """As `read_dataset` without pixels; the last few are cached: do not change them."""
    about = path.stat()
    return _read_header(path, about.st_size, about.st_mtime_ns)


def probe(path: Path) -> Header | None:
    """Size and type of the image of a file, from its attributes; None if only its values tell the type."""
    dataset = read_header(path)
    _frames_of(path, dataset)
    return header_of(dataset)


def probe_frame(path: Path, name: str) -> Header | None:
    """Size and type of a frame."""
    dataset = read_header(path)
    return header_of(dataset, check_page(path, name, _frames_of(path, dataset), "frame") - 1)


def size(path: str) -> tuple[int, int]:
    """Height and width of a file's image."""
    dataset = read_header(Path(path))
    count_frames(dataset)
    return int(dataset.Rows), int(dataset.Columns)


def header_of(dataset: Any, frame: int = 0) -> Header | None:
    """Size and type of a frame; None if only its values tell the type."""
    count_frames(dataset)
    height, width, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.get("BitsAllocated") or 0)
    if dataset.get("PhotometricInterpretation") not in _GREY:
        deep = 8 if dataset.get("PhotometricInterpretation") == _COLOUR else bits
        return Header(height, width, "uint8", None) if deep <= 8 else Header(height, width, f"uint{deep}", 3)
    if bits == 0:
        return None
    if (table := _Table.of(dataset)) is not None:
        is_picture = table.values.dtype == np.uint8
        return Header(height, width, str(table.values.dtype), None if is_picture else 1)
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

    def apply(self, stored: Array, dataset: Any, padding: Mask | None = None) -> Array:
        """The values of stored ones. padding: (H, W), True where these are none and decide on no type."""
        dtype = self.dtype(dataset)
        if self.is_none:
            return stored.astype(dtype, copy=False)
        if dtype in ("float32", "float64"):
            return (stored.astype(np.float64) * self.slope + self.intercept).astype(dtype)
        values = stored.astype(np.int64) * int(self.slope) + int(self.intercept)
        if dtype is None:
            inside = values if padding is None else values[~padding]
            fits = inside.size == 0 or (inside.min() >= -(2**15) and inside.max() < 2**15)
            dtype = "int16" if fits else "int32"
        limits = np.iinfo(dtype)
        return values.clip(limits.min, limits.max).astype(dtype)


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


@dataclass(frozen=True)
class _Table:
    """A modality LUT: stored grey values -> values, from the value `first` on. Those outside have that of its ends."""

    first: int
    values: Array

    @classmethod
    def of(cls, dataset: Any) -> "_Table | None":
        """The table of an image, of uint8 or uint16; None if it has none. Raises UnreadableError for damage."""
        if not (items := dataset.get("ModalityLUTSequence")):
            return None
        count, first, bits = (int(number) for number in items[0].LUTDescriptor)
        entries = items[0].LUTData
        if isinstance(entries, bytes):  # in the byte order of the file
            is_little = dataset.file_meta.TransferSyntaxUID.is_little_endian
            entries = np.frombuffer(entries, np.dtype("u2").newbyteorder("<" if is_little else ">"))
        values = np.atleast_1d(np.asarray(entries, np.int64) & 0xFFFF)[: count or 2**16]
        if len(values) < (count or 2**16) or not 0 < bits <= 16:
            raise UnreadableError(f"its modality LUT has {len(values)} entries of {bits} bits, and {count} are missing")
        if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            values = (2**bits - 1 - values).clip(0)
        return cls(first, values.astype(np.uint8 if bits <= 8 else np.uint16))

    def apply(self, stored: Array) -> Array:
        """The values of stored ones."""
        places = (stored.astype(np.int64) - self.first).clip(0, len(self.values) - 1)
        return np.asarray(self.values[places])


def decode_frame(dataset: Any, frame: int) -> Decoded:
    """The values of a frame: an 8-bit picture, an array (H, W) or (H, W, 3), or a Raster where padding marks holes.

    Raises UnreadableError for more pixels than are allowed, before they are decoded.
    """
    from pydicom.pixels.processing import apply_color_lut

    count_frames(dataset)
    num_bytes = int(dataset.get("SamplesPerPixel") or 1) * max(1, int(dataset.get("BitsAllocated") or 8) // 8)
    check_pixels(int(dataset.Rows), int(dataset.Columns), num_bytes)
    stored = _decode(dataset, frame)
    interpretation = dataset.get("PhotometricInterpretation")
    if interpretation == _COLOUR:
        colours = apply_color_lut(stored, dataset)
        return Image.fromarray((colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)[..., :3])
    if stored.ndim == 3:
        return Image.fromarray(stored) if stored.dtype == np.uint8 else stored
    if interpretation not in _GREY:
        raise UnreadableError(f"its photometric interpretation is {interpretation or 'missing'}")
    if int(dataset.BitsAllocated) == 1:
        return Image.fromarray(stored.astype(np.bool_).astype(np.uint8) * 255)
    padding = _padding(dataset, stored)
    values = _grey_values(dataset, frame, stored, padding)
    if padding is None:
        return Image.fromarray(values) if values.dtype == np.uint8 else values
    # All padding gets one value, which marks holes unless other pixels have it, too.
    marker = values.flat[int(np.flatnonzero(padding)[0])]
    values = np.where(padding, marker, values)
    nodata = None if (values[~padding] == marker).any() else float(marker)
    return Raster(values[..., None], valid=~padding, metadata=Metadata(nodata=nodata))


def _grey_values(dataset: Any, frame: int, stored: Array, padding: Mask | None) -> Array:
    """The values of stored grey values, high ones bright: by the modality LUT, or by slope and intercept."""
    if (table := _Table.of(dataset)) is not None:
        return table.apply(stored)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and stored.dtype.kind in "ui":
        is_signed, bits = stored.dtype.kind == "i", int(dataset.get("BitsStored") or dataset.BitsAllocated)
        inverted = sum(_stored_range(bits, is_signed)) - stored.astype(np.int64)
        stored = inverted.astype(f"{'int' if is_signed else 'uint'}{dataset.BitsAllocated}")
    return scale_of(dataset, frame).apply(stored, dataset, padding)


def _stored_range(bits: int, is_signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def _padding(dataset: Any, stored: Array) -> Mask | None:
    """Where an image is padded, (H, W): outside the round field of view of a scanner, say; None if nowhere.

    Found among the stored values, which the attribute is about, before any lookup table or scale.
    """
    kind = {"u": "", "i": "", "f": "Float" if stored.dtype == np.float32 else "DoubleFloat"}.get(stored.dtype.kind)
    first = None if kind is None else dataset.get(f"{kind}PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get(f"{kind}PixelPaddingRangeLimit")
    # Some files give the value in the other signedness.
    both = np.array([first, first if last is None else last])
    ends = sorted((both if kind else both.astype(np.int64)).astype(stored.dtype).tolist())
    padding = np.asarray((stored >= ends[0]) & (stored <= ends[1]))
    return padding if padding.any() else None


def _packed_size(packed: bytes) -> tuple[int, int] | None:
    """Height and width that the codestream of a JPEG of any kind claims; None for another one."""
    at = packed.find(_JPEG_2000, 0, 4096)
    if at >= 0:
        right, bottom, left, top = (int.from_bytes(packed[at + n : at + n + 4], "big") for n in (8, 12, 16, 20))
        return bottom - top, right - left
    if not packed.startswith(_OTHER_JPEG):
        return None
    at = 2
    while at + 9 <= len(packed) and packed[at] == 0xFF:
        if (marker := packed[at + 1]) in _FRAME_MARKERS:
            return int.from_bytes(packed[at + 5 : at + 7], "big"), int.from_bytes(packed[at + 7 : at + 9], "big")
        # A byte of 255 may fill the space before a marker.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(packed[at + 2 : at + 4], "big")
    return None


def _decode(dataset: Any, frame: int) -> Array:
    """The stored values of a frame, (H, W) or (H, W, 3) in RGB."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    if not any(name in dataset for name in _PIXELS):
        raise UnreadableError("it describes an image and holds no pixels")
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None:
        raise UnreadableError("it does not say how its pixels are stored (no transfer syntax)")
    packed = b""
    if syntax.is_encapsulated:
        packed = get_frame(dataset.PixelData, frame, number_of_frames=count_frames(dataset))
        size = _packed_size(packed)
        if size is not None and size != (dataset.Rows, dataset.Columns):  # before a decoder believes it
            raise UnreadableError(f"its pixels have another size than it says, {size[1]}x{size[0]}")
    if syntax not in (*_JPEG, *_JPEG_LS):
        # Frames come with colours converted to RGB.
        return np.asarray(pixel_array(dataset, index=frame))
    import imagecodecs

    decoded = np.asarray(imagecodecs.jpeg8_decode(packed) if syntax in _JPEG else imagecodecs.jpegls_decode(packed))
    if decoded.shape[:2] != (dataset.Rows, dataset.Columns):
        raise UnreadableError(f"its pixels have another size than it says, {decoded.shape[1]}x{decoded.shape[0]}")
    if dataset.get("PixelRepresentation"):
        # Codecs know no signs: move that of the stored bits to the front.
        unused = 8 * decoded.itemsize - int(dataset.get("BitsStored") or dataset.BitsAllocated)
        signed = np.left_shift(decoded, unused).view(f"i{decoded.itemsize}")
        decoded = np.right_shift(signed, unused)
    return decoded
