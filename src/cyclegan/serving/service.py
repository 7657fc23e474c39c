"""The way of a request through threads: images are decoded and encoded in a small pool, networks run in their own."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import ParamSpec, TypeVar

import torch

from cyclegan.errors import CycleganError
from cyclegan.images import Array
from cyclegan.serving.metrics import Metrics
from cyclegan.serving.models import ModelStore
from cyclegan.serving.picture import Answer, Picture, Wish
from cyclegan.serving.problems import Problem, busy, of_upload
from cyclegan.serving.settings import ServeSettings
from cyclegan.serving.worker import Job, Worker
from cyclegan.system.devices import return_freed_memory
from cyclegan.system.messages import Messages
from cyclegan.system.prefetch import num_cores
from cyclegan.translate.translator import Translator

P = ParamSpec("P")
T = TypeVar("T")

# Images that are in memory as values at a time. Large ones are decoded, translated and encoded one after the other.
_MOST_SMALL, _MOST_LARGE = 32, 1

# Less than the others have, but not so little that it holds a lock for long.
_NICE = 5


class Service:
    """Translates uploads with the models of a store. Belongs to one event loop."""

    def __init__(self, store: ModelStore, settings: ServeSettings) -> None:
        self.store, self.settings = store, settings
        self.metrics = Metrics(lambda: self.num_waiting, lambda: store.num_loaded)
        self.is_stopping = False
        self._workers: dict[torch.device, Worker] = {}
        self._lock = Lock()
        threads = max(1, min(4, num_cores()))
        self._pool = ThreadPoolExecutor(threads, "cyclegan-images")
        # Compressing a large image takes seconds; the others come first.
        self._large_pool = ThreadPoolExecutor(1, "cyclegan-large", initializer=_lower_priority)
        self._small, self._large = asyncio.Semaphore(_MOST_SMALL), asyncio.Semaphore(_MOST_LARGE)
        self._messages = Messages("serve")
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._seconds = 0.1  # of a request, lately

    @property
    def num_waiting(self) -> int:
        """Images that wait for a network."""
        return sum(worker.num_waiting for worker in [*self._workers.values()])

    async def in_pool(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread."""
        return await self._call(self._pool, lambda: function(*args, **kwargs))

    async def translate(
        self, content: bytearray, name: str, direction: str, wish: Wish, hung_up: asyncio.Task[None]
    ) -> Answer:
        """The answer to an upload. hung_up: ends when nobody waits for it any more, and so does the work then.

        Raises Problem, and ConnectionError after `hung_up`.
        """
        if len(self._tasks) >= self.settings.queue:
            raise busy("The server is busy; try again later.", len(self._tasks) * self._seconds)
        began, is_begun = time.monotonic(), asyncio.Event()
        task = asyncio.create_task(self._translate(content, name, direction, wish, is_begun))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            await asyncio.wait({task, hung_up}, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                self._seconds += 0.2 * ((time.monotonic() - began) / max(len(self._tasks), 1) - self._seconds)
                return task.result()
            if hung_up.done():
                raise ConnectionError("nobody waits for the answer")
            seconds = f"{self.settings.timeout:g} seconds"
            if is_begun.is_set():
                raise Problem(504, f"The image was not done after {seconds}, the limit here; send a smaller one.")
            raise busy(f"The image has waited for {seconds}, the limit here; try again later.", self.settings.timeout)
        finally:
            if task.cancel():
                await asyncio.sleep(0)  # it leaves the queue before the client hears of it

    def _finished(self, task: "asyncio.Task[Answer]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is seen, also where nobody waits any more

    async def _translate(
        self, content: bytearray, name: str, direction: str, wish: Wish, is_begun: asyncio.Event
    ) -> Answer:
        picture = Picture(content, wish, self.settings.max_pixels)
        try:
            async with self._small:
                await self.in_pool(self._prepare, picture, name, direction)
                if not picture.is_large:
                    values = await self._run(picture, is_begun)
                    return await self.in_pool(picture.encode, values)
            async with self._large:
                await self._call(self._large_pool, picture.decode)
                values = await self._run(picture, is_begun)
                return await self._call(self._large_pool, lambda: picture.encode(values))
        finally:
            if picture.is_open:
                is_large = picture.is_large
                await self.in_pool(picture.close)
                if is_large:
                    await self.in_pool(return_freed_memory)

    def _prepare(self, picture: Picture, name: str, direction: str) -> None:
        """Open a picture, and decode it unless it is large."""
        translator = self.translator(name, direction)
        with self._worker(translator.device).expecting():
            picture.open(translator)
            if not picture.is_large:
                picture.decode()

    def translator(self, name: str, direction: str) -> Translator:
        """The translator of a model. Raises Problem."""
        try:
            return self.store.translator(name, direction)
        except KeyError:
            raise self.unknown(name, direction) from None
        except (CycleganError, OSError) as error:
            self._messages.warning(f"{name} cannot be loaded: {error}")
            raise busy(f"The model {name} cannot be loaded; the server's own messages say why.", 60) from error

    def unknown(self, name: str, direction: str | None = None) -> Problem:
        """The problem of a name or a direction that there is not."""
        if direction is not None and name in self.store.names:
            return Problem(404, f"The model {name} has no direction {direction[:20]!r}; see /v1/models/{name}.")
        names = ", ".join(self.store.names[:10]) + (", ..." if len(self.store.names) > 10 else "")
        return Problem(404, f"There is no model {name[:200]!r}; there is {names or 'none'}: see /v1/models.")

    async def _run(self, picture: Picture, is_begun: asyncio.Event) -> Array | None:
        """Let the worker of its device translate a picture; None if the picture keeps the result itself."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell(event: asyncio.Event) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(event.set)

        job = Job(picture.translator, picture.values, on_begin=lambda: tell(is_begun))
        if picture.is_in_tiles:
            job.run = lambda pause: picture.run(pause, self._large_pool)
        job.future.add_done_callback(lambda _: tell(done))
        worker = self._worker(picture.translator.device)
        worker.submit(job)
        try:
            await done.wait()
        except asyncio.CancelledError:
            worker.drop(job)
            await done.wait()  # the thread uses the picture until its current piece is done
            raise
        with of_upload("image"):
            values: Array | None = job.future.result()
        return values

    def _worker(self, device: torch.device) -> Worker:
        with self._lock:
            if device not in self._workers:
                self._workers[device] = Worker(device, self.metrics.batch_sizes.observe)
            return self._workers[device]

    async def _call(self, pool: Executor, function: Callable[[], T]) -> T:
        """Call a function in a thread of a pool. A cancelled caller waits for its end: no thread can be stopped."""
        future = pool.submit(function)
        result = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.wait({result})
                result.exception()  # it is seen
            raise

    def close(self) -> None:
        """End all threads, after the work that they have begun."""
        for worker in self._workers.values():
            worker.close()
        for pool in (self._pool, self._large_pool):
            pool.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
