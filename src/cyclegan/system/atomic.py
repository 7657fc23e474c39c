"""Write files and folders completely or not at all, and lock places for one process.

Nothing that exists is written through or removed on the way, because temporary names are fresh ones:
`.NAME.PID.HEX.partial` for what is being written, and `.NAME.PID.HEX.old` for a folder that is being replaced.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from cyclegan.errors import InputError

if sys.platform != "win32":
    import fcntl

# All temporary names. The process in it says whether somebody still writes there.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.[0-9a-f]{8}\.(?P<ending>partial|old)", re.DOTALL)

# Bytes of the target's name in a temporary name; file systems allow about 255 in all.
_MAX_NAME = 200

# Errors that only writing has.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Temporary names that this process uses now: after a restart a container has the process number of before.
_in_use: set[str] = set()


@contextmanager
def atomic_path(target: Path, *, merge: bool = False) -> Iterator[Path]:
    """A hidden path beside `target`, for the block to write a file or make a folder at; it then becomes `target`.

    When the block succeeds, all of it is flushed to disk and renamed; an existing folder is replaced. After an
    error `target` is as it was, and no new parent folder stays. An OSError of writing names `target`.
    merge: if `target` is a folder already, move the new files into it and keep its others. JSON files, which describe
    the rest, come last.
    """
    if target.is_dir():
        target = target.resolve()  # of a link, the folder behind it is replaced
    new_parents = list(takewhile(lambda parent: not parent.exists(), target.parents))
    partial = _temporary(target, "partial")
    try:
        with _naming(target, partial):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            for path in [*partial.rglob("*"), partial]:
                _flush(path)
            if partial.is_dir():
                _place_folder(partial, target, merge)
            else:
                partial.replace(target)
    finally:
        _remove(partial)
        _in_use.discard(partial.name)
        for parent in new_parents:  # fails for those that hold something now
            with suppress(OSError):
                parent.rmdir()


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file completely or not at all."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Let an OSError of writing, such as that of a full disk, name the place that the block writes to."""
    with _naming(place, None):
        yield


def restore(target: Path, *, is_locked: bool = False) -> None:
    """Put back a folder whose replacement was broken off, by a kill between its two renames.

    Does nothing while the process that replaces it lives. is_locked: the caller holds a lock, so no process does.
    """
    if os.path.lexists(target) or not target.parent.is_dir():
        return
    with suppress(OSError):  # a folder that may not be changed
        found = [old for old in _leftovers(target.parent, "old", target.name, is_locked=is_locked) if old.is_dir()]
        if found:
            max(found, key=lambda old: old.stat().st_ctime_ns).rename(target)


def remove_leftovers(folder: Path) -> None:
    """Remove the files and folders of this user that killed processes left half written in a folder, if it is there.

    A folder that was being replaced goes if the new one is in its place; else it is for `restore`.
    """
    if folder.is_dir():
        for path in _leftovers(folder, "partial"):
            _remove(path)
        for path in _leftovers(folder, "old"):
            match = TEMPORARY.fullmatch(path.name)
            if match and (folder / match["name"]).exists():
                _remove(path)


def remove_folder(folder: Path) -> None:
    """Remove a folder. A kill leaves it whole or leaves no part of it under its name. Raises OSError."""
    hidden = _temporary(folder, "partial")  # which `remove_leftovers` removes
    try:
        folder.rename(hidden)
        _remove(hidden)
    finally:
        _in_use.discard(hidden.name)


@contextmanager
def locked(file: Path, message: str) -> Iterator[None]:
    """Hold a lock file for this process alone; however the process ends, the system releases it.

    Makes the folder of the file. Raises InputError with `message` if another process holds the lock, and if the file
    is not a lock of this program: a link, a folder or a file with content.
    """
    _check_lock(file)
    lock = FileLock(file, timeout=0.2)
    while not lock.is_locked:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(message) from None
        except FileNotFoundError:  # the process before has just removed the folder
            continue
    try:
        yield
    finally:
        lock.release()


def is_locked(file: Path) -> bool:
    """Whether a process holds this lock file, as in `locked`. Neither makes the file nor keeps it from others."""
    try:
        _check_lock(file)
        with file.open("rb") as opened:
            if sys.platform == "win32":
                with FileLock(file, timeout=0):
                    pass
            else:  # a shared lock, so that several processes that ask do not see each other
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, Timeout):
        return True
    except (OSError, InputError):  # no lock, or none that can be asked
        return False
    return False


