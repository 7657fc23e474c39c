"""bench.png: seconds and memory against image size and against batch."""

import io
from collections.abc import Sequence
from typing import Any

from cyclegan.benchmark.measuring import Benchmark
from cyclegan.benchmark.points import Measured, Point
from cyclegan.benchmark.view import side_name

# Readable on white, and told apart by most people who see few colours; the names beside the lines say it anyway.
_COLOURS = ("#2f86c9", "#dd6b2f", "#2f9e62", "#a266c9", "#b58f1f", "#cc4f80", "#5c939e", "#8c7b6b")
_DPI = 120

# Between the names beside lines, in pixels.
_APART = 17


def draw(done: Benchmark) -> bytes:
    """A PNG of two rows, seconds and memory, for each work that was measured."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    works = [work for work in ("train", "translate") if any(m.point.work == work for m in done.measured)]
    with matplotlib.rc_context({"font.size": 9.5, "text.parse_math": False}):
        figure = Figure(figsize=(11, 0.9 + 5.6 * len(works)), dpi=_DPI, layout="constrained")
        machine = done.machine["gpu"] or f"{done.machine['cpu']}, {done.machine['threads']} threads"
        figure.suptitle(f"{done.subject.name} on {machine}", fontsize=12)
        grid: Any = figure.subplots(2 * len(works), 2, squeeze=False)
        for number, work in enumerate(works):
            points = [m for m in done.measured if m.point.work == work]
            for row, quantity in enumerate(("seconds", "memory")):
                for column, axis in enumerate(("size", "batch")):
                    _panel(grid[2 * number + row][column], done, points, work, quantity, axis)
        buffer = io.BytesIO()
        figure.canvas.draw()  # what lies where is known only now, and names must not lie on one another
        for axes in grid.ravel():
            _part(axes)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Any, done: Benchmark, points: Sequence[Measured], work: str, quantity: str, axis: str) -> None:
    size, batch = done.base
    what = "Training step" if work == "train" else "Translation"
    unit = "seconds a step" if work == "train" else "seconds a batch"
    fixed = f"batch {batch}" if axis == "size" else f"{size} px"
    axes.set_title(f"{what}: {'time' if quantity == 'seconds' else 'memory'}, {fixed}", fontsize=10.5, loc="left")
    axes.set_xlabel("side of a square image, pixels" if axis == "size" else "batch, images")
    axes.set_ylabel(unit if quantity == "seconds" else "peak memory, MiB")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", which="both", color="black", alpha=0.1, linewidth=0.6)

    ways = list(dict.fromkeys(m.point.way for m in points))
    places = set()
    for way in ways:
        of = [m for m in points if m.point.way == way]
        of = [m for m in of if (m.point.batch_size == batch if axis == "size" else m.point.size == size)]
        of.sort(key=lambda m: m.point.pixels)
        if not of:
            continue
        x = [m.point.size if axis == "size" else m.point.batch_size for m in of]
        y = [m.seconds if quantity == "seconds" else max(m.bytes / 2**20, 0.1) for m in of]
        colour = _COLOURS[ways.index(way) % len(_COLOURS)]
        axes.plot(x, y, color=colour, marker="o", markersize=4, linewidth=1.6)
        axes.annotate(
            _name(way, done),
            (x[-1], y[-1]),
            (7, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )
        places |= set(x)
    _scale(axes, sorted(places))


def _scale(axes: Any, places: Sequence[int]) -> None:
    """Ticks where something was measured, in plain numbers, and room for the names at the right."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    if not places:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", va="center", alpha=0.6)
        axes.set(xticks=[], yticks=[])
        return
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    span = max(places[-1] / places[0], 2)
    axes.set_xlim(places[0] / span**0.08, places[-1] * span**0.45)
    low, high = axes.get_ylim()
    if high / low < 12:  # less than a decade would have one number beside it, or none
        middle = (low * high) ** 0.5
        axes.set_ylim(min(low, middle / 2.2), max(high, middle * 2.2))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _part(axes: Any) -> None:
    """Move names apart that would lie on one another, upwards and downwards from their middle."""
    names = [name for name in axes.texts if hasattr(name, "xyann")]
    names.sort(key=lambda name: axes.transData.transform(name.xy)[1])
    wanted = [float(axes.transData.transform(name.xy)[1]) for name in names]
    places = list(wanted)
    for _ in range(200):
        for i in range(len(places) - 1):
            lacking = _APART - (places[i + 1] - places[i])
            if lacking > 0:
                places[i] -= lacking / 2
                places[i + 1] += lacking / 2
    for name, before, after in zip(names, wanted, places, strict=True):
        name.xyann = (7, (after - before) * 72 / _DPI)


def _name(way: Point, done: Benchmark) -> str:
    if way.work == "train" and way.side == "ours":
        return f"cyclegan {way.precision}{', checkpointed' if way.checkpointed else ''}"
    return f"{side_name(way, done)} {way.precision}"
