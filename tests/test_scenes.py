"""Crops of large scenes are read by themselves, and are those of the whole image."""

import numpy as np
import pytest
import torch
from rasterio.transform import Affine

from conftest import TINY, TINY_MODEL
from cyclegan import InputError, train
from cyclegan.config import DataConfig, ModelConfig
from cyclegan.data import scenes
from cyclegan.data.dataset import UnpairedDataset
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.preprocessing import load_sample
from cyclegan.data.scenes import Scene, open_scene
from cyclegan.images.filetypes.vrt import write_vrt
from cyclegan.images.formats import ImageFormat
from geo_files import NORTH_UP, smooth, write_geotiff

DATA = DataConfig(preprocess="crop", crop_size=32)
pytestmark = pytest.mark.usefixtures("small")
MODEL = ModelConfig(**TINY_MODEL)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


@pytest.fixture
def small(monkeypatch):
    """Images of these tests count as large."""
    monkeypatch.setattr(scenes, "LEAST_BYTES", 1000)
    monkeypatch.setattr(scenes, "_LEAST_FILE_BYTES", 0)


@pytest.fixture
def undecodable(monkeypatch):
    """Decoding a whole file fails."""

    def allow(path, *_):
        raise AssertionError(f"{path} is decoded as a whole")

    return lambda: monkeypatch.setattr("cyclegan.data.preprocessing.read_raster", allow)


def make_dataset(root, count=3, **options):
    values = smooth(300, 340)
    for name, shift in (("a", 0), ("b", 7)):
        (root / name).mkdir()
        for index in range(count):
            write_geotiff(root / name / f"{index}.tif", np.roll(values, shift + index, 0), **{**TILED, **options})
    folders = [scan_folder(root / name, 3, None, DATA) for name in ("a", "b")]
    return UnpairedDataset(*folders, DATA, MODEL, 2, 0)


@pytest.mark.parametrize("options", [{}, {"tiled": False, "blockxsize": 340, "blockysize": 1}, {"nodata": 0}])
def test_batches_are_those_of_whole_images(tmp_path, undecodable, monkeypatch, options):
    dataset = make_dataset(tmp_path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "LEAST_BYTES", 10**9)
        expected = [dataset[step] for step in range(5)]
    undecodable()
    for step, batch in enumerate(expected):
        found = dataset[step]
        assert torch.equal(found.a, batch.a)
        assert torch.equal(found.b, batch.b)
        assert found.unreadable == ()


def test_holes_are_filled_as_in_whole_images(tmp_path, undecodable, monkeypatch):
    values = smooth(300, 340)
    values[100:200, 50:300] = 0
    path = write_geotiff(tmp_path / "in.tif", values, nodata=0, **TILED)
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "LEAST_BYTES", 10**9)
        expected = load_sample(path, ImageFormat(), DATA.replace(crop_size=256), MODEL)
    undecodable()
    found = load_sample(path, ImageFormat(), DATA.replace(crop_size=256), MODEL)
    assert torch.equal(found.image, expected.image)
    assert torch.equal(found.mask, expected.mask)


def test_a_vrt_of_many_files_is_a_scene(tmp_path):
    (tmp_path / "tiles").mkdir()
    for name, shift in (("west", 0), ("east", 340)):
        place = NORTH_UP @ Affine.translation(shift, 0)
        write_geotiff(tmp_path / "tiles" / f"{name}.tif", smooth(300, 340), place=place, **TILED)
    write_vrt([tmp_path / "tiles"], tmp_path / "all.vrt")
    scene = open_scene(tmp_path / "all.vrt", ImageFormat())
    assert (scene.height, scene.width) == (300, 680)
    assert np.array_equal(scene.cropped(10, 330, 32).values[:, 10:], smooth(300, 340)[10:42, :22])


def test_what_is_decoded_as_a_whole(tmp_path):
    plain = write_geotiff(tmp_path / "plain.tif", smooth(300, 340), **TILED)
    lossy = write_geotiff(
        tmp_path / "lossy.tif", smooth(300, 340), **{**TILED, "compress": "jpeg", "photometric": "ycbcr"}
    )
    assert isinstance(open_scene(plain, ImageFormat()), Scene)
    assert open_scene(plain, ImageFormat(), free_bytes=10**6) is None
    assert open_scene(lossy, ImageFormat()) is None
    assert open_scene(tmp_path / "missing.tif", ImageFormat()) is None


def test_a_damaged_scene_is_passed_over_and_a_small_one_is_named(tmp_path):
    dataset = make_dataset(tmp_path)
    whole = (tmp_path / "a" / "0.tif").read_bytes()
    (tmp_path / "a" / "0.tif").write_bytes(whole[: len(whole) // 8])
    passed = {path for step in range(6) for path, _ in dataset[step].unreadable}
    assert passed == {str(tmp_path / "a" / "0.tif")}
    path = write_geotiff(tmp_path / "small.tif", smooth(24, 340), **TILED)
    with pytest.raises(InputError, match="smaller than the crop"):
        load_sample(path, ImageFormat(), DATA, MODEL)


def test_training_on_scenes(tmp_path):
    make_dataset(tmp_path, count=2)
    settings = {**TINY, "steps": 2, "preprocess": "crop", "crop_size": 32, "num_samples": 2, "cache_gib": 0}
    settings.pop("load_size")
    assert train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **settings).is_dir()
