"""Score a trained run on images that it has not seen: realism, faithfulness, and the distance from the truth."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cyclegan._version import __version__
from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.evaluation.test_images import (
    Advance,
    DomainImages,
    check_pairs,
    file_lists,
    find_domains,
    first_reason,
    match_pairs,
)
from cyclegan.images.codecs import write_image
from cyclegan.images.file_list import evenly_spaced
from cyclegan.images.tensors import from_tensor
from cyclegan.metrics import functions as metrics
from cyclegan.metrics.features import FeatureNetwork
from cyclegan.metrics.inception import check_inception, inception_scores
from cyclegan.metrics.round_trip import NOISE_SIGMA, as_stored, round_trip
from cyclegan.report.run import write_run_report
from cyclegan.storage.hub import is_address
from cyclegan.storage.model import find_model, read_info
from cyclegan.storage.run import evaluation_of, read_run_config, run_of
from cyclegan.storage.scores import METRICS, DirectionScores, Estimate, ImageScores, Score, Scores
from cyclegan.storage.showcase import Example, check_examples, write_examples
from cyclegan.system.atomic import write_bytes
from cyclegan.system.devices import describe_device
from cyclegan.system.provenance import command_line, now
from cyclegan.translate.translator import Translator

# Fewer test images than this are said to be few.
FEW_IMAGES = 50


# Images of each kind that the report shows for a direction.
_NUM_BEST, _NUM_TYPICAL = 4, 6


def evaluate(
    run: str | Path,
    a: str | Path | None = None,
    b: str | Path | None = None,
    *,
    paired: bool = False,
    direction: Direction | Literal["both"] = "both",
    out: str | Path | None = None,
    short_side: int | None = None,
    weights: Literal["final", "average"] | None = None,
    inception: str | None = None,
    inception_weights: str | Path | None = None,
    batch_size: int = 8,
    device: str = "auto",
    num_bootstrap: int = 1000,
    seed: int = 0,
    quiet: bool = False,
) -> Scores:
    """Score a run, checkpoint, model directory or model of the Hub (`hf:user/name`) on two folders of test images.

    a, b: the test folders; default: those that the run was trained with. paired: images of the two folders with the
    same name show the same thing (`x_A.png` and `x_B.png` are the same name), and translations are compared with it.
    out: where scores.json, report.html and examples/ go; default: the run directory, or RUN/evaluations/ for one of its
    checkpoints. short_side: bring all images to this, in pixels, first; default: their own size, as in `translate`.
    inception: torch-fidelity or clean-fid, for standard FID and KID as well; inception_weights: their file for
    torch-fidelity. num_bootstrap: resamplings of the intervals. seed: of the resamplings and of the noise.
    Memory grows with the number of images by about 10 KB each (features and resamplings), whatever their size.
    Raises InputError for a run without a model, folders that cannot be used, or features that cannot be had, and
    OSError if the place cannot be written.
    """
    started = time.monotonic()
    run = Path(run)
    if direction not in ("a2b", "b2a", "both"):
        raise InputError(f"direction is {direction!r}; expected a2b, b2a or both.")
    least = {"batch_size": (batch_size, 1), "short_side": (short_side, 8), "num_bootstrap": (num_bootstrap, 100)}
    for name, (value, smallest) in (least | {"seed": (seed, 0)}).items():
        if value is not None and value < smallest:
            raise InputError(f"{name} is {value}; expected at least {smallest}.")
    if inception is None and inception_weights is not None:
        raise InputError("inception_weights were given without inception; pass --inception torch-fidelity as well.")
    weights_file = Path(inception_weights) if inception_weights is not None else None

    if is_address(run) and out is None:
        raise InputError(f"{run} is not on this machine, so its scores need a place: pass --out DIR.")
    model = find_model(run)  # once, so that both directions are of one revision
    # An imported model may know one direction alone.
    known = read_info(model).directions
    asked = known if direction == "both" else (direction,)
    translators = {
        each: Translator.load(model, direction=each, device=device, weights=weights) for each in {*known, *asked}
    }
    first = translators[asked[0]]
    run_directory = None if is_address(run) else run_of(run)
    config = read_run_config(run_directory) if run_directory is not None else None
    domain_a, domain_b = find_domains(config, a, b, first, short_side)
    if paired:
        match_pairs(domain_a, domain_b)
    place = Path(out) if out is not None else evaluation_of(run)
    for folder in (domain_a.root, domain_b.root, domain_a.train_root, domain_b.train_root):
        if folder is not None and folder.resolve() in (place.resolve(), *place.resolve().parents):
            raise InputError(
                f"{place} lies in the images of {folder}, and pictures are written there; choose another --out."
            )
    # What can be known to fail fails now, not after the work.
    if inception is not None:
        _check_eight_bit((domain_a, domain_b))
        check_inception(inception, weights_file, (domain_a.root, domain_b.root))
    network = FeatureNetwork(first.device)
    check_examples(place / "examples")
    place.mkdir(parents=True, exist_ok=True)
    write_bytes(place / ".writable", b"")
    (place / ".writable").unlink()

    console = Console(stderr=True, quiet=quiet, highlight=False, markup=False, soft_wrap=True)
    results: dict[Direction, DirectionScores] = {}
    examples: list[Example] = []
    with _progress(console) as stage:
        for domain in (domain_a, domain_b):
            domain.measure(network, batch_size, stage(f"Test images of {domain.name}", len(domain.paths)))
        pair_notes = check_pairs(domain_a, domain_b) if paired else []
        for each in asked:
            source, target = (domain_a, domain_b) if each == "a2b" else (domain_b, domain_a)
            there, back = translators[each], translators.get("b2a" if each == "a2b" else "a2b")
            # As many training images as translations: the bias of the Frechet distance depends on the number.
            target.measure_training(
                network,
                len(source.paths),
                batch_size,
                stage(f"Training images of {target.name}", target.num_training(len(source.paths), paired)),
                mean=paired,
            )
            judge = _Judge(each, source, target, there, back, network, paired, seed, num_bootstrap, pair_notes)
            result = judge.score(batch_size, stage(f"Translating {each}", len(source.paths)))
            if inception is not None:
                folder = place / "inception" / each
                judge.write_translations(folder, batch_size, stage(f"Writing {each}", len(source.paths)))
                found = _inception(inception, folder, source, target, there.device, weights_file)
                result = result.replace(metrics={**result.metrics, **found})
            results[each] = result
            examples += judge.examples(result)

    scores = Scores(
        cyclegan_version=__version__,
        torch_version=torch.__version__,
        created=now(),
        command=command_line(),
        model=str(run),
        step=first.info.step,
        weights=weights or first.info.translate_with,
        device=describe_device(first.device),
        seconds=round(time.monotonic() - started, 1),
        peak_mib=_peak_mib(),
        features=network.info,
        paired=paired,
        short_side=short_side,
        noise_sigma=NOISE_SIGMA,
        seed=seed,
        num_bootstrap=num_bootstrap,
        files=file_lists((domain_a, domain_b)),
        directions=results,
    )
    write_examples(place / "examples", "the test folders", examples)
    scores.write(place / "scores.json")
    write_run_report(place)
    return scores


def _check_eight_bit(domains: tuple[DomainImages, ...]) -> None:
    for domain in domains:
        if domain.image_format.dtype != "uint8" or domain.image_format.channels != 3:
            raise InputError(
                f"Inception scores need 8-bit colour images; domain {domain.name} is {domain.image_format}."
            )


@dataclass
class _Judge:
    """Scores one direction."""

    direction: Direction
    source: DomainImages
    target: DomainImages
    there: Translator
    back: Translator | None
    network: FeatureNetwork
    paired: bool
    seed: int
    num_bootstrap: int
    pair_notes: list[str]

    def score(self, batch_size: int, advance: Advance) -> DirectionScores:
        """Translate every test image there and back, and put all scores together."""
        source, target = self.source, self.target
        features: list[Tensor] = []
        rows: list[dict[str, float]] = []
        # Scores against the truth of what has learned nothing: the input itself, and the mean image.
        untranslated: list[dict[str, float]] = []
        averages: list[dict[str, float]] = []
        for paths, images in source.batches(source.paths, batch_size):
            fakes, cycle_errors = self._translate(images, len(rows))
            features.append(self.network(fakes))
            for i, path in enumerate(paths):
                real, fake = images[i], fakes[i]
                row = {**cycle_errors[i], **_likeness(real, fake)}
                if self.paired:
                    truth = target.read(source.partners[path])
                    row |= against_truth(fake, truth)
                    untranslated.append(against_truth(real, truth) if real.shape == truth.shape else {})
                    mean = target.mean
                    averages.append(
                        against_truth(mean, truth) if mean is not None and mean.shape == truth.shape else {}
                    )
                rows.append(row)
                advance()

        translated = torch.cat(features)
        unlike = metrics.distance_to_nearest(translated, target.features).tolist()
        found = {"kid": self._kid(translated), "frechet": self._frechet(translated)}
        for name in dict.fromkeys(name for row in rows for name in row):
            values = _column(rows, name)
            score = Score(value=_mean(values), num_images=len(values))
            if self.paired:
                known = _column(untranslated, name), _column(averages, name)
                ceiling, mean_image = (_mean(values) if values else None for values in known)
                score = score.replace(ceiling=ceiling, mean_image=mean_image)
            if name == "l1" and target.image_format.dtype != "uint8":
                score = score.replace(note=_in_values(score, target))
            found[name] = score
        if "cycle" in found:
            rises = [row["cycle_noisy"] - row["cycle"] for row in rows]
            found["cycle_rise"] = Score(value=_mean(rises), num_images=len(rises))
        images_scores = tuple(
            ImageScores(
                file=path.relative_to(source.root).as_posix().encode(errors="replace").decode(),
                scores={**row, "unlike": value},
            )
            for path, row, value in zip(source.paths, rows, unlike, strict=True)
        )
        return DirectionScores(metrics=_in_order(found), images=images_scores, notes=tuple(self._notes(found)))

    def _translate(self, images: Tensor, first: int) -> tuple[Tensor, list[dict[str, float]]]:
        """A batch as its files would hold it, and the cycle errors of each image if there is a way back.

        first: number of the first image, on which the noise depends.
        """
        there, target = self.there.translate_tensor, self.target.image_format
        if self.back is None:
            return as_stored(there(images), target), [{} for _ in images]
        trip = round_trip(images, there, self.back.translate_tensor, target, seed=self.seed, first=first)
        pairs = zip(images, trip.cycled, trip.cycled_noisy, strict=True)
        errors = [{"cycle": metrics.l1(cycled, x), "cycle_noisy": metrics.l1(noisy, x)} for x, cycled, noisy in pairs]
        return trip.fake, errors

    def _kid(self, fakes: Tensor) -> Score:
        source, target = self.source, self.target

        def distance(x: Tensor) -> Estimate:
            value, low, high = metrics.kernel_distance(
                x, target.features, num_bootstrap=self.num_bootstrap, seed=self.seed
            )
            return Estimate(value=value, low=low, high=high)

        return Score(
            value=distance(fakes),
            floor=distance(target.training) if target.training is not None else None,
            ceiling=distance(source.features),
            num_images=len(fakes),
            num_real=len(target.features),
        )

    def _frechet(self, fakes: Tensor) -> Score:
        source, target = self.source, self.target

        def distance(x: Tensor) -> Estimate:
            return Estimate(value=metrics.frechet_distance(x, target.features))

        notes = []
        if min(len(fakes), len(target.features)) <= fakes.shape[1]:
            notes.append(
                f"fewer images than the {fakes.shape[1]} features: mostly bias, compare with its own ends only"
            )
        # A floor from fewer images than there are translations would have more bias than they have.
        same_number = target.training is not None and len(target.training) == len(fakes)
        if target.training is not None and not same_number:
            notes.append(f"no floor: only {len(target.training)} training images for {len(fakes)} translations")
        return Score(
            value=distance(fakes),
            floor=distance(target.training) if target.training is not None and same_number else None,
            ceiling=distance(source.features),
            num_images=len(fakes),
            num_real=len(target.features),
            note="; ".join(notes),
        )

    def _notes(self, found: dict[str, Score]) -> Iterator[str]:
        """What a reader of the scores must know."""
        source, target = self.source, self.target
        for domain in (source, target):
            trained = {path.resolve() for path in domain.train_paths}
            shared = sum(path.resolve() in trained for path in domain.paths)
            if shared:
                yield (
                    f"{shared} of {len(domain.paths)} test images of {domain.name} lie in the training folder: "
                    "these are scores on images that the model has seen."
                )
        fewest = min(len(source.paths), len(target.paths))
        if fewest < FEW_IMAGES:
            yield (
                f"Only {fewest} test images: small differences of KID mean nothing (see its interval); "
                f"{FEW_IMAGES} are few, a few hundred are good."
            )
        if target.training is None:
            where = f" (no {target.train_root})" if target.train_root is not None else ""
            yield f"No floor: the training images of the target domain are not known or not there{where}."
        yield from filter(None, (domain.clipping_note() for domain in (source, target)))
        for domain in (source, target):
            if domain.unreadable:
                number = len(domain.unreadable)
                files = "1 test file" if number == 1 else f"{number} test files"
                yield f"{files} of {domain.name} cannot be read ({first_reason(domain.unreadable)})."
        if self.back is None:
            yield "No cycle error: the model has no way back."
        yield from self.pair_notes
        if self.paired and "ms_ssim" not in found:
            yield "No MS-SSIM: its five scales need images of more than 160 pixels."
        for name, score in found.items():
            if score.num_images < len(source.paths):
                yield f"{METRICS[name].label}: only {score.num_images} of {len(source.paths)} images have one."
        info = self.there.info
        sides = [min(size) for size in source.sizes.values()]
        if info.preprocess not in ("crop", "none") and sides:
            smallest, largest = min(sides), max(sides)
            if largest > 1.5 * info.load_size or smallest < info.load_size / 1.5:
                yield (
                    f"The test images have short sides of {smallest} to {largest} pixels, and the model was trained "
                    f"on images brought to {info.load_size}; --short-side {info.load_size} scores at that scale."
                )

    def write_translations(self, folder: Path, batch_size: int, advance: Advance) -> None:
        """All translations as PNG directly in `folder`, for tools that read folders; what was there before goes."""
        source, target = self.source, self.target
        for old in folder.glob("[0-9]" * 6 + ".png"):
            old.unlink()
        number = 0
        for paths, images in source.batches(source.paths, batch_size):
            for fake in self.there.translate_tensor(images):
                write_image(folder / f"{number:06d}.png", from_tensor(fake, target.image_format))
                number += 1
            for _ in paths:
                advance()

    def examples(self, result: DirectionScores) -> list[Example]:
        """Pictures of the best, the worst, and images at equal distances in the list of files."""
        by_file = dict(zip((image.file for image in result.images), self.source.paths, strict=True))
        ranked = result.ranked
        num_best = min(_NUM_BEST, len(ranked) // 2)
        best, worst = ranked[:num_best], ranked[len(ranked) - num_best :][::-1]
        shown = {image.file for image in (*best, *worst)}
        others = [image for image in result.images if image.file not in shown]
        typical = evenly_spaced(others, _NUM_TYPICAL)
        groups: tuple[tuple[Literal["typical", "best", "worst"], list[ImageScores]], ...]
        groups = (("typical", typical), ("best", best), ("worst", worst))
        return [self._example(kind, by_file[image.file], image, result) for kind, images in groups for image in images]

    def _example(
        self, kind: Literal["best", "worst", "typical"], path: Path, image: ImageScores, result: DirectionScores
    ) -> Example:
        real = self.source.read(path)[None]
        fake = as_stored(self.there.translate_tensor(real), self.target.image_format)
        pictures = {"input": real[0], "output": fake[0]}
        if self.back is not None:
            pictures["cycled"] = self.back.translate_tensor(fake)[0]
        if self.paired:
            pictures["truth"] = self.target.read(self.source.partners[path])
        name = result.ranked_by
        return Example(self.direction, image.file, kind, pictures, name, image.scores[name])


def _likeness(real: Tensor, fake: Tensor) -> dict[str, float]:
    """How much of one image its translation keeps."""
    scores: dict[str, float] = {}
    if min(real.shape[1:]) >= metrics.SSIM_WINDOW:
        scores["ssim_input"] = metrics.ssim(metrics.luma(fake)[None], metrics.luma(real)[None])
    edges = metrics.edge_correlation(real, fake)
    return scores if edges is None else {**scores, "edges": edges}


def against_truth(image: Tensor, truth: Tensor) -> dict[str, float]:
    """Scores of one (C, H, W) image in [-1, 1] against the truth, as far as its size and channels allow them."""
    scores = {"l1": metrics.l1(image, truth), "psnr": metrics.psnr(image, truth)}
    if min(truth.shape[1:]) >= metrics.SSIM_WINDOW:
        scores["ssim"] = metrics.ssim(image, truth)
    if min(truth.shape[1:]) >= metrics.MS_SSIM_SMALLEST:
        scores["ms_ssim"] = metrics.ms_ssim(image, truth)
    if truth.shape[0] == 3:
        scores["colour"] = metrics.colour_difference(image, truth)
    return scores


def _column(rows: Sequence[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _mean(values: Sequence[float]) -> Estimate:
    """Mean over images with its 95 % interval, from the spread over images."""
    column = torch.tensor(values, dtype=torch.float64)
    mean = float(column.mean())
    if len(values) < 2:
        return Estimate(value=mean)
    half = 1.96 * float(column.std()) / len(values) ** 0.5
    return Estimate(value=mean, low=mean - half, high=mean + half)


def _in_values(l1: Score, target: DomainImages) -> str:
    """An L1 in the unit of the files: a person knows what 200 metres are."""
    half = (target.image_format.high - target.image_format.low) / 2

    def show(value: float) -> str:
        return f"{value * half:,.0f}" if abs(value * half) >= 1000 else f"{value * half:.4g}"

    mean_image = f", of the mean image {show(l1.mean_image.value)}" if l1.mean_image is not None else ""
    return f"in the values of {target.name} it is {show(l1.value.value)}{mean_image}"


def _in_order(found: dict[str, Score]) -> dict[str, Score]:
    return {name: found[name] for name in METRICS if name in found}


def _inception(
    tool: str, generated: Path, source: DomainImages, target: DomainImages, device: torch.device, weights: Path | None
) -> dict[str, Score]:
    """Standard FID and KID with their floor and ceiling."""
    fid, kid, how = inception_scores(tool, generated, target.root, device, weights)
    ceiling = inception_scores(tool, source.root, target.root, device, weights)
    floor: tuple[float, float, str] | None = None
    if len(target.training_used) == len(source.paths):
        with TemporaryDirectory() as folder:
            for number, path in enumerate(target.training_used):
                (Path(folder) / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
            floor = inception_scores(tool, Path(folder), target.root, device, weights)
    return {
        name: Score(
            value=Estimate(value=value),
            floor=Estimate(value=floor[index]) if floor is not None else None,
            ceiling=Estimate(value=ceiling[index]),
            num_images=len(source.paths),
            num_real=len(target.paths),
            note=how,
        )
        for index, (name, value) in enumerate((("fid", fid), ("kid_inception", kid)))
    }


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int], Advance]]:
    """Gives a function that begins a stage and returns what to call after each of its images."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def stage(name: str, count: int) -> Advance:
            task = progress.add_task(name, total=count)
            return lambda: progress.advance(task)

        yield stage


def _peak_mib() -> float | None:
    """Most memory that this process has had, in MiB; None where the system does not tell."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
