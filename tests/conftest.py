import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan import ModelConfig

# Narrow networks and small images: what is tested is behaviour, not capacity.
TINY_MODEL = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}
TINY = {**TINY_MODEL, "crop_size": 16, "load_size": 18, "tensorboard": False, "device": "cpu"}
TINY |= {"num_samples": 0, "num_validation": 0}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Networks this small are slower on two threads, and a busy second core would make them much slower.
    torch.set_num_threads(1)


@pytest.fixture
def tiny_model():
    return ModelConfig(**TINY_MODEL)


def make_folder(folder, count=6, size=(24, 20), tint=(1.0, 0.6, 0.3), seed=0):
    """Smooth random pictures in PNG, of (width, height)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.float32) * np.asarray(tint, np.float32)
        Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def folders(tmp_path):
    """Two folders of unpaired images."""
    return make_folder(tmp_path / "a"), make_folder(tmp_path / "b", count=5, tint=(0.2, 0.5, 1.0), seed=1)
