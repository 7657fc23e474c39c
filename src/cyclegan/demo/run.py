"""`cyclegan demo`: real data, ten minutes of training, translations of test tiles, and their scores."""

from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.datasets import download
from cyclegan.datasets.earth import BLOCK, EARTH_VARIANTS, TILE
from cyclegan.errors import InputError, UnreadableError
from cyclegan.evaluation.scoring import evaluate
from cyclegan.evaluation.table import show_scores
from cyclegan.images.codecs import read_image
from cyclegan.images.drawing import grid
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.system.json_files import read_json
from cyclegan.system.messages import make_console
from cyclegan.training.loop import train
from cyclegan.translate.files import translate_files
from cyclegan.translate.plan import plan_outputs
from cyclegan.translate.translator import Translator

# Two generators that trained ten times as long as the demo; docs/research/presets.md says how they were made.
EARTH_MODEL = Path(__file__).parent / "earth"

# Their training data, as in about.json: with other blocks, test tiles may show places of the training.
_TRAINED_ON = {"b": EARTH_VARIANTS["shadedrelief"][1], "tile_pixels": TILE, "block_pixels": BLOCK}

_NAMES: dict[Direction, tuple[str, str]] = {"a2b": ("satellite photo", "map"), "b2a": ("map", "satellite photo")}


def demo(out: Path, data: Path, *, minutes: float | None = None, seed: int = 0, fresh: bool = False) -> Path:
    """Build the earth data if it is missing, train with the preset `demo`, score and show. Returns the report's path.

    The same call resumes an interrupted demo. Raises InputError if the data cannot be built or `out` holds another run.
    """
    console = make_console(stderr=True)
    _build_data(data, console)
    settings: dict[str, Any] = {"minutes": minutes} if minutes is not None else {}
    run = train(data, preset="demo", out=out, seed=seed, fresh=fresh, **settings)

    return _score_and_show(run, run, data, console)


def quick_demo(out: Path, data: Path) -> Path:
    """The demo without training, with the installed generators. Returns the report's path.

    Raises InputError if the data cannot be built or does not match the generators, or if `out` holds a run.
    """
    if (out / "config.toml").is_file():
        raise InputError(f"{out} is a run, whose scores would be replaced; choose another --out.")
    console = make_console(stderr=True)
    _build_data(data, console)
    try:
        about = read_json(data / "about.json", dict[str, Any])
    except UnreadableError as error:
        raise InputError(f"{error} Choose another --data, where the demo then makes its own.") from None
    for name, value in _TRAINED_ON.items():
        if about.get(name) != value:
            raise InputError(
                f"{data} has {name} {about.get(name)!r}, but the installed generators are for {value!r}; choose "
                "another --data, where the demo then makes its own."
            )
    out.mkdir(parents=True, exist_ok=True)
    return _score_and_show(EARTH_MODEL, out, data, console)


def _build_data(data: Path, console: Console) -> None:
    if not (data / "about.json").is_file():
        with console.status(f"Cutting satellite photo and map into tiles, into {data} ..."):
            download("earth", data)


def _score_and_show(model: Path, out: Path, data: Path, console: Console) -> Path:
    """Score, translate every test tile, and write a page and overview.png into `out`. Returns the page's path."""
    # Test tiles of the same name show the same place, so every translation has its truth.
    scores = evaluate(model, data / "testA", data / "testB", paired=True, out=out)
    show_scores(scores, console)
    folders: dict[Direction, str] = {"a2b": "testA", "b2a": "testB"}
    for direction, folder in folders.items():
        translator = Translator.load(model, direction=direction)
        translate_files(translator, plan_outputs([data / folder], out / "translated" / direction, translator))
    overview(out, data).save(out / "overview.png")
    return out / "report.html"


def overview(run: Path, data: Path) -> Image.Image:
    """One picture of both directions: inputs, translations and truth of eight evenly spaced tiles."""
    rows: dict[str, list[Tensor]] = {}
    for direction, (source, target) in _NAMES.items():
        a, b = data / "testA", data / "testB"
        inputs, truth = (a, b) if direction == "a2b" else (b, a)
        folders = {
            f"{source}, never seen": inputs,
            f"{target}, translated": run / "translated" / direction,
            f"{target}, the truth": truth,
        }
        for label, folder in folders.items():
            tiles = evenly_spaced(list_images(folder), 8)
            rows[label] = [to_tensor(read_image(path, 3), ImageFormat()) for path in tiles]
    return grid(list(rows.values()), list(rows))
