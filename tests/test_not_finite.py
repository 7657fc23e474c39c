"""A translation that holds NaN or infinity is an error that names the model, and never a black picture."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import TINY_MODEL, make_folder
from cyclegan import InputError, ModelConfig, Translator, evaluate, export_model, translate_folder
from cyclegan.cli import main
from cyclegan.export import graph_formats
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.storage.model import ModelInfo, load_generator
from cyclegan.translate.engines import registry
from cyclegan.translate.engines.graphs import to_exported_program
from cyclegan.translate.engines.registry import open_engine
from cyclegan.translate.large_files import translate_large
from cyclegan.video import translate_video
from test_engines import make_model

BAD = [float("nan"), float("inf"), float("-inf")]


def make_info(dtype="uint8", high=255.0):
    image = ImageFormat(channels=3, dtype=dtype, low=0.0, high=high)
    return ModelInfo(
        **{"cyclegan_version": "0", "model": ModelConfig(**TINY_MODEL), "a": image, "b": image, "preprocess": "none"},
        **{"load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final", "averages": False},
    )


class Overflows(torch.nn.Module):
    """Returns its input, and NaN where it is bright."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images):
        return torch.where(images > 0.99, torch.nan, images * self.scale)


def overflowing(**info):
    return Translator(Overflows(), make_info(**info), "a2b", name="runs/odd")


def damaged(value=float("nan")):
    """A generator with one bad weight that only appears in memory."""
    network = build_generator(ModelConfig(**TINY_MODEL), 3, 3, seed=0).eval().requires_grad_(False)
    network.blocks[0].conv1.weight[0, 0, 0, 0] = value
    return Translator(network, make_info(), "a2b", name="runs/damaged")


def picture(value=None, size=(20, 20)):
    values = np.random.default_rng(0).integers(0, 250, (*size, 3), dtype=np.uint8)
    if value is not None:
        values[3, 4] = value
    return values


@pytest.mark.parametrize("value", BAD)
def test_weights_that_are_not_finite_are_refused_when_they_are_loaded(tmp_path, value):
    model = make_model(tmp_path / "model")
    weights = load_file(model / "a2b.safetensors")
    weights["head.bias"][0] = value
    save_file(weights, model / "a2b.safetensors")
    images = make_folder(tmp_path / "images", 1)
    message = r"model.a2b.safetensors holds NaN or infinity in head.bias; use another checkpoint"
    for work in (
        lambda: Translator.load(model),
        lambda: translate_folder(model, images, tmp_path / "out"),
        lambda: evaluate(model, images, images.parent / "images", out=tmp_path / "out", quiet=True),
        lambda: export_model(model, tmp_path / "out", format="torch-export"),
    ):
        with pytest.raises(InputError, match=message):
            work()
    Translator.load(model, direction="b2a")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", BAD)
def test_a_network_that_gives_nan_is_an_error_that_names_it_and_its_direction(value):
    translator = damaged(value)
    image = Image.fromarray(picture())
    for work in (
        lambda: translator(image),
        lambda: list(translator.translate([image] * 3, batch_size=2)),
        lambda: translator(picture()),
        lambda: list(translator.translate([image], tile=16)),
        lambda: list(translator.translate([image] * 2, stabilise=True)),
        lambda: translator.translate_tensor(torch.zeros(1, 3, 16, 16)),
    ):
        with pytest.raises(InputError, match=r"runs/damaged gives NaN or infinity .*a2b, fp32 on cpu.*checkpoint"):
            work()


def test_images_before_a_bad_one_are_translated_and_an_image_that_holds_nan_is_named_as_the_cause():
    translator = overflowing(dtype="float32", high=1.0)
    good = np.full((8, 8, 3), 0.5, np.float32)
    bad, holes = good.copy(), good.copy()
    bad[0, 0, 0], holes[0, 0, 0] = 1.0, np.nan
    results = translator.translate([good, bad, good])
    assert np.allclose(next(results), good)
    with pytest.raises(InputError, match=r"runs/odd gives NaN"):
        next(results)
    with pytest.raises(InputError, match=r"The image itself holds NaN or infinity; fill these values"):
        translator(holes)
    each = list(translator.translate_each([good, bad, holes, good], batch_size=4))
    assert [isinstance(result, InputError) for result in each] == [False, True, True, False]
    assert np.allclose(each[3], good)


def test_the_message_of_a_half_precision_advises_fp32():
    network = build_generator(ModelConfig(**TINY_MODEL), 3, 3, seed=0).eval().requires_grad_(False)
    network.stem.weight.mul_(1e6)  # too large for fp16 alone
    info = make_info()
    exact = Translator(open_engine(network, 3, 4), info, "a2b", name="runs/large")
    exact(picture())
    half = Translator(open_engine(copy.deepcopy(network), 3, 4, precision="fp16"), info, "a2b", name="runs/large")
    message = r"runs/large gives NaN or infinity for this image \(a2b, fp16 on cpu\); translate with --precision fp32"
    with pytest.raises(InputError, match=message):
        half(picture())
    list(half.translate([picture()], tile=16))  # tiles are computed in float32
    engine = replace(half.engine, original=None)
    with pytest.raises(InputError, match="export it again with --precision fp32"):
        Translator(engine, info, "a2b", name="export")(picture())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_other_engines_are_checked_as_well(engine):
    pytest.importorskip(engine)
    network = build_generator(ModelConfig(**TINY_MODEL), 3, 3, seed=0).eval().requires_grad_(False)
    network.head.bias[1] = torch.nan
    translator = Translator(open_engine(network, 3, 4, engine=engine), make_info(), "a2b", name="runs/x")
    with pytest.raises(InputError, match=r"runs/x gives NaN or infinity .*fp32 on cpu"):
        translator(picture())


