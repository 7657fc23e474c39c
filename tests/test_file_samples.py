"""Every way to read a file gives its own samples: as a whole, by region, page by page, and as a Pillow image."""

from contextlib import closing

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cyclegan.config import Reading
from cyclegan.errors import InputError
from cyclegan.images.codecs import load_raster, probe_image, read_raster, write_image
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Raster
from cyclegan.images.regions import Box
from cyclegan.sequences.registry import find_sequence


def random(shape, dtype=np.uint8, low=1, high=200, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def read_regions(path, image_format):
    """The image by region, in four parts."""
    reader = file_format_of(path).regions.open(path, image_format)
    with closing(reader):
        middle = reader.width // 2
        rows = (0, 7), (7, reader.height)
        parts = [
            [reader.read(Box(*row, *columns)) for columns in ((0, middle), (middle, reader.width))] for row in rows
        ]
        return np.concatenate([np.concatenate(row, 1) for row in parts])


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_a_number_marks_holes_in_pictures_of_every_kind(tmp_path, name):
    values = random((12, 10, 3))
    values[:4] = 0
    Image.fromarray(values).save(tmp_path / name)
    for channels in (1, 3):
        found = load_raster(tmp_path / name, channels, Reading(nodata=0))
        assert not found.valid[:4].any()
        assert found.valid[4:].all()
        assert found.values.shape[2] == channels
    assert load_raster(tmp_path / name, 3).valid is None


def test_a_number_marks_holes_in_animations(tmp_path):
    values = random((2, 12, 10, 3))
    values[:, :4] = 0
    frames = [Image.fromarray(each) for each in values]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    path, image_format = tmp_path / "a.png", ImageFormat(nodata=0)
    with find_sequence(path).read(path, image_format) as sequence:
        for frame in sequence.frames:
            assert not frame.raster.valid[:4].any()
            assert frame.raster.valid[4:].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_premultiplied_colours_are_divided_as_a_whole_and_by_region(tmp_path, dtype, channels):
    straight = random((20, 24, 4), dtype, low=20)
    straight[..., 3] = np.iinfo(dtype).max // 2
    stored = straight.copy()
    stored[..., :3] = stored[..., :3] // 2
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=[1], tile=(16, 16))
    image_format = ImageFormat(channels=channels, dtype=np.dtype(dtype).name, high=float(np.iinfo(dtype).max))
    whole = read_raster(path, image_format)
    assert np.abs(whole.values[..., :3].astype(int) - straight[..., :3]).max() <= 2
    assert np.array_equal(read_regions(path, image_format), whole.values)
    if channels == 4:
        assert whole.metadata.extra_samples == (2,)


def test_pages_of_grey_are_channels_whatever_wrote_them(tmp_path):
    pages = random((3, 12, 10), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:  # each a series of its own
        for page in pages:
            writer.write(page)
    assert np.array_equal(load_raster(tmp_path / "a.tif", 3).values, np.moveaxis(pages, 0, -1))
    with tifffile.TiffWriter(tmp_path / "turned.tif") as writer:
        for page in pages.astype(np.uint8):
            writer.write(page, photometric="miniswhite", extratags=[(274, 3, 1, 6, True)])
    expected = 255 - np.rot90(np.moveaxis(pages.astype(np.uint8), 0, -1), -1)
    assert np.array_equal(load_raster(tmp_path / "turned.tif", 3).values, expected)
    with tifffile.TiffWriter(tmp_path / "bits.tif") as writer:
        for page in pages:
            writer.write(page > 100, photometric="minisblack")
    assert np.array_equal(load_raster(tmp_path / "bits.tif", 3).values, 255 * (np.moveaxis(pages, 0, -1) > 100))


def test_pages_of_several_sizes_or_with_palettes_are_no_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        for side in (10, 12):
            writer.write(random((side, side), np.uint16))
    palettes = [Image.fromarray(random((12, 10, 3), seed=seed)).quantize(16) for seed in (1, 2)]
    palettes[0].save(tmp_path / "palettes.tif", save_all=True, append_images=palettes[1:])
    for name in ("sizes.tif", "palettes.tif"):
        with pytest.raises(InputError, match="has 2 pages; choose one with --page"):
            load_raster(tmp_path / name, 1)


def test_a_reduced_copy_before_the_image_is_not_the_image(tmp_path):
    values = random((24, 20), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values[::4, ::4], subfiletype=1)
        writer.write(values)
    assert np.array_equal(load_raster(tmp_path / "a.tif", 1).values[..., 0], values)


def test_tiles_that_a_file_leaves_out_are_holes_as_a_whole_and_by_region(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    options = {"width": 64, "height": 32, "count": 3, "dtype": "uint8", "photometric": "RGB", "nodata": 7}
    options |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    options |= {"transform": rasterio.Affine(2, 0, 5, 0, -2, 9)}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **options) as file:
        file.write(np.full((3, 16, 16), 9, np.uint8), window=((0, 16), (0, 16)))
    for nodata, hole in ((None, 9), ("none", 7)):
        image_format = ImageFormat(nodata=nodata)
        whole = read_raster(tmp_path / "a.tif", image_format)
        assert (whole.valid is None) == (nodata == "none")
        assert (whole.values[16:] == hole).all()
        assert np.array_equal(read_regions(tmp_path / "a.tif", image_format), whole.values)


def test_the_page_of_a_message_is_the_one_that_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", random((2, 12, 10, 3), np.uint16), photometric="rgb")
    with pytest.raises(InputError, match="is 3 x uint16, and the model takes 1 x uint16"):
        read_raster(tmp_path / "a.tif", ImageFormat(channels=1, dtype="uint16", page=2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_fourth_band_of_a_jp2_is_transparency_only_if_its_header_says_so(tmp_path, dtype):
    bands = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 24, 4)).astype(dtype)
    (tmp_path / "nir.jp2").write_bytes(imagecodecs.jpeg2k_encode(bands, level=0, codecformat="jp2", reversible=True))
    header = probe_image(tmp_path / "nir.jp2")
    assert (header.channels, header.has_alpha) == (4, False)
    assert np.array_equal(load_raster(tmp_path / "nir.jp2", 4).values, bands)
    with pytest.raises(InputError, match="4 channel"):
        load_raster(tmp_path / "nir.jp2", 3)
    write_image(tmp_path / "rgba.jp2", Raster(bands[..., :3], bands[..., 3]))
    found = load_raster(tmp_path / "rgba.jp2", 3)
    seen = bands[..., 3] > 0
    assert np.array_equal(found.values[seen], bands[..., :3][seen])
    assert np.array_equal(found.alpha, bands[..., 3])
