"""Configuration of a run: resolved from preset < file < command line, validated, frozen and changed by copy."""

from cyclegan.config.base import Config
from cyclegan.config.files import read_config_file, to_toml
from cyclegan.config.flags import flags_of
from cyclegan.config.model import MAX_CHANNELS, OLD_WORDS, ModelConfig, network_names
from cyclegan.config.presets import DEFAULT_PRESET, PRESETS
from cyclegan.config.reading import AXES, DEFAULT_AXIS, Axis, Reading
from cyclegan.config.resolve import (
    choices,
    field_sections,
    flat_values,
    make_config,
    resolved_values,
    resumed_config,
    saved_config,
)
from cyclegan.config.settings import (
    CHANGEABLE_ON_RESUME,
    DEFAULT_EPOCHS,
    LENGTHS,
    MAX_COUNT,
    MAX_SIDE,
    MIN_VALIDATION,
    DataConfig,
    Direction,
    FolderSettings,
    LossSettings,
    MachineSettings,
    OptimisationSettings,
    OutputSettings,
    Preprocess,
    StartSettings,
    TrainConfig,
    check_range,
)

__all__ = [
    "AXES",
    "CHANGEABLE_ON_RESUME",
    "DEFAULT_AXIS",
    "DEFAULT_EPOCHS",
    "DEFAULT_PRESET",
    "LENGTHS",
    "MAX_CHANNELS",
    "MAX_COUNT",
    "MAX_SIDE",
    "MIN_VALIDATION",
    "OLD_WORDS",
    "PRESETS",
    "Axis",
    "Config",
    "DataConfig",
    "Direction",
    "FolderSettings",
    "LossSettings",
    "MachineSettings",
    "ModelConfig",
    "OptimisationSettings",
    "OutputSettings",
    "Preprocess",
    "Reading",
    "StartSettings",
    "TrainConfig",
    "check_range",
    "choices",
    "field_sections",
    "flags_of",
    "flat_values",
    "make_config",
    "network_names",
    "read_config_file",
    "resolved_values",
    "resumed_config",
    "saved_config",
    "to_toml",
]
