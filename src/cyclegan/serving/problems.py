"""Errors as the server answers them: problem details for programs (RFC 9457), one sentence for people."""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cyclegan.errors import CycleganError, UnreadableError, damage_of, reason_of
from cyclegan.translate.translator import OutOfMemoryError

MEDIA_TYPE = "application/problem+json"

# Phrases that Python names otherwise than RFC 9110.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class ProblemDetails(BaseModel):
    """The body of an answer that is an error. detail: one sentence with the remedy."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Problem(Exception):
    """A request that is answered with an error. detail: one sentence with the remedy, without paths of the server."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def response(self) -> JSONResponse:
        title = _TITLES.get(self.status) or HTTPStatus(self.status).phrase
        details = ProblemDetails(title=title, status=self.status, detail=self.detail)
        return JSONResponse(details.model_dump(), self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, seconds: float) -> Problem:
    """503 with the time after which another try may succeed."""
    return Problem(503, detail, {"Retry-After": str(max(1, min(round(seconds), 600)))})


def sentence(error: BaseException, folder: str) -> str:
    """What an error says about an upload, which lies under a temporary name in a folder, on one line."""
    text = damage_of(reason_of(error) if isinstance(error, OSError) else error)
    text = re.sub(re.escape(folder) + r"/image[\w.]*|/proc/self/fd/\d+|/memfd:\S*( \(deleted\))?", "the image", text)
    text = re.sub(r"'the image'|\bimage\.\w+\b(?=:)", "the image", text)
    if isinstance(error, UnreadableError | OSError) and not text.startswith("the image"):
        text = f"the image cannot be read: {text}"
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?", ")")) else f"{text}."


@contextmanager
def of_upload(folder: str) -> Iterator[None]:
    """Turn errors about an upload into problems: 422, 413 for what does not fit into memory, 503 for a full system."""
    try:
        yield
    except (CycleganError, MemoryError, OSError) as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC):
            raise busy("The server has no room for the image now; try again later.", 10) from error
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, MemoryError | OutOfMemoryError):
            cause = cause.__cause__
        raise Problem(422 if cause is None else 413, sentence(error, folder)) from error
