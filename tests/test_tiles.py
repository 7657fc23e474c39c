"""An image in tiles gives what it gives as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cyclegan import InputError, ModelConfig, Translator
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import ArraySource, Box
from cyclegan.images.tensors import pad_to_multiple
from cyclegan.networks import build_generator, to_plain_convs
from cyclegan.storage.model import ModelInfo
from cyclegan.system import memory
from cyclegan.translate.tiling import budget
from cyclegan.translate.tiling.boxes import needed, take, tile_boxes
from cyclegan.translate.tiling.network import TiledNetwork, TilingPlan, TilingState
from cyclegan.translate.tiling.pictures import sample, sample_size
from cyclegan.translate.tiling.planes import Picture
from cyclegan.translate.tiling.sweeps import Gather

# What the product promises, on [-1, 1].
PROMISED = 1e-4


def make_network(generator="resnet", norm="instance", channels=(3, 3), **settings):
    """Weights under which outputs spread over [-1, 1], as after training; the initial ones give nearly 0 everywhere."""
    config = ModelConfig(
        generator=generator, norm=norm, init="kaiming", **{"width": 4, "blocks": 2, "depth": 5, **settings}
    )
    network = build_generator(config, *channels, seed=1).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
                module.bias.normal_(generator=draw)
        last = network.head if generator == "resnet" else network.up[0]
        last.weight.div_(2 * network(make_image(64, 64, channels[0])).atanh().std())
    return network, config


def make_image(height, width, channels=3, seed=0):
    """Smooth, with a brightness that changes from corner to corner, so that no tile looks like the whole."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 5, generator=draw)
    image = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(0, 1, width)
    return (image + ramp + 0.1 * torch.rand(image.shape, generator=draw) - 1).clamp(-1, 1)


def whole(network, config, image):
    with torch.inference_mode():
        return network(pad_to_multiple(image, config.multiple, config.smallest_side))[
            ..., : image.shape[2], : image.shape[3]
        ]


def in_tiles(network, config, image, plan, state=None):
    """The result, and what was known in the end."""
    height, width = image.shape[-2:]
    picture = Picture(
        lambda box: image[..., box.top : box.bottom, box.left : box.right],
        height,
        width,
        multiple=config.multiple,
        smallest=config.smallest_side,
    )
    tiled = TiledNetwork(network, picture, plan, state=state)
    output = tiled.output()
    result = torch.full_like(whole(network, config, image), torch.nan)
    with torch.inference_mode():
        for box in tile_boxes(height, width, plan.side):
            result[..., box.top : box.bottom, box.left : box.right] = output.read(box)
    return result, tiled.state


# ---- the whole result


# Tiles smaller than the image, of its size and larger, and such that end 1 to 3 pixels before its border.
SIZES = [(64, 64, 32), (61, 75, 16), (97, 50, 32), (67, 98, 32), (66, 65, 64), (48, 48, 48), (40, 33, 200), (8, 8, 16)]


@pytest.mark.parametrize("stored", [1, 2])
@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_tiles_of_a_resnet_give_the_whole_result(height, width, side, stored):
    network, config = make_network()
    image = make_image(height, width)
    expected = whole(network, config, image)
    assert expected.std() > 0.3
    result, _ = in_tiles(network, config, image, TilingPlan(side, stored))
    assert (result - expected).abs().max() < PROMISED


@pytest.mark.parametrize("stored", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_tiles_of_a_unet_give_the_whole_result(height, width, side, stored):
    network, config = make_network("unet")
    image = make_image(height, width)
    result, _ = in_tiles(network, config, image, TilingPlan(side, stored))
    assert (result - whole(network, config, image)).abs().max() < PROMISED


@pytest.mark.parametrize(("generator", "stored"), [("resnet", 0), ("resnet", 2), ("unet", 1)])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("height", "width", "side"), SIZES[1:5])
def test_networks_without_instance_norm_give_the_whole_result(generator, stored, norm, height, width, side):
    network, config = make_network(generator, norm)
    image = make_image(height, width)
    expected = whole(network, config, image)
    result, _ = in_tiles(network, config, image, TilingPlan(side, stored))
    assert expected.std() > 0.1
    assert (result - expected).abs().max() < PROMISED


