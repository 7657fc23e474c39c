"""Two functions at once on the cores of one CPU."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

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
