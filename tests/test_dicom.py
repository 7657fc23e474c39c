"""DICOM files: their values, the order of a series, and what a derived image says and does not say."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import probe_image, read_raster
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.file_list import list_images
from cyclegan.images.filetypes import dicom
from cyclegan.images.filetypes.derived_dicom import KEPT, DerivedImages
from cyclegan.images.filetypes.dicom_series import find_series
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Raster

pydicom = pytest.importorskip("pydicom")

SECRET = "Doe"
CT = "1.2.840.10008.5.1.4.1.1.2"


def make_image(stored, **attributes):
    """A CT image of these stored values."""
    from pydicom.dataset import Dataset, FileMetaDataset

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    image.SOPClassUID, image.Modality = CT, "CT"
    image.file_meta.MediaStorageSOPClassUID = CT
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    image.PatientName, image.PatientID, image.StudyDate = f"{SECRET}^Jane", "4711", "20200131"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness, image.InstanceNumber = [0.5, 0.5], 2, 1
    image.WindowCenter, image.WindowWidth = 40, 400
    image.PhotometricInterpretation, image.SamplesPerPixel = "MONOCHROME2", 1
    image.Rows, image.Columns = stored.shape[-2:] if stored.shape[-1] != 3 else stored.shape[-3:-1]
    image.BitsAllocated = image.BitsStored = 8 * stored.itemsize
    image.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(image, name, value)
    image.HighBit = image.BitsStored - 1
    image.add_new("PixelData", "OW" if stored.itemsize == 2 else "OB", stored.tobytes())
    return image


def save(path, image):
    image.save_as(path, enforce_file_format=True)
    return path


def values_of(path):
    decoded = dicom.read(path)
    return np.asarray(decoded.values[..., 0] if isinstance(decoded, Raster) else decoded)


STORED = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.mark.parametrize(
    ("stored", "attributes", "expected", "dtype"),
    [
        (STORED, {"BitsStored": 12}, STORED, "uint16"),
        (STORED.astype(np.int16) - 5, {}, STORED.astype(int) - 5, "int16"),
        (STORED, {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024}, STORED.astype(int) - 1024, "int16"),
        (STORED, {"RescaleSlope": 1, "RescaleIntercept": -1024}, STORED.astype(int) - 1024, "int16"),
        (STORED + 40000, {"RescaleSlope": 1, "RescaleIntercept": -1024}, STORED + np.int32(38976), "int32"),
        (STORED, {"RescaleSlope": "0.25", "RescaleIntercept": "0.5"}, STORED * 0.25 + 0.5, "float32"),
        (STORED, {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}, 4095 - STORED, "uint16"),
        (STORED.astype(np.uint8), {}, STORED, "uint8"),
    ],
)
def test_values_are_those_that_the_modality_means(tmp_path, stored, attributes, expected, dtype):
    path = save(tmp_path / "x.dcm", make_image(stored, **attributes))
    values, header = values_of(path), dicom.probe(path)
    assert values.dtype == dtype
    assert np.array_equal(values, np.asarray(expected).astype(dtype))
    assert header is None or (header.height, header.width, header.dtype) == (*values.shape, dtype)


def test_padding_marks_holes(tmp_path):
    stored = STORED.astype(np.int16)
    stored[0, :2] = -2000
    path = save(tmp_path / "x.dcm", make_image(stored, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024))
    raster = dicom.read(path)
    assert np.array_equal(raster.valid, stored != -2000)
    assert raster.metadata.nodata == -3024
    assert raster.values[1, 0, 0] == stored[1, 0] - 1024


def test_colours_become_rgb():
    root = Path(pydicom.__file__).parent / "data/test_files"
    for name in ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_gdcm_KY.dcm"):
        picture = np.asarray(dicom.read(root / name)).astype(int)
        assert np.abs(picture[5, 50] - (255, 0, 0)).max() <= 3, name  # the first bar is red
        assert np.abs(picture[25, 50] - (0, 255, 0)).max() <= 3, name
    assert np.asarray(dicom.read(root / "examples_palette.dcm")).shape == (350, 800, 3)


def test_lossless_compressions_give_the_same_values():
    root = Path(pydicom.__file__).parent / "data/test_files"
    plain = values_of(root / "MR_small.dcm")
    for name in ("RLE", "bigendian", "jp2klossless", "jpeg_ls_lossless", "implicit"):
        assert np.array_equal(values_of(root / f"MR_small_{name}.dcm"), plain), name


def test_frames_are_pages(tmp_path):
    frames = np.stack([STORED, STORED + 100])
    path = save(tmp_path / "x.dcm", make_image(frames, NumberOfFrames=2, BitsStored=12))
    assert [page.name for page in list_images(tmp_path)] == ["1", "2"]
    assert np.array_equal(dicom.read_frame(path, "2"), STORED + 100)
    with pytest.raises(InputError, match=r"holds 2 frames; name one of them, such as .*x.dcm/1\."):
        dicom.read(path)
    with pytest.raises(InputError, match="has 2 frames, and frame 3 is asked for"):
        dicom.read_frame(path, "3")


def test_each_frame_of_an_enhanced_image_has_its_own_scale(tmp_path):
    from pydicom.dataset import Dataset

    groups = []
    for intercept in (-1024, -1000):
        scale, group = Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept = 1, intercept
        group.PixelValueTransformationSequence = [scale]
        groups.append(group)
    image = make_image(np.stack([STORED, STORED]), NumberOfFrames=2, BitsStored=12)
    image.PerFrameFunctionalGroupsSequence = groups
    path = save(tmp_path / "x.dcm", image)
    assert dicom.read_frame(path, "1")[0, 0] == -1024
    assert dicom.read_frame(path, "2")[0, 0] == -1000


def test_files_without_a_suffix_are_found_by_their_content(tmp_path):
    save(tmp_path / "IM00001", make_image(STORED))
    save(tmp_path / "1.2.840.113619.2", make_image(STORED))
    (tmp_path / "README").write_text("no image")
    (tmp_path / "notes.7").write_text("no image")
    save(tmp_path / "DICOMDIR", make_image(STORED))
    found = list_images(tmp_path)
    assert [path.name for path in found] == ["1.2.840.113619.2", "IM00001"]
    assert found.left_out == {"without suffix": 1, ".7": 1}
    assert file_format_of(tmp_path / "IM00001") is FILE_FORMATS["dicom"]


def test_a_file_that_is_no_image_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"no DICOM")
    with pytest.raises(UnreadableError, match="it has no DICM at byte 128"):
        dicom.read(tmp_path / "x.dcm")
    report = make_image(STORED)
    del report.Rows
    with pytest.raises(UnreadableError, match=r"it holds no image \(CT Image Storage\)"):
        dicom.read(save(tmp_path / "y.dcm", report))


def test_a_series_is_sorted_by_place_and_by_number_where_places_are_shared(tmp_path):
    for number, height in ((1, 30), (2, 10), (3, 20)):
        image = make_image(STORED, InstanceNumber=number, ImagePositionPatient=[0, 0, height])
        save(tmp_path / f"{number}", image)
        save(tmp_path / f"b{4 - number}", make_image(STORED, InstanceNumber=number, SeriesInstanceUID="1.9"))
    (tmp_path / "README").write_text("no image")
    series, left_out = find_series(sorted(tmp_path.iterdir()))
    names = {each.uid: [path.name for path in each.files] for each in series}
    assert names == {"1.2.3.4": ["2", "3", "1"], "1.9": ["b3", "b2", "b1"]}
    assert [path.name for path, _ in left_out] == ["README"]


HOUNSFIELD = ImageFormat(channels=1, dtype="int16", low=-1000, high=1000)
PROBABILITY = ImageFormat(channels=1, dtype="float32", low=0, high=1)


def derive(original, values, *, target=HOUNSFIELD, **options):
    derived = DerivedImages(HOUNSFIELD, target, "Translated a2b", **options)
    return derived.make(original, [values[..., None]], [None])


def written(tmp_path, made, target=HOUNSFIELD):
    DerivedImages(HOUNSFIELD, target, "").write(tmp_path / "made.dcm", made)
    return pydicom.dcmread(tmp_path / "made.dcm")


@pytest.mark.parametrize("policy", ["none", "keep"])
def test_a_derived_image_lies_where_its_source_does_and_says_that_it_is_derived(tmp_path, policy):
    original = make_image(STORED, RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU", SpacingBetweenSlices=2)
    original.ImagePositionPatient = [1.5, -2.5, 30]
    values = np.array([[-1000, 0, 1000, 7]] * 3, np.int16)
    made = written(tmp_path, derive(original, values, patient_data=policy))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        assert made[keyword].value == original[keyword].value
    assert (made.SpacingBetweenSlices, made.Modality, made.SOPClassUID) == (2, "CT", CT)
    assert list(made.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert made.DerivationDescription == "Translated a2b"
    assert made.SourceImageSequence[0].ReferencedSOPClassUID == CT
    assert made.SOPInstanceUID != original.SOPInstanceUID
    assert made.SeriesInstanceUID != original.SeriesInstanceUID
    assert (made.WindowCenter, made.WindowWidth, made.RescaleType) == (40, 400, "HU")
    assert np.array_equal(values_of(tmp_path / "made.dcm"), values)
    if policy == "keep":
        assert (made.PatientName, made.PatientID, made.StudyInstanceUID) == ("Doe^Jane", "4711", "1.2.3")
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert made.FrameOfReferenceUID == original.FrameOfReferenceUID
        assert made.SeriesDate == date.today().strftime("%Y%m%d")
        assert "PatientIdentityRemoved" not in made
    else:
        assert made.PatientIdentityRemoved == "YES"
        assert made.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert made.StudyInstanceUID != original.StudyInstanceUID


def every_attribute():
    """An image whose every attribute that may name somebody does, also in sequences and private ones."""
    from pydicom.datadict import DicomDictionary
    from pydicom.dataset import Dataset

    text = {"PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR"}
    others = {
        "AS": "042Y",
        "DA": "19770123",
        "DT": "19770123123456",
        "TM": "123456.77",
        "UI": "1.2.777.4711",
        "AE": SECRET,
    }
    image = make_image(STORED)
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if (
            not keyword
            or tag >> 16 in (0, 2, 4, 0x28)
            or retired
            or keyword in image
            or keyword == "SpecificCharacterSet"
        ):
            continue
        value = SECRET if vr in text else others.get(vr)
        if value is not None:
            image.add_new(tag, vr, value)
    nested = Dataset()
    nested.PatientName, nested.OperatorsName, nested.SOPInstanceUID = SECRET, SECRET, "1.2.777.4711"
    for keyword in ("RequestAttributesSequence", "ReferencedStudySequence", "SharedFunctionalGroupsSequence"):
        setattr(image, keyword, [nested])
    image.add_new(0x00091001, "LO", SECRET)
    image.add_new(0x60000022, "LO", SECRET)
    return image


def test_by_default_nothing_of_the_patient_is_left(tmp_path):
    original = every_attribute()
    save(tmp_path / "original.dcm", original)
    assert (tmp_path / "original.dcm").read_bytes().count(SECRET.encode()) > 500
    values = np.zeros((3, 4), np.int16)
    written(tmp_path, derive(original, values))
    content = (tmp_path / "made.dcm").read_bytes()
    # Short numbers would be found in random UIDs now and then.
    for secret in (SECRET, "1.2.777.4711", "19770123", "123456.77", "042Y", "20200131", original.SOPInstanceUID):
        assert secret.encode() not in content
    assert pydicom.dcmread(tmp_path / "made.dcm").PatientID != original.PatientID
    assert {element.keyword for element in pydicom.dcmread(tmp_path / "made.dcm")} > {"PatientName", "PatientID"}


def test_what_is_copied_by_default_is_geometry_technique_and_display():
    """No attribute among those that are copied holds a name, a date, an identifier or free text on a person."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    kinds = {keyword: dictionary_VR(tag_for_keyword(keyword)) for keyword in KEPT}
    texts = ("PN", "DA", "DT", "TM", "AS", "AE", "LO", "SH", "LT", "ST", "UC", "UT", "UN")
    assert not {keyword for keyword, vr in kinds.items() if vr in texts}
    # UIDs among them are replaced.
    replaced = {keyword for keyword, vr in kinds.items() if vr == "UI"}
    assert replaced == {"SOPClassUID", "FrameOfReferenceUID", "DimensionOrganizationUID"}


