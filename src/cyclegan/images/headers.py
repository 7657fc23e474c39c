"""Sizes and types of many image files from their headers, and an index of them that saves reading them again."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError, MissingPackageError, UnreadableError
from cyclegan.images.codecs import probe_image
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.file_list import FileList
from cyclegan.images.filetypes.npy import read_stored_arrays
from cyclegan.images.filetypes.quick_headers import HEAD_BYTES
from cyclegan.images.formats import Header, ImageFormat
from cyclegan.images.limits import check_pixels, without_pixel_limit
from cyclegan.images.pages import NO_FILE, is_file, local_file, split_page, stat_file
from cyclegan.system.advice import advise
from cyclegan.system.atomic import atomic_path, describe_kind
from cyclegan.system.prefetch import prefetch
from cyclegan.system.words import counted

Result = TypeVar("Result")

# Files that one thread probes in one go: few, so that Ctrl-C is quick where each takes milliseconds. The threads hide
# the latency of a network drive; on a local disk one is as fast.
_CHUNK = 256
_THREADS = 8

# What flags of a domain say which channels are taken.
_FLAGS = ("channels", "bands")

# Smaller folders are scanned again in a moment, and get no index.
MIN_INDEXED = 5000


def read_header(path: str, page: int | None = None) -> Header:
    """The header of one file, or of one of its pages. Raises errors as `probe_image` does.

    Plain JPEGs and PNGs, of which folders of a million consist, take a fraction of the time of `probe_image`. An image
    with more pixels than are allowed is unreadable.
    """
    try:
        header = None if page is not None and page > 1 else file_format_of(path).shortcuts.probe(path)
    except NO_FILE as error:
        header = _quick_probe_page(path)
        if header is None and not is_file(Path(path)):
            raise UnreadableError(str(error)) from error
    except OSError as error:
        raise UnreadableError(str(error)) from error
    if header is None:
        return probe_image(Path(path), page)
    check_pixels(header.height, header.width)
    return header


def _quick_probe_page(path: str) -> Header | None:
    """The header of a plain JPEG or PNG in a zip, by its beginning alone."""
    if split_page(path)[1] is None:
        return None
    with suppress(OSError), local_file(Path(path), most=HEAD_BYTES) as (file, page):
        return file_format_of(file).shortcuts.probe(str(file)) if page is None else None
    return None


def decoded_bytes(path: Path, image_format: ImageFormat) -> int:
    """Bytes of a file's image when it is decoded in this format; 0 if its size cannot be read."""
    height, width = image_size(path) or (0, 0)  # reading the file reports the error
    return height * width * image_format.pixel_bytes


