from functools import partial

import numpy as np
import pytest
import torch

from conftest import TINY_MODEL
from cyclegan.config import make_config
from cyclegan.step import TrainState, train_step, update
from cyclegan.step.execution import Execution
from cyclegan.step.image_pool import ImagePool
from cyclegan.step.master_weights import add_grads
from cyclegan.training.schedule import learning_rate_at


def state_and_images(size=16, batch=2, channels=(3, 3), **settings):
    settings = {
        **TINY_MODEL,
        "crop_size": size,
        "steps": 10,
        "channels_a": channels[0],
        "channels_b": channels[1],
    } | settings
    state = TrainState.create(make_config(settings, preset="paper"))
    generator = torch.Generator().manual_seed(0)
    real_a, real_b = (torch.rand(batch, c, size, size, generator=generator) * 2 - 1 for c in channels)
    return state, real_a, real_b


def weights(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def changed(network, before):
    return any(not torch.equal(new, old) for new, old in zip(network.parameters(), before, strict=True))


def test_a_step_changes_all_four_networks_and_returns_eight_losses():
    state, real_a, real_b = state_and_images()
    networks = (state.generator.a2b, state.generator.b2a, state.discriminator.a, state.discriminator.b)
    before = [weights(network) for network in networks]
    losses = train_step(state, real_a, real_b)
    assert list(losses) == [
        "adversarial_a2b",
        "adversarial_b2a",
        "cycle_a",
        "cycle_b",
        "identity_a",
        "identity_b",
        "discriminator_a",
        "discriminator_b",
    ]
    assert all(loss.ndim == 0 and not loss.requires_grad and loss > 0 for loss in losses.values())
    assert all(changed(network, old) for network, old in zip(networks, before, strict=True))
    assert state.step == 1


ABLATIONS = {
    "cycle alone": ({"adversarial_weight": 0}, {"adversarial", "discriminator"}),
    "adversarial alone": ({"cycle_weight": 0}, {"cycle", "identity"}),
    "adversarial + forward cycle": ({"cycle_weight_b": 0}, {"cycle_b", "identity_b"}),
    "adversarial + backward cycle": ({"cycle_weight_a": 0}, {"cycle_a", "identity_a"}),
    "no identity": ({"identity_weight": 0}, {"identity"}),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_one_setting_gives_each_ablation_of_the_paper(name):
    settings, off = ABLATIONS[name]
    state, real_a, real_b = state_and_images(**settings)
    losses = train_step(state, real_a, real_b)
    for term, loss in losses.items():
        assert (loss == 0) == (term in off or term.split("_")[0] in off), term


def test_cycle_alone_leaves_the_discriminators_untouched():
    state, real_a, real_b = state_and_images(adversarial_weight=0)
    before = weights(state.discriminator)
    train_step(state, real_a, real_b)
    assert not changed(state.discriminator, before)


def test_domains_with_other_channels_have_no_identity_term():
    state, real_a, real_b = state_and_images(channels=(1, 4))
    losses = train_step(state, real_a, real_b)
    assert losses["identity_a"] == losses["identity_b"] == 0
    assert losses["cycle_a"] > 0
    assert losses["cycle_b"] > 0


@pytest.mark.parametrize("adversarial", ["lsgan", "vanilla", "hinge", "wgan-gp"])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_loss_trains_with_every_norm(adversarial, norm):
    state, real_a, real_b = state_and_images(adversarial=adversarial, norm=norm)
    for _ in range(2):
        losses = train_step(state, real_a, real_b)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_the_gradient_penalty_is_part_of_the_discriminator_loss():
    runs = {}
    for weight in (0, 10):
        state, real_a, real_b = state_and_images(adversarial="wgan-gp", gradient_penalty_weight=weight)
        runs[weight] = [train_step(state, real_a, real_b) for _ in range(2)][-1]["discriminator_b"].item()
    assert abs(runs[10] - runs[0]) > 1


@pytest.mark.parametrize("weight", [0, 10])
def test_wgan_gp_computes_its_discriminators_in_float32_whatever_the_weight_of_its_penalty(weight):
    state, _, _ = state_and_images(adversarial="wgan-gp", gradient_penalty_weight=weight, precision="bf16")
    assert state.execution.discriminator.network is state.discriminator


def test_images_translated_together_give_the_losses_of_images_translated_apart(monkeypatch):
    together, real_a, real_b = state_and_images(batch=1)
    apart, *_ = state_and_images(batch=1)
    first = train_step(together, real_a, real_b)
    monkeypatch.setattr(Execution, "apply_each", lambda _, network, inputs: [network(x) for x in inputs])
    second = train_step(apart, real_a, real_b)
    for term in first:
        assert first[term].item() == pytest.approx(second[term].item(), rel=1e-5), term


def test_steps_repeat_with_the_seed_for_any_global_generator():
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state, real_a, real_b = state_and_images(dropout=True, adversarial="wgan-gp", pool_size=1)
        for _ in range(3):
            train_step(state, real_a, real_b)
        results.append(torch.cat([w.flatten() for w in weights(state.generator)]))
    assert torch.equal(*results)


@pytest.mark.parametrize("settings", [{}, {"adversarial": "wgan-gp"}, {"contrastive_weight": 1.0, "precision": "bf16"}])
def test_gradients_that_are_added_together_are_those_that_are_added_one_by_one(monkeypatch, settings):
    """As on CUDA."""

    def run():
        config = make_config({**TINY_MODEL, "crop_size": 16, "steps": 4, **settings}, preset="paper")
        state = TrainState.create(config, "cpu")
        state.execution = Execution(state, side_by_side=False)
        images = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for _ in range(2):
            train_step(state, images[0], images[1])
        return torch.cat([weights.flatten() for weights in state.generator.parameters()])

    expected = run()
    monkeypatch.setattr(update, "add_grads", partial(add_grads, together=True))
    assert torch.equal(run(), expected)


def test_averaged_generators_follow_the_generators_slowly():
    state, real_a, real_b = state_and_images(average_decay=0.5)
    start = weights(state.average)[0]
    train_step(state, real_a, real_b)
    now, average = weights(state.generator)[0], weights(state.average)[0]
    # The first decay is (1 + 0) / (10 + 0): the warm-up forgets the random start quickly.
    assert torch.allclose(average, 0.1 * start + 0.9 * now, atol=1e-7)


def test_bf16_losses_stay_close_to_fp32():
    losses = {}
    for precision in ("fp32", "bf16"):
        state, real_a, real_b = state_and_images(precision=precision)
        losses[precision] = train_step(state, real_a, real_b)
    for term, loss in losses["fp32"].items():
        assert losses["bf16"][term].item() == pytest.approx(loss.item(), rel=0.05), term
        assert losses["bf16"][term].dtype == torch.float32


def test_pool_returns_what_comes_until_it_is_full_and_then_exchanges_half():
    pool, rng = ImagePool(50), np.random.default_rng(0)
    for value in range(50):
        assert pool.query(torch.full((1, 1, 1, 1), float(value)), rng).item() == value
    returned = [pool.query(torch.full((1, 1, 1, 1), float(value)), rng).item() for value in range(50, 1050)]
    fresh = sum(value == got for value, got in zip(range(50, 1050), returned, strict=True))
    assert 440 < fresh < 560
    assert len(set(returned)) == 1000  # every image is given out once at most: it leaves the pool when it is old
    assert len(pool.images) == 50


def test_pool_of_size_zero_is_off():
    image = torch.rand(2, 3, 4, 4)
    assert ImagePool(0).query(image, np.random.default_rng(0)) is image


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1, 1, 1 - 1 / 3, 1 - 2 / 3]),
        ("cosine", [1, 0.5 + 0.5 * 2**-0.5, 0.5, 0.5 - 0.5 * 2**-0.5]),
        ("step", [1, 0.1, 0.01, 0.001]),
        ("constant", [1, 1, 1, 1]),
    ],
)
def test_schedules_over_steps(schedule, expected):
    config = make_config({"schedule": schedule, "steps": 4, "learning_rate": 1.0})
    assert [learning_rate_at(config, step, 4) for step in range(4)] == pytest.approx(expected)


def test_linear_schedule_over_minutes_follows_the_clock_to_zero():
    config = make_config({"minutes": 10, "learning_rate": 1.0})
    rates = [learning_rate_at(config, seconds, 600) for seconds in (0, 300, 450, 600, 700)]
    assert rates == pytest.approx([1, 1, 0.5, 0, 0])


def test_the_step_schedule_drops_after_each_share_that_is_asked_for():
    config = make_config({"schedule": "step", "drop_share": 0.15, "epochs": 200, "learning_rate": 1.0})
    rates = [learning_rate_at(config, epoch, 200) for epoch in (0, 29.9, 30, 60, 90, 119.5, 120, 199)]
    assert rates == pytest.approx([1, 1, 1e-1, 1e-2, 1e-3, 1e-3, 1e-4, 1e-6])