def test_images_of_one_patient_study_and_series_stay_together():
    derived = DerivedImages(HOUNSFIELD, HOUNSFIELD, "")
    values = np.zeros((3, 4, 1), np.int16)
    other = {"PatientID": "12", "StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.3.1"}
    a, b, c = (derived.make(make_image(STORED, **extra), [values], [None]) for extra in ({}, {}, other))
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert a[keyword].value == b[keyword].value
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert a[keyword].value != c[keyword].value
    assert a.SOPInstanceUID != b.SOPInstanceUID


def test_real_numbers_are_stored_in_steps_and_the_window_shows_them(tmp_path):
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    original = make_image(STORED, RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    made = written(tmp_path, derive(original, values, target=PROBABILITY), PROBABILITY)
    assert np.abs(values_of(tmp_path / "made.dcm") - values).max() < 1e-5
    assert (made.WindowCenter, made.WindowWidth, made.RescaleType) == (0.5, 1, "US")


@pytest.mark.parametrize(
    ("values", "window"),
    [
        ([609, 800, 1000, 1174], None),  # all above
        ([-1000, -1000, -990, -980], None),  # all below
        ([0, 60, 1000, 1000], None),  # background inside, tissue above
        ([-1000, -990, 50, -985], (30, 100)),  # air below
    ],
)
def test_a_window_that_does_not_show_the_new_values_gives_way_to_their_range(tmp_path, values, window):
    original = make_image(STORED, WindowCenter=30, WindowWidth=100)
    made = written(tmp_path, derive(original, np.array([values] * 3, np.int16)))
    whole = ((HOUNSFIELD.low + HOUNSFIELD.high) / 2, HOUNSFIELD.high - HOUNSFIELD.low)
    assert (made.WindowCenter, made.WindowWidth) == (window or whole)


@pytest.mark.parametrize("noise", [0, 8, 25])
def test_noise_of_the_background_does_not_keep_a_window_that_shows_all_tissue_white(noise):
    rng, target = np.random.default_rng(0), ImageFormat(channels=1, dtype="int16", low=0, high=1000)
    values = np.abs(rng.normal(0, noise, (64, 64)))
    values[:32, :32] = rng.normal(600, 100, (32, 32))  # a quarter is tissue
    values[40, 40] = 1000  # one bright value
    original = make_image(STORED, WindowCenter=100, WindowWidth=200, Rows=64, Columns=64)
    made = derive(original, values.clip(0, 1000).astype(np.int16), target=target)
    assert (made.WindowCenter, made.WindowWidth) == (500, 1000)
    values[:32, :32] /= 5  # now it shows the tissue
    made = derive(original, values.clip(0, 1000).astype(np.int16), target=target)
    assert (made.WindowCenter, made.WindowWidth) == (100, 200)


def test_holes_are_padding_again(tmp_path):
    valid = np.ones((3, 4), bool)
    valid[0, 0] = False
    values = np.full((3, 4, 1), 5, np.int16)
    made = DerivedImages(HOUNSFIELD, HOUNSFIELD, "").make(make_image(STORED), [values], [valid])
    written(tmp_path, made)
    raster = dicom.read(tmp_path / "made.dcm")
    assert np.array_equal(raster.valid, valid)
    assert (raster.values[..., 0][valid] == 5).all()


def test_what_is_kept_leaves_out_what_is_no_longer_true():
    from pydicom.dataset import Dataset

    original = make_image(STORED, SmallestImagePixelValue=0, LargestImagePixelValue=11)
    original.IconImageSequence = [Dataset()]
    original.VOILUTSequence = [Dataset()]
    original.OperatorsName = "Roe"
    made = derive(original, np.zeros((3, 4), np.int16), patient_data="keep")
    assert made.OperatorsName == "Roe"
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence", "VOILUTSequence"):
        assert keyword not in made
    assert "IconImageSequence" in original


def test_only_images_are_derived():
    dose = make_image(STORED, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2", Modality="RTDOSE")
    with pytest.raises(InputError, match="x.dcm is of the kind RT Dose Storage"):
        DerivedImages(HOUNSFIELD, HOUNSFIELD, "").check(dose, "x.dcm")
    with pytest.raises(InputError, match="holds no colours of uint8"):
        DerivedImages(HOUNSFIELD, ImageFormat(), "").check(make_image(STORED), "x.dcm")


def test_a_derived_image_is_read_by_another_library(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    values = np.array([[-1000, 0, 1000, 7]] * 3, np.int16)
    written(tmp_path, derive(make_image(STORED), values))
    read = imageio.imread(tmp_path / "made.dcm", format="DICOM")
    assert np.array_equal(np.asarray(read), values)
    assert read.meta["PixelSpacing"] == (0.5, 0.5)


def test_colour_stays_colour(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    secondary = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}
    original = make_image(
        colours, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, **secondary
    )
    derived = DerivedImages(ImageFormat(), ImageFormat(), "")
    derived.check(original, "x.dcm")
    derived.write(tmp_path / "made.dcm", derived.make(original, [255 - colours], [None]))
    picture = dicom.read(tmp_path / "made.dcm")
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), 255 - colours)


def with_table(image, values, *, first=0, bits=16):
    """Give an image a modality LUT of these values."""
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [len(values), first, bits], "US"
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "US", list(values))
    image.ModalityLUTSequence = [table]
    return image


