"""Progress bars of long runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cyclegan.system.terminal import printable

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

    text = TextColumn("{task.description}", markup=False)  # which may be the name of a file
    with Progress(BarColumn(), TextColumn("{task.percentage:>3.0f}%"), text, console=console) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda: progress.update(task, completed=min(share(), 1.0), description=printable(status()))


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
