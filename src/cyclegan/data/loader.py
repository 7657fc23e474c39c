"""Load batches ahead of the training step, in a thread or in processes."""

import itertools
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker

from torch.utils.data import DataLoader

from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.system.prefetch import work_ahead

# Batches that wait for their step when this process makes them.
_STEPS_AHEAD = 3


def batches(
    dataset: UnpairedDataset, first_step: int, num_workers: int, *, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps first_step, first_step + 1, ... without end, made a few steps ahead.

    num_workers: processes that make them; 0: one thread of this process. Where this generator is closed they end.
    pin_memory: for a training on CUDA, which copies faster from there; anywhere else it would start CUDA for nothing.
    """
    if num_workers == 0:
        ahead = work_ahead(
            dataset.__getitem__,
            itertools.count(first_step),
            num_threads=1,
            most_items=_STEPS_AHEAD,
            size_of=lambda batch: batch.a.nbytes + batch.b.nbytes,
        )
        try:
            for _, future in ahead:
                batch = future.result()
                yield batch.pin_memory() if pin_memory else batch
        finally:
            ahead.close()
        return
    # Each process keeps a cache of its own.
    shared = replace(dataset, cache_bytes=dataset.cache_bytes // num_workers, _cache={}, _cached_bytes=0)
    steps = itertools.count(first_step)
    loader = DataLoader(
        shared,
        sampler=steps,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_interrupts,
    )
    with _interrupts_held():
        source = iter(loader)
    yield from source


def _ignore_interrupts(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start here never see Ctrl-C, not even before `_ignore_interrupts` is called there."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start would unblock the signal again, and it is started with the first process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
