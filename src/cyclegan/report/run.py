"""The page of a run, `report.html`, made from the files of the run directory alone, as far as they exist."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from cyclegan.config import Direction, TrainConfig
from cyclegan.errors import InputError
from cyclegan.metrics.features import FeatureInfo
from cyclegan.metrics.table import METRICS
from cyclegan.report.page import (
    Details,
    Frames,
    Notice,
    Pair,
    Part,
    Scale,
    Section,
    Slider,
    Table,
    galleries,
    shrink,
    write_report,
)
from cyclegan.report.probes import probe_section
from cyclegan.report.record import Event, RunRecord, read_record
from cyclegan.report.run_charts import (
    DIRECTIONS,
    arrow,
    domain_names,
    loss_charts,
    spectrum_charts,
    validation_charts,
)
from cyclegan.storage.run import evaluated_run, read_run_config
from cyclegan.storage.scores import (
    BASELINES,
    READ_BASELINES,
    READ_SPECTRUM,
    Estimate,
    Scores,
    read_scores,
    verdicts,
)
from cyclegan.storage.showcase import Showcase, ShownImage, open_picture, read_showcase
from cyclegan.system.terminal import shell_quote
from cyclegan.system.words import counted

_MAX_FRAMES = 8
_FRAME_SIDE = 900
_MAX_CONFIG = 2**18  # characters, far above any configuration

T = TypeVar("T")


@dataclass(frozen=True)
class _Run:
    """What the files of a run hold. names: of the domains. problems: files that cannot be read.

    path: where its scores and pictures are. home: the run directory; both differ for the evaluation of a checkpoint,
    which has the history up to its own step.
    """

    path: Path
    home: Path
    config: TrainConfig | None
    log: RunRecord
    scores: Scores | None
    showcase: Showcase
    names: dict[str, str]
    problems: list[str]


def read_kid(features: FeatureInfo) -> str:
    """How to read KID on these features."""
    return (
        "KID (kernel distance) is how far the set of translations is from the set of real images of the target, by "
        f"{features.label}. Less is better. The number itself means little. {READ_BASELINES} Published numbers use "
        "another network, so do not compare it with those."
    )


def write_run_report(run: Path) -> Path:
    """Write `report.html` of a run directory, from its files alone, and return its path.

    run: or the evaluation of a checkpoint, RUN/evaluations/NAME, whose page shows the training up to that step.
    Every part whose files are missing is left out: a run that was stopped after one step has a page, too.
    """
    of = _read(run)
    sections = [Section("Summary", *_summary(of))]
    if warnings := [*of.problems, *_warnings(of)]:
        sections.append(Section("Read this first", [], [Notice(warnings)]))
    for direction in DIRECTIONS:
        sections += _direction(of, direction)
    sections += _training(of)
    sections += _how(of)

    report = run / "report.html"
    name = of.home.resolve().name
    if of.home != run:
        name += f", {run.resolve().relative_to(of.home.resolve() / 'evaluations').as_posix()}"
    write_report(report, f"CycleGAN run {name}", sections)
    return report


def _read(run: Path) -> _Run:
    problems = []
    home = evaluated_run(run) or run

    def tried(read: Callable[[Path], T], place: Path) -> T | None:
        try:
            return read(place)
        except InputError as error:
            problems.append(str(error))
            return None

    config = tried(read_run_config, home)
    scores = tried(read_scores, run) if (run / "scores.json").is_file() else None
    # Without its scores the step of a checkpoint is unknown, and so is its history.
    until = None if home == run else 0 if scores is None else scores.step
    record = read_record(home, until=until)
    return _Run(run, home, config, record, scores, read_showcase(run), domain_names(config), problems)


# ---- words


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: object) -> str:
    """A value as text; times in a readable form."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(\+00:00|Z)$", r"\1 \2 UTC", str(value))


