"""Folders of this machine that the studio may open, and what a browser of folders shows of them.

The studio answers everybody who reaches its address: on a machine with several users, all of them. So it opens folders
below the home folder and below the one that it was started in, and no others, also not through links. Of a folder the
browser shows the names of its subfolders and how many images each holds; hidden folders and the names of files stay
out of it. An inspection of such a folder shows its images.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError, reason_of
from cyclegan.images.file_formats import image_suffixes
from cyclegan.storage.run import run_of
from cyclegan.system.arguments import expand_home

# Subfolders that are listed, and entries of each that are looked at.
_MOST_FOLDERS, _MOST_ENTRIES = 500, 5000


class OutsideError(InputError):
    """A folder that the studio may not open."""


@dataclass(frozen=True)
class OpenFolders:
    """The folders at the top of those that may be opened: real paths."""

    roots: tuple[Path, ...]

    @classmethod
    def usual(cls) -> "OpenFolders":
        """The folder that the program was started in, and the home folder; never the whole disk, as of a service."""
        return cls.of([place for place in (Path.cwd(), Path.home()) if place.resolve() != Path(place.anchor)])

    @classmethod
    def of(cls, roots: Sequence[Path]) -> "OpenFolders":
        """These folders, as far as they are there, without those inside of others."""
        real = list(dict.fromkeys(root.resolve() for root in roots if root.is_dir()))
        return cls(tuple(root for root in real if not any(other in root.parents for other in real)))

    def check(self, text: str) -> Path:
        """The real path of a folder that may be opened. Raises InputError with one sentence for all others."""
        if not text.strip():
            raise InputError("No folder is given; choose one.")
        if "\0" in text or len(text) > 4096:
            raise InputError("This is no path of a folder; choose one.")
        path = expand_home(Path(text.strip()))
        if not path.is_absolute():
            path = Path.cwd() / path
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: links in a circle
            real = None
        # The same answer, whether it is there or not: what lies outside is not to be asked after.
        if not self._holds(real or Path(os.path.normpath(path))):
            places = f"folders below {' and '.join(map(str, self.roots))} only" if self.roots else "no folders here"
            raise OutsideError(f"The studio opens {places}; start it in a folder above {path}, or copy the images.")
        if real is None:
            raise InputError(f"There is no folder {path}; choose one that is there.")
        if real.is_file() and real.suffix.lower() != ".zip":
            raise InputError(f"{path} is a file; choose the folder that holds it.")
        return real

    def _holds(self, path: Path) -> bool:
        return any(path == root or root in path.parents for root in self.roots)

    def images(self, text: str) -> Path:
        """The same for a folder to inspect and to train on: no run, whose folders may lie elsewhere."""
        folder = self.check(text)
        if (folder / "config.toml").is_file() or run_of(folder) is not None:
            raise InputError(f"{folder} belongs to a run, which the page Runs shows; choose a folder of images.")
        return folder

    def show(self, text: str) -> dict[str, Any]:
        """What the browser shows of a folder; without one, the folders at the top."""
        if not text:
            return {"path": "", "parent": None, "folders": [_shown(root, str(root)) for root in self.roots], "more": 0}
        folder = self.check(text)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; choose one.")
        try:
            entries = sorted(_subfolders(folder), key=lambda path: path.name.lower())
        except OSError as error:
            raise InputError(f"{folder} cannot be opened: {reason_of(error)}.") from None
        parent = "" if folder in self.roots else str(folder.parent)
        shown = [_shown(path, path.name) for path in entries[:_MOST_FOLDERS]]
        more = len(entries) - len(shown)
        return {"path": str(folder), "parent": parent, "folders": shown, "more": more, **_count(folder)}


def _subfolders(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _shown(folder: Path, name: str) -> dict[str, Any]:
    return {"name": name, "path": str(folder), **_count(folder)}


def _count(folder: Path) -> dict[str, Any]:
    """How many images lie in a folder itself, and whether it holds both domains, as trainA and trainB."""
    suffixes = tuple(suffix.lower() for suffix in image_suffixes())
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
    except OSError:
        return {"num_images": None, "holds_both": False}
    count = sum(name.lower().endswith(suffixes) and not name.startswith(".") for name in names)
    is_more = len(names) == _MOST_ENTRIES
    return {"num_images": count, "is_more": is_more, "holds_both": {"trainA", "trainB"} <= set(names)}
