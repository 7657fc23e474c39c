"""Training steps recorded as CUDA graphs: two launches in place of thousands, for which a GPU would wait at batch 1."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from cyclegan.step.state import TrainState
from cyclegan.step.update import run_step, train_step, update_discriminators, update_generators

Tensors: TypeAlias = tuple[Tensor, ...]
Step: TypeAlias = Callable[[TrainState, Tensor, Tensor], dict[str, Tensor]]

# Ordinary calls before a recording: libraries load, choose their algorithms and allocate what a recording may not.
WARM_UP_CALLS = 3


class Recorder(Protocol):
    """What a device can do: `CudaRecorder`, or a stand-in of the tests."""

    def warm_up(self, function: Callable[[], Tensors]) -> Tensors:
        """Call the function as it will be recorded, and return its outputs."""

    def record(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        """Record the function without running it. Returns its outputs and what runs it, writing into them."""


class CudaRecorder:
    """CUDA graphs on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def warm_up(self, function: Callable[[], Tensors]) -> Tensors:
        """On a stream of its own, as a recording will be."""
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                outputs = function()
            torch.cuda.current_stream().wait_stream(side)
        return outputs

    def record(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        """Raises RuntimeError if the function does something that cannot be recorded."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as one that pins the memory of batches, go on with what they do.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = function()
        return outputs, graph.replay


class Recorded:
    """A function of tensors that changes a state: called a few times, then recorded once and replayed.

    Every call does its work once, whichever way. Inputs of other shapes than the first ones go the ordinary way.
    """

    def __init__(self, function: Callable[..., Tensors], recorder: Recorder) -> None:
        self._function, self._recorder = function, recorder
        self._warm_ups = 0
        self._inputs: Tensors = ()
        self._outputs: Tensors = ()
        self._replay: Callable[[], None] | None = None

    def __call__(self, state: TrainState, *inputs: Tensor) -> Tensors:
        """As the function, of one and the same state at every call. The outputs belong to the caller."""
        if not self._inputs:
            self._inputs = tuple(x.clone() for x in inputs)
        if [x.shape for x in inputs] != [x.shape for x in self._inputs]:
            return self._function(state, *inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        if self._warm_ups < WARM_UP_CALLS:
            self._warm_ups += 1
            return self._recorder.warm_up(lambda: self._function(state, *self._inputs))
        if self._replay is None:
            self._outputs, self._replay = self._recorder.record(lambda: self._function(state, *self._inputs))
        self._replay()
        # The next replay writes into them, and losses are looked at much later.
        return tuple(x.clone() for x in self._outputs)


def record_step(recorder: Recorder) -> Step:
    """A `train_step` that is recorded; for one state only."""
    generators, discriminators = Recorded(update_generators, recorder), Recorded(update_discriminators, recorder)
    return lambda state, real_a, real_b: run_step(state, real_a, real_b, generators, discriminators)


def fastest_step(state: TrainState) -> Step:
    """`train_step`, recorded where that is possible: on CUDA, for images of one size."""
    config = state.config
    # The scaler of fp16 decides on the CPU whether a step counts, dropout is seeded anew at every step, and the penalty
    # on real images comes at some steps only.
    fixed = config.data.crops and config.precision != "fp16" and not config.model.dropout and config.r1_weight == 0
    if state.device.type == "cuda" and fixed and config.cuda_graphs:
        return record_step(CudaRecorder(state.device))
    return train_step
