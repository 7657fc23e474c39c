"""What a result is given of its input: transparency and holes, in every type and number of channels of its domain."""

import math

import numpy as np
import pytest

from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.formats import ImageFormat
from cyclegan.images.output import make_output
from cyclegan.images.raster import Metadata, Raster

HOLES = np.zeros((6, 8), bool)
HOLES[1:3, 2:5] = True
HEIGHTS = Raster(np.full((6, 8, 1), 5.0, np.float32), None, ~HOLES, Metadata(nodata=-9999.0))

UINT8, RGBA = ImageFormat(), ImageFormat(channels=4)
BANDS = ImageFormat(channels=4, alpha=False)
METRES = ImageFormat(channels=1, dtype="uint16", low=10800, high=14000)
FLOATS = ImageFormat(channels=1, dtype="float32", low=0, high=855)


def result(target, seed=0):
    limits = (target.low, target.high)
    return np.random.default_rng(seed).uniform(*limits, (6, 8, target.channels)).astype(target.dtype)


@pytest.mark.parametrize(
    ("target", "nodata"),
    [(FLOATS, -9999.0), (METRES, 0.0), (BANDS, 0.0)],
    ids=["the value of the input", "a value outside the range", "zero, which no other pixel has any more"],
)
def test_holes_of_a_tiff_have_a_value_that_no_other_pixel_has(target, nodata):
    values = result(target)
    values[0, 0] = nodata  # a pixel that happens to have it
    output, lost = make_output(values, HEIGHTS, target, FILE_FORMATS["tiff"].keeps)
    assert lost == ()
    assert output.alpha is None
    assert output.metadata.nodata == nodata
    marked = (output.values == nodata).all(-1)
    assert np.array_equal(marked, HOLES)
    kept = ~HOLES
    kept[0, 0] = False
    assert np.array_equal(output.values[kept], values[kept])


@pytest.mark.parametrize("name", ["tiff", "png", "webp"])
def test_holes_of_a_picture_without_a_free_value_are_transparent(name):
    values = result(UINT8)
    output, lost = make_output(values, HEIGHTS, UINT8, FILE_FORMATS[name].keeps)
    assert lost == ()
    assert np.array_equal(output.values, values)
    assert np.array_equal(output.alpha, np.where(HOLES, 0, 255))
    assert output.metadata.nodata is None


def test_holes_of_floats_are_nan_where_a_format_has_no_tag():
    for metadata in (Metadata(), Metadata(nodata=-9999.0)):
        given = Raster(HEIGHTS.values, None, HEIGHTS.valid, metadata)
        output, lost = make_output(result(FLOATS), given, FLOATS, FILE_FORMATS["npy"].keeps)
        assert lost == ()
        assert np.array_equal(np.isnan(output.values[..., 0]), HOLES)
        assert math.isnan(output.metadata.nodata)


def test_holes_that_a_format_cannot_mark_are_named():
    assert make_output(result(UINT8), HEIGHTS, UINT8, FILE_FORMATS["jpeg"].keeps)[1] == ("nodata",)


def test_a_fourth_channel_is_transparency_only_if_the_files_of_the_domain_say_so():
    given = Raster(np.zeros((6, 8, 3), np.uint8))
    values = result(RGBA)
    output, _ = make_output(values, given, RGBA, FILE_FORMATS["png"].keeps)
    assert np.array_equal(output.values, values[..., :3])
    assert np.array_equal(output.alpha, values[..., 3])
    output, _ = make_output(values, given, BANDS, FILE_FORMATS["tiff"].keeps)
    assert np.array_equal(output.values, values)
    assert output.metadata.extra_samples == (0,)


def test_transparency_changes_its_type_with_the_domain():
    alpha = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    given = Raster(np.zeros((6, 8, 3), np.uint8), alpha, alpha > 0)
    for target, full in ((METRES, 65535), (FLOATS, 1.0)):
        output, lost = make_output(result(target), given, target, FILE_FORMATS["tiff"].keeps)
        assert lost == ()
        assert output.alpha.dtype == target.dtype
        assert np.allclose(output.alpha / full, alpha / 255, atol=1e-4)
    output, lost = make_output(result(UINT8), given, UINT8, FILE_FORMATS["jpeg"].keeps, background="#ff0000")
    assert lost == ("alpha",)
    assert output.alpha is None
    assert np.array_equal(output.values[0, 0], [255, 0, 0])


def test_transparent_pixels_are_holes_where_a_tiff_has_no_transparency():
    alpha = np.full((4, 5), 255, np.uint8)
    alpha[1, 2:4] = 0
    given = Raster(np.zeros((4, 5, 3), np.uint8), alpha, alpha > 0)
    target = ImageFormat(channels=5, dtype="uint16", high=1000)
    output, lost = make_output(np.full((4, 5, 5), 300, np.uint16), given, target, FILE_FORMATS["tiff"].keeps)
    assert (output.alpha, lost) == (None, ("alpha",))
    assert output.metadata.nodata == 65535
    assert np.array_equal((output.values == 65535).all(-1), alpha == 0)
    assert (output.values[alpha > 0] == 300).all()
