"""What makes a step faster or smaller does not change what it computes."""

import copy
import threading
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from conftest import TINY_MODEL
from cyclegan.config import make_config
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator, enable_checkpointing
from cyclegan.networks.layers import InstanceNorm
from cyclegan.step import TrainState, train_step
from cyclegan.step.execution import Execution, prepare
from cyclegan.step.master_weights import flatten, views_of
from cyclegan.step.two_threads import TwoThreads
from cyclegan.storage.model import ModelInfo
from cyclegan.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def images(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 3, size, size, generator=generator) * 2 - 1 for _ in range(2)]


def trained(steps=3, side_by_side=True, **settings):
    config = make_config({**TINY_MODEL, "crop_size": 16, "steps": 10, "pool_size": 1, **settings}, preset="paper")
    state = TrainState.create(config)
    state.execution = Execution(state, side_by_side=side_by_side)
    losses = {}
    for step in range(steps):
        losses = train_step(state, *images(state.config.data.crop_size, step))
    return state, losses


def all_weights(state):
    return torch.cat([p.detach().flatten() for n in (state.generator, state.discriminator) for p in n.parameters()])


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16"}, {"adversarial": "wgan-gp"}, {"generator": "unet", "depth": 5, "crop_size": 64}],
)
def test_directions_side_by_side_give_the_same_bits_as_one_after_the_other(settings):
    together, losses = trained(**settings)
    torch.set_num_threads(1)
    alone, same = trained(side_by_side=False, **settings)
    assert losses == same
    assert torch.equal(all_weights(together), all_weights(alone))


@pytest.mark.usefixtures("two_threads")
def test_two_functions_run_at_once_with_half_of_the_threads_each():
    meeting = threading.Barrier(2)

    def work():
        meeting.wait(300)  # only passed if the other one runs meanwhile
        return torch.get_num_threads(), threading.current_thread().name

    first, second = TwoThreads(side_by_side=True)(work, work)
    assert first[0] == second[0] == 1
    assert first[1] != second[1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("place", [0, 1])
def test_an_exception_of_one_function_is_raised_after_both_have_ended(place):
    ended = []

    def fails():
        raise InputError("no")

    def works():
        ended.append(True)

    with pytest.raises(InputError, match="no"):
        TwoThreads(side_by_side=True)(*((fails, works) if place == 0 else (works, fails)))
    assert ended == [True]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_state_goes_on_with_another_execution(precision):
    expected, _ = trained(steps=4, precision=precision)
    state, _ = trained(steps=2, precision=precision)
    torch.set_num_threads(1)  # as many as each direction had before
    state.execution = Execution(state, side_by_side=False)
    for step in (2, 3):
        train_step(state, *images(16, step))
    assert torch.equal(all_weights(state), all_weights(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3])
def test_instance_norm_is_the_same_in_both_memory_formats(dtype, count):
    x = torch.randn(count, 6, 9, 7, generator=torch.Generator().manual_seed(0)) * 3 + 5
    planes = x.to(dtype, copy=True).requires_grad_()
    pixels = x.to(dtype, copy=True).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    expected, result = nn.InstanceNorm2d(6)(planes.float()), InstanceNorm(6)(pixels)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)
    (expected * weight).sum().backward()
    (result * weight).sum().backward()
    # bfloat16 has eight digits; what is lost is lost in the result, not in the statistics.
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(result.float(), expected, atol=tolerance, rtol=tolerance)
    assert torch.allclose(pixels.grad.float(), planes.grad.float(), atol=tolerance, rtol=tolerance)


def test_instance_norm_in_channels_last_can_be_differentiated_twice():
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradgradcheck(InstanceNorm(2), x, eps=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "settings",
    [{}, {"generator": "unet", "depth": 5, "crop_size": 64}, {"dropout": True}, {"contrastive_weight": 1.0}],
)
def test_activations_computed_again_give_the_same_weights(settings):
    kept, _ = trained(**settings)
    again, _ = trained(checkpoint_activations=True, **settings)
    assert torch.equal(all_weights(kept), all_weights(again))


