"""Download one file over HTTP: resume an interrupted download, and check its size and SHA-256.

No maintained library does all of this: resume only if the server still has the same file (If-Range), keep the partial
file between calls, retry with growing waits, refuse web pages and redirects to other protocols, limit the size.
"""

import hashlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from cyclegan._version import __version__
from cyclegan.errors import DownloadError, InputError, TransferError, UnreadableError, reason_of
from cyclegan.system.atomic import check_free, naming, write_bytes
from cyclegan.system.json_files import read_json
from cyclegan.system.messages import Messages
from cyclegan.system.progress import show_progress
from cyclegan.system.signals import AnnouncedStop
from cyclegan.system.work_folder import WorkFolder

_CHUNK = 1 << 18

# Limit for servers that do not announce a length. No file of the catalogue has a fifth of it.
_MOST_BYTES = 8 << 30

# Status codes worth another try. All others from 400 on are final.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long to wait. timeout: seconds without a byte until a try fails. tries: failures in a row without progress.

    wait: seconds before the second try; they double with every further try.
    """

    timeout: float = 30.0
    tries: int = 5
    wait: float = 1.0


@dataclass(frozen=True)
class Received:
    """A complete file. sha256: in hexadecimal digits."""

    path: Path
    num_bytes: int
    sha256: str


@contextmanager
def workplace(out: Path, name: str, messages: Messages) -> Iterator[Path]:
    """The hidden folder beside `out` for a download in progress, locked for this process.

    name: of what is downloaded; the folder may hold NAME.pth, and the folders NAME and images.
    The folder is removed unless it holds a partial file that another call can resume. Raises InputError if another
    process works there, if `out` exists and is not an empty folder, or if the hidden folder holds anything else.
    """
    check_free(out)
    work = out.with_name(f".{out.name}.partial")
    folder = WorkFolder(work, rf"received|received\.json|{re.escape(name)}\.pth", rf"images|{re.escape(name)}")
    new = [parent for parent in work.parents if not parent.exists()]
    message = f"Another process is downloading into {work}; wait for it, or choose another --out."
    with folder.locked(message), naming(out):
        folder.clear("received", "received.json")  # what a killed process was making of them is made again
        kept = _Partial(work)
        try:
            yield work
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            if kept.num_bytes() and not isinstance(error, DownloadError):  # whose message says it
                messages.info(f"Stopped. {kept}" if stopped else str(kept))
                if stopped:
                    raise AnnouncedStop from error
            raise
        finally:
            if not kept.num_bytes():
                folder.remove()
                for parent in new:
                    with suppress(OSError):
                        parent.rmdir()


def fetch(
    url: str,
    work: Path,
    *,
    begins: tuple[bytes, ...],
    num_bytes: int | None = None,
    sha256: str | None = None,
    room: float = 1.0,
    patience: Patience | None = None,
    messages: Messages,
) -> Received:
    """Download `url` into the folder `work`, resuming an earlier call.

    begins: first bytes of such files. num_bytes, sha256: of the right file, if known. room: free bytes on the disk that
    are needed for each byte of the file.
    Raises DownloadError if the server has no such file, another file, or does not answer; a partial file is
    then kept if another call can resume it, else removed. Raises InputError if the disk has not enough room.
    """
    patience = patience or Patience()
    partial = _Partial(work)

    def forget_unmarked() -> None:
        """Without a mark of the server, only the checksum can show that the rest belongs to the same file."""
        if not (sha256 or partial.note.mark):
            partial.clear()

    if partial.note.url != url:
        partial.clear()
    forget_unmarked()
    furthest = partial.num_bytes()
    failures = 0
    try:
        while not partial.is_whole():
            try:
                _receive(url, partial, num_bytes, room, patience.timeout, messages)
            except TransferError as error:
                forget_unmarked()
                # A bad connection that makes progress with every try completes the file eventually.
                failures = failures + 1 if partial.num_bytes() <= furthest else 1
                furthest = max(furthest, partial.num_bytes())
                if failures >= patience.tries:
                    tries = "once" if failures == 1 else f"{failures} times"
                    raise DownloadError(
                        f"{error} ({tries} in a row). Try later, or another --mirror. {partial}".rstrip()
                    ) from None
                seconds = patience.wait * 2 ** (failures - 1)
                messages.info(f"{error}; trying again in {seconds:g} s.")
                time.sleep(seconds)
    except BaseException:
        forget_unmarked()
        raise
    return _check(url, partial, begins, num_bytes, sha256)


def show_bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def check_mirror(mirror: str) -> str:
    """The address of a mirror, without a final slash. Raises InputError if it is no address."""
    try:
        parts = urlsplit(mirror)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except (ValueError, UnicodeError):
        usable = False
    if not usable or not mirror.isascii() or re.search(r"[\s\x00-\x1f@?#]", mirror):
        raise InputError(
            f"The mirror {mirror!r} cannot be used; expected an address like https://example.org/cyclegan, without a "
            "user name, below which there are datasets/NAME.zip and pretrained_models/NAME.pth."
        )
    return mirror.rstrip("/")


class _Note(BaseModel):
    """What received.json says of the partial file: its address, the server's mark (ETag or date) and its length."""

    model_config = ConfigDict(strict=True)

    url: str | None = None
    mark: str | None = None
    num_bytes: NonNegativeInt | None = None


