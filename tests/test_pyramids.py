"""Pyramids in TIFFs: the copies are the halved image, in both places, for every type, in bounded memory."""

import tracemalloc

import numpy as np
import openslide
import pytest
import rasterio
import tifffile

from cyclegan.images.filetypes.pyramids import DEFLATE, JPEG, halve, num_reduced, write_pyramid


def pixels(height, width, channels=3, dtype=np.uint8):
    """Smooth waves over the whole range of the type, or over [-1, 1]."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = np.stack([np.sin(x / 23 + c) * np.cos(y / 31 - c) for c in range(channels)], -1)
    if np.dtype(dtype).kind == "f":
        return waves.astype(dtype)
    info = np.iinfo(dtype)
    return (info.min + (waves + 1) / 2 * (float(info.max) - info.min) * 0.99).astype(dtype)


def write(path, values, side=64, codec=DEFLATE, **options):
    tiles = codec.encode(values, side)
    write_pyramid(path, tiles, values.shape, values.dtype.name, side, codec=codec, **options)


def levels_of(path):
    with tifffile.TiffFile(path) as file:
        assert len(file.series) == 1
        return [level.asarray() for level in file.series[0].levels]


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (3, "uint8"),
        (1, "uint8"),
        (4, "uint8"),
        (1, "uint16"),
        (5, "float32"),
        (2, "int16"),
        (1, "int64"),
        (1, "uint64"),
    ],
)
def test_every_level_is_the_one_before_halved(tmp_path, channels, dtype):
    values = pixels(333, 517, channels, dtype)
    write(tmp_path / "x.tif", values)
    levels = levels_of(tmp_path / "x.tif")
    assert len(levels) == 1 + num_reduced(333, 517, 64) == 5
    for level in levels:
        assert level.dtype == dtype
        assert np.array_equal(level.reshape(values.shape), values)
        values = halve(values)


def test_openslide_and_gdal_see_the_same_copies(tmp_path):
    values = pixels(333, 517)
    write(tmp_path / "x.tif", values)
    with rasterio.open(tmp_path / "x.tif") as file:
        assert sorted(set(file.overviews(1))) == [2, 4, 8, 16]
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        assert slide.level_dimensions == ((517, 333), (259, 167), (130, 84), (65, 42), (33, 21))
        small = np.asarray(slide.read_region((0, 0), 2, (130, 84)))[..., :3]
    assert np.array_equal(small, halve(halve(values)))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_near_and_small(tmp_path, channels):
    values = pixels(333, 517, channels)
    write(tmp_path / "x.tif", values, codec=JPEG)
    write(tmp_path / "exact.tif", values)
    levels = levels_of(tmp_path / "x.tif")
    assert np.abs(levels[0].reshape(values.shape).astype(int) - values).max() <= 6
    assert np.abs(levels[2].reshape(84, 130, channels).astype(int) - halve(halve(values))).mean() < 2
    assert (tmp_path / "x.tif").stat().st_size < (tmp_path / "exact.tif").stat().st_size


@pytest.mark.parametrize(("nodata", "dtype"), [(-9999.0, "float32"), (float("nan"), "float64"), (0.0, "uint8")])
def test_holes_stay_holes_and_do_not_bleed(nodata, dtype):
    values = np.full((5, 6, 1), 40, dtype)
    values[:2, :2] = values[2, 2] = values[4:, 5] = np.asarray(nodata).astype(dtype)
    small = halve(values, nodata)[..., 0]
    is_hole = np.isnan(small) if np.isnan(nodata) else small == nodata
    assert np.argwhere(is_hole).tolist() == [[0, 0]]
    assert (small[~is_hole] == 40).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int32", "uint64", "int64", "float16"])
def test_means_do_not_overflow(dtype):
    top = 60000.0 if dtype == "float16" else np.iinfo(dtype).max
    values = np.full((3, 3, 2), top, dtype)
    assert np.array_equal(halve(values), values[:2, :2])
    assert np.array_equal(halve(values, 7), values[:2, :2])


def test_memory_is_that_of_rows_of_tiles(tmp_path):
    row = pixels(64, 4096)
    tiles = (tile for _ in range(64) for tile in DEFLATE.encode(row, 64))
    tracemalloc.start()
    write_pyramid(tmp_path / "x.tif", tiles, (4096, 4096, 3), "uint8", 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * row.nbytes < 4096 * 4096 * 3 / 3
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]


def test_a_failure_leaves_nothing(tmp_path):
    def tiles():
        yield from DEFLATE.encode(pixels(64, 300), 64)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write_pyramid(tmp_path / "new" / "x.tif", tiles(), (200, 300, 3), "uint8", 64)
    assert list(tmp_path.iterdir()) == []