def estimate_text(name: str, estimate: Estimate | None) -> str:
    """The value with its unit, and its interval below it; nothing for None."""
    if estimate is None:
        return ""
    metric = METRICS[name]
    lines = [" ".join(filter(None, (metric.show(estimate.value), metric.unit))), estimate.show_interval(metric.digits)]
    return "\n".join(filter(None, lines))


def score_text(image: ShownImage) -> str:
    """The score of a single image with its name, or nothing."""
    name = image.score_name
    if name is None or image.score is None:
        return ""
    label = "distance to real images" if name == "unlike" else METRICS[name].label if name in METRICS else name
    return f"{label} {image.score:.3f}"


# ---- summary and warnings


def _summary(run: _Run) -> tuple[list[str], list[Part]]:
    config, log, scores, names = run.config, run.log, run.scores, run.names
    paragraphs = []
    if config is not None:
        size = f"crops of {config.data.crop_size} pixels" if config.data.crops else "whole images"
        paragraphs.append(
            f"Two translators between {names['a']} and {names['b']}, learned from images without pairs. "
            f"Generators: {config.model.generator_summary}; {config.adversarial} loss, {size}, "
            f"preset {config.preset}, seed {config.seed}."
        )
    # A model directory alone has no record of its training.
    if log.step or (config is not None and run.home == run.path):
        time = f" in {_duration(log.seconds)}" if log.seconds is not None else ""
        sessions = f", {counted(len(log.sessions), 'session')}" if log.sessions else ""
        trained = f"Trained for {counted(log.step, 'step')}{time}{sessions}."
        if log.best is not None:
            trained += (
                f" The best step by KID ({log.features}) on validation images is {log.best['step']:,} "
                f"({log.best['kid']:.3f}); the last one is {log.step:,}."
            )
        paragraphs.append(trained)
    if scores is None:
        # One root holds its test folders itself.
        known = config is not None and ((config.test_a and config.test_b) or config.b is None)
        command = f"cyclegan evaluate {shell_quote(run.path)}{'' if known else ' --a DIR --b DIR'}"
        return [*paragraphs, f"It has not been scored on test images yet. To do so: {command}"], []
    paragraphs.append(
        f"Scored on test images: the networks{f' of step {scores.step:,}' if scores.step else ''} "
        f"({scores.weights} weights), "
        + ("with the truth of every image." if scores.paired else "without truth, as there are no pairs.")
    )
    columns = ["", scores.title("kid"), BASELINES["floor"], BASELINES["ceiling"]]
    columns += ["L1 to the truth", "L1 of the mean image"] if scores.paired else []
    rows = []
    for direction, of in scores.directions.items():
        kid, l1 = of.metrics.get("kid"), of.metrics.get("l1")
        shown = [("kid", kid, "value"), ("kid", kid, "floor"), ("kid", kid, "ceiling")]
        shown += [("l1", l1, "value"), ("l1", l1, "mean_image")] if scores.paired else []
        cells = [estimate_text(name, getattr(score, part)) if score else "" for name, score, part in shown]
        rows.append([arrow(direction, names), *(cell or "-" for cell in cells)])
        if sentences := verdicts(of):
            paragraphs.append(f"{arrow(direction, names)}: {' '.join(sentences)}")
    return [*paragraphs, read_kid(scores.features)], [Table(columns, rows)]


def _warnings(run: _Run) -> Iterator[str]:
    """Health checks that failed (the newest text of each), scores of an earlier step, and notes on the scores."""
    log, scores = run.log, run.scores
    for event in log.not_finite:
        yield f"Step {event['step']:,}: {event.get('term')} became {event.get('value')}."
    checks: dict[str, list[Event]] = {}
    for event in log.warnings:
        checks.setdefault(str(event.get("check")), []).append(event)
    for check, events in checks.items():
        first, last = events[0]["step"], events[-1]["step"]
        when = f"step {last:,}" if len(events) == 1 else f"{len(events)} times, steps {first:,} to {last:,}"
        yield f"Health check {check} ({when}): {events[-1].get('message')}"
    if scores is None:
        return
    if scores.step < log.step:
        yield (
            f"The scores on test images are those of step {scores.step:,}, and the training went on to {log.step:,}: "
            "evaluate it again."
        )
    for note in dict.fromkeys(note for of in scores.directions.values() for note in of.notes):
        places = [arrow(direction, run.names) for direction, of in scores.directions.items() if note in of.notes]
        of_all = len(places) == len(scores.directions)
        yield from [f"Scores: {note}"] if of_all else [f"Scores of {place}: {note}" for place in places]


