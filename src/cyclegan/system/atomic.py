"""Write files and folders completely or not at all, and lock places for one process."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from cyclegan.errors import InputError


@contextmanager
def atomic_path(target: Path, *, merge: bool = False) -> Iterator[Path]:
    """A hidden path beside `target`, for the block to write a file or make a folder at; it then becomes `target`.

    When the block succeeds, all of it is flushed to disk and renamed; an existing folder is replaced. After an
    error `target` is as it was, and no new parent folder stays.
    merge: if `target` is a folder already, move the new files into it and keep its others. JSON files, which describe
    the rest, come last.
    """
    if target.is_dir():
        target = target.resolve()  # of a link, the folder behind it is replaced
    new_parents = list(takewhile(lambda parent: not parent.exists(), target.parents))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    _remove(partial)
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _flush(path)
        if partial.is_dir():
            _place_folder(partial, target, merge)
        else:
            partial.replace(target)
    finally:
        _remove(partial)
        for parent in new_parents:  # fails for those that hold something now
            with suppress(OSError):
                parent.rmdir()


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file completely or not at all."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


@contextmanager
def locked(file: Path, message: str) -> Iterator[None]:
    """Hold a lock file for this process alone; however the process ends, the system releases it.

    Makes the folder of the file. Raises InputError with `message` if another process holds the lock.
    """
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


def check_free(out: Path) -> None:
    """Raises InputError unless something new can be made at `out`: it has a name, and is absent or an empty folder."""
    if not out.name.strip("."):
        raise InputError(f"{out} cannot be made; expected the name of a new folder or file after --out.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; remove it or choose another --out.")


def _place_folder(partial: Path, target: Path, merge: bool) -> None:
    if merge and target.is_dir():
        for path in sorted(partial.iterdir(), key=lambda path: path.suffix == ".json"):
            path.replace(target / path.name)
        return
    old = target.with_name(f".{target.name}.old")
    _remove(old)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    _flush(target.parent)
    # Remove the one before, and what killed processes have left.
    leftover = re.compile(rf"\.{re.escape(target.name)}\.(old|\d+\.partial)")
    for path in [path for path in target.parent.iterdir() if leftover.fullmatch(path.name) and path.is_dir()]:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
