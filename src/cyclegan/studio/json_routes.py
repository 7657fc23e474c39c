"""JSON of the studio: answers with any names of files, and bodies of bounded size."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message

from cyclegan.serving.uploads import receive_small

# Bytes of a body; paths of folders are the most of it.
_MOST_BYTES = 2**16


class Json(JSONResponse):
    """JSON in which bytes of names that are no text are question marks."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(errors="replace")


class SmallRoute(APIRoute):
    """A route whose body is received within limits of size and time; FastAPI waits for any."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_small(request: Request) -> Response:
            body = await receive_small(request.receive, _MOST_BYTES)

            async def receive() -> Message:
                return {"type": "http.request", "body": body}

            return await handle(Request(request.scope, receive))

        return handle_small
