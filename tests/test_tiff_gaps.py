"""TIFFs of which strips or tiles are left out, because they are empty or because the tags lie."""

import struct
import warnings
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.transform import from_origin
from rasterio.windows import Window

from cyclegan.cli import main
from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import probe_image, read_as, read_raster
from cyclegan.images.filetypes.tiff_regions import TiffReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import Box

RGB = ImageFormat()


@pytest.mark.parametrize("compress", ["deflate", None])
@pytest.mark.parametrize(("channels", "nodata"), [(3, None), (1, 7), (4, None)])
def test_empty_tiles_of_a_sparse_picture_are_empty_pixels(tmp_path, compress, channels, nodata):
    profile = {"driver": "GTiff", "height": 90, "width": 100, "count": channels, "dtype": "uint8", "nodata": nodata}
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "sparse_ok": True, "compress": compress}
    place = {"crs": "EPSG:3857", "transform": from_origin(0, 0, 1, 1)}
    part = np.random.default_rng(0).integers(10, 200, (channels, 32, 32), np.uint8)
    options = {} if compress else {"compress": None}
    with rasterio.open(tmp_path / "s.tif", "w", **profile, **{**tiles, **options}, **place) as file:
        file.write(part, window=Window(32, 32, 32, 32))
    with rasterio.open(tmp_path / "s.tif") as file:
        expected = np.moveaxis(file.read(), 0, -1)
    image_format = ImageFormat(channels=channels)
    raster = read_raster(tmp_path / "s.tif", image_format)
    seen = np.ones((90, 100), bool) if raster.valid is None else raster.valid
    assert np.array_equal(raster.values[seen], expected[seen])
    assert np.array_equal(seen, np.ones_like(seen) if nodata is None else expected[..., 0] != nodata)
    with closing(TiffReader.open(tmp_path / "s.tif", image_format)) as reader:
        by_region = reader.read_raster(Box(0, 90, 0, 100))
    assert np.array_equal(by_region.values[seen], expected[seen])


def write_with_tags(path, values, **tags):
    """A TIFF of one strip, and tags of two or four bytes that replace those it has: their number to their value."""
    tifffile.imwrite(path, values, photometric="rgb")
    content = bytearray(path.read_bytes())
    (begin,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, begin)[0]):
        at = begin + 2 + 12 * entry
        tag, kind = struct.unpack_from("<HH", content, at)
        if f"tag{tag}" in tags:
            struct.pack_into("<H" if kind == 3 else "<I", content, at + 8, tags[f"tag{tag}"])
    path.write_bytes(content)
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)


def test_one_strip_that_holds_the_rows_of_all_is_read(tmp_path, values):
    path = write_with_tags(tmp_path / "s.tif", values, tag278=1)
    assert np.array_equal(read_as(path, RGB), values)
    assert TiffReader.open(path, RGB) is None


def test_more_rows_than_there_are_strips_for_are_damage_before_any_work(tmp_path, values):
    path = write_with_tags(tmp_path / "s.tif", values, tag257=60_000)
    for read in (probe_image, lambda path: read_as(path, RGB), lambda path: TiffReader.open(path, RGB)):
        with pytest.raises(UnreadableError, match=r"it has 1 of the 938 strips that its 60,000 rows need"):
            read(path)


@pytest.mark.parametrize("tags", [{"tag277": 0}, {"tag256": 0}, {"tag278": 0}])
def test_tags_of_nothing_are_damage_in_every_reader(tmp_path, values, tags):
    path = write_with_tags(tmp_path / "s.tif", values, **tags)
    with pytest.raises(UnreadableError):
        read_as(path, RGB)
    with suppress(UnreadableError):
        assert TiffReader.open(path, RGB) is None


def test_readers_do_not_talk_on_the_screen(tmp_path, caplog, recwarn):
    """The lowest float32 is a usual "no data"; tifffile finds that its text is no float32."""
    values = np.full((20, 30), -3.4028234663852886e38, np.float32)
    values[5:] = np.random.default_rng(0).random((15, 30))
    tag = (42113, "s", 0, "-3.4028234663852886e+38", True)
    for index in range(2):
        (tmp_path / "a").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "a" / f"{index}.tif", values, photometric="minisblack", extratags=[tag])
    Path(tmp_path / "a" / "cut.tif").write_bytes((tmp_path / "a" / "0.tif").read_bytes()[:150])
    warnings.simplefilter("always")
    main(["inspect", str(tmp_path / "a")])
    assert not [record for record in caplog.records if record.name == "tifffile"]
    assert not [warning for warning in recwarn if "PIL" in warning.filename]
