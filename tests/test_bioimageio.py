"""Packages for bioimage.io: bioimageio.spec accepts them, and bioimageio.core computes what a Translator does."""

import io
import socket
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch
from bioimageio.core import create_prediction_pipeline, digest_spec, test_model
from bioimageio.spec import InvalidDescr, load_model_description
from PIL import Image
from ruyaml import YAML
from safetensors.torch import load_file, save_file

from conftest import TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, cli
from cyclegan.export import export_model
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator, to_plain_convs
from cyclegan.storage.model import ModelInfo, save_model
from cyclegan.translate.tiling.network import reach_of
from make_run import make_run
from test_engines import MODELS, make_model

test_model.__test__ = False  # a function of bioimageio.core

LOCAL = ModelConfig(**TINY_MODEL, norm="layer", resampling="smooth", global_skip=True)
DETAIL = LOCAL.replace(skips=True, padding="reflect")


def export(tmp_path, config=MODELS["resnet"], **settings):
    """A model of this configuration and the package of its direction a2b."""
    model = make_model(tmp_path / "model", config)
    done = export_model(model, tmp_path / "out", format="bioimageio", direction="a2b", **settings)
    return Translator.load(model), done.files[0]


def describe(package):
    with zipfile.ZipFile(package) as archive:
        return YAML(typ="safe").load(archive.read("rdf.yaml"))


def predict(package, picture, *, blocks=None):
    """The translation of (H, W, C) by bioimageio.core, whole or in blocks of min + blocks * step pixels."""
    description = load_model_description(package)
    tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
    with create_prediction_pipeline(description, weights_format="onnx") as pipeline:
        sample = digest_spec.create_sample_for_model(description, inputs={"image": tensor}, sample_id="one")
        if blocks is None:
            found = pipeline.predict_sample_without_blocking(sample)
        else:
            found = pipeline.predict_sample_with_blocking(sample, ns=blocks)
    return found.as_arrays()[next(iter(found.members))][0].transpose(1, 2, 0)


def photo(height, width, channels=3, seed=0):
    """Smooth colours with some noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int64)
    noise = np.random.default_rng(seed).integers(-9, 9, large.shape)
    return (large + noise).clip(0, 255).astype(np.uint8)[..., :channels]


def assert_close(found, expected, level=1):
    """Equal up to rounding: another sum of the same numbers may fall on the other side of a half."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    assert apart.max() <= level
    assert found.dtype != np.uint8 or (apart > 0).mean() < 0.002


def test_a_run_is_exported_for_both_directions_and_passes_the_test_of_bioimageio(tmp_path, capsys):
    model = make_model(tmp_path / "model")
    arguments = ["--author", "Ada Lovelace", "--author", "Grace Hopper", "--licence", "cc-by-4.0"]
    cli.main(["export", str(model), "--format", "bioimageio", "--out", str(tmp_path / "out"), *arguments])
    shown = capsys.readouterr()
    assert [line.rpartition("/")[2] for line in shown.out.splitlines()] == [
        "a2b.bioimageio.zip",
        "b2a.bioimageio.zip",
    ]
    assert "to torch on test pictures. Translate whole images, not tiles" in shown.err
    for direction in ("a2b", "b2a"):
        summary = test_model(tmp_path / "out" / f"{direction}.bioimageio.zip", weight_format="onnx")
        assert summary.status == "passed", summary.format()
    described = describe(tmp_path / "out" / "a2b.bioimageio.zip")
    assert [author["name"] for author in described["authors"]] == ["Ada Lovelace", "Grace Hopper"]
    assert described["license"] == "CC-BY-4.0"
    with zipfile.ZipFile(tmp_path / "out" / "a2b.bioimageio.zip") as archive:
        assert onnx.load_model_from_string(archive.read("a2b.onnx")).ir_version == 8  # for ONNX Runtime 1.14
    assert "Zhu" in described["cite"][0]["text"]
    assert described["inputs"][0]["axes"][1]["channel_names"] == ["red", "green", "blue"]


@pytest.mark.parametrize("size", [(64, 64), (37, 51), (8, 70)])
def test_a_whole_image_of_any_size_is_translated_as_by_a_translator(tmp_path, size):
    translator, package = export(tmp_path)
    axes = describe(package)["inputs"][0]["axes"]
    assert axes[2]["size"] == {"min": 8, "step": 1}
    assert axes[2]["concatenable"] is False  # instance norm needs the whole image
    assert "halo" not in describe(package)["outputs"][0]["axes"][2]
    assert_close(predict(package, photo(*size)), translator(photo(*size)))


