"""The models of a server: names, loaded translators, and the descriptions of `GET /v1/models`."""

import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock

from pydantic import BaseModel

from cyclegan.config import Direction
from cyclegan.errors import CycleganError, InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import GENERATORS
from cyclegan.networks.building import built_on_meta
from cyclegan.storage.hub import PREFIX, is_address
from cyclegan.storage.model import ModelInfo, find_model, read_info
from cyclegan.system.arguments import real_path
from cyclegan.system.json_files import shown
from cyclegan.system.messages import Messages
from cyclegan.translate.engines.exported import find_export
from cyclegan.translate.tiling.network import reach_of
from cyclegan.translate.translator import Translator

# A name in an address.
NAME = r"[A-Za-z0-9._-]{1,200}"


class SideDescription(BaseModel):
    """Images of a domain: channels, numpy type, the values that become -1 and 1, whether the last channel is alpha."""

    channels: int
    dtype: str
    low: float
    high: float
    alpha: bool


class DirectionDescription(BaseModel):
    """source, target: the images that a direction takes and gives. is_local: tiles are exact without a second pass."""

    source: SideDescription
    target: SideDescription
    is_local: bool


class ModelDescription(BaseModel):
    """A model that is served. directions: by name, a2b and b2a. card: about the model, in Markdown."""

    name: str
    directions: dict[str, DirectionDescription]
    card: str


@dataclass(frozen=True)
class _Model:
    """What a name stands for. stamp: changes with the files."""

    path: str
    stamp: tuple[object, ...]
    description: ModelDescription


class ModelStore:
    """Translators by name and direction. Requests in flight keep the translator that they have.

    models: name -> run, checkpoint, model folder, export or hf:user/name. device, engine, precision, weights: as in
    `Translator.load`. most_loaded: translators in memory, loaded at their first use; None: all, loaded by `load`.
    All methods may be called in any thread.
    """

    def __init__(
        self,
        models: Mapping[str, str | Path],
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str | None = None,
        weights: str | None = None,
        most_loaded: int | None = None,
    ) -> None:
        for name in models:
            check_name(name)
        self._paths = {name: str(path) for name, path in models.items()}
        self._options = {"device": device, "engine": engine, "precision": precision, "weights": weights}
        self._most_loaded = most_loaded
        self._models: dict[str, _Model] = {}
        self._translators: OrderedDict[tuple[str, str], Translator] = OrderedDict()
        self._lock = RLock()
        self._messages = Messages("serve")

    @property
    def names(self) -> list[str]:
        return list(self._paths)

    @property
    def num_loaded(self) -> int:
        """Translators in memory."""
        return len(self._translators)

    def load(self) -> None:
        """Load all models, unless they are loaded at their first use. Raises InputError, or ConnectionError for one of
        the Hub, if one cannot be loaded.
        """
        if self._most_loaded is None:
            for name in self.names:
                self._load(name)

    def reload(self) -> list[str]:
        """Load all models again. One that cannot be loaded stays as it was. Returns a sentence for each model."""
        said = []
        for name in self.names:
            try:
                self._load(name)
                said.append(f"{name} is loaded again.")
            except (CycleganError, OSError) as error:
                said.append(f"{name} cannot be loaded again, and stays as it was: {error}")
        return said

    def refresh(self, models: Mapping[str, str | Path]) -> None:
        """Replace the names. Translators of names that are gone, or that stand for another path, are forgotten."""
        for name in models:
            check_name(name)
        with self._lock:
            before, self._paths = self._paths, {name: str(path) for name, path in models.items()}
            for name in set(before) - {name for name, path in self._paths.items() if before.get(name) == path}:
                self._forget(name)

    def describe(self, name: str) -> ModelDescription:
        """Raises KeyError for an unknown name, InputError or OSError if the model cannot be read."""
        return self._model(name).description

    def translator(self, name: str, direction: str) -> Translator:
        """Raises KeyError for an unknown name or direction; errors of a model that cannot be loaded as `load` does."""
        key = name, direction
        with self._lock:
            model = self._model(name)
            if direction not in model.description.directions:
                raise KeyError(direction)
            if key not in self._translators:
                self._translators[key] = self._open(name, model.path, direction)
            self._translators.move_to_end(key)
            while self._most_loaded is not None and len(self._translators) > self._most_loaded:
                self._translators.popitem(last=False)
            return self._translators[key]

    def _model(self, name: str) -> _Model:
        """What a name stands for; where models are loaded at their first use, as its files are now."""
        with self._lock:
            path, known = self._paths[name], self._models.get(name)
            if known is not None and (self._most_loaded is None or known.stamp == _stamp(path)):
                return known
            stamp = _stamp(path)
            try:
                model = _Model(path, stamp, _describe(name, path))
            except (CycleganError, OSError) as error:
                if known is None:
                    raise
                self._messages.warning(f"{name} has changed and cannot be read; it stays as it was: {error}")
                model = _Model(path, stamp, known.description)
            else:
                self._forget(name)
            self._models[name] = model
            return model

    def _load(self, name: str) -> None:
        """Load all directions of a model, then put them in the place of those before."""
        path = self._paths[name]
        model = _Model(path, _stamp(path), _describe(name, path))
        opened = {direction: self._open(name, path, direction) for direction in model.description.directions}
        with self._lock:
            if self._paths.get(name) != path:
                return
            self._forget(name)
            self._models[name] = model
            self._translators |= {(name, direction): translator for direction, translator in opened.items()}

    def _open(self, name: str, path: str, direction: str) -> Translator:
        translator = Translator.load(path, direction=direction, **self._options)  # type: ignore[arg-type]
        translator.name = name  # messages go to clients
        return translator

    def _forget(self, name: str) -> None:
        self._models.pop(name, None)
        for key in [key for key in self._translators if key[0] == name]:
            del self._translators[key]


