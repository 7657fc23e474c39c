"""A zip file of images, read as a folder without unpacking it."""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cyclegan.errors import InputError, UnreadableError, reason_of

SUFFIX = ".zip"

# Each entry takes some hundred bytes of memory while the folder is used.
_MOST_ENTRIES = 1_000_000
# Limits of one entry, which is unpacked by itself. Images hardly shrink in a zip; plain label maps may.
MOST_RATIO = 100
MOST_FREE_BYTES = 256 << 20


class _Entry(NamedTuple):
    """offset: of its own header in the zip. num_packed: bytes there; num_bytes: bytes when it is unpacked."""

    offset: int
    num_packed: int
    num_bytes: int
    crc: int
    method: int
    is_encrypted: bool


class ZipFolder:
    """The files in a zip, by their names with forward slashes. Links, devices and folders are none of them.

    Raises InputError for a file that is no zip or damaged, and for names that lead out of it. Reading opens the file
    anew each time, so that threads and processes may share the object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {reason_of(error)}.") from None
        except Exception as error:  # zipfile has many errors for damage
            raise InputError(f"{path} is no zip file, or a damaged one: {reason_of(error)}.") from None
        if len(entries) > _MOST_ENTRIES:
            raise InputError(f"{path} holds {len(entries):,} files; unpack a zip of more than {_MOST_ENTRIES:,}.")
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is damaged: the files in it overlap, or are longer than the zip.")
        self._entries: dict[str, _Entry] = {}
        for entry in entries:
            # The name in the file, which zipfile cuts at a zero byte. Some programs for Windows write backslashes.
            name = entry.orig_filename.replace("\\", "/")
            if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name:
                raise InputError(f"{path} is refused: the name {entry.orig_filename!r} in it leads out of the zip.")
            kind = stat.S_IFMT(entry.external_attr >> 16)
            name = PurePosixPath(name).as_posix()
            if entry.is_dir() or kind not in (0, stat.S_IFREG) or name == ".":
                continue
            self._entries[name] = _Entry(
                entry.header_offset,
                entry.compress_size,
                entry.file_size,
                entry.CRC,
                entry.compress_type,
                bool(entry.flag_bits & 0x1),
            )

    def names(self, below: str = "") -> Iterator[str]:
        """Names of files in a folder of the zip and in its subfolders, relative to it; of all by default."""
        start = f"{below}/" if below else ""
        return (name[len(start) :] for name in self._entries if name.startswith(start))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def has_folder(self, name: str) -> bool:
        """Whether some file lies in a folder of this name."""
        return any(True for _ in self.names(name))

    def split(self, name: str) -> tuple[str, str | None]:
        """The file that a name leads to, and the page in it: `a/stack.tif/3` is page 3 of a/stack.tif.

        Raises UnreadableError if there is no such file.
        """
        for file in (name, *(parent.as_posix() for parent in PurePosixPath(name).parents)):
            if file in self._entries:
                return file, name[len(file) + 1 :] or None
        raise UnreadableError(f"There is no {name} in {self.path}.")

    def stat(self, name: str) -> tuple[int, int]:
        """Bytes of a file when it is unpacked, and a number that changes with its content."""
        entry = self._entries[name]
        return entry.num_bytes, entry.crc

    def read(self, name: str, *, most: int | None = None) -> bytes:
        """The bytes of a file, or the first `most` of them. Raises UnreadableError for what cannot be unpacked."""
        entry = self._entries[name]
        if entry.is_encrypted:
            raise UnreadableError("it is encrypted; unpack the zip with its password first")
        if entry.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableError("its compression is neither stored nor deflated; unpack the zip first")
        if entry.num_bytes > max(MOST_FREE_BYTES, MOST_RATIO * entry.num_packed):
            raise UnreadableError(
                f"its {entry.num_packed:,} bytes would become {entry.num_bytes:,}, more than those of an image can"
            )
        wanted = entry.num_bytes if most is None else min(most, entry.num_bytes)
        try:
            content = self._unpack(entry, wanted)
        except zlib.error as error:
            raise UnreadableError(f"it is damaged in the zip ({error})") from None
        is_whole = wanted == entry.num_bytes
        if len(content) < wanted or len(content) > entry.num_bytes or (is_whole and zlib.crc32(content) != entry.crc):
            raise UnreadableError("it is damaged in the zip: its content does not match its length and checksum")
        return content

    def _unpack(self, entry: _Entry, wanted: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(entry.offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise UnreadableError("it is damaged in the zip: it has no header")
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
            if entry.method == zipfile.ZIP_STORED:
                return file.read(min(wanted, entry.num_packed))
            # What cannot be compressed grows by a few bytes.
            packed = file.read(min(entry.num_packed, wanted + wanted // 1000 + 1000))
        # One byte more than expected shows that there are more.
        return zlib.decompressobj(-15).decompress(packed, wanted + (wanted == entry.num_bytes))


def open_zip(path: Path) -> ZipFolder:
    """The files in a zip; the last few are remembered, until they change. Raises errors as `ZipFolder` does."""
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason_of(error)}.") from None
    return _open(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=8)
def _open(path: Path, _num_bytes: int, _changed: int) -> ZipFolder:
    return ZipFolder(path)
