"""Sizes and types of many image files from their headers, and an index of them, so that none is read twice."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import open_npy, probe_image
from cyclegan.images.file_list import FileList
from cyclegan.images.formats import ImageFormat
from cyclegan.system.atomic import atomic_path
from cyclegan.system.prefetch import work_ahead

# Files that are looked at together, so few that Ctrl-C need not wait where each takes milliseconds. The threads hide
# the waits of a network drive; on a disk of this machine one is as fast.
_CHUNK = 256
_THREADS = 8

# Folders of fewer files are read again in a moment, and leave no index.
MIN_INDEXED = 5000

# Enough of a file for the headers of nearly all that have no EXIF.
_HEAD_BYTES = 8192

# Segments and chunks that say nothing of size, depth or orientation.
_JPEG_SILENT = {0xC4, 0xDB, 0xDD, 0xE0, 0xE2, 0xED, 0xEE, 0xFE}
_PNG_SILENT = {b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"PLTE", b"tRNS", b"bKGD", b"tIME", b"iCCP"}

# A larger picture may be a decompression bomb, of which Pillow knows more.
_MOST_PIXELS = 2**26


@dataclass(frozen=True)
class Header:
    """Height and width in pixels (upright), numpy type and channels of a file, as of `images.probe_image`."""

    height: int
    width: int
    dtype: str
    channels: int | None


def read_header(path: str) -> Header:
    """That of one file. Raises UnreadableError, or InputError if an extra is missing.

    Plain JPEGs and PNGs, of which folders of a million consist, take a fraction of Pillow's time here. Whatever is
    unusual in them, EXIF above all, is left to Pillow.
    """
    try:
        size = _plain_size(path)
    except OSError as error:
        raise UnreadableError(str(error)) from error
    return Header(*probe_image(Path(path))) if size is None else Header(*size, "uint8", None)


def decoded_bytes(path: Path, image_format: ImageFormat) -> int:
    """Bytes of the image of a file when it is decoded in this format; 0 where no header says its size."""
    height, width = _size(str(path)) or (0, 0)  # what is wrong with a file is said when it is read
    return int(height * width * image_format.channels * np.dtype(image_format.dtype).itemsize)


def read_sizes(files: FileList) -> Iterator[tuple[int, int] | None]:
    """`image_size` of each file in order, plain JPEGs and PNGs without Pillow. Nothing is decoded, however large."""
    chunks = (list(files[begin : begin + _CHUNK].names()) for begin in range(0, len(files), _CHUNK))
    stopped = Event()

    def look(names: list[str]) -> list[tuple[int, int] | None]:
        return [None if stopped.is_set() else _size(os.path.join(files.root, name)) for name in names]  # noqa: PTH118

    with any_size():  # around the threads, and not in each of them: it is one setting for all
        ahead = work_ahead(look, chunks, num_threads=_THREADS, most_items=2 * _THREADS)
        try:
            for _, future in ahead:
                yield from future.result()
        finally:
            stopped.set()
            ahead.close()


def image_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a file as it lies there, from its header; None if it has none that can be read."""
    with any_size():
        return _size(str(path))


@contextmanager
def any_size() -> Iterator[None]:
    """Pillow refuses huge pictures, against small files that fill the memory. Not here: others look at memory."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _size(path: str) -> tuple[int, int] | None:
    with suppress(Exception):  # decoders raise errors of every kind
        if path.lower().endswith(".npy"):
            return open_npy(path).shape[:2]
        size = _plain_size(path)
        if size is not None:
            return size
        try:
            with Image.open(path) as picture:
                return picture.height, picture.width
        except UnidentifiedImageError:
            import tifffile

            with tifffile.TiffFile(path) as file:
                page: Any = file.pages[0]
                return int(page.imagelength), int(page.imagewidth)
    return None


def _plain_size(path: str) -> tuple[int, int] | None:
    """Height and width of a plain JPEG or PNG; None for all else. Raises OSError."""
    if path.lower().endswith((".npy", ".tif", ".tiff")):
        return None
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        head = os.read(file, _HEAD_BYTES)
    finally:
        os.close(file)
    size = _jpeg_size(head) if head[:3] == b"\xff\xd8\xff" else _png_size(head)
    return size if size is not None and 0 < size[0] * size[1] <= _MOST_PIXELS else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG of 8 bits that nothing can turn on its side, else None."""
    size, at = None, 2
    while at + 10 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xDA:  # the pixels begin
            return size
        if marker in (0xC0, 0xC1, 0xC2) and head[at + 4] == 8:
            size = int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
        elif marker not in _JPEG_SILENT:
            return None
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _png_size(head: bytes) -> tuple[int, int] | None:
    """Height and width of a PNG of 8 bits or fewer that nothing can turn on its side, else None."""
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR" or head[24:25] not in (b"\1", b"\2", b"\4", b"\x08"):
        return None
    at = 33
    while head[at + 4 : at + 8] in _PNG_SILENT:
        at += 12 + int.from_bytes(head[at : at + 4], "big")
    if head[at + 4 : at + 8] != b"IDAT":
        return None
    return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")