def test_an_exported_program_is_checked_as_well(tmp_path):
    model = make_model(tmp_path / "model")
    export_model(model, tmp_path / "out", format="torch-export", direction="a2b")
    network = build_generator(ModelConfig(**TINY_MODEL), 3, 3, seed=0).eval().requires_grad_(False)
    network.head.bias[1] = torch.nan
    torch.export.save(to_exported_program(network, 3, 4, "fp32"), tmp_path / "out" / "a2b.pt2")
    with pytest.raises(InputError, match=r"out gives NaN or infinity .*another checkpoint"):
        Translator.load(tmp_path / "out")(picture())


@pytest.fixture
def mixed(tmp_path):
    """Five pictures, of which the third one overflows."""
    folder = tmp_path / "images"
    for index in range(5):
        write_image(folder / f"{index}.png", picture(255 if index == 2 else None))
    return folder


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_folder_leaves_out_the_image_and_keeps_an_older_output(mixed, tmp_path, batch_size):
    out = tmp_path / "out"
    old = picture(9)
    write_image(out / "2.png", old)
    result = translate_folder(overflowing(), mixed, out, batch_size=batch_size)
    assert [source.name for source, _ in result.skipped] == ["2.png"]
    assert "runs/odd gives NaN or infinity" in result.skipped[0][1]
    assert [source.name for source in result.written.sources] == ["0.png", "1.png", "3.png", "4.png"]
    assert np.array_equal(read_image(out / "2.png", 3), old)
    assert np.array_equal(read_image(out / "3.png", 3), picture())
    assert sorted(path.name for path in out.iterdir()) == [f"{index}.png" for index in range(5)]


@pytest.mark.parametrize("options", [{"tile": 16}, {"stabilise": True}, {"short_side": 18}])
def test_a_folder_where_every_image_fails_writes_nothing(mixed, tmp_path, options):
    result = translate_folder(damaged(), mixed, tmp_path / "out", **options)
    assert len(result.skipped) == 5
    assert not list((tmp_path / "out").rglob("*.*")) if (tmp_path / "out").exists() else True


def load_damaged(monkeypatch):
    """Every translator that is loaded from now on gives NaN."""
    load = Translator.load

    def load_it(*arguments, **options):
        translator = load(*arguments, **options)
        translator.engine = replace(translator.engine, compute=lambda images: images * torch.nan)
        return translator

    monkeypatch.setattr(Translator, "load", load_it)


def test_the_command_ends_with_an_error_and_writes_no_file(mixed, tmp_path, monkeypatch, capsys):
    model = make_model(tmp_path / "model")
    load_damaged(monkeypatch)
    for inputs in (mixed, mixed / "0.png"):
        with pytest.raises(SystemExit) as end:
            main(["translate", str(model), str(inputs), "--out", str(tmp_path / "out"), "--device", "cpu"])
        assert end.value.code == 1
        assert f"{model} gives NaN or infinity for this image (a2b, " in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_file_in_tiles_is_not_written(tmp_path, suffix):
    write_image(tmp_path / "in.tif", picture(size=(70, 50)))
    target = tmp_path / f"out{suffix}"
    target.write_bytes(b"older")
    with pytest.raises(InputError, match=r"runs/damaged gives NaN or infinity"):
        translate_large(damaged(), tmp_path / "in.tif", target, tile=32)
    assert target.read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", target.name}


def test_a_clip_is_not_written(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "in.mkv"), "w") as clip:
        stream = clip.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for _ in range(3):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture(size=(32, 32)), format="rgb24")))
        clip.mux(stream.encode())
    with pytest.raises(InputError, match=r"runs/damaged gives NaN or infinity"):
        translate_video(damaged(), tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv"}


def test_an_evaluation_gives_no_scores(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    folders = [make_folder(tmp_path / name, 2, seed=ord(name)) for name in "AB"]
    load_damaged(monkeypatch)
    with pytest.raises(InputError, match=r"model gives NaN or infinity for this image \(a2b"):
        evaluate(model, *folders, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "scores.json").exists()


def test_auto_does_not_take_a_precision_that_overflows(monkeypatch):
    monkeypatch.setattr("cyclegan.translate.engines.registry.has_fast_bf16", lambda _: True)
    network = build_generator(ModelConfig(**TINY_MODEL), 3, 3, seed=0).eval()
    opened = registry.ENGINES["torch"].open

    def broken(network, channels, multiple, precision, device):
        engine = opened(network, channels, multiple, precision, device)
        return replace(engine, compute=lambda x: x * torch.nan) if precision == "bf16" else engine

    monkeypatch.setitem(registry.ENGINES, "torch", replace(registry.ENGINES["torch"], open=broken))
    engine = open_engine(network, 3, 4, precision="auto")
    assert engine.precision == "fp32"
    assert "not finite" in engine.reason


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch-export"])
def test_a_model_that_gives_nan_is_not_exported(tmp_path, monkeypatch, format):
    model = make_model(tmp_path / "model")

    def load(*arguments):
        network, info = load_generator(*arguments)
        network.head.bias[0] = torch.nan  # as where finite weights overflow
        return network, info

    monkeypatch.setattr(graph_formats, "load_generator", load)
    with pytest.raises(InputError, match="The network of a2b gives NaN or infinity; use another checkpoint"):
        export_model(model, tmp_path / "out", format=format, direction="a2b")
    assert not (tmp_path / "out").exists()
