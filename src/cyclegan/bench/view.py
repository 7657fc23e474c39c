"""A benchmark as text: on the screen and in bench.md."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.bench.measuring import Benchmark
from cyclegan.bench.points import Missing, Point
from cyclegan.bench.subject import engine_of

if TYPE_CHECKING:
    from rich.console import Console

_LEFT = ("step", "engine", "type")

_TRAINING_KEY = (
    "MiB: peak memory above that of an idle process; images/s: of each domain; speed: relative to plain eager fp32."
)
_TRANSLATION_KEY = (
    "MiB: as above; dB: PSNR of a test picture against torch in fp32, 40 is an error of 1% of the range; first: "
    "seconds from the start of a process to its first result."
)

_WORKS = {"train": "training", "translate": "translation"}

# Plans are given for so many images.
_IMAGES = 1000


def show(done: Benchmark, console: "Console") -> None:
    """Print all results."""
    from rich.table import Table as ScreenTable

    def say(text: str) -> None:
        console.print(text, soft_wrap=not console.is_terminal)

    for line in head(done):
        say(line)
    for title, key, rows in tables(done):
        say("")
        say(title)
        table = ScreenTable(show_edge=False, pad_edge=False)
        for name in rows[0]:
            table.add_column(name, justify="left" if name in _LEFT else "right", overflow="fold")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
        say(key)
    for block in (plan(done), absent(done)):
        if block:
            say("")
        for line in block:
            say(line)


def markdown(done: Benchmark) -> str:
    """bench.md."""
    parts = ["# Cost on this machine\n", *(f"{line}  " for line in head(done))]
    for title, key, rows in tables(done):
        parts += ["", f"## {title}", "", key, "", f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
        parts += [f"| {' | '.join(row.values())} |" for row in rows]
    for title, lines in (("Planning", plan(done)), ("Not measured", absent(done))):
        if lines:
            parts += ["", f"## {title}", "", *(f"- {line}" for line in lines)]
    return "\n".join([*parts, "", "![seconds and memory against size and batch](bench.png)", ""])


def head(done: Benchmark) -> list[str]:
    """The machine, the versions, the model."""
    machine, subject = done.machine, done.subject
    parts = [machine["cpu"], count(machine["cores"], "core"), f"{count(machine['threads'], 'thread')} of torch"]
    parts += [] if machine["memory_gib"] is None else [f"{machine['memory_gib']} GiB"]
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    crop = f"crops of {subject.info.crop_size} px{'' if subject.is_trained else ', random weights'}"
    lines = [
        f"Machine: {machine['gpu'] + '; ' if machine['gpu'] else ''}{', '.join(parts)}",
        f"Versions: {versions}, Python {machine['python']}, {machine['system']}",
        f"Model: {subject.name} ({subject.info.model.generator_summary}, {crop})",
    ]
    if done.start_seconds is not None:
        lines.append(f"The command starts in {_seconds(done.start_seconds)} s.")
    return lines + _choices(done)


def _choices(done: Benchmark) -> list[str]:
    """What `auto` chooses, with the other sizes and batches of the same choice."""
    lines = []
    found = [m for m in done.choices if not m.point.checkpointed]
    for work, precision in dict.fromkeys((m.point.work, m.point.precision) for m in found):
        places = [m for m in found if (m.point.work, m.point.precision) == (work, precision)]
        first = next((m for m in places if m.point.place == done.base), places[0])
        if work == "translate":  # the choice depends on the model, not on the size
            lines.append(f"--precision auto translates in {precision}: {first.reason}.")
            continue
        others = [f"{m.point.size} px x {m.point.batch_size}" for m in places if m is not first]
        also = f"; also for {', '.join(others)}" if others else ""
        lines.append(
            f"--precision auto trains in {precision} at {first.point.size} px, batch {first.point.batch_size}: "
            f"{first.reason}{also}."
        )
    return lines


def tables(done: Benchmark) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Title, meaning of the columns, and rows (cells by column) of each work that was measured."""
    order = list(dict.fromkeys(m.point.way for m in done.measured))
    measured = sorted(done.measured, key=lambda m: (m.point.place, order.index(m.point.way)))
    plain = {m.point.place: m.seconds for m in measured if m.point.work == "train" and m.point.side == "plain"}
    training, translation = [], []
    for m in measured:
        point = m.point
        row = {"px": str(point.size), "batch": str(point.batch_size)}
        speed = {"images/s": _rate(m.images_per_second), "MiB": f"{m.bytes / 2**20:,.0f}"}
        if point.work == "train":
            step = "plain eager" if point.side == "plain" else "checkpointed" if point.checkpointed else "cyclegan"
            row |= {"step": step, "type": point.precision, "s/step": _seconds(m.seconds), **speed}
            faster = f"{plain[point.place] / m.seconds:.2f}x" if point.place in plain else ""
            training.append(row | {"speed": faster})
        else:
            seconds = _seconds(m.seconds / point.batch_size)
            row |= {"engine": side_name(point, done), "type": point.precision, "s/image": seconds, **speed}
            decibels = "" if m.decibels is None else "equal" if m.decibels >= 200 else f"{m.decibels:.1f}"
            translation.append(row | {"dB": decibels, "first": f"{m.start_seconds:.1f}"})
    if training:
        yield "Training, one step", _TRAINING_KEY, training
    if translation:
        yield "Translation", _TRANSLATION_KEY, translation


