"""Whole slides become pyramidal OME-TIFFs, in bounded memory, and go on after a stop; other images can, too."""

import itertools

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train, translate_folder
from cyclegan.cli import main
from cyclegan.datasets.slide_tiles import TileOptions, cut_tiles
from cyclegan.evaluation.test_images import TestImages
from cyclegan.images.codecs import load_raster, probe_image, read_as, write_image
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.file_list import list_images
from cyclegan.images.filetypes.ome_xml import without_ome
from cyclegan.images.filetypes.pyramids import halve
from cyclegan.images.filetypes.slides import SlideReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import Box
from cyclegan.translate.large_files import translate_large
from make_slide import draw_tissue, write_slide


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", preset="modern", quiet=True, **{**TINY, "steps": 2})


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "slide.svs", draw_tissue(700, 500)[0], levels=(4,))


def at_scale(path, **reading):
    reader = SlideReader.open(path, ImageFormat(**reading))
    values = reader.read(Box(0, reader.height, 0, reader.width))
    reader.close()
    return values


def levels_of(path):
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert len(file.series) == 1
        assert file.series[0].kind == "ome"
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        return [level.asarray() for level in file.series[0].levels], pixels, file.pages[0]


def near(one, other):
    return np.abs(one.astype(int) - other).mean() < 2


# ---- slides


def test_the_bands_of_a_slide_are_those_that_are_asked_for(svs):
    colours = at_scale(svs, page=2)
    assert np.array_equal(at_scale(svs, page=2, bands="3,2,1"), colours[..., ::-1])
    assert np.array_equal(at_scale(svs, page=2, bands="2", channels=1), colours[..., 1:2])
    with pytest.raises(InputError, match="has no band 4; it has 3 bands, counted from 1"):
        at_scale(svs, bands="4,3,2")
    with pytest.raises(InputError, match="The bands 3,2 are 2, and the model takes 3"):
        at_scale(svs, bands="3,2")


def test_a_slide_becomes_a_pyramidal_ome_tiff(run, svs, tmp_path):
    translator = Translator.load(run).with_reading(mpp=0.5)
    result = translate_large(translator, svs, tmp_path / "out.ome.tif", tile=64)
    assert result.notes == []
    levels, about, page = levels_of(tmp_path / "out.ome.tif")
    assert [level.shape for level in levels] == [(250, 350, 3), (125, 175, 3), (63, 88, 3), (32, 44, 3)]
    assert near(levels[0], translator(at_scale(svs, mpp=0.5)))
    for one, other in itertools.pairwise(levels):
        assert np.abs(halve(one).astype(int) - other).mean() < 4  # JPEG again
    assert (about["PhysicalSizeX"], about["PhysicalSizeY"]) == (0.5, 0.5)
    assert (about["SizeX"], about["SizeY"], about["SizeC"], about["Type"]) == (350, 250, 3, "uint8")
    assert page.compression == tifffile.COMPRESSION.JPEG
    assert page.parent.is_bigtiff
    with openslide.OpenSlide(tmp_path / "out.ome.tif") as slide:
        assert slide.level_dimensions == ((350, 250), (175, 125), (88, 63), (44, 32))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.ome.tif"]


def test_compression_without_loss_is_exact(run, svs, tmp_path):
    translator = Translator.load(run)
    translate_large(translator, svs, tmp_path / "out.ome.tif", tile=128, compression="lossless")
    levels, _, page = levels_of(tmp_path / "out.ome.tif")
    expected = translator(at_scale(svs)).astype(int)
    assert np.abs(levels[0] - expected).max() <= 1
    assert (levels[0] != expected).mean() < 0.01
    assert np.array_equal(levels[1], halve(levels[0]))
    assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


class StopError(Exception):
    pass