def check_free(out: Path) -> None:
    """Raises InputError unless something new can be made at `out`: it has a name, and is absent or an empty folder."""
    if not out.name.strip("."):
        raise InputError(f"{out} cannot be made; expected the name of a new folder or file after --out.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; remove it or choose another --out.")


def check_writable(folder: Path) -> None:
    """Make a folder and write to it, without leaving a file. Raises OSError that names it, and then leaves nothing."""
    new = list(takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        for place in new:
            with suppress(OSError):
                place.rmdir()
        raise _renamed(error, folder) from error


def is_place_lost(error: BaseException, folder: Path) -> bool:
    """Whether, after this error of writing a file, or its cause, no other one can be written below a folder either.

    Its disk is full or read-only, or no small file can be made in it. A name that is too long, a file that is too
    large, and a subfolder that may not be written are errors of one file.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return False
    if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return True
    try:
        check_writable(folder)
    except OSError:
        return True
    return False


def describe_kind(path: Path) -> str:
    """What lies at a path, in words: a link, a folder, a file."""
    if path.is_symlink():
        return "a link"
    return "a folder" if path.is_dir() else "a file"


def _temporary(target: Path, ending: str) -> Path:
    """A name beside `target` that nothing has."""
    while True:
        name = f".{_shortened(target.name)}.{os.getpid()}.{secrets.token_hex(4)}.{ending}"
        if not os.path.lexists(target.with_name(name)):
            _in_use.add(name)
            return target.with_name(name)


def _shortened(name: str) -> str:
    """The beginning of a name that leaves room for what is added; whole characters, also of names that are not text."""
    while len(os.fsencode(name)) > _MAX_NAME:
        name = name[:-1]
    return name


def _place_folder(partial: Path, target: Path, merge: bool) -> None:
    if merge and target.is_dir():
        for path in sorted(partial.iterdir(), key=lambda path: path.suffix == ".json"):
            path.replace(target / path.name)
        return
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    old = _temporary(target, "old")
    try:
        if target.exists():
            target.rename(old)
        try:
            partial.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        _in_use.discard(old.name)
    _flush(target.parent)
    # Remove the one before, and what killed processes have left.
    _remove(old)
    for ending in ("partial", "old"):
        for path in _leftovers(target.parent, ending, target.name):
            _remove(path)


def _leftovers(folder: Path, ending: str, name: str | None = None, *, is_locked: bool = False) -> list[Path]:
    """Files and folders of this user that processes which have ended left while they wrote `name`, or anything.

    is_locked: the caller knows that no other process writes there.
    """
    found = []
    for path in folder.iterdir():
        match = TEMPORARY.fullmatch(path.name)
        if match is None or match["ending"] != ending or path.name in _in_use or not _is_own(path):
            continue
        is_wanted = name is None or match["name"] == _shortened(name)
        if is_wanted and (is_locked or not _is_running(int(match["process"]))):
            found.append(path)
    return found


def _is_own(path: Path) -> bool:
    """Whether this is a file or folder, not a link, of this user."""
    try:
        about = path.lstat()
    except OSError:  # another process has just removed it
        return False
    is_real = stat.S_ISDIR(about.st_mode) or stat.S_ISREG(about.st_mode)
    return is_real and (not hasattr(os, "geteuid") or about.st_uid == os.geteuid())


def _is_running(process: int) -> bool:
    """Whether another process has this number; where the system cannot say, it does."""
    if process == os.getpid():  # the caller knows what this process uses
        return False
    if os.name == "nt":  # there the signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _check_lock(file: Path) -> None:
    try:
        about = file.lstat()
    except OSError:  # none yet
        return
    is_lock = stat.S_ISREG(about.st_mode)
    if is_lock and about.st_size:  # filelock writes the process and the machine where locks of the system are missing
        with file.open("rb") as opened:
            is_lock = re.fullmatch(rb"\d+\n[^\n]+(\n[^\n]*){0,4}", opened.read(1024)) is not None
    if not is_lock:
        kind = "a file with other content" if stat.S_ISREG(about.st_mode) else describe_kind(file)
        raise InputError(
            f"{file} is {kind}, and expected there is a lock of this program, an empty file; move it away, or choose "
            "another --out."
        )


@contextmanager
def _naming(target: Path, partial: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_hidden = partial is not None and str(error.filename or "").startswith(str(partial))
        if is_hidden or error.errno in _WRITE_ERRORS:  # of a copy, an error names the source
            raise _renamed(error, target) from error
        raise


def _renamed(error: OSError, place: Path) -> OSError:
    return OSError(error.errno, error.strerror or str(error), str(place))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # on a disk that fails, the error before is the one to report
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
