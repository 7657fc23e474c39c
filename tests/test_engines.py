"""Engines: the same results from each, in the precision that was asked for."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, cli
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.storage.model import ModelInfo, save_model
from cyclegan.translate.engines import psnr, smooth_picture
from cyclegan.translate.engines.graphs import to_openvino
from cyclegan.translate.engines.registry import AUTO_DB, open_engine
from cyclegan.translate.engines.with_openvino import can_compute, computes_in
from cyclegan.translate.engines.with_torch import SixteenBit, StripNorm

MODELS = {
    "resnet": ModelConfig(**TINY_MODEL),
    "batch norm": ModelConfig(**TINY_MODEL, norm="batch"),
    "unet": ModelConfig(**TINY_MODEL, generator="unet", depth=5),
    "smooth, with a global skip": ModelConfig(**TINY_MODEL, resampling="smooth", global_skip=True),
    "skips and reflection": ModelConfig(
        **{**TINY_MODEL, "resampling": "smooth", "norm": "layer"}, skips=True, padding="reflect", global_skip=True
    ),
    "plain, skips and reflection": ModelConfig(**TINY_MODEL, skips=True, padding="reflect"),
    "unet with layer norm": ModelConfig(**TINY_MODEL, generator="unet", depth=5, norm="layer", global_skip=True),
    "one channel": ModelConfig(**TINY_MODEL, channels_a=1),
}


def make_model(place, config=MODELS["resnet"], dtype="uint8"):
    """A model directory with random weights, large enough for a picture that is no plain grey."""
    weights = {}
    for seed, direction in enumerate(("a2b", "b2a")):
        channels = (config.channels_a, config.channels_b)[:: 1 if direction == "a2b" else -1]
        network = build_generator(config.replace(init_gain=0.1), *channels, seed=seed)
        weights[direction] = network.state_dict()
    a, b = (ImageFormat(channels=c, dtype=dtype) for c in (config.channels_a, config.channels_b))
    info = ModelInfo(
        **{"cyclegan_version": "0", "model": config, "a": a, "b": b, "preprocess": "none", "load_size": 16},
        **{"crop_size": 16, "step": 0, "translate_with": "final", "averages": False},
    )
    save_model(place, info, weights)
    return place


def skip_unless_computed(engine, precision):
    """Skips what OpenVINO cannot compute on this CPU: bf16 on most laptops, fp16 on almost all x86 CPUs."""
    if engine == "openvino" and not can_compute(precision):
        pytest.skip(f"OpenVINO cannot compute in {precision} on this CPU, which has no {precision} arithmetic")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: make_model(root / str(number), config) for number, (kind, config) in enumerate(MODELS.items())}


@pytest.fixture
def resnet(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def no_extras(monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        monkeypatch.setitem(sys.modules, name, None)


ENGINES = [
    *(("torch", "bf16", 35), ("torch", "fp16", 50), ("onnxruntime", "fp32", 90), ("onnxruntime", "fp16", 50)),
    *(("openvino", "fp32", 90), ("openvino", "bf16", 35), ("openvino", "fp16", 50)),
]
# A conversion to ONNX takes seconds. Here three kinds are always converted, in fp16; test_export.py has the others.
QUICK_IN_ONNX = [(kind, "fp16") for kind in ("resnet", "unet", "smooth, with a global skip")]


@pytest.mark.parametrize(
    ("kind", "engine", "precision", "least_db"),
    [
        pytest.param(
            *(kind, engine, precision, least_db),
            marks=[pytest.mark.slow] if engine == "onnxruntime" and (kind, precision) not in QUICK_IN_ONNX else [],
        )
        for kind in MODELS
        for engine, precision, least_db in ENGINES
    ],
)
def test_every_engine_gives_the_result_of_torch_at_any_size_and_batch(models, kind, engine, precision, least_db):
    model = models[kind]
    skip_unless_computed(engine, precision)
    directions = ("a2b", "b2a") if engine == "torch" else ("a2b",)
    for direction in directions:
        exact = Translator.load(model, direction=direction)
        other = Translator.load(model, direction=direction, engine=engine, precision=precision)
        assert (other.engine.name, other.engine.precision) == (engine, precision)
        for count, height, width in ((1, 32, 32), (2, 37, 51), (3, 9, 66)):
            images = smooth_picture(exact.source.channels, height, width).repeat(count, 1, 1, 1)
            expected, result = exact.translate_tensor(images), other.translate_tensor(images)
            assert result.shape == expected.shape
            assert result.dtype == torch.float32
            assert expected.std() > 0.01  # a picture, so that a wrong one would be seen
            assert psnr(expected, result) > least_db


def test_by_default_results_are_those_of_the_network_bit_by_bit(resnet):
    translator = Translator.load(resnet)
    images = smooth_picture(3, 32)
    assert (translator.engine.name, translator.engine.precision) == ("torch", "fp32")
    assert torch.equal(translator.translate_tensor(images), translator.network(images))


def test_the_network_in_16_bits_is_a_copy(resnet):
    exact = Translator.load(resnet)
    before = {name: tensor.clone() for name, tensor in exact.network.state_dict().items()}
    SixteenBit(exact.network, torch.bfloat16)
    assert all(torch.equal(before[name], tensor) for name, tensor in exact.network.state_dict().items())
    assert exact.network.stem.weight.dtype == torch.float32


def test_an_image_in_bf16_does_not_depend_on_its_batch(resnet):
    translator = Translator.load(resnet, precision="bf16")
    images = torch.cat([smooth_picture(3, 32, seed=seed) for seed in range(3)])
    together = translator.translate_tensor(images)
    for image, result in zip(images, together, strict=True):
        assert torch.equal(translator.translate_tensor(image[None])[0], result)


def test_the_fast_norm_is_instance_norm_also_of_large_images(monkeypatch):
    x = (torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 3 + 1).bfloat16()
    expected = torch.nn.functional.instance_norm(x.double())
    norm = StripNorm(3)
    for most_pixels in (1 << 20, 100):  # at once, and in strips
        monkeypatch.setattr("cyclegan.translate.engines.with_torch.MOST_PIXELS", most_pixels)
        monkeypatch.setattr("cyclegan.translate.engines.with_torch.STRIP_PIXELS", 10 * 48)
        result = norm(x.contiguous(memory_format=torch.channels_last)).double()
        assert (result - expected).square().mean().sqrt() < 0.004  # half a unit of its last place


def test_stabilising_works_in_bf16_and_refuses_other_engines(resnet):
    frames = [
        np.asarray(Image.fromarray((np.indices((32, 32)).sum(0) * 3 + i).astype(np.uint8)).convert("RGB"))
        for i in range(3)
    ]
    exact = [x.astype(int) for x in Translator.load(resnet).translate(frames, stabilise=True)]
    small = [x.astype(int) for x in Translator.load(resnet, precision="bf16").translate(frames, stabilise=True)]
    assert max(np.abs(x - y).mean() for x, y in zip(exact, small, strict=True)) < 3  # levels of 255
    with pytest.raises(InputError, match="engine torch"):
        list(Translator.load(resnet, engine="openvino").translate(frames, stabilise=True))


@pytest.mark.parametrize(("precision", "computed"), [("fp32", "f32"), ("bf16", "bf16"), ("fp16", "f16")])
def test_openvino_computes_in_the_requested_precision(resnet, monkeypatch, precision, computed):
    skip_unless_computed("openvino", precision)
    import openvino

    compiled = []
    compile_model = openvino.Core.compile_model

    def spy(self, *arguments, **more):
        compiled.append(compile_model(self, *arguments, **more))
        return compiled[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    Translator.load(resnet, engine="openvino", precision=precision)
    assert [computes_in(each) for each in compiled] == [computed]
    assert compiled[0].get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()


def test_openvino_that_computes_in_something_else_is_refused(resnet, monkeypatch):
    monkeypatch.setattr("cyclegan.translate.engines.with_openvino.computes_in", lambda _: "bf16")
    with pytest.raises(InputError, match="computes in bf16 on this CPU, and fp32"):
        Translator.load(resnet, engine="openvino")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_openvino_cannot_compute_is_refused_before_work(resnet, monkeypatch, precision):
    monkeypatch.setattr("cyclegan.translate.engines.with_openvino.can_compute", lambda name: name == "fp32")
    monkeypatch.setattr("cyclegan.translate.engines.registry.to_openvino", None)
    with pytest.raises(InputError, match=f"cannot compute in {precision} on this CPU.*; use fp32, or engine torch"):
        Translator.load(resnet, engine="openvino", precision=precision)


def test_auto_is_fp32_where_openvino_cannot_compute_bf16(resnet, monkeypatch):
    monkeypatch.setattr("cyclegan.translate.engines.registry.has_fast_bf16", lambda _: True)
    monkeypatch.setattr("cyclegan.translate.engines.with_openvino.can_compute", lambda name: name == "fp32")
    assert Translator.load(resnet, engine="openvino", precision="auto").engine.precision == "fp32"


@pytest.mark.parametrize(("precision", "slow"), [("fp32", ""), ("bf16", "emulates it, so fp32 is faster")])
def test_an_engine_says_where_its_precision_is_slow(resnet, monkeypatch, precision, slow):
    monkeypatch.setattr("cyclegan.system.devices.has_fast_bf16", lambda _: False)
    engine = Translator.load(resnet, precision=precision).engine
    assert engine.precision == precision
    assert slow in str(engine)
    assert ("(" in str(engine)) == bool(slow)


def test_openvino_keeps_instance_norm_in_one_piece():
    graph = to_openvino(build_generator(MODELS["resnet"], 3, 3, seed=0), 3, 4)
    kinds = [operation.get_type_name() for operation in graph.get_ops()]
    assert kinds.count("MVN") == 7
    assert "ReduceMean" not in kinds


def test_openvino_sends_no_telemetry(resnet):
    Translator.load(resnet, engine="openvino")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.usefixtures("no_extras")
def test_auto_needs_no_extras(resnet):
    translator = Translator.load(resnet, engine="auto", precision="auto")
    assert translator.engine.name == "torch"
    for engine, line in (("onnxruntime", r"cyclegan\[onnx\]"), ("openvino", r"cyclegan\[openvino\]")):
        with pytest.raises(InputError, match=f"pip install '{line}'"):
            Translator.load(resnet, engine=engine)


def test_auto_takes_bf16_only_where_it_is_fast_and_close(tmp_path, monkeypatch):
    model, deep = make_model(tmp_path / "model"), make_model(tmp_path / "deep", dtype="uint16")
    chosen = lambda path: Translator.load(path, precision="auto").engine  # noqa: E731
    monkeypatch.setattr("cyclegan.translate.engines.registry.has_fast_bf16", lambda _: True)
    monkeypatch.setattr("cyclegan.translate.engines.registry.AUTO_DB", 10.0)
    assert (chosen(model).precision, chosen(deep).precision) == ("bf16", "fp32")
    assert "dB to fp32" in str(chosen(model))
    assert "more than 8 bits" in str(chosen(deep))
    monkeypatch.setattr("cyclegan.translate.engines.registry.AUTO_DB", 200.0)
    assert chosen(model).precision == "fp32"
    assert "keeps only" in str(chosen(model))
    monkeypatch.setattr("cyclegan.translate.engines.registry.has_fast_bf16", lambda _: False)
    assert "no arithmetic in bf16" in str(chosen(model))
    assert AUTO_DB == 40


def test_unsupported_engine_settings_are_refused(resnet):
    for settings, message in (
        ({"engine": "tensorrt"}, "engine is 'tensorrt'; expected auto, torch"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected"),
        ({"precision": "int8"}, "cyclegan export --precision int8"),
        ({"engine": "onnxruntime", "precision": "bf16"}, "choose fp32, fp16"),
        ({"engine": "openvino", "device": "cuda"}, "computes on the CPU"),
    ):
        with pytest.raises(InputError, match=message):
            Translator.load(resnet, **settings)


def test_an_engine_without_a_translator(tiny_model):
    network = build_generator(tiny_model, 3, 3, seed=0).eval()
    engine = open_engine(network, 3, tiny_model.multiple, precision="bf16")
    assert engine(smooth_picture(3, 16)).shape == (1, 3, 16, 16)


def test_the_command_shows_its_engine(resnet, tmp_path, capsys):
    Image.new("RGB", (20, 16), (200, 100, 50)).save(tmp_path / "photo.png")
    words = ["translate", str(resnet), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    cli.main([*words, "--engine", "openvino", "--precision", "fp32"])
    assert "Engine: openvino 20" in capsys.readouterr().err
    assert Image.open(tmp_path / "out" / "photo.png").size == (20, 16)
    cli.main([*words, "--precision", "fp32"])
    assert "on cpu, fp32" in capsys.readouterr().err


def test_a_signal_after_openvino_engines_came_and_went_finds_its_stack(resnet):
    # OpenVINO gives the thread that loads it a stack for signal handlers. Python's handlers run on it, and without it
    # the system ends the process.
    code = (
        "import gc, signal, sys\n"
        "from cyclegan import Translator\n"
        "loaded = [Translator.load(sys.argv[1], engine='openvino', precision='fp32') for _ in range(3)]\n"
        "while loaded:\n"
        "    loaded.pop(0)\n"
        "    gc.collect()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(resnet)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
