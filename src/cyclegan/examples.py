"""Pictures of single test images that reports show: before, after, there and back, and the truth if it is known."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.images import displayable, write_bytes

# Longer sides are reduced to this, in pixels: a page is to be looked at, not to be measured on.
MAX_SIDE = 512


@dataclass(frozen=True)
class Example:
    """One image of one direction.

    kind: why it is shown. score_name, score: what it was ranked by. pictures: (C, H, W) in [-1, 1] by role: input,
    output, cycled, truth.
    """

    direction: Direction
    file: str
    kind: Literal["best", "worst", "typical", "held out"]
    pictures: Mapping[str, Tensor]
    score_name: str | None = None
    score: float | None = None


def write_examples(out: Path, origin: str, examples: Sequence[Example]) -> None:
    """Replace the folder `out` by these pictures as 8-bit PNG, and examples.json. origin: where they are from."""
    shutil.rmtree(out, ignore_errors=True)
    entries = []
    for index, example in enumerate(examples):
        pictures = {}
        for role, tensor in example.pictures.items():
            path = out / example.direction / f"{index:02d}_{role}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = displayable(tensor)
            picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            picture.save(path)
            pictures[role] = path.relative_to(out).as_posix()
        entries.append(
            {
                "direction": example.direction,
                "file": example.file,
                "kind": example.kind,
                "score_name": example.score_name,
                "score": example.score,
                "pictures": pictures,
            }
        )
    text = json.dumps({"origin": origin, "examples": entries}, indent=1, ensure_ascii=False)
    write_bytes(out / "examples.json", (text + "\n").encode(errors="surrogateescape"))
