"""The page of a run, `report.html`, made from the files of the run directory alone, as far as they exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from cyclegan.config import Direction, TrainConfig
from cyclegan.errors import InputError
from cyclegan.metrics.features import FeatureInfo
from cyclegan.metrics.table import METRICS
from cyclegan.report.page import (
    Details,
    Frames,
    Gallery,
    Notice,
    Pair,
    Part,
    Scale,
    Section,
    Slider,
    Table,
    shrink,
    write_report,
)
from cyclegan.report.record import Event, RunRecord, inside, read_record
from cyclegan.report.run_charts import DIRECTIONS, arrow, domain_names, loss_charts, validation_charts
from cyclegan.storage.run import read_run_config
from cyclegan.storage.scores import BASELINES, READ_BASELINES, Estimate, Scores, read_scores, verdict
from cyclegan.storage.showcase import Showcase, ShownImage, open_picture, read_showcase

_MAX_FRAMES = 8
_FRAME_SIDE, _GALLERY_SIDE = 900, 256


def read_kid(features: FeatureInfo) -> str:
    """What KID on these features is."""
    return (
        "KID (kernel distance) is how far the set of translations is from the set of real images of the target, by "
        f"{features.label}. Less is better. The number itself means little. {READ_BASELINES} Published numbers use "
        "another network, so do not compare it with those."
    )


def write_run_report(run: Path) -> Path:
    """Write `report.html` of a run directory, from its files alone, and return its path.

    Every part whose files are missing is left out: a run that was stopped after one step has a page, too.
    """
    config, config_problem = _read_config(run)
    log, showcase = read_record(run), read_showcase(run)
    scores, scores_problem = _read_scores(run)
    names = domain_names(config)

    sections = [Section("Summary", *_summary(run, config, log, scores, names))]
    problems = [
        *(text for text in (config_problem, scores_problem) if text),
        *_health(log),
        *_stale(log, scores),
        *(f"Scores{place and f' of {place}'}: {note}" for place, note in _notes(scores, names)),
    ]
    if problems:
        sections.append(Section("Read this first", [], [Notice(problems)]))
    for direction in DIRECTIONS:
        sections += _direction(direction, scores, showcase, names)
    sections += _training(run, log, names)
    sections += _how(run, log, scores)

    report = run / "report.html"
    write_report(report, f"CycleGAN run {run.resolve().name}", sections)
    return report


# ---- words


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: object) -> str:
    """A value as text; times in a readable form."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(\+00:00|Z)$", r"\1 \2 UTC", str(value))


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


# ---- reading, tolerant of damaged files


def _read_config(run: Path) -> tuple[TrainConfig | None, str]:
    try:
        return read_run_config(run), ""
    except InputError as error:
        return None, str(error)


def _read_scores(run: Path) -> tuple[Scores | None, str]:
    if not (run / "scores.json").is_file():
        return None, ""
    try:
        return read_scores(run), ""
    except InputError as error:
        return None, str(error)


def _stale(log: RunRecord, scores: Scores | None) -> Iterator[str]:
    if scores is not None and scores.step < log.step:
        yield (
            f"The scores on test images are those of step {scores.step:,}, and the training went on to {log.step:,}: "
            "evaluate it again."
        )