DETAIL = {"skips": True, "padding": "reflect", "resampling": "smooth"}


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({"global_skip": True}, 2),
        ({"resampling": "smooth"}, 1),
        ({"resampling": "smooth", "global_skip": True, "norm": "layer"}, 0),
        ({"norm": "layer"}, 2),
        ({"padding": "reflect"}, 1),
        ({"skips": True}, 2),
        (DETAIL, 1),
        ({**DETAIL, "norm": "layer", "global_skip": True}, 0),
        ({"generator": "unet", "global_skip": True}, 2),
        ({"generator": "unet", "global_skip": True, "norm": "layer"}, 1),
    ],
)
@pytest.mark.parametrize(("height", "width", "side"), SIZES[1:5])
def test_networks_of_other_recipes_give_the_whole_result(settings, stored, height, width, side):
    network, config = make_network(**settings)
    to_plain_convs(network)
    image = make_image(height, width)
    expected = whole(network, config, image)
    result, _ = in_tiles(network, config, image, TilingPlan(side, stored))
    assert expected.std() > 0.3
    assert (result - expected).abs().max() < PROMISED


@pytest.mark.parametrize("channels", [(1, 3), (4, 1), (5, 2)])
def test_any_channels_give_the_whole_result(channels):
    network, config = make_network(channels=channels)
    image = make_image(50, 70, channels[0])
    result, _ = in_tiles(network, config, image, TilingPlan(32, 2))
    assert (result - whole(network, config, image)).abs().max() < PROMISED


def test_a_network_of_full_depth_gives_the_whole_result():
    network, config = make_network(width=16, blocks=9)
    image = make_image(150, 131)
    expected = whole(network, config, image)
    for stored in (1, 2):
        result, _ = in_tiles(network, config, image, TilingPlan(64, stored))
        assert (result - expected).abs().max() < PROMISED


@pytest.mark.parametrize("settings", [{}, DETAIL])
def test_statistics_that_are_given_need_no_passes_and_no_memory(settings):
    network, config = make_network(**settings)
    to_plain_convs(network)
    image = make_image(90, 110)
    _, state = in_tiles(network, config, image, TilingPlan(32, 2))
    assert set(state.statistics) == {name for name, m in network.named_modules() if isinstance(m, nn.InstanceNorm2d)}
    given = TilingState(dict(state.statistics))
    result, after = in_tiles(network, config, image, TilingPlan(48, 0), given)
    assert after.activation is None
    assert (result - whole(network, config, image)).abs().max() < PROMISED


@pytest.mark.parametrize("settings", [{}, DETAIL])
def test_a_translation_goes_on_from_what_it_had(settings):
    network, config = make_network(**settings)
    to_plain_convs(network)
    image = make_image(60, 70)
    expected, state = in_tiles(network, config, image, TilingPlan(32, 2))
    again, _ = in_tiles(network, config, image, TilingPlan(32, 2), TilingState(state.statistics, state.activation, 2))
    assert torch.equal(again, expected)


def test_plain_tiling_would_fail_these_tests():
    network, config = make_network()
    image = make_image(64, 64)
    expected = whole(network, config, image)
    plain = torch.cat([whole(network, config, part) for part in image.chunk(2, 3)], 3)
    assert (plain - expected).abs().max() > 100 * PROMISED


def test_statistics_do_not_depend_on_the_tiles_and_keep_their_digits_far_from_zero():
    values = torch.randn(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)) * 0.01 + 50
    values = values.contiguous(memory_format=torch.channels_last)
    exact = values.double().var((0, 2, 3), correction=0)
    for side in (7, 16, 100):
        gathered = Gather()
        for box in tile_boxes(40, 60, side):
            gathered.add(values[..., box.top : box.bottom, box.left : box.right])
        mean, variance = gathered.moments()
        assert torch.allclose(mean, values.double().mean((0, 2, 3)), rtol=1e-7)
        assert torch.allclose(variance, exact, rtol=1e-4)


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_region_beyond_the_borders_is_the_padded_one(mirrored):
    x = torch.arange(30.0).reshape(1, 1, 5, 6)
    padded = nn.functional.pad(x, (3, 3, 3, 3), mode="reflect" if mirrored else "constant")
    for box in (Box(-3, 1, -2, 9), Box(4, 8, 5, 6), Box(2, 4, 1, 3), Box(-3, 8, -3, 9)):
        have = needed(box, 5, 6, mirrored=mirrored)
        got = take(x[..., have.top : have.bottom, have.left : have.right], have, box, 5, 6, mirrored=mirrored)
        assert torch.equal(got, padded[..., box.top + 3 : box.bottom + 3, box.left + 3 : box.right + 3])


# ---- the translator


