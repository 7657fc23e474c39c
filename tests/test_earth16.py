"""Elevation as one 16-bit channel against 8-bit photos: the data, and all the way to files that others can open."""

import json
import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import TINY
from cyclegan import InputError, cli, evaluate, train
from cyclegan.datasets import download, earth16
from cyclegan.datasets.elevation import TINTS, recover_elevation
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.file_list import list_images

FOLDERS = ("trainA", "trainB", "testA", "testB")
SEA_LEVEL = 11000

# Latitude, longitude, half the side in degrees, and the median of NOAA's ETOPO1 grid there, in metres; then how far the
# recovered median may be off. Measured errors are in docs/research/elevation.md; most are far smaller.
PLACES = {
    "Tibetan plateau": (33, 88, 2, 4980, 250),
    "Altiplano": (-18, -67.8, 0.7, 3788, 150),
    "Ethiopian highlands": (9.5, 38.5, 0.7, 2286, 350),
    "Gobi": (44, 106, 1, 1311, 150),
    "Kalahari": (-23, 22, 1, 1142, 60),
    "Great Plains": (38.5, -99, 1, 598, 60),
    "Sahara": (24, 0, 1, 320, 40),
    "Kazakh steppe": (49, 66, 1, 273, 30),
    "West Siberian plain": (59, 73, 1, 91, 20),
    "Pampas": (-35, -61, 1, 77, 20),
    "Amazon near Manaus": (-3.5, -62, 1, 47, 20),
    "North Sea": (55.5, 4, 1, -43, 40),
    "Yellow Sea": (35.5, 123.5, 1, -74, 50),
    "Patagonian shelf": (-47, -64.5, 0.7, -101, 60),
    "Caspian Sea, south": (38.7, 51.3, 0.5, -572, 150),
    "Mid-Atlantic ridge": (-25, -13.5, 0.7, -3209, 600),
    "Gulf of Mexico": (25, -90, 0.7, -3540, 250),
    "Ionian Sea": (36, 18.5, 0.7, -3871, 250),
    "Argentine basin": (-45, -48, 1, -5310, 350),
    "North Pacific basin": (30, -150, 2, -5373, 350),
    "Mariana trench": (11.35, 142.3, 0.15, -9421, 600),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The dataset of the whole world, and the elevation that its tiles were cut from (north and south to 60.5)."""
    kept = []

    def recover(relief):
        kept.append(recover_elevation(relief))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earth16, "recover_elevation", recover)
        root = download("earth16", tmp_path_factory.mktemp("data") / "earth16")
    return root, kept[0]


@pytest.fixture(scope="module")
def root(world):
    return world[0]


@pytest.fixture(scope="module")
def cut(root, tmp_path_factory):
    """A few tiles of each folder: enough to train for a moment."""
    few = tmp_path_factory.mktemp("cut") / "earth16"
    for folder in FOLDERS:
        (few / folder).mkdir(parents=True)
        for path in list_images(root / folder)[::12]:
            shutil.copy(path, few / folder)
    return few


@pytest.fixture(scope="module")
def run(cut, tmp_path_factory):
    settings = {**TINY, "crop_size": 32, "load_size": 36, "steps": 20, "num_samples": 2}
    out = tmp_path_factory.mktemp("run") / "run"
    return train(cut, out=out, channels_b=1, range_b=(5000, 17000), quiet=True, **settings)


# ---- metres from colours


@pytest.mark.parametrize("place", PLACES)
def test_known_places_have_their_known_heights(world, place):
    latitude, longitude, half, metres, tolerance = PLACES[place]
    elevation = world[1]
    # 7.5 pixels to a degree; the first row is at 60 degrees north and 4 pixels more.
    middle_row, middle_column = (60 - latitude) * 7.5 + 4, (longitude + 180) * 7.5
    rows = slice(int(middle_row - half * 7.5), int(middle_row + half * 7.5) + 1)
    columns = slice(int(middle_column - half * 7.5), int(middle_column + half * 7.5) + 1)
    assert abs(np.median(elevation[rows, columns]) - metres) < tolerance


def test_level_ground_of_every_tint_is_recovered():
    metres, colours = np.array(TINTS)[:, 0], np.array(TINTS)[:, 1:].astype(np.uint8)
    # Neighbouring tints differ by less than the JPEG's noise in places, so a height may become the next one.
    picture = np.repeat(np.repeat(colours[None], 6, 0), 6, 1)
    found = np.median(recover_elevation(picture), 0).reshape(-1, 6)[:, 2]
    spacing = np.diff(metres, append=2 * metres[-1] - metres[-2])
    assert (np.abs(found - metres) <= 2 * spacing).all()
    assert np.mean(np.abs(found - metres) <= spacing) > 0.95


def test_shaded_slopes_have_the_height_of_level_ground():
    for metres, *colour in TINTS[5:80:6]:
        lightness = np.mean(colour)
        shaded = [np.clip(s * lightness + (0.25 + 0.75 * s) * (np.array(colour) - lightness), 0, 255) for s in (1, 0.8)]
        heights = [recover_elevation(np.broadcast_to(np.rint(c).astype(np.uint8), (9, 9, 3)))[4, 4] for c in shaded]
        assert abs(heights[1] - heights[0]) <= max(30, 0.12 * abs(metres)), metres


def test_heights_rise_from_the_sea_over_the_coast_to_the_mountains():
    chosen = [tint for tint in TINTS if tint[0] in (-4000, -1000, -200, -50, 1, 50, 100, 200, 500, 1000, 2000, 4000)]
    picture = np.repeat(np.repeat(np.array(chosen)[None, :, 1:].astype(np.uint8), 9, 0), 9, 1)
    profile = np.median(recover_elevation(picture), 0)
    assert (np.diff(profile) >= 0).all()
    assert (profile[:36] < 0).all()
    assert (profile[36:] >= 0).all()


def test_lakes_have_the_level_of_their_shores_and_seas_stay():
    tints = {metres: colour for metres, *colour in TINTS}
    picture = np.full((90, 120, 3), tints[350], np.uint8)
    picture[30:42, 30:42] = tints[-1]  # a lake, drawn like a shallow sea
    picture[:, 90:105] = tints[-50]  # a shelf
    picture[:, 105:] = tints[-4000]
    elevation = recover_elevation(picture)
    assert (np.abs(elevation[27:45, 27:45] - 350) < 30).all()
    assert (elevation[3:-3, 93:102] < -10).all()


def test_noise_of_a_jpeg_does_not_make_other_heights():
    rng = np.random.default_rng(0)
    tints = {metres: colour for metres, *colour in TINTS}
    for metres, tolerance in ((-5000, 300), (-2000, 300), (-100, 60), (100, 20), (500, 60), (1100, 100)):
        noisy = np.clip(np.array(tints[metres]) + rng.normal(0, 3, (40, 40, 3)), 0, 255).astype(np.uint8)
        assert abs(np.median(recover_elevation(noisy)) - metres) < tolerance


# ---- the dataset


def test_tiles_are_one_channel_of_16_bits_in_metres(root):
    about = json.loads((root / "about.json").read_text())
    assert about["b_values"]["offset"] == -SEA_LEVEL
    for folder in FOLDERS:
        assert len(list_images(root / folder)) == about["images"][folder] > 20
    heights = []
    for path in list_images(root / "trainB"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("I;16", (108, 108))
        tile = read_image(path, 1)
        assert (tile.dtype, tile.shape) == (np.uint16, (108, 108, 1))
        heights.append(tile.astype(int) - SEA_LEVEL)
    values = np.concatenate([tile.ravel() for tile in heights])
    assert -11000 <= values.min() < -5000
    assert 4000 < values.max() <= 6000
    assert len(np.unique(values)) > 5000  # 8 bits on the way would leave 256


def test_places_roles_and_photos_are_those_of_earth(root, tmp_path):
    earth = download("earth", tmp_path / "earth")
    for folder in FOLDERS:
        names = [[path.name for path in list_images(where / folder)] for where in (earth, root)]
        assert names[0] == names[1]
    for folder in ("trainA", "testA"):
        for path in list_images(earth / folder):
            assert path.read_bytes() == (root / folder / path.name).read_bytes()


def test_coasts_lie_where_the_photo_has_them(root):
    differing = []
    for path in list_images(root / "testB"):
        red, green, blue = np.moveaxis(read_image(root / "testA" / path.name, 3).astype(int), -1, 0)
        differing.append((read_image(path, 1)[..., 0] < SEA_LEVEL) != (blue > np.maximum(red, green)))
    assert np.mean(differing) < 0.05


def test_earth16_has_no_variants(tmp_path):
    with pytest.raises(InputError, match="earth16 has no variant 'etopo1'"):
        download("earth16", tmp_path / "x", variant="etopo1")
    assert list(tmp_path.iterdir()) == []


# ---- all the way


def translate_here(run, inputs, out, direction):
    cli.main(["translate", str(run), *map(str, inputs), "--out", str(out), "--direction", direction])


def test_photos_become_16_bit_files_with_the_right_channels_and_range(run, cut, tmp_path):
    photos = list_images(cut / "testA")
    Image.open(photos[0]).save(tmp_path / "photo.tif")
    np.save(tmp_path / "photo.npy", np.asarray(Image.open(photos[0])))
    inputs = [cut / "testA", tmp_path / "photo.tif", tmp_path / "photo.npy"]
    translate_here(run, inputs, tmp_path / "out", "a2b")
    with Image.open(tmp_path / "out" / photos[0].name) as picture:
        assert (picture.mode, picture.size) == ("I;16", (108, 108))
        from_png = np.asarray(picture)
    from_tiff = tifffile.imread(tmp_path / "out" / "photo.tif")
    from_npy = np.load(tmp_path / "out" / "photo.npy")[..., 0]
    for values in (from_png, from_tiff, from_npy):
        assert (values.dtype, values.shape) == (np.uint16, (108, 108))
        assert 5000 <= values.min() < values.max() <= 17000
        assert len(np.unique(values)) > 256
        assert -6000 <= np.median(values) - SEA_LEVEL <= 6000
        assert np.array_equal(values, from_png)  # the container changes nothing


def test_elevation_of_every_container_becomes_8_bit_colour(run, cut, tmp_path):
    source = list_images(cut / "testB")[0]
    tile = read_image(source, 1)
    for name in ("tile.png", "tile.tif", "tile.npy"):
        write_image(tmp_path / name, tile)
    translate_here(run, [tmp_path / f"tile.{suffix}" for suffix in ("png", "tif", "npy")], tmp_path / "out", "b2a")
    with Image.open(tmp_path / "out" / "tile.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (108, 108))
        expected = np.asarray(picture)
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "tile.tif"), expected)
    assert np.array_equal(np.load(tmp_path / "out" / "tile.npy"), expected)


def test_the_model_records_type_channels_and_range(run):
    info = json.loads((run / "model" / "config.json").read_text())
    assert info["a"] == {"channels": 3, "dtype": "uint8", "low": 0.0, "high": 255.0}
    assert info["b"] == {"channels": 1, "dtype": "uint16", "low": 5000.0, "high": 17000.0}


@pytest.mark.parametrize(
    ("domain", "direction", "sentence"),
    [
        ("testB", "a2b", r"is 1 x uint16, and the model takes 3 x uint8 in \[0, 255\]: that is its other direction\."),
        ("testA", "b2a", r"is an 8-bit picture, and the model takes 1 x uint16 in \[5000, 17000\]: that is its other"),
    ],
)
def test_a_file_of_the_wrong_depth_is_refused_and_nothing_is_written(
    run, cut, tmp_path, capsys, domain, direction, sentence
):
    source = list_images(cut / domain)[0]
    with pytest.raises(SystemExit) as stopped:
        translate_here(run, [source], tmp_path / "out", direction)
    assert stopped.value.code == 1
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_training_on_16_bit_files_without_their_channels_says_which_flag(cut, tmp_path):
    with pytest.raises(InputError, match="--channels-b 1"):
        train(cut, out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})


def test_scores_pictures_and_pages_work_on_elevation(run, cut, tmp_path):
    scores = evaluate(run, cut / "testA", cut / "testB", paired=True, out=tmp_path / "out", quiet=True)
    l1 = scores.directions["a2b"].metrics["l1"]
    # 1 of L1 is half the range of 12000 metres.
    assert f"in the values of B it is {6000 * l1.value.value:,.0f}" in l1.note
    assert l1.mean_image is not None
    assert scores.directions["b2a"].metrics["l1"].note == ""
    assert "colour" in scores.directions["b2a"].metrics
    truths = sorted((tmp_path / "out" / "examples" / "a2b").glob("*_truth.png"))
    spread = [np.ptp(np.asarray(Image.open(path))) for path in truths]
    assert max(spread) > 60  # neither black nor clipped: coast and deep sea are told apart
    sheet = np.asarray(Image.open(next((run / "samples").glob("*.png"))))
    assert sheet.std() > 20
    assert "in the values of B" in (tmp_path / "out" / "report.html").read_text()


def test_values_outside_the_range_of_the_model_are_reported(cut, tmp_path):
    settings = {**TINY, "crop_size": 32, "load_size": 36, "steps": 1}
    run = train(cut, out=tmp_path / "run", channels_b=1, range_b=(10800, 14000), quiet=True, **settings)
    scores = evaluate(run, cut / "testA", cut / "testB", quiet=True)
    told = [note for note in scores.directions["a2b"].notes if "outside 10800 to 14000" in note]
    assert len(told) == 1
    assert "test images of B" in told[0]