@pytest.mark.parametrize("config", [LOCAL, DETAIL], ids=["smooth", "detail"])
def test_a_local_generator_gives_in_blocks_what_it_gives_as_a_whole(tmp_path, config):
    translator, package = export(tmp_path, config)
    summary = test_model(package, weight_format="onnx")
    assert summary.status == "passed", summary.format()
    described = describe(package)
    axis, halo = described["inputs"][0]["axes"][2], described["outputs"][0]["axes"][2]["halo"]
    reach = reach_of(translator.original)
    assert axis["concatenable"] is True
    assert axis["size"] == {"min": 2 * halo + 4, "step": 4}
    assert reach <= halo < reach + 4
    picture = photo(132, 96)
    whole, blocks = predict(package, picture), predict(package, picture, blocks=4)
    assert_close(blocks, whole)
    # Tools mirror the border before the network, which mirrors it in each of its layers: inside there is no difference.
    inner = (slice(reach, -reach), slice(reach, -reach))
    assert_close(whole[inner], translator(picture)[inner])
    mirrored = np.pad(picture, ((halo, halo), (halo, halo), (0, 0)), "symmetric")
    assert_close(whole, translator(mirrored)[halo:-halo, halo:-halo])


RANGES = {
    "uint16": (2, ImageFormat(channels=2, dtype="uint16", low=100, high=40000)),
    "int16": (1, ImageFormat(channels=1, dtype="int16", low=-1000, high=3000)),
    "int8": (1, ImageFormat(channels=1, dtype="int8", low=-100.5, high=90)),
    "float32": (1, ImageFormat(channels=1, dtype="float32", low=-1, high=1)),
    "float16": (1, ImageFormat(channels=1, dtype="float16", low=0, high=9)),
    "uint32": (1, ImageFormat(channels=1, dtype="uint32", low=0, high=1e6)),
}


@pytest.mark.parametrize("kind", RANGES)
def test_values_of_files_go_in_and_come_out_rounded(tmp_path, kind):
    channels, image = RANGES[kind]
    config = ModelConfig(**{**TINY_MODEL, "channels_a": channels, "channels_b": channels})
    network = build_generator(config.replace(init_gain=0.1), channels, channels, seed=1)
    info = ModelInfo(
        **{"cyclegan_version": "0", "model": config, "a": image, "b": image, "preprocess": "none", "load_size": 16},
        **{"crop_size": 16, "step": 0, "translate_with": "final", "averages": False, "directions": ("a2b",)},
    )
    save_model(tmp_path / "model", info, {"a2b": network.state_dict()})
    (package,) = export_model(tmp_path / "model", tmp_path / "out", format="bioimageio").files
    assert test_model(package, weight_format="onnx").status == "passed"
    # Some values lie outside the range, and are clipped.
    span = image.high - image.low
    values = image.low + (photo(33, 40, channels) / 255 * 1.1 - 0.05) * span
    limits = np.iinfo(image.dtype) if np.dtype(image.dtype).kind in "iu" else np.finfo(image.dtype)
    picture = values.clip(limits.min, limits.max).astype(image.dtype)
    found, expected = predict(package, picture), Translator.load(tmp_path / "model")(picture)
    if kind in ("float16", "uint32"):  # which the specification does not have, and float32 does not hold
        expected = expected.astype(np.float32)
    levels = {"float32": 1e-4, "float16": 1e-2, "uint32": 5}
    assert_close(found, expected, level=levels.get(kind, 1))
    with zipfile.ZipFile(package) as archive:
        tensor = np.load(io.BytesIO(archive.read("translation.npy")))
    assert tensor.dtype == found.dtype


def test_a_deep_unet_is_for_whole_images_and_one_that_reaches_less_for_tiles(tmp_path):
    for name, depth, step in (("deep", 8, 1), ("flat", 5, 32)):
        config = ModelConfig(**TINY_MODEL, generator="unet", depth=depth, norm="batch")
        _, package = export(tmp_path / name, config)
        axis = describe(package)["inputs"][0]["axes"][2]
        assert axis["size"]["step"] == step
        assert axis["concatenable"] is (step > 1)


