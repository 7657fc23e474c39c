"""The checks that every class in `cyclegan.networks.GENERATORS` and `DISCRIMINATORS` must pass.

A check takes a configuration and fails with an assertion. `test_networks.py` runs all checks on all rows of both
registries, so that a new row is tested without another line.
"""

import re
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from conftest import TINY
from cyclegan import InputError, ModelConfig, Translator
from cyclegan.config import make_config
from cyclegan.config.model import setting_names
from cyclegan.export import export_model
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import pad_to_multiple
from cyclegan.networks import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    build_discriminator,
    build_generator,
    count_parameters,
    enable_checkpointing,
    freeze,
    to_plain_convs,
    train_mode,
)
from cyclegan.step.state import TrainState
from cyclegan.step.update import train_step
from cyclegan.storage.model import ModelInfo, load_generator, save_model
from cyclegan.translate.tiling.boxes import tile_boxes
from cyclegan.translate.tiling.budget import choose_plan, plans, tiled_bytes, untiled_bytes
from cyclegan.translate.tiling.network import TiledNetwork, why_no_tiles
from cyclegan.translate.tiling.pictures import check_tile
from cyclegan.translate.tiling.planes import Picture

# Narrow and short, and with weights under which outputs differ from place to place.
SMALL = {"width": 4, "blocks": 2, "depth": 5, "discriminator_width": 4, "discriminator_layers": 2}
SMALL |= {"init": "kaiming", "init_gain": 1.0}
NORMS = ("instance", "batch", "layer", "none")
# Values of settings that not every class has.
MORE = {"global_skip": True, "resampling": "smooth", "dropout": True, "discriminator_norm": "spectral"}
MORE |= {"skips": True, "padding": "reflect"}
# What passes detail, and draws no stripes, in all its combinations with norms.
DETAIL = {"skips": True, "padding": "reflect", "resampling": "smooth"}
# The sizes that the papers have, and extremes.
SPECIAL = {
    "resnet": [
        *[{"blocks": 0}, {"blocks": 5}, DETAIL, {**DETAIL, "norm": "batch"}],
        {**DETAIL, "norm": "layer", "global_skip": True, "blocks": 0},
    ],
    "unet": [{"depth": 6, "dropout": True}],
    "patch": [{"discriminator_layers": 1}, {"discriminator_layers": 3}, {"discriminator_layers": 5}],
    "pyramid": [{"discriminator_layers": 1}, {"discriminator_layers": 3}],
}


def variants(registry, kind):
    """Configurations of one row: every norm, and every other setting that the class has."""
    network = registry[kind]
    base = {**SMALL, ("generator" if registry is GENERATORS else "discriminator"): kind}
    found = [{"norm": norm} for norm in NORMS]
    found += [{name: value} for name, value in MORE.items() if name in setting_names(network)]
    return [ModelConfig(**{**base, **settings}) for settings in [*found, *SPECIAL.get(kind, [])]]


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def with_statistics_of_its_own(network):
    """Batch norms as after training."""
    draw = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
    return network.eval()


def saved_model(folder, config, network):
    info = ModelInfo(
        **{"model": config, "a": ImageFormat(channels=config.channels_a), "b": ImageFormat(channels=config.channels_b)},
        **{"preprocess": "none", "load_size": 64, "crop_size": 64, "step": 1, "translate_with": "final"},
        **{"cyclegan_version": "0", "directions": ("a2b",), "averages": False},
    )
    save_model(folder, info, {"a2b": network.state_dict()})
    return folder


# ---- generators


def declares_what_is_needed(config):
    network = GENERATORS[config.generator]
    assert issubclass(network, Generator)
    assert config.smallest_side % config.multiple == 0 < config.multiple
    assert config.generator_summary.startswith(config.generator)
    assert set(setting_names(network)) - set(ModelConfig.model_fields) == set(config.generator_options)


def keeps_size_changes_channels_and_trains_every_weight(config):
    network = build_generator(config, 2, 5, seed=0)
    side = max(config.smallest_side, 2 * config.multiple)
    output = network(random(2, 2, side, side + config.multiple))
    assert output.shape == (2, 5, side, side + config.multiple)
    assert output.dtype == torch.float32
    assert output.abs().max() <= 1
    output.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
    least = with_statistics_of_its_own(network)(random(1, 2, config.smallest_side, config.smallest_side))
    assert torch.isfinite(least).all()


