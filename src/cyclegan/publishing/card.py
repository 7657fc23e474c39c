"""The card of a model: README.md and its pictures, made only from what is on disk.

It names folders without their paths, so that it reveals nothing about the machine.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from cyclegan.config import Direction, TrainConfig
from cyclegan.data.domains import find_folders
from cyclegan.errors import InputError
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator, count_parameters
from cyclegan.publishing.facts import Subject, public_scores
from cyclegan.report.page import montage
from cyclegan.report.record import Event, inside, number
from cyclegan.report.run_charts import arrow
from cyclegan.step.terms import active_penalties, logged_terms
from cyclegan.storage.hub import is_address
from cyclegan.storage.scores import BASELINES, READ_BASELINES, Scores, verdict
from cyclegan.storage.showcase import ShownImage, open_picture

# Images in the picture of a direction; their largest side and the gap between them, in pixels.
_NUM_SHOWN, _CELL, _GAP = 4, 256, 6

# The parts of a dataset's about.json that the card shows, with their titles.
_ABOUT = {"name": "Name", "a": "A", "b": "B", "source": "Source", "url": "Address", "licence": "Licence"}
_ABOUT |= {"license": "Licence", "citation": "Citation"}

_CITATION = """@inproceedings{CycleGAN2017,
  title = {Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks},
  author = {Zhu, Jun-Yan and Park, Taesung and Isola, Phillip and Efros, Alexei A.},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2017}
}"""


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

    sections = (
        _what(subject, pictures),
        _usage(subject),
        _scores(subject),
        _data(subject, data_licence),
        _training(subject),
        _licence(licence),
        _limits(subject),
        ["## Citation", f"The method is that of Zhu et al., ICCV 2017:\n\n```bibtex\n{_CITATION}\n```"],
    )
    header = ModelCardData(
        license=licence,
        library_name="cyclegan",
        pipeline_tag="image-to-image",
        tags=["cyclegan", "unpaired-image-to-image-translation", "gan", "pytorch"],
    )
    body = "\n\n".join(part for section in sections for part in section)
    return f"---\n{header}\n---\n\n{body}\n"


def _what(subject: Subject, pictures: Sequence[str]) -> Iterator[str]:
    names, directions = subject.names, subject.directions
    yield f"# {subject.repo_id.partition('/')[2]}"
    kind = "Two image translators" if len(directions) == 2 else "An image translator"
    there = arrow(directions[0], names) + (", and back" if len(directions) == 2 else "")
    yield (
        f"{kind}, learned from two folders of images without pairs (CycleGAN): {_cell(there)}. "
        f"{'Made' if subject.config is not None or subject.info.origin is None else 'Imported'} with `cyclegan` "
        f"{subject.info.cyclegan_version}."
    )
    about = _about(subject.config)
    domains = [f"- {name.upper()}: {_cell(subject.clean(about[name]))}" for name in ("a", "b") if name in about]
    if domains:
        yield "\n".join(domains)
    for direction in directions:
        if f"samples/{direction}.png" in pictures:
            shown = _shown(subject, direction)
            below = "its translation below"
            below += f", and under it the true image of {direction[-1].upper()}" if "truth" in _roles(shown) else ""
            title = _cell(arrow(direction, names))
            yield f"![{title}: input and translation](samples/{direction}.png)"
            origin = subject.clean(subject.examples.origin).removeprefix("from ")
            usual = not any(example.is_extreme for example in shown)
            chosen = "not chosen by how well they came out" if usual else "among them the best and the worst"
            where = f" The images are from {origin}, {chosen}." if origin else ""
            yield f"*{title}. Each column is one image: the input above, {below}.{where}*"
    if "samples/samples.png" in pictures:
        yield "![inputs, translations and the way back](samples/samples.png)"
        yield "*Inputs, their translations, and these translated back, as the labels say.*"
    if not pictures:
        yield "No picture of its translations was published with this model."


def _usage(subject: Subject) -> Iterator[str]:
    info, repo_id = subject.info, subject.repo_id
    direction = subject.directions[0]
    source, target = (info.a, info.b) if direction == "a2b" else (info.b, info.a)
    yield "## How to use"
    yield "```sh\npip install 'cyclegan[hub]'\n```"
    pictures_in, pictures_out = _is_picture(source), _is_picture(source) and _is_picture(target)
    name = "input.png" if pictures_in else "input.npy"
    lines = [] if pictures_out else ["import numpy as np"]
    lines += ["from PIL import Image"] if pictures_in else []
    lines += ["from cyclegan import Translator", ""]
    lines += [f'translator = Translator.from_pretrained("{repo_id}", direction="{direction}")']
    opened = f'Image.open("{name}")' if pictures_in else f'np.load("{name}")'
    lines += [f"result = translator({opened})" + ("" if pictures_in else f"  # (H, W, {source.channels})")]
    lines += ['result.save("translated.png")' if pictures_out else 'np.save("translated.npy", np.asarray(result))']
    yield "```python\n" + "\n".join(lines) + "\n```"
    yield (
        f"```sh\ncyclegan translate hf:{repo_id} {name} --out translated --direction {direction}\n```\n\n"
        "In place of the image there may be folders of images. An output has the size of its input. Once fetched, the "
        "model also loads without a connection."
    )
    if len(subject.directions) == 2:
        yield f'The other way: `direction="{subject.directions[1]}"`, `--direction {subject.directions[1]}`.'
    if info.preprocess not in ("crop", "none"):
        yield (
            f"It learned from images brought to {info.load_size} pixels. For much larger or smaller ones, "
            f"`--short-side {info.load_size}` translates at that scale."
        )


def _is_picture(image_format: ImageFormat) -> bool:
    return image_format.dtype == "uint8" and image_format.channels in (1, 3, 4)


def _scores(subject: Subject) -> Iterator[str]:
    yield "## Scores"
    scores = public_scores(subject)
    if scores is None:
        yield subject.no_scores + " `cyclegan evaluate` scores a model on two folders of test images."
        yield from _scores_in_training(subject)
        return
    counts = [f"{len(of.files):,} images of {name[-1].upper()}" for name, of in scores.files.items() if "test" in name]
    truth = "with the truth of every image" if scores.paired else "without truth, as there are no pairs"
    size = f", brought to a short side of {scores.short_side} pixels" if scores.short_side else ""
    yield (
        f"Measured by `cyclegan evaluate` {scores.cyclegan_version} on test images ({' and '.join(counts)}{size}), "
        f"{truth}, with the {scores.weights} weights of step {scores.step:,}."
    )
    yield (
        f"KID and Frechet distance are computed on {scores.features.label}: they are neither standard FID nor standard "
        f"KID and must not be compared with published ones, which use another network. {READ_BASELINES}"
    )
    for direction in subject.directions:
        of = scores.directions.get(direction)
        if of is not None:
            yield f"### {_cell(arrow(direction, subject.names))}"
            if "kid" in of.metrics:
                yield " ".join(verdict(of.metrics["kid"]))
            yield _score_table(scores, direction)
            of_single = [f"{note}." for note in scores.metric_notes(direction)]
            if of.notes or of_single:
                yield "\n".join(f"- {note}" for note in (*of.notes, *of_single))


def _scores_in_training(subject: Subject) -> Iterator[str]:
    """The KID on validation images at this step, if the run was scored then."""
    event = next((event for event in subject.log.scores if event.get("step") == subject.info.step), None)
    for direction in subject.directions:
        value = number(inside(event, "directions", direction, "kid", "value"))
        if value is not None:
            known = inside(subject.log.validation, "directions", direction)
            ends = {BASELINES[key]: number(inside(known, key, "value")) for key in ("floor", "ceiling")}
            beside = ", ".join(f"{words} {end:.3f}" for words, end in ends.items() if end is not None)
            yield (
                f"{_cell(arrow(direction, subject.names))}: KID, {subject.log.features}, on validation images in "
                f"training {value:.3f}{beside and f' ({beside})'}; less is better. It is no standard KID."
            )


def _score_table(scores: Scores, direction: Direction) -> str:
    of = scores.directions[direction]
    rows = [["score", "translations", "95 % interval", *of.baselines.values(), "images"]]
    for name, metric, score in of.rows:
        unit = f", {metric.unit}" if metric.unit else ""
        label = f"{scores.title(name)}{unit} ({metric.better} is better)"
        known = score.baselines
        values = [metric.show(known[key].value) if key in known else "" for key in of.baselines]
        interval = score.value.show_interval(metric.digits)
        rows.append([label, metric.show(score.value.value), interval, *values, f"{score.num_images:,}"])
    return _table(rows)


def _data(subject: Subject, data_licence: str | None) -> Iterator[str]:
    info, config = subject.info, subject.config
    yield "## Data"
    rows = [["domain", "image format"], ["A", str(info.a)], ["B", str(info.b)]]
    if config is not None and config.a is not None:
        try:
            folders = find_folders(config.a, config.b, config.test_a, config.test_b)
            places = [(folders.a, folders.test_a), (folders.b, folders.test_b)]
        except InputError:  # the folders have moved
            places = [(config.a, config.test_a), (config.b or config.a, config.test_b)]
        rows[0] += ["training images", "test images"]
        for row, (train, test) in zip(rows[1:], places, strict=True):
            row += [_count(train), _count(test) if test is not None else ""]
    yield _table(rows)
    about = _about(config)
    if about:
        lines = [f"- {_ABOUT[name]}: {_cell(subject.clean(text))}" for name, text in about.items()]
        yield "The dataset describes itself (about.json):\n\n" + "\n".join(lines)
    yield (
        f"Licence of the images, as stated by the publisher of this model: {_cell(data_licence)}"
        if data_licence
        else f"{'Beyond that, the' if about else 'The'} licence of the images is not stated."
    )
    mirrored = "" if config is None else ", mirrored at random" if config.data.flip else ", not mirrored"
    cropped = f", crops of {info.crop_size} pixels" if info.preprocess.endswith("crop") else ""
    size = f", size {info.load_size} pixels" if info.preprocess not in ("crop", "none") else ""
    if config is None and info.preprocess == "none":
        yield "How the training images were brought to size is not known here."
    else:
        yield f"Preprocessing in training: `{info.preprocess}`{size}{cropped}{mirrored}."
    if images := subject.log.validation_images:
        yield f"Scores in training were computed on {subject.clean(images)}."


def _count(folder: Path) -> str:
    images = f": {len(list_images(folder)):,}" if folder.is_dir() else ""
    return f"`{_cell(folder.resolve().name)}`{images}"


def _about(config: TrainConfig | None) -> dict[str, str]:
    """The sentences of the dataset's about.json, which lies in its root or beside the folders of images."""
    folders = [folder for folder in (config.a, config.b) if folder is not None] if config is not None else []
    for folder in (place for given in folders for place in (given, given.parent)):
        try:
            about: Any = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            return {name: about[name] for name in _ABOUT if isinstance(about.get(name), str)}
    return {}


