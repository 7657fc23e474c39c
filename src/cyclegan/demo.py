"""`cyclegan demo`: real data, ten minutes of training, translations of tiles never seen, and what they are worth."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table as ScreenTable
from torch import Tensor

from cyclegan._version import __version__
from cyclegan.config import Direction
from cyclegan.datasets import download
from cyclegan.images import ImageFormat, displayable, from_tensor, grid, list_images, read_image, to_tensor, write_image
from cyclegan.metrics import l1, psnr
from cyclegan.report.page import Gallery, Section, Table, write_report
from cyclegan.training import train
from cyclegan.translate import Translator

_NAMES = {"a2b": ("satellite photo", "map"), "b2a": ("map", "satellite photo")}


@dataclass(frozen=True)
class Result:
    """One direction on the test tiles. Scores are means over the tiles: name -> (L1, PSNR in dB)."""

    direction: Direction
    inputs: list[Tensor]
    outputs: list[Tensor]
    truths: list[Tensor]
    scores: dict[str, tuple[float, float]]

    @property
    def relative_l1(self) -> float:
        """L1 of the translations over that of the mean image; under 1 is better than knowing only the average."""
        return self.scores["translation"][0] / self.scores["mean image of the target domain"][0]


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

    results = [score(run, data, "a2b"), score(run, data, "b2a")]
    scores = {result.direction: {k: {"l1": v[0], "psnr": v[1]} for k, v in result.scores.items()} for result in results}
    (run / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    for result in results:
        _show(console, result)
        tiles = list_images(data / ("testA" if result.direction == "a2b" else "testB"))
        for path, tensor in zip(tiles, result.outputs, strict=True):
            write_image(run / "translated" / result.direction / path.name, from_tensor(tensor, ImageFormat()))
    overview(results).save(run / "overview.png")
    report = run / "report.html"
    _write_report(report, run, results)
    return report


def score(run: Path, data: Path, direction: Direction) -> Result:
    """Translate the aligned test tiles and compare with the truth, beside two baselines that have learned nothing.

    run: a run directory. data: a root with trainA, trainB, testA, testB, where the test folders hold the same places.
    """
    source, target = ("A", "B") if direction == "a2b" else ("B", "A")
    inputs, truths = _read(data / f"test{source}"), _read(data / f"test{target}")
    mean = torch.stack(_read(data / f"train{target}")).mean(0)
    translator = Translator.load(run, direction=direction)
    outputs = [translator.translate_tensor(image[None])[0] for image in inputs]

    def means(images: list[Tensor]) -> tuple[float, float]:
        pairs = list(zip(images, truths, strict=True))
        return sum(l1(*pair) for pair in pairs) / len(pairs), sum(psnr(*pair) for pair in pairs) / len(pairs)

    scores = {
        "translation": means(outputs),
        "mean image of the target domain": means([mean] * len(truths)),
        "untranslated input": means(inputs),
    }
    return Result(direction, inputs, outputs, truths, scores)


def overview(results: list[Result], num_tiles: int = 8) -> Image.Image:
    """One picture of both directions: inputs, translations and the truth of tiles at equal distances."""
    rows, labels = [], []
    for result in results:
        source, target = _NAMES[result.direction]
        for images, label in (
            (result.inputs, f"{source}, never seen"),
            (result.outputs, f"{target}, translated"),
            (result.truths, f"{target}, the truth"),
        ):
            rows.append([images[i] for i in _spread(len(images), num_tiles)])
            labels.append(label)
    return grid(rows, labels)


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` indices at equal distances."""
    return [i * count // min(count, wanted) for i in range(min(count, wanted))]


def _read(folder: Path) -> list[Tensor]:
    return [to_tensor(read_image(path, 3), ImageFormat()) for path in list_images(folder)]


def _show(console: Console, result: Result) -> None:
    source, target = _NAMES[result.direction]
    table = ScreenTable(title=f"{source} -> {target}, {len(result.inputs)} tiles never seen")
    for column in ("", "L1 (less is better)", "PSNR, dB (more is better)"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (absolute, decibel) in result.scores.items():
        table.add_row(name, f"{absolute:.3f}", f"{decibel:.1f}")
    console.print(table)


def _write_report(path: Path, run: Path, results: list[Result]) -> None:
    sections = []
    for result in results:
        source, target = _NAMES[result.direction]
        rows = [[name, f"{absolute:.3f}", f"{decibel:.1f}"] for name, (absolute, decibel) in result.scores.items()]
        count = len(result.inputs)
        pictures: list[list[Image.Image]] = [
            [displayable(images[i]) for images in (result.inputs, result.outputs, result.truths)]
            for i in _spread(count, 12)
        ]
        sections.append(
            Section(
                f"{source[0].upper()}{source[1:]} to {target}",
                [
                    f"{count} places that neither network saw in training. L1 is the mean absolute difference from the "
                    f"truth in [-1, 1]; the translation's is {result.relative_l1:.2f} times that of the mean image, "
                    "which knows only the average of its domain. The rows are taken at equal distances, not chosen."
                ],
                [
                    Table(["", "L1", "PSNR (dB)"], rows, best=0),
                    Gallery([f"{source} (input)", f"{target} (translated)", f"{target} (truth)"], pictures),
                ],
            )
        )
    sample_files = sorted((run / "samples").glob("*.png"))
    if sample_files:
        with Image.open(sample_files[-1]) as picture:
            sheet = picture.convert("RGB")
        caption = f"{sample_files[-1].name}; all of them are in {run / 'samples'}."
        sections.append(Section("There and back again", [caption], [Gallery(["samples"], [[sheet]])]))
    how = (run / "config.toml").read_text(encoding="utf-8")
    sections.append(Section("How it was made", [f"cyclegan {__version__}, torch {torch.__version__}"], [how]))
    write_report(path, "CycleGAN: satellite photos and maps", sections)
