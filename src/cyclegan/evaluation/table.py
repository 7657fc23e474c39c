"""Scores as tables in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from cyclegan.storage.scores import METRICS, Scores, verdict


def show_scores(scores: Scores, console: Console) -> None:
    """Print a table for each direction, and what must be known to read it. Fits into 80 columns."""
    for direction, result in scores.directions.items():
        source, target = ("A", "B") if direction == "a2b" else ("B", "A")
        found = result.metrics
        table = Table(
            title=f"{source} to {target}: {len(result.images)} test images",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 0, 0, 1),
        )
        table.add_column("\N{DOWNWARDS ARROW} less, \N{UPWARDS ARROW} more is better", min_width=25)
        for heading in ("value", "95 % interval", "floor", "ceiling"):
            table.add_column(heading, justify="right", no_wrap=True)
        has_mean_image = any(score.mean_image is not None for score in found.values())
        if has_mean_image:
            table.add_column("mean image", justify="right", max_width=6)
        for name, score in found.items():
            metric = METRICS[name]
            arrow = "\N{DOWNWARDS ARROW}" if metric.better == "less" else "\N{UPWARDS ARROW}"
            label = f"{arrow} {metric.label}{', ' + metric.unit if metric.unit else ''}"
            ends = [score.floor, score.ceiling, *([score.mean_image] if has_mean_image else [])]
            cells = ["" if end is None else f"{end.value:.{metric.digits}f}" for end in ends]
            value = f"{score.value.value:.{metric.digits}f}"
            table.add_row(label, value, score.value.show_interval(metric.digits), *cells)
        console.print(table)
        if "kid" in found:
            console.print(f"{source} to {target}: {' '.join(verdict(found['kid']))}", style="bold")
            console.print()
    notes: dict[str, list[str]] = {}
    for direction, result in scores.directions.items():
        known = [f"{METRICS[name].label}: {score.note}." for name, score in result.metrics.items() if score.note]
        for note in (*result.notes, *known):
            notes.setdefault(note, []).append("A to B" if direction == "a2b" else "B to A")
    for note, places in notes.items():
        console.print(f"- {note if len(places) == len(scores.directions) else f'{places[0]}: {note}'}")
    console.print(
        f"- KID and Frechet distance on {scores.features.label}: no standard FID or KID. Floor: real training images "
        "against the real test images. Ceiling: the input, not translated."
    )