def _training(subject: Subject) -> Iterator[str]:
    info, config, log = subject.info, subject.config, subject.log
    model = info.model
    yield "## Training"
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
        rows.append(["time of the whole run", f"{log.seconds / 60:,.1f} minutes"])
    rows += [[name, str(session[name])] for name in ("device", "precision") if session.get(name)]
    versions = [f"{name} {session[name]}" for name in ("cyclegan", "torch", "python") if session.get(name)]
    rows.append(["versions", ", ".join(versions) or f"cyclegan {info.cyclegan_version}"])
    kinds = ", ".join(f"`{name}`" for name in subject.files)
    rows.append(["files", f"{kinds}; used by default: {info.translate_with}"])
    if info.origin is not None:
        rows.append(["origin", subject.clean(info.origin)])
    yield _table(rows)
    if config is None:
        yield "The settings of its training are not known here."
        return
    losses = [["loss", "weight"]]
    for term in logged_terms(config):
        weights = term.set_weights(config)
        if term.per != "round trip" and len(set(weights.values())) == 1:
            weights = {"": next(iter(weights.values()))}
        losses += [[term.full_label(config, words), f"{weight:g}"] for words, weight in weights.items()]
    if config.cycle_end != 1:
        losses.append(["share of the cycle weights that is left at the end", f"{config.cycle_end:g}"])
    losses += [[penalty.label, f"{penalty.weight(config):g}"] for penalty in active_penalties(config)]
    yield _table(losses)


