"""The settings of a run, from everything that can give them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig, make_config, read_config_file
from cyclegan.errors import InputError
from cyclegan.storage.run import read_run_config
from cyclegan.training.fine_tuning import settings_of_start


def resolve_settings(
    a: str | Path | TrainConfig | None,
    b: str | Path | None,
    *,
    preset: str | None,
    config_file: str | Path | None,
    fresh: bool,
    settings: Mapping[str, Any],
) -> TrainConfig:
    """The configuration for these arguments of `train`. Raises InputError for settings that cannot be used."""
    if isinstance(a, TrainConfig):
        if b is not None or preset or config_file or settings:
            raise InputError(
                "A TrainConfig is complete; change it with config.replace(...) instead of other arguments."
            )
        return a
    layers = [read_config_file(Path(config_file))] if config_file else []
    given = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
    layers.append({**given, **settings})
    start = next((layer["init_from"] for layer in reversed(layers) if layer.get("init_from")), None)
    default = TrainConfig.model_fields["out"].default
    out = Path(next((layer["out"] for layer in reversed(layers) if layer.get("out")), default))
    # The same command resumes a run even if a newer release has another default preset.
    before = None if fresh else read_run_config(out)
    if before is not None:
        layers.insert(0, {"preset": before.preset})
    if start is not None:
        layers.insert(0, settings_of_start(Path(start), out))
    return make_config(*layers, preset=preset)
