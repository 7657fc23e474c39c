"""Paths of images inside files: `photos.zip/cats/1.jpg`, `stack.tif/3`, `brain.nii.gz/120`.

Such a path leads below a file, where no file can be, so it means one thing only. It stays a `Path` everywhere, and
ordinary paths take one look at the disk more, if any.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock
from typing import IO

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import zip_folder
from cyclegan.images.filetypes.nifti import SUFFIXES

# What a system says of a path below a file; Windows says that it is not found.
NO_FILE = (NotADirectoryError, FileNotFoundError)


_PREFIX = "cyclegan_"

# Unpacked files that are kept, as decoded volumes are.
_KEPT_BYTES, _KEPT_FILES = 2 * 2**30, 64


def split_page(path: Path | str) -> tuple[Path, str | None]:
    """The file on disk that a path leads to, and what follows behind it: the page, or None for the file itself.

    A path where nothing is at all comes back as it is.
    """
    path = Path(path)
    if not os.path.exists(path):  # noqa: PTH110
        for parent in path.parents:
            if parent.is_file():
                return parent, path.relative_to(parent).as_posix()
            if parent.is_dir():
                break
    return path, None


def is_folder(path: Path) -> bool:
    """Whether images lie below a path: a folder, a zip, or a folder in one. Raises InputError for a damaged zip."""
    if path.is_dir():
        return True
    file, page = split_page(path)
    if not is_zip(file):
        return False
    return page is None or zip_folder.open_zip(file).has_folder(page)


def only_folder(path: Path) -> tuple[Path, ...]:
    """The folder at the top of a zip that all its files lie in, as that of a folder that was packed; none otherwise."""
    file, page = split_page(path)
    if page is not None or not is_zip(file):
        return ()
    tops = {name.partition("/")[0] for name in zip_folder.open_zip(file).names() if not name.startswith("__MACOSX/")}
    return (path / tops.pop(),) if len(tops) == 1 else ()


def is_file(path: Path) -> bool:
    """Whether a path is that of a file, of one in a zip, or of a page of one. Pages are not looked up in the file."""
    file, page = split_page(path)
    if page is None:
        return file.is_file()
    try:
        return not is_zip(file) or bool(zip_folder.open_zip(file).split(page))
    except UnreadableError:
        return False


def is_zip(file: Path) -> bool:
    """Whether a file is a zip by its name."""
    return file.suffix.lower() == zip_folder.SUFFIX and file.is_file()


def stat_file(path: str) -> tuple[int, int]:
    """Bytes of a file, and a number that changes with it: its time of change, or its checksum in a zip.

    Of a page those of its file. Raises OSError if there is none.
    """
    try:
        about = os.stat(path)  # noqa: PTH116
    except NO_FILE:
        file, page = split_page(path)
        if page is None:
            raise
        if is_zip(file):
            folder, name, _ = _in_zip(file, page)
            return folder.stat(name)
        about = file.stat()
    return about.st_size, about.st_mtime_ns


def open_file(path: Path) -> IO[bytes]:
    """Open a file, or one in a zip, for reading. Raises OSError if there is none; UnreadableError for a damaged zip."""
    try:
        return path.open("rb")
    except NO_FILE:
        file, page = split_page(path)
        if page is None:
            raise
        if not is_zip(file):
            # Pages of equal files are equal if they have one name.
            return io.BytesIO(f"{_digest(file, *stat_file(str(file)))} {page}".encode())
        folder, name, inner = _in_zip(file, page)
        if inner is None:
            return io.BytesIO(folder.read(name))
        return io.BytesIO(f"{_digest_in_zip(folder, name)} {inner}".encode())


def read_head(path: Path, count: int) -> bytes:
    """The first bytes of a file, or of one in a zip. Raises OSError if there is none, also for a page of one."""
    try:
        with path.open("rb") as opened:
            return opened.read(count)
    except NO_FILE:
        file, page = split_page(path)
        if page is None or not is_zip(file):
            raise
        folder, name, inner = _in_zip(file, page)
        if inner is not None:
            raise
        return folder.read(name, most=count)


@contextmanager
def local_file(path: Path, *, most: int | None = None) -> Iterator[tuple[Path, str | None]]:
    """A file that any library can open by its name, and the page in it that a path means, None for the whole file.

    A file in a zip is unpacked for the time of the block, with its suffix, a TIFF with the files that GDAL keeps beside
    it; most: only so many bytes of it. A file whose pages are read stays unpacked for the next ones. Messages of errors
    name the path itself. Raises UnreadableError if it cannot be unpacked.
    """
    file, page = split_page(path)
    if page is None or not is_zip(file):
        yield file, page
        return
    folder, name, inner = _in_zip(file, page)
    is_kept = inner is not None or (most is None and name.lower().endswith(SUFFIXES))
    with _kept_copy(folder, name) if is_kept else _short_copy(folder, name, most) as copy:
        try:
            yield copy, inner
        except (ImportError, OSError, ValueError) as error:
            if isinstance(error, ImportError) or str(copy) not in str(error):
                raise
            kind = InputError if isinstance(error, InputError) else UnreadableError
            raise kind(str(error).replace(str(copy), str(file / name))) from error


@contextmanager
def _short_copy(folder: zip_folder.ZipFolder, name: str, most: int | None) -> Iterator[Path]:
    """A file of a zip, or its first bytes, unpacked for the time of the block."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as work:
        yield _unpack(folder, name, Path(work), most)


