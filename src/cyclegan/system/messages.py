"""Messages for people on standard error, and the same messages for host programs through `logging`."""

import logging
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from cyclegan.system.terminal import ClosedOutputError, StandardError, printable

# By convention a library stays silent in `logging` until its host adds a handler.
logging.getLogger("cyclegan").addHandler(logging.NullHandler())


def make_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console of rich that shows text as it is: no markup, and controls as escapes.

    Standard error may be closed. Standard output raises ClosedOutputError if nobody reads it.
    """
    file = cast(IO[str], StandardError()) if stderr else None
    return SafeConsole(stderr=stderr, file=file, quiet=quiet, highlight=False, markup=False, soft_wrap=soft_wrap)


class SafeConsole(Console):
    """A console that escapes controls in strings. Only cells of tables may have several lines."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = (printable(value) if isinstance(value, str) else value for value in objects)
        super().print(*shown, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        # Standard output has an encoding that may lack characters; rich replaces only its own lines and boxes.
        text = printable(text, keep="\n").encode(self.encoding, "backslashreplace").decode(self.encoding)
        return super().render_str(text, **options)

    def status(self, status: RenderableType, **_options: Any) -> Status:
        return _Status(_as_text(status), console=self)

    def on_broken_pipe(self) -> None:
        raise ClosedOutputError


class _Status(Status):
    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        super().update(None if status is None else _as_text(status), **options)


def _as_text(value: RenderableType) -> RenderableType:
    # Spinners read strings as markup.
    return Text(printable(value)) if isinstance(value, str) else value


class Messages:
    """Prints messages to standard error and passes each one to the logger `cyclegan.NAME`.

    quiet: print nothing. The logger gets every message either way: information at level INFO, warnings at level
    WARNING. A host program that keeps them in its own log passes quiet=True and adds a handler to `cyclegan`.
    Controls, as names of files may hold them, become escapes: a message is one line.
    `console` draws progress bars and tables, which are not logged.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self.console = make_console(stderr=True, quiet=quiet, soft_wrap=True)
        self._logger = logging.getLogger(f"cyclegan.{name}")

    def info(self, text: str) -> None:
        """Show and log one sentence."""
        self.console.print(text)
        self._logger.info("%s", printable(text))

    def warning(self, text: str) -> None:
        """Show one sentence in yellow and log it as a warning."""
        self.console.print(text, style="yellow")
        self._logger.warning("%s", printable(text))

    def status(self, text: str) -> Status:
        """A context manager that shows what is going on until it ends; `update(text)` changes the text."""
        return self.console.status(text)
