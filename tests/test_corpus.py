"""A few hundred files, good and broken, through the reader and through every command.

No traceback, no value that is silently wrong, no file that is silently left out, and no file that ends the work on the
others. `corpus.py` makes the files and says what is in them.
"""

import os
import time

import numpy as np
import pytest

from corpus import corpus
from cyclegan.errors import CycleganError
from cyclegan.images.codecs import probe_image, read_as, read_raster
from cyclegan.images.file_formats import file_format_of, image_suffixes
from cyclegan.images.formats import ImageFormat, gives_channels
from cyclegan.images.headers import image_size, read_header
from cyclegan.images.regions import Box

GOOD = [entry for entry in corpus() if entry.is_good]
BAD = [entry for entry in corpus() if entry.kind in ("broken", "odd", "pages")]


def format_of(entry, channels=None):
    """What a model takes that was trained on such files."""
    return ImageFormat(channels=channels or entry.values.shape[2], dtype=entry.values.dtype.name, low=0, high=1)


def written(entry, folder):
    if entry.suffix not in image_suffixes() and entry.suffix not in (".dib", ".sgi", ".dds", ".qoi", ".pcx", ".j2k"):
        pytest.skip(f"{entry.suffix} is not in the table of formats")
    return entry.write(folder)


def assert_close(found, expected, tolerance, where=None):
    """Equal shape, type, and values up to the tolerance, in the pixels that count."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    if where is not None:
        difference = difference[where]
    assert difference.max(initial=0) <= tolerance


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_a_good_file_is_read_as_it_was_made(entry, tmp_path):
    path = written(entry, tmp_path)
    raster = read_raster(path, format_of(entry))
    assert_close(raster.values, entry.values, entry.tolerance, entry.valid)
    if entry.alpha is None:
        assert raster.alpha is None
    else:
        assert_close(raster.alpha, entry.alpha, entry.tolerance if entry.values.dtype == np.uint8 else 0)
    if entry.valid is None:
        assert raster.valid is None
    else:
        assert np.array_equal(raster.valid, entry.valid)
    assert np.isfinite(raster.values.astype(np.float64)).all()
    assert np.array_equal(read_as(path, format_of(entry)), raster.values)
    about = raster.metadata
    if entry.profile is not None:
        assert about.profile == entry.profile
    if entry.resolution is not None:
        assert about.resolution == pytest.approx(entry.resolution, rel=0.01)
    if entry.description is not None:
        assert about.description == entry.description
    if entry.nodata is not None:
        assert about.nodata == pytest.approx(entry.nodata, nan_ok=True)
    if entry.transform is not None:
        assert {tag[0] for tag in about.tags} >= {34735}


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_a_header_says_what_the_file_holds(entry, tmp_path):
    path = written(entry, tmp_path)
    header = probe_image(path)
    assert (header.height, header.width, header.dtype) == (*entry.values.shape[:2], entry.values.dtype.name)
    assert gives_channels(header.channels, header.has_alpha, entry.values.shape[2])
    assert read_header(os.fspath(path)) == header
    assert sorted(image_size(path)) == sorted(entry.values.shape[:2])


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_regions_of_a_file_are_those_of_the_whole(entry, tmp_path):
    path = written(entry, tmp_path)
    source = file_format_of(path).open_regions(path, format_of(entry))
    if source is None:
        pytest.skip("is read as a whole")
    whole = read_raster(path, format_of(entry))
    height, width = entry.values.shape[:2]
    try:
        for box in (Box(0, 0, height, width), Box(3, 5, height // 2, width // 2), Box(height // 2, 9, height, width)):
            part = source.read(box)
            inner = np.s_[box.top : box.bottom, box.left : box.right]
            assert np.array_equal(part, whole.values[inner])
    finally:
        source.close()


@pytest.mark.parametrize(
    "entry", [entry for entry in GOOD if entry.values.dtype == np.uint8], ids=lambda entry: entry.label
)
def test_a_picture_becomes_grey_or_coloured(entry, tmp_path):
    path, channels = written(entry, tmp_path), entry.values.shape[2]
    if channels not in (1, 3) or probe_image(path).channels is not None:
        pytest.skip("is no picture, but bands")
    raster = read_raster(path, format_of(entry, 4 - channels))
    expected = entry.values.astype(np.float64)
    expected = expected.repeat(3, -1) if channels == 1 else (expected @ [0.299, 0.587, 0.114])[..., None]
    assert_close(raster.values, np.rint(expected).astype(np.uint8), entry.tolerance + 1, entry.valid)
    assert (raster.alpha is None) == (entry.alpha is None)


@pytest.mark.parametrize("entry", BAD, ids=lambda entry: entry.label)
def test_a_bad_file_is_refused_in_one_sentence(entry, tmp_path):
    path = written(entry, tmp_path)
    started = time.process_time()
    for channels, dtype in ((3, "uint8"), (1, "uint16"), (1, "float32")):
        image_format = ImageFormat(channels=channels, dtype=dtype, low=0, high=1)
        for use in (
            lambda: read_raster(path, image_format),  # noqa: B023
            lambda: probe_image(path),
            lambda: read_header(os.fspath(path)),
            lambda: read_regions(path, image_format),  # noqa: B023
        ):
            try:
                found = use()
            except CycleganError as error:
                message = str(error)
                assert message.strip()
                assert "\n" not in message
                assert len(message) < 500 + 3 * len(str(path)), message
            else:
                assert entry.kind != "broken" or not hasattr(found, "values"), "a broken file was read"
    assert time.process_time() - started < 5


def read_regions(path, image_format):
    source = file_format_of(path).open_regions(path, image_format)
    if source is not None:
        try:
            source.read(Box(0, 0, min(source.height, 500), min(source.width, 500)))
        finally:
            source.close()
