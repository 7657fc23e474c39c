"""What every request passes before the application: host, origin and token, and what every answer carries."""

import hmac
import logging
import re
import traceback
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclegan.serving.problems import Problem
from cyclegan.serving.settings import ServeSettings
from cyclegan.system.terminal import say

# Paths that need no token: what starts and watches the server asks for them.
OPEN_PATHS = ("/healthz", "/readyz")

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
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
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


def _report(scope: Scope, error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = re.sub(r"[^!-~]", "?", scope["path"])[:200]
    text = f"{scope['method']} {path} failed: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    say(text)
    logging.getLogger("cyclegan.serve").error("%s", text, exc_info=error)
