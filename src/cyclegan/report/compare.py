"""The scores of several runs side by side, in the terminal and as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan.config import Direction
from cyclegan.errors import InputError, reason_of, remedy_of
from cyclegan.metrics.table import METRICS
from cyclegan.report.charts import Chart
from cyclegan.report.page import Notice, Part, Section, Table, galleries, write_report
from cyclegan.report.record import RunRecord, read_record, series
from cyclegan.report.run import estimate_text, read_kid, score_text
from cyclegan.report.run_charts import DIRECTIONS, arrow
from cyclegan.storage.model import find_model, read_info
from cyclegan.storage.run import evaluation_of, run_of
from cyclegan.storage.scores import Estimate, Score, Scores, read_scores
from cyclegan.storage.showcase import ShownImage, read_showcase
from cyclegan.system.arguments import real_path
from cyclegan.system.json_files import cut
from cyclegan.system.messages import make_console
from cyclegan.system.terminal import printable, shell_quote

_NAMES = {"a": "A", "b": "B"}
_MAX_IMAGES = 6
_READ_MARK = (
    "* marks the best value of a row, if the runs differ. Where 95 % intervals overlap, the order may be chance; and "
    "one run of each kind does not show how much another seed alone would change."
)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. names: one for each, as short as they can differ.

    Each of `runs` may also be a checkpoint or a model. Its scores, pictures and curves are all of that model.
    differences: sentences on how the measurements differ; then no value is marked as the best. remarks: other
    notes.
    """

    runs: tuple[Path, ...]
    names: tuple[str, ...]
    scores: tuple[Scores, ...]
    differences: tuple[str, ...]
    remarks: tuple[str, ...]

    def rows(self, direction: Direction) -> Iterator[tuple[str, list[Estimate | None], set[int]]]:
        """Each metric that a run has: its name, a value for each run, and the indices of the best runs."""
        for name, metric in METRICS.items():
            found = [
                of.metrics[name].value if (of := scores.directions.get(direction)) and name in of.metrics else None
                for scores in self.scores
            ]
            # Compare the values as they are shown, with their digits.
            shown = {i: round(e.value, metric.digits) for i, e in enumerate(found) if e is not None}
            if not shown:
                continue
            best = (min if metric.better == "less" else max)(shown.values())
            marked = {index for index, value in shown.items() if value == best}
            differ = metric.ranked and len(marked) < len(shown) and not self.differences
            yield name, found, marked if differ else set()


def compare(*runs: Path, out: Path | None = None) -> Comparison:
    """Read the scores of two or more runs and, if `out` is given, write the page of their comparison there.

    A run whose scores are damaged is left out, and a remark says so.
    Raises InputError if there are fewer than two runs, one comes twice or one has no scores.
    """
    if len(runs) < 2:
        raise InputError(f"A comparison needs at least two runs, not {len(runs)}; give their run directories.")
    for run in runs:
        if not run.is_dir():
            raise InputError(f"There is no run directory {run}.")
    places = [real_path(evaluation_of(run)) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"The run {run} is given twice; a comparison needs different runs.")
    found: dict[Path, Scores] = {}
    left_out: list[str] = []
    for run, place in zip(runs, places, strict=True):
        if not (place / "scores.json").is_file():
            raise InputError(
                f"There is no {place / 'scores.json'}; make it with: "
                f"cyclegan evaluate {shell_quote(run)} --a DIR --b DIR"
            )
        try:
            found[run] = read_scores(place)
        except InputError as error:
            left_out.append(f"{run} is left out: {cut(str(error), 250)}")
    if len(found) < 2:
        raise InputError(f"Fewer than two runs are left to compare. {left_out[0]}")
    names, scores = short_names([real_path(run) for run in found]), tuple(found.values())
    differences, remarks = _unlike(names, scores)
    remarks = (*left_out, *_outdated(tuple(found), names, scores), *remarks)
    comparison = Comparison(tuple(found), names, scores, differences, remarks)
    if out is not None:
        _write_page(comparison, out)
    return comparison


def _outdated(runs: Sequence[Path], names: Sequence[str], scores: Sequence[Scores]) -> Iterator[str]:
    """Sentences on models that were trained further, or replaced, since they were scored."""
    for run, name, of in zip(runs, names, scores, strict=True):
        try:
            step = read_info(find_model(run)).step
        except InputError:  # the scores are there without the model
            continue
        if step != of.step:
            yield f"{name} was scored at step {of.step:,} and is at step {step:,} now: evaluate it again."


def short_names(places: Sequence[Path]) -> tuple[str, ...]:
    """The paths without the parts that all of them begin or end with."""
    parts = [place.parts for place in places]
    for end, rest in ((0, slice(1, None)), (-1, slice(-1))):
        while all(len(path) > 1 for path in parts) and len({path[end] for path in parts}) == 1:
            parts = [path[rest] for path in parts]
    return tuple("/".join(path) for path in parts)