@pytest.mark.parametrize("moment", ["row 2 ", "writing"])
def test_a_stopped_slide_goes_on_and_gives_the_same_bits(run, svs, tmp_path, moment):
    def stop(what, _share):
        if what.startswith(moment):
            raise StopError

    translator = Translator.load(run)
    translate_large(translator, svs, tmp_path / "whole.ome.tif", tile=128)
    with pytest.raises(StopError):
        translate_large(translator, svs, tmp_path / "out.ome.tif", tile=128, on_progress=stop)
    assert not (tmp_path / "out.ome.tif").exists()
    result = translate_large(translator, svs, tmp_path / "out.ome.tif", tile=128)
    assert result.notes == [f"out.ome.tif: {2 if moment.startswith('row') else 4} of 4 rows of tiles were done before."]
    assert (tmp_path / "out.ome.tif").read_bytes() == (tmp_path / "whole.ome.tif").read_bytes()


@pytest.mark.parametrize("change", [{"compression": "lossless"}, {"mpp": 0.5}, {"page": 2}])
def test_tiles_of_another_compression_or_scale_are_not_taken(run, svs, tmp_path, change):
    def stop(what, _share):
        if what.startswith("row 1 "):
            raise StopError

    translator, reading = Translator.load(run), {name: value for name, value in change.items() if name != "compression"}
    with pytest.raises(StopError):
        translate_large(translator, svs, tmp_path / "out.ome.tif", tile=64, on_progress=stop)
    other = translator.with_reading(**reading) if reading else translator
    options = {} if reading else change
    result = translate_large(other, svs, tmp_path / "out.ome.tif", tile=64, **options)
    assert "another input, model or setting; it starts over" in result.notes[0]
    translate_large(other, svs, tmp_path / "whole.ome.tif", tile=64, **options)
    assert (tmp_path / "out.ome.tif").read_bytes() == (tmp_path / "whole.ome.tif").read_bytes()


def test_the_command_takes_slides_alone_and_in_folders(run, svs, tmp_path, capsys):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "one.svs").write_bytes(svs.read_bytes())
    (slides / "bad.svs").write_bytes(b"no slide")
    Image.fromarray(draw_tissue(60, 50)[0]).save(slides / "two.png")
    with pytest.raises(SystemExit) as stopped:
        main(["translate", str(run), str(slides), "--out", str(tmp_path / "out"), "--page", "2"])
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert "one.svs is read at level 1 at 1 microns per pixel, 175 x 125 pixels" in shown.err
    assert f"Left out: {slides / 'bad.svs'} is no slide that OpenSlide reads" in shown.err
    assert "two.png has 1 page, and page 2 is asked for" in shown.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.ome.tif"]
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(slides), "--out", str(tmp_path / "both"), "--mpp", "1"])
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["one.ome.tif", "two.png"]
    assert levels_of(tmp_path / "out" / "one.ome.tif")[0][0].shape == (125, 175, 3)
    main(["translate", str(run), str(svs), "--out", str(tmp_path / "single.ome.tif"), "--mpp", "1"])
    assert (tmp_path / "single.ome.tif").read_bytes() == (tmp_path / "out" / "one.ome.tif").read_bytes()


def test_a_pyramid_in_a_tif_is_read_at_microns_per_pixel_by_openslide(run, tmp_path):
    path = write_slide(tmp_path / "slide.tif", draw_tissue(700, 500)[0], levels=(4,))
    main(["translate", str(run), str(path), "--out", str(tmp_path / "out.ome.tif"), "--mpp", "0.5"])
    assert levels_of(tmp_path / "out.ome.tif")[0][0].shape == (250, 350, 3)
    main(["translate", str(run), str(path), "--out", str(tmp_path / "whole.tif")])
    assert tifffile.imread(tmp_path / "whole.tif").shape == (500, 700, 3)


