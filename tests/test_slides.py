"""Whole slides: read at any scale by region, tiles cut by tissue."""

import csv
import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image, ImageCms

from cyclegan.cli import main
from cyclegan.datasets import slide_tiles
from cyclegan.datasets.slide_tiles import TileOptions, cut_tiles
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import read_image
from cyclegan.images.filetypes.slides import SlideReader, choose_scale, open_slide
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import Box
from cyclegan.images.tissue import find_tissue
from make_slide import GLASS, draw_tissue, write_slide


@pytest.fixture(scope="module")
def drawn():
    return draw_tissue(1500, 1100)


@pytest.fixture(scope="module")
def svs(tmp_path_factory, drawn):
    return write_slide(tmp_path_factory.mktemp("slides") / "slide.svs", drawn[0])


def read_all(path, **reading):
    reader = SlideReader.open(path, ImageFormat(**reading))
    values = reader.read(Box(0, reader.height, 0, reader.width))
    reader.close()
    return values


# ---- reading


@pytest.mark.parametrize("suffix", [".svs", ".tif"])
def test_a_slide_is_read_at_its_levels(tmp_path, drawn, suffix):
    path = write_slide(tmp_path / f"slide{suffix}", drawn[0])
    assert np.abs(read_all(path).astype(int) - drawn[0]).mean() < 2  # JPEG
    small = np.asarray(Image.fromarray(drawn[0]).resize((375, 275), Image.Resampling.BOX))
    assert np.abs(read_all(path, page=2).astype(int) - small).mean() < 2


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.62, 1.0, 3.0])
def test_a_slide_is_read_at_microns_per_pixel(svs, drawn, mpp):
    values = read_all(svs, mpp=mpp)
    height, width = (int(side / (mpp / 0.25)) for side in (1100, 1500))
    assert abs(values.shape[0] - height) <= 1
    assert abs(values.shape[1] - width) <= 1
    expected = np.asarray(Image.fromarray(drawn[0]).resize(values.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.abs(values.astype(int) - expected).mean() < 3
    reader = SlideReader.open(svs, ImageFormat(mpp=mpp))
    assert [25400 / part for part in reader.metadata.resolution] == pytest.approx([mpp, mpp], rel=0.02)
    reader.close()


@pytest.mark.parametrize("reading", [{}, {"page": 3}, {"mpp": 0.3}, {"mpp": 0.7}])
def test_regions_are_those_of_the_whole_slide(svs, reading):
    whole = read_all(svs, **reading)
    height, width = whole.shape[:2]
    reader = SlideReader.open(svs, ImageFormat(**reading))
    for box in (Box(0, 1, 0, 1), Box(height - 7, height, width - 40, width), Box(11, height // 2, 40, width - 3)):
        assert np.array_equal(reader.read(box), whole[box.top : box.bottom, box.left : box.right])
        direct = reader.read_directly(box).astype(int)
        assert np.abs(direct - whole[box.top : box.bottom, box.left : box.right]).max() <= 2
    reader.close()


def test_memory_does_not_grow_with_the_slide(svs, monkeypatch):
    monkeypatch.setattr("cyclegan.images.filetypes.slides._BLOCK", 32)
    monkeypatch.setattr("cyclegan.images.filetypes.slides._CACHE_BYTES", 1)
    reader = SlideReader.open(svs, ImageFormat())
    for top in range(0, 1100, 100):
        reader.read(Box(top, top + 100, 0, 1500))
        assert len(reader._blocks) <= -(-1500 // 32) + 1
    reader.close()


def test_grey_models_take_luma_and_others_are_refused(svs):
    assert np.array_equal(read_all(svs, channels=1)[..., 0], np.asarray(Image.fromarray(read_all(svs)).convert("L")))
    for other in ({"channels": 4}, {"dtype": "uint16"}):
        with pytest.raises(InputError, match="slide.svs is a whole slide, 8-bit RGB, and the model takes"):
            SlideReader.open(svs, ImageFormat(**other))


def test_colours_are_converted_to_srgb(tmp_path, drawn):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(
        read_all(write_slide(tmp_path / "srgb.svs", drawn[0], profile=profile)),
        read_all(write_slide(tmp_path / "none.svs", drawn[0])),
    )
    # Swap two primaries of sRGB: a profile whose conversion nobody can overlook.
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    path = write_slide(tmp_path / "swapped.svs", drawn[0], profile=swapped)
    plain, converted = read_all(tmp_path / "none.svs").astype(int), read_all(path).astype(int)
    assert np.abs(converted[..., 0] - plain[..., 1]).mean() < 4
    reader = SlideReader.open(path, ImageFormat())
    assert reader.metadata.is_srgb
    assert reader.metadata.profile == swapped
    reader.close()


def test_what_cannot_be_read_is_one_sentence(svs, tmp_path, drawn):
    with open_slide(svs) as slide:
        with pytest.raises(InputError, match="has 3 levels, and the level is 3"):
            choose_scale(svs, slide, level=3)
        with pytest.raises(InputError, match="0.25 microns per pixel, which is coarser than 0.1; choose 0.25 or more"):
            choose_scale(svs, slide, mpp=0.1)
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(UnreadableError, match="text.svs is no slide that OpenSlide reads"):
        open_slide(tmp_path / "text.svs")
    with pytest.raises(UnreadableError, match="none.svs"):
        open_slide(tmp_path / "none.svs")
    content = svs.read_bytes()
    (tmp_path / "cut.svs").write_bytes(content[: len(content) // 3])
    with pytest.raises(UnreadableError, match="cut.svs"):
        read_all(tmp_path / "cut.svs")
    Image.fromarray(drawn[0]).save(tmp_path / "plain.tif")
    with pytest.raises(UnreadableError, match="plain.tif is no slide"):
        open_slide(tmp_path / "plain.tif")


def test_a_damaged_tile_is_unreadable(svs, tmp_path):
    import tifffile

    with tifffile.TiffFile(svs) as file:
        begin, count = file.pages[0].dataoffsets[5], file.pages[0].databytecounts[5]
    content = svs.read_bytes()
    (tmp_path / "bad.svs").write_bytes(content[:begin] + b"\xff" * count + content[begin + count :])
    with pytest.raises(UnreadableError, match="bad.svs is damaged: "):
        read_all(tmp_path / "bad.svs")


# ---- tissue


STAINS = {"strong": (196, 120, 178), "weak": (225, 200, 215), "brown": (190, 150, 110), "blue": (110, 140, 190)}


@pytest.mark.parametrize("stain", STAINS)
def test_tissue_is_found_on_glass(stain):
    values, mask = draw_tissue(1500, 1100, tint=STAINS[stain])
    small = np.asarray(Image.fromarray(values).resize((500, 366), Image.Resampling.LANCZOS))
    expected = np.asarray(Image.fromarray(mask).resize((500, 366)))
    assert (find_tissue(small) == expected).mean() > 0.98


def test_pens_borders_and_dust_are_no_tissue():
    values, mask = draw_tissue(600, 400, pen=True, border=30)
    values[330:380, 500:580] = (150, 150, 151)  # a shadow
    found = find_tissue(values)
    assert not found[:28].any()
    assert not found[:, :28].any()
    assert not found[335:375, 505:575].any() or mask[335:375, 505:575].any()
    is_ink = (values == (20, 90, 200)).all(-1)
    assert found[is_ink].mean() < 0.05 < mask[is_ink].mean()
    assert found[mask].mean() > 0.8


def test_glass_alone_has_no_tissue_and_tissue_alone_no_glass():
    noise = np.random.default_rng(0).normal(0, 3, (200, 300, 3))
    glass = (np.asarray(GLASS) + noise).clip(0, 255).astype(np.uint8)
    assert find_tissue(glass).mean() < 0.001
    tissue = (np.asarray(STAINS["strong"]) + noise).clip(0, 255).astype(np.uint8)
    assert find_tissue(tissue).mean() > 0.99


# ---- tiles


def test_tiles_are_cut_by_tissue_at_their_scale(svs, drawn, tmp_path):
    result = cut_tiles(svs, tmp_path / "tiles", TileOptions(size=64, mpp=0.5, tissue=0.6))
    (plan,) = result.plans.values()
    assert 10 < len(plan.tiles) == plan.num_found
    assert (plan.level, plan.mpp, plan.downsample) == (0, 0.5, 2.0)
    values, mask = drawn
    for tile in plan.tiles:
        path = tmp_path / "tiles" / "slide" / tile.file
        found = np.asarray(Image.open(path)).astype(int)
        assert found.shape == (64, 64, 3)
        place = slice(tile.y, tile.y + 128), slice(tile.x, tile.x + 128)
        expected = np.asarray(Image.fromarray(values[place]).resize((64, 64), Image.Resampling.LANCZOS))
        assert np.abs(found - expected).mean() < 4
        assert mask[place].mean() == pytest.approx(tile.tissue, abs=0.1)
        assert Image.open(path).info["dpi"] == pytest.approx((50800, 50800), rel=1e-3)
    # Every other whole tile has too little.
    grid = {(x * 128, y * 128) for x in range(11) for y in range(8)}
    for x, y in grid - {(tile.x, tile.y) for tile in plan.tiles}:
        assert mask[y : y + 128, x : x + 128].mean() < 0.7


def test_the_table_and_the_picture_show_the_tiles(svs, tmp_path):
    result = cut_tiles([svs], tmp_path / "tiles", TileOptions(size=64, max_tiles=9))
    (plan,) = result.plans.values()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tiles" / "tiles.csv").read_text())))
    assert [row["file"] for row in rows] == [f"slide/{tile.file}" for tile in plan.tiles]
    assert all((tmp_path / "tiles" / row["file"]).is_file() for row in rows)
    assert {row["mpp"] for row in rows} == {"0.5"}
    with Image.open(tmp_path / "tiles_overview" / "slide.jpg") as picture:
        greens = np.asarray(picture).astype(int)
    assert greens.shape == (1100, 1500, 3)
    tile = plan.tiles[0]
    edge = greens[tile.y : tile.y + 3, tile.x + 20 : tile.x + 100].mean((0, 1))
    assert edge[1] > edge[0] + 40


def test_tiles_are_spread_and_the_same_each_time(svs, tmp_path):
    few = cut_tiles(svs, tmp_path / "a", TileOptions(size=32, max_tiles=10)).plans[tmp_path / "a" / "slide"]
    again = cut_tiles(svs, tmp_path / "b", TileOptions(size=32, max_tiles=10)).plans[tmp_path / "b" / "slide"]
    assert few == again
    assert len(few.tiles) == 10 < few.num_found
    assert max(tile.y for tile in few.tiles) - min(tile.y for tile in few.tiles) > 500


def test_the_same_call_goes_on_and_adds_slides(svs, drawn, tmp_path):
    slides = tmp_path / "slides"
    (slides / "sub").mkdir(parents=True)
    (slides / "one.svs").write_bytes(svs.read_bytes())
    options = TileOptions(size=64)

    class StopError(Exception):
        pass

    def stop(_slide, done, _count):
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        cut_tiles(slides, tmp_path / "tiles", options, on_tile=stop)
    begun = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tiles" / "one").glob("x*.png")}
    assert len(begun) >= 3
    write_slide(slides / "sub" / "two.tif", drawn[0][:600, :800])
    first = cut_tiles(slides, tmp_path / "tiles", options)
    assert [folder.relative_to(tmp_path / "tiles").as_posix() for folder in first.plans] == ["one", "sub/two"]
    for name, changed in begun.items():
        assert (tmp_path / "tiles" / "one" / name).stat().st_mtime_ns == changed
    for folder, plan in first.plans.items():
        assert len(list(folder.glob("x*.png"))) == len(plan.tiles) > 0
    with pytest.raises(InputError, match="one holds tiles with size 64, and this call has 32"):
        cut_tiles(slides, tmp_path / "tiles", TileOptions(size=32))
    (slides / "one.svs").write_bytes(svs.read_bytes() + b"more")
    with pytest.raises(InputError, match="one holds tiles of another slide, one.svs"):
        cut_tiles(slides, tmp_path / "tiles", options)


def test_slides_that_do_not_fit_are_left_out_by_name(svs, drawn, tmp_path, capsys):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "good.svs").write_bytes(svs.read_bytes())
    (slides / "bad.svs").write_bytes(b"no slide")
    write_slide(slides / "coarse.svs", drawn[0], mpp=2.0)
    write_slide(slides / "glass.svs", np.full((600, 800, 3), GLASS, np.uint8))
    with pytest.raises(SystemExit) as stopped:
        main(["tiles", str(slides), "--out", str(tmp_path / "tiles"), "--size", "64", "--max-tiles", "0"])
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert f"Left out: {slides / 'bad.svs'} is no slide that OpenSlide reads" in shown.err
    assert f"Left out: {slides / 'coarse.svs'} has 2 microns per pixel, which is coarser than 0.5" in shown.err
    assert "glass.svs: no tile has enough tissue" in shown.err
    assert "tiles of 2 slides in" in shown.out
    assert sorted(path.name for path in (tmp_path / "tiles").glob("[!.]*")) == ["good", "tiles.csv"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tissue", "1.5"], "--tissue is 1.5; expected a share from 0 to 1"),
        (["--size", "4"], "--size is 4; expected at least 16 pixels"),
        (["--mpp", "0.5", "--level", "1"], "--mpp is 0.5 and --level is 1; give one of them"),
        (["--mpp", "0"], "--mpp is 0; expected microns per pixel"),
        (["--max-tiles", "-3"], "--max-tiles is -3; expected at least 1"),
    ],
)
def test_wrong_options_are_one_sentence(svs, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        main(["tiles", str(svs), "--out", str(tmp_path / "tiles"), *flags])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tiles").exists()


def test_a_folder_without_slides_and_equal_names_are_refused(svs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no slides; expected files .svs"):
        cut_tiles(tmp_path / "empty", tmp_path / "tiles")
    with pytest.raises(InputError, match="There is no slide or folder"):
        cut_tiles(tmp_path / "none.svs", tmp_path / "tiles")
    (tmp_path / "slide.svs").write_bytes(svs.read_bytes())
    with pytest.raises(InputError, match="would both write tiles to"):
        cut_tiles([svs, tmp_path / "slide.svs"], tmp_path / "tiles")


def test_without_openslide_the_install_line_is_named(svs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[slides\]'"):
        open_slide(svs)


def test_an_overview_is_made_in_bounded_memory(svs, monkeypatch):
    monkeypatch.setattr(slide_tiles, "_OVERVIEW_SIDE", 100)
    with open_slide(svs) as slide:
        picture, factor = slide_tiles._small_picture(svs, slide)
    assert max(picture.shape) in (99, 100)
    assert factor == pytest.approx(15)


def test_tiles_are_srgb_and_not_converted_again(tmp_path, drawn):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    path = write_slide(tmp_path / "swapped.svs", drawn[0], profile=swapped)
    result = cut_tiles(path, tmp_path / "tiles", TileOptions(size=64, level=0, max_tiles=2))
    plan = result.plans[tmp_path / "tiles" / "swapped"]
    with closing(SlideReader.open(path, ImageFormat())) as reader:
        for tile in plan.tiles:
            values = reader.read_directly(Box(tile.y, tile.y + 64, tile.x, tile.x + 64))
            assert np.array_equal(read_image(tmp_path / "tiles" / "swapped" / tile.file, 3), values)
