"""The web application of the studio: the server of models, the interfaces of the pages, and the pages themselves."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

STATIC = Path(str(files("cyclegan.studio") / "static"))


def add_pages(app: FastAPI) -> None:
    """Serve the static files of the pages at `/`. Comes last, since it answers every path that no route takes."""
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="pages")
