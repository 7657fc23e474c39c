"""Send items through actors by Ray Data, and take what they return as it comes."""

import math
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cyclegan.cluster.connection import Share

# Tries of an item beyond the first. Ray counts several while it does not know yet that a machine is gone.
_MOST_TRIES = 10

# Seconds in which actors end what they have begun once they are asked to stop.
_STOP_SECONDS = 15.0

# Seconds between two looks for Ctrl-C.
_WAIT_SECONDS = 0.2

# Bytes that items and results take in Ray's store while they wait, so that Ray never writes them to a disk.
_STORE_BYTES = 2**26


def stream(
    ray: Any, items: Iterable[Any], worker: type, job: Any, share: Share, is_stopped: Callable[[], bool]
) -> Iterator[Any]:
    """Tables that actors return for tables that are their items, in the order in which they are done.

    worker: a class, made with `job` in each actor, and called with each item. An item whose actor or machine is lost is
    done again by another; one that has ended several of them gives no table.
    is_stopped: called several times a second; once it returns True, items that are done already still come, for at most
    15 seconds.
    """
    results: queue.Queue[Any] = queue.Queue(64)
    refs = [ray.put(item) for item in items]
    has_ended = threading.Event()
    executors: list[Any] = []

    def take() -> None:
        try:
            with _settings(ray), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray plans another way to pass the numbers of tries
                count = min(share.count, len(refs))
                strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count)
                done = ray.data.from_arrow_refs(refs).map_batches(
                    worker,
                    fn_constructor_args=(job,),
                    batch_size=None,
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    compute=strategy,
                    num_cpus=share.cpus,
                    num_gpus=share.gpus,
                    max_restarts=-1,
                    max_task_retries=_MOST_TRIES,
                )
                create = done._create_executor  # Ray Data has no public way to end what it executes

                def create_executor() -> Any:
                    executors.append(create())
                    return executors[-1]

                done._create_executor = create_executor
                bundles = done.iter_internal_ref_bundles()
            for bundle in bundles:
                for ref in bundle.block_refs:
                    _put(ray.get(ref), results, has_ended)
            _put(None, results, has_ended)
        except BaseException as error:  # raised below, unless the stream has ended and closed the connection
            _put(error, results, has_ended)

    thread = threading.Thread(target=take, daemon=True, name="cyclegan-ray")
    thread.start()
    try:
        end, stopped, seen = math.inf, set[str](), set[str]()
        while time.monotonic() < end:
            if is_stopped():
                end = min(end, time.monotonic() + _STOP_SECONDS)
            try:
                result = results.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result
            workers = set(result["worker"].to_pylist())
            seen |= workers
            stopped |= workers if "stopped" in result["state"].to_pylist() else set()
            if stopped and stopped >= seen:  # none of them works on anything
                return
    finally:
        has_ended.set()
        # What still asks Ray for something after its end would start another cluster.
        for executor in executors:
            executor.shutdown(force=True)
        thread.join(_STOP_SECONDS)


def _put(result: Any, results: "queue.Queue[Any]", has_ended: threading.Event) -> None:
    while not has_ended.is_set():
        try:
            results.put(result, timeout=_WAIT_SECONDS)
        except queue.Full:
            continue
        return


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Settings of Ray Data for the block, which a dataset takes over when it is executed."""
    from ray.data import ExecutionResources

    context = ray.data.DataContext.get_current()
    names = ("enable_progress_bars", "target_max_block_size", "max_errored_blocks")
    before = {name: getattr(context, name) for name in names}
    limits = context.execution_options.resource_limits
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # any number
    context.target_max_block_size = None
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=_STORE_BYTES)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        context.execution_options.resource_limits = limits
