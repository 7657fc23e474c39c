"""The application: addresses, parameters, answers, and their description (OpenAPI)."""

import asyncio
import difflib
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cyclegan._version import __version__
from cyclegan.errors import CycleganError
from cyclegan.serving import metrics, problems
from cyclegan.serving.guard import Guard
from cyclegan.serving.media_types import MEDIA_TYPES, OFFERED, Accepted
from cyclegan.serving.models import ModelDescription, ModelStore
from cyclegan.serving.picture import Answer, Tile, Wish
from cyclegan.serving.problems import Problem, ProblemDetails
from cyclegan.serving.service import Service
from cyclegan.serving.settings import ServeSettings
from cyclegan.serving.uploads import FIELD, Receiver
from cyclegan.system.json_files import cut, shown

# Longest text of the header with notes.
_NOTE_LENGTH = 2000

_NAME = Annotated[str, Path(description="Name of a model, as in /v1/models.")]
_DIRECTION = Annotated[str, Path(description="Direction of the model: a2b or b2a.")]

_WORDS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another site.",
    404: "There is no such model or direction.",
    406: "No accepted type can hold the result.",
    408: "The body came too slowly.",
    413: "The body or the image is too large.",
    415: "The body is no single image of a known type.",
    422: "The image is damaged, or the model does not take it.",
    500: "The server failed.",
    503: "The server is busy or stopping; Retry-After has the seconds to wait.",
    504: "The image was not done in time.",
}


class Models(BaseModel):
    models: list[ModelDescription]


class Status(BaseModel):
    status: Literal["ok"]