def bytes_kept(network, x):
    """What autograd keeps for the backward pass of a call, every piece of memory once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(x)
    del output
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_activations_computed_again_are_not_kept(kind):
    sizes = {"generator": kind, "blocks": 4, "depth": 5, "width": 4, "crop_size": 64, "steps": 1}
    config = make_config(sizes, preset="paper").model
    network = build_generator(config, 3, 3, seed=0)
    x = torch.rand(1, 3, 64, 64)
    before = bytes_kept(network, x)
    enable_checkpointing(network)
    after = bytes_kept(network, x)
    assert after < 0.4 * before
    # A little more where the activations that are looked at stay.
    assert bytes_kept(partial(network.features, decode=True), x) < 1.25 * after


def test_activations_computed_again_are_refused_with_batch_norm():
    with pytest.raises(InputError, match="running statistics"):
        make_config({"norm": "batch", "checkpoint_activations": True}, preset="paper")


def test_a_run_in_fp16_goes_on_with_its_scale(tmp_path):
    state, _ = trained(steps=2, precision="fp16")
    state.scaler.update(32.0)
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": state.step, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=state.config.model, a=ImageFormat(), b=ImageFormat(), **about)
    save_checkpoint(tmp_path, info, state, seconds=1.0, keep=1)
    other, _ = trained(steps=1, precision="fp16")
    load_checkpoint(tmp_path / "checkpoints" / "step_0000002", other)
    assert other.scaler.get_scale() == 32.0
    expected, result = (train_step(one, *images(16, 7)) for one in (state, other))
    assert expected == result
    assert torch.equal(all_weights(state), all_weights(other))


def test_a_checkpoint_with_moments_of_each_weight_is_read_too(tmp_path):
    """As checkpoints were before the weights lay in one piece."""
    state, _ = trained(steps=2)
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": state.step, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=state.config.model, a=ImageFormat(), b=ImageFormat(), **about)
    checkpoint = save_checkpoint(tmp_path, info, state, seconds=1.0, keep=1)
    tensors = load_file(checkpoint / "training.safetensors")
    for name in ("generator", "discriminator"):
        weights = [p for p in getattr(state, name).parameters() if p.requires_grad]
        step = tensors.pop(f"{name}_optimizer.0.step")
        for moment in ("exp_avg", "exp_avg_sq"):
            parts = views_of(tensors.pop(f"{name}_optimizer.0.{moment}"), weights)
            for index, part in enumerate(parts):
                tensors[f"{name}_optimizer.{index}.{moment}"] = part.contiguous()
                tensors[f"{name}_optimizer.{index}.step"] = step.clone()
    save_file(tensors, checkpoint / "training.safetensors")
    other, _ = trained(steps=1)
    load_checkpoint(checkpoint, other)
    assert train_step(other, *images(16, 7)) == train_step(state, *images(16, 7))
    assert torch.equal(all_weights(state), all_weights(other))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"contrastive_weight": 1.0}, {"norm": "batch"}])
def test_compiled_networks_are_those_that_a_step_computes_with_and_take_turns(settings, monkeypatch):
    compiled, called = [], []
    monkeypatch.setattr(nn.Module, "compile", lambda network, **_: compiled.append(network))
    state, _ = trained(steps=0, compile=True, **settings)

    def apply(network, x):
        called.append(network)
        return network(prepare(x, state.config.precision))

    state.execution.apply = apply
    train_step(state, *images(16, 0))
    assert called
    assert {id(network) for network in called} <= {id(network) for network in compiled}
    assert not state.execution.two_threads.side_by_side


def test_flat_weights_are_aligned_and_keep_their_values():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1), nn.ConvTranspose2d(2, 4, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flat = flatten(network.parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert (parameter.data_ptr() - flat.data_ptr()) % 64 == 0
    flat.mul_(2)  # one operation for all of them
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, 2 * before[name])


def test_a_state_refuses_a_copy_that_would_not_be_one():
    state, _ = trained(steps=1)
    with pytest.raises(TypeError, match="save a checkpoint"):
        copy.deepcopy(state)


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_state_resolves_auto_by_itself(monkeypatch, has_bf16, precision):
    monkeypatch.setattr("cyclegan.step.state.has_fast_bf16", lambda _: has_bf16)
    state, _ = trained(steps=1, precision="auto")
    assert state.config.precision == precision
