"""Curves over training steps or another axis, as SVG inside a page. Equal data give equal bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Readable on white and on black, also for most colour-blind people.
COLOURS = ("#2f86c9", "#dd6b2f", "#2f9e62", "#a266c9", "#b58f1f", "#cc4f80", "#5c939e", "#8c7b6b")
# Placeholder for the text colour of the page, which only the browser knows.
_INK = "#010203"
_MAX_POINTS = 500


@dataclass(frozen=True)
class Series:
    """One curve. low, high: its 95 % interval at each point. smooth: draw a running mean over the points.

    reference: values of a dashed curve of the same colour.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    smooth: bool = False
    reference: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over steps. lines: horizontal references by name; marks: highlighted steps by name.

    log: a logarithmic scale, if all values are above 0. axis: what the steps are; log_axis: on a logarithmic scale.
    """

    title: str
    series: Sequence[Series]
    lines: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, float] = field(default_factory=dict)
    log: bool = False
    axis: str = "step"
    log_axis: bool = False

    def colour(self, index: int) -> str:
        """The colour of the curve of this number."""
        return COLOURS[index % len(COLOURS)]

    def svg(self) -> str:
        """The drawing, in the text colour of the page."""
        return _svg(self)


def _svg(chart: Chart) -> str:
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # The salt makes names inside the picture a function of its content; the title keeps two charts of a page apart.
    salt = f"cyclegan {chart.title}"
    settings: dict[Any, Any] = {
        **{"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False, "font.size": 9},
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.4, 2.8))
        axes = figure.add_axes((0.11, 0.16, 0.87, 0.81))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
        axes.set_xlabel(chart.axis)
        if chart.log_axis:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({step for series in chart.series for step in series.steps}))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        values = [value for series in chart.series for value in series.values] + list(chart.lines.values())
        if chart.log and values and min(values) > 0:
            axes.set_yscale("log", nonpositive="clip")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

        for index, series in enumerate(chart.series):
            _draw(axes, series, chart.colour(index))
        style: dict[str, Any] = {"color": _INK, "alpha": 0.6, "linewidth": 1}
        text: dict[str, Any] = {"textcoords": "offset points", "ha": "right"}
        for name, value in chart.lines.items():
            axes.axhline(value, linestyle=(0, (4, 3)), **style)
            # The name of the lowest line goes below it, so that the names of two close lines do not overlap.
            below = len(chart.lines) > 1 and value == min(chart.lines.values())
            offset, side = (-2, "top") if below else (2, "bottom")
            axes.annotate(name, (1, value), (0, offset), xycoords=("axes fraction", "data"), va=side, **text)
        for name, step in chart.marks.items():
            axes.axvline(step, linestyle=(0, (1, 2)), **style)
            axes.annotate(name, (step, 1), (-3, -3), xycoords=("data", "axes fraction"), va="top", rotation=90, **text)
        buffer = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue().replace(_INK, "currentColor")
    svg = svg[svg.index("<svg") :]
    # Names of groups repeat from chart to chart, and nothing refers to them.
    return re.sub(r'<g id="[A-Za-z0-9.]+_\d+">', "<g>", svg)


def _draw(axes, series: Series, colour: str) -> None:  # type: ignore[no-untyped-def]
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    shown = thin(values)
    smooth = series.smooth and len(values) >= 20
    dot = "o" if len(values) <= 30 else ""
    weight = {"linewidth": 0.7, "alpha": 0.35} if smooth else {"linewidth": 1.4, "marker": dot, "markersize": 3}
    axes.plot(steps[shown], values[shown], color=colour, **weight)
    if smooth:
        mean = running_mean(values, max(5, len(values) // 25))
        few = thin(mean)
        axes.plot(steps[few], mean[few], color=colour, linewidth=1.6)
    if len(series.reference) > 0:
        reference = np.asarray(series.reference, float)[shown]
        axes.plot(steps[shown], reference, color=colour, linewidth=1, linestyle=(0, (4, 3)))
    if len(series.low) > 0:
        low, high = np.asarray(series.low, float)[shown], np.asarray(series.high, float)[shown]
        axes.fill_between(steps[shown], low, high, color=colour, alpha=0.2, linewidth=0)


def thin(values: NDArray[np.float64], count: int = _MAX_POINTS) -> NDArray[np.intp]:
    """Indices of at most `count` points, in order: the extremes of equal stretches, so that peaks stay."""
    if len(values) <= count:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), count // 2 - 1)
    extremes = [part[pick(values[part])] for part in stretches for pick in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, len(values) - 1])


def running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean of the `width` values around each one, of fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    first, last = np.maximum(centre - width // 2, 0), np.minimum(centre + width // 2 + 1, len(values))
    mean: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return mean
