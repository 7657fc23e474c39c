"""Messages for people on standard error, and the same messages for host programs through `logging`."""

import logging

from rich.console import Console
from rich.status import Status

# By convention a library stays silent in `logging` until its host adds a handler.
logging.getLogger("cyclegan").addHandler(logging.NullHandler())


class Messages:
    """Prints messages to standard error and passes each one to the logger `cyclegan.NAME`.

    quiet: print nothing. The logger gets every message either way: information at level INFO, warnings at level
    WARNING. A host program that keeps them in its own log passes quiet=True and adds a handler to `cyclegan`.
    `console` draws progress bars and tables, which are not logged.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, markup=False, soft_wrap=True)
        self._logger = logging.getLogger(f"cyclegan.{name}")

    def info(self, text: str) -> None:
        """Show and log one sentence."""
        self.console.print(text)
        self._logger.info("%s", text)

    def warning(self, text: str) -> None:
        """Show one sentence in yellow and log it as a warning."""
        self.console.print(text, style="yellow")
        self._logger.warning("%s", text)

    def status(self, text: str) -> Status:
        """A context manager that shows what is going on until it ends; `update(text)` changes the text."""
        return self.console.status(text)


_SHOWN: set[str] = set()


def warn_once(text: str) -> None:
    """Show and log a warning of a function that has no messages of its own, unless this process has shown it."""
    if text not in _SHOWN:
        _SHOWN.add(text)
        Messages("storage").warning(text)
