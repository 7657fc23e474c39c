"""Unpaired image-to-image translation: two folders of images in, two translators out (Zhu et al., ICCV 2017)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cyclegan._version import __version__

if TYPE_CHECKING:
    from cyclegan.config import DataConfig, ModelConfig, TrainConfig
    from cyclegan.errors import InputError
    from cyclegan.evaluation.scoring import evaluate
    from cyclegan.training.loop import train
    from cyclegan.translate.translator import Translator

__all__ = ["DataConfig", "InputError", "ModelConfig", "TrainConfig", "Translator", "__version__", "evaluate", "train"]

# Loaded at first use, so that `cyclegan --help` does not wait for torch.
_HOMES = {
    "DataConfig": "cyclegan.config",
    "InputError": "cyclegan.config",
    "ModelConfig": "cyclegan.config",
    "TrainConfig": "cyclegan.config",
    "Translator": "cyclegan.translate.translator",
    "evaluate": "cyclegan.evaluation.scoring",
    "train": "cyclegan.training.loop",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cyclegan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
