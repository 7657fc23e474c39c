"""The card of a model: README.md and its pictures, made only from what is on disk.

It names folders without their paths, so that it reveals nothing about the machine.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cyclegan.config import Direction, TrainConfig
from cyclegan.data.domains import find_folders
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.pages import is_folder
from cyclegan.networks import build_generator, count_parameters
from cyclegan.publishing.facts import Subject, public_scores
from cyclegan.publishing.markdown import Markdown, code, link, plain
from cyclegan.report.page import montage
from cyclegan.report.record import Event, inside, number
from cyclegan.report.run_charts import arrow
from cyclegan.step.terms import active_penalties, logged_terms
from cyclegan.storage.hub import is_address
from cyclegan.storage.scores import BASELINES, READ_BASELINES, Scores, verdicts
from cyclegan.storage.showcase import ShownImage, open_picture
from cyclegan.system.json_files import read_json

# Images in the picture of a direction; their largest side and the gap between them, in pixels.
_NUM_SHOWN, _CELL, _GAP = 4, 256, 6

# The parts of a dataset's about.json that the card shows, with their titles.
_ABOUT = {"name": "Name", "a": "A", "b": "B", "source": "Source", "url": "Address", "licence": "Licence"}
_ABOUT |= {"license": "Licence", "citation": "Citation"}

# ---- pictures


def card_pictures(subject: Subject) -> dict[str, Image.Image]:
    """The pictures of the card by their path in the repository; none if no translation was kept."""
    pictures = {}
    for direction in subject.directions:
        shown = _shown(subject, direction)
        if shown:
            pictures[f"samples/{direction}.png"] = _columns(shown)
    sheet = open_picture(subject.sheet) if subject.sheet is not None and not pictures else None
    return pictures if sheet is None else {"samples/samples.png": sheet}


def _shown(subject: Subject, direction: Direction) -> list[ShownImage]:
    """Typical images, not the best ones."""
    examples = subject.examples.of(direction)
    return evenly_spaced([example for example in examples if not example.is_extreme] or examples, _NUM_SHOWN)


def _roles(shown: Sequence[ShownImage]) -> list[str]:
    return [role for role in ("input", "output", "truth") if all(role in example.pictures for example in shown)]


def _columns(shown: Sequence[ShownImage]) -> Image.Image:
    """An image in each column: input, output and, where it is known, truth."""
    rows = [[example.picture(role) or Image.new("RGB", (1, 1), "white") for example in shown] for role in _roles(shown)]
    for picture in chain(*rows):
        picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return montage(rows, _GAP)


# ---- text


def card_text(
    subject: Subject, pictures: Sequence[str] = (), *, licence: str | None = None, data_licence: str | None = None
) -> str:
    """README.md. pictures: the paths of `card_pictures` that are published. licence: its id at the Hub."""
    from huggingface_hub import ModelCardData  # of the extra `hub`, which publishing needs

    info, log, scores = subject.info, subject.log, public_scores(subject)
    first = subject.directions[0]
    source, target = (info.a, info.b) if first == "a2b" else (info.b, info.a)
    found = scores.directions if scores is not None else {}
    sentences = {direction: " ".join(verdicts(of)) for direction, of in found.items() if "kid" in of.metrics}
    tests = [(name, of.files) for name, of in scores.files.items() if "test" in name] if scores is not None else []
    shown = {direction: _shown(subject, direction) for direction in subject.directions}
    newest = {str(event.get("check")): event for event in log.warnings if event["step"] <= info.step}
    templates = Environment(
        loader=PackageLoader("cyclegan.publishing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=plain,  # whatever a file says is shown as text
    )
    templates.filters |= {"raw": Markdown, "code": code, "clean": lambda text: plain(subject.clean(text))}
    text = templates.get_template("card.md").render(
        header=Markdown(
            ModelCardData(
                license=licence,
                library_name="cyclegan",
                pipeline_tag="image-to-image",
                tags=["cyclegan", "unpaired-image-to-image-translation", "gan", "pytorch"],
            )
        ),
        subject=subject,
        info=info,
        config=subject.config,
        log=log,
        first=first,
        is_both=len(subject.directions) == 2,
        title=lambda direction: arrow(direction, subject.names),
        about=_about(subject.config),
        ABOUT=_ABOUT,
        link=link,
        pictures=pictures,
        sheets=[
            (direction, "truth" in _roles(images), not any(image.is_extreme for image in images))
            for direction, images in shown.items()
            if f"samples/{direction}.png" in pictures
        ],
        origin=subject.clean(subject.examples.origin).removeprefix("from "),
        test_images=" and ".join(f"{len(files):,} images of {name[-1].upper()}" for name, files in tests),
        source=source,
        reads_picture=_is_picture(source),
        writes_picture=_is_picture(source) and _is_picture(target),
        is_resized=info.preprocess not in ("crop", "none"),
        scores=scores,
        verdicts=sentences,
        kid_in_training=list(_kid_in_training(subject)),
        READ_BASELINES=READ_BASELINES,
        table=_table,
        score_rows=_score_rows,
        data_rows=_data_rows(subject),
        training_rows=_training_rows(subject),
        loss_rows=_loss_rows(subject.config) if subject.config is not None else [],
        warnings=newest.values(),
        was_not_finite=any(event["step"] <= info.step for event in log.not_finite),
        licence=licence,
        data_licence=data_licence,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _is_picture(image_format: ImageFormat) -> bool:
    return image_format.dtype == "uint8" and image_format.channels in (1, 3, 4)


def _kid_in_training(subject: Subject) -> Iterator[tuple[Direction, float, str]]:
    """The KID on validation images at this step, if the run was scored then, and its baselines in words."""
    event = next((event for event in subject.log.scores if event.get("step") == subject.info.step), None)
    for direction in subject.directions:
        value = number(inside(event, "directions", direction, "kid", "value"))
        if value is not None:
            known = inside(subject.log.validation, "directions", direction)
            ends = {BASELINES[key]: number(inside(known, key, "value")) for key in ("floor", "ceiling")}
            yield direction, value, ", ".join(f"{words} {end:.3f}" for words, end in ends.items() if end is not None)


def _score_rows(scores: Scores, direction: Direction) -> list[list[str]]:
    of = scores.directions[direction]
    rows = [["score", "translations", "95 % interval", *of.baselines.values(), "images"]]
    for name, metric, score in of.rows:
        unit = f", {metric.unit}" if metric.unit else ""
        label = f"{scores.title(name)}{unit} ({metric.better} is better)"
        known = score.baselines
        values = [metric.show(known[key].value) if key in known else "" for key in of.baselines]
        interval = score.value.show_interval(metric.digits)
        rows.append([label, metric.show(score.value.value), interval, *values, f"{score.num_images:,}"])
    return rows


def _data_rows(subject: Subject) -> list[list[str]]:
    info, config = subject.info, subject.config
    rows = [["domain", "image format"], ["A", str(info.a)], ["B", str(info.b)]]
    if config is not None and config.a is not None:
        try:
            folders = find_folders(config.a, config.b, config.test_a, config.test_b)
            places = [(folders.a, folders.test_a), (folders.b, folders.test_b)]
        except InputError:  # the folders have moved
            places = [(config.a, config.test_a), (config.b or config.a, config.test_b)]
        rows[0] += ["training images", "test images"]
        for row, (train, test) in zip(rows[1:], places, strict=True):
            row += [_count(train, config), _count(test, config) if test is not None else ""]
    return rows


def _count(folder: Path, config: TrainConfig) -> str:
    images = f": {len(list_images(folder, config.data.axis)):,}" if is_folder(folder) else ""
    return Markdown(code(folder.resolve().name) + images)


def _about(config: TrainConfig | None) -> dict[str, str]:
    """What the dataset's about.json says, which lies in its root or beside the folders of images."""
    folders = [folder for folder in (config.a, config.b) if folder is not None] if config is not None else []
    for folder in (place for given in folders for place in (given, given.parent)):
        try:
            about = read_json(folder / "about.json", dict[str, Any])
        except UnreadableError:
            continue
        return {name: about[name] for name in _ABOUT if isinstance(about.get(name), str)}
    return {}


