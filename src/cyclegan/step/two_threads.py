"""Two functions at the same time on the cores of one CPU."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor, nn

# Four networks with a few shapes each.
_MOST_GRAPHS = 64

First = TypeVar("First")
Second = TypeVar("Second")


class Pair:
    """Calls two functions, one after the other or side by side, each with half of torch's threads.

    Side by side there is one place where the threads wait for each other, instead of one in every operation. So small
    operations use both halves of the cores, and a core that other programs keep busy holds up one half alone.
    """

    def __init__(self, *, side_by_side: bool) -> None:
        self.side_by_side = side_by_side
        self._executor: ThreadPoolExecutor | None = None

    def __call__(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """What both return. Raises what one of them raises, when both have ended."""
        num_threads = torch.get_num_threads()
        if not self.side_by_side or num_threads == 1:
            return first(), second()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "cyclegan-second")
        half = num_threads // 2

        def run_second() -> Second:
            torch.set_num_threads(half)  # it holds for the thread that calls it
            return second()

        pending = self._executor.submit(run_second)
        torch.set_num_threads(half)
        try:
            try:
                result = first()
            finally:
                # Also after an error: nothing may go on in the background, on networks that the caller changes next.
                pending.exception()
        finally:
            torch.set_num_threads(num_threads)
        return result, pending.result()


class Traced:
    """Calls networks as graphs that C++ walks through, without Python's lock, so that two threads can do so at once.

    A graph is made at the first call of a network with a shape and type of input, and takes no part in anything else:
    weights, gradients and results are those of the network.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[nn.Module, torch.Size, torch.dtype], Callable[[Tensor], Tensor]] = {}
        self._lock = Lock()

    @staticmethod
    def is_available() -> bool:
        """torch.jit is deprecated: newer Pythons do without it, and then threads take turns in the forward pass."""
        return sys.version_info < (3, 14) and hasattr(torch.jit, "trace")

    def __call__(self, network: nn.Module, x: Tensor) -> Tensor:
        """network(x), for a network that computes the same operations whenever inputs have this shape and type."""
        key = network, x.shape, x.dtype
        if key not in self._graphs:
            if len(self._graphs) >= _MOST_GRAPHS:  # images of ever new sizes
                return network(x)  # type: ignore[no-any-return]
            with self._lock, warnings.catch_warnings():  # tracing is not made for threads
                warnings.simplefilter("ignore", DeprecationWarning)
                # What a network decides by the shape of its input holds for a graph, which is for one shape.
                warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
                self._graphs[key] = torch.jit.trace(network, x.detach(), check_trace=False)  # type: ignore[no-untyped-call]
        # The optimiser of graphs would have other formulas for gradients.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self._graphs[key](x)
