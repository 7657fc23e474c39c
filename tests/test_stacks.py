import numpy as np
import pytest
from PIL import Image
from torch import nn

from conftest import TINY
from cyclegan import InputError, train, translate_folder
from cyclegan.cli import main
from cyclegan.errors import UnreadableError
from cyclegan.sequences.registry import find_sequence
from cyclegan.translate.sequence import translate_sequence
from pictures import Negative, make_translator

tifffile = pytest.importorskip("tifffile")


def pages(count=4, shape=(20, 24), dtype="uint16", high=3000, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((count, *shape)) * high).astype(dtype)


def write(path, array, **options):
    """One page after the other, each of its own kind."""
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page, metadata=None, contiguous=False, **options)
    return path


def load(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


@pytest.mark.parametrize(
    ("shape", "dtype", "channels", "high", "options"),
    [
        ((20, 24), "uint8", 1, 255, {"photometric": "minisblack"}),
        ((20, 24, 3), "uint8", 3, 255, {"photometric": "rgb"}),
        ((20, 24), "uint16", 1, 3000, {"photometric": "minisblack"}),
        ((20, 24, 3), "uint16", 3, 3000, {"photometric": "rgb"}),
        ((20, 24), "float32", 1, 2, {"photometric": "minisblack", "compression": "adobe_deflate"}),
        ((5, 20, 24), "int16", 5, 3000, {"photometric": "minisblack", "planarconfig": "separate"}),
    ],
)
def test_every_page_is_translated_in_its_own_type(tmp_path, shape, dtype, channels, high, options):
    array = pages(shape=shape, dtype=dtype, high=high)
    source = write(tmp_path / "x.tif", array, resolution=(72, 144), resolutionunit=2, **options)
    translator = make_translator(Negative(), a=channels, b=channels, dtype=dtype, high=float(high))
    made = translate_sequence(translator, source, tmp_path / "y.tif", batch_size=3)
    assert made.num_frames == 4
    found = load(tmp_path / "y.tif")
    assert len(found) == 4
    for before, after in zip(array, found, strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        np.testing.assert_allclose(after, high - before.astype(float), atol=0.6 if dtype != "float32" else 1e-5)
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        for page in file.pages:
            assert (page.tags["XResolution"].value[0], page.tags["YResolution"].value[0]) == (72, 144)
            assert (page.compression != 1) == ("compression" in options)
    assert made.notes == made.damage == ()


def test_channels_and_type_may_change(tmp_path):
    source = write(tmp_path / "x.tif", pages(dtype="uint8", high=255), photometric="minisblack")
    translator = make_translator(nn.Identity(), a=3, b=3)
    translate_sequence(translator, source, tmp_path / "y.tif")
    assert [page.shape for page in load(tmp_path / "y.tif")] == [(20, 24, 3)] * 4


def test_the_slices_and_voxels_of_imagej_stay(tmp_path):
    array = pages(6).reshape(2, 3, 20, 24)
    options = {"metadata": {"axes": "TZYX", "spacing": 2.5, "unit": "um", "min": 3.0, "max": 90.0}}
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, resolution=(5, 5), **options)
    translator = make_translator(a=1, b=1, dtype="uint16", high=3000.0)
    translate_sequence(translator, tmp_path / "x.tif", tmp_path / "y.tif")
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert file.is_imagej
        assert (file.series[0].axes, file.series[0].shape) == ("TZYX", (2, 3, 20, 24))
        about = file.imagej_metadata
        assert (about["spacing"], about["unit"]) == (2.5, "um")
        assert "min" not in about
        np.testing.assert_allclose(file.asarray(), array, atol=1)


def test_ome_axes_stay_where_they_are_true_and_are_said_where_not(tmp_path):
    array = pages(6).reshape(2, 3, 20, 24)
    options = {"metadata": {"axes": "TZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}}
    tifffile.imwrite(tmp_path / "x.ome.tif", array, ome=True, **options)
    translator = make_translator(a=1, b=1, dtype="uint16", high=3000.0)
    made = translate_sequence(translator, tmp_path / "x.ome.tif", tmp_path / "y.ome.tif")
    assert made.notes == ()
    with tifffile.TiffFile(tmp_path / "y.ome.tif") as file:
        assert file.is_ome
        assert (file.series[0].axes, file.series[0].shape) == ("TZYX", (2, 3, 20, 24))
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
        np.testing.assert_allclose(file.asarray(), array, atol=1)
    three = make_translator(nn.Conv2d(1, 3, 1), a=1, b=3, dtype="uint16", high=3000.0)
    made = translate_sequence(three, tmp_path / "x.ome.tif", tmp_path / "z.tif")
    assert made.notes == ("z.tif has other channels than its source, so its OME axes are lost.",)
    assert [page.shape for page in load(tmp_path / "z.tif")] == [(20, 24, 3)] * 6


def test_holes_and_place_of_each_page_stay(tmp_path):
    array = pages(3, dtype="float32", high=2.0)
    place = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True)]
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for index, page in enumerate(array):
            page[index : index + 4, :5] = -9999
            tags = [*place, (42113, 2, 0, "-9999", True)]
            writer.write(page, metadata=None, contiguous=False, extratags=tags, description=f"page {index}")
    translator = make_translator(Negative(), a=1, b=1, dtype="float32", high=2.0)
    translate_sequence(translator, tmp_path / "x.tif", tmp_path / "y.tif")
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        for index, page in enumerate(file.pages):
            values = page.asarray()
            np.testing.assert_array_equal(values == -9999, array[index] == -9999)
            good = values != -9999
            np.testing.assert_allclose(values[good], 2 - array[index][good], atol=1e-4)
            assert page.tags[33922].value == (0.0, 0.0, 0.0, 5e5, 4e6, 0.0)
            assert page.description == f"page {index}"
            assert float(page.tags[42113].value) == -9999


def test_overviews_and_masks_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for index in range(2):
            writer.write(pages(1, seed=index)[0], metadata=None, contiguous=False)
            writer.write(pages(1, (10, 12))[0], metadata=None, contiguous=False, subfiletype=1)
    translator = make_translator(a=1, b=1, dtype="uint16", high=3000.0)
    assert translate_sequence(translator, tmp_path / "x.tif", tmp_path / "y.tif").num_frames == 2
    with tifffile.TiffWriter(tmp_path / "one.tif") as writer:
        writer.write(pages(1)[0], metadata=None, contiguous=False)
        writer.write(pages(1, (10, 12))[0], metadata=None, contiguous=False, subfiletype=1)
    assert find_sequence(tmp_path / "one.tif", all_pages=True) is None


def test_a_tiff_is_a_stack_only_where_all_pages_are_asked_for(tmp_path):
    source = write(tmp_path / "x.tif", pages())
    assert find_sequence(source) is None
    assert find_sequence(source, all_pages=True) is not None


def test_pages_that_cannot_be_taken_are_refused_in_one_sentence(tmp_path):
    source = write(tmp_path / "x.tif", [pages(1)[0], pages(1, (10, 12))[0]])
    translator = make_translator(a=1, b=1, dtype="uint16", high=3000.0)
    with pytest.raises(InputError, match="pages of different sizes: page 1 has 24x20 pixels, page 2 has 12x10"):
        translate_sequence(translator, source, tmp_path / "y.tif")
    source = write(tmp_path / "x.tif", [pages(1)[0], pages(1, dtype="float32")[0]])
    with pytest.raises(InputError, match="Page 2 of .*x.tif is 1 x float32, and the model takes 1 x uint16"):
        translate_sequence(translator, source, tmp_path / "y.tif")
    with pytest.raises(InputError, match="holds one picture, not several"):
        translate_sequence(translator, write(tmp_path / "one.tif", pages(1)), tmp_path / "y.tif")
    with pytest.raises(InputError, match="cannot hold 1 x uint16"):
        translate_sequence(translator, write(tmp_path / "x.tif", pages()), tmp_path / "y.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tif", "x.tif"]


def test_pages_before_a_damaged_one_are_kept(tmp_path):
    source = write(tmp_path / "x.tif", pages(dtype="float32", high=1), compression="adobe_deflate")
    with tifffile.TiffFile(source) as file:
        places = [(page.dataoffsets[0], page.databytecounts[0]) for page in file.pages]
    content = bytearray(source.read_bytes())
    for index, expected in ((2, 2), (0, None)):
        begin, count = places[index]
        content[begin : begin + count] = bytes(count)
        source.write_bytes(content)
        translator = make_translator(a=1, b=1, dtype="float32", high=1.0)
        if expected is None:
            with pytest.raises(UnreadableError, match="x.tif is damaged"):
                translate_sequence(translator, source, tmp_path / "z.tif")
        else:
            made = translate_sequence(translator, source, tmp_path / "y.tif")
            assert made.num_frames == len(load(tmp_path / "y.tif")) == expected
            assert made.damage == ("x.tif is damaged after page 2 of 4; the pages before it are kept.",)


@pytest.mark.parametrize(("share", "expected"), [(0.3, 1), (0.7, 3)])
def test_pages_before_a_missing_end_are_kept(tmp_path, share, expected):
    source = write(tmp_path / "x.tif", pages(5, dtype="float32", high=1))
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    translator = make_translator(a=1, b=1, dtype="float32", high=1.0)
    made = translate_sequence(translator, source, tmp_path / "y.tif")
    assert made.num_frames == len(load(tmp_path / "y.tif")) == expected
    assert len(made.damage) == 1
    assert "x.tif" in made.damage[0]


def test_a_stack_becomes_an_animation_and_an_animation_a_stack(tmp_path):
    frames = [Image.new("RGB", (24, 20), (60 * index, 0, 0)) for index in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=50)
    translate_sequence(make_translator(), tmp_path / "x.gif", tmp_path / "y.tif")
    assert [page[0, 0, 0] for page in load(tmp_path / "y.tif")] == [0, 60, 120]
    translate_sequence(make_translator(), tmp_path / "y.tif", tmp_path / "z.gif")
    with Image.open(tmp_path / "z.gif") as picture:
        assert (picture.n_frames, picture.info["duration"]) == (3, 100)


def test_stabilised_stacks_differ_and_begin_alike(tmp_path):
    still = pages(1)[0] // 2
    array = [still + 400 * (index % 2) for index in range(8)]
    source = write(tmp_path / "x.tif", np.stack(array).astype("uint16"))
    model = make_translator(nn.Sequential(nn.InstanceNorm2d(1)), a=1, b=1, dtype="uint16", high=3000.0)
    means = []
    for stabilise in (False, True):
        translate_sequence(model, source, tmp_path / "y.tif", stabilise=stabilise)
        means.append([page.mean() for page in load(tmp_path / "y.tif")])
    plain, stable = means
    assert stable[0] == pytest.approx(plain[0], abs=2)
    assert max(np.abs(np.diff(plain))) < 40 < max(np.abs(np.diff(stable)))


@pytest.fixture(scope="module")
def grey_run(tmp_path_factory):
    """A run of 16-bit grey."""
    root = tmp_path_factory.mktemp("grey")
    for seed, name in enumerate("ab"):
        (root / name).mkdir()
        for index, page in enumerate(pages(3, seed=seed)):
            tifffile.imwrite(root / name / f"{index}.tif", page)
    settings = {**TINY, "steps": 2, "channels_a": 1, "channels_b": 1}
    return train(root / "a", root / "b", out=root / "run", quiet=True, **settings)


def test_the_command_translates_all_pages_or_one(grey_run, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "stack.tif", pages())
    tifffile.imwrite(folder / "one.tif", pages(1)[0])
    words = ["translate", str(grey_run), str(folder), "--out", str(out), "--stabilise", "--precision", "fp32"]
    main([*words, "--pages", "all"])
    assert [len(load(out / name)) for name in ("stack.tif", "one.tif")] == [4, 1]
    shown = capsys.readouterr()
    assert "1 image translated" in shown.out
    assert "4 frames translated into" in shown.out
    # One page is the same as that page of the stack, without a memory of the others.
    main(["translate", str(grey_run), str(folder / "stack.tif"), "--out", str(tmp_path / "all.tif"), "--pages", "all"])
    main(["translate", str(grey_run), str(folder / "stack.tif"), "--out", str(tmp_path / "p3.tif"), "--page", "3"])
    np.testing.assert_array_equal(load(tmp_path / "p3.tif")[0], load(tmp_path / "all.tif")[2])
    with pytest.raises(SystemExit):
        main([*words, "--pages", "all", "--page", "2"])
    assert "--page is one page, and --pages is all; give one of them." in capsys.readouterr().err


def test_a_folder_from_python_translates_stacks_and_animations_too(grey_run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "stack.tif", pages())
    write(folder / "bad.tif", [pages(1)[0], pages(1, (10, 12))[0]])
    result = translate_folder(grey_run, folder, tmp_path / "out", pages="all")
    assert [source.name for source, _ in result.written] == ["stack.tif"]
    assert len(load(tmp_path / "out" / "stack.tif")) == 4
    ((path, reason),) = result.skipped
    assert path.name == "bad.tif"
    assert "pages of different sizes" in reason
    with pytest.raises(InputError, match="pages is 'every'; expected all"):
        translate_folder(grey_run, folder, tmp_path / "out", pages="every")


def test_a_stack_in_tiles_is_the_same(grey_run, tmp_path):
    source = write(tmp_path / "x.tif", pages(2, (40, 48)))
    for name, tile in (("whole", None), ("tiles", 32)):
        translate_folder(grey_run, source, tmp_path / f"{name}.tif", pages="all", tile=tile, precision="fp32")
    for whole, tiles in zip(load(tmp_path / "whole.tif"), load(tmp_path / "tiles.tif"), strict=True):
        np.testing.assert_allclose(whole.astype(int), tiles, atol=1)
