import pytest
import torch
from stand_in_recorder import StandIn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest import HAS_CUDA, TINY_MODEL
from cyclegan.config import PRESETS, make_config
from cyclegan.step.cuda_graphs import WARM_UP_CALLS, CudaRecorder, graph_step, make_step
from cyclegan.step.state import TrainState, set_learning_rate
from cyclegan.step.update import discriminator_gradients, generator_gradients, run_step, train_step

# In float32, whatever this machine is fast in.
MODERN = {**PRESETS["modern"], "precision": "fp32"}


def state_and_batches(device="cpu", size=16, num_steps=8, **settings):
    config = make_config({**TINY_MODEL, "crop_size": size, "steps": 20, "pool_size": 2, **settings}, preset="paper")
    generator = torch.Generator().manual_seed(0)
    batches = torch.rand(num_steps, 2, 1, 3, size, size, generator=generator) * 2 - 1
    return TrainState.create(config, device), batches.to(device)


def run(step, state, batches):
    losses = []
    for number, (real_a, real_b) in enumerate(batches, start=1):
        # As in a training they change, and a recording has to see it.
        set_learning_rate(state, state.config.learning_rate / number)
        state.execution.cycle_factor.fill_(1 / number)
        losses.append(step(state, real_a, real_b))
    weights = torch.cat([p.detach().flatten() for n in (state.generator, state.discriminator) for p in n.parameters()])
    return [{name: value.item() for name, value in terms.items()} for terms in losses], weights


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"adversarial": "wgan-gp"},
        {"adversarial_weight": 0},
        {"precision": "bf16"},
        {"contrastive_weight": 2.0, "structure_weight": 1.0, "cycle_noise": 0.05, "discriminator_norm": "spectral"},
        MODERN,
    ],
)
def test_a_recorded_step_does_what_an_ordinary_one_does(settings):
    expected = run(train_step, *state_and_batches(**settings))
    recorder = StandIn()
    losses, weights = run(graph_step(recorder), *state_and_batches(**settings))
    assert losses == expected[0]  # looked at after all steps: none was written over by a later one
    assert torch.equal(weights, expected[1])
    updates = 1 if settings.get("adversarial_weight") == 0 else 2
    assert recorder.num_recordings == updates
    assert recorder.num_replays == updates * (8 - WARM_UP_CALLS)


class Devices(TorchDispatchMode):
    """The operations that bring together tensors of several devices, or copy from one to another."""

    def __init__(self):
        super().__init__()
        self.num_operations, self.crossings = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num_operations += 1
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        if len({x.device for x in tensors}) > 1:
            self.crossings.append(str(func))
        return result

    def watch(self, update):
        """The function, which is watched here."""

        def run(*arguments, **tensors):
            with self:
                return update(*arguments, **tensors)

        return run


@pytest.mark.parametrize("preset", ["paper", "modern", "conservative"])
def test_nothing_that_is_recorded_comes_from_the_cpu(preset):
    """A CUDA graph cannot hold a copy from there; here the device is one that computes nothing."""
    config = make_config({**TINY_MODEL, "crop_size": 16, "steps": 20, "cycle_noise": 0.05}, preset=preset)
    state = TrainState.create(config, torch.device("meta"))
    real = torch.empty(1, 3, 16, 16, device="meta")
    devices = Devices()
    run_step(state, real, real, devices.watch(generator_gradients), devices.watch(discriminator_gradients))
    assert devices.num_operations > 100
    assert devices.crossings == []


def test_images_of_another_size_go_the_ordinary_way():
    state, batches = state_and_batches()
    _, others = state_and_batches(size=24, num_steps=1)
    sequence = [*batches[:5], others[0], *batches[5:]]
    expected = run(train_step, state_and_batches()[0], sequence)
    losses, weights = run(graph_step(StandIn()), state, sequence)
    assert losses == expected[0]
    assert torch.equal(weights, expected[1])


def test_on_a_cpu_nothing_is_recorded():
    state, _ = state_and_batches()
    assert make_step(state) is train_step


@pytest.mark.parametrize(
    ("settings", "recorded"),
    [({}, True), ({"contrastive_weight": 2.0, "cycle_noise": 0.05}, True), ({"r1_weight": 1.0}, False)],
)
def test_values_that_differ_between_steps_are_not_recorded(settings, recorded):
    state, _ = state_and_batches(**settings)
    state.device = torch.device("cuda")  # nothing is computed there
    assert (make_step(state) is not train_step) == recorded


@pytest.mark.skipif(not HAS_CUDA, reason="needs CUDA")
@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({}, 1e-3),
        ({"adversarial": "wgan-gp"}, 1e-3),
        ({"precision": "bf16"}, 2**-8),
        (MODERN, 1e-3),
        (PRESETS["conservative"], 1e-3),
    ],
)
def test_a_step_recorded_on_cuda_does_what_an_ordinary_one_does(monkeypatch, settings, tolerance):
    """CUDA adds gradients up in an order that differs from run to run, so two runs agree only as far as they round.

    Weights that differ by a unit roundoff of float32 at the start of these eight steps change losses by 3e-6 at most,
    those of wgan-gp: a difference of scores and a steep penalty. With convolutions that round to the 11 bits of TF32,
    torch's default on CUDA, that becomes 7e-2, and 2e-3 for `conservative`; so TF32 is off here. In bf16 it becomes
    5e-4, within the unit roundoff that is allowed.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = run(train_step, *state_and_batches("cuda", **settings))
    losses, weights = run(graph_step(CudaRecorder(torch.device("cuda"))), *state_and_batches("cuda", **settings))
    for one, other in zip(losses, expected[0], strict=True):
        assert one == pytest.approx(other, rel=tolerance)
    assert torch.allclose(weights, expected[1], atol=1e-3)
