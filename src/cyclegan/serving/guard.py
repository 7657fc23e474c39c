"""What every request passes before the application: host, origin and token, and what every answer carries."""

import hmac
import logging
import re
import time
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclegan.serving.problems import Problem, busy
from cyclegan.serving.settings import ServeSettings
from cyclegan.system.terminal import say

# Paths that need no token: what starts and watches the server asks for them.
OPEN_PATHS = ("/healthz", "/readyz")

# Paths that are answered while the server stops.
_LAST_PATHS = ("/healthz", "/metrics")

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

# An application that answers with pages sets its own policy.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Guard:
    """An ASGI middleware that refuses requests under another name, from other sites and without the token.

    Errors of the application that nobody expected become one line on standard error, and an answer without details.
    is_stopping: whether the server ends once the requests under way have, and refuses others.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._app, self._settings, self._is_stopping = app, settings, is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun, status, begin = False, 499, time.monotonic()  # 499: the client hangs up before an answer

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun, status
            if message["type"] == "http.response.start":
                has_begun, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if (problem := self._refuse(scope)) is not None:
                await problem.response()(scope, receive, send_guarded)
            else:
                await self._app(scope, receive, send_guarded)
        except (ClientDisconnect, ConnectionError):
            return  # nobody reads an answer
        except Exception as error:
            _report(scope, error)
            if not has_begun:
                problem = Problem(500, "The server failed; its own messages say why.")
                await problem.response()(scope, receive, send_guarded)
        finally:
            if self._settings.log:
                say(f"{_shown(scope)} {status} {1000 * (time.monotonic() - begin):.0f} ms")

    def _refuse(self, scope: Scope) -> Problem | None:
        headers, settings = Headers(scope=scope), self._settings
        host = headers.get("host", "")
        if not settings.is_own_host(host):
            return Problem(
                400, f"The server is not called {host[:100]!r}; use its address, or start it with --allowed-host NAME."
            )
        if scope["method"] not in _SAFE_METHODS and not self._is_allowed_origin(headers, host):
            return Problem(403, "Pages of other sites may not use this server; start it with --cors for this one.")
        if settings.token is not None and scope["path"] not in OPEN_PATHS:
            kind, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip().encode("latin-1", "replace")
            if kind.lower() != "bearer" or not hmac.compare_digest(given, settings.token.encode()):
                challenge = {"WWW-Authenticate": "Bearer"}
                return Problem(401, "The token is missing or wrong; send it as Authorization: Bearer TOKEN.", challenge)
        if self._is_stopping() and scope["path"] not in _LAST_PATHS:
            problem = busy("The server is stopping; try again later.", 10)
            problem.headers["Connection"] = "close"
            return problem
        return None

    def _is_allowed_origin(self, headers: Headers, host: str) -> bool:
        """Whether a request that may have effects comes from a program, from this server's own page, or as allowed."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and (origin in self._settings.cors or "*" in self._settings.cors):
            return True
        if origin is not None and _place(origin) != host.lower():
            return False
        return site in ("none", "same-origin")


def _place(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _shown(scope: Scope) -> str:
    """Method and path of a request on one line, without the query."""
    return f"{scope['method'][:20]} {re.sub(r'[^!-~]', '?', scope['path'])[:200]}"


def _report(scope: Scope, error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{_shown(scope)} failed: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    say(text)
    logging.getLogger("cyclegan.serve").error("%s", text, exc_info=error)
