"""States that a kill leaves of a folder: what is on disk before each operation that changes it."""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}

_watched = None  # the folder, and the function to call
_busy = threading.local()


def _audit(event, arguments):
    if _watched is None or event not in _OPERATIONS or getattr(_busy, "is_set", False):
        return
    root, act = _watched
    if event == "open":
        if not _writes(*arguments):
            return
        _, mode, flags = arguments
        event = "empty" if ("w" in mode if mode else flags & os.O_TRUNC) else "open"
    path = _path(event, arguments)
    if path is None or root not in (path, *path.parents):
        return
    _busy.is_set = True
    try:
        act(event, path)
    finally:
        _busy.is_set = False


def _writes(path, mode, flags):
    if not isinstance(path, str | bytes | os.PathLike):  # a descriptor, whose file was opened before
        return False
    return any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))


def _path(event, arguments):
    name, descriptor = arguments[0], -1
    if event in ("os.remove", "os.rmdir", "os.mkdir"):
        descriptor = arguments[-1]
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(name))
    if not path.is_absolute() and descriptor not in (-1, None):  # as shutil.rmtree names what it removes
        path = Path(f"/proc/self/fd/{descriptor}").resolve() / path
    return path.absolute()  # not resolved: the link itself is what changes


@contextlib.contextmanager
def before_each_change(root, act):
    """Call `act(operation, path)` before every operation of this process that changes a file or folder in `root`.

    The operation `empty` opens a file to write it anew.
    """
    global _watched
    if not _audit_is_on:
        sys.addaudithook(_audit)  # for good: no hook can be removed
        _audit_is_on.append(True)
    _watched = (Path(root).resolve(), act)
    try:
        yield
    finally:
        _watched = None


_audit_is_on = []


def contents(folder):
    """The bytes of every file by its path, and None for every folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


def of_another_process(name):
    """The name that another process would have given to a temporary file of this one."""
    return name.replace(f".{os.getpid()}.", ".999999999.")  # no system has so many


def write_contents(folder, files):
    """Make a folder anew with what `contents` has returned; None: no folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if files is None:
        return
    folder.mkdir(parents=True)
    for name, content in files.items():  # sorted: folders come before what they hold
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


def crash_states(root, work):
    """Do `work`, and return every state in which a kill can leave `root`, each once, as (operation, contents).

    A file that is opened to be written also gives the state in which it is still empty.
    """
    found = {}

    def look(operation, path):
        state = None
        if root.is_dir():
            state = {of_another_process(name): content for name, content in contents(root).items()}
        name = of_another_process(path.relative_to(root.resolve()).as_posix())
        add(f"{operation} {name}", state)
        if operation == "empty" and state is not None and path.parent.is_dir():
            add(f"write {name}", dict(sorted({**state, name: b""}.items())))

    def add(what, state):
        key = None if state is None else tuple(state.items())
        found.setdefault(key, (what, state))

    with before_each_change(root, look):
        work()
    return list(found.values())
