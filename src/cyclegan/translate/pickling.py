"""Send a translator to another process: as the path of its model and a digest, or as its weights.

A path is small and opens quickly, and the digest makes sure that the other process opens the same model. Weights travel
where the files are gone or were replaced, where the network was changed in memory, or where there never were files.
"""

import copy
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from cyclegan.config import Direction
from cyclegan.errors import InputError, reason_of
from cyclegan.storage.model import ModelInfo
from cyclegan.translate.engines.registry import open_engine

if TYPE_CHECKING:
    from cyclegan.translate.translator import Translator

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Origin:
    """The files that a translator was loaded from.

    path: the absolute path of a model directory or of an export, which `Translator.load` takes. weights: final, average
    or None, as it was asked for. files: everything that the result depends on. stamps: their sizes and times, by which
    a replaced file is noticed without reading it. changes: of the network in memory, see `count_changes`.
    """

    path: Path
    weights: str | None
    files: tuple[Path, ...]
    stamps: tuple[tuple[int, int, int], ...]
    changes: int

    @classmethod
    def of(cls, path: Path, weights: str | None, files: tuple[Path, ...], network: nn.Module | None) -> "Origin | None":
        """The origin of a translator that was loaded just now; None if its files are gone already."""
        try:
            path, files = path.absolute(), tuple(file.absolute() for file in files)
            return cls(path, weights, files, _stamps(files), count_changes(network))
        except OSError:
            return None

    def digest(self) -> str | None:
        """The digest of the files; None if one was replaced or removed since the translator was loaded."""
        try:
            return _digest_at(self.files, self.stamps) if _stamps(self.files) == self.stamps else None
        except OSError:
            return None


def _stamps(files: tuple[Path, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((about.st_size, about.st_mtime_ns, about.st_ino) for about in (file.stat() for file in files))


@lru_cache(maxsize=8)
def _digest_at(files: tuple[Path, ...], _stamps: tuple[tuple[int, int, int], ...]) -> str:
    """The digest of files with these stamps, read once for many tasks of a pool."""
    return digest_of(files)


def digest_of(files: tuple[Path, ...]) -> str:
    """One digest of the contents of several files. Raises OSError."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        digest.update(f"{path.name}\n".encode())
    return digest.hexdigest()


def count_changes(network: nn.Module | None) -> int:
    """A number that changes whenever weights or buffers are changed in place."""
    if network is None:
        return 0
    # A tensor made in inference mode counts nothing.
    tensors = (*network.parameters(), *network.buffers())
    return sum(tensor._version for tensor in tensors if not tensor.is_inference())


def reduce_translator(translator: "Translator") -> tuple[Any, ...]:
    """What pickle needs to make a translator again. Raises InputError for one that no other process could make."""
    engine, origin = translator.engine, translator.origin
    options: dict[str, Any] = {"engine": engine.name, "precision": engine.precision, "device": str(engine.device)}
    kept: dict[str, Any] = {"self_ensemble": translator.self_ensemble}
    if origin is not None and count_changes(engine.original) == origin.changes:
        digest = origin.digest()
        if digest is not None:
            options |= kept | {"direction": translator.direction, "weights": origin.weights}
            return _open_path, (type(translator), translator.name, origin.path, origin.files, digest, options)
    if engine.original is None:
        raise InputError(
            f"{translator.name} was replaced or removed since it was opened, or was no file, so it cannot be sent to "
            "another process; load it there."
        )
    network = engine.original if engine.device.type == "cpu" else copy.deepcopy(engine.original).cpu()
    made = type(translator), translator.name, network, translator.info, translator.direction, options, kept
    return _open_weights, made


def _open_path(
    kind: "type[Translator]", name: str, path: Path, files: tuple[Path, ...], digest: str, options: dict[str, Any]
) -> "Translator":
    """Raises InputError if the files are gone or hold another model."""
    try:
        found = digest_of(files)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read here ({reason_of(error)}), and a translator that was sent here needs it; "
            "keep the model until every process has it."
        ) from None
    if found != digest:
        raise InputError(
            f"{path} holds another model than the translator that was sent to this process; load it again and send "
            "that one."
        )
    translator = kind.load(path, **options)
    translator.name = name
    return translator


def _open_weights(
    kind: "type[Translator]",
    name: str,
    network: nn.Module,
    info: ModelInfo,
    direction: Direction,
    options: dict[str, Any],
    kept: dict[str, Any],
) -> "Translator":
    source, target = info.formats(direction)
    eight_bit = target.dtype == "uint8"
    opened = open_engine(network, source.channels, info.model.multiple, eight_bit=eight_bit, **options)
    return kind(opened, info, direction, name=name, **kept)
