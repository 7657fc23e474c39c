"""Training steps as CUDA graphs: two launches instead of thousands, for which a GPU would wait at small batch sizes."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from cyclegan.step.state import TrainState
from cyclegan.step.terms import active_penalties
from cyclegan.step.update import Gradients, discriminator_gradients, generator_gradients, run_step, train_step

Tensors: TypeAlias = tuple[Tensor, ...]


class Step(Protocol):
    """`train_step`, or something that does the same."""

    def __call__(
        self,
        state: TrainState,
        real_a: Tensor,
        real_b: Tensor,
        *,
        mask_a: Tensor | None = None,
        mask_b: Tensor | None = None,
    ) -> dict[str, Tensor]: ...


# Ordinary calls before recording. Libraries load, choose algorithms and allocate in them, which a graph cannot record.
WARM_UP_CALLS = 3


class Recorder(Protocol):
    """Records functions: `CudaRecorder`, or a stand-in for tests."""

    def warm_up(self, function: Callable[[], Tensors]) -> Tensors:
        """Call the function under the conditions of a recording, and return its outputs."""

    def record(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        """Record the function without running it. Returns its outputs, and a replay that writes into them."""


class CudaRecorder:
    """Records CUDA graphs on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def warm_up(self, function: Callable[[], Tensors]) -> Tensors:
        """Call the function on a side stream, like a recording."""
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                outputs = function()
            torch.cuda.current_stream().wait_stream(side)
        return outputs

    def record(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        """Raises RuntimeError if the function does something that a CUDA graph cannot hold."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as one that pins the memory of batches, may use CUDA meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = function()
        return outputs, graph.replay


class GraphedGradients:
    """`Gradients` of one state: called normally a few times, then recorded once and replayed.

    Every call does the work exactly once. Inputs of other shapes than at the first call are never replayed. When a new
    input joins them, such as a mask at the first hole, it begins anew.
    """

    def __init__(self, gradients: Gradients, recorder: Recorder) -> None:
        self._gradients, self._recorder = gradients, recorder
        self._num_warm_ups = 0
        # A graph reads and writes fixed tensors.
        self._inputs: dict[str, Tensor] = {}
        self._outputs: Tensors = ()
        self._output_names: list[str] = []
        self._replay: Callable[[], None] | None = None

    def __call__(self, state: TrainState, **inputs: Tensor) -> dict[str, Tensor]:
        """Call the function with the same state every time. The outputs belong to the caller."""
        if inputs.keys() > self._inputs.keys():
            self._num_warm_ups, self._outputs, self._replay = 0, (), None
            self._inputs = {name: x.clone() for name, x in inputs.items()}
        if _shapes(inputs) != _shapes(self._inputs):
            return self._gradients(state, **inputs)
        for name, fixed in self._inputs.items():
            fixed.copy_(inputs[name])

        def compute() -> Tensors:
            outputs = self._gradients(state, **self._inputs)
            self._output_names = list(outputs)
            return tuple(outputs.values())

        if self._num_warm_ups < WARM_UP_CALLS:
            self._num_warm_ups += 1
            outputs = self._recorder.warm_up(compute)
        else:
            if self._replay is None:
                self._outputs, self._replay = self._recorder.record(compute)
            self._replay()
            # The next replay overwrites them, and losses are read much later.
            outputs = tuple(x.clone() for x in self._outputs)
        return dict(zip(self._output_names, outputs, strict=True))


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in tensors.items()}


def graph_step(recorder: Recorder) -> Step:
    """A `train_step` that records the gradients of both sides, for one state only."""
    generators, discriminators = (
        GraphedGradients(gradients, recorder) for gradients in (generator_gradients, discriminator_gradients)
    )

    def step(
        state: TrainState,
        real_a: Tensor,
        real_b: Tensor,
        *,
        mask_a: Tensor | None = None,
        mask_b: Tensor | None = None,
    ) -> dict[str, Tensor]:
        has_holes = mask_a is not None or mask_b is not None or bool(state.domains_with_holes)
        if has_holes and state.execution.share.parts > 1:  # the number of values in a batch comes from all processes
            return train_step(state, real_a, real_b, mask_a=mask_a, mask_b=mask_b)
        return run_step(state, real_a, real_b, generators, discriminators, mask_a=mask_a, mask_b=mask_b)

    return step


def make_step(state: TrainState) -> Step:
    """The fastest `train_step` for this state: with CUDA graphs where the steps allow it."""
    config = state.config
    # In fp16 the scaler decides on the CPU whether a step counts; dropout is seeded anew at every step; and a graph
    # cannot hold a penalty that only some steps take.
    repeats = config.precision != "fp16" and not config.model.dropout
    repeats = repeats and all(penalty.every == 1 for penalty in active_penalties(config))
    if state.device.type == "cuda" and config.cuda_graphs and config.data.crops and repeats:
        return graph_step(CudaRecorder(state.device))
    return train_step
