"""Error of translated 16-bit elevation in metres, and the picture of docs/guides/deep-images.md.

    python benchmarks/earth16.py data/earth16 translated/a2b translated/b2a --range 10800 14000 --out earth16.png

Reads the files that `cyclegan translate` wrote, checks their type, channels and range, and compares them with the
ground truth, clipped to the same range. The baseline is the mean image of the training tiles.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from PIL import Image

from cyclegan.images.codecs import read_image
from cyclegan.images.file_list import list_images

SEA_LEVEL = 11000

# Blues below sea level; greens, browns and white above it.
RELIEF = LinearSegmentedColormap.from_list(
    "relief",
    [(0, "#0b2a5b"), (0.499, "#8ec7ea"), (0.501, "#2f7d3b"), (0.58, "#b9c46a"), (0.72, "#b98a4b"), (1, "#ffffff")],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("elevation", type=Path, help="translations of testA")
    parser.add_argument("photos", type=Path, help="translations of testB")
    parser.add_argument("--range", type=int, nargs=2, required=True, metavar=("LOW", "HIGH"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiles", type=int, default=5)
    parsed = parser.parse_args()
    low, high = parsed.range

    names = [path.name for path in list_images(parsed.data / "testB")]
    truth = np.stack([elevation_of(parsed.data / "testB" / name).clip(low, high) for name in names])
    found = np.stack([elevation_of(parsed.elevation / name) for name in names])
    mean = np.mean([elevation_of(path).clip(low, high) for path in list_images(parsed.data / "trainB")], 0)
    print(f"{len(names)} files: {found.dtype}, one channel, values {found.min()} to {found.max()}, ", end="")
    print(f"{len(np.unique(found))} different ones; metres {int(found.min()) - SEA_LEVEL} to {found.max() - SEA_LEVEL}")
    assert low <= found.min()
    assert found.max() <= high
    for where, mask in (("everywhere", truth >= 0), ("on land", truth > SEA_LEVEL), ("at sea", truth <= SEA_LEVEL)):
        for what, guess in (("translation", found), ("mean image", np.broadcast_to(mean, truth.shape))):
            error = guess[mask].astype(float) - truth[mask]
            print(
                f"{where:10s} {what:11s} mean |error| {np.abs(error).mean():4.0f} m, RMSE {rms(error):4.0f} m, "
                f"bias {error.mean():5.0f} m"
            )
    right = (found > SEA_LEVEL) == (truth > SEA_LEVEL)
    print(f"land and sea told apart: {100 * right.mean():.1f} % of the pixels")
    for name in names:
        with Image.open(parsed.photos / name) as picture:
            assert picture.mode == "RGB", name
    draw(parsed, names, low, high)


def elevation_of(path: Path) -> np.ndarray:
    """(H, W), read by another library than cyclegan uses, where there is one."""
    array = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))
    assert array.dtype == np.uint16, path
    assert array.ndim == 2, path
    return array


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def draw(parsed: argparse.Namespace, names: list[str], low: int, high: int) -> None:
    """Draw some tiles: photo, its elevation and the true elevation, and the photo made from the true elevation."""
    chosen = [names[(2 * i + 1) * len(names) // (2 * parsed.tiles)] for i in range(parsed.tiles)]
    norm = TwoSlopeNorm(0, low - SEA_LEVEL, high - SEA_LEVEL)
    figure = Figure(figsize=(1.75 * parsed.tiles + 1.6, 7.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(4, parsed.tiles, squeeze=False)
    titles = ("photo", "elevation,\ntranslated", "elevation,\nthe truth", "photo,\ntranslated from\nthe truth")
    for column, name in enumerate(chosen):
        photo, made = read_image(parsed.data / "testA" / name, 3), read_image(parsed.photos / name, 3)
        metres = [
            elevation_of(folder / name).astype(int) - SEA_LEVEL for folder in (parsed.elevation, parsed.data / "testB")
        ]
        for row, picture in enumerate((photo, *metres, made)):
            axes = rows[row, column]
            axes.imshow(picture, cmap=RELIEF, norm=norm if picture.ndim == 2 else None, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(titles[row], rotation=0, ha="right", va="center")
        left, top = int(name[1:5]), int(name[7:11])
        latitude, longitude = 90 - (top + 120) / 15, (left + 120) / 15 - 180
        rows[0, column].set_title(
            f"{abs(latitude):.0f} {'N' if latitude > 0 else 'S'}, {abs(longitude):.0f} {'E' if longitude > 0 else 'W'}",
            fontsize=9,
        )
    bar = figure.colorbar(ScalarMappable(norm, RELIEF), ax=rows[1:3].ravel().tolist(), shrink=0.9, label="metres")
    bar.set_ticks([low - SEA_LEVEL, 0, *range(1000, high - SEA_LEVEL + 1, 1000)])
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(parsed.out)


if __name__ == "__main__":
    main()