def create_app(store: ModelStore, settings: ServeSettings) -> FastAPI:
    """The application for the models of a store. Routers and pages of others may be added to it.

    `app.state.service` is its `Service`; `app.state.service.is_stopping` makes it refuse requests with 503.
    """
    service, receiver = Service(store, settings), Receiver(settings.max_body)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(
        title="cyclegan",
        version=__version__,
        summary="Translate images with trained models.",
        docs_url=None,  # its page comes from another site
        redoc_url=None,
        lifespan=lifespan,
        responses=_problems(400, *([401] if settings.token is not None else []), 500),
    )
    app.state.service = service
    app.add_middleware(Guard, settings=settings, is_stopping=lambda: service.is_stopping)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Cyclegan-Note", "Retry-After"],
        )
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    security: list[dict[str, list[str]]] = [{"bearer": []}] if settings.token is not None else []

    @app.get("/v1/models", tags=["models"], openapi_extra={"security": security})
    def list_models() -> Models:
        """All models, with what their directions take and give, and their cards."""
        found = (_describe(service, name, []) for name in store.names)
        return Models(models=[described for described in found if described is not None])

    @app.get("/v1/models/{name}", tags=["models"], responses=_problems(404, 503), openapi_extra={"security": security})
    def get_model(name: _NAME) -> ModelDescription:
        """One model."""
        described = _describe(service, name, [KeyError, CycleganError, OSError])
        assert described is not None
        return described

    @app.post(
        "/v1/models/{name}/{direction}:translate",
        tags=["models"],
        response_class=Response,
        responses={200: _image_answer(), **_problems(403, 404, 406, 408, 413, 415, 422, 503, 504)},
        openapi_extra={"security": security, "requestBody": _image_body()},
    )
    async def translate(
        request: Request,
        name: _NAME,
        direction: _DIRECTION,
        tile: Annotated[
            str,
            Query(
                pattern=r"^(auto|none|1[6-9]|[2-9][0-9]|[1-9][0-9]{2,5})$",
                description="Side of tiles in pixels, 16 to 999999; auto: tiles for large images; none: no tiles.",
            ),
        ] = "auto",
        quality: Annotated[int | None, Query(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = None,
    ) -> Response:
        """The translation of an image, of the same size, and of the same type unless Accept asks for another."""
        begin, status = time.monotonic(), "499"
        known = (name, direction) if name in store.names and direction in ("a2b", "b2a") else ("", "")
        try:
            _check_parameters(request, ("tile", "quality"))
            wish = Wish(_parse_tile(tile), quality, Accepted(", ".join(request.headers.getlist("accept"))))
            async with receiver.receiving(request.receive, dict(request.headers)) as content:
                begin = time.monotonic()
                hung_up = asyncio.create_task(_wait_for_end(request))
                try:
                    answer = await service.translate(content, name, direction, wish, hung_up)
                finally:
                    hung_up.cancel()
            status = "200"
            return _image_response(answer)
        except (ClientDisconnect, ConnectionError):
            raise ClientDisconnect from None
        except Problem as problem:
            status = str(problem.status)
            raise
        except Exception:
            status = "500"
            raise
        finally:
            service.metrics.requests.labels(*known, status).inc()
            if status == "200":
                service.metrics.seconds.labels(*known).observe(time.monotonic() - begin)

    @app.get("/healthz", tags=["server"])
    def healthz() -> Status:
        """Whether the server runs."""
        return Status(status="ok")

    @app.get("/readyz", tags=["server"], responses=_problems(503))
    def readyz() -> Status:
        """Whether the server takes requests: its models are loaded, and it is not stopping."""
        return Status(status="ok")  # a server that stops refuses the request before, and one that loads does not listen

    @app.get(
        "/metrics",
        tags=["server"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
        openapi_extra={"security": security},
    )
    def get_metrics() -> Response:
        """Requests, seconds, queue, batch sizes and memory."""
        return Response(service.metrics.text(), media_type=metrics.MEDIA_TYPE)

    _describe_truly(app, has_token=settings.token is not None)
    return app


def _describe(service: Service, name: str, raised: Sequence[type[Exception]]) -> ModelDescription | None:
    try:
        return service.store.describe(name)
    except KeyError:
        if KeyError in raised:
            raise service.unknown(name) from None
    except (CycleganError, OSError) as error:
        if CycleganError in raised:
            raise problems.busy(f"The model {name} cannot be read; the server's own messages say why.", 60) from error
    return None


def _parse_tile(text: str) -> Tile:
    return int(text) if text.isdecimal() else "none" if text == "none" else "auto"


def _check_parameters(request: Request, known: Sequence[str]) -> None:
    """Raises Problem for a parameter that there is not, with its nearest neighbour, or for one that is given twice."""
    for name, _ in request.query_params.multi_items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"expected {' or '.join(known)}."
            raise Problem(400, f"There is no parameter {shown(name)}; {hint}")
        if len(request.query_params.getlist(name)) > 1:
            raise Problem(400, f"{name} is given twice; give it once.")


async def _wait_for_end(request: Request) -> None:
    """Return when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _image_response(answer: Answer) -> Response:
    headers = {}
    if answer.notes:
        note = " ".join(answer.notes).encode("ascii", "replace").decode()
        headers["Cyclegan-Note"] = cut(re.sub(r"[^ -~]", "?", note), _NOTE_LENGTH)
    return Response(answer.content, headers=headers, media_type=answer.media_type)


async def _answer_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """Errors of the framework: no such address, no such method."""
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is no {shown(request.url.path)}; see /openapi.json."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method[:20]} is not for this address; use {allowed}."
    return Problem(error.status_code, detail, error.headers).response()


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    mistake = error.errors()[0]
    name, message = str(mistake["loc"][-1]), str(mistake["msg"])
    if name == "tile":
        message = "expected auto, none, or a number of pixels, at least 16"
    elif name == "quality":
        message = "expected a whole number from 1 to 100"
    return Problem(400, f"{name} is {shown(mistake.get('input'))}; {message}.").response()


# ---- OpenAPI


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers with these statuses, as the description of an address has them."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
        found[status] = {"description": _WORDS[status], "content": {problems.MEDIA_TYPE: {"schema": schema}}}
        if status == 503:
            found[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
        if status == 401:
            found[status]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return found


def _image_answer() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    note = "What of the image could not be kept, a sentence for each."
    return {
        "description": "The translation.",
        "content": {name: binary for name in MEDIA_TYPES.values()},
        "headers": {"Cyclegan-Note": {"description": note, "schema": {"type": "string"}}},
    }


def _image_body() -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {FIELD: binary}, "required": [FIELD], "additionalProperties": False}
    types = [*(MEDIA_TYPES[suffix] for suffix in OFFERED), "application/octet-stream"]
    return {
        "required": True,
        "description": "The file of one image. Its content decides which type it is.",
        "content": {**{name: {"schema": binary} for name in types}, "multipart/form-data": {"schema": form}},
    }


def _describe_truly(app: FastAPI, *, has_token: bool) -> None:
    """Complete the description: problems and the token; without answers of FastAPI that are never given."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        description = make()
        components = description.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas[ProblemDetails.__name__] = ProblemDetails.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for address in description["paths"].values():
            for method in address.values():
                content = method["responses"].get("422", {}).get("content", {})
                if "HTTPValidationError" in str(content.get("application/json")):
                    del method["responses"]["422"]
        if has_token:
            components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        return description

    app.openapi = openapi  # type: ignore[method-assign]
