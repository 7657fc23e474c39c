"""GeoTIFFs go through `translate` and come out in the same place, with the same holes: checked with rasterio."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from conftest import TINY, TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.images.codecs import probe_image, read_raster
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import ImageFormat
from cyclegan.inspection import inspect_folders
from cyclegan.networks.building import build_generator
from cyclegan.storage.model import ModelInfo, save_model
from geo_files import NORTH_UP, place_of, smooth, write_geotiff

RGB = ImageFormat()
KINDS = {
    "rgb": RGB,
    "nir": ImageFormat(channels=4),
    "deep": ImageFormat(channels=3, dtype="uint16", high=10_000),
    "five": ImageFormat(channels=5, dtype="uint16", high=10_000),
    "dem": ImageFormat(channels=1, dtype="float32", low=0, high=1000),
}
WHOLE_AND_TILES = pytest.mark.parametrize("tile", ["none", "32"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(kind of A, kind of B) -> a model of random weights, made once."""
    root = tmp_path_factory.mktemp("models")

    def make(a="rgb", b=None):
        a_format, b_format = KINDS[a], KINDS[b or a]
        folder = root / f"{a}_{b or a}"
        if not folder.exists():
            config = ModelConfig(**TINY_MODEL, channels_a=a_format.channels, channels_b=b_format.channels)
            about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final"}
            info = ModelInfo(cyclegan_version="0", model=config, a=a_format, b=b_format, averages=False, **about)
            network = build_generator(config, a_format.channels, b_format.channels, seed=0)
            save_model(folder, info, {"a2b": network.state_dict()})
        return folder

    return make


def translate(model, source, target, *flags):
    main(["translate", *map(str, (model, source, "--out", target, *flags))])
    return target


def values_of(kind):
    image_format = KINDS[kind]
    return smooth(channels=image_format.channels, dtype=image_format.dtype, high=image_format.high)


def holes_of(path):
    with rasterio.open(path) as file:
        return file.dataset_mask() == 0


# ---- place


@WHOLE_AND_TILES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["north", "rotated", "gcps", "rpcs"])
def test_the_output_lies_where_the_input_lies(model, tmp_path, kind, place, tile):
    photometric = {"photometric": "rgb"} if kind in ("rgb", "nir") else {}
    source = write_geotiff(tmp_path / "in.tif", values_of(kind), place=place, **photometric)
    target = translate(model(kind), source, tmp_path / "out.tif", "--tile", tile)
    assert place_of(target) == place_of(source)
    with rasterio.open(target) as file, rasterio.open(source) as given:
        assert (file.count, file.dtypes) == (given.count, given.dtypes)
        assert not np.array_equal(file.read(), given.read())


@WHOLE_AND_TILES
def test_a_pixel_that_is_a_point_stays_one(model, tmp_path, tile):
    source = write_geotiff(tmp_path / "in.tif", tags={"AREA_OR_POINT": "Point"})
    target = translate(model(), source, tmp_path / "out.tif", "--tile", tile)
    assert place_of(target) == place_of(source)
    assert place_of(target)[-1] == "Point"