def make_translator(**settings):
    network, config = make_network(**settings)
    info = ModelInfo(
        **{"model": config, "a": ImageFormat(), "b": ImageFormat(), "preprocess": "none", "load_size": 64},
        **{"crop_size": 64, "step": 1, "translate_with": "final", "cyclegan_version": "0"},
    )
    return Translator(network, info, "a2b", torch.device("cpu"))


def test_a_translator_gives_the_same_pictures_in_tiles():
    translator = make_translator()
    values = ((make_image(61, 83)[0].permute(1, 2, 0) + 1) * 127.5).to(torch.uint8).numpy()
    images = [Image.fromarray(values), values[:40], Image.fromarray(values[:5, :9])]
    expected = list(translator.translate(images))
    for tile in (16, 50, 512):
        results = list(translator.translate(images, tile=tile))
        assert [type(result) for result in results] == [type(result) for result in expected]
        for one, other in zip(expected, results, strict=True):
            assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1  # a tie may round otherwise
            assert (np.asarray(one) != np.asarray(other)).mean() < 0.01


def test_networks_and_sizes_that_cannot_be_tiled_are_refused():
    translator = make_translator()
    image = Image.new("RGB", (40, 40))
    with pytest.raises(InputError, match="tile is 8; expected at least 16"):
        list(translator.translate([image], tile=8))
    with pytest.raises(InputError, match="stabilise"):
        list(translator.translate([image], tile=64, stabilise=True))
    translator.engine = replace(translator.engine, original=nn.Identity())
    with pytest.raises(InputError, match="Identity cannot be run in tiles"):
        list(translator.translate([image], tile=64))


def test_images_that_do_not_fit_are_refused_before_any_work(monkeypatch):
    translator = make_translator()
    monkeypatch.setattr("cyclegan.translate.tiling.pictures.available_bytes", lambda _: 50 * 2**20)
    monkeypatch.setattr(translator.network, "forward", None)
    with pytest.raises(InputError, match=r"40x40 pixels in tiles of 64 need 0\.1 GiB, and 0\.0 GiB are available"):
        list(translator.translate([Image.new("RGB", (40, 40))], tile=64))


# ---- memory


def test_the_fastest_plan_that_fits_is_taken():
    network, _ = make_network(width=64, blocks=9)
    need = [budget.tiled_bytes(network, 8192, 8192, TilingPlan(512, stored)) for stored in (0, 1, 2)]
    assert need[0] < need[1] < need[2]
    assert need[2] < 12 * 2**30 < budget.untiled_bytes(network, 8192, 8192)

    def chosen(available, **given):
        return budget.choose_plan(network, 8192, 8192, 512, available=available, **{"is_given": False, **given}).stored

    assert [chosen(None), chosen(need[2]), chosen(need[2] - 1), chosen(need[1])] == [2, 2, 1, 1]
    assert chosen(need[1], is_given=True) == 0
    assert chosen(need[2], held=1) == 1
    with pytest.raises(InputError, match="--statistics crops"):
        chosen(need[1] - 1)


def test_a_smaller_tile_is_proposed_where_it_helps():
    network, _ = make_network(norm="batch", width=64)
    need = budget.tiled_bytes(network, 8192, 8192, TilingPlan(1024, 0))
    with pytest.raises(InputError, match="a smaller tile or a machine with more memory"):
        budget.choose_plan(network, 8192, 8192, 1024, available=need - 1, is_given=False)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_control_group_counts(tmp_path, version):
    group = tmp_path / ("memory/jobs/1" if version == 1 else "jobs/1")
    group.mkdir(parents=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    (group / names[0]).write_text("1000000\n")
    (group / names[1]).write_text("300000\n")
    (group / "memory.stat").write_text(f"anon 1\n{'total_' if version == 1 else ''}inactive_file 50000\n")
    own = tmp_path / "own"
    own.write_text("4:cpu,memory:/jobs/1\n" if version == 1 else "0::/jobs/1\n")
    assert memory._free_of_group(tmp_path, own) == 750000
    (group / names[0]).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    assert memory._free_of_group(tmp_path, own) is None


# ---- samples


def test_samples_are_small_and_represent_the_whole():
    rows, columns = np.mgrid[0:5000, 0:3000]
    array = ((rows + columns) // 40).astype(np.uint8)[..., None]
    source = ArraySource(array)
    for kind in ("crops", "reduced"):
        small = sample(source, kind)
        assert small.shape[:2] == sample_size(5000, 3000, kind)
        assert max(small.shape) <= 5000 / 1.9
        assert abs(float(small.mean()) - float(array.mean())) < 4
    assert sample(ArraySource(array[:300, :200]), "crops").shape == (300, 200, 1)
