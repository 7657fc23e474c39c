"""`translate` on a part of a scene, on VRTs, with overviews and as a cloud-optimised GeoTIFF."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterioWindow
from test_geo import KINDS, WHOLE_AND_TILES, model, translate, values_of  # noqa: F401

from cyclegan import InputError, translate_folder
from cyclegan.images.codecs import load_raster, read_raster, write_image
from cyclegan.images.filetypes.vrt import write_vrt
from cyclegan.images.raster import Metadata
from geo_files import NORTH_UP, place_of, smooth, write_geotiff
from pictures import make_translator

# ---- windows


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@WHOLE_AND_TILES
@pytest.mark.parametrize("place", ["north", "rotated"])
def test_a_window_is_translated_as_a_file_of_its_own(model, tmp_path, place, tile):  # noqa: F811
    names = ("red", "green", "blue")
    source = write_geotiff(
        tmp_path / "in.tif", smooth(80, 100), place=place, names=names, tiled=True, blockxsize=16, blockysize=16
    )
    with rasterio.open(source) as file:
        window = RasterioWindow(10, 20, 50, 40)
        transform, values = file.window_transform(window), file.read(window=window)
    part = write_geotiff(tmp_path / "part.tif", np.moveaxis(values, 0, -1), place=transform, names=names)
    target = translate(model(), source, tmp_path / "out.tif", "--window", 10, 20, 50, 40, "--tile", tile)
    expected = translate(model(), part, tmp_path / "expected.tif", "--tile", tile)
    assert place_of(target) == place_of(expected)
    assert place_of(target)[1] == transform
    assert np.array_equal(read(target), read(expected))


def test_points_on_the_ground_and_coefficients_move_with_a_window(model, tmp_path):  # noqa: F811
    for place in ("gcps", "rpcs"):
        source = write_geotiff(tmp_path / "in.tif", smooth(80, 100), place=place)
        target = translate(model(), source, tmp_path / "out.tif", "--window", 10, 20, 50, 40)
        with rasterio.open(target) as file, rasterio.open(source) as given:
            if place == "gcps":
                moved = [(point.row, point.col, point.x, point.y) for point in file.gcps[0]]
                assert moved == [(point.row - 20, point.col - 10, point.x, point.y) for point in given.gcps[0]]
            else:
                assert (file.rpcs.line_off, file.rpcs.samp_off) == (given.rpcs.line_off - 20, given.rpcs.samp_off - 10)


@pytest.mark.parametrize("place", ["north", "rotated", "point"])
def test_bounds_select_the_pixels_that_they_touch(model, tmp_path, place):  # noqa: F811
    tags = {"AREA_OR_POINT": "Point"} if place == "point" else None
    source = write_geotiff(tmp_path / "in.tif", place="north" if place == "point" else place, tags=tags)
    with rasterio.open(source) as file:
        corners = [file.transform * at for at in [(10, 5), (10, 25), (40, 5), (40, 25)]]
    (left, right), (bottom, top) = ((min(side), max(side)) for side in zip(*corners, strict=True))
    target = translate(model(), source, tmp_path / "out.tif", "--bounds", left, bottom, right, top)
    with rasterio.open(target) as file, rasterio.open(source) as given:
        if place == "rotated":
            assert all(((~file.transform) * corner)[0] >= -1e-6 for corner in corners)
        else:
            assert file.bounds == (left, bottom, right, top)
            assert file.shape == (20, 30)
        assert file.crs == given.crs


def test_a_window_beyond_the_border_is_cut_and_one_outside_is_refused(model, tmp_path, capsys):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif")
    for tile in ("none", "32"):
        target = translate(model(), source, tmp_path / "out.tif", "--window", 30, 20, 500, 500, "--tile", tile)
        assert place_of(target)[3] == (20, 26)
        said = " ".join(capsys.readouterr().err.split())
        assert said.count("The window goes beyond 1 image: its result is the part inside.") == 1
    translate(model(), source, tmp_path / "inside.tif", "--window", 30, 20, 26, 20)
    assert "goes beyond" not in capsys.readouterr().err
    for flags, message in (
        (("--window", 60, 0, 5, 5), "has nothing in the window 60 0 5 5; it has 56x40 pixels"),
        (("--bounds", 0, 0, 5, 5), "has nothing in the bounds 0 0 5 5; it has bounds 500000 4999600 500560 5000000"),
        (("--window", -1, 0, 5, 5), "--window is -1 0 5 5; expected"),
        (("--bounds", 9, 0, 5, 5), "--bounds is 9 0 5 5; expected"),
        (("--bounds", 0, 0, 5, 5, "--window", 0, 0, 5, 5), "--window and --bounds are given; pass one"),
    ):
        check_message(model(), source, tmp_path / "no.tif", flags, message)


def test_bounds_may_be_in_another_system(model, tmp_path):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif")
    with rasterio.open(source) as file:
        corners = [file.transform * at for at in ((10, 5), (40, 25))]
    (left, top), (right, bottom) = corners
    degrees = transform_bounds("EPSG:32632", "EPSG:4326", left, bottom, right, top)
    target = translate(model(), source, tmp_path / "out.tif", "--bounds", *degrees, "--bounds-crs", "EPSG:4326")
    with rasterio.open(target) as file:
        # Degrees are not parallel to metres: all pixels that they touch are more.
        assert file.bounds.left <= left < right <= file.bounds.right
        assert file.shape[0] < 24
        assert file.crs == "EPSG:32632"
    same = translate(
        model(), source, tmp_path / "same.tif", "--bounds", left, bottom, right, top, "--bounds-crs", "EPSG:32632"
    )
    assert place_of(same)[3] == (20, 30)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--bounds", 8.9, 45.1, 9.1, 45.2),
            "The bounds look like degrees, and the unit of EPSG:32632 is metre: name their system, such as "
            "--bounds-crs EPSG:4326.",
        ),
        (
            ("--bounds", 0, 0, 1, 1, "--bounds-crs", "EPSG:4326"),
            "in the bounds 0 0 1 1 of EPSG:4326; it has bounds 500",
        ),
        (("--bounds", 0, 0, 1, 1, "--bounds-crs", "Mars"), "--bounds-crs is 'Mars'; expected a coordinate system"),
        (("--bounds-crs", "EPSG:4326"), "--bounds-crs is for --bounds; give both"),
    ],
)
def test_bounds_in_the_wrong_system_are_refused_by_name(model, tmp_path, flags, message):  # noqa: F811
    check_message(model(), write_geotiff(tmp_path / "in.tif"), tmp_path / "no.tif", flags, message)


def test_metres_for_a_file_in_degrees_are_refused_by_name(model, tmp_path):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif", place=Affine(1e-4, 0, 10, 0, -1e-4, 50), crs="EPSG:4326")
    flags = ("--bounds", 500_000, 4_999_600, 500_560, 5_000_000)
    message = "The bounds are no degrees, and the unit of EPSG:4326 is degree: name their system"
    check_message(model(), source, tmp_path / "no.tif", flags, message)


def check_message(run, source, target, flags, message):
    import io
    from contextlib import redirect_stderr

    with redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit):
        translate(run, source, target, *flags)
    assert message in " ".join(err.getvalue().split())
    assert not target.exists()


def test_a_picture_without_a_place_has_windows_of_pixels_only(model, tmp_path):  # noqa: F811
    from PIL import Image

    Image.fromarray(smooth()).save(tmp_path / "in.png")
    translate(model(), tmp_path / "in.png", tmp_path / "out.png", "--window", 8, 8, 24, 16)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (24, 16)
    check_message(
        model(), tmp_path / "in.png", tmp_path / "no.png", ("--bounds", 0, 0, 5, 5), "does not say where it lies"
    )


def test_a_window_of_a_large_scene_reads_that_part_only(model, tmp_path, monkeypatch):  # noqa: F811
    from cyclegan.images import codecs

    source = write_geotiff(tmp_path / "in.tif", smooth(300, 400), tiled=True, blockxsize=64, blockysize=64)
    monkeypatch.setattr(codecs, "_decode", None)
    translate(model(), source, tmp_path / "out.tif", "--window", 10, 20, 50, 40)
    assert place_of(tmp_path / "out.tif")[3] == (40, 50)


# ---- VRTs


@WHOLE_AND_TILES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["north", "rotated", "gcps"])
def test_a_vrt_is_translated_as_its_file_would_be(model, tmp_path, kind, place, tile):  # noqa: F811
    options = {"photometric": "rgb"} if kind == "rgb" else {}
    source = write_geotiff(tmp_path / "in.tif", values_of(kind), place=place, **options)
    write_vrt([source], tmp_path / "in.vrt")
    target = translate(model(kind), tmp_path / "in.vrt", tmp_path / "out.tif", "--tile", tile)
    expected = translate(model(kind), source, tmp_path / "expected.tif", "--tile", tile)
    assert place_of(target) == place_of(expected)
    assert np.array_equal(read(target), read(expected))


@WHOLE_AND_TILES
@pytest.mark.parametrize("nodata", [None, 0])
def test_gaps_between_the_files_of_a_vrt_are_holes_of_the_result(model, tmp_path, nodata, tile):  # noqa: F811
    for name, shift in (("a", 0), ("b", 74)):
        place = NORTH_UP @ Affine.translation(shift, 0)
        write_geotiff(
            tmp_path / "in" / f"{name}.tif" if (tmp_path / "in").mkdir(exist_ok=True) is None else None,
            place=place,
            nodata=nodata,
        )
    write_vrt([tmp_path / "in"], tmp_path / "in.vrt")
    target = translate(model(), tmp_path / "in.vrt", tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file, rasterio.open(tmp_path / "in.vrt") as given:
        assert np.array_equal(file.dataset_mask(), given.dataset_mask())
        assert (file.dataset_mask() == 0).sum() == 40 * 18
        assert file.nodata == nodata


def test_a_vrt_goes_into_training_and_stands_in_a_folder_for_its_files(tmp_path):
    from cyclegan.images.codecs import read_as
    from cyclegan.images.file_list import list_images

    (tmp_path / "in").mkdir()
    source = write_geotiff(tmp_path / "in.tif", values_of("five"), names=tuple("abcde"))
    write_vrt([source], tmp_path / "in" / "scene.vrt", bands=["e", "a"])
    assert [path.name for path in list_images(tmp_path / "in")] == ["scene.vrt"]
    two = KINDS["five"].replace(channels=2)
    assert np.array_equal(read_as(tmp_path / "in" / "scene.vrt", two), values_of("five")[..., [4, 0]])


def test_a_vrt_that_asks_for_python_code_is_not_obeyed(tmp_path):
    from cyclegan.errors import UnreadableError
    from cyclegan.images.codecs import read_image

    source = write_geotiff(tmp_path / "in.tif", smooth(channels=1))
    text = f"""<VRTDataset rasterXSize="56" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1"
      subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType>
      <PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[
def f(*args, **kwargs): open({str(tmp_path / "owned")!r}, "w")
]]></PixelFunctionCode><SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource>
      </VRTRasterBand></VRTDataset>"""
    (tmp_path / "bad.vrt").write_text(text)
    with pytest.raises((InputError, UnreadableError)):
        read_image(tmp_path / "bad.vrt", 1)
    assert not (tmp_path / "owned").exists()


# ---- overviews and COGs


def is_cog(path):
    """The rules of GDAL's own validator: tiles, directories before all data in order, overviews ever smaller."""
    with tifffile.TiffFile(path) as file:
        images = [page for page in file.pages if not page.subfiletype & 4]
        assert all(page.is_tiled for page in file.pages if max(page.shape[:2]) > 512)
        offsets = [page.offset for page in file.pages]
        assert offsets == sorted(offsets)
        firsts = [min(offset for offset in page.dataoffsets if offset) for page in file.pages]
        assert max(offsets) < min(firsts)
        sides = [max(page.shape[:2]) for page in images]
        assert sides == sorted(sides, reverse=True)
        data = [min(offset for offset in page.dataoffsets if offset) for page in images]
        assert data == sorted(data, reverse=True)  # the smallest overview first
        assert sides[-1] <= 512
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    return True


