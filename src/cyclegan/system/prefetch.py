"""Do the work of coming items in threads, within bounds of number and memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
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
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    # Sums, because looking at each waiting item for each new one would take longer than decoding a small image.
    lock = Lock()
    held, pending, num_pending = 0, 0, 0  # bytes of results, estimated bytes of unfinished items, and their number
    largest: int | None = None

    def measured(item: Item, expected: int) -> Result:
        nonlocal held, pending, num_pending, largest
        size = None
        try:
            result = work(item)
            size = None if size_of is None else size_of(result)
        finally:
            with lock:
                pending, num_pending = pending - expected, num_pending - 1
                if size is not None:
                    held, largest = held + size, max(largest or 0, size)
        return result

    def has_room(expected: int) -> bool:
        """Whether another item, with this estimate of bytes, may start."""
        if not waiting or len(waiting) >= max_items or size_of is None:
            return len(waiting) < max(1, max_items)
        if estimate is None and largest is None:
            waiting[0][1].exception()  # waits: without any size, two threads may be too many
        with lock:
            if estimate is not None:
                return held + pending + expected <= max_bytes
            return largest is not None and held + (num_pending + 1) * largest <= max_bytes

    def take() -> tuple[Item, Future[Result]]:
        nonlocal held
        item, future = waiting[0]
        if future.exception() is None and size_of is not None:  # waits
            with lock:
                held -= size_of(future.result())
        waiting.popleft()
        return item, future

    def start(item: Item, expected: int) -> Future[Result]:
        nonlocal pending, num_pending
        with lock:
            pending, num_pending = pending + expected, num_pending + 1
        return pool.submit(copy_context().run, measured, item, expected)

    try:
        for item in items:
            expected = 0 if estimate is None else estimate(item)
            while not has_room(expected):
                yield take()
            waiting.append((item, start(item, expected)))
        while waiting:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)