def _notes(scores: Scores | None, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Notes of the scores, each with its direction, or with nothing if it holds for all of them."""
    found = scores.directions if scores is not None else {}
    for note in dict.fromkeys(note for of in found.values() for note in of.notes):
        places = [direction for direction, of in found.items() if note in of.notes]
        if len(places) == len(found):
            yield "", note
        else:
            yield from ((arrow(direction, names), note) for direction in places)


# ---- summary and warnings


def _summary(
    run: Path, config: TrainConfig | None, log: RunRecord, scores: Scores | None, names: dict[str, str]
) -> tuple[list[str], list[Part]]:
    paragraphs, parts = [], list[Part]()
    if config is not None:
        model, data = config.model, config.data
        size = f"crops of {data.crop_size} pixels" if data.crops else "whole images"
        paragraphs.append(
            f"Two translators between {names['a']} and {names['b']}, learned from images without pairs. "
            f"Generators: {model.generator_summary}; {config.adversarial} loss, {size}, "
            f"preset {config.preset}, seed {config.seed}."
        )
    trained = f"Trained for {_plural(log.step, 'step')}"
    trained += f" in {_duration(log.seconds)}" if log.seconds is not None else ""
    trained += f", {_plural(len(log.sessions), 'session')}." if log.sessions else "."
    if log.best is not None:
        trained += (
            f" The best step by KID ({log.features}) on validation images is {log.best['step']:,} "
            f"({log.best['kid']:.3f}); "
            f"the last one is {log.step:,}."
        )
    if config is not None or log.step:  # a model directory alone has no record of its training
        paragraphs.append(trained)
    if scores is None:
        # One root holds its test folders itself.
        known = config is not None and ((config.test_a and config.test_b) or config.b is None)
        folders = "" if known else " --a DIR --b DIR"
        paragraphs.append(
            f"It has not been scored on test images yet. To do so: cyclegan evaluate {shlex.quote(str(run))}{folders}"
        )
        return paragraphs, parts
    paragraphs.append(
        f"Scored on test images: the networks{f' of step {scores.step:,}' if scores.step else ''} "
        f"({scores.weights} weights), "
        + ("with the truth of every image." if scores.paired else "without truth, as there are no pairs.")
    )
    rows = []
    for direction, of in scores.directions.items():
        kid, l1 = of.metrics.get("kid"), of.metrics.get("l1")
        shown = [("kid", kid, "value"), ("kid", kid, "floor"), ("kid", kid, "ceiling")]
        shown += [("l1", l1, "value"), ("l1", l1, "mean_image")] if scores.paired else []
        cells = [estimate_text(name, getattr(score, part)) if score else "-" for name, score, part in shown]
        rows.append([arrow(direction, names), *(cell or "-" for cell in cells)])
        if kid:
            paragraphs.append(f"{arrow(direction, names)}: {' '.join(verdict(kid))}")
    columns = ["", scores.title("kid"), BASELINES["floor"], BASELINES["ceiling"]]
    parts.append(Table([*columns, *(["L1 to the truth", "L1 of the mean image"] if scores.paired else [])], rows))
    paragraphs.append(read_kid(scores.features))
    return paragraphs, parts


def _health(log: RunRecord) -> list[str]:
    """Warnings of the health checks in training: the newest text of each check, and how often it came."""
    texts = [f"Step {event['step']:,}: {event.get('term')} became {event.get('value')}." for event in log.not_finite]
    checks: dict[str, list[Event]] = {}
    for event in log.warnings:
        checks.setdefault(str(event.get("check")), []).append(event)
    for check, events in checks.items():
        first, last = events[0]["step"], events[-1]["step"]
        when = f"step {last:,}" if len(events) == 1 else f"{len(events)} times, steps {first:,} to {last:,}"
        texts.append(f"Health check {check} ({when}): {events[-1].get('message')}")
    return texts


# ---- one direction


def _direction(
    direction: Direction, scores: Scores | None, showcase: Showcase, names: dict[str, str]
) -> Iterator[Section]:
    # What comes first should be typical, not the best.
    shown = sorted(showcase.of(direction), key=lambda image: image.is_extreme)
    is_scored = scores is not None and direction in scores.directions
    if not is_scored and not shown:
        return
    if shown:
        origin = f"Where these images are from: {showcase.origin}. " if showcase.origin else ""
        text = (
            f"Before and after translation: move the handle. {origin}Large pictures are made smaller on this page; the "
            "originals are in the folder examples/ of the run."
        )
        sides = f"input, {direction[0].upper()}", f"translation to {direction[-1].upper()}"
        yield Section(arrow(direction, names), [text], [Slider(*sides, list(_pairs(shown)))])
    else:
        yield Section(arrow(direction, names))
    if scores is not None and is_scored:
        yield _score_section(scores, direction)
    for kind, text in (
        ("best", "The test images with the best score, first the best of all."),
        ("worst", "The test images with the worst score, first the worst of all: what can go wrong looks like this."),
    ):
        galleries = _gallery(showcase, direction, kind)
        if galleries:
            yield Section(f"{kind.capitalize()} images", [text], galleries, level=3)


def _pairs(shown: list[ShownImage]) -> Iterator[Pair]:
    for image in shown:
        before, after = image.picture("input"), image.picture("output")
        if before is not None and after is not None:
            caption = ", ".join(filter(None, (image.file, image.kind, score_text(image.score_name, image.score))))
            yield Pair(caption, before, after, image.picture("truth"), image.kind)


def _score_section(scores: Scores, direction: Direction) -> Section:
    of = scores.directions[direction]
    parts: list[Part] = []
    if notes := [*of.notes, *scores.metric_notes(direction)]:
        parts.append(Notice(notes))
    kid = of.metrics.get("kid")
    if kid is not None and kid.floor is not None and kid.ceiling is not None:
        low, high = kid.value.low, kid.value.high
        interval = (kid.value.value,) * 2 if low is None or high is None else (low, high)
        ends = ((BASELINES["floor"], kid.floor.value), (BASELINES["ceiling"], kid.ceiling.value))
        parts.append(Scale("translations", kid.value.value, interval, ends))
    rows = []
    for name, metric, score in of.rows:
        label = f"{scores.title(name)} ({metric.better} is better)\n{metric.meaning}"
        rows.append(
            [
                label + (f"\n{score.note}" if score.note else ""),
                estimate_text(name, score.value),
                *(estimate_text(name, score.baselines.get(key)) for key in of.baselines),
                f"{score.num_images:,}" + (f"\nbeside {score.num_real:,} real" if score.num_real is not None else ""),
            ]
        )
    parts.append(Table(["", "translations", *of.baselines.values(), "images"], rows))
    return Section("Scores", [" ".join(verdict(kid))] if kid is not None else [], parts, level=3)


def estimate_text(name: str, estimate: Estimate | None) -> str:
    """The value with its unit, and its interval below it; nothing for None."""
    if estimate is None:
        return ""
    metric = METRICS[name]
    value = metric.show(estimate.value) + (f" {metric.unit}" if metric.unit else "")
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{metric.show(estimate.low)} to {metric.show(estimate.high)}"


def score_text(name: str | None, score: float | None) -> str:
    """A score of a single image with its name, or nothing."""
    if name is None or score is None:
        return ""
    label = "distance to real images" if name == "unlike" else METRICS[name].label if name in METRICS else name
    return f"{label} {score:.3f}"


def _gallery(showcase: Showcase, direction: Direction, kind: str) -> list[Part]:
    """Pictures side by side; images with a truth and images without one, if there are both, one after the other."""
    heads = {"input": "input", "output": "translation", "cycled": "there and back", "truth": "truth"}
    groups: dict[tuple[str, ...], tuple[list[list[Image.Image]], list[str]]] = {}
    for shown in showcase.of(direction, kind):
        pictures = {name: picture for name in heads if (picture := shown.picture(name)) is not None}
        rows, captions = groups.setdefault(tuple(heads[name] for name in pictures), ([], []))
        rows.append([shrink(picture, _GALLERY_SIDE) for picture in pictures.values()])
        captions.append(", ".join(filter(None, (shown.file, score_text(shown.score_name, shown.score)))))
    return [Gallery(columns, rows, captions) for columns, (rows, captions) in groups.items()]


# ---- training


def _training(run: Path, log: RunRecord, names: dict[str, str]) -> Iterator[Section]:
    frames = list(_frames(run))
    charts, losses = list(validation_charts(log, names)), list(loss_charts(log))
    if not (frames or charts or losses):
        return
    yield Section("Over the training")
    if charts:
        counts, origin = inside(log.validation, "num_images") or {}, inside(log.validation, "origin")
        images = " and ".join(f"{count} images of {name.upper()}" for name, count in counts.items())
        text = f"Measured on {images}, {origin}. " if images and origin else ""
        text += "These images chose the best step, so scores on test images are fairer."
        yield Section("Scores on validation images", [text], charts, level=3)
    if frames:
        text = "The same images at each step, translated there and back: move the handle to go through the steps."
        yield Section("Samples", [text], [Frames("step", frames)], level=3)
    if losses:
        text = (
            "Thick lines are running means. Adversarial losses show the balance of two players, not quality: they need "
            "not fall. Cycle losses should fall; a discriminator loss near 0 means that it recognises fakes easily."
        )
        yield Section("Losses", [text], losses, level=3)


def _frames(run: Path) -> Iterator[tuple[str, Image.Image]]:
    """The first sample sheet, the last one, and some at equal distances between them."""
    sheets = sorted((run / "samples").glob("step_*.png"))
    count = min(len(sheets), _MAX_FRAMES)
    for index in range(count):
        sheet = sheets[index * (len(sheets) - 1) // max(count - 1, 1)]
        picture = open_picture(sheet)
        step = sheet.stem.removeprefix("step_")
        if picture is not None:
            yield f"Step {int(step):,}" if step.isdecimal() else sheet.stem, shrink(picture, _FRAME_SIDE)


# ---- how it was made


def _how(run: Path, log: RunRecord, scores: Scores | None) -> Iterator[Section]:
    parts: list[Part] = []
    if log.sessions:
        columns = ("time", "step", "device", "precision", "cyclegan", "torch", "python", "platform")
        rows = [[_plain(session.get(name, "")) for name in columns] for session in log.sessions]
        parts += [Table([*columns[:1], "from step", *columns[2:]], rows)]
        parts += dict.fromkeys(str(session["command"]) for session in log.sessions if session.get("command"))
    file = run / "config.toml"
    if file.is_file():
        parts.append(Details("Configuration (config.toml)", file.read_text(encoding="utf-8", errors="replace")))
    if parts:
        yield Section("How it was trained", [], parts)

    if scores is not None:
        rows = [
            ["model", scores.model],
            ["step, weights", f"{scores.step:,}, {scores.weights}"],
            ["features", f"{scores.features.label}, {scores.features.layer}, {scores.features.dimensions} numbers"],
            ["size for the features", f"{scores.features.input_pixels} pixels, {scores.features.resize}"],
            ["size for translation", f"short side {scores.short_side} pixels" if scores.short_side else "as it is"],
            ["noise on the translation", f"standard deviation {scores.noise_sigma:g} in [-1, 1]"],
            ["intervals", f"95 %, {scores.num_bootstrap:,} resamplings of the images, seed {scores.seed}"],
            [
                "when, with",
                f"{_plain(scores.created)}, cyclegan {scores.cyclegan_version}, torch {scores.torch_version}, "
                f"{scores.device}",
            ],
            *([f"images: {name}", f"{len(of.files):,} in {of.root}"] for name, of in scores.files.items()),
        ]
        command = [scores.command] if scores.command else []
        yield Section("How it was scored", [], [Table(["", ""], rows), *command])

    if log.unreadable:
        rows = [[f"{event.get('path')}\n{event.get('reason')}"] for event in log.unreadable]
        yield Section("Files that could not be read", ["They were skipped."], [Table(["file"], rows)])
