"""Two functions at the same time on the cores of one CPU."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

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
            result = first()
        finally:
            # Also after an error: nothing may go on in the background, on networks that the caller changes next.
            pending.exception()
            torch.set_num_threads(num_threads)
        return result, pending.result()
