"""Write DICOM images that were made from others: marked as derived, in their place, with a policy on patients.

`none`, the default, copies only the attributes in `KEPT`: geometry, pixels, technique and timing. All others are left
out, private ones included, or replaced: names and UIDs. So no attribute of the Basic Application Level Confidentiality
Profile (DICOM PS3.15, annex E) stays with its value. `keep` copies everything that is still true of the new image.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.filetypes.dicom import Scale, functional_group
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Mask

PatientData: TypeAlias = Literal["none", "keep"]
PATIENT_DATA: tuple[PatientData, ...] = get_args(PatientData)

# What `none` copies, at the top and inside sequences. Nothing else is, and UIDs among these are replaced.
# fmt: off
KEPT = frozenset((
    # what it is
    "SOPClassUID", "Modality", "InstanceNumber", "BodyPartExamined", "Laterality", "ImageLaterality", "ViewPosition",
    "PatientPosition", "PatientOrientation", "BurnedInAnnotation", "RecognizableVisualFeatures", "ConversionType",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    # where it lies
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceLocation", "SliceThickness",
    "SpacingBetweenSlices", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    "PixelSpacingCalibrationType", "EstimatedRadiographicMagnificationFactor", "GantryDetectorTilt",
    "DistanceSourceToDetector", "DistanceSourceToPatient", "ReconstructionDiameter",
    # regions of ultrasound
    "SequenceOfUltrasoundRegions", "RegionSpatialFormat", "RegionDataType", "RegionFlags", "RegionLocationMinX0",
    "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1", "ReferencePixelX0", "ReferencePixelY0",
    "ReferencePixelPhysicalValueX", "ReferencePixelPhysicalValueY", "PhysicalUnitsXDirection",
    "PhysicalUnitsYDirection", "PhysicalDeltaX", "PhysicalDeltaY",
    # frames
    "NumberOfFrames", "FrameIncrementPointer", "FrameTime", "FrameTimeVector", "CineRate",
    "RecommendedDisplayFrameRate", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "FrameVOILUTSequence",
    "FrameContentSequence", "InStackPositionNumber", "TemporalPositionIndex", "TemporalPositionIdentifier",
    "NumberOfTemporalPositions", "DimensionIndexValues", "DimensionOrganizationSequence", "DimensionOrganizationUID",
    "DimensionIndexSequence", "DimensionIndexPointer", "FunctionalGroupPointer", "DimensionOrganizationType",
    "AcquisitionNumber",
    # how it shows
    "WindowCenter", "WindowWidth", "VOILUTFunction", "Units",
    # how it was made
    "KVP", "ExposureTime", "XRayTubeCurrent", "Exposure", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "MRAcquisitionType", "RepetitionTime", "EchoTime", "InversionTime", "EchoNumbers", "EchoTrainLength", "FlipAngle",
    "NumberOfAverages", "ImagingFrequency", "MagneticFieldStrength", "PercentSampling", "PercentPhaseFieldOfView",
    "PixelBandwidth", "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "CountsSource", "DecayCorrection",
    "CorrectedImage", "SeriesType",
))

# What described the values of the source only, and is not true of others.
_OF_THE_SOURCE = (
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue",
    "ModalityLUTSequence", "VOILUTSequence", "PresentationLUTShape", "PresentationLUTSequence", "IconImageSequence",
    "RealWorldValueMappingSequence", "PixelValueTransformationSequence", "RescaleSlope", "RescaleIntercept",
    "DoseGridScaling", "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "PlanarConfiguration",
    "PaletteColorLookupTableUID", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ICCProfile", "ColorSpace", "DigitalSignaturesSequence",
    "MACParametersSequence", "EncryptedAttributesSequence",
)
# fmt: on

_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")

# Units of rescaled values; US is an unspecified one.
_UNITS = ("HU", "OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")

# Kinds of images whose grey values have 16 bits, whatever the model makes.
_SIXTEEN_BITS = ("CT", "MR", "PT", "NM")


# Bins of a histogram over the range of values.
_BINS = 4096

# Makes the new UIDs of a process: without it nobody finds the old ones by trying.
_SECRET = secrets.token_bytes(32)


def new_uid(uid: str) -> str:
    """The UID that replaces another one in this process."""
    number = int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=16, key=_SECRET).digest())
    return f"2.25.{UUID(int=number, version=4).int}"


@dataclass(frozen=True)
class DerivedImages:
    """Makes the images of new series from those of others.

    source, target: what the model takes and makes. description: how, for the attribute DerivationDescription.
    In all images made by one process, equal UIDs of the sources become equal new ones, which say nothing of the old.
    """

    source: ImageFormat
    target: ImageFormat
    description: str
    patient_data: PatientData = "none"

    def check(self, original: Any, name: str) -> None:
        """Raise InputError if no image can be made from this one. name: of its file."""
        kind = getattr(original.get("SOPClassUID"), "name", "unknown")
        if not kind.endswith("Image Storage") or "Whole Slide" in kind:
            raise InputError(f"{name} is of the kind {kind}; translations of images are written, not of this.")
        if self.target.channels not in (1, 3):
            raise InputError(f"{name}: a DICOM image has 1 or 3 channels, and the model makes {self.target.channels}.")
        if self.target.channels == 3 and (original.get("Modality") in _SIXTEEN_BITS or self.target.dtype != "uint8"):
            raise InputError(f"{name}: {kind} holds no colours of {self.target.dtype}, which the model makes.")

    def make(self, original: Any, frames: Sequence[Array], valid: Sequence[Mask | None]) -> Any:
        """The new image. original: attributes of the source. frames: (H, W, C) each; valid: (H, W) as in `Raster`."""
        made, shown = self.make_in_window(original, frames, valid)
        if not shown.is_enough:
            self.show_range(made)
        return made

    def make_in_window(
        self, original: Any, frames: Sequence[Array], valid: Sequence[Mask | None]
    ) -> "tuple[Any, Shown]":
        """The new image with the window of the source, and what this window shows, which may be too little.

        The images of a series add up what is shown: a viewer shows them one after the other, so they have one window.
        """
        keeps = self.patient_data == "keep"
        made = _copy_all(original) if keeps else self._copy_kept(original)
        self._put_identity(made, original)
        self._put_derivation(made, original)
        shown = self._put_values(made, original, frames, valid)
        if keeps:
            self._put_dates(made)
        return made, shown

    def show_range(self, made: Any) -> None:
        """Replace the window of a grey image by the whole range of the target."""
        for group in _groups_of(made):
            group.pop("FrameVOILUTSequence", None)
        for keyword in _WINDOW:
            made.pop(keyword, None)
        low, high = self.target.low, self.target.high
        made.WindowCenter, made.WindowWidth = _number((low + high) / 2), _number(max(high - low, 1e-6))

    def write(self, path: Path, made: Any) -> None:
        """Write an image of `make` to a new file. Raises UnreadableError if an attribute of the source is damaged."""
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = made.SOPClassUID
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta = meta
        with path.open("wb") as file:
            try:
                made.save_as(file, enforce_file_format=True)
            except OSError:
                raise
            except Exception as error:  # damaged values raise errors of many kinds, with a traceback in their text
                reason = str(error).partition("\n")[0]
                raise UnreadableError(f"it has an attribute that cannot be copied ({reason})") from error

    def _copy_kept(self, original: Any) -> Any:
        from pydicom.datadict import keyword_for_tag
        from pydicom.dataset import Dataset
        from pydicom.sequence import Sequence as Items

        made = Dataset()
        for tag in sorted(original.keys()):
            if keyword_for_tag(tag) not in KEPT:  # those of private attributes have no keyword
                continue
            element = original[tag]
            if element.VR == "SQ":
                setattr(made, element.keyword, Items([self._copy_kept(item) for item in element.value]))
            elif element.VR == "UI" and element.keyword != "SOPClassUID" and element.value:
                setattr(made, element.keyword, new_uid(str(element.value)))
            else:
                made[element.tag] = element
        return made

    def _put_identity(self, made: Any, original: Any) -> None:
        """Patient, study, series and image."""
        from pydicom.dataset import Dataset

        series = str(original.get("SeriesInstanceUID") or "")
        made.SOPInstanceUID = new_uid(str(original.get("SOPInstanceUID") or id(original)))
        made.SeriesInstanceUID = new_uid(f"{series}/translated")
        number = original.get("SeriesNumber")
        made.SeriesNumber = 1000 + int(number if number not in (None, "") else 0)
        made.SeriesDescription = f"Translated by cyclegan {__version__}"
        if self.patient_data == "keep":
            return
        made.SpecificCharacterSet = "ISO_IR 192"
        made.StudyInstanceUID = new_uid(str(original.get("StudyInstanceUID") or f"study of {series}"))
        patient = f"{original.get('IssuerOfPatientID', '')}/{original.get('PatientID', '')}"
        # Different patients stay different, and one stays one.
        name = f"ANON-{new_uid(f'patient {patient}')[-12:]}"
        made.PatientName, made.PatientID = name, name
        empty = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID")
        for keyword in (*empty, "ReferringPhysicianName", "PositionReferenceIndicator"):
            setattr(made, keyword, "")
        made.Manufacturer = "cyclegan"
        made.SoftwareVersions = __version__
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = ["cyclegan: only listed attributes copied", "UIDs, name and ID replaced"]
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
        code.CodeMeaning = "Basic Application Confidentiality Profile"
        made.DeidentificationMethodCodeSequence = [code]

    def _put_derivation(self, made: Any, original: Any) -> None:
        """Mark the image as derived, name its source, and the software as contributing equipment."""
        from pydicom.dataset import Dataset

        before = original.get("ImageType") or []
        before = [before] if isinstance(before, str) else list(before)
        made.ImageType = ["DERIVED", "SECONDARY", *before[2:]]
        made.DerivationDescription = self.description[:1024]
        if uid := original.get("SOPInstanceUID"):
            source = Dataset()
            source.ReferencedSOPClassUID = original.SOPClassUID
            is_kept = self.patient_data == "keep"
            source.ReferencedSOPInstanceUID = uid if is_kept else new_uid(f"{uid}/source")
            made.SourceImageSequence = [source]
        purpose, equipment = Dataset(), Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
        purpose.CodeMeaning = "Processing Equipment"
        equipment.PurposeOfReferenceCodeSequence = [purpose]
        equipment.Manufacturer, equipment.SoftwareVersions = "cyclegan", __version__
        made.ContributingEquipmentSequence = [*(made.get("ContributingEquipmentSequence") or []), equipment]

    def _put_dates(self, made: Any) -> None:
        now = datetime.now(UTC).astimezone()
        for keyword in ("InstanceCreation", "Series", "Content"):
            setattr(made, f"{keyword}Date", now.strftime("%Y%m%d"))
            setattr(made, f"{keyword}Time", now.strftime("%H%M%S"))

    def _put_values(self, made: Any, original: Any, frames: Sequence[Array], valid: Sequence[Mask | None]) -> "Shown":
        shown = Shown()
        height, width, channels = frames[0].shape
        made.Rows, made.Columns, made.SamplesPerPixel = height, width, channels
        if len(frames) > 1 or "NumberOfFrames" in made:
            made.NumberOfFrames = len(frames)
        if channels == 3:
            for keyword in _WINDOW:
                made.pop(keyword, None)
            made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
            stored = np.stack(frames)
        else:
            made.PhotometricInterpretation = "MONOCHROME2"
            storage = Storage.of(self.target, is_deep=original.get("Modality") in _SIXTEEN_BITS)
            stored = np.stack([storage.store(frame[..., 0], mask) for frame, mask in zip(frames, valid, strict=True)])
            self._put_scale(made, original, storage)
            shown = self._shown(made, original, frames, valid)
            if any(mask is not None for mask in valid) and storage.padding is not None:
                made.PixelPaddingValue = storage.padding
        made.BitsAllocated = made.BitsStored = 8 * stored.itemsize
        made.HighBit = made.BitsStored - 1
        made.PixelRepresentation = int(stored.dtype.kind == "i")
        data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        made.add_new("PixelData", "OW" if stored.itemsize == 2 else "OB", data + b"\0" * (len(data) % 2))
        return shown

    def _put_scale(self, made: Any, original: Any, storage: "Storage") -> None:
        has_same_unit = (self.source.low, self.source.high) == (self.target.low, self.target.high)
        if storage.dtype != "uint8" or not storage.scale.is_none:
            made.RescaleSlope, made.RescaleIntercept = storage.slope, storage.intercept
            unit = original.get("RescaleType")
            made.RescaleType = unit if has_same_unit and unit in _UNITS else "US"
        else:
            made.pop("RescaleType", None)

    def _shown(self, made: Any, original: Any, frames: Sequence[Array], valid: Sequence[Mask | None]) -> "Shown":
        low, high = self.target.low, self.target.high
        window = functional_group(made, "FrameVOILUTSequence", 0) or made
        centre, width = (_first(window.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
        inverted = original.get("PhotometricInterpretation") == "MONOCHROME1"
        if centre is None or width is None or inverted or not low <= centre <= high or width < (high - low) / 256:
            return Shown(has_window=False)
        return Shown.count((centre - width / 2, centre + width / 2), self.target, frames, valid)


def _no_counts() -> NDArray[np.int64]:
    return np.zeros((3, _BINS), np.int64)


@dataclass(frozen=True)
class Shown:
    """How many values of images a window shows. Holes and the background of the images do not count.

    counts: values below, inside and above the window, each as a histogram over the range of the target. has_window:
    whether all images have one that suits their range.
    """

    counts: NDArray[np.int64] = field(default_factory=_no_counts)
    has_window: bool = True

    @classmethod
    def count(
        cls, window: tuple[float, float], target: ImageFormat, frames: Sequence[Array], valid: Sequence[Mask | None]
    ) -> "Shown":
        """Of one image, in a window from a value to another."""
        counts = _no_counts()
        for frame, mask in zip(frames, valid, strict=True):
            values = np.asarray(frame[..., 0] if mask is None else frame[..., 0][mask], np.float64).ravel()
            where = (values >= window[0]).astype(int) + (values > window[1])
            bins = ((values - target.low) / (target.high - target.low) * (_BINS - 1)).clip(0, _BINS - 1).astype(int)
            counts += np.bincount(where * _BINS + bins, minlength=3 * _BINS).reshape(3, _BINS)
        return cls(counts)

    def __add__(self, other: "Shown") -> "Shown":
        return Shown(self.counts + other.counts, self.has_window and other.has_window)

    @property
    def is_enough(self) -> bool:
        """Whether at least 1 % of the values lie inside, and no more above. Air may fill most, and lie below.

        Background is the lowest tenth of what the values span, so that its noise does not count; few bright ones may
        lie far out.
        """
        below = self.counts.sum(0).cumsum()
        low, high = int(np.searchsorted(below, 0, "right")), int(np.searchsorted(below, 0.995 * below[-1]))
        _, inside, above = values = self.counts[:, int(low + (high - low) / 10) + 1 :].sum(1)
        return self.has_window and bool(inside >= max(above, values.sum() / 100))


@dataclass(frozen=True)
class Storage:
    """How grey values are stored: their numpy type, scaling, and what marks holes."""

    dtype: str
    slope: Any = 1
    intercept: Any = 0
    padding: int | None = None

    @property
    def scale(self) -> Scale:
        return Scale(float(self.slope), float(self.intercept))

    @classmethod
    def of(cls, target: ImageFormat, *, is_deep: bool) -> "Storage":
        """Whole numbers of up to 16 bits as they are, all others in 65535 steps over their range."""
        if target.dtype == "uint8":
            return cls("uint16", padding=65535) if is_deep else cls("uint8")
        if np.dtype(target.dtype).kind in "ui":
            if target.low > -(2**15) and target.high < 2**15:
                return cls("int16", padding=-(2**15))
            if target.low >= 0 and target.high < 2**16:
                return cls("uint16", padding=65535 if target.high < 65535 else None)
        # What is written as text has 16 characters; values are computed with what is written.
        slope = _number((target.high - target.low) / 65534)
        return cls("uint16", slope, _number(target.low - float(slope)), padding=0)

    def store(self, values: Array, valid: Mask | None) -> Array:
        """(H, W) values -> what is stored."""
        stored = values.astype(np.float64)
        if not self.scale.is_none:
            stored = (stored - self.scale.intercept) / self.scale.slope
        limits = np.iinfo(self.dtype)
        whole = stored.round().clip(limits.min, limits.max).astype(self.dtype)
        if valid is None or self.padding is None:
            return whole
        return np.where(valid, whole, np.array(self.padding, self.dtype))


def _copy_all(original: Any) -> Any:
    """All attributes that are still true of an image with other values, in the byte order that files are written in."""
    import copy

    from pydicom.dataset import Dataset

    made = Dataset()
    for element in original:
        made.add(copy.deepcopy(element))
    if original.original_encoding[1] is False:
        _swap_words(made)
    for dataset in [made, *_groups_of(made)]:
        for keyword in _OF_THE_SOURCE:
            dataset.pop(keyword, None)
    # Overlays in unused bits of the pixels go with them.
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in made and made[group, 0x0102].value not in (0, None):
            for element in list(made.group_dataset(group)):
                del made[element.tag]
    return made


def _swap_words(dataset: Any) -> None:
    """Turn words of 16 bits, which pydicom leaves as they are in the file, from big endian to little endian."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _swap_words(item)
        elif element.VR == "OW" and isinstance(element.value, bytes) and len(element.value) % 2 == 0:
            element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()


def _groups_of(dataset: Any) -> list[Any]:
    """The items of all functional groups of an enhanced image."""
    keywords = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
    return [group for keyword in keywords for group in dataset.get(keyword) or []]


def _first(value: Any) -> float | None:
    """The first of one or several numbers."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, str | int | float) else value[0])


def _number(value: float) -> Any:
    """A number as DICOM writes it as text, in 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(value, auto_format=True)
