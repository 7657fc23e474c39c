"""The showcase of a run: single images before and after translation, with the truth if it is known, in examples/."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from cyclegan.config import Config, Direction
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.drawing import displayable
from cyclegan.system.atomic import atomic_path
from cyclegan.system.json_files import read_json
from cyclegan.system.terminal import warn_once

# Longer sides are reduced to this, in pixels: pages are for looking, not for measuring.
MAX_SIDE = 512

_OWN_NAME = re.compile(r"examples\.json|\d{2,}_(input|output|cycled|truth|probed|probed_output|change)\.png")


@dataclass(frozen=True)
class ShowcaseImage:
    """One image of one direction, to be written.

    kind: why it is shown. score_name, score: what ranked it. note: what is special about it. pictures: (C, H, W) in
    [-1, 1] by role: input, output, cycled, truth; for probes the input and the output with a known change, and where
    the output changed: probed, probed_output, change.
    """

    direction: Direction
    file: str
    kind: Literal["best", "worst", "typical", "sample", "probe"]
    pictures: Mapping[str, Tensor]
    score_name: str | None = None
    score: float | None = None
    note: str = ""


def write_showcase(out: Path, origin: str, images: Sequence[ShowcaseImage]) -> None:
    """Write pictures as 8-bit PNG, and examples.json, in place of an earlier showcase. origin: where they are from.

    The earlier one stays if the new one cannot be written, and other files in it stay in any case.
    Raises InputError if `out` holds something else.
    """
    check_showcase(out)
    with atomic_path(out) as folder:
        if out.is_dir():
            shutil.copytree(out, folder, symlinks=True, ignore=_own_names)
        folder.mkdir(exist_ok=True)
        entries = []
        for index, image in enumerate(images):
            pictures = {}
            for role, tensor in image.pictures.items():
                path = folder / image.direction / f"{index:02d}_{role}.png"
                path.parent.mkdir(exist_ok=True)
                picture = displayable(tensor)
                picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
                picture.save(path)
                pictures[role] = path.relative_to(folder).as_posix()
            named = {
                name: getattr(image, name) for name in ("direction", "file", "kind", "score_name", "score", "note")
            }
            entries.append({**named, "pictures": pictures})
        text = json.dumps({"origin": origin, "examples": entries}, indent=1, ensure_ascii=False)
        (folder / "examples.json").write_bytes((text + "\n").encode(errors="surrogateescape"))


def _own_names(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if _OWN_NAME.fullmatch(name)}


def check_showcase(out: Path) -> None:
    """Raises InputError if `out` exists, is not empty and is no showcase, which would be replaced."""
    if out.exists() and not (out / "examples.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"{out} is there and holds something else; move it, or choose another --out.")


# ---- reading them again


class ShownImage(Config, extra="ignore"):
    """One image of a saved showcase; the fields are those of ShowcaseImage, pictures are files."""

    direction: str
    file: str
    kind: str
    score_name: str | None = None
    score: float | None = None
    note: str = ""
    # Relative to the folder in the file, whole afterwards.
    pictures: dict[str, Path]

    @property
    def is_extreme(self) -> bool:
        """Whether it was chosen for its score."""
        return self.kind in ("best", "worst")

    def picture(self, name: str) -> Image.Image | None:
        """`input`, `output`, `cycled` or `truth`, as 8-bit RGB; None if there is none."""
        path = self.pictures.get(name)
        return open_picture(path) if path is not None else None


@dataclass(frozen=True)
class Showcase:
    """The saved showcase of a run. origin: a description of where its images come from."""

    origin: str = ""
    examples: tuple[ShownImage, ...] = ()

    def of(self, direction: str, *kinds: str) -> list[ShownImage]:
        """Images of a direction, in their order; of these kinds if any are given, else of all but probes."""
        return [
            e for e in self.examples if e.direction == direction and (e.kind in kinds if kinds else e.kind != "probe")
        ]


def read_showcase(run: Path) -> Showcase:
    """The showcase of a run directory: the images whose input and output exist; empty if there is none."""
    folder = run / "examples"
    file = folder / "examples.json"
    try:
        record = read_json(file, _Record) if file.exists() else _Record()
    except UnreadableError as error:
        warn_once(f"{error} No images are shown.")
        return Showcase()
    images = []
    for entry in record.examples:
        with suppress(ValidationError):  # a damaged entry
            image = ShownImage.model_validate(entry)
            pictures = {name: folder / path for name, path in image.pictures.items() if _is_inside(folder, path)}
            if {"input", "output"} <= pictures.keys():
                images.append(image.replace(pictures=pictures))
    return Showcase(record.origin or "", tuple(images))


class _Record(Config, extra="ignore"):
    """examples.json; entries are checked one by one."""

    origin: str | None = None
    examples: tuple[Any, ...] = ()


def _is_inside(folder: Path, path: Path) -> bool:
    """Whether this is a file of the showcase. Pages and cards must not show a picture from elsewhere on the machine."""
    try:
        return not path.is_absolute() and ".." not in path.parts and (folder / path).is_file()
    except (OSError, ValueError):  # no path of a file system
        return False


def open_picture(path: Path) -> Image.Image | None:
    """A picture as 8-bit RGB, or None if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except Exception:  # a damaged file raises errors of every kind
        return None