def _training_rows(subject: Subject) -> list[list[str]]:
    info, config, log = subject.info, subject.config, subject.log
    model = info.model
    direction = subject.directions[0]
    channels = (model.channels_a, model.channels_b) if direction == "a2b" else (model.channels_b, model.channels_a)
    size = count_parameters(build_generator(model, *channels))
    rows = [
        ["setting", "value"],
        ["generators", f"{model.generator_summary}, {size:,} parameters each"],
        ["normalisation", model.norm + (", dropout in training" if model.dropout else "")],
    ]
    if model.reference_incompatibilities:
        rows.append(["beyond the paper's networks", ", ".join(model.reference_incompatibilities)])
    if info.step:
        rows.append(["steps", f"{info.step:,}"])
    if config is not None:
        rows.insert(2, ["discriminators", model.discriminator_summary])
        lengths = {"steps": config.steps, "epochs": config.epochs, "minutes": config.minutes}
        planned = ", ".join(f"{value:g} {name}" for name, value in lengths.items() if value is not None)
        rows += [
            ["preset, planned length", f"{config.preset}, {planned}"],
            ["optimiser", f"Adam, rate {config.learning_rate:g}, betas {config.beta1:g} and {config.beta2:g}"],
            ["schedule", config.schedule],
            ["batch, seed", f"{config.batch_size}, {config.seed}"],
        ]
        if config.init_from is not None:
            start = config.init_from
            rows.append(["started from", str(start) if is_address(start) else start.absolute().name])
        if config.freeze != "none":
            rows.append(["frozen", "encoder and discriminator" if config.freeze == "both" else config.freeze])
    session: Event = log.sessions[-1] if log.sessions else {}
    if log.seconds is not None:
        rows.append(["training time", f"{log.seconds / 60:,.1f} minutes"])
    rows += [[name, str(session[name])] for name in ("device", "precision") if session.get(name)]
    versions = [f"{name} {session[name]}" for name in ("cyclegan", "torch", "python") if session.get(name)]
    rows.append(["versions", ", ".join(versions) or f"cyclegan {info.cyclegan_version}"])
    kinds = ", ".join(map(code, subject.files))
    rows.append(["files", Markdown(f"{kinds}; used by default: {info.translate_with}")])
    if info.origin is not None:
        rows.append(["origin", subject.clean(info.origin)])
    return rows


def _loss_rows(config: TrainConfig) -> list[list[str]]:
    losses = [["loss", "weight"]]
    for term in logged_terms(config):
        weights = term.set_weights(config)
        if term.per != "round trip" and len(set(weights.values())) == 1:
            weights = {"": next(iter(weights.values()))}
        losses += [[term.full_label(config, words), f"{weight:g}"] for words, weight in weights.items()]
    if config.cycle_end != 1:
        losses.append(["share of the cycle weights that is left at the end", f"{config.cycle_end:g}"])
    losses += [[penalty.label, f"{penalty.weight(config):g}"] for penalty in active_penalties(config)]
    return losses


def _table(rows: Sequence[Sequence[str]]) -> Markdown:
    lines = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    return Markdown("\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]))