def _licence(licence: str | None) -> Iterator[str]:
    yield "## Licence"
    yield (
        f"`{licence}` (of the weights, as stated by their publisher)."
        if licence
        else "The licence of these weights is not stated: ask their publisher before you use them."
    )


def _limits(subject: Subject) -> Iterator[str]:
    yield "## What can go wrong"
    lines = []
    for direction, of in (public.directions if (public := public_scores(subject)) else {}).items():
        if direction in subject.directions and "kid" in of.metrics:
            lines.append(f"{_cell(arrow(direction, subject.names))}: {' '.join(verdict(of.metrics['kid']))}")
    if subject.scores is None:
        lines.append("It has no scores on test images, so how good it is was not measured.")
    newest = {str(event.get("check")): event for event in subject.log.warnings if event["step"] <= subject.info.step}
    for event in newest.values():
        lines.append(f"Seen in training at step {event['step']:,}: {subject.clean(str(event.get('message')))}")
    if any(event["step"] <= subject.info.step for event in subject.log.not_finite):
        lines.append("A loss was not a finite number at some step of its training.")
    lines += [
        "It learned from unpaired images, so nothing ties a pixel of the output to the truth: it can add, remove or "
        "recolour things and still look right. Do not measure or diagnose on translations.",
        "Images unlike those of its training, by subject, scale, light or camera, come out worse, without a warning.",
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _cell(text: str) -> str:
    """Text of unknown origin in one line that breaks no table."""
    return " ".join(text.split()).replace("|", "\\|")
