"""Scores as tables in a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cyclegan.report.probes import change_name
from cyclegan.storage.probe_rates import ProbeRate
from cyclegan.storage.scores import READ_BASELINES, Scores, verdicts


def show_scores(scores: Scores, console: Console) -> None:
    """Print a table for each direction, and notes on how to read it. Fits into 80 columns."""
    for direction, result in scores.directions.items():
        source, target = ("A", "B") if direction == "a2b" else ("B", "A")
        table = Table(
            title=f"{source} to {target}: {len(result.images)} test images",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 0, 0, 1),
        )
        table.add_column("\N{DOWNWARDS ARROW} less, \N{UPWARDS ARROW} more is better", min_width=25)
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
        for title in result.baselines.values():
            table.add_column(title, justify="right", max_width=6)
        for name, metric, score in result.rows:
            arrow = "\N{DOWNWARDS ARROW}" if metric.better == "less" else "\N{UPWARDS ARROW}"
            label = f"{arrow} {scores.title(name)}{', ' + metric.unit if metric.unit else ''}"
            known = score.baselines
            cells = [metric.show(known[key].value) if key in known else "" for key in result.baselines]
            table.add_row(label, metric.show(score.value.value), score.value.show_interval(metric.digits), *cells)
        console.print(table)
        if sentences := verdicts(result):
            console.print(f"{source} to {target}: {' '.join(sentences)}", style="bold")
            console.print()
        if result.probes:
            console.print(_probe_table(f"{source} to {target}: known changes of the input", result.probes))
    notes: dict[str, list[str]] = {}
    for direction, result in scores.directions.items():
        for note in (*result.notes, *(f"{note}." for note in scores.metric_notes(direction))):
            notes.setdefault(note, []).append("A to B" if direction == "a2b" else "B to A")
    for note, places in notes.items():
        console.print(f"- {note if len(places) == len(scores.directions) else f'{places[0]}: {note}'}")
    labels = " and ".join(info.label for info in (scores.features, scores.second_features) if info is not None)
    console.print(f"- KID and Frechet distance on {labels}: no standard FID or KID. {READ_BASELINES}")


def _probe_table(title: str, rates: Sequence[ProbeRate]) -> Table:
    """How many of the changes that a person sees in the input are kept, by kind and size."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("seen in the input", min_width=25)
    for name in ("probes", "kept", "95 % interval", "moved", "lost", "invented"):
        table.add_column(name, justify="right", no_wrap=True)
    for rate in rates:
        if rate.contrast is None:
            shares = (f"{share:.0%}" for share in (rate.moved, rate.lost, rate.invented))
            interval = f"{rate.low:.0%} to {rate.high:.0%}"
            table.add_row(change_name(rate), str(rate.num_probes), f"{rate.kept:.0%}", interval, *shares)
    return table
