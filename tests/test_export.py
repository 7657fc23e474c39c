"""Exports to other programs: what is written translates as the run does, or is not written at all."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import TINY, make_folder
from cyclegan import InputError, ModelConfig, Translator, cli, train
from cyclegan.export import export_model
from cyclegan.export.int8 import read_images
from cyclegan.images.formats import ImageFormat
from cyclegan.translate.engines import psnr, smooth_picture
from test_engines import MODELS, make_model, skip_unless_computed


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("format", "precision", "engine", "least_db"),
    [
        *(
            ("onnx", "fp32", "onnxruntime", 90),
            ("onnx", "fp16", "onnxruntime", 50),
            ("openvino", "fp32", "openvino", 90),
        ),
        *(
            ("openvino", "bf16", "openvino", 35),
            ("torch-export", "fp32", "torch", 90),
            ("torch-export", "bf16", "torch", 35),
        ),
    ],
)
def test_a_model_is_exported_and_translated_with_from_the_command_line(
    model, tmp_path, capsys, format, precision, engine, least_db
):
    skip_unless_computed(engine, precision)
    out = tmp_path / "exported"
    cli.main(["export", str(model), "--format", format, "--out", str(out), "--precision", precision])
    shown = capsys.readouterr()
    files = [line.rpartition("/")[2] for line in shown.out.splitlines()]
    assert set(files) == {path.name for path in out.iterdir()}
    assert files[-1] == "config.json"
    assert shown.err.count("to torch in fp32") == 2
    for direction in ("a2b", "b2a"):
        exact, other = (Translator.load(path, direction=direction) for path in (model, out))
        assert (other.engine.name, other.engine.precision) == (engine, precision)
        for count, height, width in ((1, 32, 32), (2, 37, 51), (3, 9, 66)):
            images = smooth_picture(3, height, width, seed=5).repeat(count, 1, 1, 1)
            assert psnr(exact.translate_tensor(images), other.translate_tensor(images)) > least_db
    Image.new("RGB", (20, 17), (200, 100, 50)).save(tmp_path / "photo.png")
    cli.main(["translate", str(out), str(tmp_path / "photo.png"), "--out", str(tmp_path / "done")])
    assert f"Engine: {engine}" in capsys.readouterr().err
    assert Image.open(tmp_path / "done" / "photo.png").size == (20, 17)


# Kinds that are always exported to formats that take seconds. test_engines.py converts others to ONNX.
QUICK = {
    "onnx": ("batch norm", "unet with layer norm", "one channel", "skips and reflection"),
    "torch-export": ("batch norm", "unet with layer norm", "smooth, with a global skip"),
    "openvino": tuple(MODELS),
}


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        pytest.param(format, kind, marks=[] if kind in quick else [pytest.mark.slow])
        for format, quick in QUICK.items()
        for kind in MODELS
        if kind != "resnet"  # exported above
    ],
)
def test_every_kind_of_network_can_be_exported(tmp_path, kind, format):
    model = make_model(tmp_path / "model", MODELS[kind])
    export_model(model, tmp_path / "out", format=format, direction="a2b")
    exact, other = Translator.load(model), Translator.load(tmp_path / "out")
    images = smooth_picture(exact.source.channels, 45, 70)
    assert psnr(exact.translate_tensor(images), other.translate_tensor(images)) > 90


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_is_calibrated_on_a_folder_and_says_how_close_it_is(tmp_path, format):
    model = make_model(tmp_path / "model", ModelConfig(width=16, blocks=2, discriminator_width=4))
    folder = make_folder(tmp_path / "photos", count=8, size=(70, 66))
    done = export_model(model, tmp_path / "out", format=format, direction="a2b", precision="int8", calibrate=folder)
    check = json.loads((tmp_path / "out" / "config.json").read_text())["networks"]["a2b"]["check"]
    assert check["decibels"] > 24  # of random weights, which no training has made robust
    assert "1x66x70" in check["sizes"]
    assert "In int8: all convolutions but the last" in done.notes[0]
    exact, other = Translator.load(model), Translator.load(tmp_path / "out")
    assert other.engine.precision == "int8"
    picture = np.asarray(Image.open(folder / "0.png"))
    assert np.abs(exact(picture).astype(int) - other(picture)).mean() < 8
    assert not np.array_equal(exact(picture), other(picture))


def test_inputs_of_norms_and_of_the_last_convolution_are_not_in_int8(model, tmp_path):
    import openvino

    folder = make_folder(tmp_path / "photos")
    export_model(model, tmp_path / "out", format="openvino", direction="a2b", precision="int8", calibrate=folder)
    graph = openvino.Core().read_model(tmp_path / "out" / "a2b.xml")
    norms = [operation for operation in graph.get_ordered_ops() if operation.get_type_name() == "MVN"]
    sources = [norm.input_value(0).get_node().get_type_name() for norm in norms]
    assert len(sources) == 7
    assert "FakeQuantize" not in sources
    kinds = [operation.get_type_name() for operation in graph.get_ordered_ops()]
    # One for the input of each convolution but the last; weights are in eight bits already.
    assert kinds.count("FakeQuantize") == kinds.count("Convolution") + kinds.count("ConvolutionBackpropData") - 1


def test_int8_without_images_is_refused_before_anything_is_written(model, tmp_path):
    for settings, message in (
        ({}, "names no training folder; give --calibrate"),
        ({"calibrate": tmp_path / "nothing"}, "There is no folder"),
        ({"calibrate": make_folder(tmp_path / "photos")}, "images of one domain"),
        ({"calibrate": make_folder(tmp_path / "one", count=1), "direction": "a2b"}, "needs at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            export_model(model, tmp_path / "out", format="openvino", precision="int8", **settings)
    assert not (tmp_path / "out").exists()


def test_int8_is_calibrated_without_the_files_that_training_passes_over(tmp_path):
    folder = make_folder(tmp_path / "photos", count=3)
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(folder / "deep.png")
    found = read_images(folder, ImageFormat(), 4, 8)
    assert len(found.calibration) + len(found.held_out) == 3
    for index in range(2):
        (folder / f"{index}.png").unlink()
    with pytest.raises(InputError, match=r"holds 1 images that can be used \(the last error: .*deep.png is 1 x uint16"):
        read_images(folder, ImageFormat(), 4, 8)


def test_an_onnx_file_describes_its_input(model, tmp_path):
    import onnxruntime

    export_model(model, tmp_path / "out", format="onnx", direction="a2b")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "a2b.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert (about["cyclegan.direction"], about["cyclegan.multiple"]) == ("a2b", "4")
    assert json.loads(about["cyclegan.input"])["image"] == {"channels": 3, "dtype": "uint8", "low": 0.0, "high": 255.0}
    (image,) = session.get_inputs()
    assert image.name == "image"
    assert image.shape[1] == 3
    assert [isinstance(side, str) for side in image.shape] == [True, False, True, True]


def test_a_file_of_an_export_has_its_own_direction(model, tmp_path):
    export_model(model, tmp_path / "out", format="torch-export")
    images = smooth_picture(3, 20)
    there = Translator.load(tmp_path / "out" / "b2a.pt2")
    assert there.direction == "b2a"
    expected = Translator.load(model, direction="b2a").translate_tensor(images)
    assert torch.allclose(there.translate_tensor(images), expected, atol=1e-5)
    shutil.copy(tmp_path / "out" / "b2a.pt2", tmp_path / "alone.pt2")
    with pytest.raises(InputError, match="needs the config.json"):
        Translator.load(tmp_path / "alone.pt2")


def test_unsupported_uses_of_an_export_are_refused(model, tmp_path):
    out = tmp_path / "out"
    export_model(model, out, format="torch-export", direction="a2b")
    for settings, message in (
        ({"engine": "openvino"}, "was exported for torch"),
        ({"precision": "bf16"}, "was exported in fp32"),
        ({"direction": "b2a"}, "only the direction a2b"),
        ({"weights": "average"}, "leave it out"),
    ):
        with pytest.raises(InputError, match=message):
            Translator.load(out, **settings)
    with pytest.raises(InputError, match="can only translate; give the run"):
        export_model(out, tmp_path / "again", format="onnx")
    with pytest.raises(InputError, match="cannot be reached"):
        list(Translator.load(out).translate([np.zeros((16, 16, 3), np.uint8)], stabilise=True))
    (out / "a2b.pt2").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a torch-export file"):
        Translator.load(out)


def test_impossible_combinations_are_refused_with_an_alternative(model, tmp_path):
    for settings, message in (
        ({"format": "onnx", "precision": "bf16"}, "take --precision fp16, or --format openvino"),
        ({"format": "torch-export", "precision": "int8"}, "take --format openvino or onnx"),
        ({"format": "reference", "precision": "bf16"}, "keeps its weights in fp32"),
        ({"format": "onnx", "calibrate": tmp_path}, "is for precision int8"),
        ({"format": "onnx", "precision": "fp8"}, "expected fp32"),
        ({"format": "tensorrt"}, "choose one of: model, reference, onnx, openvino, torch-export"),
    ):
        with pytest.raises(InputError, match=message):
            export_model(model, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_openvino_graph_that_cannot_be_checked_here_is_refused_before_work(model, tmp_path, monkeypatch, precision):
    monkeypatch.setattr("cyclegan.translate.engines.with_openvino.can_compute", lambda name: name == "fp32")
    monkeypatch.setattr("cyclegan.export.graph_formats.load_generator", None)
    with pytest.raises(InputError, match=f"cannot compute in {precision} on this CPU.*use --precision fp32"):
        export_model(model, tmp_path / "out", format="openvino", precision=precision)
    assert not (tmp_path / "out").exists()


def test_an_openvino_export_that_this_cpu_cannot_compute_is_refused_with_a_remedy(model, tmp_path, monkeypatch):
    export_model(model, tmp_path / "out", format="openvino", direction="a2b")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    monkeypatch.setattr("cyclegan.translate.engines.with_openvino.can_compute", lambda name: name == "fp32")
    with pytest.raises(InputError, match="cannot compute in bf16 on this CPU.*; export it in fp32"):
        Translator.load(tmp_path / "out")


def test_a_graph_whose_check_is_slow_here_says_so_before_work(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cyclegan.system.devices.has_fast_bf16", lambda _: False)
    words = ["export", str(model), "--format", "torch-export", "--direction", "a2b", "--out", str(tmp_path / "out")]
    cli.main(words)
    assert "fp32 is faster" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr("cyclegan.export.graph_formats.load_generator", None)
    with pytest.raises(TypeError):  # the work, which begins after the warning
        cli.main([*words, "--precision", "bf16"])
    assert "no bf16 arithmetic and emulates it, so fp32 is faster" in capsys.readouterr().err
    with pytest.raises(TypeError), pytest.warns(UserWarning, match="which can take minutes in bf16"):
        export_model(model, tmp_path / "out", format="torch-export", direction="a2b", precision="bf16")


def test_missing_extras_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"onnxscript is not installed; run pip install 'cyclegan\[onnx\]'"):
        export_model(model, tmp_path / "out", format="onnx")
    with pytest.raises(InputError, match=r"nncf is not installed; run pip install 'cyclegan\[openvino\]'"):
        export_model(model, tmp_path / "out", format="openvino", precision="int8")


def test_a_graph_with_other_results_is_not_written(model, tmp_path, monkeypatch):
    other = Translator.load(model, direction="b2a").network
    from cyclegan.translate.engines.graphs import to_exported_program

    monkeypatch.setattr(
        "cyclegan.export.graph_formats.to_exported_program",
        lambda _, *arguments: to_exported_program(other, *arguments),
    )
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="only within .* dB of torch at .* and 80 dB is expected"):
        export_model(model, tmp_path / "deep" / "out", format="torch-export", direction="a2b")
    assert set(tmp_path.iterdir()) == before


def test_an_export_overwrites_nothing(model, tmp_path):
    export_model(model, tmp_path / "out", format="openvino", direction="a2b")
    content = (tmp_path / "out" / "a2b.xml").read_bytes()
    with pytest.raises(InputError, match="already exists"):
        export_model(model, tmp_path / "out", format="openvino")
    assert (tmp_path / "out" / "a2b.xml").read_bytes() == content


@pytest.mark.parametrize(("precision", "share", "least_db"), [("fp32", 1.0, 300), ("fp16", 0.5, 50)])
def test_a_model_by_itself_has_one_set_of_weights_and_translates_alike(tmp_path, capsys, precision, share, least_db):
    model, out = make_model(tmp_path / "model"), tmp_path / "alone"
    cli.main(["export", str(model), "--format", "model", "--precision", precision, "--out", str(out)])
    files = [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()]
    assert set(files) == {path.name for path in out.iterdir()} == {"config.json", "a2b.safetensors", "b2a.safetensors"}
    for direction in ("a2b", "b2a"):
        sizes = [(folder / f"{direction}.safetensors").stat().st_size for folder in (out, model)]
        assert sizes[0] / sizes[1] == pytest.approx(share, rel=0.2)
        exact, other = (Translator.load(path, direction=direction) for path in (model, out))
        image = smooth_picture(3, 32, 32, seed=5)
        assert psnr(exact.translate_tensor(image), other.translate_tensor(image)) > least_db
    with pytest.raises(InputError, match="exists and is not empty"):
        export_model(model, out, format="model")
    with pytest.raises(InputError, match="is fp32 or fp16"):
        export_model(model, tmp_path / "other", format="model", precision="bf16")


def test_the_averaged_weights_alone_are_final_ones_of_the_new_model(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", quiet=True, **{**TINY, "steps": 3})
    export_model(run, tmp_path / "alone", format="model", weights="average")
    averaged = load_file(run / "model" / "a2b_average.safetensors")
    alone = load_file(tmp_path / "alone" / "a2b.safetensors")
    assert all(torch.equal(alone[name], averaged[name]) for name in averaged)
    assert Translator.load(tmp_path / "alone").info.translate_with == "final"
