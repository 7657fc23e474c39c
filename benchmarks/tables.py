"""Write the page of benchmarks/quality.py: tables of recipes from the results of each run. Not a command."""

import math
import re
import statistics
from collections.abc import Iterable
from typing import Any

from recipes import preset_of
from tasks import TASKS

from cyclegan.metrics.table import METRICS

# Scores that the tables of a task show, in this order, where a run has them; the JSON files hold all scores.
SHOWN = ("kid", "spectrum", "patterns", "l1", "psnr", "ssim", "colour", "cycle", "cycle_rise", "edges")

# Scores by which recipes are compared.
COMPARED = ("kid", "l1")

DIRECTIONS = ("a2b", "b2a")

# Baselines of a score, by their names in scores.json, and their titles.
BASELINES = {"floor": "real images", "ceiling": "untranslated", "mean_image": "mean image"}

HEAD = """# Quality of recipes

Made by `benchmarks/quality.py`. Tasks, A and B: *shadedrelief* and *etopo1*, satellite photo and map, of places that no
network saw; *drawings*, finished ones and their lines alone, that no network saw, though it saw near relatives of many.
The truth of every scored image is known. *val* is what recipes were chosen by, *test* is scored once. When a preset
changed, its older runs were renamed to what they are now: `modern+batch` is what `modern` was when they were made.

Where a label has runs of `paper`, its first table has, behind the seconds of a step, ratios to them on the same task:
of the geometric mean of both directions, mean over seeds, with the 95 % interval of Student's t over the seeds' ratios.
Below 1 is better. The interval is of training alone, on the same images and against the same few runs. The means over
tasks are of the seeds that were run on all of them. Where a recipe was also run with one ingredient less or more, a
table like it has the ratios to that recipe: above 1 what was taken out was worth its time, below 1 what was added is.
The tables behind have the scores themselves, mean over seeds and extremes. KID is not on Inception's features: never
compare it with published ones.
"""


def markdown(labels: dict[str, list[dict[str, Any]]]) -> str:
    """The page as Markdown, from the runs of each label."""
    parts = [HEAD]
    for label, runs in labels.items():
        recipes = order(run["recipe"] for run in runs)
        tasks = [task for task in TASKS if any(run["task"] == task for run in runs)]
        parts.append(f"## {label}\n\n{describe(runs)}")
        if "paper" in recipes:
            parts.append(ratio_table(runs, recipes, tasks, "paper"))
        for base in recipes:
            changed = [recipe for recipe in recipes if re.fullmatch(rf"{re.escape(base)}[+-]\w+", recipe)]
            if changed and base != "paper":
                parts.append(f"### {label}: `{base}` with one ingredient more or less\n")
                parts.append(ratio_table(runs, [base, *changed], tasks, base))
        for task in tasks:
            parts.append(f"### {label}: {task}\n\n{score_table([run for run in runs if run['task'] == task], recipes)}")
    return "\n".join(parts)


def order(recipes: Iterable[str]) -> list[str]:
    """The recipes, sorted: `paper` first, then recipes built on it, then those of other presets, each by name."""
    return sorted(set(recipes), key=lambda name: (name != "paper", preset_of(name) != "paper", name))


def describe(runs: list[dict[str, Any]]) -> str:
    """Describe how the runs of a label were made."""

    def distinct(texts: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(texts))

    common = set.intersection(*({f"{k} {v}" for k, v in run["settings"].items()} for run in runs))
    lines = [
        f"* All recipes: {', '.join(sorted(common))}",
        f"* {distinct(run['machine'] for run in runs)}; device {distinct(run['device'] for run in runs)}; "
        f"scored on {distinct(run['split'] for run in runs)}",
        *(f"* `{command}`" for command in dict.fromkeys(run["command"] for run in runs)),
    ]
    return "\n".join(lines) + "\n"


def value_of(run: dict[str, Any], direction: str, metric: str) -> float:
    """A score, or NaN if it is missing, such as the edges of blank translations."""
    return float(run["scores"][direction].get(metric, math.nan))


