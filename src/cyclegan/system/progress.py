"""Progress bars of long runs, and signals that stop them."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

# Seconds between lines where there is no terminal to draw a bar on.
_LINE_SECONDS = 30


@contextmanager
def show_progress(
    console: Console, share: Callable[[], float], status: Callable[[], str]
) -> Iterator[Callable[[], None]]:
    """Yields a function to call after every step: it draws a bar on a terminal, else a line every half minute.

    share: the share of the run that is done, 0 to 1. status: the rest of the line.
    """
    if not console.is_terminal:
        last = time.monotonic()

        def line() -> None:
            nonlocal last
            if time.monotonic() - last > _LINE_SECONDS:
                last = time.monotonic()
                console.print(status())

        yield line
        return

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda: progress.update(task, completed=min(share(), 1.0), description=status())


@contextmanager
def show_time_left(console: Console, name: str) -> Iterator[Callable[[str, float], None]]:
    """`show_progress` with the time left: yields a function of the current work and the share that is done, 0 to 1.

    The time left is estimated from the first share above 0, which may come from an earlier call.
    """
    began, doing, done, first = time.monotonic(), "starting", 0.0, 0.0

    def status() -> str:
        rate = (done - first) / max(time.monotonic() - began, 1e-6)
        left = f", {timedelta(seconds=round((1 - done) / rate))} left" if rate > 0 else ""
        return f"{name} {doing}{left}"

    with show_progress(console, lambda: done, status) as tick:

        def update(what: str, share: float) -> None:
            nonlocal began, doing, done, first
            if not done and share:
                began, first = time.monotonic(), share
            doing, done = what, share
            tick()

        yield update


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C or SIGTERM has come, for a loop to ask. A second one interrupts."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nFinishing this step and saving; press Ctrl-C again to stop at once.", file=sys.stderr)

    with _signal_handler(ask, (signal.SIGINT, signal.SIGTERM)):
        yield lambda: asked


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGHUP (a closed terminal) raise KeyboardInterrupt like Ctrl-C, so that files are cleaned up.

    Only the first one does: a closed terminal often sends several, which would interrupt the clean-up.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Ignored signals stay ignored, as nohup needs.
    numbers = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]

    def interrupt(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    with _signal_handler(interrupt, numbers):
        yield


@contextmanager
def _signal_handler(handler: Callable[[int, object], None], numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Handle these signals in the block. Only the main thread can; in others nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