@pytest.mark.parametrize(("bits", "dtype"), [(16, "uint16"), (12, "uint16"), (8, "uint8")])
def test_padding_is_found_before_the_modality_lut(tmp_path, bits, dtype):
    """The table maps padding to a value that other pixels have, too; they are no holes."""
    stored = np.array([[63536, 0, 1, 2], [3, 3, 2, 63537]], np.uint16)
    image = with_table(make_image(stored, PixelPaddingValue=63536, PixelPaddingRangeLimit=63537), (10, 20, 30, 40))
    image.ModalityLUTSequence[0].LUTDescriptor[2] = bits
    path = save(tmp_path / "x.dcm", image)
    raster = dicom.read(path)
    assert np.array_equal(raster.valid, stored < 60000)
    assert raster.values.dtype == dicom.probe(path).dtype == dtype
    assert np.array_equal(raster.values[..., 0][raster.valid], [10, 20, 30, 40, 40, 30])
    assert raster.metadata.nodata is None  # 40 is a value of the image
    read = read_raster(path, ImageFormat(channels=1, dtype=dtype, low=0, high=100))
    assert np.array_equal(read.valid, stored < 60000)


def test_a_modality_lut_of_an_inverted_image_is_applied_first(tmp_path):
    image = with_table(make_image(STORED, PhotometricInterpretation="MONOCHROME1"), range(0, 1200, 100), bits=12)
    assert np.array_equal(values_of(save(tmp_path / "x.dcm", image)), 4095 - 100 * STORED)


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "float32"), ("DoubleFloatPixelData", "float64")])
def test_padding_of_real_numbers_marks_holes(tmp_path, keyword, dtype):
    stored = STORED.astype(dtype)
    image = make_image(stored)
    del image.PixelData
    setattr(image, keyword, stored.tobytes())
    setattr(image, keyword.replace("Data", "PaddingValue"), 5.0)
    raster = dicom.read(save(tmp_path / "x.dcm", image))
    assert np.array_equal(raster.valid, stored != 5)
    assert np.array_equal(raster.values[..., 0], stored)


