"""Translations averaged over views of an image: mirrored, turned, moved."""

import copy
import pickle

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from test_stabilise import scene
from test_tiles import make_image, make_network
from torch import nn
from torch.nn import functional as F

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, evaluate, export_model, train, translate_folder
from cyclegan.cli import main
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.storage.model import ModelInfo
from cyclegan.storage.scores import read_scores
from cyclegan.translate.engines import on_device
from cyclegan.translate.large_files import translate_large
from cyclegan.translate.self_ensemble import VIEWS, View, mean_of
from cyclegan.translate.tiling import budget
from cyclegan.translate.tiling.network import TilingPlan
from test_engines import MODELS, make_model

KINDS = [kind for kind in VIEWS if kind != "none"]


def make_translator(kind="none", network=None, image_format=ImageFormat(), **settings):  # noqa: B008
    channels = image_format.channels
    made, config = make_network(channels=(channels, channels), **settings)
    config = config.replace(channels_a=channels, channels_b=channels)
    info = ModelInfo(
        **{"model": config, "a": image_format, "b": image_format, "preprocess": "none", "load_size": 64},
        **{"crop_size": 64, "step": 1, "translate_with": "final", "cyclegan_version": "0"},
    )
    return Translator(network or made, info, "a2b", torch.device("cpu"), self_ensemble=kind)


def pixels(height=61, width=83, seed=0):
    return ((make_image(height, width, seed=seed)[0].permute(1, 2, 0) + 1) * 127.5).to(torch.uint8).numpy()


def assert_close(one, other):
    """But for ties, which may round otherwise."""
    one, other = np.asarray(one).astype(int), np.asarray(other).astype(int)
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1
    assert (one != other).mean() < 0.01


# ---- what is averaged


def turned(images, quarters, mirrored):
    return torch.rot90(images.flip(-1) if mirrored else images, quarters, (-2, -1))


def turned_back(images, quarters, mirrored):
    images = torch.rot90(images, -quarters, (-2, -1))
    return images.flip(-1) if mirrored else images


@pytest.mark.parametrize("settings", [{"norm": "layer"}, {"generator": "unet"}])
@pytest.mark.parametrize(
    ("kind", "turns"), [("mirror", [(0, True)]), ("turns", [(q, m) for q in range(4) for m in (False, True)])]
)
def test_the_result_is_the_mean_of_the_translations_of_mirrored_and_turned_images(kind, turns, settings):
    plain, images = make_translator(**settings), make_image(22, 37)
    alone = [turned_back(plain.translate_tensor(turned(images, *turn)), *turn) for turn in {(0, False), *turns}]
    expected = torch.stack(alone).mean(0)
    assert (expected - alone[0]).abs().max() > 0.01
    assert torch.allclose(plain.with_self_ensemble(kind).translate_tensor(images), expected, atol=1e-5)


def test_the_result_is_the_mean_of_the_translations_of_moved_images():
    plain, images = make_translator(norm="layer"), make_image(23, 38)

    def moved(images, down, right):
        return plain.translate_tensor(F.pad(images, (right, 0, down, 0), mode="reflect"))[..., down:, right:]

    alone = [moved(images, 0, 0), moved(images, 2, 2)]
    alone += [moved(images.flip(-1), *move).flip(-1) for move in ((0, 2), (2, 0))]
    expected = torch.stack(alone).mean(0)
    assert (expected - alone[0]).abs().max() > 0.01
    assert torch.allclose(plain.with_self_ensemble("mirror-and-shift").translate_tensor(images), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 9), (31, 18)])
def test_a_network_that_changes_nothing_gives_the_image_itself(kind, size):
    images = make_image(*size)
    assert torch.equal(make_translator(kind, nn.Identity()).translate_tensor(images), images)


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_is_another_one_and_is_undone_exactly(kind):
    views, image = VIEWS[kind], torch.arange(6 * 9).reshape(1, 1, 6, 9)
    assert views[0] == View()
    assert len({(view.apply(image).shape, view.apply(image).numpy().tobytes()) for view in views}) == len(views)
    for view in views:
        assert view.apply(image).shape[-2:] == view.size(6, 9)
        assert torch.equal(view.undo(view.apply(image)), image)


def test_turning_an_image_turns_its_result():
    translator, images = make_translator("turns", norm="layer"), make_image(24, 36)
    result = translator.translate_tensor(images)
    for turn in ((1, False), (2, False), (3, True)):
        assert torch.allclose(translator.translate_tensor(turned(images, *turn)), turned(result, *turn), atol=1e-5)


def test_the_mean_of_equal_values_is_exactly_their_value():
    values = torch.rand(1000)
    for count in (1, 2, 3, 7, 8):
        assert torch.equal(mean_of([values] * count), values)


