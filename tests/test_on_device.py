"""8-bit images whose values the device converts: the same bits as on the CPU, in the same order."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import HAS_CUDA
from cyclegan import ModelConfig, Translator
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import from_tensor, to_tensor
from cyclegan.storage.model import ModelInfo
from cyclegan.translate.engines import on_device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_CUDA, reason="needs CUDA"))]


@pytest.fixture(autouse=True)
def _also_here(monkeypatch):
    monkeypatch.setattr(on_device, "DEVICE_TYPES", ["cpu", "cuda"])
    if HAS_CUDA:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


class Negative(nn.Module):
    """A network without rounding, so that every device gives the same bits. White pixels become NaN."""

    def forward(self, x):
        return torch.where(x.amax((1, 2, 3), keepdim=True) == 1, torch.nan, -0.7 * x)


def translator(device="cpu", network=None, image_format=ImageFormat()):  # noqa: B008
    channels = {f"channels_{domain}": image_format.channels for domain in "ab"}
    info = ModelInfo(
        cyclegan_version="0",
        model=ModelConfig(**channels),
        a=image_format,
        b=image_format,
        preprocess="resize-and-crop",
        load_size=16,
        crop_size=16,
        step=0,
        translate_with="final",
    )
    return Translator(network or Negative(), info, "a2b", torch.device(device), name="it")


def pictures(count, size=(13, 9), seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 250, (*size, 3), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("low", "high"), [(0, 255), (3, 200.5), (-7, 90)])
def test_all_values_have_the_bits_of_the_cpu(device, low, high):
    image_format = ImageFormat(channels=1, low=low, high=high)
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    fine = torch.linspace(-1.2, 1.2, 40_000).view(1, 1, 200, 200)
    signals = []

    def network(x):
        signals.append(x.cpu())
        return fine.to(x.device)

    started = on_device.start(torch.from_numpy(every)[None], network, torch.device(device), image_format, image_format)
    values, are_finite = started.results()
    assert torch.equal(signals[0][0], to_tensor(every, image_format))
    assert np.array_equal(values[0], from_tensor(fine[0], image_format))
    assert are_finite == [True]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_come_in_order_with_the_bits_of_the_cpu(monkeypatch, device, batch_size):
    nan = Image.new("RGB", (9, 13), "white")
    images = [*pictures(4), nan, *pictures(3, size=(6, 17), seed=1), nan, *pictures(2, seed=2)]
    found = list(translator(device).translate_each(images, batch_size=batch_size))
    monkeypatch.setattr(on_device, "DEVICE_TYPES", [])
    wanted = list(translator().translate_each(images, batch_size=batch_size))
    assert len(found) == len(wanted) == len(images)
    for one, other in zip(found, wanted, strict=True):
        if isinstance(other, InputError):
            assert str(one).replace(device, "cpu") == str(other)
        else:
            assert np.array_equal(np.asarray(one), np.asarray(other))
    assert sum(isinstance(each, InputError) for each in found) == 2


@pytest.mark.parametrize("device", DEVICES)
def test_floats_between_8_bit_images_are_not_rounded(monkeypatch, device):
    arrays = [np.asarray(image) for image in pictures(5)]
    arrays[2] = arrays[2].astype(np.float32) + np.float32(0.4)
    found = list(translator(device).translate_each(arrays, batch_size=4, checked=False))
    monkeypatch.setattr(on_device, "DEVICE_TYPES", [])
    wanted = list(translator().translate_each(arrays, batch_size=4, checked=False))
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one, other)


def test_a_device_works_on_one_batch_while_the_next_is_read():
    read, computed = [], []

    class Spy(Negative):
        def forward(self, x):
            computed.append(len(x))
            return super().forward(x)

    def images():
        for image in pictures(6):
            read.append(len(computed))
            yield image

    results = translator(network=Spy()).translate(images(), batch_size=2)
    next(results)
    assert computed == [2, 2]  # the second began before the first result was taken
    assert read == [0, 0, 0, 1, 1]
    assert len([*results]) == 5


def test_16_bit_images_go_the_ordinary_way(monkeypatch):
    monkeypatch.setattr(on_device, "start", None)
    form = ImageFormat(channels=1, dtype="uint16", high=65535)
    given = np.arange(64, dtype=np.uint16).reshape(8, 8, 1)
    assert translator(image_format=form)(given).dtype == np.uint16
