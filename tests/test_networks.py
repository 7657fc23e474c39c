import json

import pytest
import torch
from safetensors.torch import load_file

from conftest import TINY
from cyclegan import ModelConfig, train
from cyclegan.networks import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator, count_parameters
from cyclegan.storage.model import load_generator, read_info
from networks_tester import (
    DISCRIMINATOR_CHECKS,
    GENERATOR_CHECKS,
    SMALL,
    is_exported_to_onnx,
    is_saved_loaded_and_translates_any_size,
    saved_model,
    variants,
)


def test_parameter_counts_are_those_of_the_paper():
    assert count_parameters(build_generator(ModelConfig(blocks=9), 3, 3)) == 11_378_179
    assert count_parameters(build_generator(ModelConfig(blocks=6), 3, 3)) == 7_837_699
    assert count_parameters(build_discriminator(ModelConfig(), 3)) == 2_764_737


def described(config):
    """The settings of a configuration that are not those of every test."""
    default = ModelConfig(**SMALL).model_dump()
    return ",".join(f"{name}={value}" for name, value in config.model_dump().items() if value != default[name]) or "-"


GENERATOR_VARIANTS = [config for kind in GENERATORS for config in variants(GENERATORS, kind)]
DISCRIMINATOR_VARIANTS = [config for kind in DISCRIMINATORS for config in variants(DISCRIMINATORS, kind)]


@pytest.mark.parametrize("config", GENERATOR_VARIANTS, ids=described)
@pytest.mark.parametrize("check", GENERATOR_CHECKS, ids=lambda check: check.__name__)
def test_every_generator(check, config):
    check(config)


@pytest.mark.parametrize("config", GENERATOR_VARIANTS, ids=described)
def test_every_generator_is_saved_loaded_and_translates_any_size(config, tmp_path):
    is_saved_loaded_and_translates_any_size(config, tmp_path)


# One variant of each: test_export.py has others.
@pytest.mark.parametrize("kind", GENERATORS)
def test_every_generator_is_exported_to_onnx(kind, tmp_path):
    is_exported_to_onnx(variants(GENERATORS, kind)[0], tmp_path)


@pytest.mark.parametrize("config", DISCRIMINATOR_VARIANTS, ids=described)
@pytest.mark.parametrize("check", DISCRIMINATOR_CHECKS, ids=lambda check: check.__name__)
def test_every_discriminator(check, config):
    check(config)


def test_three_layers_see_patches_of_70_pixels():
    network = build_discriminator(ModelConfig(norm="none", discriminator_width=2), 3, seed=0)
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    touched = image.grad[0].abs().sum(0).nonzero()
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [70, 70]


@pytest.mark.parametrize(
    ("init", "deviation"),
    # A block convolution has 64 x 3 x 3 inputs and as many outputs.
    [("normal", 0.02), ("xavier", 0.02 * (2 / (2 * 576)) ** 0.5), ("kaiming", (2 / 576) ** 0.5)],
)
def test_initialisation_has_the_spread_of_its_kind(init, deviation):
    network = build_generator(ModelConfig(width=16, blocks=1, init=init), 3, 3, seed=0)
    weight = network.blocks[0].conv1.weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)
    assert abs(weight.mean().item()) < deviation / 50
    assert network.head.bias.abs().max() == 0


def test_orthogonal_initialisation_is_orthogonal():
    weight = build_generator(ModelConfig(width=4, blocks=1, init="orthogonal", init_gain=0.5), 3, 3, seed=0).blocks[0]
    rows = weight.conv1.weight.flatten(1)
    assert torch.allclose(rows @ rows.T, 0.25 * torch.eye(len(rows)), atol=1e-5)


def test_a_model_of_an_earlier_release_loads_with_its_old_word(tmp_path):
    config = ModelConfig(**SMALL, norm="layer", resampling="smooth", global_skip=True)
    network = build_generator(config, 3, 3, seed=0).eval()
    model = saved_model(tmp_path / "model", config, network)
    old = json.loads((model / "config.json").read_text())
    old["model"] |= {"norm": "pixel", "discriminator_norm": "pixel"}
    del old["model"]["generator_options"], old["model"]["discriminator_options"]
    (model / "config.json").write_text(json.dumps(old))
    loaded, info = load_generator(model, "a2b")
    assert (info.model.norm, info.model.discriminator_norm) == ("layer", "layer")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(loaded(x), network(x))


def test_a_run_of_an_earlier_release_goes_on_with_its_old_word(folders, tmp_path):
    settings = {**TINY, "preset": "modern", "out": tmp_path / "run", "quiet": True}
    run = train(*folders, steps=2, **settings)
    for file in (run / "config.toml", *run.rglob("config.json")):
        new = file.read_text()
        assert '"layer"' in new
        file.write_text(new.replace('"layer"', '"pixel"'))
    before = load_file(run / "model" / "a2b.safetensors")
    train(*folders, steps=2, **settings)  # complete already, and of the same settings
    assert all(torch.equal(before[key], value) for key, value in load_file(run / "model/a2b.safetensors").items())
    train(*folders, steps=3, resume=True, **settings)
    assert read_info(run / "model").step == 3
    assert 'norm = "layer"' in (run / "config.toml").read_text()
