"""The one way to the terminal: text without control characters, to streams that may be closed.

Names of files come from anywhere. Printed as they are, ESC, BEL or a newline in one would colour the terminal, ring it,
or write a line of its own. Here they are shown as escapes, such as \\x1b.
"""

import io
import logging
import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

# C0, DEL and C1 controls; marks that reorder text; other ends of lines; bytes of names that are not Unicode.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class ClosedOutputError(OSError):
    """Nobody reads standard output any more, as in `cyclegan inspect photos/ | head -1`."""


def printable(value: object, *, keep: str = "") -> str:
    """Text on one line that any terminal shows as it is. Controls become escapes; keep: those that stay."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), str(value))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shell_quote(value: object) -> str:
    """Text as one word of a command. With controls it is in the form $'...' of bash, zsh, ksh and POSIX 2024."""
    text = str(value)
    if not _UNSAFE.search(text):
        return shlex.quote(text)
    return "$'" + _UNSAFE.sub(_octal, re.sub(r"[\\']", r"\\\g<0>", text)) + "'"


def _octal(found: re.Match[str]) -> str:
    # Python keeps bytes of names that are not Unicode as these characters.
    is_byte = "\udc80" <= found[0] <= "\udcff"
    content = found[0].encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    # Always three digits; hexadecimal ones may run on into the next character.
    return "".join(f"\\{byte:03o}" for byte in content)


def say(text: str) -> None:
    """Print a sentence to standard error. Does nothing if the terminal is gone, and may be called by a signal."""
    if sys.stderr is not None:
        # A signal may come in the middle of another write (RuntimeError); a host may close the stream (ValueError).
        with suppress(OSError, RuntimeError, ValueError):
            print(printable(text), file=sys.stderr, flush=True)


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can answer a question: not in a pipe, a script or CI."""
    return "CI" not in os.environ and all(map(_is_terminal, (sys.stdin, sys.stdout, sys.stderr)))


def ask(question: str) -> bool:
    """Ask on standard error whether to do something. Enter is yes, the end of the input is no."""
    with suppress(OSError, ValueError):
        print(f"{printable(question)} [Y/n] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        return answer.endswith("\n") and answer.strip().lower() in ("", "y", "yes")
    return False


_warned: set[str] = set()


def warn_once(text: str) -> None:
    """Print and log a warning of a function that has no `Messages`, unless this process has printed it before."""
    if text not in _warned:
        _warned.add(text)
        say(text)
        logging.getLogger("cyclegan.storage").warning("%s", printable(text))


def say_result(text: str) -> None:
    """Print a sentence of the result to standard output. Raises ClosedOutputError if nobody reads it."""
    _write(printable(text))


def print_result(value: str | Path) -> None:
    """Print a path or a command alone on a line of standard output, for scripts: exact, except on a terminal.

    Raises ClosedOutputError if nobody reads it.
    """
    _write(printable(value, keep="\n" if isinstance(value, str) else "") if _is_terminal(sys.stdout) else str(value))


def _write(text: str) -> None:
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:  # a name that is not Unicode, or too much of it for the locale
            if not isinstance(sys.stdout, io.TextIOWrapper):
                raise
            sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise ClosedOutputError(*error.args) from error


def is_terminal_output() -> bool:
    """Whether standard output is a terminal, which would show the bytes of a file, or is closed."""
    return sys.stdout is None or _is_terminal(sys.stdout)


def send_file(path: Path) -> None:
    """Copy a file to standard output. Raises ClosedOutputError if nobody reads it, OSError that names it."""
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise ClosedOutputError(*error.args) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(ValueError, AttributeError):
        return stream is not None and stream.isatty()
    return False


def flush_or_drop() -> None:
    """Flush the standard streams before the process ends. What cannot be written is dropped without a complaint."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # also if it is no real file
                descriptor = os.open(os.devnull, os.O_WRONLY)
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)


class StandardError(io.TextIOBase):
    """Standard error as it is at each call. Writes to a terminal that is gone do nothing."""

    def _stream(self) -> TextIO | None:
        # A progress bar of rich puts a stream in its place that leads back here.
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        stream = self._stream()
        return stream is not None and _is_terminal(stream)

    def fileno(self) -> int:
        stream = self._stream()
        if stream is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()

    def write(self, text: str) -> int:
        stream = self._stream()
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        stream = self._stream()
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
