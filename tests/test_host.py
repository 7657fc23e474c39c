"""Public functions leave the process of a host program as they found it, also when they raise."""

import importlib
import logging
import multiprocessing
import random
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from host_fingerprint import differences, fingerprint
from PIL import Image
from safetensors.torch import load_file
from test_not_finite import damaged

from clips import make_clip, numbered
from conftest import HAS_CUDA, TINY, TINY_MODEL, make_folder
from cyclegan import (
    InputError,
    ModelConfig,
    Translator,
    evaluate,
    export_model,
    import_reference,
    inspect_folders,
    train,
    translate_folder,
)
from cyclegan.config import make_config
from cyclegan.step import TrainState, train_step
from cyclegan.video import translate_video
from make_reference import write_folder

SETTINGS = {**TINY, "steps": 3, "quiet": True, "num_samples": 2, "num_validation": 10, "sample_steps": 2}
EXPORTS = ("model", "onnx", "openvino", "torch-export")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("host")
    for seed, name in enumerate(("trainA", "trainB", "testA", "testB")):
        make_folder(root / name, 12, seed=seed)
    train(root, out=root / "run", preset="modern", **SETTINGS)
    write_folder(root / "reference", ModelConfig(**TINY_MODEL))
    make_clip(root / "clip.mkv", numbered(2))
    return root


def fail(_event):
    raise RuntimeError("of the host")


def picture(side=20):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


CALLS = {
    "train": lambda root, out: train(root, out=out, threads=2, **{**SETTINGS, "tensorboard": True}),
    "train, dropout": lambda root, out: train(root, out=out, dropout=True, **SETTINGS),
    "train, own threads": lambda root, out: train(root, out=out, threads=3, **SETTINGS),
    "train, resumed": lambda root, _out: train(root, out=root / "run", preset="modern", **SETTINGS),
    "train, mlflow": lambda root, out: train(root, out=out, mlflow="x", **SETTINGS),
    "train, failing": lambda root, out: train(root, out=out, dropout=True, threads=2, callbacks=[fail], **SETTINGS),
    "train, refused": lambda root, out: train(root / "nothing", out=out, threads=2, **SETTINGS),
    "inspect": lambda root, _out: inspect_folders(root, quiet=True),
    "inspect, a run": lambda root, _out: inspect_folders(root / "run", quiet=True),
    "inspect, refused": lambda root, _out: inspect_folders(root / "nothing", quiet=True),
    "evaluate": lambda root, out: evaluate(
        root / "run", root / "testA", root / "testB", paired=True, out=out, quiet=True
    ),
    "evaluate, refused": lambda root, out: evaluate(root / "run", root / "testA", out, out=out, quiet=True),
    "import": lambda root, out: import_reference(root / "reference", out=out),
    "import, refused": lambda root, out: import_reference(root / "testA", out=out),
    "load": lambda root, _out: Translator.load(root / "run"),
    "load, refused": lambda root, _out: Translator.load(root / "nothing"),
    "load, bf16": lambda root, _out: Translator.load(root / "run", precision="bf16")(picture()),
    "load, onnxruntime": lambda root, _out: Translator.load(root / "run", engine="onnxruntime")(picture()),
    "load, openvino": lambda root, _out: Translator.load(root / "run", engine="openvino")(picture()),
    "translate": lambda root, _out: list(Translator.load(root / "run").translate([picture()] * 3, batch_size=2)),
    "translate, tiles": lambda root, _out: list(Translator.load(root / "run").translate([picture(90)], tile=32)),
    "translate, not finite": lambda _root, _out: damaged()(picture()),
    "folder": lambda root, out: translate_folder(root / "run", root / "testA", out),
    "folder, refused": lambda root, out: translate_folder(root / "run", root / "nothing", out),
    "clip": lambda root, out: translate_video(Translator.load(root / "run"), root / "clip.mkv", out / "clip.mp4"),
    **{
        f"export, {name}": lambda root, out, name=name: export_model(root / "run", out, format=name) for name in EXPORTS
    },
    "export, refused": lambda root, _out: export_model(root / "run", root / "run", format="reference"),
}
RAISE = {name for name in CALLS if name.endswith(("failing", "refused", "not finite"))}
NEEDS = {"mlflow": "mlflow", "onnx": "onnxruntime", "openvino": "openvino", "clip": "av"}