class _Partial:
    """A partial file, and its note."""

    def __init__(self, work: Path) -> None:
        self.file = work / "received"
        self._note_file = work / "received.json"
        self.note = _Note()
        # With a damaged note the file is downloaded again.
        with suppress(UnreadableError):
            self.note = read_json(self._note_file, _Note)

    def __str__(self) -> str:
        if not self.num_bytes():
            return ""
        return f"{show_bytes(self.num_bytes())} are kept in {self.file.parent}; the same command resumes from there."

    def num_bytes(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def is_whole(self) -> bool:
        return self.file.exists() and self.num_bytes() == self.note.num_bytes

    def begin(self, url: str, mark: str | None, num_bytes: int | None) -> None:
        self.clear()
        self.set_note(_Note(url=url, mark=mark, num_bytes=num_bytes))
        self.file.touch()

    def set_note(self, note: _Note) -> None:
        self.note = note
        write_bytes(self._note_file, note.model_dump_json().encode())

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)
        self._note_file.unlink(missing_ok=True)
        self.note = _Note()


def _receive(
    url: str, partial: _Partial, num_bytes: int | None, room: float, timeout: float, messages: Messages
) -> None:
    """One request for the missing part. Raises TransferError if it brings less."""
    have = partial.num_bytes()
    headers = {"User-Agent": f"cyclegan/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if partial.note.mark:  # if the file has changed, the server sends all of it
            headers["If-Range"] = partial.note.mark

    with _open(urllib.request.Request(url, headers=headers), timeout, partial) as response:
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(
                f"{url} returned a web page instead of a file; open it in a browser (does your network want a login?), "
                f"or use another --mirror. {partial}".rstrip()
            )
        total = _length(url, response, partial, num_bytes)
        have = partial.num_bytes()
        if num_bytes is not None and total != num_bytes:
            partial.clear()
            raise DownloadError(
                f"{url} has {total:,} bytes, but the known file has {num_bytes:,}, so nothing was downloaded; "
                "try later, or another --mirror."
            )
        if total is not None:
            missing = int(total * room) - have
            check_room(partial.file.parent, missing, f"{show_bytes(missing)} are needed")

        begun, start = have, time.monotonic()

        def status() -> str:
            speed = (have - begun) / max(time.monotonic() - start, 1e-3)
            text = f"{show_bytes(have)} of {show_bytes(total)}" if total else show_bytes(have)
            text += f", {show_bytes(int(speed))}/s"
            if total and speed:
                left = (total - have) / speed
                text += f", {left:.0f} s left" if left < 120 else f", {left / 60:.0f} min left"
            return text

        with (
            naming(partial.file),
            partial.file.open("ab") as file,
            show_progress(messages.console, lambda: have / total if total else 0.0, status) as tick,
        ):
            while chunk := _read(response, timeout):
                have += len(chunk)
                if have > (total or _MOST_BYTES):
                    partial.clear()
                    raise DownloadError(
                        f"{url} is longer than the {show_bytes(total or _MOST_BYTES)} expected; removed."
                    )
                file.write(chunk)
                tick()
    if total is not None and have < total:
        raise TransferError(f"The connection ended at {show_bytes(have)} of {show_bytes(total)}")
    partial.set_note(partial.note.model_copy(update={"num_bytes": have}))


def _length(url: str, response: http.client.HTTPResponse, partial: _Partial, num_bytes: int | None) -> int | None:
    """Bytes of the whole file, if known. Removes the partial file unless the answer continues it."""
    headers = response.headers
    # A weak ETag does not promise the same bytes, and is not allowed in If-Range.
    tag = headers.get("ETag", "")
    mark = tag if tag.startswith('"') else headers.get("Last-Modified")
    if response.status == 206:
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        total = None if part is None or part[2] == "*" else int(part[2])
        known, known_mark = partial.note.num_bytes, partial.note.mark
        goes_on = part is not None and int(part[1]) == partial.num_bytes()
        if not goes_on or (total and known and total != known) or (mark and known_mark and mark != known_mark):
            partial.clear()
            raise TransferError("The file on the server has changed")
        return total or known or num_bytes
    if response.status != 200:
        raise DownloadError(f"{url} answers {response.status} {response.reason}; expected a file.")
    length = headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else num_bytes
    partial.begin(url, mark, total)
    return total


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only: a server must not make this program read local files."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_redirect(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_redirect(url: str, target: str) -> None:
    if urlsplit(target).scheme not in ("http", "https", ""):
        raise DownloadError(f"{url} redirects to {target!r}, which is not http or https; use another --mirror.")


def _open(request: urllib.request.Request, timeout: float, partial: _Partial) -> Any:
    url, host = request.full_url, urlsplit(request.full_url).netloc
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        if error.code in _PASSING:
            raise TransferError(f"{host} answers {answer}") from None
        if error.code == 416:
            partial.clear()
            raise TransferError("The file on the server has changed") from None
        if 300 <= error.code < 400:
            _check_redirect(url, error.headers.get("Location", ""))
            raise DownloadError(f"{url} redirects without end; use another --mirror.") from None
        raise DownloadError(
            f"{url} answers {answer}; the file does not exist there: use a mirror that has it (--mirror URL, or the "
            f"environment variable CYCLEGAN_MIRROR). {partial}".rstrip()
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"The certificate of {host} cannot be trusted: {reason.verify_message}.") from None
        if isinstance(reason, TimeoutError):
            raise TransferError(f"{host} does not answer within {timeout:g} s") from None
        raise TransferError(f"{host} cannot be reached ({reason_of(reason)})") from None


def _read(response: http.client.HTTPResponse, timeout: float) -> bytes:
    """The next bytes, at most a chunk; empty at the end."""
    try:
        return response.read1(_CHUNK)
    except TimeoutError:
        raise TransferError(f"Nothing came for {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f"The connection broke ({reason_of(error)})") from None


def _check(
    url: str, partial: _Partial, begins: tuple[bytes, ...], num_bytes: int | None, sha256: str | None
) -> Received:
    """Check the complete file; a wrong one is removed."""
    digest = hashlib.sha256()
    count = 0
    with partial.file.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            count += len(chunk)
    found = digest.hexdigest()
    wrong = ""
    if num_bytes is not None and count != num_bytes:
        wrong = f"has {count:,} bytes instead of {num_bytes:,}"
    elif sha256 is not None and found != sha256:
        wrong = f"has the SHA-256 {found} instead of {sha256}"
    elif not head.startswith(begins):
        wrong = f"is no {Path(urlsplit(url).path).suffix} file"
    if wrong:
        partial.clear()
        raise DownloadError(f"The file from {url} {wrong} and was removed; try again, or another --mirror.")
    return Received(partial.file, count, found)


def check_room(work: Path, needed: int, what: str) -> None:
    """Raises InputError, with `what` as the second part of its sentence, if the disk has less room than `needed`."""
    free = shutil.disk_usage(work).free
    if needed > free:
        raise InputError(f"{work.parent} has {show_bytes(free)} free and {what}; make room, or choose another --out.")
