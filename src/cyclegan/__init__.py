"""Unpaired image-to-image translation: two folders of images in, two translators out (Zhu et al., ICCV 2017)."""

from typing import TYPE_CHECKING

from cyclegan._lazy import lazy_exports
from cyclegan._version import __version__
from cyclegan.errors import (
    ArchiveError,
    CycleganError,
    DownloadError,
    InputError,
    TrainingError,
    UnreadableError,
)

if TYPE_CHECKING:
    from cyclegan.config import DataConfig, ModelConfig, TrainConfig, make_config
    from cyclegan.evaluation.scoring import evaluate
    from cyclegan.export import export_model
    from cyclegan.inspection import inspect_folders
    from cyclegan.reference.importing import import_reference
    from cyclegan.training.loop import train
    from cyclegan.translate.folder import translate_folder
    from cyclegan.translate.translator import Translator

__all__ = [
    "ArchiveError",
    "CycleganError",
    "DataConfig",
    "DownloadError",
    "InputError",
    "ModelConfig",
    "TrainConfig",
    "TrainingError",
    "Translator",
    "UnreadableError",
    "__version__",
    "evaluate",
    "export_model",
    "import_reference",
    "inspect_folders",
    "make_config",
    "train",
    "translate_folder",
]

_HOMES = {
    "DataConfig": "cyclegan.config",
    "ModelConfig": "cyclegan.config",
    "TrainConfig": "cyclegan.config",
    "Translator": "cyclegan.translate.translator",
    "evaluate": "cyclegan.evaluation.scoring",
    "export_model": "cyclegan.export",
    "import_reference": "cyclegan.reference.importing",
    "inspect_folders": "cyclegan.inspection",
    "make_config": "cyclegan.config",
    "train": "cyclegan.training.loop",
    "translate_folder": "cyclegan.translate.folder",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
