import pytest
import torch

from cyclegan import ModelConfig
from cyclegan.networks import build_discriminator, build_generator, count_parameters


def test_parameter_counts_are_those_of_the_paper():
    assert count_parameters(build_generator(ModelConfig(blocks=9), 3, 3)) == 11_378_179
    assert count_parameters(build_generator(ModelConfig(blocks=6), 3, 3)) == 7_837_699
    assert count_parameters(build_discriminator(ModelConfig(), 3)) == 2_764_737


GENERATORS = {
    "resnet": {"width": 4, "blocks": 2},
    "resnet without blocks": {"width": 4, "blocks": 0},
    "resnet dropout": {"width": 4, "blocks": 1, "dropout": True},
    "unet": {"generator": "unet", "width": 2, "depth": 5},
    "unet dropout": {"generator": "unet", "width": 2, "depth": 6, "dropout": True},
}


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("name", GENERATORS)
def test_generator_keeps_size_changes_channels_and_trains_every_weight(name, norm):
    config = ModelConfig(**GENERATORS[name], norm=norm)
    network = build_generator(config, 2, 5, seed=0)
    size = 2 * config.multiple
    output = network(torch.randn(2, 2, size, size + config.multiple))
    assert output.shape == (2, 5, size, size + config.multiple)
    assert output.abs().max() <= 1
    output.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


DISCRIMINATORS = {
    "patch 1": {"discriminator_layers": 1},
    "patch 3": {},
    "patch 5": {"discriminator_layers": 5},
    "pixel": {"discriminator": "pixel"},
}


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_scores_patches_of_the_smallest_crop(name, norm):
    config = ModelConfig(**DISCRIMINATORS[name], discriminator_width=2, norm=norm)
    size = config.smallest_crop
    scores = build_discriminator(config, 4, seed=0)(torch.randn(2, 4, size, size))
    assert scores.shape[:2] == (2, 1)
    assert torch.isfinite(scores).all()


def test_three_layers_judge_patches_of_70_pixels():
    network = build_discriminator(ModelConfig(norm="none", discriminator_width=2), 3, seed=0)
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    touched = image.grad[0].abs().sum(0).nonzero()
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [70, 70]


def test_weights_come_from_the_seed_alone():
    config = ModelConfig(width=4, blocks=1)
    first = build_generator(config, 3, 3, seed=5).state_dict()
    torch.manual_seed(123)
    again, other = (build_generator(config, 3, 3, seed=seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


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
