"""Score a model on test images: realism, faithfulness, and the distance from the truth."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cyclegan._version import __version__
from cyclegan.config import Direction, SelfEnsemble
from cyclegan.errors import InputError
from cyclegan.evaluation.direction import EvaluationContext, choose_showcase, score_direction
from cyclegan.evaluation.inception import check_eight_bit, score_inception
from cyclegan.evaluation.parts import ScoringCluster, measure_direction, measure_images
from cyclegan.evaluation.probing import NUM_IMAGES, probe_direction
from cyclegan.evaluation.test_images import Advance, TestImages, check_pairs, file_lists, find_test_images, match_pairs
from cyclegan.images.limits import pixel_limit
from cyclegan.metrics.features import FeaturePanel, features_to_score
from cyclegan.metrics.inception import check_inception
from cyclegan.metrics.round_trip import NOISE_SIGMA
from cyclegan.report.run import write_run_report
from cyclegan.storage.hub import is_address
from cyclegan.storage.model import find_model, read_info
from cyclegan.storage.run import evaluation_of, read_run_config, run_of
from cyclegan.storage.scores import DirectionScores, Scores
from cyclegan.storage.showcase import ShowcaseImage, check_showcase, write_showcase
from cyclegan.system.arguments import MAX_NUMBER, MAX_SIDE, check_bool, check_choice, check_int, check_path, real_path
from cyclegan.system.atomic import check_writable
from cyclegan.system.devices import describe_device
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import shown
from cyclegan.system.messages import make_console
from cyclegan.system.provenance import command_line, now
from cyclegan.translate.self_ensemble import check_self_ensemble
from cyclegan.translate.translator import Translator


@host_state()
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
    self_ensemble: SelfEnsemble = "none",
    features: str | None = None,
    inception: str | None = None,
    inception_weights: str | Path | None = None,
    probe: bool = False,
    probe_images: int | None = None,
    batch_size: int = 8,
    max_pixels: int | None = None,
    device: str = "auto",
    num_bootstrap: int = 1000,
    seed: int = 0,
    quiet: bool = False,
    cluster: ScoringCluster | None = None,
) -> Scores:
    """Score a run, checkpoint, model directory or model of the Hub (`hf:user/name`) on two folders of test images.

    a, b: the test folders; default: those that the run was trained with. paired: images of the two folders with the
    same name show the same thing (`x_A.png` and `x_B.png` are the same name), and translations are compared with it.
    out: where scores.json, report.html and examples/ go; default: the run directory, or RUN/evaluations/ for one of its
    checkpoints. short_side: bring all images to this, in pixels, first; default: their own size, as in `translate`.
    self_ensemble: average the translations of views of each image, there and back, as in `Translator.load`.
    features: the network of KID and the Frechet distance, a name of `cyclegan.metrics.features.FEATURE_NETWORKS`; the
    thin ResNet-50 scores as well, in rows of its own, where its package is installed.
    inception: torch-fidelity or clean-fid, for standard FID and KID as well; inception_weights: their file for
    torch-fidelity.
    probe: put known changes into test images (lesions, removed structures, lines, brightness) and count how many the
    translations show, see `cyclegan.translate.probes`; probe_images: how many test images, at equal distances (default:
    32, or all). It takes as long as 45 to 55 translations of each of them in each direction.
    max_pixels: largest number of pixels of an image (default: that of the training, else 2^30).
    num_bootstrap: resamplings of the intervals. seed: of the resamplings and of the noise.
    cluster: measures the test images and their translations, see `cyclegan.cluster.scoring_cluster`; default: this
    process.

    A metric that fails is left out with a note. Memory grows with the number of images by about 10 KB each (features
    and resamplings; 2 KB more with the second network), at any size.
    Raises InputError for a run without a model, folders that cannot be used, or a feature network that is not
    available, and OSError if `out` cannot be written. If only the Inception tool fails, all other scores are written
    before InputError is raised.
    """
    started = time.monotonic()
    run = check_path("run", run)
    a, b, out, inception_weights = (
        None if path is None else check_path(name, path)
        for name, path in (("a", a), ("b", b), ("out", out), ("inception_weights", inception_weights))
    )
    paired, quiet, probe = check_bool("paired", paired), check_bool("quiet", quiet), check_bool("probe", probe)
    for name, text in (("features", features), ("inception", inception)):
        if text is not None and not isinstance(text, str):
            raise InputError(f"{name} is {shown(text)}; expected a name.")
    check_choice("direction", direction, ("a2b", "b2a", "both"))
    if weights is not None:
        check_choice("weights", weights, ("final", "average"))
    check_self_ensemble("self_ensemble", self_ensemble)
    for name, value, least, most in (
        ("batch_size", batch_size, 1, MAX_NUMBER),
        ("short_side", 8 if short_side is None else short_side, 8, MAX_SIDE),
        ("seed", seed, 0, MAX_NUMBER),
        ("num_bootstrap", num_bootstrap, 100, 10**6),
        ("probe_images", NUM_IMAGES if probe_images is None else probe_images, 1, MAX_NUMBER),
    ):
        check_int(name, value, least=least, most=most)
    if max_pixels is not None:
        check_int("max_pixels", max_pixels, least=1)
    if inception is None and inception_weights is not None:
        raise InputError("inception_weights were given without inception; pass --inception torch-fidelity as well.")
    if probe_images is not None and not probe:
        raise InputError(f"probe_images is {probe_images} without probe; pass --probe as well.")
    if cluster is not None and not isinstance(cluster, ScoringCluster):
        raise InputError(f"cluster is {shown(cluster)}; expected what cyclegan.cluster.scoring_cluster gives, or None.")
    weights_file = Path(inception_weights) if inception_weights is not None else None
    if is_address(run) and out is None:
        raise InputError(f"{run} is not on this machine, so its scores need a place: pass --out DIR.")

    model = find_model(run)  # once, so that both directions are of one revision
    known = read_info(model).directions  # an imported model may have one direction only
    asked = known if direction == "both" else (direction,)
    translators = {
        each: Translator.load(model, direction=each, device=device, weights=weights, self_ensemble=self_ensemble)
        for each in {*known, *asked}
    }
    first = translators[asked[0]]

    run_directory = None if is_address(run) else run_of(run)
    config = read_run_config(run_directory) if run_directory is not None else None
    if max_pixels is None and config is not None:
        max_pixels = config.data.max_pixels
    domains = find_test_images(config, a, b, first, short_side, note=make_console(stderr=True, quiet=quiet).print)
    if paired:
        match_pairs(*domains)

    # Fail before the work, not after it.
    place = Path(out) if out is not None else evaluation_of(run)
    _check_apart(place, domains)
    if inception is not None:
        check_eight_bit(domains)
        check_inception(inception, weights_file, tuple(domain.root for domain in domains))
    network = FeaturePanel(first.device, features_to_score(features))
    check_showcase(place / "examples")
    check_writable(place)

    results: dict[Direction, DirectionScores] = {}
    showcase: list[ShowcaseImage] = []
    inception_error: InputError | None = None
    with pixel_limit(max_pixels), _progress(quiet) as stage:
        for domain in domains:
            advance = stage(f"Test images of {domain.name}", len(domain.paths))
            if cluster is None:
                domain.measure(network, batch_size, advance)
            else:
                measure_images(domain, network, batch_size, cluster, advance)
            domain.check_usable()
        pair_notes = check_pairs(*domains) if paired else []
        for each in asked:
            source, target = domains if each == "a2b" else reversed(domains)
            there, back = translators[each], translators.get("b2a" if each == "a2b" else "a2b")
            context = EvaluationContext(
                each, source, target, there, back, network, paired, batch_size, num_bootstrap, seed
            )
            measure = None if cluster is None else partial(measure_direction, cluster=cluster)
            result = score_direction(context, stage, pair_notes, measure)
            if inception is not None and inception_error is None:
                try:
                    found = score_inception(context, stage, inception, weights_file, place / "inception" / each)
                    result = result.with_metrics(found)
                except InputError as error:
                    inception_error = error
            if inception_error is not None:
                result = result.replace(notes=(*result.notes, f"No Inception scores: {inception_error}"))
            showcase += choose_showcase(context, result)
            if probe:
                rates, pictures = probe_direction(context, probe_images or NUM_IMAGES, stage)
                result, showcase = result.replace(probes=rates), [*showcase, *pictures]
            results[each] = result

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
        features=network.infos[0],
        second_features=network.infos[1] if len(network.infos) > 1 else None,
        paired=paired,
        short_side=short_side,
        self_ensemble=self_ensemble,
        noise_sigma=NOISE_SIGMA,
        seed=seed,
        num_bootstrap=num_bootstrap,
        files=file_lists(domains),
        directions=results,
    )
    write_showcase(place / "examples", "the test folders", showcase)
    scores.write(place / "scores.json")
    write_run_report(place)
    if inception_error is not None:
        raise inception_error
    return scores


def _check_apart(place: Path, domains: tuple[TestImages, TestImages]) -> None:
    """Raises InputError if the results would be written among the images."""
    for folder in (folder for domain in domains for folder in (domain.root, domain.train_root)):
        if folder is not None and real_path(folder) in (real_path(place), *real_path(place).parents):
            raise InputError(
                f"{place} is inside the image folder {folder}, and pictures are written there; choose another --out."
            )


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int], Advance]]:
    """Yields a function that begins a stage and returns what to call as its images are done."""
    console = make_console(stderr=True, quiet=quiet, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def stage(name: str, count: int) -> Advance:
            task = progress.add_task(name, total=count)
            return lambda count: progress.advance(task, count)

        yield stage


def _peak_mib() -> float | None:
    """Peak memory of this process in MiB; None where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