def test_none_is_the_translation_itself_bit_by_bit():
    network, _ = make_network()
    images = make_image(32, 48)
    with torch.inference_mode():
        assert torch.equal(make_translator("none", network).translate_tensor(images), network(images))


# ---- every way to translate


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings", [{"norm": "layer"}, {"generator": "unet", "norm": "batch"}, {"norm": "instance"}, {"generator": "unet"}]
)
def test_tiles_give_the_result_of_the_whole(kind, settings):
    translator, image = make_translator(kind, **settings), pixels()
    assert_close(next(translator.translate([image], tile=16)), translator(image))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{"norm": "layer"}, {"norm": "instance"}])
def test_a_tiff_in_tiles_goes_on_after_a_stop(kind, settings, tmp_path):
    class Stop(Exception):
        pass

    def stop(what, _share):
        if what.startswith("row 1 "):
            raise Stop

    shares = []
    translator, image, out = make_translator(kind, **settings), pixels(), tmp_path / "out.tif"
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(32, 32), photometric="rgb")
    with pytest.raises(Stop):
        translate_large(translator, tmp_path / "in.tif", out, tile=32, on_progress=stop)
    other = translator.with_self_ensemble("none")
    translate_large(other, tmp_path / "in.tif", tmp_path / "other.tif", tile=32)
    result = translate_large(
        translator, tmp_path / "in.tif", out, tile=32, on_progress=lambda _, share: shares.append(share)
    )
    assert result.notes == ["out.tif: 1 of 2 rows of tiles were done before."]
    assert shares == sorted(shares)
    assert_close(tifffile.imread(out), translator(image))
    assert (tifffile.imread(out) != tifffile.imread(tmp_path / "other.tif")).mean() > 0.1


@pytest.mark.parametrize("kind", ["crops", "reduced"])
def test_approximate_statistics_are_those_of_each_view(kind, tmp_path):
    translator, image = make_translator("mirror"), pixels(33, 40)
    tifffile.imwrite(tmp_path / "in.tif", image, photometric="rgb")
    translate_large(translator, tmp_path / "in.tif", tmp_path / "out.tif", tile=32, statistics=kind)
    assert_close(tifffile.imread(tmp_path / "out.tif"), translator(image))  # small enough to be exact


def test_the_state_of_every_view_counts_as_memory(monkeypatch):
    network, _ = make_network()
    one, eight = (budget.tiled_bytes(network, 4096, 4096, TilingPlan(512, 1), count) for count in (1, 8))
    stored = 16 * 1024 * 1024 * 4  # bytes of an activation
    assert eight - one == 7 * stored
    local, _ = make_network(norm="layer")
    assert len({budget.tiled_bytes(local, 4096, 4096, TilingPlan(512, 0), count) for count in (1, 8)}) == 1
    monkeypatch.setattr("cyclegan.translate.tiling.pictures.available_bytes", lambda _: budget._BASE_BYTES + 2**20)
    with pytest.raises(InputError, match="or no --self-ensemble or"):
        list(make_translator("turns").translate([pixels(400, 400)], tile=64))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_and_of_a_device_that_converts_are_those_alone(kind, monkeypatch):
    translator, images = make_translator(kind, norm="layer"), [pixels(20, 31, seed) for seed in range(3)]
    alone = [translator(image) for image in images]
    for batched, image in zip(translator.translate(images, batch_size=3), alone, strict=True):
        assert_close(batched, image)
    monkeypatch.setattr(on_device, "DEVICE_TYPES", ["cpu"])
    for converted, image in zip(translator.translate(images), alone, strict=True):
        assert np.array_equal(converted, image)


def test_frames_are_stabilised_with_statistics_of_each_view():
    plain = make_translator()
    frames = [((frame.permute(1, 2, 0) + 1) * 127.5).to(torch.uint8).numpy() for frame in scene(5)]
    stable = list(plain.with_self_ensemble("mirror").translate(frames, stabilise=True, batch_size=2))
    one = plain.translate(frames, stabilise=True)
    other = plain.translate([frame[:, ::-1] for frame in frames], stabilise=True)
    for result, here, there in zip(stable, one, other, strict=True):
        mean = (here.astype(float) + there[:, ::-1]) / 2
        assert np.abs(result - mean).max() <= 1


@pytest.mark.parametrize(("engine", "precision"), [("torch", "bf16"), ("openvino", "fp32")])
def test_every_engine_averages(engine, precision, tmp_path):
    model = make_model(tmp_path / "model", MODELS["smooth, with a global skip"])
    image = pixels(21, 34)
    expected = Translator.load(model, self_ensemble="turns")(image)
    result = Translator.load(model, engine=engine, precision=precision, self_ensemble="turns")(image)
    assert np.abs(result.astype(int) - expected).max() <= (4 if precision == "bf16" else 1)


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch-export"])
def test_exports_average(kind, tmp_path):
    model = make_model(tmp_path / "model")
    export_model(model, tmp_path / "export", format=kind, direction="a2b")
    image = pixels(21, 34)
    exported = Translator.load(tmp_path / "export", self_ensemble="turns")
    assert_close(exported(image), Translator.load(model, self_ensemble="turns")(image))


