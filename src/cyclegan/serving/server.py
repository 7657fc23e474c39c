"""Run the application with uvicorn: its address, its signals, and connections that send too slowly."""

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from threading import Thread
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from cyclegan.errors import InputError, reason_of
from cyclegan.serving.models import ModelStore
from cyclegan.serving.problems import Problem
from cyclegan.serving.service import Service
from cyclegan.serving.settings import ServeSettings
from cyclegan.serving.uploads import LEAST_RATE
from cyclegan.system.advice import advise
from cyclegan.system.devices import keep_freed_memory, share_freed_memory
from cyclegan.system.messages import Messages
from cyclegan.system.signals import server_signals
from cyclegan.system.terminal import print_result

# Seconds that a connection may be without a whole head of a request. Bodies have limits of their own.
IDLE_SECONDS = 20.0

# Seconds that answers may take beyond the limit of a request when the server stops.
_MORE_SECONDS = 5

# Seconds until a server in a thread listens.
_START_SECONDS = 60

# Connections and uploads are open files, of which systems allow 1,024 unless a program asks for more.
_MOST_FILES = 65536


def serve(
    app: FastAPI, store: ModelStore, settings: ServeSettings, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve an application of `create_app` until SIGTERM or Ctrl-C, which let requests under way end.

    A second Ctrl-C ends at once. SIGHUP loads the models again. on_ready: called with the address; default: it is
    printed. Raises InputError if the address cannot be had, and for a model that cannot be loaded.
    """
    share_freed_memory()
    keep_freed_memory()
    messages = Messages("serve")
    ready = on_ready or (lambda address: _announce(messages, store, address))
    with closing(bind(settings)) as listener:
        with messages.status("loading"):
            store.load()
        server = _Server(app, listener, settings, ready, messages)
        # What is loaded stays; looking through all of it for garbage would hold requests up for a quarter of a second.
        gc.collect()
        gc.freeze()
        with server_signals(server.stop, server.reload):
            server.run([listener])


@contextmanager
def serving(app: FastAPI, store: ModelStore, settings: ServeSettings) -> Iterator[str]:
    """In the block, serve an application in a thread, as `serve` does. Yields its address."""
    ready: Future[str] = Future()
    with closing(bind(settings)) as listener:
        store.load()
        server = _Server(app, listener, settings, ready.set_result, Messages("serve", quiet=True))
        thread = Thread(target=server.run, args=([listener],), name="cyclegan-serve", daemon=True)
        thread.start()
        try:
            yield ready.result(_START_SECONDS)
        finally:
            server.stop()
            thread.join()


def bind(settings: ServeSettings) -> socket.socket:
    """A socket that has the address of the settings. Raises InputError if it cannot be had."""
    host, port = settings.host, settings.port
    flag = advise("choose another with --port, or 0 for a free one", "choose another port, or 0 for a free one")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = sorted(found, key=lambda each: each[0] != socket.AF_INET)[0]
    except OSError as error:
        raise InputError(f"{host} is no address of this machine: {reason_of(error)}.") from None
    listener = socket.socket(family, kind, number)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        listener.close()
        what = f"port {port} on {host}"
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"Another program uses {what}; {flag}.") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"{host} is no address of this machine; expected one, or 0.0.0.0 for all.") from None
        raise InputError(f"{what[0].upper()}{what[1:]} cannot be used: {reason_of(error)}; {flag}.") from None


def address_of(listener: socket.socket, settings: ServeSettings) -> str:
    """The address for a browser on this machine."""
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


def _announce(messages: Messages, store: ModelStore, address: str) -> None:
    messages.info(f"Serving {', '.join(store.names)}; Ctrl-C stops. {address}/openapi.json describes the interface.")
    print_result(address)


def _raise_file_limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Server(uvicorn.Server):
    """uvicorn with our signals. on_ready: called with the address once it listens."""

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        settings: ServeSettings,
        on_ready: Callable[[str], None],
        messages: Messages,
    ) -> None:
        _raise_file_limit()
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(IDLE_SECONDS),
            timeout_graceful_shutdown=_MORE_SECONDS,
        )
        super().__init__(config)
        self._service: Service = app.state.service
        self._on_ready, self._address, self._messages = on_ready, address_of(listener, settings), messages
        self._wants_reload = False
        self._reloading: asyncio.Task[None] | None = None
        self._most_seconds = settings.timeout
        self._last: tuple[float, list[asyncio.Task[None]]] | None = None

    def stop(self) -> None:
        """Answer what is under way, then end. The second time end at once. May be called by a signal."""
        self.force_exit = self.should_exit
        self.should_exit = self._service.is_stopping = True

    def reload(self) -> None:
        """Load the models again. May be called by a signal."""
        self._wants_reload = True

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()  # `server_signals` has them

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready(self._address)

    async def on_tick(self, counter: int) -> bool:
        if self._wants_reload and (self._reloading is None or self._reloading.done()):
            self._wants_reload = False
            self._reloading = asyncio.create_task(self._reload())
        ends = await super().on_tick(counter)
        return ends and (self.force_exit or not self._has_work())

    def _has_work(self) -> bool:
        """Whether requests are under way that had come before the server was stopped. Meanwhile it refuses others."""
        now = asyncio.get_running_loop().time()
        if self._last is None:
            self._last = now + self._most_seconds, [*self.server_state.tasks]
        until, tasks = self._last
        return now < until and not all(task.done() for task in tasks)

    async def _reload(self) -> None:
        for sentence in await self._service.in_pool(self._service.store.reload):
            self._messages.info(sentence)


class _Connection(H11Protocol):
    """A connection that is closed if it is idle, sends the head of a request too slowly, or reads an answer so."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._began, self._num_unread = self.loop.time(), 0
        self._watch = self.loop.call_later(IDLE_SECONDS, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._began, self._num_unread = self.loop.time(), self.transport.get_write_buffer_size()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # what follows an answer that has begun is no request
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        response = Problem(400, "This is no HTTP request; see /openapi.json.").response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        with suppress(h11.LocalProtocolError):
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _check(self) -> None:
        is_working = self.cycle is not None and not self.cycle.response_complete
        is_reading = self.transport.get_write_buffer_size() > 0
        allowed = IDLE_SECONDS + (self._num_unread / LEAST_RATE if is_reading else 0)
        left = IDLE_SECONDS if is_working else self._began + allowed - self.loop.time()
        if left > 0:
            self._watch = self.loop.call_later(min(left, IDLE_SECONDS), self._check)
        else:
            self.transport.abort()