def check_name(name: str) -> None:
    """Raises InputError for what is no name of a model in an address."""
    if not re.fullmatch(NAME, name) or not name.strip("."):
        hint = ", and no slash" if "/" in name else ""
        raise InputError(
            f"{shown(name)} cannot name a model; expected letters, digits, dots, underscores and dashes{hint}."
        )


def name_models(texts: Iterable[str]) -> dict[str, str]:
    """Name -> path for models given as NAME=PATH, or as a path alone, whose last part is the name.

    Raises InputError for a name that cannot be used, or that two models have.
    """
    models: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if equals and not os.path.lexists(text) and (is_address(path) or os.path.lexists(path)):
            check_name(name)
        if not equals or not path or os.path.lexists(text) or not re.fullmatch(NAME, name):
            path = text
            last = path.partition("@")[0].rpartition("/")[2] if is_address(path) else real_path(Path(path)).name
            name = re.sub(r"[^A-Za-z0-9._-]", "-", last)
        check_name(name)
        if name in models:
            raise InputError(f"{models[name]} and {path} would both be called {name}; name one: NAME={path}")
        models[name] = str(Path(path).expanduser()) if not path.startswith(PREFIX) else path
    return models


def _stamp(path: str) -> tuple[object, ...]:
    """What changes when a run, a checkpoint, a model folder or an export is written again."""
    found: list[object] = []
    for place in ("", "config.json", "model", "model/config.json", "checkpoints"):
        try:
            about = os.stat(os.path.join(path, place))  # noqa: PTH116, PTH118
            found.append((about.st_ino, about.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _describe(name: str, path: str) -> ModelDescription:
    export = find_export(Path(path))
    if export is not None:
        described, _, own = export
        info, directions, is_export = described.origin, [own] if own else [*described.networks], True
    else:
        info = read_info(find_model(Path(path)))
        directions, is_export = [*info.directions], False
    found = {}
    for direction in directions:
        source, target = map(_side, info.formats(direction))
        is_local = not is_export and _is_local(info, direction)
        found[str(direction)] = DirectionDescription(source=source, target=target, is_local=is_local)
    return ModelDescription(name=name, directions=found, card=_card(name, path, info, is_export=is_export))


def _side(images: ImageFormat) -> SideDescription:
    return SideDescription(
        channels=images.channels, dtype=images.dtype, low=images.low, high=images.high, alpha=images.last_is_alpha
    )


def _is_local(info: ModelInfo, direction: Direction) -> bool:
    source, target = info.formats(direction)
    settings = info.model.generator_settings
    network = built_on_meta(partial(GENERATORS[info.model.generator], source.channels, target.channels, **settings))
    return network is not None and reach_of(network) is not None


def _card(name: str, path: str, info: ModelInfo, *, is_export: bool) -> str:
    """The card of a model as `cyclegan push` writes it, without what is for the Hub; a short one where that fails."""
    try:
        if not is_export and not is_address(path):
            from cyclegan.publishing.card import card_text
            from cyclegan.publishing.facts import read_subject

            text = card_text(read_subject(Path(path), f"local/{name}"))
            text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
            text = re.sub(r"^## How to use\n.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
            return text.replace("No picture of its translations was published with this model.\n\n", "").lstrip()
    except (CycleganError, OSError, ImportError):
        pass
    generator = GENERATORS[info.model.generator].summary(info.model.generator_settings)
    trained = f" after {info.step:,} steps of training" if info.step else ""
    return f"# {name}\n\nA generator of the kind {info.model.generator} ({generator}){trained}.\n"
