"""How many images are translated together: chosen by itself, and smaller where memory does not suffice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, translate_folder
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.storage.model import ModelInfo
from cyclegan.translate.translator import batch_limits


def make_translator(most_pixels=None):
    """A translator, and the shapes of its batches. One of more than `most_pixels` pixels does not fit into memory."""
    config, a = ModelConfig(**TINY_MODEL), ImageFormat()
    sizes = {"preprocess": "none", "load_size": 16, "crop_size": 16}
    info = ModelInfo(cyclegan_version="", model=config, step=0, translate_with="final", a=a, b=a, **sizes)
    translator = Translator(build_generator(config, 3, 3, seed=0).eval(), info, "a2b")
    engine, shapes = translator.engine, []

    def compute(images):
        shapes.append(tuple(images.shape))
        if most_pixels is not None and images[:, 0].numel() > most_pixels:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return engine.compute(images)

    translator.engine = replace(engine, compute=compute)
    return translator, shapes


@pytest.fixture
def folder(tmp_path):
    """Eleven small images, and one of four times the pixels among them."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        side = 32 if index == 5 else 16
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(tmp_path / "in" / f"{index:02}.png")
    return tmp_path / "in"


def pixels(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_auto_is_one_image_on_a_cpu_and_many_small_ones_on_a_gpu():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert batch_limits("auto", cpu)[0] == 1
    most, max_pixels = batch_limits("auto", gpu)
    assert most == max_pixels // 256**2 == 32
    assert batch_limits(3, gpu) == (3, None)


def test_by_default_a_cpu_translates_one_image_at_a_time(folder, tmp_path):
    translator, shapes = make_translator()
    translate_folder(translator, folder, tmp_path / "out")
    assert {shape[0] for shape in shapes} == {1}


@pytest.mark.parametrize("on_device", [False, True])
def test_a_batch_that_does_not_fit_is_translated_in_smaller_ones(folder, tmp_path, monkeypatch, on_device):
    if on_device:  # a stand-in for a GPU, which converts the values itself
        monkeypatch.setattr("cyclegan.translate.engines.on_device.DEVICE_TYPES", ["cpu"])
    translator, shapes = make_translator()
    translate_folder(translator, folder, tmp_path / "one")
    translator, shapes = make_translator(most_pixels=2 * 16 * 16)
    result = translate_folder(translator, folder, tmp_path / "out", batch_size=8)
    assert max(shape[0] for shape in shapes) == 8
    too_large = [shape[0] for shape in shapes if shape[0] > 2 and shape[-1] == 16]
    assert too_large[:2] == [8, 4]
    assert len(too_large) <= 3  # it is learned once, and at most one batch more has begun then
    (large,) = result.skipped  # on its own it does not fit either, and the others go on
    assert large[0].name == "05.png"
    assert "An image of 32x32 pixels does not fit into memory" in large[1]
    assert result.notes == ("8 images at a time did not fit into memory, so they were translated 2 at a time.",)
    expected = pixels(tmp_path / "one")
    assert expected.pop("05.png").shape == (32, 32, 3)
    written = pixels(tmp_path / "out")
    assert list(written) == list(expected)
    for name, values in written.items():
        assert np.abs(values.astype(int) - expected[name]).max() <= 1


def test_frames_that_are_stabilised_are_not_translated_twice(folder, tmp_path):
    translator, _ = make_translator()
    (folder / "05.png").unlink()
    translator.engine = replace(translator.engine, network=Crowded(translator.network))
    result = translate_folder(translator, folder, tmp_path / "out", batch_size=4, stabilise=True)
    assert "4 at a time" in result.skipped[0][1]


class Crowded(torch.nn.Module):
    """A network for which more than two images are too many."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        if len(images) > 2:
            raise RuntimeError("out of memory")
        return self.network(images)


@pytest.mark.parametrize("batch_size", [0, 1.5, "many"])
def test_other_batch_sizes_are_refused(folder, tmp_path, batch_size):
    translator, _ = make_translator()
    with pytest.raises(InputError, match="batch_size is "):
        translate_folder(translator, folder, tmp_path / "out", batch_size=batch_size)
    with pytest.raises(InputError, match="batch_size is "):
        list(translator.translate([], batch_size=batch_size))
