"""Do the work of coming items in threads, within bounds of number and memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Bytes that wait between two stages: enough to keep the slower stage busy, little for any machine.
MAX_BYTES = 2**28


_cores: int | None = None


def use_cores(count: int) -> None:
    """Let `num_cores` return this in a process that has a share of its machine."""
    global _cores
    _cores = count


def num_cores() -> int:
    """CPU cores that this process may use."""
    if _cores is not None:
        return _cores
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int,
    max_items: int,
    size_of: Callable[[Result], int] | None = None,
    estimate: Callable[[Item], int] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Each item with its finished future, in order, while threads work on the next items.

    At most `max_items` are started and not yet taken, and together they hold at most `max_bytes`, unless there is only
    one. size_of: bytes of a result; default: bytes are not counted. estimate: bytes that an item takes while it is
    worked on; default: those of the largest result so far, and the first item is worked on alone. Threads see the
    context variables of the caller.
    `Future.result()` raises what the work raised. Closing the generator starts nothing more and waits for what runs.
    """
    pool = ThreadPoolExecutor(num_threads)
    # The last value is the estimate of an item's bytes.
    waiting: deque[tuple[Item, Future[Result], int]] = deque()
    largest: int | None = None

    def has_room(expected: int) -> bool:
        """Whether another item, with this estimate of bytes, may start."""
        nonlocal largest
        if not waiting or len(waiting) >= max_items or size_of is None:
            return len(waiting) < max(1, max_items)
        if estimate is None and largest is None:
            waiting[0][1].exception()  # waits: without any size, two threads may be too many
        held, unknown = 0, [expected]
        for _, future, size in waiting:
            if not future.done():
                unknown.append(size)
            elif future.exception() is None:
                held += size_of(future.result())
                largest = max(largest or 0, size_of(future.result()))
        if estimate is not None:
            return held + sum(unknown) <= max_bytes
        return largest is not None and held + len(unknown) * largest <= max_bytes

    def take() -> tuple[Item, Future[Result]]:
        waiting[0][1].exception()  # waits
        item, future, _ = waiting.popleft()
        return item, future

    try:
        for item in items:
            expected = 0 if estimate is None else estimate(item)
            while not has_room(expected):
                yield take()
            waiting.append((item, pool.submit(copy_context().run, work, item), expected))
        while waiting:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)
