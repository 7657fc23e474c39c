"""`cyclegan vrt`: bands and scenes in single files become one image."""

import re

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from conftest import make_folder
from cyclegan import InputError
from cyclegan.cli import main
from cyclegan.images.codecs import load_raster
from cyclegan.images.filetypes import geo
from cyclegan.images.filetypes.vrt import write_vrt
from geo_files import NORTH_UP, ROTATED, smooth, write_geotiff

DATE = "T32TQM_20200101T101031"


@pytest.fixture
def scene(tmp_path):
    """A scene as Sentinel-2 has it: three bands of 10 m, one of 20 m, a coarser copy, a mask and a picture."""
    root = tmp_path / "S2A.SAFE" / "GRANULE" / "L2A"
    for folder in ("IMG_DATA/R10m", "IMG_DATA/R20m", "QI_DATA"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(("B02", "B03", "B04"), 1):
        values = np.full((40, 60, 1), 100 * number, np.uint16)
        write_geotiff(root / f"IMG_DATA/R10m/{DATE}_{name}_10m.tif", values)
    coarse = NORTH_UP * Affine.scale(2)
    for name in ("B04", "B11"):
        values = np.full((20, 30, 1), 7, np.uint16)
        write_geotiff(root / f"IMG_DATA/R20m/{DATE}_{name}_20m.tif", values, place=coarse)
    write_geotiff(root / "QI_DATA/MSK_DETFOO_B04.tif", smooth(40, 60, 1))
    write_geotiff(root / f"IMG_DATA/R10m/{DATE}_TCI_10m.tif", smooth(40, 60))
    return tmp_path / "S2A.SAFE"


def test_bands_of_a_scene_become_one_image_in_their_order(scene, tmp_path, capsys):
    main(["vrt", str(scene), "--bands", "B04,B03,B2", "--out", str(tmp_path / "rgb.vrt")])
    with rasterio.open(tmp_path / "rgb.vrt") as file:
        assert file.descriptions == ("B04", "B03", "B2")
        assert file.read()[:, 5, 5].tolist() == [300, 200, 100]
        assert (file.crs, file.transform, file.shape) == ("EPSG:32632", NORTH_UP, (40, 60))
        assert file.dataset_mask().all()
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "rgb.vrt")
    assert "B04: of several resolutions the finest is taken" in err
    # Moved together with its files, it still works.
    (tmp_path / "moved").mkdir()
    for path in (scene, tmp_path / "rgb.vrt"):
        path.rename(tmp_path / "moved" / path.name)
    with rasterio.open(tmp_path / "moved" / "rgb.vrt") as file:
        assert file.read(1).max() == 300


def test_a_part_of_the_name_chooses_among_resolutions(scene, tmp_path):
    write_vrt([scene], tmp_path / "coarse.vrt", bands=["B04_20m", "B11"])
    with rasterio.open(tmp_path / "coarse.vrt") as file:
        assert file.shape == (20, 30)


def test_another_pixel_size_is_refused_with_the_command_that_changes_it(scene, tmp_path):
    with pytest.raises(InputError, match=r"B11_20m\.tif has pixels of 20 and .*B04_10m\.tif of 10; bring") as error:
        write_vrt([scene], tmp_path / "all.vrt", bands=["B04", "B11"])
    command = "gdalwarp -r bilinear -t_srs EPSG:32632 -tr 10 10 -te 500000 4999600 500600 5000000 "
    assert command in str(error.value)


def test_another_coordinate_system_is_refused_with_the_command_that_reprojects(tmp_path):
    write_geotiff(tmp_path / "a_red.tif", smooth(channels=1))
    write_geotiff(tmp_path / "a_nir.tif", smooth(channels=1), crs="EPSG:32633")
    with pytest.raises(InputError, match=r"EPSG:32633 and .* in EPSG:32632; reproject it: gdalwarp -r bilinear -t_srs"):
        write_vrt([tmp_path], tmp_path / "x.vrt", bands=["red", "nir"])


