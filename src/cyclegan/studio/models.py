"""Find the models below a folder, and name them for addresses and for people."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cyclegan.config import Direction
from cyclegan.errors import CycleganError, InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_run_config, run_of
from cyclegan.system.arguments import real_path
from cyclegan.translate.engines.exported import EXPORT_FORMATS, find_export

# How far below the folder runs are looked for, and in how many folders: it may hold images as well.
_MAX_DEPTH, _MAX_FOLDERS = 4, 5_000


@dataclass(frozen=True)
class FoundModel:
    """A run, its best checkpoint, a model folder or an export.

    name: in addresses. title: the path below the folder. domains: names of A and B. formats: of the images that each
    direction takes and gives. version: another one after each checkpoint. problem: why it cannot be used, or None.
    """

    name: str
    title: str
    path: Path
    domains: Mapping[str, str]
    formats: Mapping[Direction, tuple[ImageFormat, ImageFormat]]
    version: str
    problem: str | None = None


@dataclass(frozen=True)
class Example:
    """A model that is offered while the folder has none. domains: names of A and B; None: those of its run."""

    path: Path
    domains: Mapping[str, str] | None = None


class ModelFinder:
    """The models below a folder as they are at each call of `find`, or the examples, by title, if it has none."""

    def __init__(self, folder: Path, examples: Mapping[str, Example] | None = None) -> None:
        self._folder, self._examples = folder, dict(examples or {})
        self._known: dict[tuple[Path, str, str], FoundModel] = {}

    def find(self) -> list[FoundModel]:
        """In the order of their paths. A model that cannot be read is there with its problem."""
        places = {_title(path, self._folder): Example(path) for path in _walk(self._folder)} or self._examples
        found: dict[str, FoundModel] = {}
        known = {}
        for title, place in places.items():
            name = base = model_name(title)
            number = 2
            while name in found:
                name, number = f"{base}-{number}", number + 1
            version = _version(place.path)
            key = place.path, name, version
            known[key] = found[name] = self._known.get(key) or _read(name, title, place, version)
        self._known = known
        return list(found.values())


def model_name(title: str) -> str:
    """The name of a model in addresses: its path below the folder with -- for /."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", title.replace("/", "--"))[:180].strip(".") or "model"


def _title(path: Path, folder: Path) -> str:
    relative = path.relative_to(folder).as_posix()
    own = real_path(folder).name or "models"
    if relative == ".":
        return own
    # In a folder that is a run itself, its best checkpoint alone would be called `best`.
    return f"{own}/{relative}" if relative == "best" else relative


def _walk(folder: Path) -> Iterator[Path]:
    """The runs, model folders and exports below a folder, or the folder itself. What a run holds is not listed."""
    waiting, num_seen = [(folder, 0)], 0
    while waiting and num_seen < _MAX_FOLDERS:
        place, depth = waiting.pop()
        num_seen += 1
        names: dict[str, bool] = {}
        with suppress(OSError), os.scandir(place) as entries:  # gone meanwhile, or closed to this user
            names = {entry.name: entry.is_dir() for entry in entries}
        if names.get("model") or names.get("checkpoints") or _holds_model(names):
            if "config.json" in names or names.get("model") or _checkpoints(place):
                yield place
            with suppress(OSError):
                if names.get("best") and (place / "best" / "model" / "config.json").is_file():
                    yield place / "best"
        elif depth < _MAX_DEPTH:
            below = sorted((name for name, is_folder in names.items() if is_folder and name[0] != "."), reverse=True)
            waiting += [(place / name, depth + 1) for name in below]


def _holds_model(names: Mapping[str, bool]) -> bool:
    endings = (".safetensors", *(each.suffix for each in EXPORT_FORMATS.values()))
    return "config.json" in names and any(name.endswith(endings) for name in names)


def _configs(path: Path) -> Iterator[Path]:
    """Where the config.json of a model may be. All of a run say the same about its images."""
    yield path
    yield path / "model"
    for checkpoint in _checkpoints(path):
        yield checkpoint / "model"


def _checkpoints(path: Path) -> list[Path]:
    try:
        return list_checkpoints(path)
    except OSError:  # closed to this user
        return []


def _version(path: Path) -> str:
    """Changes when a model is there at last, or is written anew."""
    found = []
    for file in (path / "config.toml", *(place / "config.json" for place in _configs(path))):
        try:
            found.append(f"{file.stat().st_mtime_ns:x}")
        except OSError:
            found.append("-")
    return hashlib.sha256(" ".join(found).encode()).hexdigest()[:12]


def _read(name: str, title: str, place: Example, version: str) -> FoundModel:
    path, domains = place.path, {"a": "A", "b": "B"}
    try:
        if place.domains is None and (run := run_of(path)) is not None:
            config = read_run_config(run)
            if config is not None and config.a and config.b and config.a.name != config.b.name:
                domains = {"a": config.a.name, "b": config.b.name}
        return FoundModel(name, title, path, place.domains or domains, _formats(path), version)
    except (CycleganError, OSError) as error:
        return FoundModel(name, title, path, domains, {}, version, " ".join(str(error).split()))


def _formats(path: Path) -> dict[Direction, tuple[ImageFormat, ImageFormat]]:
    """Raises InputError for a model that cannot be read. Weights are read at the first translation."""
    if (export := find_export(path)) is not None:
        return {direction: export[0].origin.formats(direction) for direction in export[0].networks}
    for place in _configs(path):
        if (place / "config.json").is_file():
            info = read_info(place)
            return {direction: info.formats(direction) for direction in info.directions}
    raise InputError(f"{path} holds no model yet; one is there after the first checkpoint.")