def test_an_image_of_padding_alone_is_a_hole(tmp_path):
    image = make_image(np.full((3, 4), -2000, np.int16), PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=0)
    assert not dicom.read(save(tmp_path / "x.dcm", image)).valid.any()


def test_padding_does_not_decide_on_the_type_of_values(tmp_path):
    stored = STORED.astype(np.int16)
    stored[0, 0] = -(2**15)
    scale = {"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelPaddingValue": -(2**15)}
    raster = dicom.read(save(tmp_path / "x.dcm", make_image(stored, **scale)))
    assert raster.values.dtype == np.int16
    assert not raster.valid[0, 0]
    assert raster.values[0, 1, 0] == 1 - 1024


def forged(tmp_path, **attributes):
    return save(tmp_path / "forged.dcm", make_image(STORED, **attributes))


def test_a_header_that_claims_more_pixels_than_allowed_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "_decode", lambda *_: pytest.fail("decoded"))
    path = forged(tmp_path, Rows=60000, Columns=60000)
    image_format = ImageFormat(channels=1, dtype="uint16", high=100)
    for read in (probe_image, lambda path: read_raster(path, image_format), dicom.read):
        with pytest.raises(
            UnreadableError, match=r"60,000x60,000 pixels, more than the limit .* --max-pixels 36000000"
        ):
            read(path)


