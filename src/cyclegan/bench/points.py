"""The points of a benchmark, their results, and which of them fit into time and memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

# Share of the available memory that a point may take; the rest is for everything else on the machine.
MEMORY_SHARE = 0.9

# A point is timed for about so many seconds, and with at least so many calls if they are short.
TIMED_SECONDS = 2.0
_FEWEST_CALLS = 3


@dataclass(frozen=True)
class Point:
    """One training step or translation.

    work: train or translate. side: of training `plain` or `ours`; of translation `plain`, an engine, or the folder of
    an export. size: pixels of a square image. batch_size: images (of each domain).
    """

    work: str
    side: str
    precision: str
    size: int = 0
    batch_size: int = 0
    checkpointed: bool = False

    @property
    def way(self) -> "Point":
        """The point without its size and batch: all points of one curve have the same."""
        return replace(self, size=0, batch_size=0)

    @property
    def place(self) -> tuple[int, int]:
        """Size and batch."""
        return self.size, self.batch_size

    @property
    def pixels(self) -> int:
        return self.size**2 * self.batch_size

    def __str__(self) -> str:
        work = "training step" if self.work == "train" else "translation"
        how = ", checkpointed" if self.checkpointed else ""
        return f"{work}, {self.side} {self.precision}{how}, {self.size} px, batch {self.batch_size}"


@dataclass(frozen=True)
class Measured:
    """The result of a point. `point.precision` is the one it was computed in, also where `auto` was asked for.

    seconds: of a step or of the translation of a batch, the median of `num_calls`, which are 0 where `auto` chose a
    precision that is measured already. bytes: peak above that of the process before it began (of GPU memory on a GPU).
    start_seconds: from the start of the process to the first result of a translation, or to a step that can begin.
    decibels: of a test picture to float32, 200 if equal, None if there is nothing to compare with. reason: why `auto`
    chose this precision.
    """

    point: Point
    seconds: float = 0.0
    bytes: int = 0
    num_calls: int = 0
    start_seconds: float = 0.0
    wall_seconds: float = 0.0
    decibels: float | None = None
    reason: str = ""

    @property
    def images_per_second(self) -> float:
        """Of one domain."""
        return self.point.batch_size / self.seconds


@dataclass(frozen=True)
class Missing:
    """A point that was not measured, and why. kind: not enough time, not enough memory, or tried and failed."""

    point: Point
    why: str
    kind: Literal["time", "memory", "failed"]


def cross(sizes: Sequence[int], batch_sizes: Sequence[int], size: int, batch_size: int) -> list[tuple[int, int]]:
    """(size, batch) of the two curves, the base first: every size with one batch, and every batch with one size."""
    pairs = [(size, batch_size), *((s, batch_size) for s in sizes), *((size, b) for b in batch_sizes)]
    return list(dict.fromkeys(pairs))


def num_calls(seconds: float) -> int:
    """Timed calls of a point whose call takes so long; a single one where it is long, and little affected by noise."""
    if seconds > TIMED_SECONDS:
        return 1
    return max(_FEWEST_CALLS, min(round(TIMED_SECONDS / max(seconds, 1e-6)), 50))


def in_order(points: Sequence[Point], base: tuple[int, int]) -> list[Point]:
    """The base first, because everything is compared there, then by pixels; all ways of a place together."""
    return sorted(points, key=lambda p: (p.place != base, p.pixels, p.place))


def expect(point: Point, known: Sequence[Measured], fixed_bytes: Mapping[str, int]) -> tuple[float, int]:
    """Seconds and bytes of a point, in proportion to pixels from the nearest measured point of its way, or of its work.

    The seconds are those of the whole process, which starts, calls a few times and stops. fixed_bytes: by work, memory
    that does not grow with images. `known` holds a point of the same work.
    """
    same = [m for m in known if m.point.way == point.way] or [m for m in known if m.point.work == point.work]
    near = min(same, key=lambda m: abs(math.log(m.point.pixels / point.pixels)))
    growth = point.pixels / near.point.pixels
    start = max(near.wall_seconds - (near.num_calls + 1) * near.seconds, 0)
    seconds = near.seconds * growth
    fixed = fixed_bytes[point.work]
    return start + (num_calls(seconds) + 1) * seconds, round(fixed + max(near.bytes - fixed, 0) * growth)


def find_lack(
    point: Point, expected: tuple[float, int], seconds_left: float, available_bytes: int | None
) -> Missing | None:
    """What a point with this expectation lacks, memory or time; None if it fits."""
    seconds, needed = expected
    if available_bytes is not None and needed > available_bytes * MEMORY_SHARE:
        why = f"it needs about {needed / 2**30:.1f} GiB, and {available_bytes / 2**30:.1f} GiB are available"
        return Missing(point, why, "memory")
    if seconds > seconds_left:
        why = f"it takes about {max(seconds, 1):.0f} s, and {max(seconds_left, 0):.0f} s of --minutes are left"
        return Missing(point, why, "time")
    return None