def _unpack(folder: zip_folder.ZipFolder, name: str, work: Path, most: int | None = None) -> Path:
    """Unpack a file of a zip into a folder, under a name with its suffix, and the files that belong to it."""
    copy = work / re.sub(r"[^A-Za-z0-9._-]", "_", name)[-40:]
    copy.write_bytes(folder.read(name, most=most))
    for own, beside in zip(sidecar_names(copy.name), sidecar_names(name), strict=True):
        if beside in folder and (most is None or beside.lower().endswith(HEADER)):
            (work / own).write_bytes(folder.read(beside))
    return copy


@dataclass
class _Copy:
    """A file of a zip that is unpacked once for all its pages. num_users: blocks that are using it."""

    lock: Lock = field(default_factory=Lock)
    path: Path | None = None
    num_bytes: int = 0
    num_users: int = 0


# The one used last is at the end. They are removed when others take their place, and when the process ends.
_copies: OrderedDict[tuple[Path, str, int, int], _Copy] = OrderedDict()
_lock = Lock()


@contextmanager
def _kept_copy(folder: zip_folder.ZipFolder, name: str) -> Iterator[Path]:
    """A file of a zip, unpacked by the first block that wants it."""
    key = (folder.path, name, *folder.stat(name))
    with _lock:
        if not _copies:
            Finalize(None, _remove_copies, exitpriority=1)  # in loading processes, too
        copy = _copies.setdefault(key, _Copy())
        _copies.move_to_end(key)
        copy.num_users += 1
    try:
        with copy.lock:
            if copy.path is None or not copy.path.exists():  # systems empty their folders of temporary files
                work = Path(tempfile.mkdtemp(prefix=_PREFIX))
                try:
                    copy.path, copy.num_bytes = _unpack(folder, name, work), folder.stat(name)[0]
                except BaseException:
                    shutil.rmtree(work, ignore_errors=True)
                    raise
        yield copy.path
    finally:
        with _lock:
            copy.num_users -= 1
            _make_room()


def _make_room() -> None:
    """Remove the copies that are too many, the oldest first."""
    size = sum(copy.num_bytes for copy in _copies.values())
    for key, copy in list(_copies.items())[:-1]:
        if size <= _KEPT_BYTES and len(_copies) <= _KEPT_FILES:
            break
        if copy.num_users == 0:
            size -= copy.num_bytes
            _remove(_copies.pop(key))


def _remove(copy: _Copy) -> None:
    if copy.path is not None:
        shutil.rmtree(copy.path.parent, ignore_errors=True)


def _remove_copies() -> None:
    while _copies:
        _remove(_copies.popitem()[1])


def _forget_copies() -> None:
    """Start without copies in a forked process: they are its parent's, and the lock may be taken."""
    global _lock
    _lock = Lock()
    _copies.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_copies)


def no_folder(path: Path, expected: str) -> InputError:
    """The error for a path that is no folder and no zip."""
    what = f"{path} is a file" if path.exists() else f"There is no folder {path}"
    return InputError(f"{what}; expected {expected}.")


# Suffix of the headers of .img files.
HEADER = ".hdr"

# Suffix of an image -> ends of the names of files that belong to it, in place of the suffix or behind it (*): a mask,
# what GDAL keeps of it, where it lies on the earth, or its header.
_TIFF = ("*.msk", "*.aux.xml", ".tfw", ".wld")
_SIDECARS = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".jp2": ("*.msk", "*.aux.xml", ".j2w", ".wld"),
    ".img": (HEADER, HEADER.upper(), "*.msk", "*.aux.xml"),
    ".hgt": ("*.msk", "*.aux.xml"),
    ".vrt": ("*.msk", "*.aux.xml"),
}

# Ends of the names of files that are read with the image beside them, and so are no images of their own; smaller copies
# of an image (.ovr) are not needed.
SIDECAR_SUFFIXES = (
    *(f"{suffix}{end[1:]}" for suffix, ends in _SIDECARS.items() for end in (*ends, "*.ovr") if end[0] == "*"),
    ".tfw",
    ".j2w",
)


def sidecar_names(name: str) -> tuple[str, ...]:
    """The names of files that may belong to an image."""
    stem, dot, suffix = name.rpartition(".")
    ends = _SIDECARS.get(f"{dot}{suffix}".lower(), ())
    return tuple(name + end[1:] if end[0] == "*" else stem + end for end in ends)


def _in_zip(file: Path, page: str) -> tuple[zip_folder.ZipFolder, str, str | None]:
    """The zip, the file in it, and the page in that. Raises UnreadableError, also for a zip that cannot be read."""
    try:
        folder = zip_folder.open_zip(file)
    except InputError as error:
        raise UnreadableError(str(error)) from None
    return folder, *folder.split(page)


_new_hash = hashlib.blake2b


@lru_cache(maxsize=64)
def _digest(file: Path, _num_bytes: int, _changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, _new_hash).hexdigest()


@lru_cache(maxsize=64)
def _digest_in_zip(folder: zip_folder.ZipFolder, name: str) -> str:
    return _new_hash(folder.read(name)).hexdigest()
