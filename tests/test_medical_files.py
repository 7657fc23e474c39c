"""All files inside the wheels of pydicom and nibabel: each is read, or refused by one sentence."""

import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import load_raster, probe_image, read_image
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.filetypes.derived_dicom import DerivedImages
from cyclegan.images.filetypes.dicom import count_frames
from cyclegan.images.filetypes.nifti import SUFFIXES, open_volume
from cyclegan.images.formats import ImageFormat

SKIPPED = (".py", ".pyc", ".pyi")


def files_of(package, pattern):
    spec = find_spec(package)
    root = Path(next(iter(spec.submodule_search_locations))) if spec else Path("missing")
    return sorted(path for path in root.glob(pattern) if path.is_file() and path.suffix not in SKIPPED)


DICOM, VOLUMES = files_of("pydicom", "data/**/*"), files_of("nibabel", "**/data/*")


def images_in(path):
    """The file itself, or the first, the middle and the last of its pages."""
    held, pages = file_format_of(path).pages, []
    with suppress(Exception):  # reading the file reports the error
        pages = held.names(path, None) if held and held.names else []
    return [path / pages[at] for at in sorted({0, len(pages) // 2, len(pages) - 1})] if pages else [path]


def try_to_read(path):
    """The arrays of some images of a file, or the sentence that refuses it."""
    try:
        found = []
        for image in images_in(path):
            header = probe_image(image)
            found.append((header, read_image(image, header.channels or 1)))
        return found
    except (InputError, UnreadableError) as error:
        return str(error)


@pytest.mark.parametrize("path", [*DICOM, *VOLUMES], ids=lambda path: path.name)
def test_a_file_is_read_or_refused_by_one_sentence(path):
    began = time.process_time()
    found = try_to_read(path)
    assert time.process_time() - began < 10
    if isinstance(found, str):
        assert found.strip()
        assert "\n" not in found
        assert len(found) < 400
        assert "Traceback" not in found
        return
    for header, array in found:
        assert array.shape[:2] == (header.height, header.width)
        assert 0 < array.size < 10**7
        assert str(array.dtype) == header.dtype
        assert np.isfinite(array).all()


def test_most_images_of_these_wheels_are_read():
    """So that a reader that refuses everything fails."""
    assert len(DICOM) > 150
    assert len(VOLUMES) > 90
    read = [path.name for path in (*DICOM, *VOLUMES) if not isinstance(try_to_read(path), str)]
    for name in ("JPEG2000.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "rtdose.dcm"):
        assert name in read
    for name in ("examples_palette.dcm", "liver_1frame.dcm", "MR_small_jpeg_ls_lossless.dcm", "examples_ybr_color.dcm"):
        assert name in read
    for name in ("anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii", "test.mgz"):
        assert name in read
    assert len(read) > 110


def test_values_are_those_of_pydicom():
    """Of every grey image that pydicom decodes: with its modality LUT, its rescaling or the scale of a dose."""
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    num_compared = 0
    for path in DICOM:
        if isinstance(try_to_read(path), str):
            continue
        dataset = dcmread(path)
        if dataset.PhotometricInterpretation != "MONOCHROME2" or dataset.BitsAllocated == 1:
            continue
        try:
            stored = dataset.pixel_array
        except RuntimeError:  # no decoder
            continue
        stored = stored.reshape(-1, *stored.shape[-2:])
        for image in images_in(path):
            frame = stored[int(image.name) - 1 if image != path else 0]
            expected = apply_modality_lut(frame, dataset) * float(dataset.get("DoseGridScaling") or 1)
            raster = load_raster(image, 1)
            inside = np.ones(frame.shape, bool) if raster.valid is None else raster.valid
            assert np.allclose(raster.values[..., 0][inside], expected[inside], rtol=1e-6, atol=0), path.name
            num_compared += 1
    assert num_compared > 50


@pytest.mark.parametrize("policy", ["none", "keep"])
def test_derived_images_of_these_wheels_hold_the_new_values_in_the_old_place(tmp_path, policy):
    from pydicom import dcmread

    target, num_written = ImageFormat(channels=1, dtype="int16", low=-1000, high=1000), 0
    derived = DerivedImages(target, target, "Translated", policy)
    for path in DICOM:
        if isinstance(try_to_read(path), str):
            continue
        original = dcmread(path, stop_before_pixels=True)
        with suppress(InputError):  # a dose, or a segmentation
            derived.check(original, path.name)
            shape = count_frames(original), original.Rows, original.Columns, 1
            frames = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
            made_path = tmp_path / f"{num_written}.dcm"
            derived.write(made_path, derived.make(original, list(frames), [None] * len(frames)))
            made = dcmread(made_path)
            stored = made.pixel_array.reshape(shape[:3]) * float(made.RescaleSlope) + float(made.RescaleIntercept)
            assert np.array_equal(stored, frames[..., 0]), path.name
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
                assert made.get(keyword) == original.get(keyword), path.name
            assert list(made.ImageType)[:2] == ["DERIVED", "SECONDARY"]
            tags = {element.tag for element in made.iterall()}
            if policy == "keep":
                assert made.get("PatientName") == original.get("PatientName")
                assert {tag for tag in original.keys() if tag.is_private} <= tags  # noqa: SIM118
            else:
                assert not any(tag.is_private for tag in tags)
                names = str(original.get("PatientName") or ""), str(original.get("StudyInstanceUID") or "")
                assert not any(len(name) > 5 and name.encode() in made_path.read_bytes() for name in names)
            num_written += 1
    assert num_written > 80


def test_values_and_their_places_are_those_of_nibabel():
    """Slices of `get_fdata` along each axis, of the volume turned to right, anterior, superior."""
    import nibabel

    num_compared = 0
    for path in VOLUMES:
        if isinstance(try_to_read(path), str) or not path.name.lower().endswith(SUFFIXES):
            continue
        volume, image = open_volume(path), nibabel.load(path)
        if volume.channels > 1 or image.ndim < 3:
            continue
        data = nibabel.as_closest_canonical(image).get_fdata()
        data = data.reshape(*data.shape[:3], -1)
        for place, axis in enumerate(("sagittal", "coronal", "axial")):
            index, number = volume.num_slices(axis) // 3, volume.num_volumes - 1
            expected = np.take(data[..., number], index, place)[::-1, ::-1].T
            assert np.allclose(volume.read_slice(axis, index, number)[..., 0], expected, rtol=1e-6, equal_nan=True), (
                path.name
            )
            num_compared += 1
    assert num_compared > 20


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rtplan.dcm", "it holds no image (RT Plan Storage)"),
        ("MR_truncated.dcm", "The number of bytes of pixel data is less than expected"),
        ("rtstruct.dcm", "it has no DICM at byte 128, as every DICOM file"),
        ("chrJapMulti.dcm", "it describes an image and holds no pixels"),
        ("DICOMDIR", "it holds no image (Media Storage Directory Storage)"),
        ("row_major.dconn.nii", "it is no volume that nibabel reads"),
    ],
)
def test_the_sentence_says_what_is_wrong(name, sentence):
    path = next(path for path in (*DICOM, *VOLUMES) if path.name == name)
    assert sentence in try_to_read(path)
