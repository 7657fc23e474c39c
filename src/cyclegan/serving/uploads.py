"""Receive the image of a request into memory, within limits, and give it to readers as a file that is on no disk."""

import asyncio
import io
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from cyclegan.serving.problems import Problem, busy

# It has a line for each damaged form, and any client can send thousands.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

# A body may be late by so many seconds, and then must come with so many bytes a second on average.
GRACE_SECONDS, LEAST_RATE = 20.0, 2**14

# Bodies in memory, of requests that are received or wait, have together as many bytes as so many of the largest, and at
# least so many.
_MOST_BODIES, _LEAST_BYTES = 4, 2**30

# A folder in memory, for links, where the system has one: it takes a fraction of the time of a disk.
_LINKS = "/dev/shm"

# The field of a form that holds the image.
FIELD = "image"

# Bytes of the headers of all parts of a form, beside the image.
_MOST_HEADERS = 2**14


class Receiver:
    """Receives bodies of at most `max_body` bytes, and of few times that together."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._num_bytes = 0

    @asynccontextmanager
    async def receiving(self, receive: Receive, headers: dict[str, str]) -> AsyncIterator[bytearray]:
        """The image of a request: its body, or the one file of its form. It counts until the end of the block.

        Raises Problem, ClientDisconnect.
        """
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body:
            raise _too_large(self._max_body)
        kind, options = parse_options_header(headers.get("content-type"))
        form = _Form(options.get(b"boundary", b"")) if kind == b"multipart/form-data" else None
        content, received = bytearray(), 0
        try:
            async for chunk in _chunks(receive, self._max_body):
                received += len(chunk)
                self._num_bytes += len(chunk)
                if self._num_bytes > max(_MOST_BODIES * self._max_body, _LEAST_BYTES):
                    raise busy("The server holds too many bytes of images now; try again later.", 5)
                if form is None:
                    content += chunk
                else:
                    form.write(chunk)
            content = content if form is None else form.finish()
            if not content:
                raise Problem(400, "The request holds no image; expected its bytes as the body, or a form with a file.")
            yield content
        finally:
            self._num_bytes -= received


async def receive_small(receive: Receive, most: int) -> bytes:
    """A body of at most so many bytes. Raises Problem, ClientDisconnect."""
    return b"".join([chunk async for chunk in _chunks(receive, most)])


async def _chunks(receive: Receive, most: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Problem if it comes too slowly, or has more than `most` bytes."""
    begin, received = time.monotonic(), 0
    while True:
        left = begin + GRACE_SECONDS + received / LEAST_RATE - time.monotonic()
        try:
            message: Message = await asyncio.wait_for(receive(), max(left, 0.01))
        except TimeoutError:
            # The rest of it is not waited for.
            raise Problem(408, "The body came too slowly; send it again.", {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(most)
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _too_large(most: int) -> Problem:
    return Problem(413, f"The request has more than {most:,} bytes, the limit here; send less.")


class _Form:
    """A form with one file as it is received; files of Starlette would go to disk. Raises Problem."""

    def __init__(self, boundary: bytes) -> None:
        self._content: bytearray | None = None
        self._name, self._value, self._disposition = b"", b"", b""
        self._num_header_bytes, self._is_complete = 0, False
        if not boundary:
            raise Problem(400, "The form has no boundary; expected multipart/form-data; boundary=...")
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise _bad_form() from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _bad_form() from None

    def finish(self) -> bytearray:
        if not self._is_complete or self._content is None:
            raise _bad_form()
        return self._content

    def _begin_part(self) -> None:
        self._disposition = b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._counted(data[start:end])

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, data: bytes) -> bytes:
        self._num_header_bytes += len(data)
        if self._num_header_bytes > _MOST_HEADERS:
            raise Problem(400, f"The headers in the form are longer than {_MOST_HEADERS:,} bytes; send the file alone.")
        return data

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        if self._content is not None or options.get(b"name") != FIELD.encode():
            raise _bad_form()
        self._content = bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._content is not None
        self._content += data[start:end]

    def _end(self) -> None:
        self._is_complete = True


def _bad_form() -> Problem:
    return Problem(400, f"The form is damaged or has other fields; expected one file in the field {FIELD}.")


@contextmanager
def memory_file() -> Iterator[IO[bytes]]:
    """An open file, for writing and reading, that is on no disk."""
    if not hasattr(os, "memfd_create"):
        yield io.BytesIO()
        return
    number = os.memfd_create("image", os.MFD_CLOEXEC)
    # Opened once more, for a name that is text, as libraries expect.
    with os.fdopen(number, "wb"), Path(f"/proc/self/fd/{number}").open("w+b") as file:
        yield file


def content_of(file: IO[bytes]) -> bytes:
    """All bytes of an open file."""
    file.seek(0)
    return file.read()


@contextmanager
def upload_file(content: bytearray) -> Iterator[Path]:
    """A path under which readers find these bytes; `content` is empty afterwards.

    On Linux the bytes stay in memory: the path is a link in a private folder to an anonymous file (memfd_create).
    Elsewhere they are a private temporary file, which is removed after the block.
    """
    with tempfile.TemporaryDirectory(prefix="cyclegan-", dir=_LINKS if os.access(_LINKS, os.W_OK) else None) as folder:
        path = Path(folder) / "image"
        if not hasattr(os, "memfd_create"):
            path.write_bytes(content)
            content.clear()
            yield path
            return
        with memory_file() as file:
            file.write(content)
            file.flush()
            content.clear()
            path.symlink_to(f"/proc/self/fd/{file.fileno()}")
            yield path
