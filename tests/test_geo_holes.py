"""Holes in georeferenced files are those that GDAL sees: per band, masks, files beside them; whole and by region."""

from contextlib import closing
from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from test_geo import model, translate  # noqa: F401

from conftest import TINY
from cyclegan import Translator, evaluate, train
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.filetypes.vrt import write_vrt
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import Box
from cyclegan.inspection import inspect_folders
from geo_files import NORTH_UP, UTM, place_of, smooth, write_geotiff

RGB = ImageFormat()
DEEP = ImageFormat(channels=3, dtype="uint16", high=10_000)
MASK = np.ones((40, 56), bool)
MASK[:5, 3:] = False


def deep_with_numbers():
    """Three bands with another number for holes each, in other rows each."""
    values = smooth(dtype="uint16", high=9000)
    for band, (number, row) in enumerate([(0, 4), (7, 10), (65535, 20)]):
        values[row : row + 3, :, band] = number
    return values


def write_text_vrt(path, source, marks, *, dtype="UInt16", bands=None, mask=""):
    """A VRT as other tools write it. marks: the number for holes of each band, or None; bands: more of each."""
    parts = []
    for index, mark in enumerate(marks):
        parts += [f'<VRTRasterBand dataType="{dtype}" band="{index + 1}">', bands[index] if bands else ""]
        parts += [] if mark is None else [f"<NoDataValue>{mark}</NoDataValue>"]
        parts += [f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>']
        parts += [f"<SourceBand>{index + 1}</SourceBand></SimpleSource></VRTRasterBand>"]
    place = f"<SRS>{UTM}</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="56" rasterYSize="40">{place}{"".join(parts)}{mask}</VRTDataset>')
    return path


def write_mask_beside(path, mask):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        options = {"driver": "GTiff", "height": 40, "width": 56, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", crs=UTM, transform=NORTH_UP, **options) as file:
            file.write(np.moveaxis(smooth(), -1, 0))
            file.write_mask(mask)
    assert path.with_name(f"{path.name}.msk").is_file()
    return path


def make(folder, kind):
    """A file of a kind, and how a model takes it."""
    mask_xml = (
        '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">m.tif'
        "</SourceFilename><SourceBand>mask,1</SourceBand></SimpleSource></VRTRasterBand></MaskBand>"
    )
    deep, masked = folder / "in.tif", folder / "m.tif"
    if kind == "a number in each band":
        return write_text_vrt(folder / "x.vrt", write_geotiff(deep, deep_with_numbers()), (0, 7, 65535)), DEEP
    if kind == "a number in one band":
        return write_text_vrt(folder / "x.vrt", write_geotiff(deep, deep_with_numbers()), (None, 7, None)), DEEP
    if kind == "a number outside of the type":
        return write_text_vrt(folder / "x.vrt", write_geotiff(deep, deep_with_numbers()), (-9999,) * 3), DEEP
    if kind == "a mask of one band":
        write_geotiff(masked, deep_with_numbers(), mask=MASK)
        return write_text_vrt(folder / "x.vrt", masked, (None,) * 3, bands=("", mask_xml, "")), DEEP
    if kind == "a mask of the VRT":
        write_geotiff(masked, deep_with_numbers(), mask=MASK)
        return write_text_vrt(folder / "x.vrt", masked, (None,) * 3, mask=mask_xml), DEEP
    if kind == "a mask in the TIFF":
        return write_geotiff(masked, deep_with_numbers(), mask=MASK, tiled=True, blockxsize=16, blockysize=16), DEEP
    if kind == "a mask and a number":
        return write_geotiff(masked, deep_with_numbers(), mask=MASK, nodata=7), DEEP
    if kind == "a mask beside the TIFF":
        return write_mask_beside(folder / "x.tif", MASK), RGB
    if kind == "a mask beside a JP2":
        mask = write_mask_beside(folder / "x.tif", MASK).with_name("x.tif.msk")
        rasterio.shutil.copy(folder / "x.tif", folder / "x.jp2", driver="JP2OpenJPEG", quality=100, reversible=True)
        mask.rename(folder / "x.jp2.msk")
        return folder / "x.jp2", RGB
    if kind == "a number beside the TIFF":
        write_geotiff(deep, deep_with_numbers())
        bands = "".join(
            f'<PAMRasterBand band="{band}"><NoDataValue>{number}</NoDataValue></PAMRasterBand>'
            for band, number in enumerate((0, 7, 65535), 1)
        )
        (folder / "in.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
        return deep, DEEP
    if kind in ("ENVI", "HFA"):
        values = deep_with_numbers()
        values[3:9, 2:] = 0
        return write_geotiff(folder / "x.img", values, driver=kind, nodata=0), DEEP
    if kind == "0 in colours":
        values = smooth()
        values[3:6], values[10:12, :, 0] = 0, 0
        return write_geotiff(folder / "x.tif", values, nodata=0), RGB
    if kind == "0 in grey":
        values = smooth(channels=1)
        values[3:6] = 0
        return write_geotiff(folder / "x.tif", values, nodata=0), ImageFormat(channels=1)
    if kind == "a number of a palette":
        path = write_geotiff(folder / "x.tif", smooth(channels=1) // 16, photometric="palette", nodata=3)
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {index: (10 * index, 255 - index, 7, 255) for index in range(16)})
        return path, RGB
    assert kind == "alpha"
    alpha = np.where(MASK, 65535, 0).astype("uint16")[..., None]
    interp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    values = np.concatenate([deep_with_numbers(), alpha], -1)
    source = write_geotiff(deep, values, interp=interp, alpha="yes")
    colours = [f"<ColorInterp>{name}</ColorInterp>" for name in ("Red", "Green", "Blue", "Alpha")]
    return write_text_vrt(folder / "x.vrt", source, (None,) * 4, bands=colours), DEEP


KINDS_OF_HOLES = (
    *("a number in each band", "a number in one band", "a number outside of the type", "a mask of one band"),
    *("a mask of the VRT", "a mask in the TIFF", "a mask and a number", "a mask beside the TIFF"),
    *("a number beside the TIFF", "ENVI", "HFA", "0 in colours", "0 in grey", "alpha"),
    *("a number of a palette", "a mask beside a JP2"),
)


def valid_of(path):
    """What GDAL says: in 8 bits a pixel is a hole where all bands are, else where one is."""
    with rasterio.open(path) as file:
        masks = file.read_masks() > 0
        return masks.any(0) if file.dtypes[0] == "uint8" else masks.all(0)


def mask_in(raster):
    return np.ones(raster.values.shape[:2], bool) if raster.valid is None else raster.valid


@pytest.mark.parametrize("kind", KINDS_OF_HOLES)
def test_holes_are_those_of_gdal_whole_and_by_region(tmp_path, kind):
    path, image_format = make(tmp_path, kind)
    whole, expected = read_raster(path, image_format), valid_of(path)
    assert np.array_equal(mask_in(whole), expected)
    reader = file_format_of(path).regions.open(path, image_format)
    assert (reader is None) == (kind in ("a number of a palette", "a mask beside a JP2"))
    if reader is None:
        return
    with closing(reader):
        for top, bottom, left, right in ((0, 40, 0, 56), (3, 17, 5, 50), (30, 40, 0, 56)):
            part = reader.read_raster(Box(top, bottom, left, right))
            assert np.array_equal(mask_in(part), expected[top:bottom, left:right])
            assert np.array_equal(part.values, whole.values[top:bottom, left:right])
        assert reader.has_holes() or expected.all() or kind == "alpha"


@pytest.mark.parametrize("tile", ["none", "32"])
@pytest.mark.parametrize("kind", ["a number in each band", "a mask of one band", "a mask beside the TIFF", "alpha"])
def test_holes_come_out_as_holes(model, tmp_path, kind, tile):  # noqa: F811
    path, image_format = make(tmp_path, kind)
    run = model("rgb") if image_format is RGB else model("deep")
    target = translate(run, path, tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file:
        assert np.array_equal(file.dataset_mask() > 0, valid_of(path))
    assert place_of(target)[:4] == place_of(path)[:4]


def test_the_number_of_a_band_goes_with_the_band(tmp_path):
    path, _ = make(tmp_path, "a number in each band")
    for bands, rows in (("2,1", (4, 7, 10, 13)), ("3", (20, 23))):
        taken = ImageFormat(channels=len(bands.split(",")), dtype="uint16", high=10_000, bands=bands)
        raster = read_raster(path, taken)
        expected = np.ones(40, bool)
        for first, last in zip(rows[::2], rows[1::2], strict=True):
            expected[first:last] = False
        assert np.array_equal(raster.valid[:, 0], expected)
        assert raster.metadata.nodata == {"2,1": 7, "3": 65535}[bands]
    none = ImageFormat(channels=3, dtype="uint16", high=10_000, nodata="none")
    assert read_raster(path, none).valid is None


def test_train_inspect_and_evaluate_leave_these_holes_out(tmp_path):
    for domain in "ab":
        for index in range(2):
            folder = tmp_path / domain / str(index)
            folder.mkdir(parents=True)
            path, _ = make(folder, "a number in each band")
            with rasterio.open(folder / "in.tif", "r+") as file:
                file.write(np.clip(np.roll(file.read(1), 3 * index, 1) + ord(domain), 0, 9000) * (file.read(1) > 0), 1)
            (folder / "in.tif").rename(folder / "in.data")
            path.write_text(path.read_text().replace("in.tif", "in.data") + f"<!-- {domain}{index} -->")
    a, b = tmp_path / "a", tmp_path / "b"
    values = []
    for path in a.rglob("*.vrt"):
        with rasterio.open(path) as file:
            values.append(file.read()[:, valid_of(path)])
    expected = min(map(np.min, values)), max(map(np.max, values))
    found = inspect_folders(a, b, quiet=True).folders["A"]
    assert (found.low, found.high) == expected
    assert found.holes.marked == {"no data 0": 2}
    run = train(a, b, out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})
    source = Translator.load(run).source
    assert (source.low, source.high) == expected
    assert evaluate(run, a=a, b=b, quiet=True)


def test_a_world_file_beside_a_tiff_says_where_it_lies(model, tmp_path):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif", place=None)
    (tmp_path / "in.tfw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    for tile in ("none", "32"):
        target = translate(model("rgb"), source, tmp_path / f"{tile}.tif", "--tile", tile)
        assert place_of(target)[1] == NORTH_UP


def test_files_in_a_zip_keep_their_place_and_their_holes(model, tmp_path):  # noqa: F811
    (tmp_path / "in").mkdir()
    source = write_mask_beside(tmp_path / "in" / "x.tif", MASK)
    plain = write_geotiff(tmp_path / "in" / "y.tif", place="rotated")
    with ZipFile(tmp_path / "in.zip", "w") as file:
        for path in (source, source.with_name("x.tif.msk"), plain):
            file.write(path, f"folder/{path.name}")
    translate(model("rgb"), tmp_path / "in.zip", tmp_path / "out")
    for path in (source, plain):
        target = next((tmp_path / "out").rglob(path.name))
        assert place_of(target) == place_of(path)
        with rasterio.open(target) as file:
            assert np.array_equal(file.dataset_mask() > 0, valid_of(path))


def test_scenes_in_several_systems_are_one_input(model, tmp_path):  # noqa: F811
    (tmp_path / "in").mkdir()
    sources = [
        write_geotiff(tmp_path / "in" / "utm32.tif"),
        write_geotiff(tmp_path / "in" / "utm33.tif", crs="EPSG:32633"),
        write_geotiff(tmp_path / "in" / "degrees.tif", place=Affine(1e-4, 0, 10, 0, -1e-4, 50), crs="EPSG:4326"),
    ]
    translate(model("rgb"), tmp_path / "in", tmp_path / "out", "--cog")
    for source in sources:
        assert place_of(tmp_path / "out" / source.name) == place_of(source)


@pytest.mark.parametrize("is_given", ["bands", "scenes"])
def test_vrts_keep_the_holes_of_each_band(tmp_path, is_given):
    files = []
    for name, nodata, mask in (("B1", 0, None), ("B2", None, MASK), ("B3", None, None)):
        values = smooth(channels=1, dtype="uint16", high=9000)
        values[20:23] = 0
        files.append(write_geotiff(tmp_path / f"x_{name}.tif", values, nodata=nodata, mask=mask))
    if is_given == "bands":
        write_vrt(files, tmp_path / "x.vrt")
    else:
        write_vrt([tmp_path], tmp_path / "x.vrt", bands=["B1", "B2", "B3"])
    with rasterio.open(tmp_path / "x.vrt") as file:
        masks = file.read_masks() > 0
    expected = [valid_of(path) for path in files]
    assert np.array_equal(masks, expected)
    assert np.array_equal(read_raster(tmp_path / "x.vrt", DEEP).valid, np.all(expected, axis=0))


@pytest.mark.parametrize("tile", ["none", "256"])
def test_a_cog_in_jpeg_with_a_mask_goes_in_and_out(model, tmp_path, tile):  # noqa: F811
    mask = np.ones((600, 700), bool)
    mask[:100, :300] = False
    plain = write_geotiff(tmp_path / "plain.tif", smooth(600, 700), mask=mask, photometric="rgb")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(plain) as file:
        rasterio.shutil.copy(file, tmp_path / "in.tif", driver="COG", compress="JPEG", blocksize=256)
    with rasterio.open(tmp_path / "in.tif") as file:
        assert file.profile["photometric"] == "ycbcr"
    target = translate(model("rgb"), tmp_path / "in.tif", tmp_path / "out.tif", "--tile", tile, "--cog")
    with rasterio.open(target) as file:
        assert np.array_equal(file.dataset_mask() > 0, mask)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1)
    assert place_of(target) == place_of(tmp_path / "in.tif")