def skip_unless_installed(name):
    for word, package in NEEDS.items():
        if word in name:
            pytest.importorskip(package)


def import_first():
    """What importing other packages changes is not ours, so it is done before."""
    for package in ("sympy", "scipy.special", "requests", "torchmetrics", "matplotlib.pyplot", "tensorboard", "mlflow"):
        try:
            importlib.import_module(package)
        except ImportError:
            continue


SLOW = {
    *("export, onnx", "export, openvino", "export, torch-export", "load, onnxruntime", "load, openvino"),
    *("inspect, a run", "train, dropout", "train, mlflow", "train, own threads", "train, resumed"),
}


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: float64_by_default(),
    ],
)
def test_modes_of_the_host_do_not_reach_into_training(root, tmp_path, mode):
    with mode():
        train(root, out=tmp_path / "run", preset="modern", **SETTINGS)
        before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    with mode():
        assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()) == before
    weights = [load_file(run / "model" / "a2b.safetensors") for run in (tmp_path / "run", root / "run")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@contextmanager
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CALLS]
)
def test_a_call_leaves_the_process_as_it_was(root, tmp_path, name, monkeypatch):
    skip_unless_installed(name)
    import_first()
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("cyclegan.training.validation.TIME_SHARE", 1e6)
    (tmp_path / "out").mkdir()
    with warnings.catch_warnings():  # a filter that an import adds here is not part of the next test
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        multiprocessing.set_start_method(None, force=True)
        before = fingerprint()
        if name in RAISE:
            with pytest.raises((InputError, RuntimeError)):
                CALLS[name](root, tmp_path / "out" / "x")
        else:
            CALLS[name](root, tmp_path / "out" / "x")
        assert differences(before, fingerprint()) == {}


def test_settings_of_the_host_are_kept(root, tmp_path, monkeypatch):
    """Not the defaults, but what a host has chosen."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    multiprocessing.set_start_method("forkserver", force=True)
    benchmark = torch.backends.cudnn.benchmark
    logging.getLogger("cyclegan").setLevel(logging.ERROR)
    try:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        before = fingerprint()
        train(root, out=tmp_path / "run", threads=2, dropout=True, **SETTINGS)
        evaluate(tmp_path / "run", root / "testA", root / "testB", quiet=True)
        assert differences(before, fingerprint()) == {}
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.set_float32_matmul_precision("highest")
        logging.getLogger("cyclegan").setLevel(logging.NOTSET)
        multiprocessing.set_start_method(None, force=True)


def test_processes_that_load_images_leave_no_trace(root, tmp_path):
    multiprocessing.set_start_method(None, force=True)
    before = fingerprint()
    train(root, out=tmp_path / "run", workers=1, **{**SETTINGS, "num_samples": 0, "num_validation": 0})
    assert differences(before, fingerprint()) == {}
    multiprocessing.set_start_method("spawn")  # a host may still choose
    multiprocessing.set_start_method(None, force=True)


def test_two_threads_of_a_training_end_with_it(root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    before = fingerprint()
    train(root, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(RuntimeError, match="of the host"):
        train(root, out=tmp_path / "failing", callbacks=[fail], **SETTINGS)
    assert differences(before, fingerprint()) == {}


def devices():
    return ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_CUDA, reason="no CUDA"))]


@pytest.mark.parametrize("device", devices())
def test_a_step_with_dropout_neither_reads_nor_changes_the_random_numbers_of_the_host(device, monkeypatch):
    if device == "cuda":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # which Triton asks, too
    config = make_config({**TINY_MODEL, "crop_size": 16, "steps": 4, "dropout": True, "device": device}, preset="paper")
    images = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.rand(3), torch.rand(3, device=device)
        torch.manual_seed(seed)
        state = TrainState.create(config, device)
        losses.append([train_step(state, images[0], images[1])["cycle_a"].item() for _ in range(2)])
        assert torch.equal(torch.rand(3), expected[0])
        if device != "cpu":
            assert torch.equal(torch.rand(3, device=device), expected[1])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]
