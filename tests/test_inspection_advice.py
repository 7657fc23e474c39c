"""The advice of `cyclegan inspect`: each test makes one thing that is wrong, and looks for it by name."""

import numpy as np
import pytest
from inspecting import advice, look, made, shown
from PIL import Image
from rasterio.transform import Affine

from conftest import make_folder
from cyclegan import InputError
from geo_files import smooth, write_geotiff


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
        ((20, 20), "smaller than the smallest crop of the networks, 24"),
        ((24, 24), "--crop-size 24 fits"),
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
        Image.fromarray(noise).save(made(tmp_path / "noise") / f"{index}.png")
    near, far = look(a, tinted), look(a, tmp_path / "noise")
    assert near.distance.value < 0.25 < far.distance.value
    assert abs(near.distance.half_a) < near.distance.value < near.distance.high
    assert advice(near, "distance", problem=False)
    assert f"is {far.distance.value:.2f}" in advice(far, "distance")
    assert "EfficientNet-Lite0" in advice(far, "distance")


def test_nine_images_are_too_few_for_a_distance_and_it_says_so(tmp_path):
    found = look(make_folder(tmp_path / "a", 9), make_folder(tmp_path / "b", 12, seed=1))
    assert found.distance is None
    assert "takes 10 images of each.\n\nAdvice:" in shown(found, 200)


def test_missing_features_do_not_end_an_inspection(pair, monkeypatch):
    def missing(*_):
        raise InputError("pip install the features")

    monkeypatch.setattr("cyclegan.inspection.distance.FeatureNetwork", missing)
    found = look(*pair)
    assert found.distance_missing == "pip install the features"
    assert advice(found, "count")


# ---- places on the earth


def write_scenes(folder, places, **options):
    """A folder of GeoTIFFs. places: options of each."""
    folder.mkdir()
    for index, place in enumerate(places):
        write_geotiff(folder / f"{index}.tif", np.roll(smooth(), 7 * index + len(options), 0), **{**options, **place})
    return folder


def pixels_of(side):
    return {"place": Affine(side, 0, 500_000, 0, -side, 5_000_000)}


DEGREES = {"place": Affine(1e-4, 0, 10, 0, -1e-4, 50), "crs": "EPSG:4326"}


def test_coordinates_pixels_and_bands_are_shown(tmp_path):
    a = write_scenes(tmp_path / "a", [{}, {"crs": "EPSG:32633"}], names=("red", "green", "blue"))
    b = write_scenes(tmp_path / "b", [{"place": None}, {}])
    rows = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table_of(shown(look(a, b), width=200))}
    assert rows["coordinates"] == ["1 EPSG:32632, 1 EPSG:32633", "1 EPSG:32632, 1 none"]
    assert rows["pixel on earth"] == ["10 metre", "1 10 metre, 1 none"]
    assert rows["bands"] == ["red, green, blue", "none"]


def table_of(screen):
    return [line.split("│") for line in screen.splitlines() if "│" in line]


def test_folders_without_a_place_have_no_such_rows(pair):
    assert "coordinates" not in shown(look(*pair))
    assert advice(look(*pair), "place") == ""


def test_pixel_sizes_and_systems_that_differ_are_a_problem(tmp_path):
    a = write_scenes(tmp_path / "a", [{}, {}])
    mixed = write_scenes(tmp_path / "mixed", [pixels_of(10), pixels_of(30)])
    said = advice(look(mixed), "place")
    assert "The pixels of A have 2 sizes on the earth (1 10 metre, 1 30 metre)" in said
    coarse = write_scenes(tmp_path / "coarse", [pixels_of(30), pixels_of(30)])
    said = advice(look(a, coarse), "place")
    assert "A pixel of A is 10 metre on the earth and one of B 30 metre: things are 3 times as large" in said
    degrees = write_scenes(tmp_path / "degrees", [DEGREES, DEGREES])
    said = advice(look(a, degrees), "place")
    assert "A lies in EPSG:32632 and B in EPSG:4326; nothing is reprojected. Away from the equator" in said
    assert "things are 1.11 times as large" in said
    both = write_scenes(tmp_path / "both", [{}, DEGREES])
    assert "1 of the 2 images of A lie in degrees and the others do not" in advice(look(both), "place")


def test_other_zones_are_no_problem_and_are_named(tmp_path):
    a = write_scenes(tmp_path / "a", [{}, {}])
    b = write_scenes(tmp_path / "b", [{"crs": "EPSG:32633"}, {"crs": "EPSG:32633"}], nodata=3)
    found = look(a, b)
    assert advice(found, "place") == ""
    assert "A lies in EPSG:32632 and B in EPSG:32633; nothing is reprojected." in advice(found, "place", problem=False)


def test_bands_in_another_order_are_a_problem_unless_they_are_chosen(tmp_path):
    a = write_scenes(tmp_path / "a", [{"names": ("red", "green", "nir")}, {"names": ("nir", "red", "green")}])
    said = advice(look(a), "place")
    assert "The bands of A are called differently" in said
    assert "--bands-a red,green,nir" in said
    assert advice(look(a, bands_a="red,green,nir"), "place") == ""
