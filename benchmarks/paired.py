"""A supervised lower bound for the L1 of the quality benchmark.

On each task, trains both generators of `modern` without discriminators, on paired training images, with the L1 to the
ground truth as the only loss, and scores them on the held-out images of benchmarks/quality.py. Realistic translations
have a higher L1: where the input is ambiguous, L1 favours the median of all possible outputs.

    python benchmarks/paired.py --steps 4000
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_machine
from quality import HERE, SMALL
from tasks import PAIRED

from cyclegan.config import make_config
from cyclegan.images.codecs import read_image
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.networks import build_generator
from cyclegan.step.execution import prepare
from cyclegan.system.atomic import write_bytes

BATCH_SIZE, LEARNING_RATE = 8, 2e-3
SPLITS = ("val", "test")


def load(folder: Path) -> torch.Tensor:
    """Read all images of a folder in the order of their names: (N, 3, H, W) in [-1, 1]."""
    return torch.stack([to_tensor(read_image(path, 3), ImageFormat()) for path in list_images(folder)])


def train_paired(source: torch.Tensor, target: torch.Tensor, steps: int, seed: int) -> torch.nn.Module:
    """Train a generator for one direction. source, target: (N, 3, S, S) in [-1, 1], pairs in the same order.

    The learning rate falls to 0 over the second half of the steps, as in the paper.
    """
    config = make_config(SMALL, preset="modern")
    generator = build_generator(config.model, 3, 3, seed=seed)
    optimizer = torch.optim.Adam(generator.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    rng, crop = np.random.default_rng(seed), config.data.crop_size
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, 2 * (1 - step / steps))
        which = rng.integers(len(source), size=BATCH_SIZE)
        top, left = rng.integers(source.shape[-1] - crop + 1, size=2)
        x, y = (images[which, :, top : top + crop, left : left + crop] for images in (source, target))
        if rng.random() < 0.5:
            x, y = x.flip(3), y.flip(3)
        loss = (generator(prepare(x, "bf16")).float() - y).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return generator.eval()


def distance(generator: torch.nn.Module, source: torch.Tensor, target: torch.Tensor) -> float:
    """L1 of translations of whole images, as benchmarks/quality.py computes it."""
    with torch.inference_mode():
        return float((generator(prepare(source, "fp32")) - target).abs().mean())


def markdown(runs: list[dict[str, Any]], command: str) -> str:
    lines = [
        "# L1 of training on pairs, on the tasks of quality.md",
        "",
        "Generators trained on pairs, L1 their only loss.",
        "",
    ]
    lines += [f"`{command}` on {describe_machine()}.", ""]
    lines += ["| task | direction | L1, val | L1, test | of the input, val | of the input, test |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for run in runs:
        values = [run[name][split] for name in ("l1", "l1_of_input") for split in SPLITS]
        lines.append(f"| {run['task']} | {run['direction']} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000, help=f"of {BATCH_SIZE} images each (default: 4000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=HERE / "work", help="for data (default: benchmarks/work)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="default: benchmarks/results")
    options = parser.parse_args()
    # The images have the size of those of benchmarks/quality.py.
    size = make_config(SMALL).data.resolved_load_size
    runs = []
    for task, build in PAIRED.items():
        data = options.work.resolve() / "data" / f"{task}-paired-{size}"
        if not (data / "about.json").is_file():
            build(data, size)
        images = {part: {domain: load(data / f"{part}{domain}") for domain in "AB"} for part in ("train", *SPLITS)}
        for direction, (source, target) in {"a2b": "AB", "b2a": "BA"}.items():
            generator = train_paired(images["train"][source], images["train"][target], options.steps, options.seed)
            pairs = {split: (images[split][source], images[split][target]) for split in SPLITS}
            l1 = {split: distance(generator, *pair) for split, pair in pairs.items()}
            unchanged = {split: float((x - y).abs().mean()) for split, (x, y) in pairs.items()}
            runs.append({"task": task, "direction": direction, "l1": l1, "l1_of_input": unchanged})
            print(json.dumps(runs[-1]), flush=True)
    text = markdown(runs, f"python benchmarks/paired.py --steps {options.steps} --seed {options.seed}")
    write_bytes(options.results / "paired.md", text.encode())


if __name__ == "__main__":
    main()