@WHOLE_AND_TILES
@pytest.mark.parametrize("flag", ["--overviews", "--cog"])
@pytest.mark.parametrize("kind", KINDS)
def test_overviews_and_cogs_keep_everything(model, tmp_path, monkeypatch, kind, flag, tile):  # noqa: F811
    values = smooth(300, 420, KINDS[kind].channels, KINDS[kind].dtype, KINDS[kind].high)
    values[30:90, 100:200] = 0
    options = {"photometric": "rgb"} if kind == "rgb" else {}
    tags = {"TIFFTAG_IMAGEDESCRIPTION": "Scene 7", "TIFFTAG_XRESOLUTION": 300, "TIFFTAG_YRESOLUTION": 300}
    source = write_geotiff(tmp_path / "in.tif", values, nodata=0, tags=tags, **options)
    monkeypatch.setattr("cyclegan.images.filetypes.overviews.BLOCK", 128)
    side = "none" if tile == "none" else "128"
    plain = translate(model(kind), source, tmp_path / "plain.tif", "--tile", side)
    target = translate(model(kind), source, tmp_path / "out.tif", flag, "--tile", side)
    assert place_of(target) == place_of(source)
    assert np.array_equal(read(target), read(plain))
    with rasterio.open(target) as file, rasterio.open(plain) as other:
        assert file.overviews(1) == [2, 4]
        assert np.array_equal(file.dataset_mask(), other.dataset_mask())
        assert (file.dataset_mask() == 0).sum() == 60 * 100
        assert (file.colorinterp, file.nodata) == (other.colorinterp, other.nodata)
        small = file.read(1, out_shape=(150, 210))
        seen = file.read_masks(1, out_shape=(150, 210)) > 0
        assert np.abs(small.astype(float) - read(plain)[0][::2, ::2])[seen].mean() < KINDS[kind].high * 0.1
        found, expected = file.tags(), other.tags()
        assert {name: found.get(name) for name in expected} == expected
    if flag == "--cog":
        assert is_cog(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.tif", "plain.tif"]


@WHOLE_AND_TILES
@pytest.mark.parametrize("flag", ["--overviews", "--cog"])
def test_overviews_of_masks(model, tmp_path, flag, tile):  # noqa: F811
    mask = np.ones((40, 56), bool)
    mask[5:20, 10:30] = False
    source = write_geotiff(tmp_path / "in.tif", mask=mask)
    target = translate(model(), source, tmp_path / "out.tif", flag, "--tile", tile)
    with rasterio.open(target) as file:
        assert np.array_equal(file.dataset_mask() > 0, mask)


def test_overviews_are_for_tiffs(model, tmp_path):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif")
    check_message(model(), source, tmp_path / "no.png", ("--cog",), "A COG is a TIFF, and")


def test_a_stop_while_overviews_are_made_leaves_the_rows_and_no_target(model, tmp_path, monkeypatch):  # noqa: F811
    source = write_geotiff(tmp_path / "in.tif", smooth(300, 400))
    with monkeypatch.context() as patch:
        patch.setattr("cyclegan.translate.large_files.write_cog", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            translate(model(), source, tmp_path / "out.tif", "--cog", "--tile", "64")
    assert not (tmp_path / "out.tif").exists()
    assert (tmp_path / ".out.tif.partial").is_dir()
    translate(model(), source, tmp_path / "out.tif", "--cog", "--tile", "64")
    assert is_cog(tmp_path / "out.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.tif"]


def test_a_cog_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    source = write_geotiff(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 255, (600, 700, 3), np.uint8))
    (tmp_path / "out").mkdir()
    script = f"""
import resource, signal
from pathlib import Path
from cyclegan.images.filetypes.overviews import write_cog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    write_cog(Path({str(source)!r}), Path({str(tmp_path / "out" / "out.tif")!r}))
except OSError as error:
    print("OSError", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OSError")
    assert list((tmp_path / "out").iterdir()) == []


# ---- other formats


@pytest.mark.parametrize("driver", ["HFA", "ENVI"])
def test_img_files_are_read_with_their_place(model, tmp_path, driver):  # noqa: F811
    values = values_of("five")
    values[3:9] = 0
    source = write_geotiff(tmp_path / "in.img", values, driver=driver, nodata=0)
    target = translate(model("five"), source, tmp_path / "out")
    assert (target / "in.tif").is_file()
    found, expected = place_of(target / "in.tif"), place_of(source)
    assert found[0].to_epsg() == expected[0].to_epsg() == 32632
    assert found[1:4] == expected[1:4]
    with rasterio.open(target / "in.tif") as file:
        assert (file.dataset_mask() == 0).sum() == 6 * 56


def test_heights_of_srtm_are_read(tmp_path):
    from cyclegan.images.codecs import probe_image, read_raster

    values = smooth(1201, 1201, 1, np.int16, 3000)
    values[100:120] = -32768
    place = Affine(1 / 1200, 0, 7 - 1 / 2400, 0, -1 / 1200, 47 + 1 / 2400)
    plain = write_geotiff(tmp_path / "in.tif", values, place=place, crs="EPSG:4326", nodata=-32768)
    with rasterio.open(plain) as file:
        rasterio.shutil.copy(file, tmp_path / "N46E007.hgt", driver="SRTMHGT")
    assert probe_image(tmp_path / "N46E007.hgt")[:4] == (1201, 1201, "int16", 1)
    raster = read_raster(tmp_path / "N46E007.hgt", KINDS["dem"].replace(dtype="int16", high=3000))
    assert (~raster.valid).sum() == 20 * 1201
    assert np.array_equal(raster.values[raster.valid], values[raster.valid])


@pytest.mark.parametrize("kind", ["rgb", "deep"])
@pytest.mark.parametrize("place", ["north", "rotated", "gcps", "rpcs"])
def test_jpeg_2000_files_keep_their_place(model, tmp_path, place, kind, capsys):  # noqa: F811
    # GDAL writes no points and coefficients into a JP2 beside GML, so these come from a TIFF.
    options = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"} if place in ("north", "rotated") else {}
    tags = {"AREA_OR_POINT": "Point"} if place == "north" else None
    name = "in.jp2" if options else "in.tif"
    source = write_geotiff(tmp_path / name, values_of(kind), place=place, tags=tags, **options)
    for target in (tmp_path / "out.tif", tmp_path / "out.jp2"):
        translate(model(kind), source, target)
        crs, transform, bounds, shape, points, points_crs, rpcs, area = place_of(target)
        expected = place_of(source)
        assert (crs, transform, bounds, shape, points) == expected[:5]
        assert not points or points_crs == expected[5]
        assert rpcs == expected[6]
        assert (area or "Area") == (expected[7] or "Area")  # the default
    assert np.array_equal(read(tmp_path / "out.jp2"), read(tmp_path / "out.tif"))
    assert "place on earth" not in " ".join(capsys.readouterr().err.split())


def test_transparency_and_place_of_a_jpeg_2000_are_kept_together(tmp_path):
    source = write_geotiff(tmp_path / "in.tif")
    raster = read_raster(source, KINDS["rgb"])
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[5:9] = 0
    write_image(tmp_path / "out.jp2", replace(raster, alpha=alpha))
    assert place_of(tmp_path / "out.jp2")[:4] == place_of(source)[:4]
    found = read_raster(tmp_path / "out.jp2", KINDS["rgb"])
    assert np.array_equal(found.alpha, alpha)
    assert {tag[0] for tag in found.metadata.tags} >= {33550, 33922, 34735}
    with rasterio.open(tmp_path / "out.jp2") as file:
        assert file.colorinterp[-1].name == "alpha"


def test_files_with_several_pictures_have_no_window(model, tmp_path):  # noqa: F811
    from PIL import Image

    frames = [Image.fromarray(np.roll(smooth(), shift, 0)) for shift in (0, 9)]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], lossless=True)
    flags = ("--window", 0, 0, 8, 8)
    check_message(model(), tmp_path / "in.webp", tmp_path / "no.webp", flags, "in.webp holds several pictures, and a")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
def test_a_jpeg_2000_without_a_place_has_nothing_to_lose(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    Image.fromarray(smooth()).save(source)
    with Image.open(source) as picture:
        assert b"Created by" in picture.info["comment"]
    result = translate_folder(make_translator(), source, tmp_path / "out", tile=None)
    assert result.notes == ()
    found = load_raster(source, 3)
    assert np.array_equal(found.values, smooth())
    assert found.metadata == Metadata()