def test_an_export_needs_no_network_and_shows_no_image_of_the_user(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    _, package = export(tmp_path)
    with zipfile.ZipFile(package) as archive:
        assert archive.namelist() == ["README.md", "a2b.onnx", "image.npy", "rdf.yaml", "translation.npy"]


def test_the_pages_of_a_run_give_cover_names_and_scores(tmp_path):
    run = make_run(tmp_path / "maps")
    make_model(run / "model")
    config = (run / "model" / "config.json").read_text().replace('"step": 0', '"step": 3000')
    (run / "model" / "config.json").write_text(config)
    done = export_model(run, tmp_path / "out", format="bioimageio", direction="a2b")
    assert any("cover.png" in note for note in done.notes)
    assert any("--author" in note for note in done.notes)
    described = describe(done.files[0])
    assert described["name"] == "photos (A) to maps (B)"
    assert described["version"] == "1.0.3000"
    with zipfile.ZipFile(done.files[0]) as archive:
        readme = archive.read("README.md").decode()
        assert Image.open(io.BytesIO(archive.read("cover.png"))).size == (512, 256)
        assert str(tmp_path) not in readme + archive.read("rdf.yaml").decode()
    assert "| KID" in readme
    assert "3,000 steps" in readme


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "fp16"}, "A package for bioimage.io is fp32, and precision is fp16"),
        ({"authors": ["a/b"]}, "An author is 'a/b'; expected the name of a person"),
        ({"authors": "Ada"}, "authors is 'Ada'; expected a list of names"),
        ({"authors": [3]}, "An author is 3; expected the name"),
        ({"authors": np.zeros(2)}, "authors is array"),
        ({"licence": 7}, "licence is 7; expected an SPDX identifier"),
        ({"licence": "free"}, "licence is 'free'; expected an SPDX identifier, such as MIT"),
        ({"licence": "MIT", "format": "onnx"}, "author and licence are for format bioimageio, and format is onnx"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, settings, words):
    model = make_model(tmp_path / "model")
    with pytest.raises(InputError, match=words):
        export_model(model, tmp_path / "out", **{"format": "bioimageio"} | settings)
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_names_its_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[bioimageio\]'"):
        export(tmp_path)


def test_a_package_is_not_overwritten(tmp_path):
    model = make_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b2a.bioimageio.zip").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        export_model(model, tmp_path / "out", format="bioimageio")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b2a.bioimageio.zip"]


def test_a_network_that_gives_nan_is_not_exported(tmp_path):
    model = make_model(tmp_path / "model")
    weights = load_file(model / "a2b.safetensors")
    weights["stem.weight"][:] = 3e38
    save_file(weights, model / "a2b.safetensors")
    with pytest.raises(InputError, match="gives NaN or infinity"):
        export_model(model, tmp_path / "out", format="bioimageio", direction="a2b")


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(**{**TINY_MODEL, "blocks": 3}, norm="batch"),
        LOCAL.replace(blocks=2),
        DETAIL.replace(blocks=2),
        ModelConfig(**TINY_MODEL, generator="unet", depth=5, norm="layer"),
    ],
    ids=["strided", "smooth", "detail", "unet"],
)
def test_the_reach_is_exactly_how_far_an_output_pixel_sees(config):
    network = to_plain_convs(build_generator(config.replace(init_gain=0.1), 3, 3, seed=1)).eval().double()
    reach, multiple = reach_of(network), config.multiple
    start = -(-reach // multiple) * multiple + multiple
    picture = torch.rand(1, 3, 2 * start + multiple, 2 * start + multiple, dtype=torch.float64, requires_grad=True)
    row = network(picture)[0, 0, start + multiple // 2, start : start + multiple]
    (gradient,) = torch.autograd.grad(row.sum(), picture)
    columns = (gradient[0].abs().sum((0, 1)) != 0).nonzero().flatten()
    assert max(start - int(columns[0]), int(columns[-1]) - start - multiple + 1) == reach


def test_a_network_with_instance_norm_reaches_everywhere():
    assert reach_of(build_generator(ModelConfig(**TINY_MODEL), 3, 3)) is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Error calling function `package_file_descr_serializer`", "does not work with pydantic .*; run pip install"),
        ("inputs.0:\n  too few axes", "refuses the package: inputs.0: too few axes"),
    ],
)
def test_a_package_that_bioimageio_refuses_is_not_put_into_place(tmp_path, monkeypatch, reason, words):
    class Refused(InvalidDescr):
        def get_reason(self):
            return reason

    monkeypatch.setattr("bioimageio.spec.load_description", lambda _: Refused(type="model", format_version="0.5.3"))
    with pytest.raises(InputError, match=words):
        export(tmp_path)
    assert not (tmp_path / "out").exists()