def side_name(point: Point, done: Benchmark) -> str:
    """Name of an engine; of an export, whose side is a folder, both names."""
    if point.side == "plain":
        return "plain eager"
    engine = next((engine_of(export) for folder, export in done.subject.exports if str(folder) == point.side), None)
    return point.side if engine is None else f"{engine} ({Path(point.side).name})"


def way_name(way: Point, done: Benchmark) -> str:
    """Name of a curve."""
    if way.work == "train" and way.side == "ours":
        return f"cyclegan {way.precision}{', checkpointed' if way.checkpointed else ''}"
    return f"{side_name(way, done)} {way.precision}"


def plan(done: Benchmark) -> list[str]:
    """Sentences for planning."""
    lines = []
    size, batch = done.base
    own = [m for m in done.measured if m.point.work == "train" and m.point.side == "ours"]
    here = [m for m in own if m.point.place == done.base]
    if here:
        best = min(here, key=lambda m: m.seconds)
        epoch = _IMAGES / best.images_per_second
        how = f"batch {batch}, --precision {best.point.precision}"
        lines.append(
            f"An epoch of {_IMAGES:,} images at {size} px takes about {_duration(epoch)} here ({how}); "
            f"200 epochs about {_duration(200 * epoch)}."
        )
        lean = min(here, key=lambda m: m.bytes)
        if lean.point.checkpointed and best is not lean:
            lines.append(
                f"--checkpoint-activations takes {lean.bytes / best.bytes:.2f}x the memory of that and "
                f"{lean.seconds / best.seconds:.2f}x the time."
            )
    same_size = [m for m in own if m.point.size == size and not m.point.checkpointed]
    if len({m.point.batch_size for m in same_size}) > 1:
        most = max(same_size, key=lambda m: m.images_per_second)
        lines.append(
            f"Most images a second in training at {size} px: {_rate(most.images_per_second)} with batch "
            f"{most.point.batch_size} in {most.point.precision}."
        )
    there = [m for m in done.measured if m.point.work == "translate" and m.point.side != "plain"]
    there = [m for m in there if m.point.size == size]
    if there:
        fast = max(there, key=lambda m: m.images_per_second)
        how = f"{side_name(fast.point, done)}, {fast.point.precision}, batch {fast.point.batch_size}"
        seconds = _IMAGES / fast.images_per_second
        lines.append(f"{_IMAGES:,} images of {size} px are translated in about {_duration(seconds)} at best ({how}).")
    if done.seconds_short:
        minutes = done.minutes + done.seconds_short / 60
        lines.append(f"Measuring all that was left out for lack of time takes about --minutes {math.ceil(minutes)}.")
    return lines


def absent(done: Benchmark) -> list[str]:
    """Missing points with the reason; points of one curve with the same kind of reason together."""
    lines = ["Stopped by Ctrl-C; later points are missing."] if done.stopped else []
    groups: dict[tuple[Point, str], list[Missing]] = {}
    for missing in done.missing:
        groups.setdefault((missing.point.way, missing.kind), []).append(missing)
    for (way, kind), of in groups.items():
        places = ", ".join(f"{m.point.size} px x {m.point.batch_size}" for m in of)
        name = f"{_WORKS[way.work]}, {way_name(way, done)}"
        if kind == "time":
            lines.append(f"{name}: no time left for {places}.")
        else:
            reasons = "; ".join(dict.fromkeys(m.why for m in of))
            lines.append(f"{name}, {places}: {'failed, ' if kind == 'failed' else ''}{reasons}.")
    return lines + done.notes


def count(number: int | None, noun: str) -> str:
    """Such as 1 thread, 2 threads."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _rate(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "minutes"), (172800, 3600, "hours")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
