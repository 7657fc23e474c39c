"""`cyclegan demo`: real data, ten minutes of training, translations of tiles never seen, and what they are worth."""

from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.datasets import download
from cyclegan.evaluation import evaluate, show_scores
from cyclegan.images import ImageFormat, grid, list_images, read_image, spread, to_tensor
from cyclegan.training import train
from cyclegan.translate import Translator
from cyclegan.translate_files import plan_outputs, translate_files

_NAMES: dict[Direction, tuple[str, str]] = {"a2b": ("satellite photo", "map"), "b2a": ("map", "satellite photo")}


def demo(out: Path, data: Path, *, minutes: float | None = None, seed: int = 0, fresh: bool = False) -> Path:
    """Build the earth data if it is not there, train with the preset `demo`, score and show. Returns the report's path.

    Interrupted, the same call goes on. Raises InputError if the data cannot be had or `out` holds another run.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    if not (data / "about.json").is_file():
        with console.status(f"Cutting satellite photo and map into tiles, into {data} ..."):
            download("earth", data)
    settings: dict[str, Any] = {"minutes": minutes} if minutes is not None else {}
    run = train(data, preset="demo", out=out, seed=seed, fresh=fresh, **settings)

    # Test tiles of the same name show the same place, so every translation has its truth.
    scores = evaluate(run, data / "testA", data / "testB", paired=True)
    show_scores(scores, console)
    folders: dict[Direction, str] = {"a2b": "testA", "b2a": "testB"}
    for direction, folder in folders.items():
        translator = Translator.load(run, direction=direction)
        translate_files(translator, plan_outputs([data / folder], run / "translated" / direction, translator))
    overview(run, data).save(run / "overview.png")
    return run / "report.html"


def overview(run: Path, data: Path, num_tiles: int = 8) -> Image.Image:
    """One picture of both directions: inputs, translations and the truth of tiles at equal distances."""
    rows, labels = [], []
    for direction, (source, target) in _NAMES.items():
        folders = [data / "testA", run / "translated" / direction, data / "testB"]
        for folder, label in zip(
            folders if direction == "a2b" else [folders[2], folders[1], folders[0]],
            (f"{source}, never seen", f"{target}, translated", f"{target}, the truth"),
            strict=True,
        ):
            rows.append(_some(folder, num_tiles))
            labels.append(label)
    return grid(rows, labels)


def _some(folder: Path, wanted: int) -> list[Tensor]:
    """Up to `wanted` images of a folder at equal distances, by their names."""
    return [to_tensor(read_image(path, 3), ImageFormat()) for path in spread(list_images(folder), wanted)]