@pytest.mark.parametrize("count", [2_000_000_000, 500_000])
def test_a_header_that_claims_more_frames_than_bytes_is_refused_before_they_are_listed(tmp_path, count):
    path = forged(tmp_path, NumberOfFrames=count)
    for look in (dicom.list_frames, probe_image, dicom.read):
        with pytest.raises(UnreadableError, match=f"its header claims {count:,} frames"):
            look(path)
    assert len(list_images(tmp_path)) == 1


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"])
def test_a_codestream_of_another_size_is_refused_before_a_decoder_believes_it(tmp_path, syntax):
    """Such as one of 60,000 x 60,000 pixels in a small image."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    encode = {"50": imagecodecs.jpeg8_encode, "70": imagecodecs.ljpeg_encode, "90": imagecodecs.jpeg2k_encode}
    packed = bytearray(encode[syntax[-2:]](STORED.astype(np.uint8)))
    if syntax.endswith("90"):
        begin = packed.index(b"\xff\x4f\xff\x51")
        packed[begin + 8 : begin + 16] = (60000).to_bytes(4, "big") * 2
    else:
        begin = next(packed.find(bytes((0xFF, kind))) for kind in (0xC0, 0xC3) if bytes((0xFF, kind)) in packed)
        packed[begin + 5 : begin + 9] = (60000).to_bytes(2, "big") * 2
    image = make_image(STORED.astype(np.uint8))
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([bytes(packed)])
    image["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableError, match="its pixels have another size than it says, 60000x60000"):
        dicom.read(save(tmp_path / "x.dcm", image))


def test_a_deflated_file_that_becomes_far_too_large_is_refused_before_it_is_unpacked(tmp_path):
    import zlib

    image = make_image(STORED)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = save(tmp_path / "x.dcm", image)
    assert np.array_equal(values_of(path), STORED)
    content = path.read_bytes()
    begin = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(20)) + packer.flush()
    path.write_bytes(content[:begin] + bomb)
    with pytest.raises(UnreadableError, match="deflated bytes become more than those of an image can"):
        dicom.read(path)


@pytest.mark.parametrize("policy", ["none", "keep"])
def test_words_of_a_big_endian_file_are_turned(tmp_path, policy):
    """Such as those of an overlay, which `keep` copies."""
    image = make_image(STORED)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    image.PixelData = STORED.astype(">u2").tobytes()
    for offset, vr, value in ((0x10, "US", 3), (0x11, "US", 4), (0x100, "US", 1), (0x102, "US", 0)):
        image.add_new(0x60000000 + offset, vr, value)
    image.add_new(0x60003000, "OW", b"\x12\x34")
    path = save(tmp_path / "x.dcm", image)
    assert np.array_equal(values_of(path), STORED)
    original = pydicom.dcmread(path, stop_before_pixels=True)
    values = np.arange(12, dtype=np.int16).reshape(3, 4)
    made = written(tmp_path, derive(original, values, patient_data=policy))
    assert np.array_equal(made.pixel_array, values)
    overlay = made.get((0x6000, 0x3000))
    assert overlay is None if policy == "none" else overlay.value == b"\x34\x12"
