"""The list of what was done with each file, as Parquet files in a hidden folder beside the results."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError
from cyclegan.images.file_list import FileList
from cyclegan.system.atomic import locked, write_bytes

# Readers of Parquet leave out names that begin with a dot.
NAME, LOCK = ".manifest", ".lock"

# A part is written after so many rows or seconds: what is lost by a kill is done again, and parts stay few.
_MOST_ROWS, _MOST_SECONDS = 100_000, 15.0

_KEY = b"cyclegan"


class Manifest:
    """Writes parts to a folder, and reads those of earlier calls.

    Columns: source and target, paths; state: done, existing (a result was there, which was left out) or failed; reason:
    of a failure; worker: machine and process that did it. A file has one row.
    key: what results depend on. Parts with another key describe other results and are removed by `read`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key
        self._tables: list[Any] = []
        self._num_rows, self._began, self._number = 0, time.monotonic(), 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that two commands do not write the same results. Raises InputError."""
        with locked(self.folder / LOCK, f"Another command writes to {self.folder.parent}; wait for its end."):
            yield

    def read(self, existing: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Numbers of the targets that are done and still there, see `number_names`.

        Other rows are removed, also those of failures: these files are tried again. existing: gives the numbers of all
        files below the folder of the results. Raises InputError for a damaged part.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        found = [np.zeros(0, np.int64)]
        paths = sorted(self.folder.glob("part-*.parquet"))
        there = existing() if paths else found[0]
        for path in paths:
            try:
                table = pq.ParquetFile(path).read()
                is_current = (table.schema.metadata or {}).get(_KEY) == self._key.encode()
                good = table.filter(pc.not_equal(table["state"], "failed")) if is_current else table[:0]
            except (pa.ArrowException, KeyError, OSError) as error:
                raise InputError(f"{path} is damaged ({error}); remove it, and what it lists is done again.") from None
            numbers = number_names(good["target"].to_pylist())
            is_there = np.isin(numbers, there)
            good, numbers = good.filter(pa.array(is_there)), numbers[is_there]
            if not len(good):
                path.unlink()
                continue
            if len(good) < len(table):
                self._write(path, good)
            self._number = int(path.stem.removeprefix("part-")) + 1
            found.append(numbers)
        return np.concatenate(found)

    def add(self, table: Any) -> None:
        """Add rows; every so often they are written."""
        self._tables.append(table)
        self._num_rows += len(table)
        if self._num_rows >= _MOST_ROWS or time.monotonic() - self._began >= _MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow as pa

        if self._num_rows:
            table = pa.concat_tables(self._tables).combine_chunks()
            self._write(self.folder / f"part-{self._number:06d}.parquet", table)
            self._number += 1
        self._tables, self._num_rows, self._began = [], 0, time.monotonic()

    def _write(self, path: Path, table: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({_KEY: self._key.encode()}), buffer, compression="zstd")
        write_bytes(path, memoryview(buffer.getvalue()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()


def text_of(name: str) -> str:
    """A name as the manifest has it: text, also where a file system has other bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def number_names(names: Any) -> NDArray[np.int64]:
    """A number for each name, the same in this process, to find names among millions in 8 bytes each.

    Of ten million names two have the same number with a probability of 3e-6.
    """
    return np.fromiter(map(hash, names), np.int64)


def existing_files(out: Path) -> NDArray[np.int64]:
    """Numbers of all files below a folder, by their whole paths as the manifest has them."""
    numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for folder, folders, files in os.walk(out):
        folders[:] = [name for name in folders if name != NAME]
        numbers.append(number_names([text_of(os.path.join(folder, name)) for name in (*files, *folders)]))  # noqa: PTH118
    return np.concatenate(numbers)


def numbers_of(files: FileList) -> NDArray[np.int64]:
    """Numbers of the paths of a list, as the manifest has them."""
    root = f"{files.root}{os.sep}" if files.root != Path() else ""
    return number_names(text_of(root + name) for name in files.names())