def test_memory_is_that_of_rows_of_tiles(run, tmp_path, monkeypatch):
    """Each call asks for a few rows, whatever the height of the slide."""
    path = write_slide(tmp_path / "slide.svs", draw_tissue(400, 1600)[0], levels=(4,))
    tallest = 0
    read = SlideReader.read

    def watched(self, box):
        nonlocal tallest
        tallest = max(tallest, box.bottom - box.top)
        return read(self, box)

    monkeypatch.setattr(SlideReader, "read", watched)
    translate_large(Translator.load(run), path, tmp_path / "out.ome.tif", tile=64)
    assert tallest < 300


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mpp", "0"], "--mpp is 0; expected microns per pixel"),
        (["--mpp", "0.5", "--page", "2"], "--mpp is 0.5 and --page is 2; give one of them"),
        (["--mpp", "0.1"], "coarser than 0.1; choose 0.25 or more"),
        (["--page", "7"], "has 2 levels, and the level is 6, counted from 0"),
        (["--compression", "jpeg", "--out", "x.tif"], "that is for 8-bit grey and RGB in an .ome.tif"),
        (["--tile", "none"], "is a whole slide, which is read in tiles only"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, svs, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(svs), "--out", "x.ome.tif", *flags])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_refuses_slides_and_names_the_command(svs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "other.svs").write_bytes(svs.read_bytes() + b"more")
    with pytest.raises(InputError, match="cut tiles from it .cyclegan tiles"):
        train(svs.parent, other, out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})


def test_a_model_of_tiles_translates_slides_at_their_scale(svs, tmp_path, capsys):
    for name, mpp in (("a", 0.5), ("b", 1.0)):
        cut_tiles(svs, tmp_path / name, TileOptions(size=24, mpp=mpp))
    run = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})
    main(["translate", str(run), str(svs), "--out", str(tmp_path / "a2b.ome.tif")])
    assert "is read at level 0 at 0.5 microns per pixel, resampled, 350 x 250 pixels" in capsys.readouterr().err
    main(["translate", str(run), str(svs), "--out", str(tmp_path / "b2a.ome.tif"), "--direction", "b2a"])
    assert levels_of(tmp_path / "b2a.ome.tif")[0][0].shape == (125, 175, 3)
    main(["translate", str(run), str(svs), "--out", str(tmp_path / "fine.ome.tif"), "--page", "1"])
    assert levels_of(tmp_path / "fine.ome.tif")[0][0].shape == (500, 700, 3)


def test_the_value_of_holes_is_that_which_is_asked_for(run, tmp_path):
    values = draw_tissue(512, 256)[0].clip(0, 250)
    values[:128, 256:] = 255  # not scanned
    slide = write_slide(tmp_path / "slide.svs", values, levels=(4,))
    translator = Translator.load(run).with_reading(nodata=255)
    translate_large(translator, slide, tmp_path / "out.ome.tif", tile=64)
    made = load_raster(tmp_path / "out.ome.tif", 3)
    is_hole = (at_scale(slide) == 255).all(-1)
    assert is_hole[:120, 264:].all()
    assert not is_hole[136:].any()
    assert np.array_equal(~made.valid, is_hole)
    assert levels_of(tmp_path / "out.ome.tif")[2].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    tifffile.imwrite(tmp_path / "whole.tif", at_scale(slide), photometric="rgb")
    expected = translator(read_as(tmp_path / "whole.tif", translator.source))
    assert np.abs(levels_of(tmp_path / "out.ome.tif")[0][0].astype(int) - expected)[~is_hole].max() <= 1