def image_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a file as they are stored, from its header; None if it cannot be read."""
    with without_pixel_limit():
        return _size(str(path))


def read_sizes(files: FileList) -> Iterator[tuple[int, int] | None]:
    """`image_size` of each file in order. Nothing is decoded, however large."""

    def sizes(_begin: int, names: list[str], stopped: Event) -> list[tuple[int, int] | None]:
        return [None if stopped.is_set() else _size(os.path.join(files.root, name)) for name in names]  # noqa: PTH118

    with without_pixel_limit():
        for chunk in _in_threads(files, sizes):
            yield from chunk


def _in_threads(files: FileList, work: Callable[[int, list[str], Event], Result]) -> Iterator[Result]:
    """The results of chunks of neighbouring files, in order, computed in threads.

    work: takes the index of the first file, the names, and an event that is set when no more results are wanted.
    """
    chunks = ((begin, list(files[begin : begin + _CHUNK].names())) for begin in range(0, len(files), _CHUNK))
    stopped = Event()
    results = prefetch(lambda chunk: work(*chunk, stopped), chunks, num_threads=_THREADS, max_items=2 * _THREADS)
    try:
        for _, future in results:
            yield future.result()
    finally:
        stopped.set()
        results.close()


def _size(path: str) -> tuple[int, int] | None:
    with suppress(Exception):  # decoders raise errors of many kinds
        with suppress(*NO_FILE):
            if (size := _file_size(path)) is not None:
                return size
        with local_file(Path(path)) as (file, page):
            if page is None:
                return _file_size(str(file))
            pages = file_format_of(file).pages
            header = None if pages is None else pages.probe(file, page)
            return None if header is None else (header.height, header.width)
    return None


def _file_size(path: str) -> tuple[int, int] | None:
    file_format = file_format_of(path)
    if file_format.shortcuts.size is not None:
        return file_format.shortcuts.size(path)
    header = file_format.probe(Path(path))
    return None if header is None else (header.height, header.width)


def _is_image_type(name: str) -> bool:
    with suppress(TypeError, ValueError, SyntaxError):
        return np.dtype(name).kind in "uifb" and np.dtype(name).name == name
    return False


class Kind(NamedTuple):
    """Numpy type and channels of a file, and whether the last of these is transparency; as in `Header`."""

    dtype: str
    channels: int | None
    has_alpha: bool = False

    def describe(self) -> str:
        """In words, such as `4 channels of uint16`."""
        if self.channels is None:
            return "an 8-bit picture, which gives 1, 3 or 4 channels"
        alpha = ", the last of them transparency" if self.has_alpha else ""
        return f"{counted(self.channels, 'channel')} of {self.dtype}{alpha}"

    def channels_advice(self, wanted: int, domain: str | None = None) -> str:
        """What to do about a file if the model takes `wanted` channels. domain: `a` or `b`, which names the flags."""
        channels, bands = (f"--{what}-{domain}" if domain else f"--{what}-a or --{what}-b" for what in _FLAGS)
        number, choice = "1, 3 or 4" if self.channels is None else str(self.channels - self.has_alpha), ""
        if self.channels is not None and wanted < int(number):
            choice = f" to train on all, {bands} {','.join(map(str, range(1, wanted + 1)))} to choose some"
        return advise(f"Pass {channels} {number}{choice}, or convert the files.", "Convert the files.")


@dataclass
class HeaderIndex:
    """Headers of files, found again by name below the folder, size and modification time."""

    keys: NDArray[np.uint64]  # (N,), sorted: hashes that identify the files
    sizes: NDArray[np.int32]  # (N, 2): height, width
    kinds: NDArray[np.int16]  # (N,): indices into `table`
    table: list[Kind]
    changed: bool = False

    @classmethod
    def empty(cls) -> "HeaderIndex":
        return cls(np.zeros(0, np.uint64), np.zeros((0, 2), np.int32), np.zeros(0, np.int16), [])

    @classmethod
    def load(cls, path: Path) -> "HeaderIndex":
        """What `save` wrote; empty if the file is missing or damaged."""
        try:
            found: dict[str, Any] = read_stored_arrays(path)
            dtypes, channels = map(str, found["dtypes"].tolist()), found["channels"].tolist()
            table = [
                Kind(dtype, None if count < 0 else int(count), bool(alpha))
                for dtype, count, alpha in zip(dtypes, channels, found["alpha"].tolist(), strict=True)
            ]
            index = cls(found["keys"], found["sizes"], found["kinds"], table)
        except (UnreadableError, KeyError, ValueError, TypeError):
            return cls.empty()
        return index if index._is_consistent() else cls.empty()

    def _is_consistent(self) -> bool:
        """Whether these arrays can be what `save` wrote."""
        count, kinds = len(self.keys), self.kinds
        shapes = (self.keys.shape, self.sizes.shape, kinds.shape) == ((count,), (count, 2), (count,))
        types = (self.keys.dtype, self.sizes.dtype, kinds.dtype) == tuple(
            map(np.dtype, (np.uint64, np.int32, np.int16))
        )
        return (
            shapes
            and types
            and bool((self.keys[:-1] < self.keys[1:]).all() and (self.sizes > 0).all())
            and bool((kinds >= 0).all() and (kinds < len(self.table)).all())
            and all(_is_image_type(kind.dtype) and kind.channels != 0 for kind in self.table)
        )

    def save(self, path: Path) -> None:
        """Write the index of a large folder, unless the file has it already (`--fresh` moves the file away).

        Raises InputError if there is something else under its name.
        """
        if (not self.changed and path.exists()) or len(self.keys) < MIN_INDEXED:
            return
        if os.path.lexists(path) and not _is_index(path):
            raise InputError(
                f"{path} is {describe_kind(path)} that this program did not write, and expected there is its index of "
                "image sizes, or nothing; move it away."
            )
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                keys=self.keys,
                sizes=self.sizes,
                kinds=self.kinds,
                dtypes=np.array([kind.dtype for kind in self.table]),
                channels=np.array([-1 if kind.channels is None else kind.channels for kind in self.table]),
                alpha=np.array([kind.has_alpha for kind in self.table], bool),
            )
        self.changed = False

    def replace(self, found: "list[Headers]") -> None:
        """Replace all headers of the index by these."""
        keys, sizes, kinds = (
            np.concatenate([getattr(chunk, name) for chunk in found]) for name in ("keys", "sizes", "kinds")
        )
        is_good = (kinds >= 0) & (keys != 0)
        keys, first = np.unique(keys[is_good], return_index=True)
        self.changed |= not np.array_equal(keys, self.keys)
        self.keys, self.sizes, self.kinds = keys, sizes[is_good][first], kinds[is_good][first]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The index of each key, -1 for an unknown one."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)


@dataclass(frozen=True)
class Headers:
    """Headers of neighbouring files of a list, from index `begin` on. unreadable: index in the list -> reason.

    refused: the same for files that must be read in another way, such as one page of several; they have no header
    either. keys: hashes of name, size and time of change. num_bytes: sizes of the files.
    """

    begin: int
    keys: NDArray[np.uint64]
    num_bytes: NDArray[np.int64]
    sizes: NDArray[np.int32]  # (N, 2): height, width; 0 for an unreadable file
    kinds: NDArray[np.int16]  # indices into the table of the header index; -1 for an unreadable file
    unreadable: dict[int, str]
    refused: dict[int, str]


def read_headers(files: FileList, index: HeaderIndex, *, page: int | None = None) -> Iterator[Headers]:
    """The headers of all files, in chunks and in order. Files in the index are not read.

    page: of files with several. New kinds are added to the index's table. Raises InputError if a package is missing.
    """
    root = os.path.join(files.root, "")  # noqa: PTH118
    table_lock = Lock()
    header_of = read_header if page is None else partial(read_header, page=page)

    def kind_of(header: Header) -> int:
        kind = Kind(header.dtype, header.channels, header.has_alpha)
        with table_lock:
            if kind not in index.table:
                index.table.append(kind)
            return index.table.index(kind)

    def headers_of(begin: int, names: list[str], stopped: Event) -> Headers:
        keys, num_bytes = np.zeros(len(names), np.uint64), np.zeros(len(names), np.int64)
        for i, name in enumerate(names):
            keys[i], num_bytes[i] = _key(root, name, page)
        places = index.find(keys)
        sizes, kinds = np.zeros((len(names), 2), np.int32), np.full(len(names), -1, np.int16)
        known = places >= 0
        sizes[known], kinds[known] = index.sizes[places[known]], index.kinds[places[known]]
        unreadable: dict[int, str] = {}
        refused: dict[int, str] = {}
        for i in np.flatnonzero(~known).tolist():
            if stopped.is_set():
                break
            try:
                header = header_of(root + names[i])
            except MissingPackageError:
                raise
            except UnreadableError as error:
                unreadable[begin + i] = str(error)
                continue
            except InputError as error:
                refused[begin + i] = str(error).removeprefix(f"{root}{names[i]} ")
                continue
            sizes[i], kinds[i] = (header.height, header.width), kind_of(header)
        return Headers(begin, keys, num_bytes, sizes, kinds, unreadable, refused)

    return _in_threads(files, headers_of)


def _is_index(path: Path) -> bool:
    """Whether this can be a file that `HeaderIndex.save` wrote, damaged or not: they begin as a zip does."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"")


def _key(root: str, name: str, page: int | None = None) -> tuple[int, int]:
    """A hash that identifies a file, and its size; 0 for one that is gone, which is never in an index."""
    try:
        num_bytes, changed = stat_file(root + name)
    except (OSError, UnreadableError):
        return 0, 0
    text = f"{num_bytes}/{changed}/{name}" if page is None else f"{num_bytes}/{changed}/{name}/{page}"
    key = int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "little") or 1
    return key, num_bytes
