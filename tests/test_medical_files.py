"""All files inside the wheels of pydicom and nibabel: each is read, or refused by one sentence."""

import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import probe_image, read_image
from cyclegan.images.file_formats import file_format_of

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
