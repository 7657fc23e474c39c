"""The networks, the step and the schedule give the numbers of the reference implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from cyclegan import ModelConfig, TrainConfig
from cyclegan.networks import build_discriminator, build_generator
from cyclegan.reference.keys import from_reference, to_reference
from cyclegan.step import TrainState, train_step
from cyclegan.training.schedule import learning_rate_at

GOLDEN = Path(__file__).parent / "golden"

# Reference names of the eight losses, in our names.
LOSS_NAMES = {
    "G_A": "adversarial_a2b",
    "G_B": "adversarial_b2a",
    "cycle_A": "cycle_a",
    "cycle_B": "cycle_b",
    "idt_A": "identity_b",
    "idt_B": "identity_a",
    "D_A": "discriminator_b",
    "D_B": "discriminator_a",
}
NETWORKS = {"G_A": "generator.a2b", "G_B": "generator.b2a", "D_A": "discriminator.b", "D_B": "discriminator.a"}


def read(name):
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def part(tensors, prefix):
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


FORWARDS = {
    "generator_resnet9": ModelConfig(blocks=9, width=4),
    "generator_resnet6_dropout": ModelConfig(blocks=6, width=4, dropout=True),
    "generator_unet128": ModelConfig(generator="unet", depth=7, width=2),
    "discriminator_basic": ModelConfig(discriminator_width=8),
    "discriminator_pixel": ModelConfig(discriminator="pixel", discriminator_width=8),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_forward_equals_reference(name):
    tensors, _ = read(name)
    config = FORWARDS[name]
    network = build_generator(config, 3, 3) if name.startswith("generator") else build_discriminator(config, 3)
    network.load_state_dict(from_reference(part(tensors, "weight.")))
    network.eval()
    with torch.no_grad():
        output = network(tensors["input"])
    assert (output - tensors["output"]).abs().max() < 1e-5


@pytest.mark.parametrize("name", FORWARDS)
def test_reference_keys_survive_the_round_trip(name):
    tensors, _ = read(name)
    theirs = part(tensors, "weight.")
    back = to_reference(from_reference(theirs), dropout=FORWARDS[name].dropout)
    assert back.keys() == theirs.keys()
    assert all(back[key] is theirs[key] for key in theirs)


TRAJECTORIES = {
    "trajectory_lsgan": {},
    "trajectory_vanilla_noidentity": {"adversarial": "vanilla", "cycle_weight_a": 5.0, "identity_weight": 0.0},
}


@pytest.fixture
def one_thread():
    # The golden numbers were recorded with one thread; another order of summation moves a ReLU or two.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state_before(name, tensors, **settings):
    config = TrainConfig(
        model=ModelConfig(blocks=6, width=4, discriminator_width=4), steps=4, **TRAJECTORIES[name], **settings
    )
    state = TrainState.create(config)
    for theirs, ours in NETWORKS.items():
        owner, direction = ours.split(".")
        network = getattr(getattr(state, owner), direction)
        network.load_state_dict(from_reference(part(tensors, f"before.{theirs}.")))
    return state


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory_equals_reference(name):
    tensors, metadata = read(name)
    state = state_before(name, tensors)

    for step, expected in enumerate(json.loads(metadata["losses"])):
        losses = train_step(state, tensors[f"real_A.{step}"], tensors[f"real_B.{step}"])
        for theirs, ours in LOSS_NAMES.items():
            assert losses[ours].item() == pytest.approx(expected[theirs], rel=1e-4), (step, ours)

    # A bias before an instance norm has no effect and no gradient but rounding noise, which moves it at random in the
    # reference: its own code, run on another machine, does not agree with the file there. All else must agree.
    differences, noise = [], []
    for theirs, ours in NETWORKS.items():
        owner, direction = ours.split(".")
        network = getattr(getattr(state, owner), direction)
        weights, trained = network.state_dict(), {key for key, p in network.named_parameters() if p.requires_grad}
        expected = from_reference(part(tensors, f"after.{theirs}."))
        assert weights.keys() == expected.keys()
        for key in weights:
            place = differences if key in trained else noise
            place.append((weights[key] - expected[key]).abs().flatten())
    assert torch.cat(differences).mean() < 1e-7
    assert torch.cat(noise).max() < 4 * state.config.learning_rate * 2
    assert torch.cat(differences + noise).mean() < 2e-6


# A value that is off by a unit roundoff at each of n operations is off by about sqrt(n) of them in the end, where the
# errors are independent. Behind an adversarial loss lie some 50 results in 16 bits, 42 of the generator and 8 of the
# discriminator, and as many in the gradients of the steps before. Which way they round differs from CPU to CPU: the
# largest deviation was 2.5 to 5.4 unit roundoffs in bf16 with AVX-512 and bf16, AVX-512, AVX2 and SSE 4.1, and 4.7 to
# 5.4 in fp16.
ROUNDINGS = 2 * (42 + 8)
UNIT_ROUNDOFF = {"bf16": 2**-8, "fp16": 2**-11}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_losses_in_half_precision_stay_within_ten_unit_roundoffs_of_the_reference(name, precision):
    tolerance = ROUNDINGS**0.5 * UNIT_ROUNDOFF[precision]  # 3.9 % and 0.49 %
    tensors, metadata = read(name)
    state = state_before(name, tensors, precision=precision)
    for step, expected in enumerate(json.loads(metadata["losses"])):
        losses = train_step(state, tensors[f"real_A.{step}"], tensors[f"real_B.{step}"])
        for theirs, ours in LOSS_NAMES.items():
            assert losses[ours].item() == pytest.approx(expected[theirs], rel=tolerance), (step, ours)


@pytest.mark.parametrize(("constant", "decay"), [(100, 100), (3, 2), (0, 5)])
def test_learning_rate_equals_reference(constant, decay):
    expected = json.loads((GOLDEN / "learning_rate.json").read_text())[f"{constant}+{decay}"]
    config = TrainConfig(epochs=constant + decay, decay_share=decay / (constant + decay))
    rates = [learning_rate_at(config, epoch, config.epochs) for epoch in range(constant + decay)]
    assert rates == pytest.approx(expected, rel=1e-12)