def test_transparency_holes_and_pages_stay(tmp_path):
    translator, image = make_translator("turns", norm="layer"), pixels(20, 30)
    alpha = np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
    result = translator(Image.fromarray(np.dstack([image, alpha])))
    assert np.array_equal(np.asarray(result)[..., 3], alpha)
    pages = [pixels(20, 30, seed) for seed in range(3)]
    tifffile.imwrite(tmp_path / "in.tif", np.stack(pages), photometric="rgb")
    translate_folder(translator, tmp_path / "in.tif", tmp_path / "out.tif", pages="all")
    for page, one in zip(tifffile.imread(tmp_path / "out.tif"), pages, strict=True):
        assert np.array_equal(page, translator(one))

    metres = ImageFormat(channels=1, dtype="float32", low=0, high=9)
    heights = make_translator("mirror-and-shift", norm="layer", image_format=metres)
    values = np.random.default_rng(0).random((20, 30), np.float32) * 9
    values[3:5, 25:] = np.nan
    tifffile.imwrite(tmp_path / "heights.tif", values)
    translate_folder(heights, tmp_path / "heights.tif", tmp_path / "holes.tif", nodata="nan")
    assert np.array_equal(np.isnan(tifffile.imread(tmp_path / "holes.tif")), np.isnan(values))


def test_it_is_kept_by_copies_and_sent_to_other_processes(tmp_path):
    loaded = Translator.load(make_model(tmp_path / "model"), self_ensemble="mirror")
    for translator in (loaded, make_translator("mirror-and-shift")):
        twins = [copy.deepcopy(translator), pickle.loads(pickle.dumps(translator))]
        assert {twin.self_ensemble for twin in twins} == {translator.self_ensemble}
        for twin in twins:
            assert np.array_equal(twin(pixels()), translator(pixels()))


# ---- the commands


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensemble")
    for name, seed in (("trainA", 0), ("trainB", 1), ("testA", 2), ("testB", 3)):
        make_folder(root / name, 4, seed=seed)
    train(root, out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 2})
    return root


def test_the_command_and_python_average_alike(root, tmp_path):
    image, run = root / "testA" / "0.png", root / "run"
    expected = Translator.load(run, self_ensemble="turns")(image)
    flags = ["--precision", "fp32", "--self-ensemble", "turns"]
    main(["translate", str(run), str(image), "--out", str(tmp_path / "x.png"), *flags])
    assert_close(Image.open(tmp_path / "x.png"), expected)
    translate_folder(run, image, tmp_path / "y.png", precision="fp32", self_ensemble="turns")
    assert_close(Image.open(tmp_path / "y.png"), expected)
    # A translator keeps its own, unless another is given.
    own = Translator.load(run, self_ensemble="mirror")
    translate_folder(own, image, tmp_path / "own.png")
    assert np.array_equal(Image.open(tmp_path / "own.png"), own(image))
    translate_folder(own, image, tmp_path / "none.png", self_ensemble="none")
    assert np.array_equal(Image.open(tmp_path / "none.png"), own.with_self_ensemble("none")(image))


def test_scores_are_those_of_averaged_translations_and_say_so(root, tmp_path):
    scores = evaluate(
        root / "run", root / "testA", root / "testB", paired=True, quiet=True, out=tmp_path, self_ensemble="mirror"
    )
    translator = Translator.load(root / "run", self_ensemble="mirror")
    distances = [
        float((to_tensor(np.asarray(translator(path)), ImageFormat()) - truth).abs().mean())
        for path in sorted((root / "testA").iterdir())
        for truth in [to_tensor(np.asarray(Image.open(root / "testB" / path.name)), ImageFormat())]
    ]
    assert scores.directions["a2b"].metrics["l1"].value.value == pytest.approx(np.mean(distances), abs=1e-6)
    assert read_scores(tmp_path).self_ensemble == "mirror"
    assert "<td>self-ensemble</td>" in (tmp_path / "report.html").read_text().replace("\n", "")


@pytest.mark.parametrize("kind", ["flips", "", 8, None, ["mirror"]])
def test_another_value_is_refused_in_one_sentence(root, tmp_path, kind):
    for call in (
        lambda: Translator.load(root / "run", self_ensemble=kind),
        lambda: make_translator(kind),
        lambda: make_translator().with_self_ensemble(kind),
        lambda: evaluate(root / "run", root / "testA", root / "testB", quiet=True, out=tmp_path, self_ensemble=kind),
    ):
        with pytest.raises(InputError, match=r"^self_ensemble is .*; expected none, mirror, mirror-and-shift or turns"):
            call()