def test_the_levels_of_a_slide_are_no_pages_of_their_own(run, svs, tmp_path, capsys):
    message = "is a whole slide, whose pages are levels of one image; leave out --pages all"
    with pytest.raises(InputError, match=message):
        translate_folder(run, svs, tmp_path / "out", pages="all")
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "one.svs").write_bytes(svs.read_bytes())
    write_slide(slides / "two.tif", draw_tissue(300, 200)[0], levels=(2,))
    Image.fromarray(draw_tissue(60, 50)[0]).save(slides / "three.tif")
    with pytest.raises(SystemExit) as stopped:
        main(["translate", str(run), str(slides), "--out", str(tmp_path / "out"), "--pages", "all", "--mpp", "0.5"])
    assert stopped.value.code == 1
    assert " ".join(capsys.readouterr().err.split()).count(message) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["three.tif"]


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_all_commands_read_a_pyramid_at_the_scale_of_the_model(run, svs, tmp_path, suffix):
    path = tmp_path / "images" / f"image{suffix}"
    path.parent.mkdir()
    if suffix == ".tif":
        write_slide(path, draw_tissue(700, 500)[0], levels=(4,))
    else:
        translate_large(Translator.load(run), svs, path, tile=256)
    translator = Translator.load(run).with_reading(mpp=0.5)
    read = read_as(path, translator.source)
    assert np.array_equal(read, at_scale(path, mpp=0.5))
    assert read.shape == (250, 350, 3)
    assert load_raster(path, 3).values.shape == (500, 700, 3)
    assert load_raster(path, 3, ImageFormat(mpp=1.0, page=1)).values.shape == (500, 700, 3)
    translate_large(translator, path, tmp_path / "large.ome.tif", tile=64, compression="lossless")
    assert np.abs(np.asarray(translator(path), int) - levels_of(tmp_path / "large.ome.tif")[0][0]).max() <= 1
    translate_folder(translator, path, tmp_path / "small.tif", short_side=64)
    assert tifffile.imread(tmp_path / "small.tif").shape == (250, 350, 3)
    test_images = TestImages("A", path.parent, [path], translator.source, None)
    assert test_images.read(path)[0].shape == (3, 250, 350)
    with pytest.raises(InputError, match="coarser than 0.1"):
        read_as(path, ImageFormat(mpp=0.1))


# ---- other images


@pytest.mark.parametrize("tile", [None, 64])
def test_any_image_becomes_an_ome_tiff_by_its_name(run, tmp_path, tile):
    values = draw_tissue(700, 500)[0]
    metadata = Metadata(resolution=(50800.0, 25400.0), description="Schnitt ä <1>")
    write_image(tmp_path / "in.tif", Raster(values, metadata=metadata))
    flags = [] if tile is None else ["--tile", str(tile)]
    main(["translate", str(run), str(tmp_path / "in.tif"), "--out", str(tmp_path / "out.ome.tif"), *flags])
    levels, about, page = levels_of(tmp_path / "out.ome.tif")
    assert np.abs(levels[0] - Translator.load(run)(values).astype(int)).max() <= 1
    assert np.array_equal(levels[1], halve(levels[0]))
    assert (about["PhysicalSizeX"], about["PhysicalSizeY"]) == (0.5, 1.0)
    assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    back = load_raster(tmp_path / "out.ome.tif", 3)
    assert np.array_equal(back.values, levels[0])
    assert (back.metadata.description, back.metadata.resolution) == (metadata.description, metadata.resolution)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_deep_images_become_ome_tiffs(deep_run, tmp_path, direction):
    translator = Translator.load(deep_run, direction=direction)
    shape, dtype = ((70, 50, 1), np.uint16) if direction == "a2b" else ((70, 50, 5), np.float32)
    values = np.random.default_rng(0).random(shape) * 2
    write_image(tmp_path / "in.tif", values.astype(dtype))
    translate_large(translator, tmp_path / "in.tif", tmp_path / "out.ome.tif", tile=32)
    levels, about, _ = levels_of(tmp_path / "out.ome.tif")
    assert levels[0].dtype == translator.target.dtype
    assert about["SizeC"] == translator.target.channels
    assert about["Type"] == {"float32": "float", "uint16": "uint16"}[translator.target.dtype]


def test_types_without_a_name_in_ome_xml_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot hold 1 channels of int64"):
        write_image(tmp_path / "x.ome.tif", np.zeros((8, 8, 1), np.int64))


def test_what_the_file_cannot_hold_is_said_before_the_work(run, svs, tmp_path):
    translator = Translator.load(run)
    translator.target = ImageFormat(dtype="int64")
    with pytest.raises(InputError, match="x.ome.tif: files of this kind cannot hold 3 x int64"):
        translate_large(translator, svs, tmp_path / "x.ome.tif")
    assert list(tmp_path.iterdir()) == []


