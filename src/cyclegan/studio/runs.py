"""The interface of the Runs page: lists, curves, samples and scores of the runs below a folder, and the kind stop.

A page stays live by asking again: each answer has an ETag, and while nothing has changed the next one is an empty 304.
Server-sent events would save these few bytes a second, but hold a connection for each page, of which browsers allow six
to one address, and have to be taken up again after a computer has slept.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from cyclegan.config import MAX_COUNT
from cyclegan.errors import InputError, reason_of
from cyclegan.serving.problems import Problem
from cyclegan.storage.stop_request import request_stop
from cyclegan.studio.json_routes import Json
from cyclegan.studio.run_folder import SMALL_SIDES, Run, RunFolder
from cyclegan.system.arguments import real_path

# A picture whose address holds the version of its file never changes.
FOR_EVER = "private, max-age=31536000, immutable"


def answer(request: Request, content: Any) -> Response:
    """JSON, or an empty 304 if the client has just this already."""
    response = Json(content, headers={"Cache-Control": "no-cache"})
    tag = f'"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    response.headers["ETag"] = tag
    if tag in [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    return response


def runs_router(runs_dir: Path) -> APIRouter:
    """The routes below `/api/runs` for all runs below a folder."""
    # With the whole path, so that the commands that are shown work in any folder.
    runs_dir = real_path(runs_dir)
    router, folder = APIRouter(prefix="/api/runs", tags=["runs"]), RunFolder(runs_dir)

    def find(name: str) -> Run:
        run = folder.run(name)
        if run is None:
            raise Problem(404, f"There is no run {name[:100]!r} in this folder; it may have been moved or removed.")
        return run

    @contextmanager
    def reading(name: str) -> Iterator[Run]:
        """The run of this name. In the block, files that cannot be read are a problem of the client."""
        try:
            yield find(name)
        except OSError as error:
            raise Problem(422, f"The run {name} cannot be read: {reason_of(error)}.") from error

    @router.get("")
    def list_runs(request: Request) -> Response:
        """All runs, with their state and progress."""
        return answer(request, {"folder": str(runs_dir), "runs": [run.row() for run in folder.runs()]})

    @router.get("/{name}")
    def show_run(request: Request, name: str) -> Response:
        """One run: progress, scores, warnings, settings, evaluations, and the command that resumes it."""
        with reading(name) as run:
            return answer(request, run.details())

    @router.get("/{name}/losses")
    def show_losses(
        request: Request, name: str, version: str = "", since: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0
    ) -> Response:
        """The curves of the losses, thinned; from point `since` on, as long as `version` still holds."""
        with reading(name) as run:
            return answer(request, run.curves(version, since))

    @router.get("/{name}/samples")
    def list_samples(request: Request, name: str) -> Response:
        """The steps of the sample sheets, each with the version of its file."""
        with reading(name) as run:
            return answer(request, {"samples": list(run.sheets().items())})

    @router.get("/{name}/samples/{step}")
    def show_sample(
        request: Request,
        name: str,
        step: int,
        side: Annotated[int | None, Query(description=f"Longer side: one of {SMALL_SIDES}")] = None,
        v: str = "",
    ) -> Response:
        """A sample sheet, whole or small. With `v`, the version of its file, it may be kept for ever."""
        if side is not None and side not in SMALL_SIDES:
            raise Problem(422, f"side is {side}; expected one of {', '.join(map(str, SMALL_SIDES))}.")
        with reading(name) as run:
            version = run.sheets().get(step)
            tag = f'"{version}-{side or 0}"'
            headers = {"ETag": tag, "Cache-Control": FOR_EVER if v and v == version else "no-cache"}
            if version is not None and request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            found = run.sheet(step, side)
        if found is None:
            raise Problem(404, f"The run {name} has no readable sample of step {step}.")
        content, kind = found
        return Response(content, media_type=kind, headers=headers)

    @router.post("/{name}/stop", status_code=202)
    def stop_run(name: str) -> dict[str, str]:
        """Ask a run to save and stop, as Ctrl-C in its terminal does."""
        run = find(name)
        try:
            request_stop(run.path)
        except InputError as error:
            raise Problem(409, str(error)) from None
        return {"state": "stopping"}

    return router
