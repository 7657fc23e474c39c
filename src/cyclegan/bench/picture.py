"""bench.png: seconds and memory against image size and against batch."""

import io
from collections.abc import Sequence
from typing import Any

from cyclegan.bench.measuring import Benchmark
from cyclegan.bench.points import Measured
from cyclegan.bench.view import count, way_name
from cyclegan.report.charts import COLOURS

# Marks distinguish the curves without colour.
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_DPI = 120


def draw(done: Benchmark) -> bytes:
    """A PNG of two rows, seconds and memory, for each work that was measured; one legend for both rows."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    works = [work for work in ("train", "translate") if any(m.point.work == work for m in done.measured)]
    with matplotlib.rc_context({"font.size": 9.5, "text.parse_math": False}):
        figure = Figure(figsize=(11, 0.5 + 6 * len(works)), dpi=_DPI, layout="constrained")
        machine = done.machine["gpu"] or f"{done.machine['cpu']}, {count(done.machine['threads'], 'thread')}"
        figure.suptitle(f"{done.subject.name} on {machine}", fontsize=12)
        parts: Any = figure.subfigures(len(works), 1, squeeze=False)
        for part, work in zip(parts.ravel(), works, strict=True):
            points = [m for m in done.measured if m.point.work == work]
            grid = part.subplots(2, 2)
            for row, quantity in enumerate(("seconds", "memory")):
                for column, axis in enumerate(("size", "batch")):
                    _panel(grid[row][column], done, points, work, quantity, axis)
            handles, names = grid[0][0].get_legend_handles_labels()
            part.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), frameon=False)
        buffer = io.BytesIO()
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
    axes.grid(axis="y", color="black", alpha=0.1, linewidth=0.6)

    places = set()
    for number, way in enumerate(dict.fromkeys(m.point.way for m in points)):
        of = [m for m in points if m.point.way == way]
        of = [m for m in of if (m.point.batch_size == batch if axis == "size" else m.point.size == size)]
        of.sort(key=lambda m: m.point.pixels)
        x = [m.point.size if axis == "size" else m.point.batch_size for m in of]
        y = [m.seconds if quantity == "seconds" else max(m.bytes / 2**20, 0.1) for m in of]
        style = {"color": COLOURS[number % len(COLOURS)], "marker": _MARKS[number % len(_MARKS)]}
        # A way without a point here is plotted empty, so that all panels share one legend.
        axes.plot(x, y, **style, markersize=5, linewidth=1.6, alpha=0.9, label=way_name(way, done))
        places |= set(x)
    _scale(axes, sorted(places))


def _scale(axes: Any, places: Sequence[int]) -> None:
    """Ticks where something was measured, and plain numbers on both axes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    if not places:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", va="center", alpha=0.6)
        axes.set(xticks=[], yticks=[])
        return
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.set_xlim(places[0] / 1.2, places[-1] * 1.2)
    low, high = axes.get_ylim()
    if high / low < 12:  # less than a decade would have one number beside it, or none
        middle = (low * high) ** 0.5
        low, high = min(low, middle / 3.5), max(high, middle * 3.5)
        axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    for ticks in (axes.xaxis, axes.yaxis):
        ticks.set_minor_locator(NullLocator())
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