@dataclass
class HeaderIndex:
    """Headers of files that have been looked at, known again by name below the folder, size and time of change."""

    # Sorted; each is a hash of what a file is known by. What belongs to it stands at the same place of the others.
    keys: NDArray[np.uint64]
    sizes: NDArray[np.int32]  # (N, 2): height, width
    kinds: NDArray[np.int16]  # places in `table`
    table: list[tuple[str, int | None]]  # numpy type, channels
    changed: bool = False

    @classmethod
    def empty(cls) -> "HeaderIndex":
        return cls(np.zeros(0, np.uint64), np.zeros((0, 2), np.int32), np.zeros(0, np.int16), [])

    @classmethod
    def load(cls, path: Path) -> "HeaderIndex":
        """What `save` wrote; empty if there is no such file, or a damaged one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                channels = [None if count < 0 else int(count) for count in file["channels"]]
                table = list(zip(map(str, file["dtypes"]), channels, strict=True))
                index = cls(file["keys"], file["sizes"], file["kinds"], table)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return cls.empty()
        is_whole = len(index.keys) == len(index.sizes) == len(index.kinds) and (index.kinds < len(table)).all()
        return index if is_whole else cls.empty()

    def save(self, path: Path) -> None:
        """Write it where the folder is so large that it matters, unless the same is there (`--fresh` moves it away)."""
        if (not self.changed and path.exists()) or len(self.keys) < MIN_INDEXED:
            return
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                keys=self.keys,
                sizes=self.sizes,
                kinds=self.kinds,
                dtypes=np.array([dtype for dtype, _ in self.table]),
                channels=np.array([-1 if channels is None else channels for _, channels in self.table]),
            )
        self.changed = False

    def keep(self, found: "list[Headers]") -> None:
        """Hold these headers and no others."""
        keys, sizes, kinds = (
            np.concatenate([getattr(chunk, name) for chunk in found]) for name in ("keys", "sizes", "kinds")
        )
        is_good = (kinds >= 0) & (keys != 0)
        keys, first = np.unique(keys[is_good], return_index=True)
        self.changed |= not np.array_equal(keys, self.keys)
        self.keys, self.sizes, self.kinds = keys, sizes[is_good][first], kinds[is_good][first]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Where each key stands, -1 where it is not known."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)


@dataclass(frozen=True)
class Headers:
    """Headers of neighbouring files of a list, from place `begin` on. unreadable: of those not to be had, and why."""

    begin: int
    keys: NDArray[np.uint64]
    sizes: NDArray[np.int32]  # (N, 2): height, width; 0 if it is unreadable
    kinds: NDArray[np.int16]  # places in the table of the index; -1 if it is unreadable
    unreadable: dict[int, str]


def read_headers(files: FileList, index: HeaderIndex) -> Iterator[Headers]:
    """The headers of all files, some at a time and in order; those in the index are not read.

    New kinds are added to the index's table. Raises InputError if an extra is missing.
    """
    chunks = ((begin, list(files[begin : begin + _CHUNK].names())) for begin in range(0, len(files), _CHUNK))
    root = os.path.join(files.root, "")  # noqa: PTH118
    adding, stopped = Lock(), Event()

    def kind_of(header: Header) -> int:
        kind = header.dtype, header.channels
        with adding:
            if kind not in index.table:
                index.table.append(kind)
            return index.table.index(kind)

    def look(chunk: tuple[int, list[str]]) -> Headers:
        begin, names = chunk
        keys = np.fromiter((_key(root, name) for name in names), np.uint64, len(names))
        places = index.find(keys)
        sizes, kinds = np.zeros((len(names), 2), np.int32), np.full(len(names), -1, np.int16)
        known = places >= 0
        sizes[known], kinds[known] = index.sizes[places[known]], index.kinds[places[known]]
        unreadable: dict[int, str] = {}
        for i in np.flatnonzero(~known).tolist():
            if stopped.is_set():
                break
            try:
                header = read_header(root + names[i])
            except UnreadableError as error:
                unreadable[begin + i] = str(error)
                continue
            sizes[i], kinds[i] = (header.height, header.width), kind_of(header)
        return Headers(begin, keys, sizes, kinds, unreadable)

    ahead = work_ahead(look, chunks, num_threads=_THREADS, most_items=2 * _THREADS)
    try:
        for _, future in ahead:
            yield future.result()
    finally:
        stopped.set()
        ahead.close()


def _key(root: str, name: str) -> int:
    """A hash of what a file is known by; 0 for one that is gone, which is never in an index."""
    try:
        about = os.stat(root + name)  # noqa: PTH116
    except OSError:
        return 0
    text = f"{about.st_size}/{about.st_mtime_ns}/{name}"
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "little") or 1
