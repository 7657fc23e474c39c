"""The one thread of a device that runs networks: small images in batches, large ones in pieces between them."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from typing import Any

import torch

from cyclegan.images import Array
from cyclegan.serving.problems import Problem
from cyclegan.system.advice import flags_of_command
from cyclegan.translate.results import translate_items
from cyclegan.translate.translator import Translator

# Most images and pixels in a batch. On a CPU its images are computed one by one: as fast, and the same bits as alone.
_MOST_IMAGES = 32
_MOST_PIXELS_ON_CPU, _MOST_PIXELS = 2 * 256 * 256, 32 * 256 * 256

# Time that a large image gets for each second that the small ones beside it take.
_SHARE = 0.5

# Seconds that a device waits for other images of one size that are being decoded. On a CPU nothing is won by it.
_WAIT_SECONDS = 0.003

Pause = Callable[[], None]


class DroppedError(Exception):
    """Nobody waits for the result any more."""


@dataclass(eq=False)
class Job:
    """Work for a worker, and the future of its result.

    An image as the model takes it, (H, W, C), becomes its translation. Or `run` does the work in pieces; it calls the
    function that it is given between two of them.
    """

    translator: Translator
    image: Array | None = None
    run: Callable[[Pause], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    is_dropped: bool = False
    arrived: float = field(default_factory=time.monotonic)
    on_begin: Callable[[], None] = lambda: None

    def begin(self) -> bool:
        """Whether somebody still waits for it; then it cannot be cancelled any more."""
        if not self.future.set_running_or_notify_cancel():
            return False
        self.on_begin()
        return True

    def fits_with(self, other: "Job") -> bool:
        """Whether both can share a batch."""
        if self.image is None or other.image is None or self.translator is not other.translator:
            return False
        return self.image.shape == other.image.shape


class Worker:
    """Runs jobs in one thread, which starts with the first one.

    on_batch: called with the number of images of each batch, in that thread.
    """

    def __init__(self, device: torch.device, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self._device, self._on_batch = device, on_batch
        self._small: deque[Job] = deque()
        self._large: deque[Job] = deque()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._is_closed = False
        self._num_coming = 0

    @property
    def num_waiting(self) -> int:
        return len(self._small) + len(self._large)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """In the block, an image is decoded that will be submitted."""
        with self._changed:
            self._num_coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_coming -= 1
                self._changed.notify()

    def submit(self, job: Job) -> None:
        with self._changed:
            if self._is_closed:
                raise Problem(503, "The server is stopping; try again later.", {"Retry-After": "10"})
            (self._small if job.run is None else self._large).append(job)
            if self._thread is None:
                self._thread = Thread(target=self._work, name=f"cyclegan-{self._device}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Nobody waits for a job: it is not begun, and work in pieces ends after the current piece."""
        job.is_dropped = True
        job.future.cancel()
        with self._changed, suppress(ValueError):
            (self._small if job.run is None else self._large).remove(job)

    def close(self) -> None:
        """End the thread after the jobs that it has."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join()

    def _work(self) -> None:
        with flags_of_command(()):
            self._run_jobs()

    def _run_jobs(self) -> None:
        while True:
            with self._changed:
                while not self._small and not self._large:
                    if self._is_closed:
                        return
                    self._changed.wait()
                large = self._large.popleft() if self._large else None
            # Small images run between the pieces of a large one.
            if large is not None:
                self._run_large(large)
            else:
                self._run_batch(wait=True)

    def _run_large(self, job: Job) -> None:
        assert job.run is not None
        if not job.begin():
            return

        resumed, turn = time.monotonic(), 0.0

        def pause() -> None:
            nonlocal resumed, turn
            if job.is_dropped:
                raise DroppedError
            begin = time.monotonic()
            if not self._small or begin - resumed < turn:
                return
            # Those that wait now. Others come after the next turn of this job, which gets a third of the time.
            for _ in range(len(self._small)):
                if not self._run_batch(wait=False):
                    break
            resumed = time.monotonic()
            turn = _SHARE * (resumed - begin)

        try:
            job.future.set_result(job.run(pause))
        except BaseException as error:
            job.future.set_exception(error)

    def _run_batch(self, *, wait: bool) -> bool:
        """Translate the image that has waited longest, with others of its kind. False if none is left."""
        jobs = [job for job in self._take_batch(wait=wait) if job.begin()]
        if not jobs:
            return bool(self._small)
        self._on_batch(len(jobs))
        items = [(job, job.image) for job in jobs if job.image is not None]
        batch_size = 1 if self._device.type == "cpu" else len(jobs)
        try:
            for job, result in translate_items(jobs[0].translator, items, batch_size=batch_size):
                if isinstance(result, Exception):
                    job.future.set_exception(result)
                else:
                    job.future.set_result(result)
        except BaseException as error:
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
        return True

    def _take_batch(self, *, wait: bool) -> list[Job]:
        with self._changed:
            if not self._small:
                return []
            first = self._small[0]
            assert first.image is not None
            pixels = first.image.shape[0] * first.image.shape[1]
            on_cpu = self._device.type == "cpu"
            most = (_MOST_PIXELS_ON_CPU if on_cpu else _MOST_PIXELS) // pixels
            most = max(1, min(_MOST_IMAGES, most))
            until = first.arrived + _WAIT_SECONDS
            while wait and not on_cpu and self._num_coming and sum(map(first.fits_with, self._small)) < most:
                if not self._changed.wait(max(until - time.monotonic(), 0)):
                    break
            taken = [job for job in self._small if job.fits_with(first)][:most]
            for job in taken:
                self._small.remove(job)
            return taken
