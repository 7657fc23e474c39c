"""The part of a page on known changes of the input: which of them the translations show."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from cyclegan.config import Direction
from cyclegan.report.charts import Chart, Series
from cyclegan.report.page import Part, Section, Table, galleries
from cyclegan.storage.probe_rates import ProbeRate
from cyclegan.storage.showcase import Showcase

_KINDS = {"lesion": "round lesion", "missing": "removed structure", "line": "line", "brightness": "shift of brightness"}

_HEADS = {
    "input": "input",
    "probed": "with the change",
    "output": "translation",
    "probed_output": "with the change",
    "change": "what changed",
}

_HOW_TO_READ = (
    "Known changes were put into test images, and each translation was compared with that of the unchanged image. A "
    "change is kept if a person would see it in the translation at its place, moved if it shows up beside it, else "
    "lost. Invented: something changes visibly far from it. A person sees a contrast of 2 % of the value range that, "
    "times the root of its number of pixels, is 5 standard deviations of its surroundings (Rose); less than 1 % of "
    "places where nothing but imperceptible noise changed count as kept. Intervals are 95 %."
)


def change_name(rate: ProbeRate) -> str:
    """`round lesion, 1/16`: kind and size as tables show them."""
    return _KINDS[rate.kind] + (f", {size_name(rate.size)}" if rate.kind != "brightness" else "")


def size_name(size: float) -> str:
    """A share of the shorter side as a fraction."""
    return str(Fraction(size).limit_denominator(1000))


def probe_rows(rates: Sequence[ProbeRate]) -> list[list[str]]:
    """A row for each kind and size, over all changes that a person sees in the input."""
    return [
        [
            change_name(rate),
            str(rate.num_probes),
            f"{rate.kept:.0%}\n{rate.low:.0%} to {rate.high:.0%}",
            f"{rate.moved:.0%}",
            f"{rate.lost:.0%}",
            f"{rate.invented:.0%}",
            "-" if rate.remaining is None else f"{rate.remaining:.2f}",
            "-" if rate.displacement is None else f"{rate.displacement:.1f}",
        ]
        for rate in rates
        if rate.contrast is None
    ]


def probe_section(rates: Sequence[ProbeRate], showcase: Showcase, direction: Direction) -> Iterator[Section]:
    """Table, curves and pictures of one direction; nothing if it was not measured."""
    if not rates:
        return
    columns = [
        "seen in the input",
        "probes",
        "kept",
        "moved",
        "lost",
        "invented",
        "contrast that remains",
        "moved by, px",
    ]
    yield Section(
        "Lost, moved, invented",
        [_HOW_TO_READ],
        [Table(columns, probe_rows(rates)), *_charts(rates, direction)],
        level=3,
    )
    rows = []
    for shown in showcase.of(direction, "probe"):
        pictures = [(head, picture) for role, head in _HEADS.items() if (picture := shown.picture(role)) is not None]
        rows.append((pictures, f"{shown.file}\n{shown.note}"))
    if rows:
        text = (
            "Of each kind the faintest change that is kept, the strongest that is lost although a person sees it in "
            "the input, and the strongest with an invention. White in the last column is a change of a quarter of the "
            "value range or more."
        )
        yield Section("Examples of such changes", [text], galleries(rows), level=3)


def _charts(rates: Sequence[ProbeRate], direction: Direction) -> Iterator[Part]:
    """Share kept over contrast, a curve for each size; dashed: the share that a person sees in the input."""
    for kind, name in _KINDS.items():
        of_kind = [rate for rate in rates if rate.kind == kind and rate.contrast is not None]
        curves = []
        for size in sorted({rate.size for rate in of_kind}):
            some = [rate for rate in of_kind if rate.size == size]
            label = size_name(size) if kind != "brightness" else "kept"
            contrasts = [rate.contrast or 0.0 for rate in some]
            kept, low, high = ([getattr(rate, part) for rate in some] for part in ("kept", "low", "high"))
            curves.append(Series(label, contrasts, kept, low, high, reference=[rate.seen for rate in some]))
        if any(len(curve.steps) > 1 for curve in curves):
            title = f"Kept: {name}, {direction[0].upper()} to {direction[-1].upper()} (dashed: seen in the input)"
            yield Chart(title, curves, axis="contrast", log_axis=True)
