"""Score one direction: translate the test images, measure and summarise them, and add notes.

The functions are in the order of the data. The metrics are those of `cyclegan.metrics.table.METRICS`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.evaluation.test_images import Advance, TestImages, file_name
from cyclegan.images.drawing import mark_holes
from cyclegan.images.file_list import describe_left_out, evenly_spaced
from cyclegan.metrics.features import FeaturePanel
from cyclegan.metrics.functions import distance_to_nearest
from cyclegan.metrics.round_trip import as_stored, fill, round_trip
from cyclegan.metrics.spectrum import WINDOW, has_spectra, pattern_excess, radial_levels, spectrum_features
from cyclegan.metrics.table import METRICS, ImageMetric, SetMetric, failure_reason, finite, measure_image
from cyclegan.storage.scores import DirectionScores, Estimate, ImageScores, Score, Spectra
from cyclegan.storage.showcase import ShowcaseImage
from cyclegan.system.terminal import printable
from cyclegan.system.words import counted
from cyclegan.translate.translator import Translator

# With fewer test images, a note says that they are few.
FEW_IMAGES = 50

# Images of each kind that the report shows for a direction.
_NUM_BEST, _NUM_TYPICAL = 4, 6


@dataclass(frozen=True)
class EvaluationContext:
    """Inputs of scoring one direction. back: the translator of the other direction, None if there is none."""

    direction: Direction
    source: TestImages
    target: TestImages
    there: Translator
    back: Translator | None
    network: FeaturePanel
    paired: bool
    batch_size: int
    num_bootstrap: int
    seed: int


@dataclass
class Measurements:
    """Measurements of the translations. Each row holds the scores of one image by metric.

    features: (N, D). spectra: (N, E), of `spectrum_features`.

    inputs, mean_images: rows of the baselines, which are the scores against the truth of the input itself and of the
    mean image. failures: metrics that failed, with the reason; no row has them.
    """

    features: Tensor = field(default_factory=lambda: torch.empty(0))
    spectra: Tensor = field(default_factory=lambda: torch.empty(0))
    rows: list[dict[str, float]] = field(default_factory=list)
    inputs: list[dict[str, float]] = field(default_factory=list)
    mean_images: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence["Measurements"]) -> "Measurements":
        """The measurements of all images, of those of parts in order."""
        joined = cls(torch.cat([part.features for part in parts]), torch.cat([part.spectra for part in parts]))
        for part in parts:
            joined.rows += part.rows
            joined.inputs += part.inputs
            joined.mean_images += part.mean_images
            joined.failures = part.failures | joined.failures
        return joined.without_failures()

    def without_failures(self) -> Self:
        """These, without the scores by metrics that failed for some image."""
        for name in self.failures:
            for row in (*self.rows, *self.inputs, *self.mean_images):
                row.pop(name, None)
        return self


MeasureAll: TypeAlias = Callable[[EvaluationContext, Advance], Measurements]


def score_direction(
    context: EvaluationContext,
    stage: Callable[[str, int], Advance],
    pair_notes: Sequence[str],
    measure: MeasureAll | None = None,
) -> DirectionScores:
    """Compute all scores of one direction. The test images of both domains have been measured.

    measure: measures the translations of all test images; default: `measure_translations`.
    """
    source, target = context.source, context.target
    # As many training images as translations: the bias of the Frechet distance depends on the number.
    target.measure_training(
        context.network,
        len(source.paths),
        context.batch_size,
        stage(f"Training images of {target.name}", target.num_training(len(source.paths), context.paired)),
        mean=context.paired,
    )
    advance = stage(f"Translating {context.direction}", len(source.paths))
    measured = (measure or _measure_all)(context, advance)
    scores = {**score_sets(context, measured), **score_images(context, measured)}
    images = tuple(
        ImageScores(file=file_name(path, source.root), scores={**row, **unlike})
        for path, row, unlike in zip(source.paths, measured.rows, _unlike(context, measured), strict=True)
    )
    notes = [*direction_notes(context), *pair_notes, *metric_notes(context, scores, measured.failures)]
    found = DirectionScores(
        metrics={}, images=images, notes=tuple(map(printable, notes)), spectra=_spectra(context, measured.spectra)
    )
    return found.with_metrics(scores)


# ---- measure


def _measure_all(context: EvaluationContext, advance: Advance) -> Measurements:
    return measure_translations(context, context.source.paths, advance)


def measure_translations(
    context: EvaluationContext, paths: Sequence[Path], advance: Advance, *, first: int = 0
) -> Measurements:
    """Translate test images, there and back, and measure each one. first: the number of the first of them."""
    source, target = context.source, context.target
    measured = Measurements()
    features: list[Tensor] = []
    spectra: list[Tensor] = []
    for some, images, masks in source.batches(paths, context.batch_size):
        translated = _translate(context, images, masks, first=first + len(measured.rows))
        features.append(context.network(translated["output"]))
        spectra.append(spectrum_features(translated["output"]))
        for i, path in enumerate(some):
            pictures = {name: batch[i] for name, batch in translated.items()}
            holes: dict[str, Tensor | None] = dict.fromkeys(pictures, masks[i])
            if context.paired:
                truth, mask = target.read(source.partners[path])
                pictures["truth"], holes["truth"] = truth, mask
                for rows, known in ((measured.inputs, images[i]), (measured.mean_images, target.mean)):
                    if known is not None and known.shape == truth.shape:
                        compared = {"output": known, "truth": truth}
                        rows.append(measure_image(compared, measured.failures, masks=holes))  # on the same pixels
            measured.rows.append(measure_image(pictures, measured.failures, masks=holes))
            advance(1)
    measured.features, measured.spectra = torch.cat(features), torch.cat(spectra)
    return measured.without_failures()


def _translate(
    context: EvaluationContext, images: Tensor, masks: Sequence[Tensor | None], first: int
) -> dict[str, Tensor]:
    """The pictures of a batch, translations as their files would hold them.

    first: number of the first image, on which the noise depends.
    """
    there, target = context.there.translate_tensor, context.target.image_format
    if context.back is None:
        return {"input": images, "output": fill(as_stored(there(images), target), masks)}
    back = context.back.translate_tensor
    trip = round_trip(images, there, back, target, seed=context.seed, first=first, masks=masks)
    return {"input": images, "output": trip.fake, "cycled": trip.cycled, "cycled_noisy": trip.cycled_noisy}


def _unlike(context: EvaluationContext, measured: Measurements) -> list[dict[str, float]]:
    """How far each translation is from the nearest real images, by name; empty where that cannot be computed."""
    try:
        columns = context.network.columns(context.network.names[0])
        values = distance_to_nearest(measured.features[:, columns], context.target.features[:, columns]).tolist()
    except Exception:  # set metrics on the same features say why
        values = [math.nan] * len(measured.rows)
    return [{"unlike": value} if math.isfinite(value) else {} for value in values]


# ---- summarise


def score_sets(context: EvaluationContext, measured: Measurements) -> dict[str, Score]:
    """Distances between sets of images, on their features or spectra."""
    source, target = context.source, context.target
    scores = {}
    for name, metric in METRICS.items():
        if not isinstance(metric, SetMetric):
            continue
        sets: tuple[Tensor, Tensor, Tensor | None, Tensor]
        if metric.on == "spectra":
            if not (has_spectra(measured.spectra) and has_spectra(target.spectra)):
                continue  # the images are too small
            sets = measured.spectra, target.spectra, target.training_spectra, source.spectra
        else:
            network = metric.features or context.network.names[0]
            # One network needs no second row.
            if network not in context.network.names[0 if metric.features is None else 1 :]:
                continue
            if failure := context.network.failures.get(network):
                measured.failures[name] = failure
                continue
            columns, training = context.network.columns(network), target.training
            sets = (
                measured.features[:, columns],
                target.features[:, columns],
                None if training is None else training[:, columns],
                source.features[:, columns],
            )
        try:
            scores[name] = _score_set(context, metric, *sets)
        except Exception as error:  # one failing metric must not stop the others
            measured.failures[name] = failure_reason(error)
    return scores


def _score_set(
    context: EvaluationContext,
    metric: SetMetric,
    features: Tensor,
    real: Tensor,
    training: Tensor | None,
    inputs: Tensor,
) -> Score:
    """A distance and its baselines. All are features of images: translations, test images, training ones, inputs."""

    def distance(x: Tensor) -> Estimate:
        found = metric.measure(x, real, num_bootstrap=context.num_bootstrap, seed=context.seed)
        if not isinstance(found, tuple):
            return Estimate(value=finite(found))
        value, low, high = map(finite, found)
        return Estimate(value=value, low=low, high=high)

    notes = []
    dimensions = features.shape[1]
    if metric.biased and min(len(features), len(real)) <= dimensions:
        notes.append(f"fewer images than the {dimensions} features: mostly bias, compare with its own baselines only")
    # A baseline of fewer images than there are translations would have more bias than they have.
    if metric.biased and training is not None and len(training) != len(features):
        notes.append(
            f"no baseline of real images: only {len(training)} training images for {len(features)} translations"
        )
        training = None
    spectral = metric.on == "spectra"
    return Score(
        value=distance(features),
        floor=distance(training) if training is not None and (not spectral or has_spectra(training)) else None,
        ceiling=distance(inputs) if not spectral or has_spectra(inputs) else None,
        num_images=has_spectra(features) if spectral else len(features),
        num_real=has_spectra(real) if spectral else len(real),
        note="; ".join(notes),
    )


def _spectra(context: EvaluationContext, translated: Tensor) -> Spectra | None:
    """What the report draws of the spectra; None if the images are too small."""
    real, inputs = context.target.spectra, context.source.spectra
    if not (has_spectra(translated) and has_spectra(real) and has_spectra(inputs)):
        return None

    def curve(levels: Tensor) -> tuple[float, ...]:
        return tuple(round(float(value), 3) for value in levels)

    translations, real_images, untranslated = (curve(radial_levels(x).mean(1)) for x in (translated, real, inputs))
    patterns = tuple(map(curve, pattern_excess(translated, real).T))
    return Spectra(translations=translations, real=real_images, input=untranslated, patterns=patterns)


def score_images(context: EvaluationContext, measured: Measurements) -> dict[str, Score]:
    """Means of the scores of single images, with their baselines."""
    scores = {}
    for name in {name: None for row in measured.rows for name in row}:
        value, ceiling, mean_image = (
            _mean([row[name] for row in rows if name in row])
            for rows in (measured.rows, measured.inputs, measured.mean_images)
        )
        assert value is not None
        count = sum(name in row for row in measured.rows)
        score = Score(value=value, ceiling=ceiling, mean_image=mean_image, num_images=count)
        metric = METRICS[name]
        if isinstance(metric, ImageMetric) and metric.in_units and context.target.image_format.dtype != "uint8":
            score = score.replace(note=_in_units(score, context.target))
        scores[name] = score
    return scores


def _mean(values: Sequence[float]) -> Estimate | None:
    """Mean over images with its 95 % interval, from the spread over images."""
    if not values:
        return None
    column = torch.tensor(values, dtype=torch.float64)
    mean = float(column.mean())
    if len(values) < 2:
        return Estimate(value=mean)
    half = 1.96 * float(column.std()) / len(values) ** 0.5
    return Estimate(value=mean, low=mean - half, high=mean + half)


def _in_units(score: Score, target: TestImages) -> str:
    """A difference in the unit of the files, such as metres."""
    half = (target.image_format.high - target.image_format.low) / 2

    def show(value: float) -> str:
        return f"{value * half:,.0f}" if abs(value * half) >= 1000 else f"{value * half:.4g}"

    mean_image = f", of the mean image {show(score.mean_image.value)}" if score.mean_image is not None else ""
    return f"in the values of {target.name} it is {show(score.value.value)}{mean_image}"


# ---- notes


def direction_notes(context: EvaluationContext) -> Iterator[str]:
    """Notes on the images and the model."""
    source, target = context.source, context.target
    for domain in (source, target):
        if shared := len(domain.trained_on.intersection(domain.paths)):
            yield (
                f"{shared} of {len(domain.paths)} test images of {domain.name} lie in the training folder, under these "
                "or other names: these are scores on images that the model has seen."
            )
    fewest = min(len(source.paths), len(target.paths))
    if fewest < FEW_IMAGES:
        yield (
            f"Only {fewest} test images: small differences of KID mean nothing (see its interval); "
            f"{FEW_IMAGES} are few, a few hundred are good."
        )
    if target.training is None:
        where = f" (no {target.train_root})" if target.train_root is not None else ""
        yield f"No baseline of real images: the training images of the target domain are not known or missing{where}."
    for domain in (source, target):
        if note := domain.clipping_note():
            yield note
    for domain in (source, target):
        yield from domain.holes_notes()
    for domain in (source, target):
        if domain.unreadable:
            files, reason = counted(len(domain.unreadable), "test file"), domain.first_reason.removesuffix(".")
            yield f"{files} of {domain.name} cannot be read ({reason})."
    for domain in (source, target):
        if left_out := describe_left_out(domain.other_files):
            yield f"{domain.root}: {left_out}"
    if context.back is None:
        yield "No cycle error: the model has no way back."
    info = context.there.info
    sides = [min(size) for size in source.sizes.values()]
    if info.preprocess not in ("crop", "none") and sides:
        smallest, largest = min(sides), max(sides)
        sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        if largest > 1.5 * info.load_size or smallest < info.load_size / 1.5:
            yield (
                f"The test images have short sides of {sizes} pixels, and the model was trained "
                f"on images brought to {info.load_size}; --short-side {info.load_size} scores at that scale."
            )


def metric_notes(context: EvaluationContext, scores: Mapping[str, Score], failures: Mapping[str, str]) -> Iterator[str]:
    """Metrics that are missing, for some images or for all."""
    num_images = len(context.source.paths)
    largest = max((min(size) for size in context.source.sizes.values()), default=0)
    known = {"input", "output"} | ({"truth"} if context.paired else set())
    known |= {"cycled", "cycled_noisy"} if context.back is not None else set()
    for name, metric in METRICS.items():
        title = metric.title(context.network.infos[0].title)
        if name in failures:
            yield f"No {title}: it failed ({failures[name]})."
        elif name in scores:
            if scores[name].num_images < num_images:
                yield f"{title}: only {scores[name].num_images} of {num_images} images have one."
        elif isinstance(metric, SetMetric) and metric.on == "spectra":
            yield f"No {title}: it needs two images of each domain with sides of at least {WINDOW} pixels."
        elif isinstance(metric, ImageMetric) and known >= set(metric.compares):
            if largest >= metric.smallest_side:
                yield f"No {title}: no image has one."
            else:
                yield f"No {title}: it needs images of at least {metric.smallest_side} pixels on the shorter side."


# ---- show


def choose_showcase(context: EvaluationContext, result: DirectionScores) -> list[ShowcaseImage]:
    """Pictures of the best images, the worst, and some at equal distances in the list of files."""
    paths = dict(zip((image.file for image in result.images), context.source.paths, strict=True))
    ranked = result.ranked
    num_best = min(_NUM_BEST, len(ranked) // 2)
    best, worst = ranked[:num_best], ranked[len(ranked) - num_best :][::-1]
    shown = {image.file for image in (*best, *worst)}
    typical = evenly_spaced([image for image in result.images if image.file not in shown], _NUM_TYPICAL)
    groups: dict[Literal["typical", "best", "worst"], Sequence[ImageScores]]
    groups = {"typical": typical, "best": best, "worst": worst}
    name = result.ranked_by
    return [
        ShowcaseImage(
            context.direction,
            image.file,
            kind,
            _pictures(context, paths[image.file]),
            name if name in image.scores else None,
            image.scores.get(name),
        )
        for kind, images in groups.items()
        for image in images
    ]


def _pictures(context: EvaluationContext, path: Path) -> dict[str, Tensor]:
    real, mask = context.source.read(path)
    fake = fill(as_stored(context.there.translate_tensor(real[None]), context.target.image_format), [mask])
    pictures = {"input": real, "output": fake[0]}
    if context.back is not None:
        pictures["cycled"] = context.back.translate_tensor(fake)[0]
    pictures = {name: mark_holes(picture, mask) for name, picture in pictures.items()}
    if context.paired:
        pictures["truth"] = mark_holes(*context.target.read(context.source.partners[path]))
    return pictures
