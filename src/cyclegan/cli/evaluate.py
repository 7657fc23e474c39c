"""`cyclegan evaluate`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import DIRECTIONS, WEIGHTS, add_argument, add_device, add_max_pixels, keywords

SUMMARY = "Score a trained run on images that it has not seen."

EXAMPLES = """examples:
  cyclegan evaluate runs/maps --a test/photos --b test/maps
  cyclegan evaluate runs/maps                              (the test folders that it was trained with)
  cyclegan evaluate runs/demo --paired                     (images of the same name show the same thing)
  cyclegan evaluate runs/maps/best --direction a2b         (its scores go to runs/maps/evaluations/best)
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
    features_help = "Feature network of KID (default: the one that is installed with the package)."
    add("--features", str, features_help, metavar="NAME")
    add("--inception", str, "Compute standard FID and KID as well, by torch-fidelity or clean-fid.", metavar="TOOL")
    weights_help = "File with the Inception weights of torch-fidelity, if its cache has none."
    add("--inception-weights", Path, weights_help, metavar="FILE")
    add("--batch-size", int, "Images of one size that are translated together", 8)
    add_max_pixels(parser)
    add_device(parser)
    add("--seed", int, "Seed of the intervals and the noise", 0)


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.evaluation.scoring import evaluate
    from cyclegan.evaluation.table import show_scores
    from cyclegan.storage.run import evaluation_of
    from cyclegan.system.messages import make_console
    from cyclegan.system.terminal import say_result

    try:
        scores = evaluate(parsed.run_directory, **keywords(parsed, "run_directory"))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("Stopped; earlier scores are unchanged.") from stop
    step = f"Step {scores.step:,} of " if scores.step else ""  # imported models have none
    say_result(f"{step}{parsed.run_directory}, {scores.weights} weights")
    show_scores(scores, make_console())
    place = parsed.out or evaluation_of(parsed.run_directory)
    say_result(f"Page: {place / 'report.html'}")
