"""Copies that `cyclegan inspect` finds: exact and near ones, in any container, without false ones."""

import shutil

import numpy as np
import pytest
from inspecting import advice, copies, look, made, shown
from PIL import Image, ImageOps

from conftest import make_folder
from cyclegan.images import identical
from cyclegan.images import near_copies as near
from cyclegan.images.identical import equal_files
from cyclegan.images.near_copies import near_copies
from cyclegan.inspection import seen_file
from cyclegan.inspection.survey import survey_folder


def test_an_exact_copy_is_found_under_any_name_and_container(pair):
    a, b = pair
    shutil.copy(a / "3.png", a / "again.png")
    Image.open(a / "4.png").save(a / "lossless.bmp")
    found = look(a, b)
    assert copies(found, "A", "A") == {("again.png", "3.png", True), ("lossless.bmp", "4.png", True)}
    assert "2 of the 12 images of A repeat another one (2 exact, 0 nearly so)" in advice(found, "copies")


def test_flat_pictures_are_copies_only_when_they_are_exact(tmp_path):
    made(tmp_path / "a")
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
    shutil.copy(test_a / "1.png", test_b / "shared.png")
    found = look(a, b, test_a=test_a, test_b=test_b)
    assert copies(found, "test A", "A") == {("leak.jpg", "1.png", False)}
    assert copies(found, "test B", "B") == {("leak.png", "1.png", True)}
    assert copies(found, "B", "A") == {("both.png", "5.png", True)}
    assert copies(found, "A", "A") == copies(found, "B", "B") == set()
    text = advice(found, "copies")
    assert "1 of the 6 images of test A is also in A (0 exact, 1 nearly so), which is trained on" in text
    assert "Remove it from A." in text
    assert "1 of the 7 images of test B is also in test A (1 exact, 0 nearly so). Scores compare" in text
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
    read = seen_file.load_raster
    monkeypatch.setattr(
        "cyclegan.inspection.seen_file.load_raster", lambda *given: decoded.append(given) or read(*given)
    )
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
