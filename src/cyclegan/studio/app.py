"""The web application of the studio: the server of models, the interfaces of the pages, and the pages themselves."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclegan.errors import CycleganError
from cyclegan.serving.app import create_app
from cyclegan.serving.guard import Guard
from cyclegan.serving.models import ModelStore
from cyclegan.serving.problems import Problem
from cyclegan.serving.settings import ServeSettings, is_token
from cyclegan.studio.data import data_router
from cyclegan.studio.models import Example, ModelFinder
from cyclegan.studio.runs import runs_router
from cyclegan.studio.translate import translate_router
from cyclegan.translate.translator import Translator

STATIC = Path(str(files("cyclegan.studio") / "static"))

# Translators in memory: two models beside each other, both ways and one more.
_MOST_LOADED = 5

# Everything comes from this server; pictures also from the page itself.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def create_studio(
    runs_dir: Path,
    settings: ServeSettings,
    *,
    allow_train: bool = False,
    device: str = "auto",
    examples: Mapping[str, Example] | None = None,
) -> FastAPI:
    """The application for the runs and models below a folder. It sees new ones while it is open.

    allow_train: trainings may be started from the page. device: of the translators, as in `Translator.load`.
    examples: models that are offered while the folder has none, by their title.
    """
    finder = ModelFinder(runs_dir, examples)
    store = _Store({model.name: model.path for model in finder.find()}, device=device, most_loaded=_MOST_LOADED)
    app, pages = create_app(store, settings), _Pages(directory=STATIC, html=True)
    if settings.token is not None:
        app.add_middleware(_Door, pages=pages)
        app.add_middleware(Guard, settings=replace(settings, token=None))  # for the answers of the door
    app.include_router(translate_router(runs_dir, finder, app.state.service))
    app.include_router(runs_router(runs_dir))
    app.include_router(data_router(runs_dir, allow_train=allow_train))
    app.mount("/", pages, name="pages")  # takes every path that is left
    return app


# What the page that asks for the token needs, and where in it a problem is said.
_LOOK, _PROBLEM = ("/studio.css", "/theme.js", "/icon.svg"), "<!-- problem -->"


class _Store(ModelStore):
    """Models of this computer's own user, who may see why one cannot be loaded. They are loaded at their first use."""

    def load(self) -> None:
        """Nothing is loaded before it is used."""

    def reload(self) -> list[str]:
        """End the studio: SIGHUP is the end of its terminal. Files are looked at before each use, anyway."""
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    def translator(self, name: str, direction: str) -> Translator:
        try:
            return super().translator(name, direction)
        except (CycleganError, OSError) as error:
            raise Problem(422, " ".join(str(error).split())) from error


class _Pages(StaticFiles):
    """The files of the pages. Browsers ask each time whether one has changed, as after an update."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Door:
    """An ASGI middleware for browsers, which cannot send a token by themselves: a cookie carries it after `/?token=`.

    The token itself is compared by the server behind it.
    """

    def __init__(self, app: ASGIApp, pages: ASGIApp) -> None:
        self._app, self._pages = app, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in _LOOK:
            await self._pages(scope, receive, send)
            return
        given = Headers(scope=scope)
        # Cookies of one host are shared by all its ports.
        name = f"cyclegan-studio-{(scope.get('server') or ('', 0))[1]}"
        is_page, is_refused = scope["path"] == "/", False
        token = QueryParams(scope["query_string"]).get("token", "").strip() if is_page else ""
        if is_token(token):
            response: Response = RedirectResponse("/", 303)
            response.set_cookie(name, token, httponly=True, samesite="lax")
            await response(scope, receive, send)
            return
        cookie = cookie_parser(given.get("cookie", "")).get(name)
        if cookie is not None and "authorization" not in given:
            bearer = f"Bearer {cookie}".encode("latin-1", "replace")
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", bearer)]}

        async def send_allowed(message: Message) -> None:
            nonlocal is_refused
            is_refused = is_refused or (is_page and message.get("status") == 401)
            if not is_refused:
                await send(message)

        await self._app(scope, receive, send_allowed)
        if is_refused:  # people get a page that asks for the token
            page = (STATIC / "token.html").read_text("utf-8")
            if token or cookie is not None:
                page = page.replace(_PROBLEM, '<p class="problem" role="alert">That is not the token.</p>')
            response = HTMLResponse(page, 401, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})
            response.delete_cookie(name)
            await response(scope, receive, send)
