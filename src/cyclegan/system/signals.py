"""Signals that stop a command or a training."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from cyclegan.system.terminal import say


class AnnouncedStop(KeyboardInterrupt):
    """A stop whose message is printed already."""


@contextmanager
def stop_signals(*, quiet: bool = False) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C, SIGTERM or SIGHUP (a closed terminal) has come, for a loop to ask.

    A second Ctrl-C interrupts at once. A second one of the others does not: a closed terminal often sends several, and
    would prevent that the work is saved. quiet: another process says it.
    """
    asked = pressed = False

    def ask(number: int, _frame: object) -> None:
        nonlocal asked, pressed
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked and not quiet:
            say("Finishing this step and saving; press Ctrl-C again to stop at once.")
        asked, pressed = True, pressed or number == signal.SIGINT

    with _signal_handler(ask, (signal.SIGINT, *_other_stops())):
        yield lambda: asked


@contextmanager
def signals_interrupt() -> Iterator[Callable[[], bool]]:
    """Make SIGTERM and SIGHUP (a closed terminal) raise KeyboardInterrupt like Ctrl-C, so that files are cleaned up.

    Only the first of these does: a closed terminal often sends several, which would interrupt the clean-up. Yields a
    function that says whether one has come, or Ctrl-C: an import that is interrupted may raise another error.
    """
    others, asked = _other_stops(), False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        for number in others:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _signal_handler(interrupt, (*([signal.SIGINT] if is_usual else []), *others)):
        yield lambda: asked


@contextmanager
def server_signals(on_stop: Callable[[], None], on_reload: Callable[[], None]) -> Iterator[None]:
    """In the block, Ctrl-C and SIGTERM call `on_stop`, and SIGHUP, unless it is ignored, calls `on_reload`."""

    def act(number: int, _frame: object) -> None:
        (on_reload if number == getattr(signal, "SIGHUP", None) else on_stop)()

    with _signal_handler(act, (signal.SIGINT, *_other_stops())):
        yield


def _other_stops() -> tuple[signal.Signals, ...]:
    """SIGTERM and SIGHUP, without those that are ignored, as nohup needs."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return tuple(number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None))


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
