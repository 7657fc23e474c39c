"""`cyclegan evaluate`."""

import argparse
import sys
from pathlib import Path

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
    parser.add_argument(
        "run_directory", metavar="RUN", type=Path, help="Run directory, checkpoint, model directory or hf:user/name."
    )
    parser.add_argument(
        "--a", type=Path, metavar="DIR", help="Folder of test images of domain A (default: that of the run)."
    )
    parser.add_argument(
        "--b", type=Path, metavar="DIR", help="Folder of test images of domain B (default: that of the run)."
    )
    parser.add_argument(
        "--paired", action="store_true", help="Compare with the truth: images of the same name show the same thing."
    )
    parser.add_argument(
        "--direction", choices=("a2b", "b2a", "both"), default="both", help="Direction to score (default: both)."
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="Folder for scores.json and the report (default: the run directory)."
    )
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="Bring the shorter side of all images to this many pixels first (default: their own size).",
    )
    parser.add_argument(
        "--weights",
        choices=("final", "average"),
        help="Weights to use (default: those that the run was configured for).",
    )
    parser.add_argument(
        "--features",
        metavar="NAME",
        help="Feature network of KID (default: the one that is installed with the package).",
    )
    parser.add_argument(
        "--inception", metavar="TOOL", help="Compute standard FID and KID as well, by torch-fidelity or clean-fid."
    )
    parser.add_argument(
        "--inception-weights",
        type=Path,
        metavar="FILE",
        help="File with the Inception weights of torch-fidelity, if its cache has none.",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        default=8,
        help="Images of one size that are translated together (default: 8).",
    )
    parser.add_argument("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps or auto (default: auto).")
    parser.add_argument(
        "--seed", type=int, metavar="N", default=0, help="Seed of the intervals and the noise (default: 0)."
    )


def run(parsed: argparse.Namespace) -> None:
    from rich.console import Console

    from cyclegan.evaluation.scoring import evaluate
    from cyclegan.evaluation.table import show_scores
    from cyclegan.storage.run import evaluation_of

    try:
        scores = evaluate(
            parsed.run_directory,
            parsed.a,
            parsed.b,
            paired=parsed.paired,
            direction=parsed.direction,
            out=parsed.out,
            short_side=parsed.short_side,
            weights=parsed.weights,
            features=parsed.features,
            inception=parsed.inception,
            inception_weights=parsed.inception_weights,
            batch_size=parsed.batch_size,
            device=parsed.device,
            seed=parsed.seed,
        )
    except KeyboardInterrupt:
        print("Stopped; earlier scores are as they were.", file=sys.stderr)
        raise
    step = f"Step {scores.step:,} of " if scores.step else ""  # imported models have none
    print(f"{step}{parsed.run_directory}, {scores.weights} weights")
    show_scores(scores, Console(highlight=False, markup=False))
    place = parsed.out or evaluation_of(parsed.run_directory)
    print(f"Page: {place / 'report.html'}")