# ---- one direction


def _direction(run: _Run, direction: Direction) -> Iterator[Section]:
    # What comes first should be typical, not the best.
    shown = sorted(run.showcase.of(direction), key=lambda image: image.is_extreme)
    if shown:
        origin = f"Where these images are from: {run.showcase.origin}. " if run.showcase.origin else ""
        text = (
            f"Before and after translation: move the handle. {origin}Large pictures are reduced on this page; the "
            "originals are in the folder examples/ of the run."
        )
        slider = Slider(
            f"input, {direction[0].upper()}", f"translation to {direction[-1].upper()}", list(_pairs(shown))
        )
        yield Section(arrow(direction, run.names), [text], [slider])
    if run.scores is not None and direction in run.scores.directions:
        if not shown:
            yield Section(arrow(direction, run.names))
        yield _score_section(run.scores, direction)
        if (spectra := run.scores.directions[direction].spectra) is not None:
            charts = list(spectrum_charts(spectra, arrow(direction, run.names)))
            yield Section("Spectrum", [READ_SPECTRUM], charts, level=3)
        yield from probe_section(run.scores.directions[direction].probes, run.showcase, direction)
    for kind, text in (
        ("best", "The test images with the best score, first the best of all."),
        ("worst", "The test images with the worst score, first the worst of all: this is what can go wrong."),
    ):
        if found := galleries(_rows_of_pictures(run.showcase, direction, kind)):
            yield Section(f"{kind.capitalize()} images", [text], found, level=3)


def _pairs(shown: list[ShownImage]) -> Iterator[Pair]:
    for image in shown:
        before, after = image.picture("input"), image.picture("output")
        if before is not None and after is not None:
            caption = ", ".join(filter(None, (image.file, image.kind, score_text(image))))
            yield Pair(caption, before, after, image.picture("truth"), image.kind)


def _score_section(scores: Scores, direction: Direction) -> Section:
    of = scores.directions[direction]
    parts: list[Part] = []
    if notes := [*of.notes, *scores.metric_notes(direction)]:
        parts.append(Notice(notes))
    kid = of.metrics.get("kid")
    if kid is not None and kid.floor is not None and kid.ceiling is not None:
        value, low, high = kid.value.value, kid.value.low, kid.value.high
        interval = (value, value) if low is None or high is None else (low, high)
        ends = ((BASELINES["floor"], kid.floor.value), (BASELINES["ceiling"], kid.ceiling.value))
        parts.append(Scale("translations", value, interval, ends))
    rows = []
    for name, metric, score in of.rows:
        label = f"{scores.title(name)} ({metric.better} is better)"
        against = f"\nagainst {score.num_real:,} real" if score.num_real is not None else ""
        rows.append(
            [
                "\n".join(filter(None, (label, metric.meaning, score.note))),
                estimate_text(name, score.value),
                *(estimate_text(name, score.baselines.get(key)) for key in of.baselines),
                f"{score.num_images:,}{against}",
            ]
        )
    parts.append(Table(["", "translations", *of.baselines.values(), "images"], rows))
    return Section("Scores", [" ".join(verdicts(of))] if kid is not None else [], parts, level=3)


