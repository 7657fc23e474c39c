"""Error of a translated grey matter volume, and the picture of docs/guides/medical.md.

    python benchmarks/brain.py data/brain translated/grey_matter.nii.gz --out brain.png

Reads the volume that `cyclegan translate` wrote, checks that it lies where the T1 volume lies, and compares
it with the truth in the slices of testA and testB, which no network was trained on. Baselines: the mean of all training
slices, and the band of T1 values that is best for these very slices.
"""

import argparse
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("translated", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=5)
    parsed = parser.parse_args()

    t1, truth = (nibabel.load(parsed.data / f"{name}.nii.gz") for name in ("t1", "grey_matter"))
    made = nibabel.load(parsed.translated)
    assert np.array_equal(made.affine, t1.affine)
    assert made.shape == t1.shape
    assert made.header.get_zooms() == t1.header.get_zooms()

    heights = [height for path in sorted((parsed.data / "testA").iterdir()) for height in heights_of(path)]
    t1, truth, made = (np.asarray(image.dataobj, np.float64)[..., heights] for image in (t1, truth, made))
    shown = np.flatnonzero(truth.max((0, 1)) > 0)  # of slices without grey matter nothing can be said
    heights, (t1, truth, made) = [heights[i] for i in shown], (array[..., shown] for array in (t1, truth, made))
    truth, made = truth / 255, made / 255

    training = [path for path in sorted((parsed.data / "trainB").iterdir())]
    mean = np.concatenate([np.asarray(nibabel.load(path).dataobj) for path in training], -1).mean(-1) / 255
    bands = [(low, high) for low, high in product(range(0, 250, 5), range(5, 256, 5)) if low < high]
    best = max(bands, key=lambda band: dice(inside(t1, band), truth))
    print(f"{len(heights)} test slices, {np.count_nonzero(t1):,} voxels of the head")
    for name, guess in (
        ("translation", made),
        ("mean of the training slices", np.broadcast_to(mean[..., None], truth.shape)),
        (f"T1 from {best[0]} to {best[1]}, the best band", inside(t1, best)),
        ("T1 / 255, untranslated", t1 / 255),
    ):
        error = np.abs(guess - truth)
        print(f"{name:36s} mean |error| in the head {error[t1 > 0].mean():.3f}, Dice {dice(guess, truth):.3f}")
    draw(parsed, heights, t1 / 255, made, truth)


def heights_of(path: Path) -> range:
    """The slices of the whole volume that a file of `cyclegan download brain` holds."""
    first = int(path.name.removeprefix("z").removesuffix(".nii.gz"))
    return range(first, first + nibabel.load(path).shape[2])


def inside(values: np.ndarray, band: tuple[int, int]) -> np.ndarray:
    return ((values >= band[0]) & (values < band[1])).astype(float)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of the voxels above one half: 1 is all, 0 none."""
    a, b = a >= 0.5, b >= 0.5
    return float(2 * np.count_nonzero(a & b) / max(np.count_nonzero(a) + np.count_nonzero(b), 1))


def draw(parsed: argparse.Namespace, heights: list[int], *rows: np.ndarray) -> None:
    """Draw some slices: T1, the translation, the truth."""
    chosen = [(2 * i + 1) * len(heights) // (2 * parsed.slices) for i in range(parsed.slices)]
    figure = Figure(figsize=(1.5 * parsed.slices + 1.2, 5.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), parsed.slices, squeeze=False)
    for row, (title, values) in enumerate(zip(("T1", "grey matter,\ntranslated", "the truth"), rows, strict=True)):
        for column, index in enumerate(chosen):
            axes = grid[row, column]
            axes.imshow(values[::-1, ::-1, index].T, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"z{heights[index]}", fontsize=9)
            if column == 0:
                axes.set_ylabel(title, rotation=0, ha="right", va="center")
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(parsed.out)


if __name__ == "__main__":
    main()
