"""Two functions at once on the cores of one CPU."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# Enough for four networks, with and without features, in a few shapes each.
_MAX_GRAPHS = 64

Result = TypeVar("Result")


class TwoThreads:
    """Calls one or two functions: one after the other, or at once in two threads with half of torch's threads each.

    At once, the halves wait for each other in one place instead of in every operation. Small operations then use all
    cores, and a core that another program keeps busy slows down only one half.
    """

    def __init__(self, *, side_by_side: bool) -> None:
        self.side_by_side = side_by_side
        self._executor: ThreadPoolExecutor | None = None

    def __call__(self, *functions: Callable[[], Result]) -> list[Result]:
        """Return all results. An exception of either function is raised after both have ended."""
        num_threads = torch.get_num_threads()
        if not self.side_by_side or num_threads == 1 or len(functions) == 1:
            return [function() for function in functions]
        first, second = functions
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "cyclegan-second")
        half = num_threads // 2

        def run_second() -> Result:
            torch.set_num_threads(half)  # applies to the calling thread alone
            return second()

        pending = self._executor.submit(run_second)
        torch.set_num_threads(half)
        try:
            try:
                result = first()
            finally:
                # Wait even after an error: the caller changes the networks next.
                pending.exception()
        finally:
            torch.set_num_threads(num_threads)
        return [result, pending.result()]

    def close(self) -> None:
        """End the second thread; the next call starts another one."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


class TracedForward:
    """Calls networks as TorchScript graphs, which run without the GIL, so that two threads run at once.

    A graph is traced at the first call of a network with an input of a shape and type. Weights, gradients and results
    are those of the network, bit for bit.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[nn.Module, torch.Size, torch.dtype], Callable[[Tensor], Any]] = {}
        self._lock = Lock()

    @staticmethod
    def is_available() -> bool:
        """Whether this Python still has torch.jit, which is deprecated. Without it, forward passes take turns."""
        return sys.version_info < (3, 14) and hasattr(torch.jit, "trace")

    def __call__(self, network: nn.Module, x: Tensor) -> Any:
        """Return network(x). The network must compute the same operations for every input of this shape and type."""
        key = network, x.shape, x.dtype
        if key not in self._graphs:
            if len(self._graphs) >= _MAX_GRAPHS:  # images of ever new sizes
                return network(x)
            with self._lock, warnings.catch_warnings():  # tracing is not thread-safe
                warnings.simplefilter("ignore", DeprecationWarning)
                # Branches on the shape of the input are safe: each graph is for one shape.
                warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
                self._graphs[key] = torch.jit.trace(network, x.detach(), check_trace=False)  # type: ignore[no-untyped-call]
        # The graph optimiser would change the formulas of gradients.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self._graphs[key](x)