# ---- were they measured in the same way?


def _each(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))


def _unlike(names: Sequence[str], scores: Sequence[Scores]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences on how the measurements differ, and other remarks."""
    differences, remarks = [], []
    features = [of.features for of in scores]
    ways = {
        "feature network": [of.label for of in features],
        "way to the features": [f"{of.layer}; {of.input_pixels} pixels, {of.resize}; {of.channels}" for of in features],
        "size for translation": [f"short side {of.short_side}" if of.short_side else "as it is" for of in scores],
        "noise on the translation": [f"{of.noise_sigma:g}" for of in scores],
        "self-ensemble": [str(of.self_ensemble) for of in scores],
        "comparison with the truth": ["yes" if of.paired else "no" for of in scores],
        "tool of the Inception scores": [
            next((found.metrics["fid"].note for found in of.directions.values() if "fid" in found.metrics), "none")
            for of in scores
        ],
    }
    for what, values in ways.items():
        if len(set(values)) > 1:
            differences.append(f"The {what} differs ({_each(names, values)}).")
    # Training images are listed for scored directions only; a missing direction is visible in the table.
    for part in sorted(set.intersection(*(set(of.files) for of in scores))):
        files = [set(of.files[part].files) for of in scores]
        roots = {of.files[part].root for of in scores}
        if any(other != files[0] for other in files):
            counts = _each(names, [f"{len(of.files[part].files):,}" for of in scores])
            same = len(set.intersection(*files))
            differences.append(f"The images of {part} differ ({counts}; {same:,} names are in all of them).")
        elif len(roots) > 1:
            remarks.append(
                f"The images of {part} have the same names but lie in different folders ({', '.join(sorted(roots))}); "
                "make sure that they are the same images."
            )
    differences += _unlike_images(names, scores)
    noted: dict[tuple[str, str], list[str]] = {}
    for name, of in zip(names, scores, strict=True):
        for direction, found in of.directions.items():
            for note in found.notes:
                noted.setdefault((arrow(direction, _NAMES), note), []).append(name)
    for (direction_name, note), runs in noted.items():
        remarks.append(f"{direction_name}, {'all runs' if len(runs) == len(names) else ', '.join(runs)}: {note}")
    return tuple(differences), tuple(remarks)


def _unlike_images(names: Sequence[str], scores: Sequence[Scores]) -> Iterator[str]:
    """Files of equal names may differ in content: then the KID of the input differs."""
    for direction in DIRECTIONS:
        ceilings = [kid.ceiling.value if (kid := _kid(of, direction)) and kid.ceiling else None for of in scores]
        known = [value for value in ceilings if value is not None]
        if any(abs(value - known[0]) > max(0.01 * abs(known[0]), 0.001) for value in known):
            kids = _each(names, ["-" if value is None else f"{value:.3f}" for value in ceilings])
            yield f"The untranslated test images of {arrow(direction, _NAMES)} have different KID ({kids})."


def _kid(scores: Scores, direction: Direction) -> Score | None:
    of = scores.directions.get(direction)
    return of.metrics.get("kid") if of else None


def warning(comparison: Comparison) -> str:
    """The warning above a comparison of runs that were not measured alike, or nothing."""
    if not comparison.differences:
        return ""
    return (
        "These runs were not measured alike, so their scores cannot simply be compared and none is marked as the best. "
        + " ".join(comparison.differences)
        + " Evaluate them again in the same way."
    )


# ---- terminal


def print_comparison(comparison: Comparison) -> None:
    """Print a table for each direction to stdout; readable from 100 columns on with three runs."""
    from rich.table import Table as ScreenTable

    console = make_console()
    if text := warning(comparison):
        console.print(text, style="yellow")
    any_marked = False
    for direction in DIRECTIONS:
        rows = list(comparison.rows(direction))
        table = ScreenTable("", title=arrow(direction, _NAMES), title_justify="left")
        for name in comparison.names:
            table.add_column(printable(name), overflow="fold")
        for metric, values, best in rows:
            any_marked |= bool(best)
            table.add_row(
                f"{comparison.scores[0].title(metric)}, {METRICS[metric].better} is better",
                *_cells(metric, values, best),
            )
        if rows:
            console.print(table)
    if any_marked:
        console.print(_READ_MARK)
    for remark in comparison.remarks:
        console.print(f"- {remark}")


def _cells(metric: str, values: Sequence[Estimate | None], best: set[int]) -> list[str]:
    """The value of each run, with its interval below; the best ones are marked."""
    cells = []
    for index, value in enumerate(values):
        first, *interval = (estimate_text(metric, value) or "-").split("\n")
        cells.append("\n".join([f"{first} *" if index in best else first, *interval]))
    return cells


# ---- page


def _write_page(comparison: Comparison, out: Path) -> None:
    runs = Table(
        ["run", "step", "weights", "directory"],
        [
            [name, f"{of.step:,}", of.weights, str(run)]
            for name, of, run in zip(comparison.names, comparison.scores, comparison.runs, strict=True)
        ],
    )
    sections = [Section("Runs", [], [runs])]
    notices = [text for text in (warning(comparison), *comparison.remarks) if text]
    if notices:
        sections.append(Section("Read this first", [], [Notice(notices)]))
    sections.append(Section("Scores", [_READ_MARK, read_kid(comparison.scores[0].features)]))
    for direction in DIRECTIONS:
        rows = [
            [
                f"{comparison.scores[0].title(metric)} ({METRICS[metric].better} is better)\n{METRICS[metric].meaning}",
                *_cells(metric, values, best),
            ]
            for metric, values, best in comparison.rows(direction)
        ]
        if rows:
            table = Table(["", *comparison.names], rows)
            sections.append(Section(arrow(direction, _NAMES), _baselines(comparison, direction), [table], level=3))
    sections += _curves(comparison)
    sections += _shared_images(comparison)
    try:
        write_report(out, "CycleGAN runs compared", sections)
    except OSError as error:
        remedy = remedy_of(error) or "choose another --out"
        raise InputError(f"{out} cannot be written: {reason_of(error)}; {remedy}.") from error


def _baselines(comparison: Comparison, direction: Direction) -> list[str]:
    """The baselines of the KID of a direction, if all runs have the same."""
    kid = _kid(comparison.scores[0], direction)
    if comparison.differences or kid is None or kid.floor is None or kid.ceiling is None:
        return []
    return [f"Baselines of KID: real images {kid.floor.value:.3f}, input {kid.ceiling.value:.3f}."]


def _curves(comparison: Comparison) -> Iterator[Section]:
    logs = [_record(run, scores) for run, scores in zip(comparison.runs, comparison.scores, strict=True)]
    every = [series(log.scores, name, "kid") for log, name in zip(logs, comparison.names, strict=True)]
    curves = [curve for curve in every if curve.steps]
    if curves:
        texts = [
            "Mean of both directions, on the validation images of each run, not on the test images of the scores above."
            " Compare the curves only if the runs have the same validation images. The curve of a checkpoint ends at "
            "its step."
        ]
        if missing := [name for name, curve in zip(comparison.names, every, strict=True) if not curve.steps]:
            texts.append(f"No curve of {', '.join(missing)}: its training logged no scores, or there is no log.")
        features = next(log.features for log, curve in zip(logs, every, strict=True) if curve.steps)
        charts: list[Part] = [Chart(f"KID ({features}) on validation images", curves)]
        yield Section("Over the training", texts, charts)


def _record(path: Path, scores: Scores) -> RunRecord:
    """The history of what was scored: that of the run, for a checkpoint up to its step; nothing for a bare model."""
    run = run_of(path)
    if run is None:
        return RunRecord()
    return read_record(run, until=None if real_path(evaluation_of(path)) == run else scores.step)


def _shared_images(comparison: Comparison) -> Iterator[Section]:
    """Images that the showcases of all runs share: the input, the translation of each run, and the truth."""
    showcases = [read_showcase(evaluation_of(run)) for run in comparison.runs]
    missing = [name for name, of in zip(comparison.names, showcases, strict=True) if not of.examples]
    if missing:
        text = f"No pictures to compare, because the evaluation of {', '.join(missing)} has none: evaluate it again."
        yield Section("Pictures", [text])
        return
    for direction in DIRECTIONS:
        by_file: list[dict[str, ShownImage]] = [{e.file: e for e in of.of(direction)} for of in showcases]
        shared = [file for file in by_file[0] if all(file in of for of in by_file)][:_MAX_IMAGES]
        rows = []
        for every in ([of[file] for of in by_file] for file in shared):
            pictures = [every[0].picture("input"), *(one.picture("output") for one in every), every[0].picture("truth")]
            heads = ("input", *comparison.names, "truth")
            row = [(head, picture) for head, picture in zip(heads, pictures, strict=True) if picture is not None]
            if None not in pictures[:-1]:
                texts = " | ".join(score_text(one) or "-" for one in every)
                rows.append((row, f"{every[0].file}\n{texts}"))
        for gallery in galleries(rows):
            yield Section(
                f"The same images, {arrow(direction, _NAMES)}",
                ["Images that all runs have in common; below each row its scores, in the order of the runs."],
                [gallery],
            )
