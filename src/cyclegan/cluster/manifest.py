"""The list of what was done with each file, as Parquet files in a hidden folder beside the results."""

import io
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cyclegan.cluster.places import Place, number_names, number_pairs
from cyclegan.errors import InputError

# A part is written after so many rows or seconds: what is lost by a kill is done again, and parts stay few.
_MOST_ROWS, _MOST_SECONDS = 20_000, 15.0

_KEY = b"cyclegan"


class Manifest:
    """Writes parts beside results, and reads those of earlier calls.

    Columns: source and target, paths or addresses; state: done, existing (a result was there, which was left out) or
    failed; reason: of a failure; worker: machine and process that did it. A file has one row.
    key: what results depend on. Parts with another key describe other results and are removed by `read`.
    """

    def __init__(self, place: Place, key: str) -> None:
        self._place, self._key = place, key
        self._tables: list[Any] = []
        self._num_rows, self._began, self._number = 0, time.monotonic(), 0

    def read(self, targets: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the pairs of source and target that are done and still there, see `number_pairs`.

        targets, pairs: numbers of all targets that are asked for, and of their pairs. Rows of such a target and another
        source are removed, because its file is about to be replaced; so are those of failures, whose files are tried
        again. Raises InputError for a damaged part.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        found, parts = [np.zeros(0, np.int64)], self._place.parts()
        there = self._place.existing() if parts else found[0]
        for part in parts:
            try:
                table = pq.ParquetFile(io.BytesIO(self._place.read(part))).read()
                is_current = (table.schema.metadata or {}).get(_KEY) == self._key.encode()
                good = table.filter(pc.not_equal(table["state"], "failed")) if is_current else table[:0]
                numbers = number_names(good["target"].to_pylist())
                own = number_pairs(good["source"].to_pylist(), good["target"].to_pylist())
                number = int(part.removeprefix("part-").partition(".")[0])
            except (pa.ArrowException, KeyError, OSError, ValueError) as error:
                raise InputError(
                    f"{self._place.name}/{part} is damaged ({error}); remove it, and what it lists is done again."
                ) from None
            is_there = np.isin(numbers, there) & (~np.isin(numbers, targets) | np.isin(own, pairs))
            good, own = good.filter(pa.array(is_there)), own[is_there]
            if not len(good):
                self._place.remove(part)
                continue
            if len(good) < len(table):
                self._write(part, good)
            self._number = number + 1
            found.append(own)
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
            self._write(f"part-{self._number:06d}.parquet", pa.concat_tables(self._tables).combine_chunks())
            self._number += 1
        self._tables, self._num_rows, self._began = [], 0, time.monotonic()

    def _write(self, part: str, table: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({_KEY: self._key.encode()}), buffer, compression="zstd")
        self._place.write(part, memoryview(buffer.getvalue()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()
