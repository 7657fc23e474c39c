"""The folder of the results: on disks that all machines share, or at an address that fsspec knows."""

import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError, reason_of
from cyclegan.images.remote import address_of, is_address, name_of, open_address, places_beside, remote_errors
from cyclegan.system.atomic import check_writable, locked, remove_leftovers, write_bytes

# Readers of Parquet leave out names that begin with a dot.
MANIFEST, LOCK, _STOP = ".manifest", ".lock", ".stop"

# Files that are copied from or to an address at the same time.
_COPIES = 16


class Place(ABC):
    """A folder of results with a manifest.

    name: of the manifest, as messages show it. stop: a file that asks actors to stop; None at an address, where each
    look for it would be a request.
    """

    name: str
    stop: Path | None = None

    @abstractmethod
    def check_writable(self) -> None:
        """Raises InputError or OSError if no file can be written."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[object]:
        """Hold the place for this command, if its kind allows that. Raises InputError if another one does."""

    @abstractmethod
    def existing(self) -> NDArray[np.int64]:
        """Numbers of all files, by `path_of`, as `number_names` gives them."""

    @abstractmethod
    def path_of(self, name: str) -> str:
        """The whole path or address of a result."""

    @abstractmethod
    def parts(self) -> list[str]:
        """The names of the parts of the manifest, in order."""

    @abstractmethod
    def read(self, part: str) -> bytes: ...

    @abstractmethod
    def write(self, part: str, content: memoryview) -> None: ...

    @abstractmethod
    def remove(self, part: str) -> None: ...

    @abstractmethod
    def tidy(self) -> None:
        """Remove what lost processes have left, and the file `stop`."""


class SharedFolder(Place):
    """A folder that all machines see."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self._manifest = path, str(path / MANIFEST), path / MANIFEST
        self.stop = self._manifest / _STOP

    def check_writable(self) -> None:
        check_writable(self.path)

    def locked(self) -> AbstractContextManager[object]:
        return locked(self._manifest / LOCK, f"Another command writes to {self.path}; wait for its end.")

    def existing(self) -> NDArray[np.int64]:
        numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if name != MANIFEST]
            numbers.append(number_names(text_of(os.path.join(folder, name)) for name in (*files, *folders)))  # noqa: PTH118
        return np.concatenate(numbers)

    def path_of(self, name: str) -> str:
        return f"{self.path}{os.sep}{name}"

    def parts(self) -> list[str]:
        return sorted(path.name for path in self._manifest.glob("part-*.parquet"))

    def read(self, part: str) -> bytes:
        return (self._manifest / part).read_bytes()

    def write(self, part: str, content: memoryview) -> None:
        write_bytes(self._manifest / part, content)

    def remove(self, part: str) -> None:
        (self._manifest / part).unlink()

    def tidy(self) -> None:
        (self._manifest / _STOP).unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path):
            with suppress(OSError):
                remove_leftovers(Path(folder))


class RemoteFolder(Place):
    """A folder at an address. An object appears there whole, with one request."""

    def __init__(self, path: Path) -> None:
        self.address = address_of(path).rstrip("/")
        self.name = f"{self.address}/{MANIFEST}"
        with remote_errors(self.address):
            self._system, place = open_address(path, use_listings_cache=False)
        self._place = place.rstrip("/")

    def check_writable(self) -> None:
        test = f"{self._place}/{MANIFEST}/.test"
        try:
            self._system.pipe_file(test, b"test")
            self._system.rm_file(test)
        except Exception as error:  # each protocol has its own errors
            raise InputError(
                f"{self.address} cannot be written: {type(error).__name__}: {reason_of(error)}; check the rights of "
                "this account there."
            ) from None

    def locked(self) -> AbstractContextManager[object]:
        return nullcontext()

    def existing(self) -> NDArray[np.int64]:
        start = self._place + "/"
        return number_names(self.path_of(full.removeprefix(start)) for full in self._system.find(self._place))

    def path_of(self, name: str) -> str:
        return f"{self.address}/{name}"

    def parts(self) -> list[str]:
        try:
            found = self._system.ls(f"{self._place}/{MANIFEST}", detail=False)
        except FileNotFoundError:
            return []
        names = map(posixpath.basename, found)
        return sorted(name for name in names if name.startswith("part-") and name.endswith(".parquet"))

    def read(self, part: str) -> bytes:
        return bytes(self._system.cat_file(f"{self._place}/{MANIFEST}/{part}"))

    def write(self, part: str, content: memoryview) -> None:
        self._system.pipe_file(f"{self._place}/{MANIFEST}/{part}", bytes(content))

    def remove(self, part: str) -> None:
        self._system.rm_file(f"{self._place}/{MANIFEST}/{part}")

    def tidy(self) -> None:
        """Nothing: there are no half objects."""


def place_of(path: Path) -> Place:
    """The place of a folder. Raises InputError for an address that cannot be opened."""
    return RemoteFolder(path) if is_address(path) else SharedFolder(path)


def text_of(name: str) -> str:
    """A name as the manifest has it: text, also where a file system has other bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def number_names(names: Iterable[str]) -> NDArray[np.int64]:
    """A number for each name, the same in this process, to find names among millions in 8 bytes each.

    Of ten million names two have the same number with a probability of 3e-6.
    """
    return np.fromiter(map(hash, names), np.int64)


def number_pairs(sources: Iterable[str], targets: Iterable[str]) -> NDArray[np.int64]:
    """A number for each source and its target, as `number_names` gives them."""
    return number_names(f"{source}\0{target}" for source, target in zip(sources, targets, strict=True))


def fetch(sources: Sequence[str], folder: Path) -> Iterator[Path | Exception]:
    """Copy files at addresses into a folder of this machine, several at a time; yields their paths, or errors.

    Files that belong to them, such as masks, come with them. Those that are no addresses stay where they are.
    """

    def get(item: tuple[int, str]) -> Path | Exception:
        number, source = item
        if not is_address(source):
            return Path(source)
        target = folder / str(number) / Path(source).name
        target.parent.mkdir()
        try:
            system, place = open_address(source)
            system.get_file(place, str(target))
            for beside in places_beside(place):
                with suppress(FileNotFoundError):
                    system.get_file(beside, str(target.with_name(name_of(beside))))
        except Exception as error:  # each protocol has its own errors
            return error
        return target

    with ThreadPoolExecutor(_COPIES) as pool:
        yield from pool.map(get, enumerate(sources))


def send(pairs: Sequence[tuple[Path, str]]) -> Iterator[Exception | None]:
    """Copy files and folders of this machine to addresses, several at a time; yields an error or None for each."""
    if not pairs:
        return
    system, _ = open_address(pairs[0][1])

    def put(pair: tuple[Path, str]) -> Exception | None:
        try:
            system.put(str(pair[0]), pair[1], recursive=pair[0].is_dir())
        except Exception as error:  # each protocol has its own errors
            return error
        return None

    with ThreadPoolExecutor(_COPIES) as pool:
        yield from pool.map(put, pairs)
