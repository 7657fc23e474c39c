import os
import signal
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan import ModelConfig, train
from cyclegan.images.codecs import write_image
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.metrics.features import FEATURE_NETWORKS
from cyclegan.metrics.table import METRICS
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.step.terms import PENALTIES, TERMS
from cyclegan.training.trackers import TRACKERS
from hub_server import Hub

# Narrow networks and small images: what is tested is behaviour, not capacity.
TINY_MODEL = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}
TINY = {**TINY_MODEL, "crop_size": 16, "load_size": 18, "tensorboard": False, "device": "cpu"}
# In fp32, whatever this machine is fast in.
TINY |= {"num_samples": 0, "num_validation": 0, "precision": "fp32"}

REGISTRIES = (GENERATORS, DISCRIMINATORS, TERMS, PENALTIES, METRICS, FEATURE_NETWORKS, FILE_FORMATS, TRACKERS)

HAS_CUDA = torch.cuda.is_available()

# Without a GPU Triton's kernels run in its interpreter. Triton reads this when it is imported, as torch.compile does.
if not HAS_CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure():
    # With pytest-xdist several processes share the cores. What they start keeps to one thread as they do.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The background of a shell has it ignored, and so would all processes that tests start and stop by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):  # which nohup ignores
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _on_the_cpu():
    # The device `auto` is the CPU, whatever this machine has: expected are its bits, and a network beside its images.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.backends.mps, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for processes that tests start
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Networks this small are slower on two threads, and a busy second core would make them much slower.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registries_as_before():
    """Rows that a test adds to a public table, as the examples of the documentation do, are gone after it."""
    before = [(table, dict(table)) for table in REGISTRIES]
    yield
    for table, rows in before:
        if table != rows:
            table.clear()
            table.update(rows)


@pytest.fixture
def without_pages(monkeypatch):
    """Training writes no page, for tests of something else: a page takes as long as a tiny training."""
    monkeypatch.setattr("cyclegan.training.monitor.Monitor.write_page", lambda _: None)


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


@pytest.fixture
def pair(tmp_path):
    """Two folders of ten different pictures each."""
    return make_folder(tmp_path / "a", 10, (64, 64)), make_folder(tmp_path / "b", 10, (64, 64), seed=1)


@pytest.fixture(scope="session")
def deep_run(tmp_path_factory):
    """A tiny run. A: one channel of 16 bits; B: five channels of floats."""
    root = tmp_path_factory.mktemp("deep")
    for name, channels, dtype, high in (("a", 1, np.uint16, 3000), ("b", 5, np.float32, 2.5)):
        (root / name).mkdir()
        for index in range(3):
            values = np.random.default_rng(index).random((20, 20, channels)) * high
            write_image(root / name / f"{index}.tif", values.astype(dtype))
    return train(
        root / "a", root / "b", out=root / "run", quiet=True, channels_a=1, channels_b=5, **{**TINY, "steps": 3}
    )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running stand-in, and this process set up to use it, with an empty cache and without a token."""
    from huggingface_hub import constants

    home = tmp_path / "hf_home"
    for name, value in (("HF_HUB_CACHE", "hub"), ("HF_TOKEN_PATH", "token"), ("HF_STORED_TOKENS_PATH", "tokens")):
        monkeypatch.setattr(constants, name, str(home / value))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # The stand-in has no xet storage; large files then go by LFS, as with a Hub that has none.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Whatever would ask for another machine fails here.
    find, here = socket.getaddrinfo, {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **kw: find(here[host], *args, **kw))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def count_waiting(translator, method):
    """A list that grows during a translation: how many more images were taken than results given, at each image."""
    translate, waiting = getattr(translator, method), []

    def counting(images, **options):
        taken = given = 0

        def count():
            nonlocal taken
            for image in images:
                taken += 1
                waiting.append(taken - given)
                yield image

        for result in translate(count(), **options):
            given += 1
            yield result

    setattr(translator, method, counting)
    return waiting
