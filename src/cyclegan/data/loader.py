"""Prepare batches ahead of the training step, in a thread or in processes."""

import itertools
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker

import torch
from torch.utils.data import DataLoader

from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.system.host_state import loading_processes
from cyclegan.system.prefetch import prefetch

# Batches that a thread of this process prepares ahead.
_PREFETCHED = 3


def batches(
    dataset: UnpairedDataset, first_step: int, num_workers: int, *, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps first_step, first_step + 1, ... without end, prepared a few steps ahead.

    num_workers: processes that prepare them; 0: one thread of this process. Closing the generator ends them.
    pin_memory: for training on CUDA, where copies from pinned memory are faster; elsewhere it would only start CUDA.
    """
    if num_workers == 0:
        prefetched = prefetch(
            dataset.__getitem__,
            itertools.count(first_step),
            num_threads=1,
            max_items=_PREFETCHED,
            size_of=lambda batch: batch.nbytes,
        )
        try:
            for _, future in prefetched:
                batch = future.result()
                yield batch.pin_memory() if pin_memory else batch
        finally:
            prefetched.close()
        return
    # Each process has its own cache.
    shared = replace(dataset, cache_bytes=dataset.cache_bytes // num_workers, _cache={}, _cached_bytes=0)
    steps = itertools.count(first_step)
    loader = DataLoader(
        shared,
        sampler=steps,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_stops,
        generator=torch.Generator(),  # else it draws from the host's random numbers
    )
    with loading_processes():
        with _stops_blocked():
            source = iter(loader)
        yield from source


# A terminal sends these to every process of its group, and so do job schedulers. The training process ends its loading
# processes itself, before it saves.
_STOPS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


def _ignore_stops(_worker: int) -> None:
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _stops_blocked() -> Iterator[None]:
    """Processes started in this block are never stopped by a signal, not even before they call `_ignore_stops`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        # The tracker starts with the first process, and its start unblocks the first two signals.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