def test_jpeg_and_transparency_exclude_each_other(run, tmp_path):
    values = np.concatenate([draw_tissue(90, 70)[0], np.full((70, 90, 1), 99, np.uint8)], -1)
    Image.fromarray(values).save(tmp_path / "in.png")
    with pytest.raises(InputError, match="compress it without loss"):
        translate_large(Translator.load(run), tmp_path / "in.png", tmp_path / "x.ome.tif", compression="jpeg")
    translate_large(Translator.load(run), tmp_path / "in.png", tmp_path / "x.ome.tif")
    assert np.array_equal(load_raster(tmp_path / "x.ome.tif", 3).alpha, values[..., 3])


def test_the_description_of_another_ome_tiff_is_understood_and_not_copied():
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        "<Description>kidney</Description>"
        '<Pixels ID="Pixels:0" PhysicalSizeX="500" PhysicalSizeXUnit="nm" PhysicalSizeY="1"/></Image></OME>'
    )
    found = without_ome(Metadata(description=xml))
    assert found.description == "kidney"
    assert found.resolution == pytest.approx((50800, 25400))
    assert without_ome(Metadata(description="plain text")).description == "plain text"
    assert without_ome(Metadata(description=xml[:-40] + "OME>")).description is None  # damaged
    endless = xml.replace("<OME", '<!DOCTYPE x [<!ENTITY a "b">]><OME', 1)
    assert without_ome(Metadata(description=endless)).description is None


@pytest.fixture(scope="module")
def dicom_slide(tmp_path_factory):
    """A folder that holds a slide in DICOM: two levels and a label."""
    pytest.importorskip("pydicom")
    from make_dicom_slide import write_dicom_slide

    folder = tmp_path_factory.mktemp("dicom") / "slide"
    values, _ = draw_tissue(520, 400)
    write_dicom_slide(folder, values)
    return folder, values


def test_a_slide_in_dicom_is_one_slide_for_every_command(dicom_slide, tmp_path):
    folder, values = dicom_slide
    assert [path.name for path in list_images(folder)] == ["volume1.dcm"]
    assert file_format_of(folder / "volume1.dcm") is FILE_FORMATS["slide"]
    copy = tmp_path / "without" / "IM1"
    copy.parent.mkdir()
    copy.write_bytes((folder / "volume1.dcm").read_bytes())
    assert [path.name for path in list_images(copy.parent)] == ["IM1"]
    assert near(at_scale(copy), values)
    assert at_scale(folder / "volume1.dcm", mpp=2.0).shape == (100, 130, 3)
    for read in (probe_image, lambda path: read_as(path, ImageFormat())):
        with pytest.raises(InputError, match=r"is a whole slide, which is read in tiles only; .* \(cyclegan tiles\)"):
            read(folder / "volume1.dcm")
    cut = cut_tiles([folder], tmp_path / "tiles", TileOptions(size=64, mpp=0.5))
    assert sum(len(plan.tiles) for plan in cut.plans.values()) > 2
    assert cut.skipped == ()


@pytest.mark.parametrize("mpp", [None, 1.0])
def test_a_slide_in_dicom_becomes_a_pyramid(dicom_slide, run, tmp_path, mpp):
    folder, _ = dicom_slide
    result = translate_folder(run, folder, tmp_path / "out", tile=64, mpp=mpp)
    assert [target.name for _, target in result.written] == ["volume1.ome.tif"]
    assert result.skipped == ()
    by_pattern = translate_folder(run, f"{folder}/*.dcm", tmp_path / "again", tile=64, mpp=mpp)
    assert [target.name for _, target in by_pattern.written] == ["volume1.ome.tif"]
    levels, about, _ = levels_of(tmp_path / "out" / "volume1.ome.tif")
    assert levels[0].shape == ((400, 520, 3) if mpp is None else (200, 260, 3))
    assert about["PhysicalSizeX"] == pytest.approx(mpp or 0.5)
    translator = Translator.load(run).with_reading(mpp=mpp)
    assert near(levels[0], translator(at_scale(folder / "volume1.dcm", mpp=mpp)))
    assert b"Doe" not in (tmp_path / "out" / "volume1.ome.tif").read_bytes()