@pytest.mark.parametrize(
    ("bands", "message"),
    [(["B99"], r"There is no band B99; the files are .*B02"), (["B03"], "B03 is ambiguous: .* lie in the same place")],
)
def test_a_band_that_is_missing_or_twice_there_is_named(scene, tmp_path, bands, message):
    values = np.full((40, 60, 1), 9, np.uint16)
    write_geotiff(scene / "T32TQM_20210101T101031_B03_10m.tif", values)
    with pytest.raises(InputError, match=message):
        write_vrt([scene], tmp_path / "x.vrt", bands=bands)


def test_types_that_differ_and_bands_that_lack_a_place_are_refused(tmp_path):
    for name, dtype, shift in (("x_B1", "uint8", 0), ("x_B2", "uint16", 0), ("y_B1", "uint8", 56)):
        values = smooth(channels=1).astype(dtype)
        write_geotiff(tmp_path / f"{name}.tif", values, place=NORTH_UP * Affine.translation(shift, 0))
    with pytest.raises(InputError, match=r"is uint16 and .* is uint8; convert it: gdal_translate -ot Byte"):
        write_vrt([tmp_path], tmp_path / "x.vrt", bands=["B1", "B2"])
    write_geotiff(tmp_path / "x_B2.tif", smooth(channels=1))
    with pytest.raises(InputError, match=r"B2 is missing where B1 has .*y_B1\.tif"):
        write_vrt([tmp_path], tmp_path / "x.vrt", bands=["B1", "B2"])


@pytest.mark.parametrize("nodata", [None, 0, "mask"])
def test_scenes_beside_each_other_become_one_image_with_a_hole_between(tmp_path, nodata):
    (tmp_path / "in").mkdir()
    masks, whole = [], np.zeros((40, 130), bool)
    for name, shift in (("a", 0), ("b", 74)):
        values, place = smooth(), NORTH_UP * Affine.translation(shift, 0)
        valid = np.ones((40, 56), bool)
        if nodata is not None:
            valid[:10] = False
        if nodata == 0:
            values[~valid] = 0
        mask = valid if nodata == "mask" else None
        write_geotiff(
            tmp_path / "in" / f"{name}.tif", values, place=place, mask=mask, nodata=0 if nodata == 0 else None
        )
        masks.append(valid)
        whole[:, shift : shift + 56] = valid
    found = write_vrt([tmp_path / "in"], tmp_path / "all.vrt")
    assert (found.height, found.width, found.num_files) == (40, 130, 2)
    with rasterio.open(tmp_path / "all.vrt") as file:
        assert np.array_equal(file.dataset_mask() > 0, whole)
        assert np.array_equal(file.read()[:, 20, 74:], np.moveaxis(smooth(), -1, 0)[:, 20])


def test_rotated_files_are_stacked_but_not_put_side_by_side(tmp_path):
    for name in ("x_B1", "x_B2"):
        write_geotiff(tmp_path / f"{name}.tif", smooth(channels=1), place="rotated")
    write_vrt([tmp_path], tmp_path / "x.vrt", bands=["B2", "B1"])
    with rasterio.open(tmp_path / "x.vrt") as file:
        assert (file.transform, file.count) == (ROTATED, 2)
    write_geotiff(tmp_path / "y_B1.tif", smooth(channels=1), place=ROTATED * Affine.translation(56, 0))
    with pytest.raises(InputError, match="is rotated and lies beside"):
        write_vrt([tmp_path], tmp_path / "x.vrt", bands=["B1"])


def test_points_on_the_ground_and_descriptions_are_kept(tmp_path):
    write_geotiff(tmp_path / "in.tif", place="gcps", names=("red", "green", "nir"))
    write_vrt([tmp_path / "in.tif"], tmp_path / "x.vrt", bands=["nir", "RED"])
    with rasterio.open(tmp_path / "x.vrt") as file, rasterio.open(tmp_path / "in.tif") as source:
        points = [[(point.row, point.col, point.x, point.y) for point in each.gcps[0]] for each in (file, source)]
        assert points[0] == points[1]
        assert file.gcps[1] == source.gcps[1]
        assert np.array_equal(file.read(1), source.read(3))


