"""The interface of the Data page: find folders, inspect them, and describe or start a training on them."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from cyclegan.errors import InputError
from cyclegan.serving.problems import Problem
from cyclegan.studio.folders import OpenFolders, OutsideError
from cyclegan.studio.inspecting import Job, Jobs
from cyclegan.studio.json_routes import Json, SmallRoute
from cyclegan.studio.runs import FOR_EVER
from cyclegan.studio.starting import Trainings, Wish, as_command
from cyclegan.system.arguments import real_path


class Folders(BaseModel):
    """Folders to inspect. b: empty if `a` holds both domains, or for a look at one."""

    model_config = ConfigDict(extra="forbid")

    a: str = Field(max_length=4096)
    b: str = Field("", max_length=4096)


def data_router(runs_dir: Path, *, allow_train: bool = False, folders: OpenFolders | None = None) -> APIRouter:
    """The routes below `/api/data`.

    allow_train: whether trainings may be started. folders: those that may be opened.
    """
    router = APIRouter(prefix="/api/data", tags=["data"], default_response_class=Json, route_class=SmallRoute)
    runs_dir = real_path(runs_dir)
    allowed, jobs, trainings = folders or OpenFolders.usual(), Jobs(), Trainings(runs_dir)

    def refuse(error: InputError) -> Problem:
        return Problem(403 if isinstance(error, OutsideError) else 422, str(error))

    def find(name: str) -> Job:
        job = jobs.get(name)
        if job is None:
            raise Problem(404, "This inspection is no longer kept; inspect the folders again.")
        return job

    @router.get("")
    def about() -> dict[str, Any]:
        """What this page may do, and where."""
        return {"allow_train": allow_train, "runs_dir": str(runs_dir), "roots": [str(root) for root in allowed.roots]}

    @router.get("/folders")
    def list_folders(path: str = "") -> dict[str, Any]:
        """Subfolders of a folder, and how many images each holds; without a path, the folders that may be opened."""
        try:
            return allowed.show(path)
        except InputError as error:
            raise refuse(error) from None

    @router.post("/inspections", status_code=202)
    def start_inspection(given: Folders) -> dict[str, Any]:
        """Start an inspection of one folder or two."""
        try:
            a, b = allowed.images(given.a), allowed.images(given.b) if given.b else None
        except InputError as error:
            raise refuse(error) from None
        try:
            return jobs.start(a, b).describe()
        except InputError as error:
            raise Problem(409, str(error)) from None

    @router.get("/inspections/{name}")
    def show_inspection(name: str) -> dict[str, Any]:
        """How far an inspection is, and its results."""
        return find(name).describe()

    @router.delete("/inspections/{name}")
    def cancel_inspection(name: str) -> dict[str, Any]:
        """Cancel an inspection; it ends after the file at hand."""
        job = find(name)
        job.is_cancelled = True
        return job.describe()

    @router.get("/inspections/{name}/pictures/{folder}/{file}")
    def show_picture(name: str, folder: Annotated[int, InPath(ge=0)], file: Annotated[int, InPath(ge=0)]) -> Response:
        """A small picture of a file, by the numbers of its folder and of the file in it."""
        picture = find(name).picture(folder, file)
        if picture is None:
            raise Problem(404, "There is no such picture in this inspection.")
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": FOR_EVER})

    @router.post("/command")
    def show_command(wish: Wish) -> dict[str, str]:
        """The command that trains, for a shell."""
        try:
            command = as_command(wish.words(runs_dir, allowed))
            trainings.check_free(wish.name)
        except InputError as error:
            raise refuse(error) from None
        return {"command": command}

    @router.post("/trainings", status_code=201)
    def start_training(wish: Wish) -> dict[str, Any]:
        """Start a training, if the studio may."""
        if not allow_train:
            raise Problem(
                403,
                "This studio may not start trainings; open it with --allow-train, or copy the command into a terminal.",
            )
        try:
            words = wish.words(runs_dir, allowed)
        except InputError as error:
            raise refuse(error) from None
        try:
            return trainings.start(wish.name, words)
        except InputError as error:
            raise Problem(409, str(error)) from None

    @router.get("/trainings")
    def list_trainings() -> dict[str, Any]:
        """The trainings that this studio has started, with the end of what they print."""
        return {"trainings": trainings.describe()}

    return router