def _rows_of_pictures(
    showcase: Showcase, direction: Direction, kind: str
) -> Iterator[tuple[list[tuple[str, Image.Image]], str]]:
    heads = {"input": "input", "output": "translation", "cycled": "there and back", "truth": "truth"}
    for shown in showcase.of(direction, kind):
        pictures = [(head, picture) for name, head in heads.items() if (picture := shown.picture(name)) is not None]
        yield pictures, ", ".join(filter(None, (shown.file, score_text(shown))))


# ---- training


def _training(run: _Run) -> Iterator[Section]:
    log, frames = run.log, list(_frames(run.home, None if run.home == run.path else run.log.step))
    charts, losses = list(validation_charts(log, run.names)), list(loss_charts(log))
    if frames or charts or losses:
        yield Section("Over the training")
    if charts:
        images = log.validation_images
        text = f"Measured on {images}. " if images else ""
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


def _frames(run: Path, until: int | None) -> Iterator[tuple[str, Image.Image]]:
    """The first sample sheet, the last one up to a step, and some at equal distances between them."""
    sheets = sorted((run / "samples").glob("step_*.png"))
    if until is not None:
        steps = [sheet.stem.removeprefix("step_") for sheet in sheets]
        sheets = [sheet for sheet, step in zip(sheets, steps, strict=True) if step.isdecimal() and int(step) <= until]
    count = min(len(sheets), _MAX_FRAMES)
    for index in range(count):
        sheet = sheets[index * (len(sheets) - 1) // max(count - 1, 1)]
        picture, step = open_picture(sheet), sheet.stem.removeprefix("step_")
        if picture is not None:
            yield f"Step {int(step):,}" if step.isdecimal() else sheet.stem, shrink(picture, _FRAME_SIDE)


# ---- how it was made


def _how(run: _Run) -> Iterator[Section]:
    log, scores = run.log, run.scores
    parts: list[Part] = []
    if log.sessions:
        columns = ("time", "step", "device", "precision", "cyclegan", "torch", "python", "platform")
        rows = [[_plain(session.get(name, "")) for name in columns] for session in log.sessions]
        parts.append(Table(["time", "from step", *columns[2:]], rows))
        parts += dict.fromkeys(str(session["command"]) for session in log.sessions if session.get("command"))
    file = run.home / "config.toml"
    if file.is_file():
        with file.open(encoding="utf-8", errors="replace") as text:
            parts.append(Details("Configuration (config.toml)", text.read(_MAX_CONFIG)))
    if parts:
        yield Section("How it was trained", [], parts)

    if scores is not None:
        features = scores.features
        versions = f"cyclegan {scores.cyclegan_version}, torch {scores.torch_version}, {scores.device}"
        rows = [
            ["model", scores.model],
            ["step, weights", f"{scores.step:,}, {scores.weights}"],
            *(
                [name, f"{each.label}, {each.layer}, {each.dimensions} numbers"]
                for name, each in (("features", features), ("second features", scores.second_features))
                if each is not None
            ),
            ["size for the features", f"{features.input_pixels} pixels, {features.resize}"],
            ["size for translation", f"short side {scores.short_side} pixels" if scores.short_side else "as it is"],
            *([["self-ensemble", scores.self_ensemble]] if scores.self_ensemble != "none" else []),
            ["noise on the translation", f"standard deviation {scores.noise_sigma:g} in [-1, 1]"],
            ["intervals", f"95 %, {scores.num_bootstrap:,} resamplings of the images, seed {scores.seed}"],
            ["when, with", f"{_plain(scores.created)}, {versions}"],
            *([f"images: {name}", f"{len(of.files):,} in {of.root}"] for name, of in scores.files.items()),
        ]
        yield Section("How it was scored", [], [Table(["", ""], rows), *filter(None, [scores.command])])

    if log.unreadable:
        rows = [[f"{event.get('path')}\n{event.get('reason')}"] for event in log.unreadable]
        yield Section(
            "Files that were left out",
            ["They cannot be read, or differ from most images of their folder."],
            [Table(["file"], rows)],
        )
