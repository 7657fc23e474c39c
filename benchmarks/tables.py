"""Write the page of benchmarks/quality.py: tables of recipes from the results of each run. Not a command."""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from recipes import preset_of
from tasks import TASKS

from cyclegan.metrics.table import METRICS, Metric

# What the scores of a run may be: those of `evaluate`, and that of a task whose truth is a class.
SCORES: dict[str, Metric] = {
    **METRICS,
    "class_error": Metric("class error", "less", "Share of translations whose class is not that of the input."),
}

# Scores that the tables of a task show, in this order, where a run has them; the JSON files hold all scores.
SHOWN = (
    "kid",
    "kid_resnet",
    "spectrum",
    "patterns",
    "l1",
    "class_error",
    "psnr",
    "ssim",
    "colour",
    "cycle",
    "cycle_rise",
    "edges",
)

# Scores by which recipes are compared.
COMPARED = ("kid", "kid_resnet", "l1", "class_error")

# Scores of the same thing by two feature networks.
TWICE = ("kid", "kid_resnet")

# Tasks with the same photos, which count together as one in means over tasks.
TWINS = ("shadedrelief", "etopo1")

DIRECTIONS = ("a2b", "b2a")

# Baselines of a score, by their names in scores.json, and their titles.
BASELINES = {"floor": "real images", "ceiling": "untranslated", "mean_image": "mean image"}

HEAD = """# Quality of recipes

Made by `benchmarks/quality.py`. Tasks, A and B: *shadedrelief* and *etopo1*, satellite photo and map, of places that no
network saw; *drawings*, finished ones and their lines alone, that no network saw, though it saw near relatives of many;
*emoji*, shaded and flat; *t1*, slices of a head and their grey matter, of heights that no network saw; *digits*,
handwriting and print. The truth of every scored image is known; of digits it is the class, so instead of L1 there is
the share of translations in which a classifier of the target's real images sees another class. *val* is what recipes
were chosen by, *test* is scored once. When a preset changed, its older runs were renamed to what they are now:
`modern+batch` is what `modern` was when they were made.

Where a label has runs of `paper`, its first table has, behind the seconds of a step, ratios to them on the same task:
of the geometric mean of both directions, mean over seeds, with the 95 % interval of Student's t over the seeds' ratios.
Below 1 is better. The interval is of training alone, on the same images and against the same few runs. The means over
tasks are of the seeds that were run on all of them, and count *shadedrelief* and *etopo1*, which share their photos,
as one task. KID is on features of two networks where a label has both: EfficientNet-Lite0, and a thin ResNet-50, which
helps in no training and chooses nothing. Where one of them finds a recipe better and the other finds it worse, both
outside the noise, a line below the table says so. Where a recipe was also run with one ingredient less or more, a table
like it has the ratios to that recipe: above 1 what was taken out was worth its time, below 1 what was added is.
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

    The ratio of a seed that both have on all these tasks is the geometric mean over tasks, of which TWINS count as one,
    and directions. None if there is no such seed, or if a score is missing or not above 0.
    """
    weights = [weight for weight in task_weights(tasks) for _ in DIRECTIONS]
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
        ratios = [math.log(our / their) for our, their in zip(ours, theirs, strict=True)]
        logs.append(statistics.fmean(ratios, weights))
    if not logs:
        return None
    mean = statistics.mean(logs)
    spread = student(len(logs)) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return math.exp(mean), math.exp(mean - spread), math.exp(mean + spread)


def task_weights(tasks: Sequence[str]) -> list[float]:
    """What tasks count in a mean over them: 1 each, and TWINS that are all there together 1."""
    return [1 / len(TWINS) if task in TWINS and set(TWINS) <= set(tasks) else 1.0 for task in tasks]


def has_score(runs: list[dict[str, Any]], metric: str, task: str | None = None) -> bool:
    """Whether any run (of the task) has the score."""
    return any(metric in run["scores"][way] for run in runs if task in (None, run["task"]) for way in DIRECTIONS)


def student(count: int) -> float:
    """The 97.5 % quantile of Student's t distribution with count - 1 degrees of freedom."""
    points = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    return points.get(count, 2.262)  # for more seeds slightly too wide


def ratio_table(runs: list[dict[str, Any]], recipes: list[str], tasks: list[str], base: str) -> str:
    """A row for each recipe: the cost of a step, and the scores of COMPARED relative to `base`, by task and on average.

    Lines below it name recipes on which the two feature networks disagree.
    """
    of = {recipe: [run for run in runs if run["recipe"] == recipe] for recipe in {*recipes, base}}
    compared = {metric: [task for task in tasks if has_score(runs, metric, task)] for metric in COMPARED}
    columns = [
        (metric, group)
        for metric, having in compared.items()
        for group in [[task] for task in having] + ([having] if len(having) > 1 else [])
    ]
    titles = [f"{SCORES[metric].label} {group[0] if len(group) == 1 else 'mean'}" for metric, group in columns]
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
    disagreements = [
        f"* The two networks disagree on `{recipe}`, {group[0] if len(group) == 1 else 'mean'}: "
        f"{SCORES[TWICE[0]].label} {first:.2f}, {SCORES[TWICE[1]].label} {second:.2f}."
        for recipe in recipes
        for metric, group in columns
        if metric == TWICE[0] and group in [other for name, other in columns if name == TWICE[1]]
        if (found := [ratio(of[recipe], of[base], name, group) for name in TWICE])
        for first, second in opposite(*found)
    ]
    return "\n".join([*lines, *(["", *disagreements] if disagreements else [])]) + "\n"


def opposite(*found: tuple[float, float, float] | None) -> list[tuple[float, ...]]:
    """Two ratios if their intervals lie on opposite sides of 1, else nothing."""
    known = [one for one in found if one is not None and not math.isnan(one[1])]
    sides = {-1 if high < 1 else 1 if low > 1 else 0 for _, low, high in known}
    return [tuple(one[0] for one in known)] if sides == {-1, 1} else []


def score_table(runs: list[dict[str, Any]], recipes: list[str]) -> str:
    """One task: scores of each recipe and direction, as mean and extremes over seeds, and their baselines."""
    shown = [name for name in SHOWN if has_score(runs, name)]
    titles = [f"{SCORES[name].label}, {SCORES[name].better} is better" for name in shown]
    lines = [
        f"| recipe | direction | seeds | steps | {' | '.join(titles)} |",
        "|---|---|---|" + "---:|" * (1 + len(shown)),
    ]
    for recipe in recipes:
        own = [run for run in runs if run["recipe"] == recipe]
        for direction in DIRECTIONS if own else ():
            cells = []
            for name in shown:
                digits = SCORES[name].digits
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
                cells.append(f"{statistics.mean(found):z.{SCORES[name].digits}f}" if found else "")
            lines.append(f"| *{label}* | {direction} | | | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