def ratio(
    runs: list[dict[str, Any]], base: list[dict[str, Any]], metric: str, tasks: list[str]
) -> tuple[float, float, float] | None:
    """Ratio of the scores of two recipes, and its interval (NaN for one seed).

    The ratio of a seed that both have on all these tasks is the geometric mean over tasks and directions. None if there
    is no such seed, or if a score is missing or not above 0.
    """
    sides = [{(run["seed"], run["task"]): run for run in side} for side in (runs, base)]
    logs = []
    for seed in sorted({run["seed"] for run in runs}):
        if not all((seed, task) in side for side in sides for task in tasks):
            continue
        ours, theirs = (
            [value_of(side[seed, task], direction, metric) for task in tasks for direction in DIRECTIONS]
            for side in sides
        )
        if not all(value > 0 for value in ours + theirs):
            return None
        logs.append(statistics.mean(math.log(our / their) for our, their in zip(ours, theirs, strict=True)))
    if not logs:
        return None
    mean = statistics.mean(logs)
    spread = student(len(logs)) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return math.exp(mean), math.exp(mean - spread), math.exp(mean + spread)


def student(count: int) -> float:
    """The 97.5 % quantile of Student's t distribution with count - 1 degrees of freedom."""
    points = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    return points.get(count, 2.262)  # for more seeds slightly too wide


def ratio_table(runs: list[dict[str, Any]], recipes: list[str], tasks: list[str], base: str) -> str:
    """A row for each recipe: the cost of a step, and KID and L1 relative to `base`, on each task and on average."""
    of = {recipe: [run for run in runs if run["recipe"] == recipe] for recipe in {*recipes, base}}
    groups = [[task] for task in tasks] + ([tasks] if len(tasks) > 1 else [])
    columns = [(metric, group) for metric in COMPARED for group in groups]
    titles = [f"{METRICS[metric].label} {group[0] if len(group) == 1 else 'mean'}" for metric, group in columns]
    lines = [f"| recipe | s a step | {' | '.join(titles)} |", "|---|" + "---:|" * (len(columns) + 1)]
    for recipe in recipes:
        times = [run["step_seconds"] for run in of[recipe] if run["step_seconds"] is not None]
        cells = [f"`{recipe}`", f"{statistics.mean(times):.4f}" if times else ""]
        for metric, group in columns:
            found = ratio(of[recipe], of[base], metric, group)
            cell = "" if found is None else f"{found[0]:.2f}"
            if found is not None and recipe != base and not math.isnan(found[2]):
                cell += f" ({found[1]:.2f}-{found[2]:.2f})"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def score_table(runs: list[dict[str, Any]], recipes: list[str]) -> str:
    """One task: scores of each recipe and direction, as mean and extremes over seeds, and their baselines."""
    shown = [
        name for name in SHOWN if any(name in run["scores"][direction] for run in runs for direction in DIRECTIONS)
    ]
    titles = [f"{METRICS[name].label}, {METRICS[name].better} is better" for name in shown]
    lines = [
        f"| recipe | direction | seeds | steps | {' | '.join(titles)} |",
        "|---|---|---|" + "---:|" * (1 + len(shown)),
    ]
    for recipe in recipes:
        own = [run for run in runs if run["recipe"] == recipe]
        for direction in DIRECTIONS if own else ():
            cells = []
            for name in shown:
                digits = METRICS[name].digits
                values = [value for run in own if not math.isnan(value := value_of(run, direction, name))]
                extremes = f" ({min(values):z.{digits}f}-{max(values):z.{digits}f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):z.{digits}f}{extremes}" if values else "")
            seeds = ", ".join(str(run["seed"]) for run in own)
            steps = ", ".join(dict.fromkeys(str(run["steps"]) for run in own))
            lines.append(f"| `{recipe}` | {direction} | {seeds} | {steps} | {' | '.join(cells)} |")
    for kind, label in BASELINES.items():
        for direction in DIRECTIONS:
            cells = []
            for name in shown:
                bounds = [run["baselines"][direction].get(name, {}) for run in runs]
                found = [bound[kind] for bound in bounds if kind in bound]
                cells.append(f"{statistics.mean(found):z.{METRICS[name].digits}f}" if found else "")
            lines.append(f"| *{label}* | {direction} | | | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