def has_weights_of_the_seed_alone(config):
    before = torch.get_rng_state()
    first = build_generator(config, 3, 3, seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(123)
    again, other = (build_generator(config, 3, 3, seed=seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert all(torch.isfinite(value).all() for value in first.values())


def computes_in_16_bits(config):
    network = with_statistics_of_its_own(build_generator(config, 3, 3, seed=0))
    x = random(1, 3, 2 * config.smallest_side, 2 * config.smallest_side)
    exact, half = network(x), network(x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))
    assert half.dtype == torch.float32
    assert (half - exact).square().mean().sqrt() < 0.1 * exact.std()


def is_saved_loaded_and_translates_any_size(config, folder):
    config = config.replace(channels_a=2, channels_b=4)
    network = with_statistics_of_its_own(build_generator(config, 2, 4, seed=0))
    model = saved_model(folder / "model", config, network)
    loaded, info = load_generator(model, "a2b")
    assert info.model == config
    images = random(2, 2, 2 * config.smallest_side, 2 * config.smallest_side)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network(images))
    translator = Translator.load(model, device="cpu")
    for height, width in ((1, 1), (13, 50), (config.smallest_side + 1, config.smallest_side)):
        result = translator.translate_tensor(random(1, 2, height, width))
        assert result.shape == (1, 4, height, width)
        assert torch.isfinite(result).all()


def freezes_its_encoder_or_says_that_it_cannot(config):
    network = build_generator(config, 3, 3, seed=0)
    _check_freeze(network, 2 * config.smallest_side)


def _check_freeze(network, side):
    if type(network).early_layers is Generator.early_layers:
        with pytest.raises(InputError, match="cannot be frozen"):
            freeze(network)
        return
    freeze(network)
    frozen = {id(weight) for part in network.early_layers() for weight in part.parameters()}
    assert frozen
    assert all(not weight.requires_grad for weight in network.parameters() if id(weight) in frozen)
    assert any(weight.requires_grad for weight in network.parameters())
    statistics = {name: values.clone() for name, values in network.named_buffers() if name.endswith("running_mean")}
    train_mode(network)
    network(random(2, 3, side, side))
    early = {id(module) for part in network.early_layers() for module in part.modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            same = torch.equal(module.running_mean, statistics[f"{name}.running_mean"])
            assert same == (id(module) in early), name


def has_the_same_gradients_with_checkpointing_or_says_that_it_cannot(config):
    asked = {**config.model_dump(), "checkpoint_activations": True, "crop_size": 64, "contrastive_weight": 0.0}
    if config.uses_batch_norm:
        with pytest.raises(InputError, match="running statistics"):
            make_config(asked, preset="paper")
        return
    if not GENERATORS[config.generator].can_checkpoint:
        with pytest.raises(InputError, match="has no checkpointing"):
            make_config(asked, preset="paper")
        with pytest.raises(InputError, match="has no gradient checkpointing"):
            enable_checkpointing(build_generator(config, 3, 3, seed=0))
        return
    make_config(asked, preset="paper")
    gradients = []
    for checkpointing in (False, True):
        network = build_generator(config, 3, 3, seed=0)
        if checkpointing:
            enable_checkpointing(network)
        torch.manual_seed(7)
        network(random(1, 3, 64, 64)).square().sum().backward()
        gradients.append([weight.grad for weight in network.parameters() if weight.requires_grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def has_features_or_says_that_it_has_none(config):
    asked = {**config.model_dump(), "contrastive_weight": 1.0, "crop_size": 64}
    if not GENERATORS[config.generator].has_features():
        with pytest.raises(InputError, match="no features to compare"):
            make_config(asked, preset="paper")
        return
    make_config(asked, preset="paper")
    network = with_statistics_of_its_own(build_generator(config, 3, 3, seed=0))
    x = random(1, 3, 64, 64)
    output, *found = network.features(x, decode=True)
    assert torch.equal(output, network(x))
    assert [h.shape[1] for h in found] == network.feature_channels
    for one, other in zip(found, network.features(x, decode=False), strict=True):
        assert torch.equal(one, other)


def is_the_same_in_tiles_or_refuses_them(config):
    network = to_plain_convs(with_statistics_of_its_own(build_generator(config, 3, 3, seed=1)))
    if (reason := why_no_tiles(network)) is not None:
        with pytest.raises(InputError, match=f"cannot be run in tiles, because {re.escape(reason)}"):
            check_tile(64, network)
        return
    check_tile(64, network)
    height, width = max(97, config.smallest_side), 66
    image = nn.functional.interpolate(random(1, 3, 9, 9), (height, width), mode="bicubic").clamp(-1, 1)
    with torch.inference_mode():
        expected = network(pad_to_multiple(image, config.multiple, config.smallest_side))[..., :height, :width]
    assert expected.std() > 0.05
    for stored in plans(network, is_given=False):
        plan = choose_plan(network, height, width, 32, available=None, is_given=False)
        plan = type(plan)(plan.side, stored)
        picture = Picture(
            lambda box: image[..., box.top : box.bottom, box.left : box.right],
            *(height, width),
            multiple=config.multiple,
            smallest=config.smallest_side,
        )
        output = TiledNetwork(network, picture, plan).output()
        result = torch.full_like(expected, torch.nan)
        with torch.inference_mode():
            for box in tile_boxes(height, width, plan.side):
                result[..., box.top : box.bottom, box.left : box.right] = output.read(box)
        assert (result - expected).abs().max() < 1e-4, stored
        assert tiled_bytes(network, 8192, 8192, plan) > 0
    assert untiled_bytes(network, 8192, 8192) > untiled_bytes(network, 1024, 1024) > 0


def is_exported_to_onnx(config, folder):
    pytest.importorskip("onnxscript", reason="exports to ONNX need the extra onnx")
    pytest.importorskip("onnxruntime", reason="checking an ONNX file needs the extra onnx")
    network = with_statistics_of_its_own(build_generator(config, 3, 3, seed=0))
    model = saved_model(folder / "model", config, network)
    export_model(model, folder / "onnx", format="onnx")
    exact, other = Translator.load(model, device="cpu"), Translator.load(folder / "onnx")
    for shape in ((1, 3, 32, 32), (2, 3, 37, 51)):
        images = random(*shape)
        assert (exact.translate_tensor(images) - other.translate_tensor(images)).abs().max() < 1e-3


def is_trained(config):
    _check_training(config)


def _check_training(config):
    side = -(-max(config.smallest_crop, 16) // config.multiple) * config.multiple
    sizes = {"crop_size": side, "load_size": side, "steps": 2, "batch_size": 2}
    values = {**TINY, **config.model_dump(), **sizes, "init": "normal", "init_gain": 0.02}
    state = TrainState.create(make_config(values, preset="paper"))
    before = [weight.clone() for weight in (*state.generator.parameters(), *state.discriminator.parameters())]
    for seed in range(2):
        losses = train_step(state, random(2, 3, side, side, seed=seed), random(2, 3, side, side, seed=9 + seed))
        assert all(np.isfinite(float(loss)) for loss in losses.values())
    after = [weight for weight in (*state.generator.parameters(), *state.discriminator.parameters())]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other) == (not other.requires_grad)


# Checks of one configuration; those that take a folder write a model into it.
GENERATOR_CHECKS = (
    declares_what_is_needed,
    keeps_size_changes_channels_and_trains_every_weight,
    has_weights_of_the_seed_alone,
    computes_in_16_bits,
    freezes_its_encoder_or_says_that_it_cannot,
    has_the_same_gradients_with_checkpointing_or_says_that_it_cannot,
    has_features_or_says_that_it_has_none,
    is_the_same_in_tiles_or_refuses_them,
    is_trained,
)
GENERATOR_CHECKS_WITH_FOLDER = (is_saved_loaded_and_translates_any_size, is_exported_to_onnx)


# ---- discriminators


def declares_what_a_discriminator_needs(config):
    network = DISCRIMINATORS[config.discriminator]
    assert issubclass(network, Discriminator)
    assert network.smallest_side(config.discriminator_settings) >= 1
    assert config.discriminator_summary.startswith(config.discriminator)
    assert set(setting_names(network)) - set(ModelConfig.model_fields) == set(config.discriminator_options)


def scores_patches_of_the_smallest_crop(config):
    side = config.smallest_crop
    network = build_discriminator(config, 4, seed=0)
    scores = network(random(2, 4, side, side))
    assert scores.shape[:2] == (2, 1)
    assert scores.ndim == 4
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    scores.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def discriminator_has_weights_of_the_seed_alone(config):
    first = build_discriminator(config, 3, seed=5).state_dict()
    torch.manual_seed(123)
    again, other = (build_discriminator(config, 3, seed=seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def discriminator_is_saved_and_loaded(config):
    network = with_statistics_of_its_own(build_discriminator(config, 3, seed=0))
    other = build_discriminator(config, 3).eval()
    other.load_state_dict(load(save({name: values.contiguous() for name, values in network.state_dict().items()})))
    x = random(1, 3, config.smallest_crop, config.smallest_crop)
    assert torch.equal(network(x), other(x))
    assert count_parameters(network) == count_parameters(other)


def freezes_all_but_its_last_layers(config):
    _check_freeze(build_discriminator(config, 3, seed=0), config.smallest_crop)


def discriminator_computes_in_16_bits(config):
    network = with_statistics_of_its_own(build_discriminator(config, 3, seed=0))
    scores = network(random(1, 3, config.smallest_crop, config.smallest_crop).to(torch.bfloat16))
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()


def discriminator_is_trained(config):
    _check_training(config)


DISCRIMINATOR_CHECKS = (
    declares_what_a_discriminator_needs,
    scores_patches_of_the_smallest_crop,
    discriminator_has_weights_of_the_seed_alone,
    discriminator_is_saved_and_loaded,
    freezes_all_but_its_last_layers,
    discriminator_computes_in_16_bits,
    discriminator_is_trained,
)


def all_checks(registry, kind, folder):
    """Every check of one row on its first configuration, by name, for a test that adds a row for itself."""
    config = variants(registry, kind)[0]
    if registry is DISCRIMINATORS:
        return {check.__name__: partial(check, config) for check in DISCRIMINATOR_CHECKS}
    checks = {check.__name__: partial(check, config) for check in GENERATOR_CHECKS}
    return checks | {
        check.__name__: partial(check, config, folder / check.__name__) for check in GENERATOR_CHECKS_WITH_FOLDER
    }
