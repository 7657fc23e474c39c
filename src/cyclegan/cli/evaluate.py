"""`cyclegan evaluate`."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.cli.arguments import (
    DIRECTIONS,
    RAY,
    SELF_ENSEMBLES,
    WEIGHTS,
    add_argument,
    add_device,
    add_max_pixels,
    add_ray,
    check_ray,
    keywords,
)

if TYPE_CHECKING:  # heavy imports wait until the command runs
    from cyclegan.storage.scores import Scores

SUMMARY = "Score a trained run on images that it has not seen."

EXAMPLES = """examples:
  cyclegan evaluate runs/maps --a test/photos --b test/maps
  cyclegan evaluate runs/maps                              (the test folders that it was trained with)
  cyclegan evaluate runs/demo --paired                     (images of the same name show the same thing)
  cyclegan evaluate runs/maps --probe                      (does it lose or invent anything?)
  cyclegan evaluate runs/maps/best --direction a2b         (its scores go to runs/maps/evaluations/best)
  cyclegan evaluate runs/maps --a test/a --b test/b --ray auto       (on the cluster that Ray finds)
  cyclegan evaluate hf:user/name --a photos --b maps --out scores     (a model of the Hugging Face Hub)

Realism is measured on features of a network that is installed with the package and needs no download. This is not the
standard KID or FID; for those use --inception torch-fidelity or --inception clean-fid."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("run_directory", Path, "Run directory, checkpoint, model directory or hf:user/name.", metavar="RUN")
    add("--a", Path, "Folder of test images of domain A (default: that of the run).")
    add("--b", Path, "Folder of test images of domain B (default: that of the run).")
    add("--paired", bool, "Compare with the truth: images of the same name show the same thing.")
    add("--direction", (*DIRECTIONS, "both"), "Direction to score", "both")
    add("--out", Path, "Folder for scores.json and the report (default: the run directory).")
    side_help = "Bring the shorter side of all images to this many pixels first (default: their own size)."
    add("--short-side", int, side_help, metavar="PIXELS")
    add("--weights", WEIGHTS, "Weights to use (default: those that the run was configured for).")
    ensemble_help = "Average the translations of views of each image, as in `cyclegan translate`"
    add("--self-ensemble", SELF_ENSEMBLES, ensemble_help, "none")
    features_help = "Feature network of KID (default: the one that is installed with the package)."
    add("--features", str, features_help, metavar="NAME")
    add("--inception", str, "Compute standard FID and KID as well, by torch-fidelity or clean-fid.", metavar="TOOL")
    weights_help = "File with the Inception weights of torch-fidelity, if its cache has none."
    add("--inception-weights", Path, weights_help, metavar="FILE")
    probe_help = "Put known changes into test images (lesions, lines...) and count those that the translations show."
    add("--probe", bool, probe_help)
    add("--probe-images", int, "Test images that --probe takes (default: 32).", metavar="COUNT")
    add("--batch-size", int, "Images of one size that are translated together", 8)
    add_max_pixels(parser)
    add_device(parser)
    add("--seed", int, "Seed of the intervals and the noise", 0)
    add_ray(parser)


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.evaluation.table import show_scores
    from cyclegan.storage.run import evaluation_of
    from cyclegan.system.messages import make_console
    from cyclegan.system.terminal import say_result

    try:
        scores = _evaluate(parsed)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("Stopped; earlier scores are unchanged.") from stop
    step = f"Step {scores.step:,} of " if scores.step else ""  # imported models have none
    say_result(f"{step}{parsed.run_directory}, {scores.weights} weights")
    show_scores(scores, make_console())
    place = parsed.out or evaluation_of(parsed.run_directory)
    say_result(f"Page: {place / 'report.html'}")


def _evaluate(parsed: argparse.Namespace) -> "Scores":
    from cyclegan.evaluation.scoring import evaluate

    check_ray(parsed)
    arguments = keywords(parsed, "run_directory", *RAY)
    if parsed.ray is None:
        return evaluate(parsed.run_directory, **arguments)
    from cyclegan.cluster import scoring_cluster

    shares = {name: getattr(parsed, name) for name in RAY if name != "ray"}
    with scoring_cluster(parsed.ray, device=parsed.device, **shares) as cluster:
        return evaluate(parsed.run_directory, cluster=cluster, **arguments)
