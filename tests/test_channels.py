"""Images of any number of channels, from the folder to the page."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, cli
from cyclegan.images.codecs import read_as
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.training.health import Vitals, check_direction


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A: five float channels, as of a multispectral camera. B: photos."""
    root = tmp_path_factory.mktemp("five")
    for number, name in enumerate(("trainA", "testA")):
        (root / name).mkdir()
        for index in range(6):
            coarse = np.random.default_rng([number, index]).random((4, 4, 5)).astype(np.float32)
            bands = [
                np.asarray(Image.fromarray(coarse[..., band]).resize((24, 20), Image.Resampling.BILINEAR))
                for band in range(5)
            ]
            values = (0.2 + 1.5 * np.stack(bands)).astype(np.float32)  # (5, H, W), plane by plane
            tifffile.imwrite(root / name / f"{index}.tif", values, photometric="minisblack", planarconfig="separate")
    make_folder(root / "trainB", count=6)
    make_folder(root / "testB", count=6, seed=2)
    return root


def command(*words):
    cli.main([str(word) for word in words])


def test_five_float_channels_against_photos_go_all_the_way(root, tmp_path, capsys):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if not isinstance(value, bool)]
    flags += ["--no-tensorboard", "--steps=4", "--num-samples=2"]
    run = tmp_path / "run"
    command("inspect", root, "--out", tmp_path / "inspect.html")
    assert "--channels-a 5" in capsys.readouterr().out
    command("train", root, "--channels-a", 5, "--range-a", 0, 2, "--out", run, *flags)

    info = json.loads((run / "model" / "config.json").read_text())
    assert info["a"] == {"channels": 5, "dtype": "float32", "low": 0.0, "high": 2.0}
    command("translate", run, root / "testA", "--out", tmp_path / "a2b")
    command("translate", run, root / "testB", "--out", tmp_path / "b2a", "--direction", "b2a")
    for path in list_images(root / "testA"):
        translated = tifffile.imread(tmp_path / "a2b" / path.name)
        assert (translated.dtype, translated.shape) == (np.uint8, (20, 24, 3))
    for path in list_images(root / "testB"):
        # PNG cannot hold five channels of floats, so these become TIFF.
        translated = tifffile.imread(tmp_path / "b2a" / f"{path.stem}.tif")
        assert (translated.dtype, translated.shape) == (np.float32, (5, 20, 24))
        assert 0 <= translated.min() < translated.max() <= 2

    command("evaluate", run, "--paired")
    scores = json.loads((run / "scores.json").read_text())["directions"]
    assert scores["b2a"]["metrics"]["l1"]["mean_image"] is not None
    assert "in the values of A" in scores["b2a"]["metrics"]["l1"]["note"]
    assert "colour" not in scores["b2a"]["metrics"]
    for page in (tmp_path / "inspect.html", run / "report.html"):
        assert "data:image" in page.read_text()
    shown = [np.asarray(Image.open(path)) for path in (run / "examples" / "b2a").glob("*_truth.png")]
    assert max(picture.std() for picture in shown) > 10
    assert np.asarray(Image.open(next((run / "samples").glob("*.png")))).std() > 10


def test_a_negative_of_other_channels_is_not_sent_to_the_identity_term():
    def found(change):
        vitals = Vitals(change, None, 1.0, {"brightness": -0.6}, 0.1, 0.1)
        (finding,) = check_direction("a2b", vitals)
        return finding.message

    assert "--identity-weight" in found(0.3)
    assert "--identity-weight" not in found(None)  # domains of different channels have none
    assert "another --seed" in found(None)


def test_a_file_of_the_other_domain_is_reported_where_both_are_8_bit(tmp_path):
    many = ImageFormat(channels=7)
    np.save(tmp_path / "many.npy", np.zeros((16, 16, 7), np.uint8))
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo.png is an 8-bit picture, .* takes 7 x uint8 .*: that is its other"):
        read_as(tmp_path / "photo.png", many, ImageFormat())
    with pytest.raises(InputError, match=r"many.npy is 7 x uint8, .* takes 3 x uint8 .*: that is its other direction"):
        read_as(tmp_path / "many.npy", ImageFormat(), many)
    with pytest.raises(InputError, match=r"photo.png is an 8-bit picture, .*: convert the file"):
        read_as(tmp_path / "photo.png", many, ImageFormat(channels=5))
