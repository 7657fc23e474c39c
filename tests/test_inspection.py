"""What `cyclegan inspect` finds: each test makes one thing that is wrong, and looks for it by name."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from rich.console import Console
from tifffile import TiffWriter

from conftest import TINY, make_folder
from cyclegan import InputError, train
from cyclegan.cli import main
from cyclegan.config import make_config, to_toml
from cyclegan.images import identical
from cyclegan.images import near_copies as near
from cyclegan.images.codecs import write_image
from cyclegan.images.identical import equal_files
from cyclegan.images.near_copies import near_copies
from cyclegan.images.raster import Raster
from cyclegan.inspection import inspect_folders, survey
from cyclegan.inspection.survey import survey_folder
from cyclegan.inspection.view import show_inspection, write_inspection


@pytest.fixture
def pair(tmp_path):
    """Two folders of ten different pictures each."""
    return make_folder(tmp_path / "a", 10, (64, 64)), make_folder(tmp_path / "b", 10, (64, 64), seed=1)


def look(*folders, **others):
    return inspect_folders(*folders, quiet=True, **others)


def advice(inspection, topic, problem=True):
    return " ".join(advice.text for advice in inspection.advice if advice.topic == topic and advice.problem == problem)


def copies(inspection, folder, of):
    (found,) = [found for found in inspection.copies if (found.folder, found.of) == (folder, of)]
    return {(str(copy.file), str(copy.of), copy.exact) for copy in found.copies}


def shown(inspection, width=80):
    """What stands on a terminal of that width."""
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    with console.capture() as capture:
        show_inspection(inspection, console)
    return capture.get()


# ---- files


def test_counts_sizes_and_formats_are_shown_for_each_folder(pair):
    a, b = pair
    Image.new("RGB", (200, 100), "red").save(a / "wide.jpg")
    Image.new("L", (10, 12)).save(a / "small.webp")
    (a / ".hidden.png").write_bytes(b"no image")
    (a / "notes.txt").write_text("mine")
    folder = look(a, b).folders["A"]
    assert len(folder) == 12
    assert not folder.unreadable
    assert folder.formats == {"PNG": 10, "JPEG": 1, "WEBP": 1}
    assert (folder.smallest.width, folder.smallest.height, folder.smallest.file) == (10, 12, Path("small.webp"))
    assert (folder.largest.width, folder.largest.height) == (200, 100)
    assert (folder.most_common.width, folder.most_common.count, folder.num_sizes) == (64, 10, 3)
    assert folder.ignored == {".txt": 1}


def test_a_file_is_recognised_by_its_content_not_by_its_name(pair):
    a, b = pair
    Image.new("RGB", (64, 64), "red").save(a / "named.png", "JPEG")
    assert look(a, b).folders["A"].formats == {"PNG": 10, "JPEG": 1}


def test_a_truncated_file_with_a_good_header_is_found_by_name(pair):
    a, b = pair
    picture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(picture).save(b / "cut.jpg")
    whole = (b / "cut.jpg").read_bytes()
    (b / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (b / "empty.png").write_bytes(b"")
    found = look(a, b)
    assert Image.open(b / "cut.jpg").size == (200, 200)
    assert [file.name for file, _ in found.folders["B"].unreadable] == ["cut.jpg", "empty.png"]
    assert len(found.folders["B"]) == 10
    assert "2 of the 12 images of B" in advice(found, "files")
    assert "truncated" in shown(found)


def test_mixed_types_are_a_problem(pair):
    a, b = pair
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(a / "deep.png")
    found = look(a, b)
    assert found.folders["A"].dtypes == {"uint8": 10, "uint16": 1}
    assert "10 uint8, 1 uint16" in advice(found, "types")
    assert "training uses the 10 uint8 alone" in advice(found, "types")  # as it does


def test_types_of_which_none_is_most_are_refused_by_training(tmp_path):
    make_folder(_made(tmp_path / "a"), 1)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "a" / "deep.png")
    assert "training refuses that" in advice(look(tmp_path / "a"), "types")


def test_a_file_with_infinite_values_is_named(tmp_path):
    for index in range(3):
        np.save(_made(tmp_path / "a") / f"{index}.npy", np.random.default_rng(index).random((32, 32, 2)))
    np.save(tmp_path / "a" / "hole.npy", np.full((32, 32, 2), np.inf))
    (unreadable,) = look(tmp_path / "a").folders["A"].unreadable
    assert unreadable[0] == Path("hole.npy")
    assert "infinite" in unreadable[1]
    assert str(tmp_path) not in unreadable[1]  # the file is named beside


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


def test_deep_images_are_reported_with_their_channels_and_range(tmp_path):
    rng = np.random.default_rng(0)
    _made(tmp_path / "a"), _made(tmp_path / "b")
    for index in range(4):
        Image.fromarray(rng.integers(100, 4000, (40, 40)).astype(np.uint16)).save(tmp_path / "a" / f"{index}.png")
        np.save(tmp_path / "b" / f"{index}.npy", rng.random((40, 40, 5), dtype=np.float32))
    (tmp_path / "b" / "0.npy").unlink()
    hot = rng.random((40, 40, 5), dtype=np.float32)
    hot[0, 0] = 900
    np.save(tmp_path / "b" / "hot.npy", hot)
    found = look(tmp_path / "a", tmp_path / "b")
    a, b = found.folders["A"], found.folders["B"]
    assert (a.kinds, b.kinds) == ({"uint16 1-channel": 4}, {"float32 5-channel": 4})
    assert 100 <= a.low < 200 < 3900 < a.high < 4000
    assert b.high == 900
    assert "--channels-a 1" in advice(found, "channels")
    assert "--channels-b 5" in advice(found, "channels")
    # One hot pixel takes the range; the values that matter are named.
    assert "--range-b 0.0" in advice(found, "range")
    assert b.middle[1] < 1
    # The values of A fill their range.
    assert "--range-a" in advice(found, "range", problem=False)
    assert abs(a.colour.brightness - 0.5) < 0.05


def test_held_out_deep_images_are_seen_in_the_range_of_the_training_images(tmp_path):
    for folder, top in (("a", 1000), ("test", 500)):
        ramp = np.linspace(0, top, 40 * 40).reshape(40, 40).astype(np.uint16)
        for index in range(2):
            Image.fromarray(np.roll(ramp, index)).save(_made(tmp_path / folder) / f"{index}.png")
    found = look(tmp_path / "a", test_a=tmp_path / "test")
    assert found.folders["test A"].colour.brightness == pytest.approx(0.25, abs=0.01)


def test_files_are_read_as_the_flags_of_training_say(tmp_path, capsys):
    for index in range(3):
        values = np.random.default_rng(index).integers(10, 4000, (20, 24, 4)).astype(np.uint16)
        values[:10, :12] = 9
        write_image(_made(tmp_path / "bands") / f"{index}.tif", values)
    grey = make_folder(tmp_path / "grey", 3)
    flags = "--bands-a 4,2 --channels-a 2 --nodata-a 9 --channels-b 1"
    main(["inspect", str(tmp_path / "bands"), str(grey), *flags.split()])
    assert "25% (no data 9)" in " ".join(capsys.readouterr().out.split())

    found = look(tmp_path / "bands", grey, bands_a="4,2", channels_a=2, nodata_a=9, channels_b=1)
    a, b = found.folders["A"], found.folders["B"]
    assert (a.kinds, a.holes.share, a.low >= 10) == ({"uint16 2-channel": 3}, 0.25, True)
    assert b.num_grey == 3
    assert not advice(found, "channels")
    assert "--channels-a 2" in advice(look(tmp_path / "bands", grey, bands_a="4,2"), "channels")
    with pytest.raises(InputError, match="bands_a is 0: '0' is no list of bands"):
        look(grey, bands_a=0)
    with pytest.raises(InputError, match="no setting crop_size; it takes channels_a"):
        look(grey, crop_size=64)


def test_a_run_is_read_with_its_own_channels_and_page_unless_told_otherwise(tmp_path):
    for name in ("a", "b"):
        for index in range(3):
            colours = np.random.default_rng(index).integers(0, 4000, (24, 24, 4)).astype(np.uint16)
            with TiffWriter(_made(tmp_path / name) / f"{index}.tif") as file:
                file.write(np.zeros((30, 30), np.uint8), photometric="minisblack")
                file.write(colours + (name == "b"), photometric="rgb", extrasamples=["unassalpha"])
    settings = {"channels_a": 4, "page": 2, "out": tmp_path / "run", "steps": 1, **TINY}
    run = train(tmp_path / "a", tmp_path / "b", quiet=True, **settings)
    found = look(run)
    assert [folder.kinds for folder in found.folders.values()] == [{"uint16 4-channel": 3}, {"uint16 3-channel": 3}]
    assert not advice(found, "channels")
    other = look(run, page=1, channels_a=3).folders["A"]
    assert (other.kinds, other.largest.width) == ({"L 8-bit": 3}, 30)


def test_volumes_are_looked_at_in_the_slices_of_training(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(0, 900, (20, 22, 24)).astype(np.int16)
    volume = _made(tmp_path / "a") / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), volume)
    axial, sagittal = (look(tmp_path / "a", axis=axis, channels_a=1).folders["A"] for axis in (None, "sagittal"))
    assert (len(axial), axial.largest.width, axial.largest.height) == (24, 20, 22)
    assert (len(sagittal), sagittal.largest.width, sagittal.largest.height) == (20, 22, 24)
    assert (axial.formats, axial.num_bytes) == ({"NII.GZ": 24}, volume.stat().st_size)


# ---- copies


def test_an_exact_copy_is_found_under_any_name_and_container(pair):
    a, b = pair
    shutil.copy(a / "3.png", a / "again.png")
    Image.open(a / "4.png").save(a / "lossless.bmp")
    found = look(a, b)
    assert copies(found, "A", "A") == {("again.png", "3.png", True), ("lossless.bmp", "4.png", True)}
    assert "2 of the 12 images of A repeat another one (2 exact, 0 nearly so)" in advice(found, "copies")


def test_flat_pictures_are_copies_only_when_they_are_exact(tmp_path):
    _made(tmp_path / "a")
    for index, blue in enumerate((100, 100, 101, 102)):
        Image.new("RGB", (32, 32), (10, 20, blue)).save(tmp_path / "a" / f"{index}.png")
    assert copies(look(tmp_path / "a"), "A", "A") == {("1.png", "0.png", True)}


@pytest.mark.parametrize("change", ["recompressed", "rescaled", "mirrored"])
def test_a_resaved_copy_is_found(pair, change):
    a, b = pair
    picture = Image.open(a / "2.png")
    changed = {
        "recompressed": picture,
        "rescaled": picture.resize((150, 150), Image.Resampling.LANCZOS),
        "mirrored": ImageOps.mirror(picture),
    }[change]
    changed.save(a / "z.jpg", quality=75)
    found = look(a, b)
    assert copies(found, "A", "A") == {("z.jpg", "2.png", False)}
    (copy,) = found.copies[0].copies
    assert copy.mirrored == (change == "mirrored")
    assert "z.jpg ~ 2.png" in shown(found)


def test_copies_are_found_across_every_border(pair, tmp_path):
    a, b = pair
    test_a, test_b = (
        make_folder(tmp_path / "ta", 5, (64, 64), seed=2),
        make_folder(tmp_path / "tb", 5, (64, 64), seed=3),
    )
    Image.open(a / "1.png").save(test_a / "leak.jpg", quality=80)
    shutil.copy(b / "1.png", test_b / "leak.png")
    shutil.copy(a / "5.png", b / "both.png")
    found = look(a, b, test_a=test_a, test_b=test_b)
    assert copies(found, "test A", "A") == {("leak.jpg", "1.png", False)}
    assert copies(found, "test B", "B") == {("leak.png", "1.png", True)}
    assert copies(found, "B", "A") == {("both.png", "5.png", True)}
    assert copies(found, "A", "A") == copies(found, "B", "B") == set()
    assert "1 of the 6 images of test A is also in A (0 exact, 1 nearly so)" in advice(found, "copies")
    assert "1 of the 11 images of B is also in A" in advice(found, "copies")


def test_tiles_that_overlap_are_not_copies():
    rng = np.random.default_rng(0)
    world = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).resize((1600, 960), 3)
    tiles = [world.crop((x, y, x + 240, y + 240)) for y in range(0, 720, 240) for x in range(0, 1360, 30)]  # 12.5 %
    thumbnails = np.stack([np.asarray(tile.resize((16, 16), 3), np.float32) / 255 for tile in tiles])
    assert (near_copies(thumbnails)[0] == -1).all()


def test_blocks_of_the_comparison_join_without_seams(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.random((60, 16, 16, 3), dtype=np.float32)
    images[41] = images[7] * 0.99
    images[50] = images[3, :, ::-1]
    whole = near_copies(images)
    monkeypatch.setattr("cyclegan.images.near_copies._ROWS", 7)
    monkeypatch.setattr("cyclegan.images.near_copies._COLUMNS", 4)
    for one, other in zip(whole, near_copies(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert {index: int(whole[0][index]) for index in np.flatnonzero(whole[0] >= 0)} == {41: 7, 50: 3}
    # Against another set: the same pairs, whichever side is brighter.
    other = near_copies(images[40:], images[:40])
    assert {int(index): int(other[0][index]) for index in np.flatnonzero(other[0] >= 0)} == {1: 7, 10: 3}


def pictures(count, seed=0):
    """Thumbnails of one brightness that differ: so the brightness saves no comparison."""
    coarse = np.random.default_rng(seed).random((count, 4, 4, 3), dtype=np.float32)
    values = coarse.repeat(4, 1).repeat(4, 2)
    return 0.5 + 0.3 * (values - values.mean((1, 2, 3), keepdims=True))


def noisy(thumbnails, seed=1):
    return thumbnails + np.random.default_rng(seed).normal(0, 0.005, thumbnails.shape).astype(np.float32)


@pytest.fixture
def hashed(monkeypatch):
    """Sets of more than a few hundred are searched as sets of many thousands are."""
    monkeypatch.setattr(near, "_ALL_PAIRS", 300**2)
    monkeypatch.setattr(near, "_PAIRS_EACH", 64)


@pytest.mark.usefixtures("hashed")
def test_a_large_set_finds_the_copies_that_comparing_all_pairs_finds():
    images = pictures(1200)
    images[700:800] = noisy(images[100:200])
    images[900:950] = noisy(images[200:250, :, ::-1])
    source, difference, _, mirrored = near_copies(images)
    expected = {**{700 + i: 100 + i for i in range(100)}, **{900 + i: 200 + i for i in range(50)}}
    assert {int(i): int(source[i]) for i in np.flatnonzero(source >= 0)} == expected
    assert set(np.flatnonzero(mirrored)) == set(range(900, 950))
    assert difference.max() < 0.025
    # Against another set.
    source = near_copies(noisy(images[:600]), images[600:])[0]
    assert {int(i): int(source[i]) for i in np.flatnonzero(source >= 0)} == {
        **{100 + i: 100 + i for i in range(100)},
        **{200 + i: 300 + i for i in range(50)},
    }


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("num_originals", [1, 24, 300])
def test_each_of_many_near_copies_but_the_first_is_named(num_originals):
    of = np.random.default_rng(3).integers(num_originals, size=3000)
    images = noisy(pictures(num_originals)[of])
    source = near_copies(images)[0]
    first = {int(original): int(np.flatnonzero(of == original)[0]) for original in set(of)}
    assert set(np.flatnonzero(source == -1)) == set(first.values())
    copies = np.flatnonzero(source >= 0)
    assert (of[source[copies]] == of[copies]).all()
    assert (source[copies] < copies).all()


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("kind", ["different", "near copies of one", "near copies in clusters"])
def test_twice_as_many_images_take_twice_as_many_comparisons(kind, monkeypatch):
    compared = []
    products, counts = near._products, near._COUNTS

    def counting_products(x, y, *, paired=False):
        compared.append(len(x) * (1 if paired else len(y)))
        return products(x, y, paired=paired)

    class CountingBits:
        def __getitem__(self, codes):
            compared.append(codes.size // codes.shape[-1])
            return counts[codes]

    monkeypatch.setattr(near, "_products", counting_products)
    monkeypatch.setattr(near, "_COUNTS", CountingBits())
    taken = []
    for count in (2000, 4000):
        compared.clear()
        of = {"different": count, "near copies of one": 1, "near copies in clusters": count // 50}[kind]
        near_copies(noisy(pictures(of)[np.arange(count) % of]))
        taken.append(sum(compared))
    assert 1.5 < taken[1] / taken[0] < 2.5


def test_pictures_that_are_repeated_exactly_are_compared_once(pair, monkeypatch):
    a, b = pair
    compared = []
    vectors = near._Vectors
    monkeypatch.setattr(near, "_Vectors", lambda *given: compared.append(len(given[1])) or vectors(*given))
    for index in range(40):
        shutil.copy(a / "0.png", a / f"same{index}.png")
        Image.open(a / "1.png").save(a / f"lossless{index}.bmp")
    found = look(a, b)
    assert found.copies[0].counts == "80 exact, 0 nearly so"
    assert max(compared) == 10


def test_files_of_the_same_bytes_are_decoded_once(pair, monkeypatch):
    a, _ = pair
    for index in range(20):
        shutil.copy(a / "0.png", a / f"same{index}.png")
    shutil.copy(a / "0.png", a / "same.jpg")  # another suffix may be decoded in another way
    decoded = []
    read = survey.load_raster
    monkeypatch.setattr("cyclegan.inspection.survey.load_raster", lambda *given: decoded.append(given) or read(*given))
    report, prints = survey_folder(a)
    assert len(report) == len(set(report.files)) == 31
    assert len(set(prints.digests)) == 10
    assert len(decoded) <= 10 + 1 + 8  # copies that are decoded beside their original count too


def test_equal_files_are_grouped_and_only_alike_ones_are_read_whole(tmp_path, monkeypatch):
    long = bytes(range(256)) * 100
    contents = {
        "a": b"", "b": b"", "c": b"x", "d": long, "e": long, "f": long[:-1] + b"!",
        "g": long[:9000] + b"!" + long[9001:], "h": b"y", "i": long, "j": long + b"more",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    whole = []
    digest = identical._digest
    monkeypatch.setattr(identical, "_digest", lambda path: whole.append(path.name) or digest(path))
    files = sorted(tmp_path.iterdir())
    (tmp_path / "h").unlink()
    names = [{files[index].name for index in group} for group in equal_files(files)]
    assert names == [{"a", "b"}, {"d", "e", "i"}]
    assert whole == ["a", "b", "d", "e", "g", "i"]


# ---- advice


def test_too_few_and_unequal_images_are_a_problem(tmp_path):
    a, b = make_folder(tmp_path / "a", 104, (8, 8)), make_folder(tmp_path / "b", 5, (8, 8), seed=1)
    found = look(a, b)
    text = advice(found, "count")
    assert "B has 5 images" in text
    assert "A has 104 images and B 5" in text
    assert "each image of B comes 21 times" in text
    assert "A has 104 images. Under" not in text


def test_a_dark_and_flat_domain_is_reported_with_its_numbers(pair):
    a, b = pair
    for path in b.iterdir():
        Image.open(path).point(lambda value: value // 8).save(path)
    found = look(a, b)
    text = advice(found, "colour", problem=False)
    assert "B is much darker than A" in text
    assert "B is much flatter than A" in text
    dark, bright = found.folders["B"].colour, found.folders["A"].colour
    assert dark.brightness < 0.1 < bright.brightness
    assert f"{dark.brightness:.2f}" in text
    assert sum(dark.brightness_histogram) == pytest.approx(1)
    assert sum(dark.brightness_histogram[:5]) == pytest.approx(1)
    assert sum(bright.brightness_histogram[:5]) < 0.7


def test_images_without_colour_are_reported(pair):
    a, b = pair
    for path in b.iterdir():
        Image.open(path).convert("L").convert("RGB").save(path)
    found = look(a, b)
    assert (found.folders["A"].num_grey, found.folders["B"].num_grey) == (0, 10)
    assert "--channels-b 1" in advice(found, "channels", problem=False)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((108, 108), "--crop-size 96 fits"),
        ((300, 300), "resizes all to 286x286 and fits"),
        ((2000, 2000), "reduces it to 286, 7.0 times"),
        ((12, 12), "--crop-size 24 fits"),
    ],
)
def test_the_advised_crop_follows_from_the_sizes(tmp_path, size, expected):
    found = look(make_folder(tmp_path / "a", 2, size))
    assert expected in advice(found, "size") + advice(found, "size", problem=False)


def test_shapes_and_scales_that_differ_are_reported(tmp_path):
    found = look(make_folder(tmp_path / "a", 2, (600, 300)), make_folder(tmp_path / "b", 2, (900, 900)))
    assert "2.00 times as wide as high" in advice(found, "shape", problem=False)
    assert "3.0 times as much in one domain" in advice(found, "scale")


def test_domains_of_other_contents_are_far_apart_and_of_another_tint_are_not(tmp_path):
    a = make_folder(tmp_path / "a", 12, (64, 64))
    tinted = make_folder(tmp_path / "b", 12, (64, 64), tint=(0.6, 0.6, 1.0), seed=1)
    rng = np.random.default_rng(0)
    for index in range(12):
        noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(_made(tmp_path / "noise") / f"{index}.png")
    near, far = look(a, tinted), look(a, tmp_path / "noise")
    assert near.distance.value < 0.25 < far.distance.value
    assert abs(near.distance.half_a) < near.distance.value < near.distance.high
    assert advice(near, "distance", problem=False)
    assert f"is {far.distance.value:.2f}" in advice(far, "distance")
    assert "EfficientNet-Lite0" in advice(far, "distance")


def test_nine_images_are_too_few_for_a_distance_and_it_says_so(tmp_path):
    found = look(make_folder(tmp_path / "a", 9), make_folder(tmp_path / "b", 12, seed=1))
    assert found.distance is None
    assert "takes 10 images of each" in shown(found)


def test_missing_features_do_not_end_an_inspection(pair, monkeypatch):
    def missing(*_):
        raise InputError("pip install the features")

    monkeypatch.setattr("cyclegan.inspection.survey.FeatureNetwork", missing)
    found = look(*pair)
    assert found.distance_missing == "pip install the features"
    assert advice(found, "count")


# ---- folders and runs


def test_a_root_and_a_single_folder_are_taken(tmp_path):
    for name in ("trainA", "trainB", "testA"):
        make_folder(tmp_path / "root" / name, 3, seed=ord(name[-1]))
    assert list(look(tmp_path / "root").folders) == ["A", "B", "test A"]
    alone = look(tmp_path / "root" / "trainA", test_a=tmp_path / "root" / "testA")
    assert list(alone.folders) == ["A", "test A"]
    assert alone.distance is None
    assert "B brightness" not in shown(alone)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("nowhere", "There is no folder nowhere"),
        ("a nowhere", "There is no folder nowhere"),
        ("a/0.png", "a/0.png is a file; expected a folder"),
        ("a a/0.png", "a/0.png is a file; expected a folder"),
        ("a --test-a nowhere", "There is no folder nowhere"),
        ("a a", "Both domains are the folder a"),
        ("a --test-b a", "for a domain B, which was not given"),
        ("empty", "empty holds no images; expected files of type .jpg"),
        ("other", "holds no images (but 2 of type .psd)"),
        ("bad", "None of the 1 images in bad can be read; the first is x.png"),
        ("a b c", "one folder or two"),
        ("", "one folder or two"),
        ("a --out page", "--out is page; expected the name of a page"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(tmp_path, monkeypatch, capsys, folders, message):
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a"), 2)
    _made(Path("empty")), _made(Path("other")), _made(Path("bad"))
    Path("empty/.hidden.png").write_bytes(b"")
    Path("other/1.psd").touch(), Path("other/2.PSD").touch(), Path("bad/x.png").touch()
    with pytest.raises(SystemExit) as stop:
        main(f"inspect {folders}".split())
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert message in captured.err
    assert not captured.out
    assert len(captured.err.strip().splitlines()) == 1


def test_file_names_that_are_not_unicode_are_accepted(pair, tmp_path):
    a, b = pair
    odd = bytes(a) + b"/odd\xff.png"
    try:
        Path(odd.decode(errors="surrogateescape")).write_bytes((a / "0.png").read_bytes())
        Path((bytes(a) + b"/cut\xfe.png").decode(errors="surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    found = look(a, b)
    assert "odd\\udcff.png = 0.png" in shown(found)
    assert "cut\\udcfe.png" in shown(found)
    write_inspection(found, tmp_path / "page.html")


def test_a_run_is_described_with_the_folders_that_it_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = make_folder(Path("a"), 5), make_folder(Path("b"), 6, seed=1)
    out = train(a, b, out="run", steps=4, log_steps=2, preset="demo", quiet=True, **TINY)
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "warning", "step": 3, "message": "Too bright."}) + "\n")
        log.write(json.dumps({"event": "unreadable", "step": 3, "path": "a/9.png", "reason": "cut"}) + "\n")
        log.write('{"step": 9, "cyc')
    found = look(out)
    run = found.run
    assert (run.preset, run.step, run.share, run.model_step, run.logged_step) == ("demo", 4, 1.0, 4, 4)
    assert run.length == "4 steps"
    assert run.checkpoints == ("step_0000004",)
    assert {"cycle_a", "adversarial_a2b"} <= set(run.losses)
    assert run.num_bytes > (out / "model" / "a2b.safetensors").stat().st_size
    assert (len(found.folders["A"]), len(found.folders["B"])) == (5, 6)
    # Advice is about the run's own crop.
    assert "--crop-size 16" in advice(found, "size") + advice(found, "size", problem=False)
    text = shown(found, 200)
    assert "preset demo, 4 steps" in text
    assert "warning: Too bright." in text
    assert "a/9.png" in text

    # Its folders have moved away: one sentence, and what is known of the run.
    a.rename("elsewhere")
    found = look(out)
    assert (found.folders, found.advice) == ({}, ())
    assert f"There is no folder {tmp_path / 'a'}" in found.run.missing
    assert found.run.missing in shown(found, 500)
    assert "preset demo, 4 steps" in shown(found, 200)
    write_inspection(found, Path("page.html"))
    with pytest.raises(InputError, match="give it alone"):
        look(out, b)


def test_a_run_that_has_saved_nothing_yet_is_described(tmp_path):
    config = make_config(a="nowhere", minutes=5.0)
    (tmp_path / "config.toml").write_text(to_toml(config))
    run = look(tmp_path).run
    assert (run.step, run.share, run.model_step, run.losses, run.length) == (None, None, None, {}, "5 minutes")
    assert "no checkpoint" in shown(look(tmp_path), 200)


# ---- the screen, the page, the machine


def test_the_screen_holds_everything_within_80_columns(pair, tmp_path):
    a, b = pair
    tests = {name: make_folder(tmp_path / name, 3, seed=5) for name in ("test_a", "test_b")}
    text = shown(look(a, b, **tests))
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in ("images", "usual size", "64x64 (all)", "A brightness |", "B saturation |", "Advice:"):
        assert word in text


def test_the_page_is_self_contained_and_shows_pictures_of_every_finding(pair, tmp_path, capsys):
    a, b = pair
    Image.open(a / "2.png").save(a / "z<i>.jpg", quality=75)
    (b / "cut.png").write_bytes(b"")
    page = tmp_path / "page.html"
    main(["inspect", str(a), str(b), "--out", str(page)])
    captured = capsys.readouterr()
    assert "Advice:" in captured.out
    assert str(page) in captured.err
    html = page.read_text()
    assert html.count("data:image/") == 2 + 1 + 2  # two contact sheets, the distributions, one pair
    assert "http" not in html.replace("http-equiv", "")
    assert "z&lt;i&gt;.jpg ~ 2.png" in html
    assert "cut.png" in html
    assert "How far apart the domains are" in html


def test_long_lists_are_cut_on_the_screen_and_counted(pair):
    a, b = pair
    for index in range(12):
        shutil.copy(a / "0.png", a / f"copy{index:02}.png")
    text = shown(look(a, b))
    assert "12 exact" in text
    assert "copy07.png" in text
    assert "copy09.png" not in text
    assert "and 4 more" in text


def test_long_lists_are_cut_on_the_page_and_counted(pair, tmp_path):
    a, b = pair
    for index in range(300):
        shutil.copy(a / "0.png", a / f"copy{index:03}.png")
        (b / f"broken{index:03}.png").write_bytes(b"no image")
    write_inspection(look(a, b), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The first 200 of 300." in page
    assert "broken199.png" in page
    assert "broken200.png" not in page
    assert "... and 100 more" in page
    assert "copy199.png" in page
    assert "copy200.png" not in page


def test_few_images_are_in_memory_at_once(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "a", 60)
    done = []
    ahead = []

    def read(*_):
        ahead.append(len(ahead) - len(done))
        return Raster(np.zeros((20, 24, 3), np.uint8))

    monkeypatch.setattr("cyclegan.inspection.survey.load_raster", read)
    survey_folder(folder, on_file=lambda count, total: done.append((count, total)))
    assert done == [(count, 60) for count in range(1, 61)]
    assert max(ahead) <= 16


def test_ctrl_c_stops_reading_at_once_and_leaves_no_page(tmp_path):
    folder = make_folder(tmp_path / "a", 400)
    code = (
        "import signal, sys, time, cyclegan.inspection.survey as survey\n"
        "from cyclegan.cli import main\n"
        # A shell that runs the tests in the background makes its children ignore the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "read = survey.load_raster\n"
        "def slowly(*arguments):\n"
        "    print('reading', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.1)\n"
        "    return read(*arguments)\n"
        "survey.load_raster = slowly\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "inspect", str(folder), "--out", str(tmp_path / "page.html")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("reading")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    assert err.count("reading") < 100
    assert not list(tmp_path.glob("*page*"))
