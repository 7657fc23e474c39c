"""Convolutions with fewer multiplications: the same results and gradients as ordinary ones, up to rounding."""

import copy

import pytest
import torch
from torch.nn import functional as F

from conftest import TINY_MODEL
from cyclegan.config import make_config
from cyclegan.networks import build_generator, enable_checkpointing, winograd
from cyclegan.networks.resnet import kernels_transformed
from cyclegan.step import TrainState, train_step
from cyclegan.step.execution import Execution

# Blocks of 64 channels, the fewest that are transformed.
WIDE_ENOUGH = {**TINY_MODEL, "width": 16}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ordinary(x, weight, bias):
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)


def transformed(x, weight, bias):
    return winograd.convolve(x, weight, bias, winograd.transform(weight))


def results(convolve, tensors, grad, dtype):
    """The output of a convolution, and the gradients of image, weight and bias."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors]
    output = convolve(*leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad.to(dtype))]


@pytest.mark.parametrize("channels", [(1, 1), (5, 7), (64, 64), (256, 64)])
@pytest.mark.parametrize("size", [(2, 2), (2, 7), (3, 5), (4, 4), (9, 6), (16, 16), (17, 30), (64, 64)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_results_and_gradients_are_those_of_an_ordinary_convolution(channels, size, count, memory_format):
    inputs, outputs = channels
    x = random(count, inputs, *size).contiguous(memory_format=memory_format)
    tensors = [x, 0.05 * random(outputs, inputs, 3, 3, seed=1), random(outputs, seed=2)]
    grad = random(count, outputs, *size, seed=3).contiguous(memory_format=memory_format)
    exact = results(ordinary, tensors, grad, torch.float64)
    direct, found = (results(convolve, tensors, grad, torch.float32) for convolve in (ordinary, transformed))
    for expected, reference, value in zip(exact, direct, found, strict=True):
        scale = expected.square().mean().sqrt()
        error, ordinary_error = (value - expected).abs(), (reference - expected).abs()
        # Rounding: that of float32 in a few steps, beside which an ordinary sum of few terms is even more exact.
        assert error.square().mean().sqrt() <= 2 * ordinary_error.square().mean().sqrt() + 1e-6 * scale
        assert error.max() <= 2 * ordinary_error.max() + 1e-5 * scale


def test_an_image_without_gradient_and_frozen_values_get_none():
    x, weight, bias = random(1, 8, 8, 8), random(8, 8, 3, 3).requires_grad_(), random(8)
    transformed(x, weight, bias).sum().backward()
    assert weight.grad is not None
    assert x.grad is bias.grad is None
    x, weight = x.requires_grad_(), weight.detach()
    transformed(x, weight, bias).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_generator_computes_the_same_and_forgets_the_kernels_afterwards(norm, checkpointing):
    model = make_config({**WIDE_ENOUGH, "norm": norm, "blocks": 2}, preset="paper").model
    network = build_generator(model, 3, 3, seed=0)
    if checkpointing:
        enable_checkpointing(network)
    x = random(2, 3, 24, 36).clamp(-1, 1).to(memory_format=torch.channels_last)

    def computed():
        network.zero_grad()
        output = network(x)
        output.abs().mean().backward()
        return output.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.requires_grad])

    before = computed()
    with kernels_transformed(network):
        within = computed()
        assert not torch.equal(within[0], before[0])  # it is another order of summation
    after = computed()
    for found, again, expected in zip(within, after, before, strict=True):
        assert torch.equal(again, expected)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_narrow_blocks_stay_ordinary():
    network = build_generator(make_config(TINY_MODEL, preset="paper").model, 3, 3, seed=0)
    x = random(1, 3, 16, 16).clamp(-1, 1).to(memory_format=torch.channels_last)
    expected = network(x)
    with kernels_transformed(network):
        assert torch.equal(network(x), expected)


def trained(*, uses_winograd, side_by_side=True, **settings):
    sizes = {"crop_size": 32, "steps": 10, "pool_size": 1, "precision": "fp32"}
    state = TrainState.create(make_config({**WIDE_ENOUGH, **sizes, **settings}, preset="paper"))
    state.execution = Execution(state, side_by_side=side_by_side)
    state.execution.uses_winograd = uses_winograd
    before = copy.deepcopy(state.generator.state_dict())
    losses = train_step(state, random(1, 3, 32, 32, seed=4).tanh(), random(1, 3, 32, 32, seed=5).tanh())
    moved = [value - before[name] for name, value in state.generator.state_dict().items()]
    return losses, torch.cat([x.flatten() for x in moved]), state.generator_weights.grad.clone()


@pytest.mark.parametrize("settings", [{}, {"contrastive_weight": 1.0}, {"dropout": True}, {"norm": "batch"}])
def test_a_step_has_the_same_losses_and_gradients(settings):
    losses, _, grads = trained(uses_winograd=True, **settings)
    expected, _, expected_grads = trained(uses_winograd=False, **settings)
    assert not torch.equal(grads, expected_grads)
    for name, loss in losses.items():
        assert float(loss) == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-6), name
    assert (grads - expected_grads).abs().max() <= 1e-4 * expected_grads.abs().max()


@pytest.mark.usefixtures("two_threads")
def test_directions_side_by_side_give_the_same_bits_as_one_after_the_other():
    losses, moved, _ = trained(uses_winograd=True)
    torch.set_num_threads(1)
    same, same_moved, _ = trained(uses_winograd=True, side_by_side=False)
    assert losses == same
    assert torch.equal(moved, same_moved)


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"compile": True}])
def test_other_ways_to_compute_stay_ordinary(settings, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert Execution(TrainState.create(make_config({**WIDE_ENOUGH, "precision": "fp32"}))).uses_winograd
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    state = TrainState.create(make_config({**WIDE_ENOUGH, "precision": "fp32", **settings}))
    assert not state.execution.uses_winograd


def test_only_cpus_where_it_is_faster_use_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not TrainState.create(make_config({**WIDE_ENOUGH, "precision": "fp32"})).execution.uses_winograd
