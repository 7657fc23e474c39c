"""Prepare batches ahead of the training step, in a thread or in processes."""

import itertools
import multiprocessing
import os
import pickle
import re
import secrets
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.errors import InputError, TrainingError
from cyclegan.system.host_state import loading_processes
from cyclegan.system.prefetch import prefetch

# Batches that a thread of this process prepares ahead.
_PREFETCHED = 3

# Variable of loading processes while they start: a file to make if the script calls `train` while it is imported.
_UNGUARDED = "CYCLEGAN_UNGUARDED"

# Not 1, with which Python ends after an error.
_UNGUARDED_EXIT = 3

# What DataLoader raises after the end of a process.
_ENDED = re.compile(r"DataLoader worker .*(exited|is killed)")


def batches(
    dataset: UnpairedDataset, first_step: int, num_workers: int, *, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps first_step, first_step + 1, ... without end, prepared a few steps ahead.

    num_workers: processes that prepare them; 0: one thread of this process. Closing the generator ends them.
    pin_memory: for training on CUDA, where copies from pinned memory are faster; elsewhere it would only start CUDA.
    Raises InputError if a process finds a script that calls `train` while it is imported, TrainingError if one ends.
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
    with _ends_named() as mark, _as_file(shared) as (sent, remove):
        loader = DataLoader(
            sent,
            sampler=itertools.count(first_step),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            multiprocessing_context="spawn",
            worker_init_fn=_ignore_stops,
            generator=torch.Generator(),  # else it draws from the host's random numbers
        )
        # The handler of SIGCHLD would raise the end of a process in the middle of a step. Without it the loader notices
        # that end when it waits for a batch.
        with loading_processes(), _stops_blocked(), mark:
            source = iter(loader)
        try:
            for number, batch in enumerate(source, 1):
                if number == num_workers:  # each process has prepared one, and so has read the file
                    remove()
                yield batch
        except RuntimeError as error:
            # Errors of images come through the pipe: a process that ends with 1 could not even begin.
            if _ENDED.match(str(error)) and any(each.exitcode == 1 for each in source._workers):  # type: ignore[attr-defined]
                raise InputError(
                    "The processes that load images could not begin: each of them runs this script again from its top, "
                    "and its error is printed above. Put the call of train, and what can be done only once, below "
                    'if __name__ == "__main__": in a file, or pass workers=0.'
                ) from None
            raise
        finally:
            # Else the traceback of an error would keep the processes, and the interpreter would wait for their end.
            source._shutdown_workers()  # type: ignore[attr-defined]


class _Sent(Dataset[Batch]):
    """A dataset in a file, for loading processes.

    In the pipe to a process that ends while it starts, all that exceeds 64 KiB would make its parent wait for ever.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._dataset: UnpairedDataset | None = None

    def __getitem__(self, step: int) -> Batch:
        if self._dataset is None:
            with self._file.open("rb") as file:
                self._dataset = pickle.load(file)
        return self._dataset[step]


@contextmanager
def _as_file(dataset: UnpairedDataset) -> Iterator[tuple[_Sent, Callable[[], None]]]:
    """The dataset in a temporary file, and a function that removes the file, as the end of the block does."""
    with tempfile.NamedTemporaryFile(prefix="cyclegan-", delete=False) as file:
        path = Path(file.name)
        try:
            pickle.dump(dataset, file)
        except BaseException:
            path.unlink()
            raise

    def remove() -> None:
        with suppress(OSError):
            path.unlink()

    try:
        yield _Sent(path), remove
    finally:
        remove()


def leave_if_loading() -> None:
    """End a loading process whose script calls `train` while it is imported. Its parent says so."""
    path = os.environ.get(_UNGUARDED)
    if path is not None and getattr(multiprocessing.current_process(), "_inheriting", False):
        with suppress(OSError):
            Path(path).touch()
        raise SystemExit(_UNGUARDED_EXIT)


@contextmanager
def _ends_named() -> Iterator[AbstractContextManager[None]]:
    """Turn the end of a loading process into one sentence. Yields the block that processes are started in."""
    mark = Path(tempfile.gettempdir(), f"cyclegan-{secrets.token_hex(8)}")

    @contextmanager
    def marked() -> Iterator[None]:
        os.environ[_UNGUARDED] = str(mark)
        try:
            yield
        finally:
            os.environ.pop(_UNGUARDED, None)

    try:
        yield marked()
    except (RuntimeError, OSError, EOFError) as error:
        if mark.exists():
            raise InputError(
                "workers starts processes that load images, and each of them runs this script again from its top; put "
                'the call of train, and all that follows it, below if __name__ == "__main__": or pass workers=0.'
            ) from None
        if isinstance(error, RuntimeError) and not _ENDED.match(str(error)):
            raise
        raise TrainingError(
            "A process that loads images has ended: it was stopped, or the system had no memory left for it. Use fewer "
            "--workers, or 0."
        ) from None
    finally:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


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
