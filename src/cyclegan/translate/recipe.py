"""How a translator is loaded in another process, on the device of that one."""

import platform
from dataclasses import dataclass
from typing import Self

from cyclegan.config import Direction, SelfEnsemble
from cyclegan.errors import InputError
from cyclegan.translate.translator import Translator


@dataclass(frozen=True)
class Recipe:
    """Arguments of `Translator.load`, but for the device, and the digest of the files of the model."""

    path: str
    digest: str
    direction: Direction
    weights: str | None = None
    engine: str = "auto"
    precision: str | None = None
    self_ensemble: SelfEnsemble = "none"

    @classmethod
    def of(cls, translator: Translator, path: str, *, engine: str = "auto", precision: str | None = None) -> Self:
        """The recipe of a translator that was loaded from `path`. Raises InputError if its files are gone already."""
        origin = translator.origin
        digest = origin.digest() if origin is not None else None
        if origin is None or digest is None:
            raise InputError(f"{path} has just been replaced or removed; run the same command again.")
        return cls(path, digest, translator.direction, origin.weights, engine, precision, translator.self_ensemble)

    def load(self, device: str) -> Translator:
        """Raises InputError if the model is missing, or another one."""
        translator = Translator.load(
            self.path,
            direction=self.direction,
            device=device,
            weights=self.weights,
            engine=self.engine,
            precision=self.precision,
            self_ensemble=self.self_ensemble,
        )
        if translator.origin is None or translator.origin.digest() != self.digest:
            raise InputError(f"{self.path} on {platform.node()} holds another model than where the command runs.")
        return translator
