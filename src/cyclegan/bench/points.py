"""What is measured: points, what comes of each, and in which order they fit into the time and memory there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

# Before anything of a kind was measured: a guess beside our float32 training step of the same size and batch, in time
# and in memory. The first measured point of a kind takes its place.
_GUESSES = {"train plain": (1.5, 1.5), "train ours": (1.0, 1.0), "train checkpointed": (1.4, 0.6)}
_TRANSLATION_GUESS = (0.06, 0.2)

# Of what a machine has left: the rest is for everything else on it.
MEMORY_SHARE = 0.9

# Calls of one point, first one included, before it is believed.
_FEWEST_CALLS = 3
TIMED_SECONDS = 2.0


@dataclass(frozen=True)
class Point:
    """One training step or translation.

    work: train or translate. side: of training `plain` or `ours`; of translation `plain`, an engine, or the folder of
    an export. size: pixels of a square image. batch_size: images (of each domain).
    """

    work: str
    side: str
    precision: str
    size: int
    batch_size: int
    checkpointed: bool = False

    @property
    def way(self) -> "Point":
        """The same at no size: what a curve belongs to."""
        return replace(self, size=0, batch_size=0)

    @property
    def pixels(self) -> int:
        return self.size**2 * self.batch_size

    def __str__(self) -> str:
        work = "training step" if self.work == "train" else "translation"
        how = ", checkpointed" if self.checkpointed else ""
        return f"{work}, {self.side} {self.precision}{how}, {self.size} px, batch {self.batch_size}"


@dataclass(frozen=True)
class Measured:
    """What a point took. `point.precision` is what it was computed in, also where `auto` was asked for.

    seconds: of a step or of the translation of a batch, the median of `num_calls`. bytes: peak above that of the
    process before it began (of GPU memory on a GPU). start_seconds: from the start of the process to the first result
    of a translation, or to a step that can begin. decibels: of a test picture to float32, 200 if equal, None if there
    is nothing to compare. reason: why `auto` took it.
    """

    point: Point
    seconds: float
    bytes: int
    num_calls: int
    start_seconds: float
    wall_seconds: float
    decibels: float | None = None
    reason: str = ""

    @property
    def images_per_second(self) -> float:
        """Of one domain."""
        return self.point.batch_size / self.seconds


@dataclass(frozen=True)
class Missing:
    """A point that was not measured, and why. kind: time or memory, for want of it; failed, where it was tried."""

    point: Point
    why: str
    kind: Literal["time", "memory", "failed"]


def cross(sizes: Sequence[int], batch_sizes: Sequence[int], size: int, batch_size: int) -> list[tuple[int, int]]:
    """(size, batch) of the two curves: every size with one batch, and every batch with one size. The base is first."""
    pairs = [(size, batch_size), *((s, batch_size) for s in sizes), *((size, b) for b in batch_sizes)]
    return list(dict.fromkeys(pairs))


@dataclass
class Predictor:
    """Seconds and bytes of points that were not measured yet, in proportion to pixels from the nearest that was.

    fixed_bytes: by work, what does not grow with images: weights, gradients, moments.
    """

    fixed_bytes: dict[str, int]
    known: list[Measured] = field(default_factory=list)

    def seconds(self, point: Point) -> float:
        """Of one call."""
        base, (factor, _) = self._base(point)
        return base.seconds * point.pixels / base.point.pixels * factor

    def wall_seconds(self, point: Point) -> float:
        """Of the whole process, which starts, calls a few times and stops."""
        base, _ = self._base(point)
        start = max(base.wall_seconds - (base.num_calls + 1) * base.seconds, 0)
        return start + num_calls(self.seconds(point)) * self.seconds(point) + self.seconds(point)

    def bytes(self, point: Point) -> int:
        base, (_, factor) = self._base(point)
        fixed = self.fixed_bytes[point.work]
        images = max(base.bytes - self.fixed_bytes[base.point.work], 0)
        return round(fixed + images * factor * point.pixels / base.point.pixels)

    def _base(self, point: Point) -> tuple[Measured, tuple[float, float]]:
        """The nearest measured point of the same kind, or else of any, and the guessed factors between the two."""
        same = [m for m in self.known if m.point.way == point.way]
        near = same or [m for m in self.known if m.point.work == point.work] or self.known
        # Not the smallest: there a call costs as much as its pixels.
        base = max(near, key=lambda m: (-abs(m.point.pixels.bit_length() - point.pixels.bit_length()), m.point.pixels))
        if same:
            return base, (1.0, 1.0)
        mine, its = _guess(point), _guess(base.point)
        return base, (mine[0] / its[0], mine[1] / its[1])


def _guess(point: Point) -> tuple[float, float]:
    if point.work == "translate":
        return _TRANSLATION_GUESS
    return _GUESSES["train checkpointed" if point.checkpointed else f"train {point.side}"]


def num_calls(seconds: float) -> int:
    """Timed calls of a point whose call takes so long: one alone where it is long, and then not noise either."""
    if seconds > TIMED_SECONDS:
        return 1
    return max(_FEWEST_CALLS, min(round(TIMED_SECONDS / max(seconds, 1e-6)), 50))


def in_order(points: Sequence[Point], base: tuple[int, int], predictor: Predictor) -> Iterator[Point]:
    """Training and translation in turn: the base first, as given, because everything is compared there; then what is
    cheapest by what is known at that moment."""
    waiting, last = list(points), ""
    while waiting:
        at_base = [point for point in waiting if (point.size, point.batch_size) == base]
        found = at_base or waiting
        found = [point for point in found if point.work != last] or found
        point = found[0] if at_base else min(found, key=predictor.wall_seconds)
        waiting.remove(point)
        last = point.work
        yield point


def find_lack(point: Point, predictor: Predictor, seconds_left: float, available: int | None) -> Missing | None:
    """What a point lacks, memory in bytes or time; None if it fits."""
    needed, wall = predictor.bytes(point), predictor.wall_seconds(point)
    if available is not None and needed > available * MEMORY_SHARE:
        why = f"it needs about {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are available"
        return Missing(point, why, "memory")
    if wall > seconds_left:
        why = f"it takes about {max(wall, 1):.0f} s, and {max(seconds_left, 0):.0f} s of --minutes are left"
        return Missing(point, why, "time")
    return None