def test_folders_without_georeferenced_images_and_names_without_vrt_are_refused(tmp_path):
    make_folder(tmp_path / "pictures")
    with pytest.raises(InputError, match="holds no georeferenced images"):
        write_vrt([tmp_path / "pictures"], tmp_path / "x.vrt")
    with pytest.raises(InputError, match=re.escape("x.tif; expected a name that ends in .vrt")):
        write_vrt([tmp_path / "pictures"], tmp_path / "x.tif")
    with pytest.raises(InputError, match="There is no file or folder"):
        write_vrt([tmp_path / "nothing"], tmp_path / "x.vrt")
    (tmp_path / "bad.tif").write_bytes(b"II*\0 not a TIFF")
    with pytest.raises(InputError, match=r"bad\.tif cannot be read"):
        write_vrt([tmp_path / "bad.tif"], tmp_path / "x.vrt")


def test_without_rasterio_its_install_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(InputError, match=re.escape("pip install 'cyclegan[geo]'")):
        write_vrt([tmp_path], tmp_path / "x.vrt")


def test_values_holes_and_place_of_a_vrt_are_read(tmp_path):
    mask = np.ones((40, 56), bool)
    mask[3:9] = False
    write_geotiff(tmp_path / "in.tif", names=("red", "green", "nir"), mask=mask, tags={"AREA_OR_POINT": "Point"})
    write_vrt([tmp_path / "in.tif"], tmp_path / "x.vrt")
    raster = geo.read(tmp_path / "x.vrt")
    assert np.array_equal(raster.values, smooth())
    assert np.array_equal(raster.valid, mask)
    codes = {tag[0] for tag in raster.metadata.tags}
    assert {33550, 33922, 34735, 42112} <= codes
    assert geo.probe(tmp_path / "x.vrt")[:4] == (40, 56, "uint8", None)


def test_a_colour_of_a_palette_is_no_number_for_holes(tmp_path):
    values, colours = np.ones((1, 8, 8), np.uint8), {1: (5, 5, 5, 255), 5: (9, 9, 9, 255)}
    profile = {
        "driver": "GTiff",
        "height": 8,
        "width": 8,
        "count": 1,
        "dtype": "uint8",
        "nodata": 5,
        "crs": "EPSG:32632",
    }
    with rasterio.open(tmp_path / "a.tif", "w", **profile, photometric="palette", transform=NORTH_UP) as file:
        file.write(values)
        file.write_colormap(1, colours)
    write_vrt([tmp_path / "a.tif"], tmp_path / "x.vrt")
    for path in (tmp_path / "a.tif", tmp_path / "x.vrt"):
        raster = load_raster(path, 3)
        assert raster.valid is None
        assert (raster.values == 5).all()


def test_numbers_of_a_palette_stay_colours(tmp_path):
    numbers = np.arange(2400, dtype=np.uint8).reshape(40, 60)
    profile = {"driver": "GTiff", "height": 40, "width": 60, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    for name, blue in (("a", 9), ("b", 9), ("other", 10)):
        place = NORTH_UP * Affine.translation(60 * (name != "a"), 0)
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile, transform=place, photometric="palette") as file:
            file.write_colormap(1, {number: (number, 255 - number, blue) for number in range(256)})
            file.write(numbers, 1)
    write_vrt([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "both.vrt")
    expected = np.stack([numbers, 255 - numbers, np.full_like(numbers, 9)], -1)
    values = load_raster(tmp_path / "both.vrt", 3).values
    assert np.array_equal(values, np.concatenate([expected, expected], axis=1))
    assert np.array_equal(load_raster(tmp_path / "a.tif", 3).values, expected)
    with pytest.raises(InputError, match="a.tif and .*other.tif have different palettes"):
        write_vrt([tmp_path / "a.tif", tmp_path / "other.tif"], tmp_path / "no.vrt")
