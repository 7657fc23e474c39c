"""Paths of images inside files: `photos.zip/cats/1.jpg`, `stack.tif/3`, `brain.nii.gz/120`.

Such a path leads below a file, where no file can be, so it means one thing only. It stays a `Path` everywhere, and
ordinary paths take one look at the disk more, if any.
"""

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import zip_folder

# What a system says of a path below a file; Windows says that it is not found.
NO_FILE = (NotADirectoryError, FileNotFoundError)


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
        content = folder.read(name)
        return io.BytesIO(content if inner is None else f"{_new_hash(content).hexdigest()} {inner}".encode())


@contextmanager
def local_file(path: Path, *, most: int | None = None) -> Iterator[tuple[Path, str | None]]:
    """A file that any library can open by its name, and the page in it that a path means, None for the whole file.

    A file in a zip is unpacked for the time of the block, with its suffix, a TIFF with the files that GDAL keeps beside
    it; most: only so many bytes of it. Messages of
    errors name the path itself. Raises UnreadableError if it cannot be unpacked.
    """
    file, page = split_page(path)
    if page is None or not is_zip(file):
        yield file, page
        return
    folder, name, inner = _in_zip(file, page)
    content = folder.read(name, most=most)
    with tempfile.TemporaryDirectory(prefix="cyclegan_") as work:
        copy = Path(work, re.sub(r"[^A-Za-z0-9._-]", "_", name)[-40:])
        copy.write_bytes(content)
        for ending, beside in zip(sidecar_names(copy.name), sidecar_names(name), strict=True):
            if most is None and beside in folder:
                Path(work, ending).write_bytes(folder.read(beside))
        try:
            yield copy, inner
        except (ImportError, OSError, ValueError) as error:
            if isinstance(error, ImportError) or str(copy) not in str(error):
                raise
            kind = InputError if isinstance(error, InputError) else UnreadableError
            raise kind(str(error).replace(str(copy), str(path))) from error


def sidecar_names(name: str) -> tuple[str, ...]:
    """The names of files that may belong to a TIFF: its mask, what GDAL keeps of it, and where it lies on the earth."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or suffix.lower() not in ("tif", "tiff"):
        return ()
    return f"{name}.msk", f"{name}.aux.xml", f"{stem}.tfw", f"{stem}.wld"


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
