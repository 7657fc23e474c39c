"""A picture for each task: held-out images, their translations by several recipes, and the ground truth.

The runs are those of benchmarks/quality.py below --work. Images are chosen by name alone.

    python benchmarks/quality_picture.py --label five --recipes paper modern --out docs/images
"""

import argparse
from pathlib import Path

from PIL import Image
from quality import HERE, collect
from tasks import BY_CLASS, TASKS

from cyclegan import Translator
from cyclegan.config import Direction, make_config
from cyclegan.images.codecs import read_image
from cyclegan.images.drawing import grid, upscale
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor

NAMES = {
    "shadedrelief": ("satellite photo", "relief map"),
    "etopo1": ("satellite photo", "elevation map"),
    "drawings": ("finished drawing", "its lines"),
    "emoji": ("shaded emoji", "flat emoji"),
    "t1": ("T1", "grey matter"),
    "digits": ("handwriting", "print"),
}


def picture(runs: dict[str, Path], data: Path, split: str, task: str, num_images: int) -> Image.Image:
    """Draw both directions of a task, with a row for each recipe. runs: run directories by recipe."""
    rows, labels = [], []
    domains: list[tuple[Direction, str, str]] = [("a2b", "A", "B"), ("b2a", "B", "A")]
    for direction, source, target in domains:
        names = dict(zip("AB", NAMES[task], strict=True))
        paths = evenly_spaced(list_images(data / f"{split}{source}"), num_images)
        inputs = [to_tensor(read_image(path, 3), ImageFormat()) for path in paths]
        rows.append(inputs)
        labels.append(names[source])
        for recipe, run in runs.items():
            translator = Translator.load(run, direction=direction, device="cpu")
            rows.append([translator.translate_tensor(image[None])[0] for image in inputs])
            labels.append(f"{names[target]}, {recipe}")
        if task in BY_CLASS:
            continue
        truth = [data / f"{split}{target}" / path.name for path in paths]
        rows.append([to_tensor(read_image(path, 3), ImageFormat()) for path in truth])
        labels.append(f"{names[target]}, the truth")
    return grid([[upscale(image, 2) for image in row] for row in rows], labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", required=True, help="whose runs")
    parser.add_argument("--recipes", nargs="+", default=["paper", "modern"])
    parser.add_argument("--seed", type=int, default=0, help="of the runs that are shown (default: 0)")
    parser.add_argument("--num-images", type=int, default=7, help="columns (default: 7)")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="data and runs (default: benchmarks/work)")
    parser.add_argument("--out", type=Path, required=True, help="folder for quality-TASK.png")
    options = parser.parse_args()
    found = [run for run, _ in collect(options.work / options.label) if run.seed == options.seed]
    if not any(run.recipe in options.recipes for run in found):
        parser.error(f"{options.work / options.label} holds no finished run of these recipes with seed {options.seed}")
    options.out.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        chosen = {
            recipe: options.work / options.label / task / recipe / f"seed{options.seed}"
            for recipe in options.recipes
            if any((run.task, run.recipe) == (task, recipe) for run in found)
        }
        if not chosen:
            continue
        run = next(run for run in found if run.task == task and run.recipe in chosen)
        size = make_config(run.settings).data.resolved_load_size
        data = options.work / "data" / f"{task}-{size}"
        target = options.out / f"quality-{task}.png"
        picture(chosen, data, run.split, task, options.num_images).save(target)
        print(target)


if __name__ == "__main__":
    main()
