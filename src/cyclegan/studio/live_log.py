"""Follow the log of a run while it grows: only new lines are read, and a curve has few points of many lines."""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclegan.report.record import Event, RunRecord
from cyclegan.storage.run import follow_log

# Points of a curve: at most this many, at least half of it. No screen shows more.
MAX_POINTS = 2000

# Bytes at the end of a log that surely hold a line of losses, and mostly all that ended the run.
_TAIL = 2**14


@dataclass
class Curves:
    """Curves over the steps. Each point is the mean of `stride` lines, which doubles whenever there are too many.

    columns: values by name, NaN where lines have none.
    """

    stride: int = 1
    steps: list[int] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    _pending: list[Event] = field(default_factory=list)

    def add(self, line: Event) -> None:
        """Add a line of losses."""
        self._pending.append(line)
        if len(self._pending) < self.stride:
            return
        for name in self._pending[-1]:
            if name not in self.columns and name not in ("step", "epoch"):
                self.columns[name] = [math.nan] * len(self.steps)
        self.steps.append(self._pending[-1]["step"])
        for name, column in self.columns.items():
            column.append(_mean([line[name] for line in self._pending if line.get(name) is not None]))
        self._pending.clear()
        if len(self.steps) >= MAX_POINTS:
            self._halve()

    def _halve(self) -> None:
        self.stride *= 2
        self.steps = self.steps[1::2]
        for name, column in self.columns.items():
            self.columns[name] = [_mean(list(pair)) for pair in zip(column[::2], column[1::2], strict=True)]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


@dataclass
class LiveLog:
    """The log of one run.

    version: changes when what was read before no longer holds, as after a resumed run has dropped lines. num_read:
    lines that were read in all, to see that none is read twice.
    """

    path: Path
    version: int = 0
    num_read: int = 0
    num_damaged: int = 0
    curves: Curves = field(default_factory=Curves)
    _events: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    # The last line of losses, and the last one before the newest session.
    _last: Event | None = None
    _before: Event | None = None
    _file: int | None = None
    _offset: int = 0

    def update(self) -> None:
        """Read what is new."""
        with suppress(OSError):
            about = self.path.stat()
            if about.st_ino != self._file or about.st_size < self._offset:
                self._begin(about.st_ino)
            if about.st_size > self._offset:
                self._read()

    def _begin(self, file: int) -> None:
        self.version, self.num_damaged, self._file, self._offset = self.version + 1, 0, file, 0
        self.curves, self._last, self._before = Curves(), None, None
        self._events.clear()

    def _read(self) -> None:
        for line, end in follow_log(self.path, self._offset):
            self._offset = end
            self.num_read += 1
            if line is None:
                self.num_damaged += 1
            elif (kind := line.get("event")) is None:
                self._last = line
                self.curves.add(line)
            else:
                if kind == "session":
                    self._before = self._last
                self._events[str(kind)].append(line)

    @property
    def record(self) -> RunRecord:
        """The record of the run, with only those losses that tell its step, pace and time left."""
        return _record(self._events, [line for line in (self._before, self._last) if line is not None])


def _record(events: dict[str, list[Event]], losses: list[Event]) -> RunRecord:
    found = defaultdict(list, events)
    return RunRecord(
        losses=losses,
        sessions=found["session"],
        validation=next(reversed(found["validation"]), None),
        scores=found["scores"],
        warnings=found["warning"],
        unreadable=found["unreadable"],
        not_finite=found["not finite"],
    )


def read_end(path: Path) -> RunRecord:
    """The record of the last lines of a log, for a list of many runs: its step and time, and how it ended."""
    events: dict[str, list[Event]] = defaultdict(list)
    losses: list[Event] = []
    for line in _last_lines(path):
        (losses if line.get("event") is None else events[str(line["event"])]).append(line)
    return _record(events, losses[-1:])


def _last_lines(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        start = max(0, path.stat().st_size - _TAIL)
        # The first line is cut unless it is the first of the file, and is then damaged.
        yield from (line for line, _ in follow_log(path, start) if line is not None)