@WHOLE_AND_TILES
def test_resolution_and_description_are_kept(model, tmp_path, tile):
    tags = {"TIFFTAG_IMAGEDESCRIPTION": "Scene 7", "TIFFTAG_XRESOLUTION": 300, "TIFFTAG_YRESOLUTION": 150}
    tags |= {"TIFFTAG_RESOLUTIONUNIT": 2, "ACQUIRED": "2020-01-01"}
    source = write_geotiff(tmp_path / "in.tif", tags=tags)
    target = translate(model(), source, tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file, rasterio.open(source) as given:
        found, expected = file.tags(), given.tags()
        assert {name: found.get(name) for name in expected} == expected


@WHOLE_AND_TILES
@pytest.mark.parametrize(("a", "b"), [("five", "five"), ("five", "rgb"), ("rgb", "dem")])
def test_names_of_bands_go_with_a_result_of_as_many_bands(model, tmp_path, a, b, tile):
    names = tuple("abcde"[: KINDS[a].channels])
    source = write_geotiff(tmp_path / "in.tif", values_of(a), names=names)
    target = translate(model(a, b), source, tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file:
        assert file.descriptions == (names if a == b else (None,) * KINDS[b].channels)
    assert place_of(target) == place_of(source)


@WHOLE_AND_TILES
def test_statistics_of_the_input_are_not_said_of_the_output(model, tmp_path, tile):
    source = write_geotiff(tmp_path / "in.tif", values_of("dem"))
    with rasterio.open(source, "r+") as file:
        file.update_tags(1, STATISTICS_MEAN="5", STATISTICS_MAXIMUM="8")
        file.scales, file.offsets = (0.1,), (3.0,)
    target = translate(model("dem"), source, tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file:
        assert not any(name.startswith("STATISTICS") for name in file.tags(1))


def test_colours_are_named_as_colours(model, tmp_path):
    for kind, expected in (("rgb", "red green blue"), ("nir", "red green blue undefined"), ("dem", "gray")):
        options = {} if kind == "dem" else {"photometric": "rgb"}
        source = write_geotiff(tmp_path / "in.tif", values_of(kind), **options)
        target = translate(model(kind), source, tmp_path / f"{kind}.tif")
        with rasterio.open(target) as file:
            assert [each.name for each in file.colorinterp] == expected.split()


@pytest.mark.parametrize("flags", [["--tile", "none"], ["--tile", "32"], ["--cog"]])
@pytest.mark.parametrize(
    ("channels", "dtype", "photometric"),
    [
        *[(channels, dtype, "minisblack") for channels in (3, 4, 5) for dtype in ("uint8", "float32")],
        (5, "uint16", "rgb"),
    ],
)
def test_bands_that_are_no_colours_are_not_called_so(tmp_path, channels, dtype, photometric, flags):
    about = ImageFormat(channels=channels, dtype=dtype, high=200, alpha=False)
    folder = tmp_path / "model"
    config = ModelConfig(**TINY_MODEL, channels_a=channels, channels_b=channels)
    size = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=config, a=about, b=about, averages=False, **size)
    save_model(folder, info, {"a2b": build_generator(config, channels, channels, seed=0).state_dict()})
    values = smooth(channels=channels, dtype=dtype, high=200)
    source = write_geotiff(tmp_path / "in.tif", values, photometric=photometric, alpha="no")
    target = translate(folder, source, tmp_path / "out.tif", *flags)
    with rasterio.open(source) as given, rasterio.open(target) as file:
        assert file.colorinterp == given.colorinterp


def test_another_format_says_once_what_it_cannot_keep(model, tmp_path, capsys):
    for name in ("a", "b", "c"):
        write_geotiff(tmp_path / "in" / f"{name}.tif") if (tmp_path / "in").mkdir(exist_ok=True) is None else None
    for path in sorted((tmp_path / "in").iterdir()):
        translate(model(), path, tmp_path / f"{path.stem}.png")
        err = " ".join(capsys.readouterr().err.split())
        assert err.count("place on earth") == 1 or err.count("place on the earth") == 1


# ---- bands


def test_the_fourth_band_of_an_8_bit_file_counts(tmp_path):
    values = values_of("nir")
    path = write_geotiff(tmp_path / "nir.tif", values, photometric="rgb")
    assert np.array_equal(read_raster(path, KINDS["nir"]).values, values)


@pytest.mark.parametrize("kind", ["tif", "vrt"])
@pytest.mark.parametrize(("name", "is_alpha"), [("nir", False), ("B08", False), ("Alpha", True), ("Band 4", True)])
def test_a_band_with_a_name_of_its_own_is_no_transparency(tmp_path, name, is_alpha, kind):
    values = smooth(channels=4)
    path = write_geotiff(tmp_path / "in.tif", values, names=("red", "green", "blue", name))
    with rasterio.open(path) as file:  # what GDAL calls the fourth band if nobody says anything
        assert file.colorinterp[3] == ColorInterp.alpha
    if kind == "vrt":
        rasterio.shutil.copy(path, tmp_path / "in.vrt", driver="VRT")
    path = tmp_path / f"in.{kind}"
    assert np.array_equal(read_raster(path, KINDS["nir"]).values, values)
    if is_alpha:
        assert np.array_equal(read_raster(path, RGB).alpha, values[..., 3])
    else:
        assert probe_image(path).channels == 4
        with pytest.raises(InputError, match="is 4 x uint8, and the model takes 3 x uint8"):
            read_raster(path, RGB)
        reader = file_format_of(path).regions.open(path, RGB)
        assert reader is None


@WHOLE_AND_TILES
@pytest.mark.parametrize("bands", ["3,1,2", "nir,red,green", "NIR,1,green"])
def test_bands_are_taken_by_number_or_name(model, tmp_path, bands, tile):
    values = smooth(channels=4)
    names = ("red", "green", "nir", "swir")
    source = write_geotiff(tmp_path / "in.tif", values, names=names, photometric="minisblack")
    twin = write_geotiff(tmp_path / "twin.tif", values[..., [2, 0, 1]])
    found = translate(model(), source, tmp_path / "out.tif", "--bands", bands, "--tile", tile)
    expected = translate(model(), twin, tmp_path / "expected.tif", "--tile", tile)
    with rasterio.open(found) as file, rasterio.open(expected) as other:
        assert np.array_equal(file.read(), other.read())


@pytest.mark.parametrize("bands", ["blue,red,green", "9,1,2", "same,red,green"])
def test_bands_that_are_missing_or_ambiguous_are_listed(model, tmp_path, bands, capsys):
    names = ("red", "green", "same", "same")
    source = write_geotiff(tmp_path / "in.tif", smooth(channels=4), names=names, photometric="minisblack")
    with pytest.raises(SystemExit):
        translate(model(), source, tmp_path / "out.tif", "--bands", bands)
    said = " ".join(capsys.readouterr().err.split())
    assert f"has no band {bands.split(',')[0]}; it has 4 bands, called red, green, same, same, counted from 1" in said


def test_bands_of_training_are_recorded_and_used_by_translate(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        for index in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            values = np.roll(smooth(channels=4), seed + index, 0)
            write_geotiff(tmp_path / name / f"{index}.tif", values, names=("blue", "green", "red", "nir"))
    settings = {**TINY, "steps": 1, "bands_a": "nir,red,green", "bands_b": "3,2,1"}
    run = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **settings)
    translator = Translator.load(run)
    assert translator.source.bands == "nir,red,green"
    target = translate(run, tmp_path / "a" / "0.tif", tmp_path / "out.tif")
    with rasterio.open(target) as file:
        assert file.count == 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_files_with_more_bands_than_the_model_takes_name_the_flags_of_their_domain(tmp_path, dtype):
    for name, channels in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        for index in range(2):
            values = np.roll(smooth(channels=channels, dtype=dtype), index, 0)
            write_geotiff(tmp_path / name / f"{index}.tif", values, photometric="rgb")
    with pytest.raises(InputError, match="Pass --channels-b 4 to train on all, --bands-b 1,2,3 to choose some, or"):
        train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **TINY)


def test_named_bands_in_the_wrong_direction_are_hinted_at(tmp_path):
    source = write_geotiff(tmp_path / "in.tif")
    nir = ImageFormat(bands="nir,red,green")
    with pytest.raises(InputError, match="has no band nir; .* takes this file in its other direction"):
        read_raster(source, nir, RGB)
    with pytest.raises(InputError, match="has no band nir; it has 3 bands, counted from 1.$"):
        read_raster(source, nir, KINDS["dem"])


# ---- holes


@WHOLE_AND_TILES
def test_a_number_that_replaces_that_of_the_file_is_said(model, tmp_path, tile, capsys):
    values = values_of("dem")
    values[5:20, 10:30] = -9999
    source = write_geotiff(tmp_path / "in.tif", values, nodata=-9999)
    translate(model("dem"), source, tmp_path / "out.tif", "--tile", tile, "--nodata", "-1")
    said = " ".join(capsys.readouterr().err.split())
    assert (
        said.count("1 image names -9999 for holes, and -1 is looked for instead; --nodata -9999 looks for that.") == 1
    )
    for flags in ((), ("--nodata", "-9999"), ("--nodata", "none")):
        translate(model("dem"), source, tmp_path / "out.tif", "--tile", tile, *flags)
        assert "is looked for" not in capsys.readouterr().err


def test_train_and_inspect_say_that_a_number_is_replaced(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(2):
            values = np.roll(values_of("dem"), index + 2 * (name == "b"), 0)
            values[5:9] = -9999
            write_geotiff(tmp_path / name / f"{index}.tif", values, nodata=-9999)
    settings = {**TINY, "steps": 1, "channels_a": 1, "channels_b": 1, "nodata_a": "-1"}
    train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", **settings)
    said = " ".join(capsys.readouterr().err.split())
    assert "A: files name -9999 for holes, and --nodata-a replaces it" in said
    assert "B: files name" not in said
    with rasterio.open(tmp_path / "a" / "0.tif", "r+") as file:
        values = file.read(1)
        values[0] = -1
        file.write(values, 1)
    found = inspect_folders(tmp_path / "a", quiet=True, nodata_a="-1", channels_a=1)
    assert found.folders["A"].holes.marked == {"no data -1 instead of -9999": 1}


@WHOLE_AND_TILES
@pytest.mark.parametrize("kind", ["dem", "rgb", "five"])
@pytest.mark.parametrize("nodata", [-9999.0, 0, np.nan])
def test_holes_marked_by_a_number_come_out_as_holes(model, tmp_path, kind, nodata, tile):
    values = values_of(kind)
    if kind != "dem" and nodata != 0:
        pytest.skip("the type has no such number")
    values[5:20, 10:30] = nodata
    source = write_geotiff(tmp_path / "in.tif", values, nodata=nodata)
    target = translate(model(kind), source, tmp_path / "out.tif", "--tile", tile)
    assert holes_of(source).sum() == 15 * 20
    assert np.array_equal(holes_of(target), holes_of(source))
    with rasterio.open(target) as file:
        assert np.array_equal(file.nodata, nodata, equal_nan=True)
        assert (file.read()[:, 5:20, 10:30] == nodata).all() or np.isnan(nodata)


@WHOLE_AND_TILES
@pytest.mark.parametrize("kind", ["rgb", "dem"])
def test_holes_of_a_mask_band_come_out_as_holes(model, tmp_path, kind, tile):
    mask = np.ones((40, 56), bool)
    mask[5:20, 10:30] = False
    source = write_geotiff(tmp_path / "in.tif", values_of(kind), mask=mask)
    raster = read_raster(source, KINDS[kind])
    assert np.array_equal(raster.valid, mask)
    target = translate(model(kind), source, tmp_path / "out.tif", "--tile", tile)
    assert np.array_equal(holes_of(target), ~mask)
    assert place_of(target) == place_of(source)


@WHOLE_AND_TILES
@pytest.mark.parametrize(("kind", "extra"), [("rgb", 3), ("dem", 1)])
def test_transparency_comes_out_as_it_was(model, tmp_path, kind, extra, tile):
    values = values_of(kind)
    opaque = 255 if kind == "rgb" else 1.0
    alpha = np.full((40, 56, 1), opaque, values.dtype)
    alpha[5:20, 10:30] = 0
    interp = [*[ColorInterp.gray] * extra, ColorInterp.alpha]
    if kind == "rgb":
        interp[:3] = ColorInterp.red, ColorInterp.green, ColorInterp.blue
    source = write_geotiff(tmp_path / "in.tif", np.concatenate([values, alpha], -1), interp=interp, alpha="yes")
    target = translate(model(kind), source, tmp_path / "out.tif", "--tile", tile)
    with rasterio.open(target) as file:
        assert file.count == extra + 1
        assert file.colorinterp[-1] == ColorInterp.alpha
        assert np.array_equal(file.read(extra + 1), alpha[..., 0])
    assert np.array_equal(holes_of(target), holes_of(source))


# ---- overviews


@pytest.fixture
def cog(tmp_path):
    """A cloud-optimised GeoTIFF of 8 bits with overviews, and its values."""
    values = smooth(600, 700)
    plain = write_geotiff(tmp_path / "plain.tif", values, photometric="rgb")
    with rasterio.open(plain) as file:
        rasterio.shutil.copy(file, tmp_path / "cog.tif", driver="COG", blocksize=128)
    plain.unlink()
    return tmp_path / "cog.tif", values


def test_overviews_are_no_pages(cog, tmp_path, capsys):
    path, values = cog
    raster = read_raster(path, RGB)
    assert np.array_equal(raster.values, values)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path.rename(tmp_path / "a" / "cog.tif")
    write_geotiff(tmp_path / "b" / "b.tif", np.roll(values, 3, 1))
    main(["inspect", str(tmp_path / "a"), str(tmp_path / "b")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "convert" not in shown
    run = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})
    assert run.is_dir()


@WHOLE_AND_TILES
def test_a_file_with_overviews_is_translated(model, cog, tmp_path, tile):
    target = translate(model(), cog[0], tmp_path / "out.tif", "--tile", "none" if tile == "none" else "256")
    assert place_of(target) == place_of(cog[0])


# ---- other commands


def test_pairs_that_lie_apart_are_refused_with_the_command_that_moves_them(tmp_path):
    moved = {"crs": {"crs": "EPSG:32633"}, "shift": {"place": NORTH_UP @ Affine.translation(3, 0)}}
    for kind, options in moved.items():
        root = tmp_path / kind
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            for index in range(2):
                values = np.roll(smooth(), index + (name == "b"), 0)
                write_geotiff(root / name / f"{index}.tif", values, **(options if name == "b" else {}))
        run = train(root / "a", root / "b", out=root / "run", quiet=True, **{**TINY, "steps": 1})
        what = "lies in EPSG:32633" if kind == "crs" else "lies up to 3 pixels from"
        with pytest.raises(InputError, match=f"{what}.*gdalwarp -r bilinear -t_srs EPSG:32632 -tr 10 10 -te"):
            evaluate(run, a=root / "a", b=root / "b", paired=True, quiet=True)


def test_pixels_of_degrees_and_of_metres_in_one_folder_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_geotiff(tmp_path / name / "0.tif", np.roll(smooth(), name == "b", 0))
    write_geotiff(tmp_path / "a" / "1.tif", crs="EPSG:32633")  # another zone is no problem
    write_geotiff(tmp_path / "a" / "2.tif", place=Affine(1e-4, 0, 10, 0, -1e-4, 50), crs="EPSG:4326")
    with pytest.raises(InputError, match=r"2\.tif has pixels of degrees \(EPSG:4326\) and .* gdalwarp"):
        train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})
